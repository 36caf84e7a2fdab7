"""Conformal sets: thresholds by hand, the share that is covered, and who is told what."""

import doctest
import json

import numpy as np
import pytest
import torch
from inference_cases import WORDS, bert, wordpiece
from tasks_cases import ROWS, base_folder, write_rows

import bertlite
from bertlite.cli.main import main
from bertlite.inference import label_sets as asking
from bertlite.inference.label_sets import THRESHOLDS, threshold_for
from bertlite.inference.sequence_classification import TEMPERATURE
from bertlite.training import label_sets as fitting
from bertlite.training.label_sets import fit_thresholds, names_of, set_figures

CLASSIFICATION = "sequence-classification"


def close(value):
    return pytest.approx(value, abs=2e-6)


def test_thresholds_by_hand():
    """Nine rows with the probabilities 0.9 to 0.1 of their label. Of nine, ⌈10 · 0.9⌉ = 9: the
    smallest. ⌈10 · 0.5⌉ = 5: the fifth. 91 % would need a tenth row.
    """
    right = np.arange(9, 0, -1) / 10
    found = fit_thresholds(np.stack([right, 1 - right], axis=1), np.zeros(9))
    assert found["0.90"] == close(0.1)
    assert found["0.50"] == close(0.5)
    assert found["0.51"] == close(0.4)  # ⌈5.1⌉ = 6
    assert found["0.60"] == close(0.4)  # ⌈6⌉ = 6, and no rounding error makes 7 of it
    assert max(found) == "0.90"


def test_thresholds_of_several_labels_by_hand():
    """The least probable of the labels that a row has; a row without any is always covered."""
    scores = [[0.9, 0.3, 0.8], [0.6, 0.7, 0.1], [0.2, 0.1, 0.4]]
    found = fit_thresholds(scores, [[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    assert found["0.75"] == close(0.3)  # 1, 0.6, 0.3: the third of ⌈4 · 0.75⌉ = 3
    assert found["0.50"] == close(0.6)


@pytest.mark.parametrize("classes", [2, 12])
def test_other_rows_are_covered_as_asked(classes):
    """Over many draws of validation and other rows the mean lies at the share, and not below it,
    though the scores are far from true probabilities.
    """
    random = np.random.default_rng(0)
    shares = []
    for _ in range(60):
        logits = random.normal(size=(600, classes)) * 3
        true = np.exp(logits / 3) / np.exp(logits / 3).sum(1, keepdims=True)
        labels = np.array([random.choice(classes, p=row) for row in true])
        scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)  # too sure
        least = fit_thresholds(scores[:300], labels[:300])["0.90"]
        shares.append((scores[300:][np.arange(300), labels[300:]] >= least).mean())
    assert 0.895 < np.mean(shares) < 0.915


def test_figures_of_sets():
    assert set_figures([["a"], []], [["a"], []]) == {
        "covered": 1.0,
        "labels_per_set": 0.5,
        "empty_sets": 0.5,
    }
    assert names_of(1, {0: "a", 1: "b"}) == ["b"]
    assert names_of([1.0, 0.0], {0: "a", 1: "b"}) == ["a"]
    for module in (asking, fitting):
        assert doctest.testmod(module).attempted
        assert not doctest.testmod(module).failed


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    model = bert("SequenceClassification", wordpiece(), labels=["bad", "fair", "good"])
    setattr(model.config, THRESHOLDS, {"0.50": 0.6, "0.90": 0.25, "0.91": 0.0})
    return model.eval()


def test_classify_gives_the_labels_that_reach_the_threshold(classifier):
    texts = [f"the {word} sat" for word in WORDS[:8]]
    every = bertlite.classify(texts, classifier, wordpiece(), top_k=3)
    for coverage, least in ((0.9, 0.25), (0.5, 0.6), (0.905, 0.0)):
        found = bertlite.classify(texts, classifier, wordpiece(), coverage=coverage)
        expected = [[each for each in row if each["score"] >= least] for row in every]
        assert found == expected
    assert {
        len(each) for each in bertlite.classify(texts, classifier, wordpiece(), coverage=0.5)
    } <= {
        0,
        1,
    }
    rows = [{"text": text} for text in texts]
    predicted = list(
        bertlite.predict(classifier, rows, task=CLASSIFICATION, tokenizer=wordpiece(), coverage=0.9)
    )
    for answer, row in zip(predicted, every, strict=True):
        assert answer["label"] == row[0]["label"]
        assert answer["label_set"] == [each["label"] for each in row if each["score"] >= 0.25]
        assert "scores" not in answer


def test_what_cannot_be_promised_is_refused(classifier):
    with pytest.raises(ValueError, match=r"at most 0\.91: this model's validation rows were too"):
        bertlite.classify("a", classifier, wordpiece(), coverage=0.95)
    with pytest.raises(ValueError, match=r"share of rows from 0\.5 to 0\.99, got 90"):
        threshold_for(classifier.config, 90)
    with pytest.raises(ValueError, match="top_k and coverage exclude each other"):
        bertlite.classify("a", classifier, wordpiece(), coverage=0.9, top_k=1)
    plain = bert("SequenceClassification", wordpiece(), labels=["a", "b"])
    with pytest.raises(ValueError, match="fine-tuned with validation rows"):
        bertlite.classify("a", plain, wordpiece(), coverage=0.9)
    tagger = bert("TokenClassification", wordpiece(), labels=["a", "b"])
    with pytest.raises(ValueError, match="coverage is for classes of texts"):
        next(bertlite.predict(tagger, [{"text": "a"}], tokenizer=wordpiece(), coverage=0.9))


def test_a_run_fits_them_and_the_command_line_asks(tmp_path, capsys):
    """On the very rows that they were fitted on, at least the share is covered."""
    rows = write_rows(tmp_path / "rows.jsonl", ROWS[CLASSIFICATION] * 2)
    out = tmp_path / "out"
    bertlite.finetune(
        CLASSIFICATION,
        base_folder(tmp_path / "base"),
        train=rows,
        validation=rows,
        output_dir=out,
        coverage=0.9,  # of a later prediction: training does not stumble over it
        arguments={"disable_tqdm": True, "use_cpu": True, "num_train_epochs": 1},
        say=None,
    )
    config = json.loads((out / "config.json").read_text())
    assert max(config[THRESHOLDS]) == "0.94"  # ⌈17 · 0.94⌉ = 16
    capsys.readouterr()
    assert main(["evaluate", str(out), "--test", rows, "--coverage", "0.9"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["covered"] >= 0.9
    assert main(["predict", str(out), "--text", "the cat sat", "--coverage", "0.9"]) == 0
    assert set(json.loads(capsys.readouterr().out)["label_set"]) <= {"bad", "good"}
    assert main(["predict", str(out), "--text", "the cat sat", "--coverage", "0.97"]) == 2
    assert "coverage must be at most 0.94" in capsys.readouterr().err
    again = bertlite.finetune(
        CLASSIFICATION,
        out,
        train=rows,
        output_dir=tmp_path / "again",
        arguments={"disable_tqdm": True, "use_cpu": True, "max_steps": 1},
        say=None,
    )
    assert getattr(again.model.config, THRESHOLDS) is None  # of weights that are gone
    assert getattr(again.model.config, TEMPERATURE) is None
