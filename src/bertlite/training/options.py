"""What a run is told about data, model and recipe, beside `TrainingArguments` and `TaskOptions`.

Each name stands in one dataclass. The command line, `bertlite.finetune(...)`, files of options and
the record of a run (`run_arguments.json`) all use these names.
"""

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

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
    validation: list[str] | None = described(
        "file to choose the best checkpoint by, or several; or a share of the training rows, such "
        "as 0.1: drawn with the seed, with the labels' shares where there is one label a row, "
        "equal inputs together"
    )
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
        if (share := self.validation_share) is not None and not 0 < share < 1:
            raise ValueError(f"validation must be a share between 0 and 1, got {share}")

    @property
    def validation_share(self) -> float | None:
        """The share of the training rows that is held out, None where `validation` names rows."""
        if isinstance(self.validation, bool) or not isinstance(self.validation, str | int | float):
            return None
        if isinstance(self.validation, str) and os.path.exists(self.validation):
            return None
        try:
            return float(self.validation)
        except ValueError:
            return None

    def column_map(self) -> dict[str, str] | None:
        """`columns` as a dict.

        Raises:
            ValueError: an entry is not NAME=COLUMN.
        """
        if isinstance(self.columns, Mapping):
            return dict(self.columns) or None
        for entry in self.columns or []:
            if "=" not in entry:
                raise ValueError(f"columns must be entries NAME=COLUMN, got {entry!r}")
        return dict(entry.split("=", 1) for entry in self.columns or []) or None  # type: ignore[misc]

    def prepare(self, task: str, **changes: Any):
        """The checked rows, as `bertlite.data.prepare` gives them; errors as there."""
        from ..data import prepare
        from ..tasks.registry import task_named

        names = [each.name for each in dataclasses.fields(self) if each.name != "shuffle_buffer"]
        given = {name: getattr(self, name) for name in names}
        given.update(columns=self.column_map(), labels=list(self.labels) or None)
        if self.validation_share is not None:
            given["validation"] = None
        return prepare(task_named(task).rows, **{**given, **changes})


@dataclass
class ModelOptions:
    """Which model a run starts from.

    Raises:
        ValueError: a size without `from_scratch`, or the other way round.
    """

    tokenizer: str | None = described("folder of the tokenizer (default: the model's)")
    from_scratch: bool = described(
        "start with random weights: give --config_preset and --tokenizer", False
    )
    config_preset: str | None = described(
        "the sizes of a model from scratch", choices=tuple(sorted(PRESETS))
    )
    config_overrides: list[str] = described(
        "fields of its config, such as dropout=0.2 (from scratch its sizes too: encoder_layers=3)",
        [],
    )
    warm_start: bool = described(
        "translation, summarization: --model is a BERT that encoder and decoder start from", False
    )
    new_head: bool = described("drop the head that the model has, and learn a new one", False)

    def __post_init__(self):
        if self.from_scratch != (self.config_preset is not None):
            raise ValueError("from_scratch and config_preset must be given together")


@dataclass
class RecipeOptions:
    """How the model is trained.

    Raises:
        ValueError: an unknown name, a number out of its range, or options that exclude each other.
    """

    recipe: str = described(
        "default: Trainer's AdamW, linear decay, a tenth of warm-up. bert: no decay on biases and "
        "norms, rates by layer. transformer: Adam with the Noam schedule, label smoothing 0.1, "
        "batches of tokens, averaged checkpoints",
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
    early_stopping: int | None = described(
        "stop after so many evaluations in a row without a better figure on the validation rows"
    )
    class_weights: str | None = described(
        "classes weigh differently in the loss: auto (the rarer, the more), or one number a class "
        "with commas between, in the order of the labels"
    )
    freeze: str | None = described(
        "parts that keep their weights: embeddings; a number N (embeddings and the first N "
        "layers); encoder (embeddings and all its layers)"
    )
    lora: bool = described(
        "train low-rank adapters of the layers and the head only (needs peft); the saved model "
        "holds them merged, its folder `adapter` holds them alone",
        False,
    )
    lora_rank: int = described("rank of the adapters", 8)
    few_shot: bool = described(
        "for a few rows a class: learn vectors from pairs of rows, then a head on them; start from "
        "a model of sentence vectors, such as all-MiniLM-L6-v2",
        False,
    )
    calibrate: bool = described(
        "classifiers with validation rows: fit the temperature that makes scores honest "
        "probabilities, and keep it in the config",
        True,
    )

    def __post_init__(self):
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe must be one of {RECIPES}, got {self.recipe!r}")
        check_counts(
            1,
            batch_tokens=self.batch_tokens,
            noam_warmup_steps=self.noam_warmup_steps,
            early_stopping=self.early_stopping,
            lora_rank=self.lora_rank,
        )
        check_counts(0, average_last=self.average_last)
        if self.recipe == "transformer":
            self.batch_tokens = self.batch_tokens or 4096
            self.label_smoothing = 0.1 if self.label_smoothing is None else self.label_smoothing
            self.average_last = 5 if self.average_last is None else self.average_last
        if self.layer_decay is not None and self.recipe != "bert":
            raise ValueError(
                f"layer_decay must come with recipe='bert', got recipe={self.recipe!r}"
            )
        if self.early_stopping and self.average_last:
            raise ValueError(
                "early_stopping goes back to the best checkpoint, where average_last takes the "
                f"last {self.average_last}: give average_last 0 with it"
            )
        if self.lora and self.average_last:
            raise ValueError(
                "lora saves checkpoints without the model's own weights, which average_last "
                f"needs: give average_last 0 with it, got {self.average_last}"
            )
        if self.lora and self.freeze is not None:
            raise ValueError(f"freeze is part of lora already, got freeze={self.freeze!r} too")


@dataclass
class RunOptions:
    """What the command line says of the run as a whole, each an argument of `finetune` itself."""

    model: str | None = described("folder or hub name of the model to start from")
    seeds: list[int] = described(
        "train once with each of these seeds: folders seed-N, mean and spread in the card, the "
        "best by the validation rows in --output_dir itself",
        [],
    )
    check: bool = described(
        "check data, model and options, say what was found, and stop before training", False
    )


class FinetuneOptions(TypedDict, total=False):
    """The options that `finetune` takes by name, for editors and type checkers.

    What each does, and its default, stands at the field of that name: in `DataOptions`,
    `TaskOptions`, `ModelOptions` or `RecipeOptions`.
    """

    # DataOptions
    dataset: Any
    dataset_config: str | None
    columns: Mapping[str, Any] | list[str] | None
    on_bad_row: str
    streaming: bool
    shuffle_buffer: int
    labels: list[str]
    problem_type: str | None
    max_train_examples: int | None
    max_eval_examples: int | None
    source_language: str | None
    target_language: str | None
    encoding: str | None
    # TaskOptions
    max_length: int | None
    doc_stride: int | None
    long_texts: str
    threshold: float
    max_answer_length: int
    allow_no_answer: bool | None
    null_score_diff_threshold: float
    max_source_length: int | None
    max_target_length: int | None
    source_prefix: str
    source_code: str | None
    target_code: str | None
    num_beams: int | None
    length_penalty: float | None
    max_new_tokens: int | None
    top_k: int | None
    coverage: float | None
    prediction_batch_size: int
    # ModelOptions
    from_scratch: bool
    config_preset: str | None
    config_overrides: list[str] | Mapping[str, Any]
    warm_start: bool
    new_head: bool
    # RecipeOptions
    recipe: str
    layer_decay: float | None
    batch_tokens: int | None
    noam_warmup_steps: int
    noam_factor: float
    label_smoothing: float | None
    average_last: int | None
    early_stopping: int | None
    class_weights: str | list[float] | Mapping[str, float] | None
    freeze: str | int | None
    lora: bool
    lora_rank: int
    few_shot: bool
    calibrate: bool


def known_options(given: Mapping[str, Any], names: set[str]) -> None:
    """Refuse, with a ValueError that says what may be meant, options that do not exist."""
    unknown = sorted(set(given) - names)
    if unknown:
        from transformers import TrainingArguments  # not at the top: seconds for a look at `--help`

        near = [name for each in unknown for name in difflib.get_close_matches(each, names, 2)]
        hint = f" (is {' or '.join(near)} meant?)" if near else ""
        if fields := [each for each in unknown if each in TrainingArguments.__dataclass_fields__]:
            hint = f" (fields of TrainingArguments: give them as arguments={{{fields[0]!r}: ...}})"
        raise ValueError(f"options must be among {sorted(names)}, got {', '.join(unknown)}{hint}")


def split_options(given: dict[str, Any], *kinds: type) -> list[Any]:
    """One object of each of the dataclasses, from one dict of all their fields.

    Raises:
        ValueError: a name that is a field of none of them.
    """
    names = [{each.name for each in dataclasses.fields(kind)} for kind in kinds]
    known_options(given, set().union(*names))
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
