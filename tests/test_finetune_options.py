"""What `finetune` is told, and what it says: options, validation shares, a dry run, errors."""

import dataclasses
import inspect
import json
from collections import Counter

import pandas
import pytest
import torch
from datasets import Dataset
from tasks_cases import CLASSIFICATION, QUIET, ROWS, refused

from bertlite import evaluate, finetune
from bertlite.cli.main import main
from bertlite.data.preparing import TaskData
from bertlite.tasks import TaskOptions
from bertlite.training import options as all_options
from bertlite.training.options import DataOptions, ModelOptions, RecipeOptions
from bertlite.training.records import run_again
from bertlite.training.validation_split import split_validation

# ---- options by name


def test_every_option_has_one_home_and_can_be_completed():
    """`FinetuneOptions` names what the four dataclasses hold, but for `finetune`'s own arguments.

    So do the arguments of `finetune`, and no option is in two classes.
    """
    kinds = (DataOptions, TaskOptions, ModelOptions, RecipeOptions)
    names = [each.name for kind in kinds for each in dataclasses.fields(kind)]
    assert len(set(names)) == len(names)
    own = set(inspect.signature(finetune).parameters)
    typed = set(all_options.FinetuneOptions.__annotations__)
    assert typed | (own & set(names)) == set(names)
    assert not typed & own


def test_options_as_objects_and_by_name(given):
    objects = {
        "data_options": DataOptions(labels=["good", "bad"], max_train_examples=4),
        "task_options": TaskOptions(max_length=9),
        "recipe_options": RecipeOptions(recipe="bert", layer_decay=0.5),
    }
    result = finetune(CLASSIFICATION, **given, **objects, max_train_examples=6, say=None)
    written = json.loads((given["output_dir"] / "run_arguments.json").read_text())
    assert written["data_options"]["max_train_examples"] == 6  # by name comes first
    assert written["labels"] == ["good", "bad"]
    assert written["task_options"]["max_length"] == 9
    assert written["recipe_options"]["layer_decay"] == 0.5
    assert max(map(len, result.trainer.train_dataset["input_ids"])) == 9
    other = {**given, "output_dir": given["output_dir"].with_name("other")}
    refused("task_options must be TaskOptions, got dict", **other, task_options={"max_length": 9})
    refused(r"got laber \(is labels meant\?\)|got laber", **other, laber=["a"])


def test_a_run_can_be_run_again(given, tmp_path):
    """From its record: the same weights; one option and one argument replaced by words."""
    first = finetune(CLASSIFICATION, **given, max_length=12, freeze=1, validation=0.25, say=None)
    file = given["output_dir"] / "run_arguments.json"
    again = finetune(**run_again(file), output_dir=tmp_path / "again", say=None)
    for name, tensor in first.model.state_dict().items():
        torch.testing.assert_close(tensor, again.model.state_dict()[name], msg=name)
    assert again.metrics["validation"] == first.metrics["validation"]
    words = ["--output_dir", tmp_path / "words", "--max_length", "8", "--max_steps", "1"]
    assert main(["finetune", str(file), *map(str, words)]) == 0
    written = json.loads((tmp_path / "words" / "run_arguments.json").read_text())
    assert written["task_options"]["max_length"] == 8
    assert written["recipe_options"]["freeze"] == 1
    assert (written["arguments"]["max_steps"], written["arguments"]["seed"]) == (1, 42)


def test_a_run_of_rows_in_memory_cannot_be_run_again(given, tmp_path):
    given["train"] = ROWS[CLASSIFICATION]
    finetune(CLASSIFICATION, **given, say=None)
    with pytest.raises(ValueError, match="train was list of 8 in memory, not a file"):
        run_again(given["output_dir"] / "run_arguments.json")
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="must be the record of a run"):
        run_again(tmp_path / "other.json")


@pytest.mark.parametrize("kind", ["frame", "dataset"])
def test_rows_as_a_data_frame_or_data_set(kind, given):
    frame = pandas.DataFrame(ROWS[CLASSIFICATION], index=range(5, 13))
    frame["label"] = frame["label"].astype("category")
    rows = frame if kind == "frame" else Dataset.from_list(ROWS[CLASSIFICATION])
    given.update(train=rows, validation=rows, test=rows)
    result = finetune(CLASSIFICATION, **given, say=None)
    assert len(result.trainer.train_dataset) == 8
    assert result.metrics["validation"] == result.metrics["test"]
    assert evaluate(given["output_dir"], test=rows).pop("examples") == 8


def test_cells_of_several_types_are_read_from_a_frame():
    frame = pandas.DataFrame({"text": ["the cat", "sat", 3], "label": ["x", 1, 2.0]})
    rows = DataOptions(train=frame).prepare(CLASSIFICATION).train
    assert rows[:] == {"text": ["the cat", "sat", "3"], "label": [2, 0, 1]}


# ---- validation rows from a share


def prepared(labels, texts=None, task=CLASSIFICATION, problem_type="single_label_classification"):
    texts = texts or [f"text {number}" for number in range(len(labels))]
    data = TaskData(task, problem_type=problem_type)
    data.train = Dataset.from_dict({"text": texts, "label": labels})
    return data


def test_a_share_keeps_the_classes_shares_and_is_the_seeds():
    """Of 60, 30 and 10 rows, a fifth is 12, 6 and 2; the same seed draws the same rows."""
    labels = [0] * 60 + [1] * 30 + [2] * 10
    parts = []
    for seed in (1, 1, 2):
        data = prepared(labels)
        split_validation(data, 0.2, seed)
        assert Counter(data.validation["label"]) == {0: 12, 1: 6, 2: 2}
        assert len(data.train) == 80
        assert not set(data.train["text"]) & set(data.validation["text"])
        parts.append(list(data.validation["text"]))
    assert parts[0] == parts[1] != parts[2]


def test_equal_texts_stay_together():
    texts = [f"text {number // 3}" for number in range(90)]
    data = prepared([number // 3 % 2 for number in range(90)], texts)
    split_validation(data, 0.2, 0)
    assert len(data.validation) == 18
    assert not set(data.train["text"]) & set(data.validation["text"])


def test_questions_of_one_context_stay_together():
    rows = [{"id": str(n), "question": f"q{n}", "context": f"c{n // 4}"} for n in range(40)]
    data = TaskData("question-answering", train=Dataset.from_list(rows))
    split_validation(data, 0.2, 0)
    assert len(data.validation) == 8
    assert not set(data.train["context"]) & set(data.validation["context"])


def test_a_class_of_one_row_is_trained_on():
    data = prepared([0] * 10 + [1] * 10 + [2])
    split_validation(data, 0.2, 0)
    assert 2 in data.train["label"]
    assert Counter(data.validation["label"]) == {0: 2, 1: 2}


def test_labels_are_counted_where_the_rows_have_gone(base, tmp_path):
    """Of 6 and 4 rows, a half is 3 and 2: on both sides."""
    rows = [{"text": f"the cat {n}", "label": "bad" if n < 6 else "good"} for n in range(10)]
    said = []
    options = {"train": rows, "validation": 0.5, "arguments": QUIET, "check": True}
    finetune(CLASSIFICATION, base, output_dir=tmp_path / "out", say=said.append, **options)
    for split in ("train", "validation"):
        assert f"labels of {split}: bad 3, good 2" in said[0]
        assert f"{split}: 5 rows" in said[0]
    assert "bad 6" not in said[0]


def test_numbers_and_several_labels_are_drawn_plainly():
    for labels, kind in (
        ([n / 7 for n in range(20)], "regression"),
        ([[1.0, 0.0]] * 20, "multi_label_classification"),
    ):
        data = prepared(labels, problem_type=kind)
        split_validation(data, 0.25, 0)
        assert (len(data.train), len(data.validation)) == (15, 5)


def test_shares_that_cannot_be_drawn_are_refused(given):
    with pytest.raises(ValueError, match="leaves rows of 5 classes on both sides, got 0.1 of 10"):
        split_validation(prepared([0, 1, 2, 3, 4] * 2), 0.1, 0)
    refused("validation must be a share between 0 and 1, got 1.5", **given, validation=1.5)
    refused("got the share 0.5", **{**given, "arguments": QUIET}, validation=0.5, streaming=True)
    other = {**given, "train": None, "dataset": {"train": ROWS[CLASSIFICATION]}}
    other["dataset"]["validation"] = ROWS[CLASSIFICATION]
    import datasets

    whole = datasets.DatasetDict(
        {name: Dataset.from_list(rows) for name, rows in other["dataset"].items()}
    )
    refused("the data set's own validation rows", **{**other, "dataset": whole}, validation=0.5)


# ---- errors of one line


def test_packages_that_are_not_installed_are_named(given):
    for name, value, message in (
        ("report_to", "wandb", "arguments must need only what is installed: .*wandb"),
        ("optim", "galore_adamw", "optim must be an optimizer that is installed, .*galore"),
        ("optim", "adamw_bnb_8bit", "optim must be an optimizer that is installed, .*bitsandbytes"),
    ):
        more = {"optim_target_modules": ["classifier"]} if value.startswith("galore") else {}
        refused(message, **{**given, "arguments": {**QUIET, name: value, **more}}, say=None)


def test_sizes_other_than_the_files_are_named(given):
    for entry, message in (
        ("num_hidden_layers=3", "num_hidden_layers must be that of the weights in .* 2, got 3"),
        ("num_attention_heads=4", "num_attention_heads must be that of the weights in .* 2, got 4"),
    ):
        refused(f"config_overrides: {message}", **given, config_overrides=[entry], say=None)
    result = finetune(
        CLASSIFICATION, **given, config_overrides=["hidden_dropout_prob=0.3"], say=None
    )
    assert result.model.config.hidden_dropout_prob == 0.3


def test_label_smoothing_of_the_librarys_own_models(bpe, tmp_path):
    """Transformers' BART, whose labels the library's smoothing takes away: the batches have the
    decoder's inputs, which only the model can make.
    """
    from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(bpe)
    sizes = {
        f"{side}_{name}": number
        for side in ("encoder", "decoder")
        for name, number in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    }
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=None,
        **sizes,
    )
    model = BartForConditionalGeneration(config)
    result = finetune(
        "translation",
        model,
        tokenizer=bpe,
        train=ROWS["translation"],
        output_dir=tmp_path / "out",
        arguments={**QUIET, "label_smoothing_factor": 0.1},
        say=None,
    )
    assert result.metrics["train"]["steps"] == 2
    assert result.metrics["train"]["loss"] > 0
