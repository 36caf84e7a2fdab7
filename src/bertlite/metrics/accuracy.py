"""The share of right answers."""

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric, class_numbers


class Accuracy(OfflineMetric):
    """Accuracy.

    Rows predicted right, of all rows; in config "multilabel", rows with every label right.

    Rows are class numbers, or with "multilabel" lists of 0 and 1, one a label.
    """

    configs = ("default", "multilabel")
    source = "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.accuracy_score.html"

    def row_features(self) -> Features:
        row = List(Value("int64")) if self.config_name == "multilabel" else Value("int64")
        return Features({"predictions": row, "references": row})

    def prepare(self, name: str, values) -> list:
        return class_numbers(name, values, 2 if self.config_name == "multilabel" else 1)

    def _compute(self, *, predictions, references, normalize: bool = True, sample_weight=None):
        """Compute accuracy.

        Args:
            normalize: False gives the number of right rows in place of their share.
            sample_weight: `(N,)` weights of the rows.

        Returns:
            `{"accuracy": float}`.
        """
        from sklearn.metrics import accuracy_score

        score = accuracy_score(
            references, predictions, normalize=normalize, sample_weight=sample_weight
        )
        return {"accuracy": float(score)}
