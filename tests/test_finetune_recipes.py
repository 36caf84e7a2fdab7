"""How `finetune` trains: weights, frozen parts, adapters, early stops, seeds, temperatures."""

import json

import numpy as np
import pytest
import torch
from tasks_cases import CLASSIFICATION, LABELS, QUIET, ROWS, TINY, refused, write_rows
from transformers import BertForSequenceClassification

import bertlite
from bertlite import evaluate, finetune, predict
from bertlite.training.seeds import spread

# ---- the recipe's options


def test_class_weights_reach_the_loss(given):
    """Weights that leave one class next to nothing: only the other is learned."""
    given["arguments"] = {**QUIET, "max_steps": 30, "learning_rate": 0.01}
    result = finetune(CLASSIFICATION, **given, class_weights={"bad": 1e-6}, say=None)
    rows = [{"text": row["text"]} for row in ROWS[CLASSIFICATION]]
    assert {row["label"] for row in predict(given["output_dir"], rows)} == {"good"}
    assert result.trainer.compute_loss_func.weights.tolist() == pytest.approx([1e-6, 1.0])
    assert "Classes weigh in the loss: bad 1e-06, good 1." in card(given)


def card(given):
    return (given["output_dir"] / "README.md").read_text()


def test_class_weights_of_words(base, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", ROWS["token-classification"])
    result = finetune(
        "token-classification",
        base,
        train=file,
        output_dir=tmp_path / "out",
        arguments=QUIET,
        labels=LABELS,
        class_weights="auto",
        say=None,
    )
    counts = np.bincount(
        [LABELS.index(tag) for r in ROWS["token-classification"] for tag in r["tags"]]
    )
    expected = counts.sum() / (5 * counts)
    assert result.trainer.compute_loss_func.weights.tolist() == pytest.approx(expected.tolist())


def test_class_weights_that_mean_nothing_are_refused(given, base, tmp_path):
    refused("class_weights must be one number for each of 2", **given, class_weights="1,2,3")
    numbers = [{"text": "the cat", "label": 0.5}, {"text": "sat", "label": 1.5}]
    file = write_rows(tmp_path / "numbers.jsonl", numbers)
    refused(
        "a task that has classes, got sequence-classification of numbers",
        **{**given, "train": file},
        class_weights="auto",
    )
    both = {**given, "arguments": {**QUIET, "label_smoothing_factor": 0.1}}
    refused("exclude each other", **both, class_weights="auto")
    file = write_rows(tmp_path / "qa.jsonl", ROWS["question-answering"])
    refused(
        "got question-answering",
        task="question-answering",
        **{**given, "train": file},
        class_weights="auto",
    )


def test_frozen_parts_keep_their_weights(given, base):
    given["arguments"] = {**QUIET, "learning_rate": 0.1}
    before = bertlite.BertLiteModel.from_pretrained(base).state_dict()
    result = finetune(CLASSIFICATION, **given, freeze=1, say=None)
    after = result.model.bert.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if "embeddings" in name or ".0." in name} <= same
    assert not [name for name in same if ".1." in name]
    assert "Frozen: embeddings and the first 1 layers." in card(given)
    refused("at most the 2 layers", **{**given, "output_dir": given["output_dir"] / "no"}, freeze=9)


TASKS_WITH_ADAPTERS = (CLASSIFICATION, "token-classification", "multiple-choice", "translation")


@pytest.mark.parametrize("task", TASKS_WITH_ADAPTERS)
def test_adapters_are_merged_and_kept(task, base, bpe, tmp_path):
    """The saved folder loads as any model does; the adapters alone give the same on the start."""
    file = write_rows(tmp_path / "rows.jsonl", ROWS[task])
    start = {"model": base}
    if task == "translation":
        start = {"from_scratch": True, "config_preset": "transformer-base", "tokenizer": bpe}
        start |= {"config_overrides": TINY, "max_new_tokens": 6}
    arguments = {**QUIET, "learning_rate": 0.01, "num_train_epochs": 2, "max_steps": -1}
    out = tmp_path / "out"
    given = {"train": file, "validation": file, "output_dir": out, "arguments": arguments}
    result = finetune(task, **start, **given, lora=True, lora_rank=4, say=None)
    options = {"max_new_tokens": 6} if task == "translation" else {}
    measured = evaluate(str(out), test=file, **options)
    assert measured.pop("examples") == len(ROWS[task])
    assert measured == pytest.approx(result.metrics["validation"], abs=1e-6)
    assert json.loads((out / "adapter" / "adapter_config.json").read_text())["r"] == 4
    loaded = type(result.model).from_pretrained(out)
    assert set(loaded.state_dict()) == set(result.model.state_dict())
    assert not [name for name in loaded.state_dict() if "lora" in name]
    if task != "translation":
        plain = bertlite.BertLiteModel.from_pretrained(base).state_dict()
        tuned = loaded.bert.state_dict()
        changed = {name for name in tuned if not torch.equal(plain[name], tuned[name])}
        assert changed
        assert all("layer" in name and name.endswith("weight") for name in changed - POOLER)


POOLER = {"pooler.dense.weight", "pooler.dense.bias"}


def test_transformers_own_class_loads_a_merged_model(given):
    finetune(CLASSIFICATION, **given, lora=True, say=None)
    theirs, info = BertForSequenceClassification.from_pretrained(
        given["output_dir"], output_loading_info=True
    )
    assert not info["missing_keys"]
    ours = bertlite.BertLiteForSequenceClassification.from_pretrained(given["output_dir"])
    inputs = {"input_ids": torch.tensor([[2, 5, 6, 3]])}
    with torch.no_grad():
        torch.testing.assert_close(
            ours.eval()(**inputs).logits, theirs.eval()(**inputs).logits, atol=1e-5, rtol=1e-5
        )


def test_early_stopping_stops(given):
    """A rate of 0 never gets better: after the first evaluation come two more."""
    given["arguments"] = {**QUIET, "max_steps": -1, "num_train_epochs": 9, "learning_rate": 0.0}
    result = finetune(
        CLASSIFICATION, **given, validation=given["train"], early_stopping=2, say=None
    )
    assert result.trainer.state.epoch == 3
    other = {**given, "output_dir": given["output_dir"] / "no"}
    refused("early_stopping must come with validation rows", **other, early_stopping=2)
    refused("give average_last 0", **other, early_stopping=2, average_last=3)


def test_where_the_figure_ties_the_lower_loss_chooses(given, tmp_path):
    """A figure that is 0 in every epoch, as BLEU's of words that its tokenizer cannot tell apart.

    Seven of eight rows have one label: the loss falls as that is learned.
    """
    data = [{"text": "the cat " * (n + 1), "label": "bad" if n else "good"} for n in range(8)]
    given["train"] = write_rows(tmp_path / "most.jsonl", data)
    given["arguments"] = {**QUIET, "max_steps": -1, "num_train_epochs": 4, "learning_rate": 1e-3}
    given["arguments"] |= {"metric_for_best_model": "blind", "greater_is_better": True}
    result = finetune(
        CLASSIFICATION,
        **given,
        validation=given["train"],
        compute_metrics=lambda prediction: {"blind": 0.0},
        say=None,
    )
    losses = {
        entry["step"]: entry["eval_loss"]
        for entry in result.trainer.state.log_history
        if "eval_loss" in entry
    }
    assert len(losses) == 4
    best = min(losses, key=losses.get)
    assert best > min(losses)
    assert result.trainer.state.best_global_step == best
    saved = bertlite.BertLiteForSequenceClassification.from_pretrained(
        given["output_dir"] / f"checkpoint-{best}"
    ).state_dict()
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(tensor, saved[name]), name


def test_a_metric_of_ones_own(given):
    """From logits and labels, in the log of each epoch and in the figures; it may choose, too."""

    def first_class(prediction):
        assert prediction.predictions.shape == (8, 2)
        return {"share_of_first": float((prediction.predictions.argmax(-1) == 0).mean())}

    given["arguments"] = {**QUIET, "metric_for_best_model": "share_of_first"}
    given["arguments"]["greater_is_better"] = True
    result = finetune(
        CLASSIFICATION,
        **given,
        validation=given["train"],
        test=given["train"],
        compute_metrics=first_class,
        say=None,
    )
    chosen = [row["label"] for row in predict(given["output_dir"], ROWS[CLASSIFICATION])]
    for split in ("validation", "test"):
        assert result.metrics[split]["share_of_first"] == pytest.approx(
            chosen.count("bad") / len(chosen)
        )
        assert "accuracy" in result.metrics[split]
    assert any("eval_share_of_first" in entry for entry in result.trainer.state.log_history)
    assert "| share_of_first |" in card(given)


def test_a_loss_as_metric_is_better_when_lower(given):
    given["arguments"] = {**QUIET, "metric_for_best_model": "loss"}
    result = finetune(CLASSIFICATION, **given, validation=given["train"], say=None)
    assert result.trainer.args.greater_is_better is False
    other = {**given, "arguments": {**QUIET, "metric_for_best_model": "accurracy"}}
    other["output_dir"] = given["output_dir"].with_name("other")
    refused(
        "metric_for_best_model must be one of accuracy, .* got 'accurracy'",
        **other,
        validation=given["train"],
        say=None,
    )


# ---- several seeds


@pytest.mark.slow
def test_several_seeds(given):
    """Each is a run of its own; mean and spread are those of their figures; the best is kept."""
    given["arguments"] = {**QUIET, "learning_rate": 0.01, "max_steps": 4}
    out, file = given["output_dir"], given["train"]
    result = finetune(
        CLASSIFICATION, **given, validation=file, test=file, seeds=[1, 2, 3], say=None
    )
    runs = {
        seed: json.loads((out / f"seed-{seed}" / "metrics.json").read_text()) for seed in (1, 2, 3)
    }
    values = [runs[seed]["test"]["accuracy"] for seed in (1, 2, 3)]
    part = result.metrics["seeds"]["test"]["accuracy"]
    assert part["values"] == values
    assert part["mean"] == pytest.approx(np.mean(values))
    assert part["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
    kept = max(runs, key=lambda seed: runs[seed]["validation"]["accuracy"])
    assert result.metrics["seeds"]["kept"] == kept
    assert result.metrics["test"] == runs[kept]["test"]
    load = bertlite.BertLiteForSequenceClassification.from_pretrained
    tops = load(out).state_dict()
    for name, tensor in load(out / f"seed-{kept}").state_dict().items():
        assert torch.equal(tensor, tops[name]), name
    assert f"| test accuracy | {np.mean(values):.4f} |" in card(given)
    alone = finetune(
        CLASSIFICATION,
        **{**given, "output_dir": out.with_name("alone")},
        validation=file,
        seeds=[2],
        say=None,
    )
    two = load(out / "seed-2").state_dict()
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(tensor, two[name], msg=name)


def test_spread_by_hand():
    runs = [{"validation": {"f1": value, "note": "x"}} for value in (0.2, 0.4, 0.9)]
    part = spread(runs, [1, 2, 3], 3)["validation"]
    assert set(part) == {"f1"}
    assert part["f1"]["mean"] == pytest.approx(0.5)
    assert part["f1"]["standard_deviation"] == pytest.approx((0.26 / 2) ** 0.5)


def test_a_loaded_model_starts_each_seed_anew(given, base):
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(base, num_labels=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given.update(model=model, tokenizer=base)
    finetune(CLASSIFICATION, **given, seeds=[5, 6], say=None)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_seeds_that_are_none_are_refused(given):
    refused("seeds must differ", **given, seeds=[1, 1])
    refused(r"seeds\[1\] must be a whole number of at least 0, got -1", **given, seeds=[1, -1])


# ---- calibration


def test_a_classifier_is_calibrated_on_its_validation_rows(given, tmp_path):
    given["arguments"] = {**QUIET, "max_steps": 8, "learning_rate": 1e-3}
    result = finetune(
        CLASSIFICATION, **given, validation=given["train"], test=given["train"], say=None
    )
    found = result.metrics["train"]["calibration"]
    config = bertlite.BertLiteForSequenceClassification.from_pretrained(given["output_dir"]).config
    assert config.calibration_temperature == pytest.approx(found["temperature"])
    assert set(found) == {"temperature", "validation", "test"}
    assert found["validation"] == pytest.approx(found["test"])
    assert found["test"]["brier_score"] <= found["test"]["brier_score_uncalibrated"] + 0.05
    assert "A temperature of" not in card(given)
    assert f"a temperature of {found['temperature']:.3f} was fitted" in card(given)
    BertForSequenceClassification.from_pretrained(given["output_dir"])  # knows the field by no name
    # Trained on without validation rows, the model has no temperature of an earlier run.
    further = {**given, "model": given["output_dir"], "output_dir": tmp_path / "further"}
    model = finetune(CLASSIFICATION, **further, say=None).model
    assert model.config.calibration_temperature is None
    other = {**given, "output_dir": given["output_dir"].with_name("plain")}
    plain = finetune(CLASSIFICATION, **other, validation=given["train"], calibrate=False, say=None)
    assert "calibration" not in plain.metrics["train"]
