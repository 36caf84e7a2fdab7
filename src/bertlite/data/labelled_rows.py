"""Rows with a label of a class, or of several: where their labels come from."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from transformers.utils import logging

from .label_kinds import find_labels
from .labels import Labels, class_names_of, in_order
from .problems import BadRow
from .rows import TaskRows, Wanted
from .sources import Source


class LabelledRows(TaskRows):
    """Base of the rows of tasks whose model has a class for each label."""

    # Puts the labels that were found in order, and adds those that follow from them.
    order: ClassVar[Any] = staticmethod(in_order)

    @classmethod
    def find_labels(cls, source: Source, columns: Mapping[str, Any], wanted: Wanted) -> Labels:
        """See `TaskRows`.

        As in an earlier split, as given, or found in these rows.
        """
        column = columns[cls.target]
        feature = (source.features or {}).get(column) if isinstance(column, str) else None
        class_names = class_names_of(feature)
        if (found := wanted.found) is not None:
            return replace(found, class_names=class_names, notes=[], warnings=[])
        names, kind = wanted.labels, wanted.problem_type
        if not isinstance(column, str):  # one column of 0 and 1 a class
            return Labels(list(names or column), "multi_label_classification", None, multi_hot=True)
        if names and kind == "single_label_classification":
            return Labels(list(names), kind, class_names)
        values = cls.label_values(source, column)
        progress = logging.tqdm(values, desc="finding labels", unit=" labels", delay=2)
        return find_labels(
            progress,
            names=names,
            problem_type=kind,
            class_names=class_names,
            order=cls.order,
        )

    @classmethod
    def label_values(cls, source: Source, column: str) -> Iterator[Any]:
        """The label column of every row that can be read."""
        return (row.get(column) for _, row in source if not isinstance(row, BadRow))
