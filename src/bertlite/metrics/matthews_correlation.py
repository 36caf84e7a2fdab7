"""Matthews' correlation, the measure of CoLA."""

import warnings

from datasets import Features, Value

from bertlite.metrics.base import OfflineMetric, class_numbers


class MatthewsCorrelation(OfflineMetric):
    """Matthews' correlation of predicted and true classes.

    1 all right, 0 no better than chance, -1 all wrong.

    It is 0 where only one class is predicted. Rows are class numbers.
    """

    source = (
        "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.matthews_corrcoef.html"
    )

    def row_features(self) -> Features:
        return Features({"predictions": Value("int64"), "references": Value("int64")})

    def prepare(self, name: str, values) -> list:
        return class_numbers(name, values)

    def _compute(self, *, predictions, references, sample_weight=None):
        """Compute Matthews' correlation.

        Args:
            sample_weight: `(N,)` weights of the rows.

        Returns:
            `{"matthews_correlation": float}`.
        """
        from sklearn.metrics import matthews_corrcoef

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's notice that there is one class only
            score = matthews_corrcoef(references, predictions, sample_weight=sample_weight)
        return {"matthews_correlation": float(score)}
