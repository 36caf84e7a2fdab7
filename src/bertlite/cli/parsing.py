"""The command line of the tasks: options by `HfArgumentParser`, from words and from files."""

import argparse
import difflib
import json
from pathlib import Path
from typing import Any, NoReturn

from transformers import HfArgumentParser


class OptionParser(HfArgumentParser):
    """A parser of the fields of dataclasses that raises what it refuses, instead of printing a page
    of options.
    """

    def error(self, message: str) -> NoReturn:
        """Raise a ValueError with a line for the user.

        Of an unknown option, with those whose names are like it.
        """
        words = [word.split("=")[0] for word in message.split() if word.startswith("--")]
        near: list[str] = []
        if message.startswith("unrecognized"):
            options = [name for action in self._actions for name in action.option_strings[:1]]
            for word in words:
                name = word.replace("-", "_").strip("_")
                near += [
                    option for option in options if name in option or option.strip("-") in name
                ]
                near += difflib.get_close_matches(word, options, 2)
        hint = f"; is {' or '.join(dict.fromkeys(near[:4]))} meant?" if near else ""
        raise ValueError(f"{message}{hint}")


def make_parser(prog: str, description: str, kinds: list[Any]) -> OptionParser:
    """A parser of one command's options."""
    return OptionParser(
        kinds,
        prog=prog,
        usage="%(prog)s [options]",
        description=description,
        allow_abbrev=False,
        add_help=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def parse_given(
    parser: HfArgumentParser, argv: list[str], file: str | None = None
) -> dict[str, Any]:
    """The options of a file and of the command line, which comes first.

    Nothing that neither of them gives.

    Raises:
        ValueError: a file that cannot be read, or an option that is none.
    """
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    for action in actions.values():
        action.default, action.required = argparse.SUPPRESS, False
    from_file = {} if file is None else read_options(file)
    unknown = sorted(set(from_file) - set(actions))
    if unknown:
        raise ValueError(f"{file}: options must be those of --help-all, got {', '.join(unknown)}")
    # YAML reads 1e-4 as text: it is converted as the command line's words are.
    converted = {name: convert(parser, actions[name], value) for name, value in from_file.items()}
    given = vars(parser.parse_args(argv, argparse.Namespace()))
    return {**converted, **given}


def convert(parser: Any, action: argparse.Action, value: Any) -> Any:
    """A value of a file as the command line would give it."""
    if isinstance(value, str) and action.type is not None:
        value = parser._get_value(action, value)
    if action.choices is not None and value is not None and value not in action.choices:
        raise ValueError(f"{action.dest} must be one of {list(action.choices)}, got {value!r}")
    return value


def read_options(file: str) -> dict[str, Any]:
    """A YAML or JSON file of options.

    Raises:
        ValueError: no such file, or it holds no mapping.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"options must be in a YAML or JSON file, got {file}, which is none")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".json":
            found = json.loads(text)
        else:
            import yaml

            found = yaml.safe_load(text)
    except Exception as error:
        raise ValueError(f"{file}: no valid YAML or JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file}: must hold names and values, got {type(found).__name__}")
    return found


def is_option_file(word: str) -> bool:
    """Whether a word of the command line names a file of options."""
    return word.endswith((".yaml", ".yml", ".json"))
