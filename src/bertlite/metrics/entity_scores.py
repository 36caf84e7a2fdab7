"""Scores of named entities, by seqeval."""

import warnings
from typing import Any

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric, string_lists

REPORTED = ("precision", "recall", "f1-score")  # in seqeval's report
AVERAGES = {"micro avg", "macro avg", "weighted avg"}


class EntityScores(OfflineMetric):
    """Precision, recall and F1 of whole entities.

    One is right where type and both ends are right (CoNLL 2003).

    Rows are lists of tags, one a word: "O", or a prefix and a type, such as "B-PER", "I-PER", in
    IOB1, IOB2, IOE1, IOE2 or IOBES.
    """

    source = "https://github.com/chakki-works/seqeval"

    def row_features(self) -> Features:
        return Features({"predictions": List(Value("string")), "references": List(Value("string"))})

    def prepare(self, name: str, values) -> list:
        return string_lists(name, values)

    def _compute(
        self,
        *,
        predictions,
        references,
        suffix: bool = False,
        scheme: str | None = None,
        mode: str | None = None,
        zero_division: int = 0,
    ):
        """Compute the scores of entities.

        Args:
            suffix: whether the prefix stands last ("PER-B").
            scheme: "IOB1", "IOB2", "IOE1", "IOE2", "IOBES" or "BILOU"; needed by `mode="strict"`
                only.
            mode: None counts as conlleval does, which forgives an entity that begins with I;
                "strict" does not.
            zero_division: the score where there is nothing to divide by.

        Returns:
            `overall_precision`, `overall_recall`, `overall_f1` (over all entities),
            `overall_accuracy` (of tags), and for each type `{"precision", "recall", "f1",
            "number"}`.

        Raises:
            ValueError: rows of unequal length, a tag that is none, or an unknown scheme or mode.
        """
        seqeval_metrics, scheme_class = _import_seqeval(scheme)
        if mode not in (None, "strict") or (mode == "strict") != (scheme is not None):
            raise ValueError(
                f"mode must be None without a scheme or 'strict' with one, got {mode!r} and "
                f"{scheme!r}"
            )
        _check_tags(predictions, references, suffix, "BILU" if scheme == "BILOU" else "BIES")
        options = {
            "suffix": suffix,
            "scheme": scheme_class,
            "mode": mode,
            "zero_division": zero_division,
        }
        report = _report(seqeval_metrics, references, predictions, options)
        made: dict[str, Any] = {
            f"overall_{name}": score for name, score in _scores(report["micro avg"]).items()
        }
        for name in sorted(report.keys() - AVERAGES):
            made[name] = {**_scores(report[name]), "number": int(report[name]["support"])}
        made["overall_accuracy"] = float(seqeval_metrics.accuracy_score(references, predictions))
        return made


def _scores(scores: dict) -> dict[str, float]:
    """The numbers of one entry of seqeval's report, under this metric's names."""
    return {
        name: float(scores[key])
        for name, key in zip(("precision", "recall", "f1"), REPORTED, strict=True)
    }


def _report(seqeval_metrics, references, predictions, options: dict) -> dict[str, dict]:
    """Seqeval's report, also where there are no entities, over which it has no average."""
    if all(tag == "O" for rows in (predictions, references) for row in rows for tag in row):
        return {"micro avg": dict.fromkeys(REPORTED, options["zero_division"])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's notices about types that occur on one side only
        return seqeval_metrics.classification_report(
            references, predictions, output_dict=True, **options
        )


def _import_seqeval(scheme: str | None):
    """Seqeval's metrics, and the class of a scheme."""
    try:
        from seqeval import metrics
        from seqeval import scheme as schemes
    except ImportError as error:
        raise ImportError("entity scores need seqeval: pip install 'bertlite[metrics]'") from error
    known = ("IOB1", "IOB2", "IOE1", "IOE2", "IOBES", "BILOU")
    if scheme is not None and scheme not in known:
        raise ValueError(f"scheme must be one of {known}, got {scheme!r}")
    return metrics, None if scheme is None else getattr(schemes, scheme)


def _check_tags(predictions, references, suffix: bool, prefixes: str) -> None:
    """Refuse, with a ValueError, what seqeval would count wrongly."""
    for row, (predicted, true) in enumerate(zip(predictions, references, strict=True)):
        if len(predicted) != len(true):
            raise ValueError(
                f"predictions and references must have as many tags, got {len(predicted)} and "
                f"{len(true)} in row {row}"
            )
        for name, tags in (("predictions", predicted), ("references", true)):
            for tag in tags:
                prefix, _, kind = tag[::-1].partition("-") if suffix else tag.partition("-")
                if tag != "O" and (len(prefix) != 1 or prefix not in prefixes or not kind):
                    form = f"TYPE-[{prefixes}]" if suffix else f"[{prefixes}]-TYPE"
                    raise ValueError(f"{name} must be tags 'O' or {form}, got {tag!r} in row {row}")
