"""Translate or summarise: `python run.py TEXT ...`, or a text a line on the input."""

import json

from engine import translator
from subwords import ids_of, text_of
from texts import FOLDER, SETTINGS, main

RULES = SETTINGS["decoding"]
TOKENS = json.loads((FOLDER / "tokens.json").read_text(encoding="utf-8"))
NUMBERS = {token: number for number, token in enumerate(TOKENS)}
engine = translator()


def translate(texts):
    """A text for each text, line by line, by CTranslate2's own search.

    It ends sooner than that of transformers: with several beams some texts differ from those of
    `bertlite.translate`; with one, none does.
    """
    return [
        "\n".join(write(line) if line.strip() else line for line in lines(text)) for text in texts
    ]


def lines(text):
    """The lines of a text that are written by themselves."""
    return text.strip().split("\n") if RULES["by_line"] else [text]


def write(text):
    """What the decoder writes for one line."""
    ids, limit = ids_of(text), RULES["max_new_tokens"]
    longest = min(len(ids) + RULES["beyond_source"] if limit is None else limit, RULES["highest"])
    (found,) = engine.translate_batch(
        [[TOKENS[number] for number in ids]],
        beam_size=RULES["num_beams"],
        length_penalty=RULES["length_penalty"],
        max_decoding_length=longest,
        suppress_sequences=[[TOKENS[number]] for number in RULES["banned"]] or None,
    )
    return text_of([NUMBERS[token] for token in found.hypotheses[0]])


if __name__ == "__main__":
    main(translate)
