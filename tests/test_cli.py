"""The commands of the tasks: words, files of options, help, output, and errors in one line."""

import importlib
import json

import pytest
from tasks_cases import ROWS, base_folder, write_rows

from bertlite.cli import COMMANDS, main
from bertlite.tasks import TASKS

QUIET = ["--disable_tqdm", "true", "--use_cpu"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with rows, a base model and a sentiment model, trained by the command from a YAML file."""
    path = tmp_path_factory.mktemp("cli")
    base_folder(path / "base")
    write_rows(path / "rows.jsonl", ROWS["sequence-classification"])
    options = {"model": str(path / "base"), "train": str(path / "rows.jsonl"), "output_dir": str(path / "out")}
    lines = [f"{name}: {value}" for name, value in options.items()] + ["learning_rate: 1e-3", "max_steps: 9"]
    (path / "run.yaml").write_text("\n".join(lines))
    words = ["finetune", "sequence-classification", str(path / "run.yaml"), "--max-steps", "2", *QUIET]
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
    for flag in ("--gradient_accumulation_steps", "--generation_num_beams", "--on_bad_row", "--doc_stride", "--recipe"):
        assert flag in shown


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
    assert main(["predict", str(place / "out"), str(place / "texts.txt"), "--output", str(file)]) == 0
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["label"] for row in written] == [row["label"] for row in shown]
    assert [row["score"] for row in written] == pytest.approx([row["score"] for row in shown], abs=1e-5)
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
        (["predict", "nowhere", "--text", "a"], "model must be a folder with a config.json"),
        (["evaluate", "{out}"], "test must name a file"),
        (["evaluate"], "model must be given"),
        (
            ["predict", "{out}", "--text", "a", "--text_pair", "b", "c"],
            "--text_pair must be as many as --text, 1, got 2",
        ),
        (["predict", "{out}", "--task", "question-answering", "--text", "a"], "--question must be one"),
        (["predict", "{out}", "--task", "multiple-choice", "--choices", "a"], "needs one --question"),
        (["predict", "{out}", "--task", "token-classification", "--text", "a"], "must be a ...ForTokenClassification"),
    ],
)
def test_bad_input_is_one_line_on_stderr(words, message, place, capsys):
    capsys.readouterr()
    assert main([word.format(out=place / "out") for word in words]) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert message in shown[-1]
    assert shown[-1].startswith(f"bertlite {words[0]}: error: ")


@pytest.mark.parametrize(
    ("text", "message"), [("- a\n", "must hold names and values"), ("a: [", "no valid YAML"), ("rate: 3", "got rate")]
)
def test_bad_files_of_options_are_refused(text, message, tmp_path, capsys):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert main(["finetune", "translation", str(file)]) == 2
    assert message in capsys.readouterr().err
