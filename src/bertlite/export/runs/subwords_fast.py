"""Texts to the source's ids, and the target's ids to texts."""

from texts import SETTINGS, clean, tokenizer

RULES = SETTINGS["decoding"]


def ids_of(text, language):
    """Ids of a text in this language, cut to what the model reads."""
    before, behind = RULES["rows"][language]
    tokenizer.enable_truncation(SETTINGS["max_length"] - len(before) - len(behind))
    ids = tokenizer.encode(RULES["prefix"] + text, add_special_tokens=False).ids
    tokenizer.no_truncation()
    return [*before, *ids, *behind]


def text_of(ids):
    """The text that ids stand for, without special tokens."""
    return clean(tokenizer.decode(ids, skip_special_tokens=True)).strip()
