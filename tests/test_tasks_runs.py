"""Every task from a file to a saved model that answers, in Python.

Two steps, figures, resuming, refusals.
"""

import json

import pytest
import torch
from tasks_cases import LABELS, ROWS, TINY, base_folder, bpe_folder, write_rows
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    TrainingArguments,
    pipeline,
)

import bertlite
from bertlite import evaluate, finetune, predict
from bertlite.tasks import TASKS

QUIET = {"disable_tqdm": True, "use_cpu": True, "max_steps": 2, "per_device_train_batch_size": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_folder(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    return bpe_folder(tmp_path_factory.mktemp("models") / "bpe")


@pytest.fixture
def rows(tmp_path):
    return lambda task, data=None: write_rows(tmp_path / f"{task}.jsonl", data or ROWS[task])


def start_of(task, base, bpe):
    if task == "translation":
        scratch = {
            "from_scratch": True,
            "config_preset": "transformer-base",
            "config_overrides": TINY,
        }
        return {**scratch, "tokenizer": bpe, "max_new_tokens": 6}
    return {
        "model": base,
        **({"warm_start": True, "max_new_tokens": 6} if task == "summarization" else {}),
    }


@pytest.mark.parametrize("task", TASKS)
def test_from_a_file_to_answers(task, base, bpe, rows, tmp_path):
    file, folder = rows(task), tmp_path / "out"
    given = {
        "train": file,
        "validation": file,
        "test": file,
        "output_dir": folder,
        "arguments": QUIET,
    }
    result = finetune(task, **start_of(task, base, bpe), **given)
    metric = TASKS[task].best_metric("single_label_classification")
    assert result.metrics["validation"] == result.metrics["test"]
    assert result.metrics["train"]["steps"] == 2
    logged = [entry for entry in result.trainer.state.log_history if "eval_loss" in entry]
    assert logged
    assert all(f"eval_{metric}" in entry for entry in logged)
    written = json.loads((folder / "run_arguments.json").read_text())
    assert (written["task"], written["arguments"]["max_steps"]) == (task, 2)
    assert json.loads((folder / "metrics.json").read_text()) == result.metrics
    assert (
        f"| {metric} | {result.metrics['test'][metric]:.4f} |" in (folder / "README.md").read_text()
    )
    options = {"max_new_tokens": 6} if task in ("translation", "summarization") else {}
    measured = evaluate(str(folder), test=file, **options)
    assert measured.pop("examples") == len(ROWS[task])
    assert measured == pytest.approx(result.metrics["test"], abs=1e-6)
    bare = [
        {name: value for name, value in row.items() if name not in ("label", "tags")}
        for row in ROWS[task]
    ]
    answers = list(predict(str(folder), bare, **options))
    assert len(answers) == len(bare)
    assert json.loads(json.dumps(answers)) == answers


@pytest.mark.parametrize(
    ("labels", "kind", "metric"),
    [
        ([0.5, 1.5, 2.5, 3.0], "regression", "pearsonr"),
        ([["x"], ["x", "y"], ["y"], ["x"]], "multi_label_classification", "f1_micro"),
    ],
)
def test_numbers_and_several_labels(labels, kind, metric, base, rows, tmp_path):
    data = [{"text": "the cat " * (n + 1), "label": label} for n, label in enumerate(labels)]
    file = rows("sequence-classification", data)
    given = {"train": file, "validation": file, "output_dir": tmp_path / "out", "arguments": QUIET}
    result = finetune("sequence-classification", base, problem_type=kind, **given)
    assert result.model.config.problem_type == kind
    assert metric in result.metrics["validation"]
    loaded = bertlite.BertLiteForSequenceClassification.from_pretrained(tmp_path / "out")
    assert loaded.config.problem_type == kind


def test_pairs_are_read_as_pairs(base, rows, tmp_path):
    data = [{"text": "the cat", "text_pair": "sat on", "label": n % 2} for n in range(4)]
    file = rows("sequence-classification", data)
    result = finetune(
        "sequence-classification", base, train=file, output_dir=tmp_path / "out", arguments=QUIET
    )
    features = result.trainer.train_dataset[0]
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert features["input_ids"] == tokenizer("the cat", "sat on")["input_ids"]
    assert 1 in features["token_type_ids"]


def test_training_resumes_where_it_stopped(base, rows, tmp_path):
    """Four steps at once, and two and two, end with the same weights."""
    file = rows("sequence-classification")
    common = {
        "train": file,
        "arguments": {**QUIET, "max_steps": 4, "save_strategy": "steps", "save_steps": 2},
    }
    whole = finetune("sequence-classification", base, output_dir=tmp_path / "whole", **common)
    first = finetune("sequence-classification", base, output_dir=tmp_path / "parts", **common)
    for name in ("checkpoint-4",):
        for path in sorted((tmp_path / "parts" / name).rglob("*"), reverse=True):
            path.unlink()
        (tmp_path / "parts" / name).rmdir()
    again = finetune(
        "sequence-classification", base, output_dir=tmp_path / "parts", resume=True, **common
    )
    assert again.trainer.state.global_step == 4
    assert first.metrics["train"]["steps"] == 4
    for name, tensor in whole.model.state_dict().items():
        assert torch.allclose(tensor, again.model.state_dict()[name], atol=1e-6), name


def test_recipe_bert_has_rates_by_layer(base, rows, tmp_path):
    given = {
        "train": rows("sequence-classification"),
        "output_dir": tmp_path / "out",
        "arguments": QUIET,
    }
    result = finetune("sequence-classification", base, recipe="bert", layer_decay=0.5, **given)
    groups = result.trainer.optimizer.param_groups
    rates = sorted({group["initial_lr"] for group in groups}, reverse=True)
    assert rates == pytest.approx([5e-5, 2.5e-5, 1.25e-5, 6.25e-6])  # head, two layers, embeddings
    assert {group["weight_decay"] for group in groups} == {0.0, 0.01}


def test_recipe_transformer_is_the_papers(bpe, rows, tmp_path):
    arguments = {
        **QUIET,
        "max_steps": 5,
        "save_strategy": "steps",
        "save_steps": 1,
        "logging_steps": 1,
    }
    given = {"train": rows("translation"), "output_dir": tmp_path / "out", "arguments": arguments}
    result = finetune(
        "translation",
        recipe="transformer",
        batch_tokens=60,
        noam_warmup_steps=3,
        **start_of("translation", "", bpe),
        **given,
    )
    assert result.model.config.label_smoothing == 0.1
    assert [len(batch) for batch in result.trainer.train_dataset.batches] != [1] * 6
    rates = [
        entry["learning_rate"]
        for entry in result.trainer.state.log_history
        if "learning_rate" in entry
    ]
    assert isinstance(result.trainer.optimizer.optimizer, torch.optim.Adam)
    paper = [32**-0.5 * min(step**-0.5, step * 3**-1.5) for step in range(1, 7)]
    assert rates == pytest.approx(paper[:5]) or rates == pytest.approx(
        paper[1:]
    )  # before or after the step
    averaged = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(
        tmp_path / "out" / "averaged"
    )
    for name, tensor in averaged.state_dict().items():
        assert torch.equal(tensor, result.model.state_dict()[name]), name


def test_recipe_transformer_averages_what_a_short_run_has(bpe, rows, tmp_path):
    """The defaults' five checkpoints of a run of two epochs: the saved model is the mean of two."""
    arguments = {"disable_tqdm": True, "use_cpu": True, "num_train_epochs": 2}
    given = {"train": rows("translation"), "output_dir": tmp_path / "out", "arguments": arguments}
    finetune("translation", recipe="transformer", **start_of("translation", "", bpe), **given)
    names = sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*"))
    assert len(names) == 2
    kind = bertlite.TransformerLiteForConditionalGeneration
    first, last = (kind.from_pretrained(tmp_path / "out" / name).state_dict() for name in names)
    for name, tensor in kind.from_pretrained(tmp_path / "out").state_dict().items():
        torch.testing.assert_close(tensor, (first[name] + last[name]) / 2)


def test_a_head_that_is_there_goes_on_with_its_labels(base, rows, tmp_path):
    file = rows("token-classification")
    given = {"train": file, "arguments": {**QUIET, "learning_rate": 0.0}}
    first = finetune(
        "token-classification", base, output_dir=tmp_path / "a", labels=LABELS, **given
    )
    second = finetune("token-classification", tmp_path / "a", output_dir=tmp_path / "b", **given)
    assert list(second.model.config.id2label.values()) == LABELS
    assert torch.equal(first.model.classifier.weight, second.model.classifier.weight)
    third = finetune(
        "token-classification",
        tmp_path / "a",
        output_dir=tmp_path / "c",
        labels=LABELS[::-1],
        new_head=True,
        **given,
    )
    assert list(third.model.config.id2label.values()) == LABELS[::-1]


def refused(message, task="sequence-classification", **given):
    with pytest.raises(ValueError, match=message):
        finetune(task, **given)


def test_what_cannot_be_trained_is_refused_before_training(base, bpe, rows, tmp_path):
    file, out = rows("sequence-classification"), tmp_path / "out"
    good = {"model": base, "train": file, "output_dir": out, "arguments": QUIET}
    refused("task must be one of", task="parsing", **good)
    refused("options must be among .* got batchsize", **good, batchsize=3)
    refused(
        "arguments must be fields of TrainingArguments, got steps",
        **{**good, "arguments": {"steps": 2}},
    )
    refused(
        "must be Seq2SeqTrainingArguments",
        task="translation",
        **start_of("translation", "", bpe),
        train=rows("translation"),
        output_dir=out,
        arguments=TrainingArguments(str(tmp_path / "x")),
    )
    refused("train must name a file", **{**good, "train": None})
    elsewhere = TrainingArguments(str(tmp_path / "x"), use_cpu=True)
    refused(
        "arguments.output_dir must be output_dir, .*out, got .*x",
        **{**good, "arguments": elsewhere},
    )
    refused(
        "arguments must be TrainingArguments or a dict of its fields, got list",
        **{**good, "arguments": [1]},
    )
    refused("model must be a folder", **{**good, "model": None})
    refused(
        "model must be a folder with a config.json", **{**good, "model": str(tmp_path / "nothing")}
    )
    refused(
        "model must be an encoder-decoder",
        task="translation",
        **{**good, "train": rows("translation")},
    )
    refused("warm_start is for translation", **good, warm_start=True)
    refused(
        "from_scratch takes a tokenizer and no model",
        **good,
        from_scratch=True,
        config_preset="bert-tiny",
    )
    scratch = {
        "from_scratch": True,
        "config_preset": "bert-tiny",
        "tokenizer": bpe,
        "output_dir": out,
    }
    refused(
        "config_preset must be a size for translation", task="translation", train=file, **scratch
    )
    refused("from_scratch and config_preset", **good, config_preset="bert-tiny")
    refused("recipe must be one of", **good, recipe="adam")
    refused("layer_decay must come with", **good, layer_decay=0.9)
    refused("label_smoothing is for TransformerLite", **good, label_smoothing=0.1)
    refused("max_steps must be given with streaming", **{**good, "arguments": {}}, streaming=True)
    refused("resume must find a checkpoint", **good, resume=True)


def test_a_folder_that_holds_something_else_is_left_alone(base, rows, tmp_path):
    good = {"model": base, "train": rows("sequence-classification"), "arguments": QUIET}
    (tmp_path / "file").write_text("mine")
    refused("output_dir must be a folder, got the file", output_dir=tmp_path / "file", **good)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    refused("holds thesis.tex", output_dir=tmp_path / "full", **good)
    finetune("sequence-classification", output_dir=tmp_path / "run", **good)
    refused("holds checkpoint-2 of an earlier run", output_dir=tmp_path / "run", **good)
    refused(
        "holds a run of sequence-classification",
        task="token-classification",
        output_dir=tmp_path / "run",
        **good,
    )


def test_choices_of_different_numbers_are_refused_before_training(base, rows, tmp_path):
    data = [{"question": "who", "choices": list("abc")[:n], "label": 0} for n in (2, 3)]
    given = {
        "train": rows("multiple-choice", data),
        "output_dir": tmp_path / "out",
        "arguments": QUIET,
    }
    refused("another number of choices: 3", task="multiple-choice", model=base, **given)


def test_another_number_of_labels_is_refused(base, rows, tmp_path):
    file = rows("sequence-classification")
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(base, num_labels=3)
    good = {"train": file, "output_dir": tmp_path / "out", "arguments": QUIET, "tokenizer": base}
    refused("model must have 2 labels as the data, got 3", model=model, **good)
    model.save_pretrained(tmp_path / "three")
    refused("another number of labels", model=str(tmp_path / "three"), **good)


@pytest.mark.parametrize(
    ("kind", "ours", "theirs"),
    [
        (
            "text-classification",
            bertlite.BertLiteForSequenceClassification,
            BertForSequenceClassification,
        ),
        (
            "token-classification",
            bertlite.BertLiteForTokenClassification,
            BertForTokenClassification,
        ),
        ("fill-mask", bertlite.BertLiteForMaskedLM, None),
        ("feature-extraction", bertlite.BertLiteModel, BertModel),
    ],
)
def test_the_librarys_pipelines_take_our_models(kind, ours, theirs, base, tmp_path):
    from inference_cases import same
    from transformers import BertForMaskedLM

    tokenizer = AutoTokenizer.from_pretrained(base)
    ours.from_pretrained(base).save_pretrained(tmp_path / "saved")
    text = "the [MASK] sat in paris"
    found = [
        pipeline(kind, model=each.from_pretrained(tmp_path / "saved"), tokenizer=tokenizer)(text)
        for each in (ours, theirs or BertForMaskedLM)
    ]
    same(
        json.loads(json.dumps(found[0], default=float)),
        json.loads(json.dumps(found[1], default=float)),
        1e-5,
    )


@pytest.mark.parametrize("task", ["translation", "token-classification", "multiple-choice"])
def test_several_answers_are_refused_where_there_is_one(task):
    """Before anything is loaded, and not passed over."""
    with pytest.raises(ValueError, match=f"top_k is for classes of texts and .* got {task}"):
        bertlite.predict("out/none", [{}], task=task, top_k=2)
