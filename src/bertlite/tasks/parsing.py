"""The command line of the tasks: options by `HfArgumentParser`, from words and from files."""

import argparse
import json
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser


def make_parser(prog: str, description: str, kinds: list[Any]) -> HfArgumentParser:
    """A parser of the fields of dataclasses that keeps apart what was given from what was not."""
    return HfArgumentParser(
        kinds, prog=prog, description=description, allow_abbrev=False, add_help=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )  # fmt: skip


def parse_given(parser: HfArgumentParser, argv: list[str], file: str | None = None) -> dict[str, Any]:
    """The options of a file and of the command line, which comes first; nothing that neither of them gives.

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
