"""The metrics against the libraries that they wrap, against numbers worked out by hand, and under
bad input.
"""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import evaluate
import numpy as np
import pytest
import torch

from bertlite import metrics

SQUAD_PREDICTION = {"id": "a", "prediction_text": "x"}
SQUAD_REFERENCE = {"id": "a", "answers": {"text": ["x"], "answer_start": [0]}}
ONE_ROW = {  # a prediction and its reference, right
    "accuracy": (1, 1),
    "chrf": ("a b c d", "a b c d"),
    "entity_scores": (["B-PER", "O"], ["B-PER", "O"]),
    "f1": (1, 1),
    "matthews_correlation": (1, 1),
    "pearson": (1.0, 1.0),
    "rouge": ("a b", "a b"),
    "sacre_bleu": ("a b c d", "a b c d"),
    "spearman": (1.0, 1.0),
    "squad": (SQUAD_PREDICTION, SQUAD_REFERENCE),
    "squad_v2": (SQUAD_PREDICTION, SQUAD_REFERENCE),
}
NUMBER_METRICS = ("accuracy", "f1", "matthews_correlation", "pearson", "spearman")


def compute(name, predictions, references, config_name=None, **options):
    return metrics.load(name, config_name).compute(
        predictions=predictions, references=references, **options
    )


@pytest.fixture
def classes():
    generator = np.random.default_rng(0)
    return generator.integers(0, 3, 200), generator.integers(0, 3, 200)


# Numbers


def test_class_metrics_by_hand():
    # Class 1: 2 right, 1 wrongly predicted, 1 missed; class 0: 1 right.
    predictions, references = [1, 1, 1, 0, 0], [1, 1, 0, 1, 0]
    assert compute("accuracy", predictions, references) == {"accuracy": pytest.approx(3 / 5)}
    assert compute("f1", predictions, references) == {"f1": pytest.approx(2 * 2 / (2 * 2 + 1 + 1))}
    expected = (2 * 1 - 1 * 1) / math.sqrt(
        3 * 3 * 2 * 2
    )  # (TP TN - FP FN) / sqrt of the four margins
    assert compute("matthews_correlation", predictions, references)[
        "matthews_correlation"
    ] == pytest.approx(expected)


def test_class_metrics_agree_with_scikit_learn(classes):
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    predictions, references = classes
    assert compute("accuracy", *classes)["accuracy"] == pytest.approx(
        accuracy_score(references, predictions)
    )
    mcc = compute("matthews_correlation", *classes)["matthews_correlation"]
    assert mcc == pytest.approx(matthews_corrcoef(references, predictions))
    for average in ("micro", "macro", "weighted", None):
        expected = f1_score(references, predictions, average=average)
        assert compute("f1", *classes, average=average)["f1"] == pytest.approx(expected)


def test_multilabel_configs():
    predictions, references = [[1, 0, 1], [0, 1, 0]], [[1, 0, 1], [0, 1, 1]]
    assert compute("accuracy", predictions, references, "multilabel") == {"accuracy": 0.5}
    f1 = compute("f1", predictions, references, "multilabel", average="micro")["f1"]
    assert f1 == pytest.approx(2 * 3 / (3 + 4))
    with pytest.raises(ValueError, match="0 and 1"):
        compute("accuracy", [[2, 0]], [[1, 0]], "multilabel")


def test_correlations_by_hand():
    # Deviations from the means: (-1.5, -0.5, 0.5, 1.5) and (-4, -3, -1, 8).
    predictions, references = [1, 2, 3, 4], [2, 3, 5, 14]
    expected = (6 + 1.5 - 0.5 + 12) / math.sqrt(5 * (16 + 9 + 1 + 64))
    assert compute("pearson", predictions, references) == {"pearsonr": pytest.approx(expected)}
    assert compute("spearman", predictions, references) == {"spearmanr": pytest.approx(1.0)}
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 · 4 / (4 · 15).
    assert compute("spearman", predictions, [3, 2, 14, 5])["spearmanr"] == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlations_agree_with_scipy(name):
    import scipy.stats

    values = (
        np.random.default_rng(0).normal(size=(2, 50, 1)).astype(np.float32)
    )  # the shape of a regression's logits
    expected = getattr(scipy.stats, f"{name}r")(
        values[0, :, 0].astype(float), values[1, :, 0].astype(float)
    )
    made = compute(name, *values, return_pvalue=True)
    assert made == {
        f"{name}r": pytest.approx(expected.statistic),
        "p-value": pytest.approx(expected.pvalue),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlation_of_equal_predictions_is_undefined(name):
    assert math.isnan(compute(name, [1.0, 1.0, 1.0], [1.0, 2.0, 3.0])[f"{name}r"])
    with pytest.raises(ValueError, match="at least 2 rows"):
        compute(name, [1.0], [1.0])


# Entities


def test_entities_by_hand():
    references = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]]
    predictions = [["B-PER", "I-PER", "O", "B-PER"], ["B-LOC", "O"]]
    made = compute("entity_scores", predictions, references)
    assert made.pop("PER") == pytest.approx(
        {"precision": 1 / 2, "recall": 1.0, "f1": 2 / 3, "number": 1}
    )
    assert made.pop("LOC") == pytest.approx(
        {"precision": 1.0, "recall": 1 / 2, "f1": 2 / 3, "number": 2}
    )
    overall = {
        "overall_precision": 2 / 3,
        "overall_recall": 2 / 3,
        "overall_f1": 2 / 3,
        "overall_accuracy": 5 / 6,
    }
    assert made == pytest.approx(overall)


@pytest.mark.parametrize("options", [{}, {"mode": "strict", "scheme": "IOB2"}])
def test_entities_agree_with_seqeval(options):
    from seqeval import metrics as seqeval
    from seqeval.scheme import IOB2

    tags = np.array(["O", "B-A", "I-A", "B-B", "I-B"])
    generator = np.random.default_rng(0)
    rows = [[tags[generator.integers(0, 5, 9)].tolist() for _ in range(30)] for _ in range(2)]
    theirs = {**options, "scheme": IOB2} if options else {}
    made = compute("entity_scores", *rows, **options)
    for name in ("precision", "recall", "f1"):
        expected = getattr(seqeval, f"{name}_score")(rows[1], rows[0], **theirs)
        assert made[f"overall_{name}"] == pytest.approx(expected)
        each = getattr(seqeval, f"{name}_score")(rows[1], rows[0], average=None, **theirs)
        assert [made["A"][name], made["B"][name]] == pytest.approx(each.tolist())


@pytest.mark.filterwarnings("error")
def test_entities_where_there_are_none():
    made = compute("entity_scores", [["O", "O"]], [["O", "O"]])
    zero = dict.fromkeys(("overall_precision", "overall_recall", "overall_f1"), 0.0)
    assert made == {**zero, "overall_accuracy": 1.0}
    made = compute("entity_scores", [["B-X", "O"]], [["O", "O"]])
    assert made["X"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "number": 0}


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([["O"]], "as many tags, got 1 and 2 in row 0"),
        ([["PER", "O"]], "'PER' in row 0"),
        ([["X-PER", "O"]], "'X-PER' in row 0"),
        (["OO"], "lists of at least one string"),
        ([[1, 2]], r"predictions\[0\] must be strings, got int"),
    ],
)
def test_entities_refuse_what_is_no_tag(predictions, message):
    with pytest.raises(ValueError, match=message):
        compute("entity_scores", predictions, [["B-PER", "O"]])


def test_entities_refuse_half_a_strict_mode():
    for options in ({"mode": "strict"}, {"scheme": "IOB2"}, {"mode": "loose", "scheme": "IOB2"}):
        with pytest.raises(ValueError, match="mode must be"):
            compute("entity_scores", [["O"]], [["O"]], **options)
    with pytest.raises(ValueError, match="scheme must be"):
        compute("entity_scores", [["O"]], [["O"]], mode="strict", scheme="IOB9")


# What all share


@pytest.mark.parametrize("name", metrics.METRICS)
def test_bad_rows_are_refused(name):
    prediction, reference = ONE_ROW[name]
    metric = metrics.load(name)
    with pytest.raises(ValueError, match="equal lengths, got 2 and 1"):
        metric.compute(predictions=[prediction] * 2, references=[reference])
    with pytest.raises(ValueError, match="predictions must not be empty"):
        metric.compute(predictions=[], references=[])
    with pytest.raises(ValueError, match="references must be a list"):
        metric.compute(predictions=[prediction])
    with pytest.raises(ValueError, match="missing"):
        metric.compute()
    if not name.startswith(("pearson", "spearman")):  # the refusals left nothing behind
        assert metric.compute(predictions=[prediction], references=[reference])


@pytest.mark.parametrize("name", NUMBER_METRICS[:3])
def test_scores_are_not_taken_for_classes(name):
    for predictions in ([0.2, 0.8], [[0.2, 0.8], [0.6, 0.4]], ["0", "1"]):
        with pytest.raises(ValueError, match="argmax"):
            compute(name, predictions, [0, 1])


@pytest.mark.parametrize("name", metrics.METRICS)
def test_batches_and_single_rows_add_up(name):
    prediction, reference = ONE_ROW[name]
    pairs = [(prediction, reference), (prediction, reference)]
    if name.startswith("squad"):
        pairs[1] = ({**prediction, "id": "b"}, {**reference, "id": "b", "answers": {"text": ["y"]}})
    elif name in NUMBER_METRICS:
        pairs[1] = (0, 0)
    whole = compute(name, [pair[0] for pair in pairs], [pair[1] for pair in pairs])
    metric = metrics.load(name)
    metric.add(prediction=pairs[0][0], reference=pairs[0][1])
    metric.add_batch(predictions=[pairs[1][0]], references=[pairs[1][1]])
    assert metric.compute() == whole


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_lists_arrays_and_tensors(make):
    assert metrics.Accuracy().compute(predictions=make([1, 0]), references=make([1, 1])) == {
        "accuracy": 0.5
    }


def test_names_and_configs():
    assert type(metrics.load("seqeval")) is metrics.EntityScores
    assert type(metrics.load("pearsonr")) is metrics.Pearson
    with pytest.raises(ValueError, match="name must be one of .*'accuracy'.*got 'exactness'"):
        metrics.load("exactness")
    with pytest.raises(ValueError, match="config_name must be one of"):
        metrics.load("rouge", "multilabel")


@pytest.mark.parametrize("name", metrics.METRICS)
def test_evaluate_loads_each_file(name):
    metric = evaluate.load(metrics.metric_path(name))
    assert type(metric).__name__ == metrics.METRICS[name].__name__
    assert metric.keep_in_memory  # though evaluate.load says otherwise
    rows = [ONE_ROW[name]] + ([(0, 0)] if name in NUMBER_METRICS else [])
    given = {"predictions": [row[0] for row in rows], "references": [row[1] for row in rows]}
    assert metric.compute(**given) == metrics.load(name).compute(**given)


def test_evaluate_combines_and_passes_the_config():
    combined = evaluate.combine([metrics.Accuracy(), metrics.F1()])
    made = combined.compute(predictions=[1, 1, 0], references=[1, 0, 0])
    assert made == {"accuracy": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3)}
    multilabel = evaluate.load(metrics.metric_path("accuracy"), "multilabel")
    assert multilabel.compute(predictions=[[1, 0]], references=[[1, 0]]) == {"accuracy": 1.0}


IMPORT = """
import sys
from bertlite import metrics
print(sorted({"seqeval", "sacrebleu", "rouge_score"} & set(sys.modules)))
metrics.load("rouge").compute(predictions=["a"], references=["a"])
print(sorted({"seqeval", "sacrebleu", "rouge_score"} & set(sys.modules)))
"""
LOAD = """
import sys, evaluate
metric = evaluate.load(sys.argv[1])
for _ in range(20):
    metric.add_batch(predictions=[1, 0], references=[1, 1])
print(metric.compute())
"""


def run(code, home, *arguments):
    """Run `code` in a fresh process whose caches lie below `home`."""
    environment = {
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=300
    ).stdout


@pytest.mark.slow
def test_wrapped_libraries_are_imported_on_use_and_nothing_is_written(tmp_path):
    assert run(IMPORT, tmp_path).split("\n")[:2] == ["[]", "['rouge_score']"]
    assert not list(tmp_path.rglob("*.arrow"))
    assert not (tmp_path / "hf" / "metrics").exists()


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, LOAD, tmp_path, metrics.metric_path("accuracy")) for _ in range(2)]
        assert [each.result() for each in runs] == ["{'accuracy': 0.5}\n"] * 2
    assert not (tmp_path / "hf" / "metrics").exists()  # where evaluate keeps its files
