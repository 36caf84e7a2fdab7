"""Pearson's correlation, a measure of STS-B."""

import warnings

from datasets import Features, Value

from bertlite.metrics.base import OfflineMetric, real_numbers


class Pearson(OfflineMetric):
    """Pearson's linear correlation of predicted and true scores, from -1 to 1.

    Rows are numbers. Where all predictions or all references are equal, the correlation is
    undefined: NaN.
    """

    source = "https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.pearsonr.html"

    def row_features(self) -> Features:
        return Features({"predictions": Value("float64"), "references": Value("float64")})

    def prepare(self, name: str, values) -> list:
        return real_numbers(name, values)

    def _compute(self, *, predictions, references, return_pvalue: bool = False):
        """Compute Pearson's correlation.

        Args:
            return_pvalue: whether to give the p-value of no correlation too.

        Returns:
            `{"pearsonr": float}`, and `"p-value"` if wanted.

        Raises:
            ValueError: fewer than two rows.
        """
        from scipy.stats import pearsonr

        if len(predictions) < 2:
            raise ValueError(
                f"predictions must have at least 2 rows for a correlation, got {len(predictions)}"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's notice that the answer is NaN
            result = pearsonr(predictions, references)
        made = {"pearsonr": float(result.statistic)}
        return {**made, "p-value": float(result.pvalue)} if return_pvalue else made
