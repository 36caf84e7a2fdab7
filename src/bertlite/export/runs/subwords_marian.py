"""Texts to the source's ids, and the target's ids to texts, by Marian's two tables.

`tokenizer.json` cuts a text into pieces; `vocab.json` numbers them.
"""

import json

from texts import FOLDER, SETTINGS, tokenizer

RULES = SETTINGS["decoding"]
SOURCE = json.loads((FOLDER / "vocab.json").read_text(encoding="utf-8"))
TARGET = json.loads((FOLDER / RULES["target_vocab"]).read_text(encoding="utf-8"))
PIECES = {number: piece for piece, number in TARGET.items()}


def ids_of(text):
    """Ids of a text, cut to what the model reads; a code at its start, >>deu<< say, is a token."""
    text, code = RULES["prefix"] + text, []
    if text.startswith(">>") and "<<" in text:
        end = text.index("<<") + 2
        code, text = [text[:end]], text[end:]
    pieces = code + tokenizer.encode(text, add_special_tokens=False).tokens
    ids = [SOURCE.get(piece, SOURCE[RULES["unknown"]]) for piece in pieces]
    return ids[: SETTINGS["max_length"] - 1] + [SOURCE[RULES["end"]]]


def text_of(ids):
    """The text that ids stand for, without special tokens."""
    pieces = [PIECES[number] for number in ids if PIECES.get(number) not in RULES["special"]]
    return "".join(pieces).replace("\u2581", " ").strip()
