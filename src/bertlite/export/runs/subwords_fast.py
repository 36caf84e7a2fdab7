"""Texts to the source's ids, and the target's ids to texts."""

from texts import SETTINGS, tokenizer


def ids_of(text):
    """Ids of a text, cut to what the model reads."""
    tokenizer.enable_truncation(SETTINGS["max_length"])
    ids = tokenizer.encode(SETTINGS["decoding"]["prefix"] + text).ids
    tokenizer.no_truncation()
    return ids


def text_of(ids):
    """The text that ids stand for, without special tokens."""
    return tokenizer.decode(ids, skip_special_tokens=True).strip()
