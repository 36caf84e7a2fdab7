"""What of a text is written at a time, from which language, and into which."""

import re

from subwords import ids_of
from texts import SETTINGS

RULES = SETTINGS["decoding"]
ENDS = re.compile(r"(\s*[\n\r\u2028\u2029]\s*)")  # of lines, and white space around them


def by_lines(text, write):
    """What `write` makes of each line of a text, where lines are written by themselves, with what
    stands between them.
    """
    pieces = ENDS.split(text.strip()) if RULES["by_line"] else [text]
    for place, piece in enumerate(pieces):
        yield write(piece) if place % 2 == 0 and piece.strip() else piece


def among(codes):
    """What may be given, in words."""
    return f"one of the {len(codes)} codes {', '.join(codes)}" if codes else "left out"


class Direction:
    """From one language into another, by their codes; None: as the folder was exported.

    Attributes:
        start: the id that the target begins with, which is not written.
        first: the id that must be written first, or None.
    """

    def __init__(self, source_language=None, target_language=None):
        known = RULES["languages"]
        for name, code in (("source", source_language), ("target", target_language)):
            if code is not None and code not in known:
                raise ValueError(f"{name}_language must be {among(known)}, got {code!r}")
        self.source = source_language or RULES["source_language"]
        self.start, self.first = RULES["start"], RULES["forced_bos_token_id"]
        if target_language is not None:
            self.set_target(known[target_language])
        elif known and RULES["by_line"] and not {self.start, self.first} & {*known.values()}:
            raise ValueError(f"target_language must be given, {among(known)}")

    def set_target(self, language):
        """The target's language stands where the model was taught to see it."""
        if RULES["starts_with_language"]:
            self.start = language
        else:
            self.first = language

    def row(self, text):
        """The ids of a source."""
        return ids_of(text, self.source)


def longest(row):
    """Tokens that may be written for the ids of a source."""
    limit = RULES["max_new_tokens"]
    return min(len(row) + RULES["beyond_source"] if limit is None else limit, RULES["highest"])
