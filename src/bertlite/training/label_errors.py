"""Rows whose label is probably wrong, found by models that have not seen them.

A classifier over vectors of a model and over words is trained on four fifths of the rows and asked
about the last fifth, in turn; where it is sure of another label than the one given, the row is
suspect. What is sure enough is decided by cleanlab (Northcutt et al. 2021, confident learning,
https://arxiv.org/abs/1911.00068).

Shapes: `N` rows, `L` labels, `E` numbers a vector.
"""

import importlib.util
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..data.places import called
from ..data.problems import BadRow, Problems
from ..data.rows import Wanted
from ..data.sources import open_source
from ..inference.encode import encode
from ..inference.loading import check_counts
from ..tasks.sequence_classification import SINGLE, ClassificationRows

INVERSE_PENALTY = 10.0  # of the classifier's weights
ROUNDS = 2  # cuttings into folds, over which probabilities are averaged
WORDS = 50_000  # words and pairs of words that are counted at most
INSTALL = 'check_labels needs cleanlab; install it with: pip install "bertlite[labels]"'


@dataclass
class LabelCheck:
    """What a check of labels found.

    Attributes:
        suspects: a dict a row, the most suspect first: `row` (from 1, in the order of the data),
            `where` (as errors name it), `given`, `suggested`, `confidence` (in the suggested label,
            0 to 1), `given_confidence` (in the given one), `text`.
        rows: how many were checked.
        agreement: the share of them where the held-out prediction is the given label. What is found
            can be no better than the predictions are.
        unchecked: labels with too few different texts to be checked, and their rows.
        contradictions: rows whose text stands there with another label too.
        problems: bad rows that were left out.
    """

    suspects: list[dict[str, Any]]
    rows: int
    agreement: float
    unchecked: dict[str, int] = field(default_factory=dict)
    contradictions: int = 0
    problems: Problems = field(default_factory=Problems, repr=False)

    def __str__(self) -> str:
        """The findings in lines for the screen."""
        lines = [
            f"{self.rows:,} rows checked, {len(self.suspects):,} of them suspect; held-out "
            f"predictions agree with {self.agreement:.1%} of the labels given"
        ]
        if self.agreement < 0.75:
            lines.append(
                "predictions are wrong too often to be trusted: most of these rows will be right; "
                "try another model"
            )
        if self.contradictions:
            lines.append(f"{self.contradictions:,} rows have a text that has another label too")
        if self.unchecked:
            named = ", ".join(f"{name} ({count})" for name, count in self.unchecked.items())
            lines.append(f"labels with too few rows to be checked: {named}")
        if self.problems:
            lines.append(f"left out: {self.problems}")
        return "\n".join(lines)


def check_labels(
    data: Any,
    model: Any = None,
    tokenizer: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    on_bad_row: str = "stop",
    encoding: str | None = None,
    folds: int = 5,
    max_length: int | None = None,
    device: Any = None,
    seed: int = 42,
    show_progress: bool = False,
) -> LabelCheck:
    """Find rows of texts, or pairs of texts, whose class is probably wrong.

    It finds single mistakes: a slip of the hand, rows that were mixed up. It does not find what is
    wrong throughout (a kind of text that always has the wrong label looks right), says nothing of
    rows with several labels, of scores or of words, and changes nothing: somebody must look.

    Args:
        data: a file with `text` and `label`, or whatever else `bertlite.data.prepare` takes.
        model: a folder, a hub name or a loaded encoder whose vectors are read (see
            `bertlite.encode`): one that was not trained on these labels. None: words alone.
        tokenizer: its tokenizer; None: the one beside it.
        columns: role → column, where they have other names.
        on_bad_row: "stop" or "skip".
        encoding: of a text file.
        folds: into how many parts rows are cut; each is judged by a classifier of the others. Equal
            texts are in one part.
        max_length: tokens of a text that the model reads.
        device: where it runs.
        seed: draws the parts.
        show_progress: a bar over the texts that are encoded.

    Returns:
        The suspects, and what is to be known of the check.

    Raises:
        ValueError: cleanlab is not installed, bad rows, labels that are no classes, too few rows.
    """
    if importlib.util.find_spec("cleanlab") is None:
        raise ValueError(INSTALL)
    check_counts(2, folds=folds)
    with called("data", "train"):
        rows, names, problems = read_rows(data, columns, on_bad_row, encoding)
    rows, unchecked = with_enough_rows(rows, names, folds)
    labels = np.asarray([row["label"] for row in rows])
    texts = [" \n ".join(text_parts(row)) for row in rows]
    found: list[Any] = [word_counts(texts)]
    if model is not None:
        options = {"max_length": max_length, "device": device, "show_progress": show_progress}
        found.append(vectors_of(rows, model, tokenizer, options))
    kept, numbers = np.unique(labels, return_inverse=True)
    scores = held_out_scores(found, numbers, texts, folds, seed)
    return LabelCheck(
        suspects_of(rows, [names[number] for number in kept], numbers, scores),
        len(rows),
        float((scores.argmax(1) == numbers).mean()),
        unchecked,
        contradictions(texts, numbers),
        problems,
    )


def read_rows(
    data: Any, columns: Mapping[str, str] | None, on_bad_row: str, encoding: str | None
) -> tuple[list[dict[str, Any]], list[str], Problems]:
    """Canonical rows with their places, the names of the labels, and what was left out."""
    how = replace(ClassificationRows.opening(require_labels=True), encoding=encoding)
    source = open_source(data, split="train", how=how)
    reader = ClassificationRows.open(source, Wanted(columns))
    if reader.labels is None or reader.labels.problem_type != SINGLE:
        kind = getattr(reader.labels, "problem_type", "none")
        raise ValueError(f"check_labels takes rows with one class each, got labels of kind {kind}")
    problems = Problems(on_bad_row)
    rows = []
    for number, (where, row) in enumerate(source, start=1):
        try:
            if isinstance(row, BadRow):
                raise row
            rows.append({**reader.read(row), "row": number, "where": where})
        except BadRow as bad:
            problems.add(where, bad)
    problems.raise_if_any()
    return rows, list(reader.labels.names or []), problems


def with_enough_rows(
    rows: list[dict[str, Any]], names: Sequence[str], folds: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of labels that have a different text for each part, and the rows of the others.

    Raises:
        ValueError: fewer than two such labels.
    """
    different: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    for row in rows:
        different[row["label"]].add(text_parts(row))
    few = {label for label, texts in different.items() if len(texts) < folds}
    if len(different) - len(few) < 2:
        raise ValueError(
            f"data must hold two labels with at least {folds} different texts each (folds), got "
            f"{ {names[label]: len(texts) for label, texts in different.items()} }"
        )
    counts = Counter(row["label"] for row in rows)
    unchecked = {names[label]: counts[label] for label in sorted(few)}
    return [row for row in rows if row["label"] not in few], unchecked


def text_parts(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The text of a row, or both of a pair."""
    return tuple(row[name] for name in ("text", "text_pair") if name in row)


def word_counts(texts: Sequence[str]) -> Any:
    """Words and pairs of words of each text, weighed by how rare they are: `(N, words)`, sparse."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    options = {"ngram_range": (1, 2), "sublinear_tf": True, "max_features": WORDS}
    try:
        return TfidfVectorizer(min_df=2, **options).fit_transform(texts)
    except ValueError:  # no word stands in two of them, or there are no words: letters then
        return TfidfVectorizer(analyzer="char", **options).fit_transform(texts)


def vectors_of(
    rows: Sequence[Mapping[str, Any]], model: Any, tokenizer: Any, options: Mapping[str, Any]
) -> np.ndarray:
    """`(N, E)`; of pairs the vectors of both and how far they differ, `(N, 3 · E)`."""
    sides = [
        np.asarray(encode([row[name] for row in rows], model, tokenizer, **options))
        for name in ("text", "text_pair")
        if name in rows[0]
    ]
    if len(sides) == 1:
        return sides[0]
    return np.concatenate([*sides, np.abs(sides[0] - sides[1])], axis=1)


def held_out_scores(
    features: Sequence[Any], labels: np.ndarray, texts: Sequence[str], folds: int, seed: int
) -> np.ndarray:
    """Probabilities `(N, L)` of each row by classifiers that have seen neither it nor its text."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    inputs = hstack([csr_matrix(each) for each in features]).tocsr()
    numbers: dict[str, int] = {}
    groups = np.asarray([numbers.setdefault(text, len(numbers)) for text in texts])
    scores = np.zeros((len(labels), labels.max() + 1))
    for turn in range(ROUNDS):
        cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + turn)
        for seen, held in cut.split(inputs, labels, groups):
            classifier = LogisticRegression(C=INVERSE_PENALTY, max_iter=300)
            classifier.fit(inputs[seen], labels[seen])
            part = classifier.predict_proba(inputs[held])
            scores[np.ix_(held, classifier.classes_)] += part / ROUNDS
    return scores


def suspects_of(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], labels: np.ndarray, scores: np.ndarray
) -> list[dict[str, Any]]:
    """The rows that cleanlab takes for mistakes, least sure of the given label first."""
    from cleanlab.filter import find_label_issues

    places = find_label_issues(
        labels,
        scores,
        filter_by="low_self_confidence",
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    found = []
    for place in places.tolist():
        others = scores[place].copy()
        others[labels[place]] = -1
        best = int(others.argmax())
        found.append(
            {
                "row": rows[place]["row"],
                "where": rows[place]["where"],
                "given": names[labels[place]],
                "suggested": names[best],
                "confidence": round(float(others[best]), 4),
                "given_confidence": round(float(scores[place, labels[place]]), 4),
                "text": " / ".join(text_parts(rows[place])),
            }
        )
    return found


def contradictions(texts: Sequence[str], labels: np.ndarray) -> int:
    """Rows whose text has another label elsewhere."""
    seen: dict[str, set[int]] = defaultdict(set)
    for text, label in zip(texts, labels.tolist(), strict=True):
        seen[text].add(label)
    return sum(len(seen[text]) > 1 for text in texts)
