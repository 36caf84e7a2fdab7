"""The options of each command, known without importing what the command imports.

A typo is to be answered at once, and the library's classes alone take seconds to import. So the
names are read from the source: the fields of the dataclasses of options, transformers'
`TrainingArguments` among them, and the words with two dashes. The command's own parser decides
afterwards; what it would refuse is refused here in the same words.
"""

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .option_files import is_option_file, read_options
from .spelling import spelled

OPTIONS = "training/options.py", "tasks/base.py"
# Where the options of a command stand, in this package.
SOURCES: dict[str, tuple[str, ...]] = {
    "demo": ("cli/demo.py",),
    "finetune": (*OPTIONS, "cli/finetune.py"),
    "evaluate": (*OPTIONS, "cli/measure.py", "cli/evaluate.py"),
    "predict": ("tasks/base.py", "cli/measure.py", "cli/predict.py"),
    "check-labels": ("cli/check_labels.py",),
    "explain": ("cli/explain.py",),
    "prune": (*OPTIONS, "inspection/prune_options.py", "cli/measure.py", "cli/prune.py"),
    "tokenizer": ("cli/tokenizer.py",),
    "pretrain": ("cli/pretrain_options.py", "cli/tokenizer.py"),
    "encode": ("cli/encode.py",),
    "serve": ("cli/serve.py",),
    "check": ("cli/check.py",),
    "card": ("cli/card.py",),
    "push": ("cli/push.py",),
    "convert": ("cli/convert.py", "cli/tokenizer.py"),
    "export": ("cli/export.py",),
}
LIBRARY = {"finetune": ("training_args.py", "training_args_seq2seq.py")}  # and in transformers
HELP = ("help", "help_all")
NUMBERS = {"int": int, "float": float}
NAME = re.compile(r"--[a-z][\w-]*")


@dataclass(frozen=True)
class Option:
    """What is known of an option: its numbers' kind, where it takes one number."""

    name: str
    number: str | None = None


def check_words(command: str, words: list[str]) -> None:
    """Look at the options of a command line before anything is imported for it.

    Raises:
        ValueError: an option that is none, with those that are like it; a number that is none; of
            `finetune`, a task that is none.
    """
    known = {spelled(each.name): each for each in known_options(command)}
    if command == "finetune":
        check_task(words)
        check_file(words, known)
    words = words[: words.index("--")] if "--" in words else words
    unknown: list[str] = []
    for place, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        following = words[place + 1 : place + 2]
        if spelled(name) in known:
            check_number(known[spelled(name)], [value] if equals else following)
        elif spelled(name) not in HELP:
            unknown += [word, *(each for each in following if not each.startswith("--"))]
    if unknown and known:
        hint = similar(unknown, [f"--{each.name}" for each in known.values()])
        raise ValueError(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def check_file(words: list[str], known: dict[str, Option]) -> None:
    """Refuse, with a ValueError, names of a file of options that are none."""
    file = option_file_of(words)
    if file is None or not known:
        return
    odd = [f"--{name}" for name in read_options(file) if name not in known]
    if odd:
        hint = similar(odd, [f"--{each.name}" for each in known.values()])
        names = ", ".join(name.removeprefix("--") for name in odd)
        raise ValueError(f"{file}: options must be those of --help-all, got {names}{hint}")


def check_task(words: list[str]) -> None:
    """Refuse, with a ValueError, a first word of `bertlite finetune` that is no task."""
    tasks = known_tasks()
    word = words[0] if words else "-"
    if tasks and word not in tasks and not word.startswith("-") and not is_option_file(word):
        near = difflib.get_close_matches(word, tasks, 1)
        hint = f"; is {near[0]} meant?" if near else ""
        raise ValueError(f"task must be one of {', '.join(tasks)}, got {word!r}{hint}")


def known_tasks() -> list[str]:
    """The names of the tasks, as their rows have them."""
    names = []
    for file in sorted(Path(__file__).parent.parent.joinpath("tasks").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names += [
                    str(each.value.value)
                    for each in node.body
                    if isinstance(each, ast.Assign)
                    and isinstance(each.value, ast.Constant)
                    and isinstance(each.targets[0], ast.Name)
                    and each.targets[0].id == "task"
                ]
    return names


def option_file_of(words: list[str]) -> str | None:
    """The file of options of `bertlite finetune`; a record of a run, which holds more, is none."""
    if len(words) > 1 and is_option_file(words[1]) and not is_option_file(words[0]):
        return words[1]
    return None


def check_number(option: Option, value: list[str]) -> None:
    """Refuse, with a ValueError in argparse's words, what is no number where one is taken."""
    if option.number is None:
        return
    dashed = option.name.replace("_", "-")
    shown = f"--{option.name}" + (f"/--{dashed}" if dashed != option.name else "")
    if not value:
        raise ValueError(f"argument {shown}: expected one argument")
    try:
        NUMBERS[option.number](value[0])
    except ValueError:
        said = f"invalid {option.number} value: {value[0]!r}"
        raise ValueError(f"argument {shown}: {said}") from None


def similar(words: list[str], options: list[str]) -> str:
    """A question that names options like the words of a command line; "" where there are none."""
    near: list[str] = []
    for word in words:
        if not word.startswith("--"):
            continue
        name = spelled(word.split("=")[0]).strip("_")
        near += [
            option
            for option in options
            if name in spelled(option) or spelled(option).strip("_") in name
        ]
        near += difflib.get_close_matches(word.split("=")[0], options, 2)
    return f"; is {' or '.join(dict.fromkeys(near[:4]))} meant?" if near else ""


def known_options(command: str) -> list[Option]:
    """The options of a command; none where they cannot be read."""
    found: dict[str, Option] = {}
    for file in source_files(command):
        if not file.is_file():
            return []
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for option in options_of(node):
                if option.number is not None or option.name not in found:
                    found[option.name] = option
    return list(found.values())


def options_of(node: ast.AST) -> Iterator[Option]:
    """The options that a part of the source makes."""
    if isinstance(node, ast.ClassDef) and node.name.endswith(("Options", "Arguments")):
        yield from fields_of(node)
    elif isinstance(node, ast.Call):
        yield from added_by(node)
    else:
        yield from written(node)


def source_files(command: str) -> Iterator[Path]:
    """The files in which the options of a command stand."""
    package = Path(__file__).parent.parent
    yield from (package / name for name in SOURCES[command])
    if command in LIBRARY:
        library = importlib.util.find_spec("transformers")  # which imports nothing
        if library is not None and library.origin is not None:
            yield from (Path(library.origin).parent / name for name in LIBRARY[command])


def fields_of(node: ast.ClassDef) -> Iterator[Option]:
    """The options that the fields of a dataclass become."""
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            kinds = {part.strip() for part in ast.unparse(each.annotation).split("|")} - {"None"}
            kind = kinds.pop() if len(kinds) == 1 else ""
            yield Option(each.target.id, kind if kind in NUMBERS else None)
            if kind == "bool":
                yield Option(f"no_{each.target.id}")


def added_by(node: ast.Call) -> Iterator[Option]:
    """The options with one number that a call adds to a parser."""
    given = {each.arg: each.value for each in node.keywords}
    kind = getattr(given.get("type"), "id", None)
    if kind in NUMBERS and "nargs" not in given:
        yield from (Option(each.name, kind) for word in node.args for each in written(word))


def written(node: ast.AST) -> Iterator[Option]:
    """The option that a constant of the source names."""
    word = node.value if isinstance(node, ast.Constant) else None
    if isinstance(word, str) and NAME.fullmatch(word):
        yield Option(word[2:])
