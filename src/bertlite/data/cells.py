"""Cells of a table that hold a list or an object in writing."""

import ast
import json
import re
from typing import Any

from .problems import BadRow, shown

OPENED = ("[", "(", "{")
# As numpy prints its arrays: parts with spaces, not commas, between them.
NUMBERS = re.compile(r"\[\s*[-+\d.eE]+(\s+[-+\d.eE]+)*\s*\]")
TEXT = r"""(?:'[^']*'|"[^"]*")"""
ARRAY = re.compile(r"\barray\((\[.*?\])(?:,\s*dtype=[^()]*)?\)", re.DOTALL)
SCALAR = re.compile(r"\bnp\.\w+\(([^()]*)\)")
TRUTH = re.compile(r"\bnp\.(True|False)_")
TEXTS = re.compile(rf"\[\s*{TEXT}(\s+{TEXT})+\s*\]")


def parse_cell(text: str, role: str) -> Any:
    """What is written in a cell: as JSON, as Python's `repr`, or as numpy prints an array.

    Raises:
        BadRow: it is none of these.

    >>> parse_cell("['x', 'y']", "label"), parse_cell("[0 1]", "label")
    (['x', 'y'], [0.0, 1.0])
    """
    text = text.strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error
    if NUMBERS.fullmatch(text):
        return [float(part) for part in text[1:-1].split()]
    if TEXTS.fullmatch(text):  # Python would join them
        return [part[1:-1] for part in re.findall(TEXT, text)]
    for written in (text, without_numpy(text)):
        try:
            value = ast.literal_eval(written)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return sorted(value, key=str) if isinstance(value, set | frozenset) else value
    raise BadRow("broken JSON", f"{role} is {shown(text)}: {reason}") from reason


def without_numpy(text: str) -> str:
    """What Python can read of a `repr` with numpy's arrays and numbers in it.

    >>> without_numpy("{'text': array(['x'], dtype=object), 'at': [np.int64(3)]}")
    "{'text': ['x'], 'at': [3]}"
    """
    text = SCALAR.sub(r"\1", TRUTH.sub(r"\1", text))
    return ARRAY.sub(r"\1", text)


def written_list(text: str) -> list[Any] | None:
    """The list that is written in a cell; None where it holds something else."""
    text = text.strip()
    if not text.startswith(OPENED) or text[-1] not in "])}":
        return None
    try:
        value = parse_cell(text, "")
    except BadRow:
        return None
    return list(value) if isinstance(value, list | tuple) else None
