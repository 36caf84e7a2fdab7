"""Synopses of Debian packages with their sections: a many-class data set that anyone can make.

On a machine with Debian's package lists, `apt-cache dumpavail` prints every package's section and
one-line description (mixed free licences). A section says what a package is for (games, fonts,
mail ...) or what it is written in (perl, rust, haskell ...), given by people; some are wrong, which
nobody counted.
"""

import random
import subprocess
from pathlib import Path

SECTIONS = (
    "fonts",
    "games",
    "gnu-r",
    "golang",
    "graphics",
    "haskell",
    "java",
    "javascript",
    "kernel",
    "lisp",
    "mail",
    "math",
    "ocaml",
    "perl",
    "php",
    "python",
    "ruby",
    "rust",
    "sound",
    "tex",
)


def read_sections(
    rows_each: int, sections: tuple[str, ...] = SECTIONS, *, file: str | None = None, seed: int = 0
) -> list[dict[str, str]]:
    """Rows of `text` and `label`, up to so many of each section, one a source package.

    Args:
        rows_each: of each section.
        sections: which.
        file: what `apt-cache dumpavail` printed; None: it is called.
        seed: draws the rows.
    """
    if file is None:
        call = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True)
        dump = call.stdout.decode("utf-8", "replace")
    else:
        dump = Path(file).read_text(encoding="utf-8", errors="replace")
    found: dict[str, dict[str, str]] = {section: {} for section in sections}
    seen: set[str] = set()
    for stanza in dump.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in stanza.splitlines())
        section, text = fields.get("Section", ""), fields.get("Description", "")
        source = fields.get("Source", fields.get("Package", "")).split(" ")[0]
        if section in found and len(text) > 20 and text.lower() not in seen:
            seen.add(text.lower())
            found[section].setdefault(source, text)
    rows = [
        {"text": text, "label": section}
        for section, texts in found.items()
        for text in random.Random(seed).sample(sorted(texts.values()), min(rows_each, len(texts)))
    ]
    random.Random(seed).shuffle(rows)
    return rows
