"""The command `bertlite predict`."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..data.places import check_output_file
from ..data.problems import ON_BAD_ROW
from ..inference.loading import SEQ2SEQ
from ..tasks.base import Row, TaskOptions
from ..tasks.registry import task_named
from ..training.evaluation import infer_task, predict
from ..training.options import DataOptions
from .measure import command_parser, kind_of_folder
from .parsing import OptionParser, parse_given
from .prediction_input import InputRow, PredictionInput, open_input
from .shards import Shards, Share, described, described_model
from .tables import as_json, write_rows

EPILOG = """examples:
  bertlite predict out/sentiment --text "A dull, lifeless film." "A joy to watch."
  bertlite predict out/sentiment reviews.csv --output answers.csv --probabilities
  bertlite predict out/ner texts.txt --output entities.jsonl
  bertlite predict out/qa --question "Who wrote it?" --text "It was written by Ada."
  bertlite predict out/en-de news.en --output news.de
  bertlite predict out/en-de rows.jsonl --columns source=en
  torchrun --nproc-per-node 2 -m bertlite.cli.main predict out/sentiment big.csv --output_dir out/a
  cat texts.txt | bertlite predict out/sentiment -

Each row of a file comes with its own columns; a column that has the name of an answer is called
input_NAME. Files that are no tables, such as .txt and .en, hold a text a line; an empty line has an
empty answer. --output: .csv, .tsv, .json, .jsonl; of translations and summaries, any other ending
is a text a line. Scores are given, and start and end of what was found.
"""
WORDS = ("text", "text_pair", "question", "choices")  # rows on the command line
SHARD_ROWS = 10_000
EVERY = 10**9  # labels, of `top_k`
HOW = ("device", "prediction_batch_size")  # options that change no answer


def main(argv: list[str]) -> int:
    """Run `bertlite predict`."""
    given = parse_given(make_parser(), argv)
    names = ("output", "model", "file", "on_bad_row", "encoding", "probabilities", "keep")
    output, model, file, on_bad_row, encoding, every, keep = (
        given.pop(name, None) for name in names
    )
    folder, size = given.pop("output_dir", None), given.pop("shard_rows", SHARD_ROWS)
    check_shards(folder, size, output, file)
    if model is None:
        raise ValueError("model must be given: bertlite predict MODEL FILE")
    check_output_file("--output", output)
    words = {name: given.pop(name) for name in WORDS if name in given}
    columns = DataOptions(columns=given.pop("columns", [])).column_map() or {}
    check_sources(
        file,
        words,
        {"--columns": columns, "--on_bad_row": on_bad_row, "--keep": keep, "--encoding": encoding},
    )
    task = given.pop("task", None) or infer_task(model)
    if every:
        check_scored(task, model)
        given.setdefault("top_k", EVERY)
    if file is None:
        found = predict(model, rows_of_words(task, words), task=task, **given)
        write_rows(output, found, text_column=text_column(task))
        return 0
    rows = open_input(task, file, columns, model, on_bad_row or "stop", encoding)
    check_kept(rows, keep)
    if folder is not None:
        plan = {"task": task, "columns": columns, "keep": keep, **given}
        plan |= {"on_bad_row": on_bad_row or "stop", "encoding": encoding}
        plan = {name: each for name, each in plan.items() if name not in HOW}
        plan |= {**described(file), **described_model(model)}
        write_shards(folder, size, rows, plan, keep, model=model, task=task, **given)
    else:
        answers = answered(rows, keep, model=model, task=task, **given)
        write_rows(output, answers, text_column=text_column(task))
    report(rows)
    return 0


def check_shards(folder: str | None, size: int, output: str | None, file: str | None) -> None:
    """Refuse, with a ValueError, shards beside a file, and several processes without shards."""
    processes = Share.of_launcher().count
    if folder is None and processes > 1:
        raise ValueError(f"--output_dir must be given for {processes} processes, got none")
    if folder is not None and (output is not None or file in (None, "-")):
        raise ValueError(
            "--output_dir must come with a file to read, and without --output, got "
            + ("--output" if output is not None else "no file")
        )
    if size < 1:
        raise ValueError(f"--shard_rows must be at least 1, got {size}")


def write_shards(
    folder: str,
    size: int,
    rows: PredictionInput,
    plan: dict[str, Any],
    keep: list[str] | None,
    **options: Any,
) -> None:
    """Write the answers of this process' share of the rows, as JSON lines."""
    shards = Shards(Path(folder), size, ".jsonl", Share.of_launcher())
    shards.begin(plan)

    def write(path: Path, chunk: list[InputRow]) -> None:
        answers = answered(chunk, keep, **options)
        path.write_text("".join(as_json(each) + "\n" for each in answers), encoding="utf-8")

    shards.write(rows, write)


def make_parser() -> OptionParser:
    """The options of `bertlite predict`."""
    usage = "MODEL FILE [options], or bertlite predict MODEL --text TEXT ... [options]"
    parser = command_parser(
        "predict", usage, "A trained model's answers to texts.", EPILOG, [TaskOptions]
    )
    add = parser.add_argument
    add("file", nargs="?", help="rows in any format of finetune, or a text a line; - reads stdin")
    add("--text", nargs="+", help="texts, each in quotes (of questions: the texts to search)")
    add("--text_pair", "--text-pair", nargs="+", help="the second text of each pair")
    add("--question", nargs="+", help="one for each text, or one for all")
    add("--choices", nargs="+", help="multiple choice: what to choose from for --question")
    add(
        "--columns",
        nargs="+",
        help="columns that cannot be guessed, such as text=Review (default: those of the training)",
    )
    add(
        "--on_bad_row",
        "--on-bad-row",
        choices=ON_BAD_ROW,
        help="what a bad row does: stop everything before it begins, or be left out and counted "
        "(default: stop)",
    )
    add_shard_options(parser)
    add("--encoding", help="of a text file, such as cp1252 (default: UTF-8)")
    add(
        "--probabilities",
        action="store_true",
        help="the scores of all labels; --top_k N: of the best ones",
    )
    add(
        "--keep",
        nargs="*",
        metavar="COLUMN",
        help="columns of the input to write beside the answers; --keep alone: none (default: all)",
    )
    return parser


def add_shard_options(parser: OptionParser) -> None:
    """Where several processes write, and how much to a file."""
    add = parser.add_argument
    add(
        "--output_dir",
        "--output-dir",
        metavar="FOLDER",
        help="shards of JSON lines, of which each process of torchrun or accelerate launch writes "
        "its share; after a kill the same command does what is missing",
    )
    add(
        "--shard_rows",
        "--shard-rows",
        type=int,
        help=f"rows of a shard (default: {SHARD_ROWS})",
    )


def check_sources(file: str | None, words: dict[str, Any], of_files: dict[str, Any]) -> None:
    """Refuse, with a ValueError, no rows, rows twice, and options of files without one."""
    if (file is None) == (not words):
        raise ValueError(
            "predict takes a file or --text, and not both, got "
            f"{'neither' if file is None else 'both'}"
        )
    for option, value in of_files.items():
        if file is None and value not in (None, {}):
            raise ValueError(f"{option} must come with a file, got --text")


def check_scored(task: str, model: str) -> None:
    """Refuse, with a ValueError, the scores of all labels where a row has no such."""
    if not task_named(task).rows.has_problem_type:
        hint = "; --top_k gives several answers" if task_named(task).ranks else ""
        raise ValueError(f"--probabilities is for classes of texts, got {task}{hint}")
    if kind_of_folder(model) == "regression":
        raise ValueError(f"--probabilities is for classes of texts, got the numbers of {model}")


def rows_of_words(task: str, words: dict[str, Any]) -> list[Row]:
    """Rows of what stands on the command line.

    Raises:
        ValueError: words that the task does not read, a question is missing, or as many of one as
            of the other.
    """
    chosen = task_named(task)
    for name in words:
        if name not in chosen.words:
            raise ValueError(
                f"{task} reads {' and '.join(f'--{each}' for each in chosen.words)}, got --{name}"
            )
    return chosen.rows_of_words(words)


def text_column(task: str) -> str | None:
    """The answer that is a text of its own; None where answers are more than that."""
    return "text" if task_named(task).head == SEQ2SEQ else None


def answered(
    rows: Iterable[InputRow], keep: list[str] | None, **options: Any
) -> Iterator[dict[str, Any]]:
    """Answers with the columns of their rows, in the order of the rows.

    Args:
        rows: of the input.
        keep: columns to give; None: all.
        options: of `bertlite.predict`.
    """
    waiting: deque[InputRow] = deque()

    def to_read() -> Iterator[Row]:
        for each in rows:
            waiting.append(each)
            if each.row is not None:
                yield each.row

    names: set[str] = set()
    for answer in predict(options.pop("model"), to_read(), **options):
        names = set(answer) - {"id"}
        while waiting[0].row is None:
            yield beside(waiting.popleft(), keep, {}, names)
        yield beside(waiting.popleft(), keep, answer, names)
    while waiting:
        yield beside(waiting.popleft(), keep, {}, names)


def beside(
    row: InputRow, keep: list[str] | None, answer: dict[str, Any], names: set[str]
) -> dict[str, Any]:
    """An answer behind the columns of its row; those of the answers' `names` are input_NAME."""
    kept = row.beside if keep is None else {name: row.beside.get(name) for name in keep}
    renamed = {f"input_{name}" if name in names else name: kept[name] for name in kept}
    return {**renamed, **answer, **({"problem": row.problem} if row.problem else {})}


def check_kept(rows: PredictionInput, keep: list[str] | None) -> None:
    """Refuse, with a ValueError, columns to keep that the file does not have."""
    columns = rows.source.columns()
    for name in keep or ():
        if name not in columns:
            raise ValueError(
                f"--keep must name columns of the file, {', '.join(columns)}, got {name}"
            )


def report(rows: PredictionInput) -> None:
    """Say on stderr which rows have no answer."""
    if rows.empty:
        named = ", ".join(rows.empty[:10]) + (", ..." if len(rows.empty) > 10 else "")
        print(
            f"{len(rows.empty):,} rows hold no text, and have an empty answer: {named}",
            file=sys.stderr,
        )
    if rows.problems:
        print(f"left out: {rows.problems}", file=sys.stderr)
