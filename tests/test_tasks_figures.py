"""The tasks' figures where nothing is predicted, nothing is to be found, or there is one class.

Reference libraries.
"""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import sacrebleu
import seqeval.metrics
from rouge_score.rouge_scorer import RougeScorer
from sklearn import metrics as sklearn
from tasks_cases import LABELS

from bertlite.tasks import TASKS
from bertlite.tasks.sequence_classification import (
    multi_label_figures,
    regression_figures,
    single_label_figures,
)

AVERAGES = ("micro", "macro")


def tagger(names):
    return SimpleNamespace(
        config=SimpleNamespace(
            id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}
        )
    )


@pytest.mark.parametrize(
    ("truth", "found"),
    [
        ([["O", "O"], ["O"]], [["O", "O"], ["O"]]),
        ([["O", "O"], ["O"]], [["B-PER", "I-PER"], ["O"]]),
        ([["B-PER", "I-PER"], ["B-LOC"]], [["O", "O"], ["O"]]),
        ([["B-PER", "I-PER"], ["B-LOC"]], [["I-PER", "I-PER"], ["I-LOC"]]),
        ([["B-PER", "B-PER"], ["I-LOC"]], [["B-PER", "I-PER"], ["B-LOC"]]),
    ],
    ids=["all O", "none to find", "none found", "begun with I", "split"],
)
def test_entities_at_the_edges(truth, found):
    rows = [{"tags": [LABELS.index(label) for label in each]} for each in truth]
    figures = TASKS["token-classification"].score(
        rows, [{"tags": each} for each in found], tagger(LABELS)
    )
    for name in ("precision", "recall", "f1"):
        expected = getattr(seqeval.metrics, f"{name}_score")(truth, found, zero_division=0)
        assert figures[f"overall_{name}"] == pytest.approx(expected), name
    assert figures["overall_accuracy"] == pytest.approx(
        seqeval.metrics.accuracy_score(truth, found)
    )
    with warnings.catch_warnings(action="ignore"):
        report = seqeval.metrics.classification_report(
            truth, found, output_dict=True, zero_division=0
        )
    for kind in ("PER", "LOC"):
        if kind in report:
            assert figures[f"{kind}_f1"] == pytest.approx(report[kind]["f1-score"]), kind


def test_parts_of_speech_that_are_never_predicted():
    """Tags of no entities: macro F1 over every tag that occurs on either side."""
    names = ["ADJ", "NOUN", "VERB"]
    rows = [{"tags": [1, 2, 1]}, {"tags": [0]}]
    found = [{"tags": ["NOUN"] * 3}, {"tags": ["NOUN"]}]
    figures = TASKS["token-classification"].score(rows, found, tagger(names))
    truth, chosen = [1, 2, 1, 0], [1, 1, 1, 1]
    assert figures["overall_accuracy"] == sklearn.accuracy_score(truth, chosen)
    assert figures["overall_f1"] == pytest.approx(
        sklearn.f1_score(truth, chosen, average="macro", zero_division=0)
    )


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [0, 1, 0], [2, 2, 0]])
@pytest.mark.parametrize("chosen", [[0, 0, 0], [1, 1, 1], [1, 0, 2]])
def test_one_class_alone(labels, chosen):
    with warnings.catch_warnings(action="ignore"):
        found = single_label_figures(chosen, labels)
        expected = {
            "accuracy": sklearn.accuracy_score(labels, chosen),
            "f1_macro": sklearn.f1_score(labels, chosen, average="macro", zero_division=0),
            "matthews_correlation": sklearn.matthews_corrcoef(labels, chosen),
        }
        if {*labels, *chosen} <= {0, 1}:
            expected["f1"] = sklearn.f1_score(labels, chosen, zero_division=0)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("truth", [[[0, 0], [0, 0]], [[1, 0], [1, 1]]])
@pytest.mark.parametrize("marks", [[[0, 0], [0, 0]], [[1, 1], [1, 1]], [[0, 1], [0, 0]]])
def test_rows_without_any_label(truth, marks):
    truth, marks = np.array(truth), np.array(marks)
    found = multi_label_figures(marks, truth)
    assert found["accuracy"] == sklearn.accuracy_score(truth, marks)
    for average in AVERAGES:
        expected = sklearn.f1_score(truth, marks, average=average, zero_division=0)
        assert found[f"f1_{average}"] == pytest.approx(expected), average


def test_a_single_number():
    assert regression_figures(np.array([[2.0]]), np.array([[0.5]])) == {
        "mse": 2.25,
        "pearsonr": 0,
        "spearmanr": 0,
    }


def question(number, texts):
    return {
        "id": str(number),
        "question": "who",
        "context": "-",
        "answers": {"text": texts, "answer_start": []},
    }


NO, YES = [], ["the cat"]


@pytest.mark.parametrize(
    ("answers", "found", "expected"),
    [
        ([NO, NO], ["", ""], {"exact": 100, "f1": 100, "NoAns_f1": 100, "NoAns_total": 2}),
        (
            [NO, NO],
            ["cat", "the"],
            {"exact": 50, "f1": 50, "NoAns_exact": 50},
        ),  # an article is no word
        ([YES, ["a mat", "mat"]], ["", ""], {"exact_match": 0, "f1": 0}),
        # F1 of "mat and cat" for "mat": 2 · ⅓ · 1 / (⅓ + 1) = ½
        ([YES, ["a mat", "mat"]], ["Cat!", "the mat and the cat"], {"exact_match": 50, "f1": 75}),
        (
            [YES, NO],
            ["", ""],
            {"exact": 50, "f1": 50, "HasAns_f1": 0, "NoAns_f1": 100, "HasAns_total": 1},
        ),
        # F1 of "cat sat" for "cat": 2 · ½ · 1 / (½ + 1) = ⅔; a word where there is no answer is 0
        (
            [YES, NO],
            ["the cat sat", "cat"],
            {"exact": 0, "f1": 100 / 3, "HasAns_f1": 200 / 3, "NoAns_f1": 0},
        ),
        (
            [YES, NO],
            ["the cat", ""],
            {"exact": 100, "f1": 100, "HasAns_exact": 100, "NoAns_exact": 100},
        ),
    ],
)
def test_answers_where_there_are_none(answers, found, expected):
    """By hand, by the rules of SQuAD's own script.

    Questions with answers alone are measured as SQuAD 1 does.
    """
    rows = [question(number, texts) for number, texts in enumerate(answers)]
    figures = TASKS["question-answering"].score(rows, [{"answer": text} for text in found], None)
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert ("HasAns_f1" in figures) == (NO in answers and YES in answers)
    assert ("NoAns_f1" in figures) == (NO in answers)


@pytest.mark.parametrize(
    "found", [["", ""], ["Anna went to paris", ""], ["anna", "x y z"], ["...", "!"]]
)
def test_texts_of_nothing(found):
    targets = ["Anna went to paris", "the cat sat on a mat"]
    rows, texts = [{"target": target} for target in targets], [{"text": text} for text in found]
    figures = TASKS["translation"].score(rows, texts, None)
    assert figures["bleu"] == pytest.approx(sacrebleu.corpus_bleu(found, [targets]).score)
    assert figures["chrf"] == pytest.approx(sacrebleu.corpus_chrf(found, [targets]).score)
    figures = TASKS["summarization"].score(rows, texts, None)
    assert figures.pop("rouge_tokenizer") == "unicode"
    scorer = RougeScorer(list(figures))
    scores = [scorer.score(target, text) for target, text in zip(targets, found, strict=True)]
    for name, value in figures.items():
        assert value == pytest.approx(np.mean([each[name].fmeasure for each in scores])), name


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_are_refused(task):
    with pytest.raises(
        ValueError, match=f"{task}: rows must hold at least one row to measure, got none"
    ):
        TASKS[task].measure([], None, None, None)
