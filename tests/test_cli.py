"""The commands of the tasks: words, files of options, help, output, and errors in one line."""

import importlib
import json
import subprocess
import sys

import pytest
from tasks_cases import ROWS, base_folder, write_rows

import bertlite
from bertlite.cli.main import COMMANDS, main
from bertlite.tasks import TASKS

QUIET = ["--disable_tqdm", "true", "--use_cpu"]
TRAIN = [
    "finetune",
    "sequence-classification",
    "--model",
    "{base}",
    "--train",
    "{rows}",
    "--output_dir",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with rows, a base model and a sentiment model, trained by the command from a YAML
    file.
    """
    path = tmp_path_factory.mktemp("cli")
    base_folder(path / "base")
    write_rows(path / "rows.jsonl", ROWS["sequence-classification"])
    options = {
        "model": str(path / "base"),
        "train": str(path / "rows.jsonl"),
        "output_dir": str(path / "out"),
    }
    lines = [f"{name}: {value}" for name, value in options.items()] + [
        "learning_rate: 1e-3",
        "max_steps: 9",
    ]
    (path / "run.yaml").write_text("\n".join(lines))
    words = [
        "finetune",
        "sequence-classification",
        str(path / "run.yaml"),
        "--max-steps",
        "2",
        *QUIET,
    ]
    assert main(words) == 0
    return path


def test_files_and_words_together(place):
    arguments = json.loads((place / "out" / "run_arguments.json").read_text())["arguments"]
    assert arguments["max_steps"] == 2  # the word comes before the file
    assert arguments["learning_rate"] == 0.001  # YAML alone would read text


def test_every_command_has_a_main():
    for module, help_line in COMMANDS.values():
        assert callable(importlib.import_module(module).main)
        assert help_line


@pytest.mark.parametrize("words", [["finetune", "--help"], ["finetune", "translation", "-h"]])
def test_help_teaches_with_examples_first(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(task in shown for task in TASKS)
    assert shown.index("examples:") < shown.index("--model MODEL  ")


def test_long_help_has_every_flag(capsys):
    assert main(["finetune", "translation", "--help-all"]) == 0
    shown = capsys.readouterr().out
    for flag in (
        "--gradient_accumulation_steps",
        "--generation_num_beams",
        "--on_bad_row",
        "--doc_stride",
        "--recipe",
    ):
        assert flag in shown


def test_a_json_file_of_options(place, tmp_path):
    """Lists, numbers and booleans as JSON has them.

    A file's word is checked as the command line's is.
    """
    options = {
        "model": str(place / "base"),
        "train": str(place / "rows.jsonl"),
        "output_dir": str(tmp_path / "out"),
    }
    options |= {
        "columns": ["text=text"],
        "labels": ["good", "bad"],
        "learning_rate": 1e-3,
        "max_steps": 1,
    }
    options |= {"disable_tqdm": True, "use_cpu": True, "on_bad_row": "skip", "save_strategy": "no"}
    (tmp_path / "run.json").write_text(json.dumps(options))
    assert main(["finetune", "sequence-classification", str(tmp_path / "run.json")]) == 0
    written = json.loads((tmp_path / "out" / "run_arguments.json").read_text())
    assert written["labels"] == ["good", "bad"]
    assert (written["arguments"]["learning_rate"], written["data_options"]["on_bad_row"]) == (
        0.001,
        "skip",
    )
    (tmp_path / "run.json").write_text(json.dumps({**options, "on_bad_row": "ignore"}))
    assert main(["finetune", "sequence-classification", str(tmp_path / "run.json")]) == 2


def test_evaluate_prints_figures(place, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(place / "out"), "--test", str(place / "rows.jsonl")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["examples"] == 8
    assert 0 <= figures["accuracy"] <= 1


def test_predict_answers_in_order(place, capsys):
    capsys.readouterr()
    texts = ["the cat sat on a mat in paris", "the cat"]
    assert main(["predict", str(place / "out"), "--text", *texts]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (place / "texts.txt").write_text("\n".join(texts))
    file = place / "answers" / "found.jsonl"
    assert (
        main(["predict", str(place / "out"), str(place / "texts.txt"), "--output", str(file)]) == 0
    )
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["label"] for row in written] == [row["label"] for row in shown]
    assert [row["score"] for row in written] == pytest.approx(
        [row["score"] for row in shown], abs=1e-5
    )
    assert [path.name for path in file.parent.iterdir()] == ["found.jsonl"]


def test_predict_reads_a_file_of_rows(place, capsys):
    capsys.readouterr()
    rows = [{"text": row["text"]} for row in ROWS["sequence-classification"]]
    file = write_rows(place / "unlabelled.jsonl", rows)
    assert main(["predict", str(place / "out"), file]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune", "parsing"], "task must be one of"),
        (["finetune", "translation", "--model", "m"], "--output_dir must name the folder"),
        (["finetune", "translation", "missing.yaml"], "missing.yaml, which is none"),
        (["predict", "{out}"], "takes a file or --text"),
        (["predict", "{out}", "nowhere.jsonl"], "nowhere.jsonl"),
        (["predict", "{out}/nowhere", "--text", "a"], "model must be a folder with a config.json"),
        (["evaluate", "{out}"], "test must name a file"),
        (["evaluate"], "model must be given"),
        (
            ["predict", "{out}", "--text", "a", "--text_pair", "b", "c"],
            "--text_pair must be as many as --text, 1, got 2",
        ),
        (
            ["predict", "{out}", "--task", "question-answering", "--text", "a"],
            "needs --question and --text, got no --question",
        ),
        (
            ["predict", "{out}", "--task", "multiple-choice", "--choices", "a"],
            "needs one --question",
        ),
        (
            ["predict", "{out}", "--task", "token-classification", "--text", "a"],
            "must be a ...ForTokenClassification",
        ),
        (["predict", "{out}"], "takes a file or --text, and not both, got neither"),
        (["predict", "{out}", "{out}/../rows.jsonl", "--text", "a"], "and not both, got both"),
        (
            ["predict", "{out}", "--text", "a", "--columns", "text=b"],
            "--columns must come with a file",
        ),
        (
            ["predict", "{out}", "--text", "a", "--question", "b"],
            "reads --text and --text_pair, got --question",
        ),
        (
            ["predict", "{out}", "--text", "a", "--output", "{out}"],
            "--output must be a file to write to, got the",
        ),
        (["predict", "{out}", "--text", "a", "--max_length", "2"], "max_length must leave room"),
        (["predict", "{out}", "--text", ""], "texts[0] must hold some text, got ''"),
        (["evaluate", "{out}", "--test", "a.csv", "--train", "b.csv"], "alone, got train too"),
        (["evaluate", "{out}/..", "--test", "a.csv"], ".., a folder without one"),
        (
            ["evaluate", "{out}", "--test", "a.csv", "--task", "tagging"],
            "argument --task: invalid choice: 'tagging'",
        ),
        (
            [*TRAIN, "{out}/../new", "--max_length", "ten"],
            "--max_length/--max-length: invalid int value: 'ten'",
        ),
        (
            [*TRAIN, "{out}/../new", "--max_length", "-5"],
            "max_length must be a whole number of at least 1, got -5",
        ),
        (
            [*TRAIN, "{out}/../new", "--max_length", "2"],
            "max_length must leave room beside the special tokens, got 2",
        ),
        (
            [*TRAIN, "{out}/../new", "--batch_size", "4"],
            "--batch_size 4; is --prediction_batch_size or --per_device",
        ),
        (
            [*TRAIN, "{out}/../new", "--learning_rate", "-1"],
            "learning_rate must be a number from 0 to inf, got -1.0",
        ),
        ([*TRAIN, "{out}/../new", "--num_train_epochs", "0"], "num_train_epochs must be above 0"),
        (
            [*TRAIN, "{out}/../new", "--per_device_train_batch_size", "0"],
            "batch_size must be a whole number of at",
        ),
        (
            [*TRAIN, "{out}/../new", "--eval_strategy", "epoch"],
            "eval_strategy must come with validation rows",
        ),
        (
            [*TRAIN, "{out}/../new", "--columns", "text=Review"],
            "got 'Review'; the columns are text, label",
        ),
        (
            [*TRAIN, "{out}/../new", "--columns", "text"],
            "columns must be entries NAME=COLUMN, got 'text'",
        ),
        (
            [*TRAIN, "{out}"],
            "go on with resume=True (--resume_from_checkpoint last), or give another folder",
        ),
    ],
)
def test_bad_input_is_one_line_on_stderr(words, message, place, capsys):
    capsys.readouterr()
    assert (
        main(
            [
                word.format(out=place / "out", base=place / "base", rows=place / "rows.jsonl")
                for word in words
            ]
        )
        == 2
    )
    shown = capsys.readouterr().err.strip().splitlines()
    assert message in shown[-1]
    assert shown[-1].startswith(f"bertlite {words[0]}: error: ")


def test_lines_of_a_text_file_are_named(place, capsys):
    """Only line feeds end a line."""
    file = place / "lines.txt"
    for data, message in {
        b"the cat\ncaf\xe9\n": "lines.txt line 2: broken UTF-8",
        b"": "file must hold a row to answer, got none in lines.txt",
        b"\n \n": "file must hold a row to answer, got none in lines.txt",
        b"the cat\n\0\0": "file must hold text, got lines.txt, which has a NUL byte",
    }.items():
        file.write_bytes(data)
        assert main(["predict", str(place / "out"), str(file)]) == 2
        assert message in capsys.readouterr().err
    file.write_text("\ufeffthe cat\u2028sat\nthe\x0cmat\n", encoding="utf-8")
    assert main(["predict", str(place / "out"), str(file)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["predict", str(place / "out"), str(file), "--task", "question-answering"]) == 2
    assert "file must have columns for question-answering" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [("- a\n", "must hold names and values"), ("a: [", "no valid YAML"), ("rate: 3", "got rate")],
)
def test_bad_files_of_options_are_refused(text, message, tmp_path, capsys):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert main(["finetune", "translation", str(file)]) == 2
    assert message in capsys.readouterr().err


def test_python_m_bertlite_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "bertlite", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith(bertlite.__version__)
