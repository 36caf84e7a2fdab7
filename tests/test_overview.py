"""What a run says: the block before training, a dry run, one bar, the summary, or nothing."""

import sys

import pytest
from tasks_cases import CLASSIFICATION, QUIET, ROWS, TINY, refused, write_rows
from transformers import PrinterCallback, ProgressCallback, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from bertlite import finetune
from bertlite.training.trainer import show_one_bar


def test_a_dry_run_writes_nothing(given, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    said = []
    result = finetune(CLASSIFICATION, **given, validation=0.25, check=True, say=said.append)
    assert sorted(tmp_path.rglob("*")) == before
    assert result.metrics == {}
    assert result.trainer.state.global_step == 0
    assert said[0] == result.overview
    assert "nothing was trained or written" in said[1]
    arguments = TrainingArguments(str(given["output_dir"]), use_cpu=True)
    given["arguments"] = arguments
    finetune(CLASSIFICATION, **given, check=True, say=None)
    assert arguments.output_dir == str(given["output_dir"])
    refused(
        "learning_rate must be a number",
        **{**given, "arguments": {"learning_rate": -1}},
        check=True,
    )


def test_the_block_says_what_was_found(given, base, tmp_path):
    """Two good labels, three bad rows, and two rows of more than six tokens ([CLS], [SEP])."""
    rows = [{"text": "the cat", "label": "good"}] * 3 + [{"text": "the cat sat", "label": "bad"}]
    rows += [{"text": "the cat sat in paris", "label": "bad"}] * 2
    rows += [
        {"text": None, "label": "bad"},
        {"text": "the", "label": None},
        {"text": "", "label": "bad"},
    ]
    given["train"] = write_rows(tmp_path / "some.jsonl", rows)
    said = []
    finetune(
        CLASSIFICATION,
        **given,
        on_bad_row="skip",
        max_length=6,
        class_weights="1,2",
        freeze="embeddings",
        check=True,
        say=said.append,
    )
    block = said[0]
    for part in (
        "sequence-classification, one label a row",
        "columns: text is text; label is label",
        "labels of train: bad 3, good 3",
        "rows          train: 6 rows, 3 left out (1 × missing value, 1 × missing label, 1 × empty",
        "left out      ",
        "some.jsonl line 7",
        "class weights bad 1, good 2",
        "2 of 6 rows (33.3%) are cut at 6 tokens",
        "freeze embeddings",
        "new weights, not in the file: classifier.bias, classifier.weight",
        "cpu, fp32",
        "2 of 2 rows",
        "the last is saved: nothing chooses between them",
    ):
        assert " ".join(part.split()) in " ".join(block.split()), (part, block)
    assert max(map(len, block.splitlines())) <= 100


def test_the_block_of_texts_that_are_written(bpe, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", ROWS["translation"])
    said = []
    finetune(
        "translation",
        from_scratch=True,
        config_preset="transformer-base",
        config_overrides=TINY,
        tokenizer=bpe,
        train=file,
        output_dir=tmp_path / "out",
        arguments=QUIET,
        recipe="transformer",
        max_target_length=3,
        check=True,
        say=said.append,
    )
    assert "no row is cut, 6 of 6 targets (100.0%) are cut at 3 tokens" in said[0]
    assert "at most 4,096 tokens, the Noam schedule" in said[0]
    assert "the mean of the last 5 is saved" in said[0]


@pytest.mark.parametrize(("longest", "cut"), [(4, "4 of 4 targets (100.0%)"), (5, "no target")])
def test_targets_are_counted_without_start_tokens(longest, cut, base, tmp_path):
    """Four words and the end token are five, whatever BERT's tokenizer puts first."""
    rows = [{"source": f"the cat {word}", "target": "the cat sat on"} for word in "abcd"]
    said = []
    finetune(
        "summarization",
        base,
        warm_start=True,
        train=rows,
        output_dir=tmp_path / "out",
        arguments=QUIET,
        max_target_length=longest,
        check=True,
        say=said.append,
    )
    assert f"no row is cut, {cut}" in said[0]


@pytest.mark.parametrize(
    ("task", "limit", "expected"),
    [
        ("multiple-choice", 6, "rows (50.0%) are cut at 6 tokens"),
        ("question-answering", 20, "windows of 6 rows: long ones are read in parts"),
        ("token-classification", 40, "windows of 4 rows: long ones are read in parts"),
    ],
)
def test_lengths_of_other_tasks(task, limit, expected, base, tmp_path):
    rows = ROWS[task]
    if task == "multiple-choice":  # "who" and one or three words, with [CLS] and two [SEP]
        rows = [
            {"question": "who", "choices": ["anna", choice], "label": 0}
            for choice in ("cat", "the cat sat", "a", "a cat on")
        ]
    said = []
    options = {} if task == "token-classification" else {"max_length": limit}
    if task == "question-answering":
        options["doc_stride"] = 4
    finetune(
        task,
        base,
        train=rows,
        output_dir=tmp_path / "out",
        arguments=QUIET,
        check=True,
        say=said.append,
        **options,
    )
    assert expected in said[0], said[0]


def test_one_bar_and_a_summary(given, capfd):
    """One progress bar on stderr, none of the libraries' lines; the summary comes last."""
    given["arguments"] = {**QUIET, "disable_tqdm": False, "logging_steps": 1}
    finetune(CLASSIFICATION, **given, validation=given["train"])
    shown = capfd.readouterr()
    lines = [line for line in shown.err.replace("\r", "\n").splitlines() if line.strip()]
    assert lines
    assert all(line.startswith("training:") for line in lines), lines
    assert "2/2" in lines[-1]
    assert "loss=" in lines[-1]
    assert "accuracy=" in lines[-1]
    assert "{" not in shown.out  # no dictionaries
    summary = shown.out.splitlines()
    assert summary[0].startswith("task ")
    assert summary[-1] == f"saved         {given['output_dir']}"
    assert any(line.startswith("kept          checkpoint-") for line in summary)


def test_no_notebook_is_needed(monkeypatch):
    """IPython is no dependency; in a notebook the library has its bar's class at hand."""
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.delitem(sys.modules, "transformers.utils.notebook", raising=False)
    callbacks = CallbackHandler([ProgressCallback(), PrinterCallback()], None, None, None, None)
    callbacks.args = TrainingArguments("unused", use_cpu=True, disable_tqdm=False)
    show_one_bar(callbacks)
    kinds = {type(each).__name__ for each in callbacks.callbacks}
    assert kinds == {"ProgressBar"}


def test_silence(given, capfd):
    finetune(CLASSIFICATION, **given, say=None)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == ""
