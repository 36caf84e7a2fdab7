"""Classify texts: `python run.py TEXT ...`, or a text a line on the input.

A pair of texts has a tab between them.
"""

import numpy as np
from engine import load
from texts import CONFIG, LABELS, SETTINGS, count, main, own, run, softmax, windows

compute = load()


def classify(texts):
    """For each text its label and score, or those of several labels, as `bertlite.classify`."""
    groups = [rows_of(text) for text in texts]
    found = iter(run(compute, [row for rows, _ in groups for row in rows]))
    results = []
    for rows, cut in groups:
        logits = np.stack([next(found)[0] for _ in rows])
        spans = [own(row, cut) for row in rows]
        weights = np.array([max(end - start, 1) for start, end in spans])[:, None]
        results.append(decide((logits * weights).sum(0) / weights.sum()))
    return results


def rows_of(text):
    """The rows of a text or pair, and which of the two is cut: the longer one."""
    first, tab, second = text.partition("\t")
    if not tab:
        return windows(text), 0
    cut = int(count(second) > count(first))
    return windows(first, second, cut), cut


def decide(logits, threshold=0.5):
    """Logits to labels with scores, by the model's kind."""
    kind = CONFIG.get("problem_type") or ("regression" if len(LABELS) == 1 else "single")
    scores = logits / SETTINGS["temperature"]
    if kind == "regression":
        scores = logits
    elif kind == "multi_label_classification":
        scores = 1 / (1 + np.exp(-scores))
    else:
        scores = softmax(scores)
    labels = [{"label": LABELS[n], "score": float(each)} for n, each in enumerate(scores)]
    if kind == "regression":
        return labels[0] if len(labels) == 1 else labels
    labels.sort(key=lambda each: -each["score"])
    if kind == "multi_label_classification":
        return [each for each in labels if each["score"] >= threshold]
    return labels[0]


if __name__ == "__main__":
    main(classify)
