"""The parser of a command whose options are written out beside it."""

import argparse
from typing import Any, NoReturn

from .spelling import with_dashes


class CommandParser(argparse.ArgumentParser):
    """A parser that takes both spellings of options, and raises what it refuses.

    `bertlite` then says it in one line, without a page of options before it. The lines of the
    description and of the epilog stay as they are.
    """

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def read(self, argv: list[str]) -> argparse.Namespace:
        """The options of a command line; a ValueError for what is none."""
        return self.parse_args(with_dashes(argv))

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError with the message."""
        raise ValueError(message)
