"""Is a card fit to be published? Every section is there, says something, and holds no blank."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

SECTIONS = ("Use", "Figures", "Data", "Recipe", "Limits", "Licences")
# The front matter without which the hub can neither find a model nor say who may use it.
FIELDS = {
    "license": "bertlite card FOLDER --license apache-2.0",
    "language": "bertlite card FOLDER --language en",
    "library_name": "bertlite card FOLDER",
    "pipeline_tag": "bertlite card FOLDER",
}
BLANKS = re.compile(
    r"to be added|\bTODO\b|\bTBD\b|\[more information needed\]|lorem ipsum|<your[^>]*>",
    re.IGNORECASE,
)
UNMEASURED = "None was measured"


def card_problems(folder: str | os.PathLike) -> list[str]:
    """What is missing in the card of a folder, or is a blank, a line each.

    Args:
        folder: where a model is saved, with its card as `README.md`.

    Returns:
        The problems; nothing of a card that may be published.
    """
    path = Path(folder) / "README.md"
    if not path.is_file():
        return [f"{path.name}: there is none, bertlite card FOLDER makes it"]
    text = path.read_text(encoding="utf-8")
    fields, body = split(text)
    if fields is None:
        return [f"{path.name}: begins with no metadata between two lines of ---"]
    problems = [
        f"{path.name}: {name} is missing in the metadata: {remedy}"
        for name, remedy in FIELDS.items()
        if is_blank(fields.get(name))
    ]
    found = sections_of(body)
    for name in SECTIONS:
        if not found.get(name, "").strip():
            problems.append(f"{path.name}: section {name} is missing or empty")
    problems += [f"{path.name}: {line}" for line in blanks_in(body)]
    if not has_results(fields) and UNMEASURED not in body:
        problems.append(
            f"{path.name}: model-index in the metadata holds no result, and the card does not say "
            f"'{UNMEASURED}'"
        )
    return problems


def split(text: str) -> tuple[dict[str, Any] | None, str]:
    """The metadata and the text of a card; None where there is no metadata that can be read."""
    match = re.match(r"---\n(.*?)\n---\n(.*)", text, flags=re.DOTALL)
    if match is None:
        return None, text
    try:
        fields = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return None, match[2]
    return (fields if isinstance(fields, dict) else None), match[2]


def sections_of(body: str) -> dict[str, str]:
    """The text of each section of the second level, by its name."""
    parts = re.split(r"^## +(.+?)\s*$", body, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def is_blank(value: Any) -> bool:
    """Whether a field says nothing."""
    words = " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return not words.strip() or words.strip().lower() in ("none", "unknown", "task")


def blanks_in(body: str) -> list[str]:
    """The places where somebody was to write something, with the line."""
    return [
        f"line {number} of the text is a blank to fill in: {line.strip()[:80]}"
        for number, line in enumerate(body.splitlines(), start=1)
        if BLANKS.search(line)
    ]


def has_results(fields: dict[str, Any]) -> bool:
    """Whether `model-index` holds a measured value."""
    index = fields.get("model-index") or []
    return any(
        metric.get("value") is not None
        for model in index
        for result in model.get("results") or ()
        for metric in result.get("metrics") or ()
    )
