"""Texts to the source's ids, and the target's ids to texts, by tables of pieces.

`tokenizer.json` cuts a text into pieces; `vocab.json` numbers them.
"""

import json

from texts import FOLDER, SETTINGS, clean, tokenizer

RULES = SETTINGS["decoding"]
SOURCE = json.loads((FOLDER / "vocab.json").read_text(encoding="utf-8"))
TARGET = json.loads((FOLDER / RULES["target_vocab"]).read_text(encoding="utf-8"))
PIECES = {number: piece for piece, number in TARGET.items()}


def ids_of(text, language):
    """Ids of a text in this language, cut to what the model reads.

    A code at the start of a text, >>deu<< say, is a token of Marian's models.
    """
    before, behind = RULES["rows"][language]
    text, code = RULES["prefix"] + text, []
    if RULES["reads_codes"] and text.startswith(">>") and "<<" in text:
        end = text.index("<<") + 2
        code, text = [text[:end]], text[end:]
    pieces = code + tokenizer.encode(text, add_special_tokens=False).tokens
    ids = [SOURCE.get(piece, SOURCE[RULES["unknown"]]) for piece in pieces]
    return [*before, *ids[: SETTINGS["max_length"] - len(before) - len(behind)], *behind]


def text_of(ids):
    """The text that ids stand for, without special tokens."""
    pieces = [PIECES.get(number, "") for number in ids if number not in RULES["special"]]
    return clean("".join(pieces).replace("\u2581", " ").strip())
