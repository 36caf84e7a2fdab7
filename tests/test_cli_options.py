"""The command line: typos answered without heavy imports, spellings, defaults, errors in a line."""

import argparse
import doctest
import errno
import importlib
import os
import re
import subprocess
import sys

import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled, StrictDataclassError
from tasks_cases import ROWS, base_folder, write_rows

import bertlite
from bertlite.cli import demo, errors, option_names, predict, spelling
from bertlite.cli.main import COMMANDS, main
from bertlite.cli.option_names import known_options, known_tasks
from bertlite.cli.parsing import make_parser, parse_given
from bertlite.tasks import TASKS
from bertlite.tasks.base import TaskOptions
from bertlite.training.options import DataOptions, ModelOptions, RecipeOptions, RunOptions

WATCHED = "torch", "transformers", "datasets", "tensorflow"
FRESH = f"""
import sys
from bertlite.cli.main import main
status = main(sys.argv[1:])
print(status, sorted({{*{WATCHED!r}}} & set(sys.modules)))
"""


def fresh(*words, code=FRESH, **options):
    """A command in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, words)]
    given = {"capture_output": True, "text": True, "timeout": 300, **options}
    return subprocess.run(command, check=False, **given)


# ---- what is known of the options


@pytest.mark.parametrize("task", TASKS)
def test_every_option_of_finetune_is_known(task):
    """Or a right option would be refused."""
    own = [RunOptions, DataOptions, TaskOptions, ModelOptions, RecipeOptions]
    kinds = [*own, TASKS[task].arguments_class]
    parser = make_parser("bertlite finetune", "", kinds)
    names = {name[2:] for action in parser._actions for name in action.option_strings}
    known = {option_names.spelled(each.name) for each in known_options("finetune")}
    assert {option_names.spelled(name) for name in names} <= known


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "finetune"])
def test_every_option_of_the_other_commands_is_known(command, monkeypatch):
    parsers = []
    parse = argparse.ArgumentParser.parse_known_args

    def watched(parser, *args, **kwargs):
        parsers.append(parser)
        return parse(parser, *args, **kwargs)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", watched)
    with pytest.raises((SystemExit, ValueError)):
        importlib.import_module(COMMANDS[command][0]).main(["--no-such-option"])
    subparsers = [
        each
        for action in parsers[0]._actions
        if isinstance(action, argparse._SubParsersAction)
        for each in action.choices.values()
    ]
    names = {
        name.strip("-").replace("-", "_")
        for parser in [*parsers, *subparsers]
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--") and name != "--help"
    }
    assert names
    assert names <= {option_names.spelled(each.name) for each in known_options(command)}


def test_the_tasks_are_known():
    assert set(known_tasks()) == set(TASKS)


def test_only_true_numbers_are_refused():
    kinds = {each.name: each.number for each in known_options("finetune")}
    expected = {"max_steps": "int", "learning_rate": "float", "train": None, "bf16": None}
    assert {name: kinds[name] for name in expected} == expected


# ---- typos


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune", "translation", "--lerning_rate", "3"], "is --learning_rate or"),
        (["finetune", "tokenclassification"], "got 'tokenclassification'; is token-classification"),
        (["finetune", "translation", "--max-steps", "ten"], "invalid int value: 'ten'"),
        (["finetune", "translation", "--seed"], "argument --seed: expected one argument"),
        (["predict", "out", "--txt", "a"], "unrecognized arguments: --txt a; is --text"),
        (["evaluate", "out", "--tset", "a.csv"], "is --test"),
        (["pretrain", "a.txt", "--max_stps", "3"], "is --max-steps"),
        (["convert", "a", "b", "--hed", "none"], "is --head"),
        (["demo", "--epoch", "2"], "is --epochs meant?"),
        (["tokenizer", "train", "bpe", "a.txt", "--vocabsize", "9"], "is --vocab-size"),
    ],
)
def test_a_typo_is_answered_without_the_libraries(words, message):
    done = fresh(*words)
    assert done.stdout == "2 []\n"
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_of_options_is_looked_at_first(tmp_path):
    (tmp_path / "run.yaml").write_text("learning-rate: 1e-4\nepochs: 3\n")
    done = fresh("finetune", "translation", tmp_path / "run.yaml")
    assert done.stdout == "2 []\n"
    assert "got epochs; is --num_train_epochs meant?" in done.stderr


def test_what_follows_two_dashes_is_no_option(capsys):
    option_names.check_words("demo", ["--epochs", "1", "--", "--what a film"])
    with pytest.raises(ValueError, match="--what a film"):
        option_names.check_words("demo", ["--what a film"])


# ---- spelling and defaults


def test_both_spellings_are_the_same_option():
    kinds = [DataOptions, RecipeOptions]
    for words in (
        ["--on-bad-row=skip", "--no-calibrate"],
        ["--on_bad_row", "skip", "--no_calibrate"],
    ):
        found = parse_given(make_parser("", "", kinds), words)
        assert found == {"on_bad_row": "skip", "calibrate": False}
    words = ["model", "a-b_c.csv", "--text-pair", "a_b", "--on-bad-row", "skip"]
    found = parse_given(predict.make_parser(), words)
    assert (found["file"], found["text_pair"], found["on_bad_row"]) == (
        "a-b_c.csv",
        ["a_b"],
        "skip",
    )


@pytest.mark.parametrize("words", [["--max_train_examples", "-3"], ["--max-train-examples=-3"]])
def test_one_spelling_of_options(words, tmp_path, capsys):
    assert main(["demo", *words, "--output_dir", str(tmp_path / "out")]) == 2
    assert "--max-train-examples must be above 0, got -3" in capsys.readouterr().err


def test_the_help_shows_the_defaults_that_are_used(capsys):
    """Those of the recipe, not the library's own: a tenth of warm-up, 32 rows, each epoch saved."""
    assert main(["finetune", "sequence-classification", "--help-all"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    expected = {
        "per_device_train_batch_size": 32,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "save_strategy": "epoch",
        "report_to": "none",
        "save_total_limit": 2,
    }
    for name, value in expected.items():
        part = shown[shown.index(f"--{name} ") :].split(" --")[1]
        assert (
            f"(default: {value})" in part or f"(default: {value})" in shown.split(f"--{name} ")[2]
        )
    assert "(default: None)" not in shown


# ---- files of options


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_steps: [1, 2]", "max_steps must be int, got [1, 2]"),
        ("max_steps: many", "max_steps/--max-steps: invalid int value: 'many'"),
        ("max_steps: 2.5", "max_steps must be int, got 2.5"),
        ("max_steps: true", "max_steps must be int, got True"),
        ("learning_rate: fast", "invalid float value: 'fast'"),
        ("train: {a: b}", "train must be"),
        ("use_cpu: 3", "use_cpu must be true or false, got 3"),
        ("labels: {a: 1}", "labels must be"),
        ("on_bad_row: ignore", "on_bad_row must be one of"),
        ("3: 4", "names must be text, got 3"),
    ],
)
def test_a_file_with_a_value_of_another_kind(line, message, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(line)
    assert main(["finetune", "translation", str(tmp_path / "run.yaml")]) == 2
    assert message in capsys.readouterr().err


def test_values_of_a_file_that_are_right(tmp_path):
    text = "learning-rate: 1e-4\nlabels: a\ncolumns: {text: Said}\nmax_steps: 3\nuse_cpu: true\n"
    (tmp_path / "run.yaml").write_text(text + "lr_scheduler_kwargs: {power: 2}\nmodel: null\n")
    kinds = [RunOptions, DataOptions, TASKS["translation"].arguments_class]
    found = parse_given(make_parser("", "", kinds), ["--max-steps=4"], str(tmp_path / "run.yaml"))
    assert found == {
        "learning_rate": 1e-4,
        "labels": ["a"],
        "columns": {"text": "Said"},
        "max_steps": 4,
        "use_cpu": True,
        "lr_scheduler_kwargs": {"power": 2},
        "model": None,
    }


# ---- what a user can mend, in one line


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("options")
    base_folder(path / "base")
    write_rows(path / "rows.jsonl", ROWS["sequence-classification"])
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report_to", "dvclive"], "dvclive"),
        (["--optim", "adamw_bnb_8bit"], "bitsandbytes"),
        (["--optim", "no_such"], "no_such"),
        (["--model", "nobody/no-such-model"], "model must be a folder with a config.json"),
    ],
)
def test_what_is_not_installed_or_not_there(options, message, place, tmp_path, capsys):
    words = ["--model", place / "base", "--train", place / "rows.jsonl", "--use_cpu"]
    words = [*words, "--output_dir", tmp_path / "out", "--max_steps", "1", *options]
    capsys.readouterr()
    assert main(["finetune", "sequence-classification", *map(str, words)]) == 2
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert shown.startswith("bertlite finetune: error: ")
    assert message in shown


class Refused(RuntimeError):
    """As safetensors and torch raise where a disk is full."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device"),
        (PermissionError(errno.EROFS, "Read-only file system", "c"), "c: Read-only file system"),
        (Refused("Error: I/O error: No space left on device (os error 28)"), "No space left"),
        (RuntimeError("X requires wandb to be installed. Run `pip install wandb`."), "wandb"),
        (ModuleNotFoundError("No module named 'peft'"), "a package is missing: No module named"),
        (OfflineModeIsEnabled("Cannot reach https://hub"), "the hub could not be reached"),
        (torch.OutOfMemoryError("tried to allocate 2 GiB"), "out of memory, try smaller batches"),
    ],
)
def test_errors_that_a_user_can_mend_are_one_line(error, message, monkeypatch, capsys):
    monkeypatch.setattr(demo, "main", lambda argv: raise_from(error))
    assert main(["demo"]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 1
    assert shown[0].startswith("bertlite demo: error: ")
    assert message in shown[0]
    with pytest.raises(type(error)):
        main(["--traceback", "demo"])


def raise_from(error):
    """As libraries do: an error of theirs from the one that says what is wrong."""
    raise error


def test_the_cause_is_said_where_the_error_says_nothing(monkeypatch, capsys):
    def broken(argv):
        raise RuntimeError("generation failed") from OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(demo, "main", broken)
    assert main(["demo"]) == 2
    assert "Disk quota exceeded" in capsys.readouterr().err


def test_faults_of_the_program_keep_their_traceback(monkeypatch):
    for error in (KeyError("a"), RuntimeError("shapes differ"), AttributeError("no b")):
        monkeypatch.setattr(demo, "main", lambda argv, error=error: raise_from(error))
        with pytest.raises(type(error)):
            main(["demo"])


WRITES = """
import sys
from bertlite.cli import demo, main
def write(argv):
    for number in range(100_000):
        print("line", number)
    return 0
demo.main = write
sys.exit(main.main(["demo"]))
"""


def test_a_reader_that_stops():
    """As `| head -1` does: no word, and the status that a shell gives for it."""
    command = [sys.executable, "-c", WRITES]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=300) == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", WRITES]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "bertlite demo: error: No space left on device\n"


def test_a_folder_that_cannot_be_made_is_said_before_any_work(place, capsys):
    output = place / "rows.jsonl" / "answers.csv"
    capsys.readouterr()
    assert main(["predict", "no-model", "--text", "a", "--output", str(output)]) == 2
    (shown,) = capsys.readouterr().err.splitlines()
    assert f"--output must be in a folder that can be written, got {output}" in shown


@pytest.mark.parametrize("module", [errors, spelling])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


def test_a_field_of_the_wrong_type_is_not_blamed_on_the_network():
    with pytest.raises(StrictDataclassError) as caught:
        bertlite.BertLiteConfig(hidden_act=None)
    assert errors.in_one_line(caught.value).startswith("Validation error for field 'hidden_act'")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_no_command_takes_is_refused_in_one_line(command, capsys):
    """Without a page of options before it."""
    assert main([command, "--no-such-option"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"bertlite {command}: error: .*no-such-option.*\n", said.err)


def test_words_that_are_missing_are_named_in_one_line(capsys):
    for command in ("check", "card", "push", "export", "convert", "serve", "encode", "pretrain"):
        assert main([command]) == 2
        said = capsys.readouterr().err
        assert re.fullmatch(rf"bertlite {command}: error: .* required: .*\n", said)
    assert main(["prun", "out/model"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"bertlite: error: command must .*got 'prun'; is prune meant\?\n", said)
