"""Scores of named entities, by seqeval."""

import warnings

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric, string_lists


class EntityScores(OfflineMetric):
    """Precision, recall and F1 of whole entities: one is right where type and both ends are right (CoNLL 2003).

    Rows are lists of tags, one a word: "O", or a prefix and a type, such as "B-PER", "I-PER", in IOB1, IOB2, IOE1,
    IOE2 or IOBES.
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
            scheme: "IOB1", "IOB2", "IOE1", "IOE2", "IOBES" or "BILOU"; needed by `mode="strict"` only.
            mode: None counts as conlleval does, which forgives an entity that begins with I; "strict" does not.
            zero_division: the score where there is nothing to divide by.

        Returns:
            `overall_precision`, `overall_recall`, `overall_f1` (over all entities), `overall_accuracy` (of tags), and
            for each type `{"precision", "recall", "f1", "number"}`.

        Raises:
            ValueError: rows of unequal length, a tag that is none, or an unknown scheme or mode.
        """
        seqeval_metrics, scheme_class = _import_seqeval(scheme)
        if mode not in (None, "strict") or (mode == "strict") != (scheme is not None):
            raise ValueError(f"mode must be None without a scheme or 'strict' with one, got {mode!r} and {scheme!r}")
        _check_tags(predictions, references, suffix, "BILU" if scheme == "BILOU" else "BIES")
        options = {"suffix": suffix, "scheme": scheme_class, "mode": mode, "zero_division": zero_division}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # seqeval averages over no types where there are no entities
            if any(tag != "O" for rows in (predictions, references) for row in rows for tag in row):
                report = seqeval_metrics.classification_report(references, predictions, output_dict=True, **options)
            else:  # seqeval has no average over no types
                report = {"micro avg": dict.fromkeys(("precision", "recall", "f1-score"), zero_division)}
        overall = report.pop("micro avg")
        types = {name: scores for name, scores in report.items() if name not in ("macro avg", "weighted avg")}
        made = {
            name: {
                "precision": float(scores["precision"]),
                "recall": float(scores["recall"]),
                "f1": float(scores["f1-score"]),
                "number": int(scores["support"]),
            }
            for name, scores in types.items()
        }
        return {
            **made,
            "overall_precision": float(overall["precision"]),
            "overall_recall": float(overall["recall"]),
            "overall_f1": float(overall["f1-score"]),
            "overall_accuracy": float(seqeval_metrics.accuracy_score(references, predictions)),
        }


def _import_seqeval(scheme: str | None):
    """Seqeval's metrics, and the class of a scheme."""
    try:
        from seqeval import metrics, scheme as schemes
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
                f"predictions and references must have as many tags, got {len(predicted)} and {len(true)} in row {row}"
            )
        for name, tags in (("predictions", predicted), ("references", true)):
            for tag in tags:
                prefix, _, kind = tag[::-1].partition("-") if suffix else tag.partition("-")
                if tag != "O" and (len(prefix) != 1 or prefix not in prefixes or not kind):
                    form = f"TYPE-[{prefixes}]" if suffix else f"[{prefixes}]-TYPE"
                    raise ValueError(f"{name} must be tags 'O' or {form}, got {tag!r} in row {row}")
