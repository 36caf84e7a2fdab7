"""Translate or summarise: `python run.py TEXT ...`, or a text a line on the input."""

import json

from engine import translator
from subwords import text_of
from texts import FOLDER, SETTINGS, main
from writing import Direction, by_lines, longest

RULES = SETTINGS["decoding"]
TOKENS = json.loads((FOLDER / "tokens.json").read_text(encoding="utf-8"))
NUMBERS = {token: number for number, token in enumerate(TOKENS)}
engine = translator()


def translate(texts, source_language=None, target_language=None):
    """A text for each text, line by line, by CTranslate2's own search.

    It ends sooner than that of transformers: with several beams some texts differ from those of
    `bertlite.translate`; with one, none does. The languages by the codes of models that write
    several; None: as the folder was exported.
    """
    direction = Direction(source_language, target_language)
    return ["".join(by_lines(text, lambda line: write(line, direction))) for text in texts]


def write(text, direction):
    """What the decoder writes for one line."""
    row = direction.row(text)
    begins = [direction.start] if RULES["starts_with_language"] else []
    begins += [] if direction.first is None else [direction.first]
    limit = longest(row)
    if RULES["forced_eos_token_id"] is not None and limit == (RULES["forced_at"] or limit):
        limit -= 1  # its search does not force the end, which would be the last token
    (found,) = engine.translate_batch(
        [[TOKENS[number] for number in row]],
        target_prefix=[[TOKENS[number] for number in begins]] if begins else None,
        beam_size=RULES["num_beams"],
        length_penalty=RULES["length_penalty"],
        max_decoding_length=limit,
        min_decoding_length=min(RULES["least"], limit),
        repetition_penalty=RULES["repetition_penalty"],
        no_repeat_ngram_size=RULES["no_repeat_ngram_size"],
        max_input_length=0,  # rows are as long as the model reads
        end_token=[TOKENS[number] for number in RULES["eos_token_ids"]],
        suppress_sequences=[[TOKENS[number]] for number in RULES["banned"]] or None,
    )
    return text_of([NUMBERS[token] for token in found.hypotheses[0]])


if __name__ == "__main__":
    main(translate, ("source_language", "target_language"))
