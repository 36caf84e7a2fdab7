"""`docs/troubleshooting.md` quotes messages that bertlite really gives, and options that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
# Neighbouring pieces of a string are one text, whatever the formatter has done to them.
SOURCES = re.sub(
    r'["\']\s*\n\s*f?["\']',
    "",
    "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")),
)
HEADINGS = re.findall(r"^\*\*(`.*)\*\*$", PAGE, re.MULTILINE)
QUOTED = [quoted for heading in HEADINGS for quoted in re.findall(r"`([^`]+)`", heading)]
# Pieces of a message between what is filled in: numbers, names and ellipses.
PIECES = [
    piece.strip(" :")
    for quoted in QUOTED
    for piece in re.split(r"…|\b512\b|\binput_ids\b", quoted)
    if len(piece.strip(" :")) > 8
]


def test_many_messages_are_quoted():
    assert len(PIECES) >= 20


@pytest.mark.parametrize("piece", PIECES)
def test_a_quoted_message_is_one_that_is_given(piece):
    assert piece in SOURCES


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--(\w+)", PAGE))))
def test_an_option_exists(option):
    assert re.search(rf"\b{option}\b", SOURCES)
