"""Texts to rows of ids and back: needs numpy and tokenizers.

A text that is too long for one row becomes several rows, windows, that overlap.
"""

import argparse
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

FOLDER = Path(__file__).parent
SETTINGS = json.loads((FOLDER / "export.json").read_text(encoding="utf-8"))
CONFIG = json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))
LABELS = {int(number): label for number, label in CONFIG.get("id2label", {}).items()}
tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.no_truncation()


def count(text):
    """Tokens of a text, without special ones."""
    return len(tokenizer.encode(text, add_special_tokens=False))


def windows(text, pair=None, cut=0, free=0):
    """The rows of a text or pair, of which the text number `cut` is cut; `free` tokens stay so."""
    length = SETTINGS["max_length"] - free
    room = length - tokenizer.num_special_tokens_to_add(pair is not None)
    if pair is not None:
        room -= count((pair, text)[cut])
    if room < 1:
        raise ValueError(f"one text of the pair fills the {length} tokens of a row; shorten it")
    side = ("only_first", "only_second")[cut]
    stride = min(SETTINGS["doc_stride"], room // 2)
    tokenizer.enable_truncation(length, stride=stride, strategy=side)
    found = tokenizer.encode(text) if pair is None else tokenizer.encode(text, pair)
    tokenizer.no_truncation()
    return [found, *found.overflowing]


def own(row, number=0):
    """Where the tokens of text `number` stand in a row: the first place, and one past the last."""
    places = [place for place, each in enumerate(row.sequence_ids) if each == number]
    return (places[0], places[-1] + 1) if places else (0, 0)


def numbers(rows, number=0):
    """For each row the place and the number, in all of the text, of each of the text's tokens."""
    start, end = own(rows[0], number)
    step = end - start - min(SETTINGS["doc_stride"], (end - start) // 2)
    for index, row in enumerate(rows):
        start, end = own(row, number)
        yield [(place, index * step + place - start) for place in range(start, end)]


def characters(text, offsets, first, last):
    """Where tokens `first` to `last` stand in a text, without white space at either end.

    With combining marks, which tokenizers that strip accents leave out.
    """
    start, end = offsets[first][0], offsets[last][1]
    beyond = offsets[last + 1][0] if last + 1 in offsets else len(text)
    while start < end < beyond and unicodedata.combining(text[end]):
        end += 1
    found = text[start:end]
    return end - len(found.lstrip()), start + len(found.rstrip())


def batch(rows):
    """Rows to arrays (rows, length), padded on the right."""
    longest = max(len(row.ids) for row in rows)
    fill = {"input_ids": SETTINGS["pad_token_id"], "token_type_ids": SETTINGS["pad_token_type_id"]}
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {
        name: np.array(
            [
                getattr(row, columns[name]) + [fill.get(name, 0)] * (longest - len(row.ids))
                for row in rows
            ],
            dtype=np.int64,
        )
        for name in SETTINGS["inputs"]
    }


def run(compute, rows, per_token=False, size=32):
    """For each row the list of the graph's outputs, in batches of rows that are about as long."""
    results = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place].ids))
    for start in range(0, len(order), size):
        places = order[start : start + size]
        outputs = compute(batch([rows[place] for place in places]))
        for number, place in enumerate(places):
            kept = slice(len(rows[place].ids) if per_token else None)
            results[place] = [each[number][kept] for each in outputs]
    return results


def softmax(logits):
    """Of the last side."""
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def clean(text):
    """A text without the spaces before its marks, where the tokenizer's config asks for that."""
    for spaced in SETTINGS["decoding"]["cleaned"]:
        text = text.replace(spaced, spaced.strip() if spaced == " ' " else spaced[1:])
    return text


def main(function, options=()):
    """What `python run.py` does: a line of JSON for each text given, or line of the input.

    Of a blank one the line is null. `options` are names of further arguments of `function`, such as
    target_language, for --target_language or --target-language.
    """
    texts, given = sys.argv[1:], {}
    if options:
        parser = argparse.ArgumentParser(prog="run.py", description=function.__doc__)
        for name in options:
            parser.add_argument(f"--{name}", f"--{name.replace('_', '-')}", metavar="CODE")
        parser.add_argument("texts", nargs="*", help="none: a text a line on the input")
        given = vars(parser.parse_args())
        texts = given.pop("texts")
    texts = texts or [line.rstrip("\n") for line in sys.stdin]
    try:
        results = iter(function([text for text in texts if text.strip()], **given))
    except ValueError as error:
        sys.exit(f"run.py: error: {error}")
    for text in texts:
        print(json.dumps(next(results) if text.strip() else None, ensure_ascii=False))


def main_of_parts(function, expected, least):
    """As `main`, of texts of at least so many parts, which are the words of the command line, or
    stand between the tabs of a line of the input; `expected` says what they are.
    """
    words = sys.argv[1:]
    for parts in [words] if words else (line.rstrip("\n").split("\t") for line in sys.stdin):
        blank = not any(part.strip() for part in parts)
        if len(parts) < least and not blank:
            sys.exit(f"run.py: error: {expected} must be given, got {parts}")
        try:
            found = None if blank else function(*parts)
        except ValueError as error:
            sys.exit(f"run.py: error: {error}")
        print(json.dumps(found, ensure_ascii=False))
