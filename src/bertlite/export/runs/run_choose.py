"""Choose: `python run.py QUESTION CHOICE CHOICE ...`, or a line of them with tabs on the input."""

import numpy as np
from engine import load
from texts import count, main_of_parts, own, run, softmax, windows

EXPECTED = "QUESTION and at least one CHOICE"
compute = load()


def choose(question, choices):
    """The best choice by its number and text, and the probabilities of all.

    A question that is too long is read in windows, each with each choice; where the longest choice
    is longer than it, the choices are cut.
    """
    longest = max(map(count, choices))
    cut = int(longest > count(question))
    groups = [
        windows(question, choice, cut, 0 if cut else longest - count(choice)) for choice in choices
    ]
    found = iter(run(compute_each, [row for rows in groups for row in rows]))
    scores = softmax(
        np.array([mean([next(found)[0][0] for _ in rows], rows, cut) for rows in groups])
    )
    best = int(scores.argmax())
    chosen = {"label": best, "choice": choices[best], "score": float(scores[best])}
    return {**chosen, "scores": scores.tolist()}


def compute_each(arrays):
    """The logits (rows, 1) of rows (rows, length), each a question with one choice."""
    return compute({name: each[:, None] for name, each in arrays.items()})


def mean(logits, rows, cut):
    """The mean over a choice's windows, each weighted by its tokens of the text that is cut."""
    spans = [own(row, cut) for row in rows]
    return np.average(logits, weights=[max(end - start, 1) for start, end in spans])


if __name__ == "__main__":
    main_of_parts(lambda question, *choices: choose(question, choices), EXPECTED, 2)
