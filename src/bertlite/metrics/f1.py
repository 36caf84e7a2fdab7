"""The harmonic mean of precision and recall."""

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric, class_numbers


class F1(OfflineMetric):
    """F1 = 2 · precision · recall / (precision + recall), of one class or averaged over classes.

    Rows are class numbers, or with config "multilabel" lists of 0 and 1, one a label.
    """

    configs = ("default", "multilabel")
    source = "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.f1_score.html"

    def row_features(self) -> Features:
        row = List(Value("int64")) if self.config_name == "multilabel" else Value("int64")
        return Features({"predictions": row, "references": row})

    def prepare(self, name: str, values) -> list:
        return class_numbers(name, values, 2 if self.config_name == "multilabel" else 1)

    def _compute(
        self,
        *,
        predictions,
        references,
        labels: list[int] | None = None,
        pos_label: int = 1,
        average: str | None = "binary",
        sample_weight=None,
        zero_division: float = 0.0,
    ):
        """Compute F1.

        Args:
            labels: classes to count; None: all that occur.
            pos_label: the class that counts where `average` is "binary".
            average: "binary", "micro", "macro", "weighted", "samples" (multilabel), or None for
                each class.
            sample_weight: `(N,)` weights of the rows.
            zero_division: the value where a class is neither predicted nor present.

        Returns:
            `{"f1": float}`, or a list of floats with `average=None`.

        Raises:
            ValueError: `average` does not fit the classes, such as "binary" for three.
        """
        from sklearn.metrics import f1_score

        score = f1_score(
            references,
            predictions,
            labels=labels,
            pos_label=pos_label,
            average=average,
            sample_weight=sample_weight,
            zero_division=zero_division,
        )
        return {"f1": score.tolist() if average is None else float(score)}
