"""The command line of the tasks: options by `HfArgumentParser`, from words and from files."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn

from transformers import HfArgumentParser

from .option_files import is_option_file, read_options
from .option_names import similar
from .spelling import with_dashes

__all__ = ["OptionParser", "is_option_file", "make_parser", "parse_given", "read_options"]


MAPPINGS = ("columns", "config_overrides")


class OptionParser(HfArgumentParser):
    """A parser of the fields of dataclasses that raises what it refuses, instead of printing a page
    of options.
    """

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError with a line for the user.

        Of an unknown option, with those whose names are like it.
        """
        hint = ""
        if message.startswith("unrecognized"):
            options = [name for action in self._actions for name in action.option_strings[:1]]
            hint = similar(message.split(), options)
        raise ValueError(f"{message}{hint}")


class DefaultsInHelp(argparse.HelpFormatter):
    """Adds the default to the help of an option that has one and does not speak of it itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        silent = action.default in (None, argparse.SUPPRESS, []) or not action.option_strings
        if not text or silent or "default:" in text.lower() or "%(default)" in text:
            return text
        return f"{text} (default: %(default)s)"


def make_parser(
    prog: str, description: str, kinds: list[Any], defaults: Mapping[str, Any] | None = None
) -> OptionParser:
    """A parser of one command's options.

    Args:
        defaults: those that are used where they are not the dataclasses' own, for the help.
    """
    parser = OptionParser(
        kinds,
        prog=prog,
        usage="%(prog)s [options]",
        description=description,
        allow_abbrev=False,
        add_help=False,
        formatter_class=DefaultsInHelp,
    )
    for action in parser._actions:
        action.default = (defaults or {}).get(action.dest, action.default)
    return parser


def parse_given(
    parser: HfArgumentParser, argv: list[str], file: str | None = None
) -> dict[str, Any]:
    """The options of a file and of the command line, which comes first.

    Nothing that neither of them gives.

    Raises:
        ValueError: a file that cannot be read, or an option that is none.
    """
    actions: dict[str, argparse.Action] = {}
    for action in parser._actions:
        if action.dest != "help":
            action.default, action.required = argparse.SUPPRESS, False
            actions.setdefault(action.dest, action)  # not --no_x, which comes behind --x
    from_file = {} if file is None else read_options(file)
    unknown = sorted(set(from_file) - set(actions))
    if unknown:
        hint = similar([f"--{name}" for name in unknown], [f"--{name}" for name in actions])
        raise ValueError(
            f"{file}: options must be those of --help-all, got {', '.join(unknown)}{hint}"
        )
    # YAML reads 1e-4 as text: it is converted as the command line's words are.
    converted = {name: convert(parser, actions[name], value) for name, value in from_file.items()}
    given = vars(parser.parse_args(with_dashes(argv), argparse.Namespace()))
    return {**converted, **given}


def convert(parser: Any, action: argparse.Action, value: Any) -> Any:
    """A value of a file as the command line would give it.

    Raises:
        ValueError: a value of another kind than the option takes.
    """
    if value is None or isinstance(value, dict) and takes_mapping(parser, action.dest):
        return value
    if action.nargs in ("+", "*"):
        values = value if isinstance(value, list) else [value]
        return [convert_one(parser, action, each) for each in values]
    return convert_one(parser, action, value)


def convert_one(parser: Any, action: argparse.Action, value: Any) -> Any:
    """A single value; errors as of `convert`."""
    if isinstance(value, str) and action.type is not None:
        try:
            value = parser._get_value(action, value)
        except argparse.ArgumentError as error:
            raise ValueError(str(error).removeprefix("argument ")) from error
    wanted = {int: int, float: (int, float), str: str}.get(action.type)  # type: ignore[call-overload]
    right = wanted is None or isinstance(value, wanted) and not isinstance(value, bool)
    if (
        isinstance(value, list | dict)
        or not right
        or (is_flag(action) and value not in (True, False))
    ):
        kind = "true or false" if is_flag(action) else getattr(action.type, "__name__", "one value")
        raise ValueError(f"{action.dest} must be {kind}, got {value!r}")
    if action.choices is not None and value not in action.choices:
        raise ValueError(f"{action.dest} must be one of {list(action.choices)}, got {value!r}")
    return value


def is_flag(action: argparse.Action) -> bool:
    """Whether an option is one of true and false."""
    return action.const is True or action.const is False


def takes_mapping(parser: Any, name: str) -> bool:
    """Whether an option of a file may hold names and values."""
    return any(name in mappings_of(kind) for kind in parser.dataclass_types)


def mappings_of(kind: Any) -> list[str]:
    """The fields of a dataclass of options that may be a dict: ours, and those of the library."""
    own = [each.name for each in dataclasses.fields(kind) if each.name in MAPPINGS]
    return [*own, *getattr(kind, "_VALID_DICT_FIELDS", ())]
