"""What the metrics share: their input is checked before it is stored, and it is stored in memory.

`evaluate` writes predictions to a file below the user's cache, which fails in a read-only home, and
converts what does not fit (0.7 becomes class 0). Here one process keeps them in memory; several
processes (`num_process`) use the files.

`evaluate.load(path)` copies a metric's file elsewhere and takes the first class in it that is a
concrete `EvaluationModule`. So a metric's file holds one class, imports this package by its
absolute name, and finds the base class below skipped, since that one is abstract.
"""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import evaluate
import numpy as np
from datasets import Features


class OfflineMetric(evaluate.Metric, ABC):
    """Base of the metrics. A metric says what a row holds, checks its input and computes.

    Args:
        config_name: one of `configs`.
        keep_in_memory: for `evaluate.load`, which passes it; only several processes ever use files.
        num_process: processes that share one evaluation.
        kwargs: further arguments of `evaluate.Metric`.

    Raises:
        ValueError: an unknown `config_name`.
    """

    configs: ClassVar[tuple[str, ...]] = ("default",)
    source: ClassVar[str] = ""  # the address of the reference implementation

    def __init__(
        self,
        config_name: str | None = None,
        keep_in_memory: bool = True,
        num_process: int = 1,
        **kwargs,
    ):
        if (config_name or "default") not in self.configs:
            raise ValueError(
                f"{type(self).__name__}: config_name must be one of {self.configs}, got "
                f"{config_name!r}"
            )
        super().__init__(
            config_name, keep_in_memory=num_process == 1, num_process=num_process, **kwargs
        )

    @abstractmethod
    def row_features(self) -> Features:
        """What a row of `predictions` and `references` holds."""

    @abstractmethod
    def prepare(self, name: str, values) -> list:
        """Check the rows given as argument `name` and bring them into the form of `row_features`.

        Raises:
            ValueError: a row does not fit.
        """

    @abstractmethod
    def _compute(self, *, predictions, references) -> dict[str, Any]:
        """The metric of all rows; a subclass may take options."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=inspect.getdoc(type(self)) or "",
            citation="",
            inputs_description=inspect.getdoc(self._compute) or "",
            features=self.row_features(),
            reference_urls=[self.source],
        )

    def _build_data_dir(self) -> str:
        return "" if self.keep_in_memory else super()._build_data_dir()

    def compute(self, *, predictions=None, references=None, **kwargs) -> dict[str, Any]:
        """Compute the metric of the rows given here and of those added before.

        Of several processes (`num_process`), all but the first get an empty dict.

        Raises:
            ValueError: no rows at all, or see `add_batch`.

        """
        if predictions is None and references is None and not len(self):
            raise ValueError(
                f"{type(self).__name__}: predictions and references are missing, and none were "
                "added"
            )
        return super().compute(predictions=predictions, references=references, **kwargs) or {}

    def add_batch(self, *, predictions=None, references=None, **kwargs) -> None:
        """Store a batch of rows for `compute`.

        Raises:
            ValueError: rows that are missing, empty, of unequal number, or of the wrong kind.

        """
        if kwargs:
            raise ValueError(
                f"{type(self).__name__}: takes predictions and references, got {sorted(kwargs)} too"
            )
        given = {"predictions": predictions, "references": references}
        for name, values in given.items():
            if (
                values is None
                or not hasattr(values, "__len__")
                or isinstance(values, str | bytes | dict)
            ):
                raise ValueError(
                    f"{name} must be a list or array of rows, got {type(values).__name__}"
                )
            if not len(values):
                raise ValueError(f"{name} must not be empty, got no rows")
        if len(predictions) != len(references):
            raise ValueError(
                f"predictions and references must have equal lengths, got {len(predictions)} and "
                f"{len(references)}"
            )
        super().add_batch(**{name: self.prepare(name, values) for name, values in given.items()})

    def add(self, *, prediction=None, reference=None, **kwargs) -> None:
        """Store one row for `compute`; errors as in `add_batch`."""
        self.add_batch(predictions=[prediction], references=[reference], **kwargs)


def class_numbers(name: str, values, dimensions: int = 1) -> list:
    """Class numbers as nested lists of Python integers.

    Args:
        name: the argument to blame.
        values: `(N,)` class numbers, or `(N, labels)` of 0 and 1 where `dimensions` is 2.

    Raises:
        ValueError: another number of dimensions, or no integers (such as scores of which nobody
            took the largest).
    """
    array = as_array(name, values)
    if array.ndim != dimensions or array.dtype.kind not in "iub":
        hint = (
            "take the argmax over the classes first"
            if dimensions == 1
            else "compare the scores with a threshold"
        )
        came = f"{array.dtype} of shape {array.shape}"
        raise ValueError(
            f"{name} must be integers in {dimensions} dimension(s), got {came}; from scores, {hint}"
        )
    if dimensions == 2 and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold 0 and 1 only, one a label, got {array.max()}")
    return array.astype(np.int64).tolist()


def real_numbers(name: str, values) -> list[float]:
    """`(N,)` or `(N, 1)` scores as a list of Python floats.

    Raises:
        ValueError: another shape, or no numbers.
    """
    array = as_array(name, values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} must be numbers of shape (N,), got {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.float64).tolist()


def as_array(name: str, values) -> np.ndarray:
    """`values` as an array, or a ValueError where their rows differ in length."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must have rows of one length and kind ({error})") from error


def strings(name: str, values) -> list[str]:
    """`values`, or a ValueError that names the first row that is no string."""
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(f"{name} must be strings, got {type(value).__name__} in row {row}")
    return [str(value) for value in values]


def string_lists(name: str, values, allow_single: bool = False) -> list[list[str]]:
    """Rows that are lists of strings, none empty.

    Args:
        name: the argument to blame.
        values: `N` lists of strings.
        allow_single: whether a row may be one string, which then stands for a list of one.

    Raises:
        ValueError: a row is no list of strings, or empty.
    """
    rows = []
    for row, value in enumerate(values):
        value = [value] if allow_single and isinstance(value, str) else value
        if isinstance(value, str) or not hasattr(value, "__len__") or not len(value):
            raise ValueError(
                f"{name} must be lists of at least one string, got {value!r} in row {row}"
            )
        rows.append(strings(f"{name}[{row}]", value))
    return rows
