"""What a run is told about data, model and recipe, beside `TrainingArguments` and `TaskOptions`."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..inference.loading import check_counts
from ..models.presets import PRESETS

RECIPES = ("default", "bert", "transformer")


def described(help_text: str, default: Any = None, **metadata: Any) -> Any:
    """A field with a line for `--help`."""
    if isinstance(default, list):
        return field(
            default_factory=lambda: list(default), metadata={"help": help_text, **metadata}
        )
    return field(default=default, metadata={"help": help_text, **metadata})


@dataclass
class DataOptions:
    """Where rows come from; see `bertlite.data.prepare`."""

    train: list[str] | None = described(
        "file to train on, or several: CSV, TSV, JSON, JSONL, Parquet, xlsx, CoNLL, CoNLL-U, SQuAD "
        "JSON (also .gz); of parallel text two, such as a.en a.de"
    )
    validation: list[str] | None = described("file to choose the best checkpoint by, or several")
    test: list[str] | None = described("file to measure the final model on, or several")
    dataset: str | None = described("a data set's name on the hub, instead of files")
    dataset_config: str | None = described("the configuration of that data set")
    columns: list[str] = described(
        "columns that cannot be guessed, such as text=Review label=Stars", []
    )
    on_bad_row: str = described("what a bad row does", "stop", choices=("stop", "skip"))
    streaming: bool = described(
        "read while training, for data that do not fit in memory (needs --max_steps)", False
    )
    shuffle_buffer: int = described(
        "streaming: rows in memory from which the next is drawn (1: as they come)", 10_000
    )
    labels: list[str] = described(
        "the labels in their order (default: those of the data, or of the model)", []
    )
    problem_type: str | None = described(
        "sequence classification (default: told from the labels)",
        choices=("single_label_classification", "multi_label_classification", "regression"),
    )
    max_train_examples: int | None = described("use so many rows only, to try things")
    max_eval_examples: int | None = described("measure on so many rows of each file only")
    source_language: str | None = described("translation: the source's key or column, such as en")
    target_language: str | None = described("translation: the target's key or column, such as de")
    encoding: str | None = described(
        "of text files, such as cp1252 (default: UTF-8, or what their first bytes say)"
    )

    def __post_init__(self):
        for name in ("train", "validation", "test"):  # the command line gives a list of one file
            if isinstance(given := getattr(self, name), list) and len(given) == 1:
                setattr(self, name, given[0] if isinstance(given[0], str) else given)
        names = ("max_train_examples", "max_eval_examples", "shuffle_buffer")
        check_counts(1, **{name: getattr(self, name) for name in names})

    def column_map(self) -> dict[str, str] | None:
        """`columns` as a dict.

        Raises:
            ValueError: an entry is not NAME=COLUMN.
        """
        if isinstance(self.columns, Mapping):
            return dict(self.columns) or None
        for entry in self.columns:
            if "=" not in entry:
                raise ValueError(f"columns must be entries NAME=COLUMN, got {entry!r}")
        return dict(entry.split("=", 1) for entry in self.columns) or None  # type: ignore[misc]

    def prepare(self, task: str, **changes: Any):
        """The checked rows, as `bertlite.data.prepare` gives them; errors as there."""
        from ..data import prepare
        from ..tasks.registry import task_named

        names = [each.name for each in dataclasses.fields(self) if each.name != "shuffle_buffer"]
        given = {name: getattr(self, name) for name in names}
        given.update(columns=self.column_map(), labels=list(self.labels) or None)
        return prepare(task_named(task).rows, **{**given, **changes})


def named_data(value: Any) -> Any:
    """What a record of a run says of its data.

    Paths and names as they are, of rows in memory only what they are.
    """
    if value is None or isinstance(value, str | os.PathLike):
        return value if value is None else str(value)
    if isinstance(value, list | tuple) and all(
        isinstance(each, str | os.PathLike) for each in value
    ):
        return [str(each) for each in value]
    count = f" of {len(value):,}" if hasattr(value, "__len__") else ""
    return f"{type(value).__name__}{count} in memory"


@dataclass
class ModelOptions:
    """Which model starts, and by which of the papers' recipes it is trained.

    Raises:
        ValueError: an unknown name, or a number out of its range.
    """

    tokenizer: str | None = described("folder of the tokenizer (default: the model's)")
    from_scratch: bool = described(
        "start with random weights: give --config_preset and --tokenizer", False
    )
    config_preset: str | None = described(
        "the sizes of a model from scratch", choices=tuple(sorted(PRESETS))
    )
    config_overrides: list[str] = described(
        "fields of its config, such as encoder_layers=3 dropout=0.2", []
    )
    warm_start: bool = described(
        "translation, summarization: --model is a BERT that encoder and decoder start from", False
    )
    new_head: bool = described("drop the head that the model has, and learn a new one", False)
    recipe: str = described(
        "default: Trainer's AdamW, linear decay, a tenth of warm-up. bert: no decay on biases and "
        "norms, rates by "
        "layer. transformer: Adam with the Noam schedule, label smoothing 0.1, batches of tokens, "
        "averaged checkpoints",
        "default",
        choices=RECIPES,
    )
    layer_decay: float | None = described(
        "recipe bert: factor of the learning rate from each layer to the one below"
    )
    batch_tokens: int | None = described(
        "batches of so many tokens instead of rows (recipe transformer: 4096)"
    )
    noam_warmup_steps: int = described("recipe transformer: step with the highest rate", 4000)
    noam_factor: float = described(
        "recipe transformer: by which the paper's rates are multiplied", 1.0
    )
    label_smoothing: float | None = described("of TransformerLite models (recipe transformer: 0.1)")
    average_last: int | None = described(
        "average the last so many checkpoints (recipe transformer: 5; 0: none)"
    )

    def __post_init__(self):
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe must be one of {RECIPES}, got {self.recipe!r}")
        check_counts(1, batch_tokens=self.batch_tokens, noam_warmup_steps=self.noam_warmup_steps)
        check_counts(0, average_last=self.average_last)
        if self.recipe == "transformer":
            self.batch_tokens = self.batch_tokens or 4096
            self.label_smoothing = 0.1 if self.label_smoothing is None else self.label_smoothing
            self.average_last = 5 if self.average_last is None else self.average_last
        if self.layer_decay is not None and self.recipe != "bert":
            raise ValueError(
                f"layer_decay must come with recipe='bert', got recipe={self.recipe!r}"
            )
        if self.from_scratch != (self.config_preset is not None):
            raise ValueError("from_scratch and config_preset must be given together")


@dataclass
class RunOptions:
    """Whose value is no option of `finetune`, but its first argument."""

    model: str | None = described("folder or hub name of the model to start from")


def split_options(given: dict[str, Any], *kinds: type) -> list[Any]:
    """One object of each of the dataclasses, from one dict of all their fields.

    Raises:
        ValueError: a name that is a field of none of them.
    """
    names = [{each.name for each in dataclasses.fields(kind)} for kind in kinds]
    unknown = sorted(set(given) - set().union(*names))
    if unknown:
        raise ValueError(
            f"options must be among {sorted(set().union(*names))}, got {', '.join(unknown)}"
        )
    return [
        kind(**{name: given[name] for name in own & set(given)})
        for kind, own in zip(kinds, names, strict=True)
    ]


def parse_overrides(entries: list[str] | Mapping[str, Any]) -> dict[str, Any]:
    """`NAME=VALUE` entries as a dict, numbers and booleans read as JSON.

    Raises:
        ValueError: an entry is not NAME=VALUE.

    >>> parse_overrides(["dropout=0.2", "activation_function=relu"])
    {'dropout': 0.2, 'activation_function': 'relu'}
    """
    import json

    if isinstance(entries, Mapping):
        return dict(entries)
    found: dict[str, Any] = {}
    for entry in entries:
        name, sign, value = entry.partition("=")
        if not sign:
            raise ValueError(f"config_overrides must be entries NAME=VALUE, got {entry!r}")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found
