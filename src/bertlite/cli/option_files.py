"""Files of options, in YAML or JSON."""

import json
from pathlib import Path
from typing import Any


def is_option_file(word: str) -> bool:
    """Whether a word of the command line names a file of options."""
    return word.endswith((".yaml", ".yml", ".json"))


def read_options(file: str) -> dict[str, Any]:
    """The options of a file, in the spelling with underscores.

    Raises:
        ValueError: no such file, or it holds no mapping of names.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"options must be in a YAML or JSON file, got {file}, which is none")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            found = json.loads(text)
        else:
            import yaml

            found = yaml.safe_load(text)
    except Exception as error:  # YAML's own kinds, and text that is not UTF-8
        raise ValueError(f"{file}: no valid YAML or JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file}: must hold names and values, got {type(found).__name__}")
    odd = [name for name in found if not isinstance(name, str)]
    if odd:
        raise ValueError(f"{file}: names must be text, got {odd[0]!r}")
    return {name.strip("-").replace("-", "_"): value for name, value in found.items()}
