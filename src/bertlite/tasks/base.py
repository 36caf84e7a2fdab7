"""What a task is.

How its rows become features, and how a model's answers to them are made and measured.

Rows are those of `bertlite.data`: dicts with the task's own columns. Predictions and figures come
from `bertlite.inference`, so what is measured is what a user gets.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainingArguments

from ..data.rows import TaskRows
from ..inference.label_sets import HIGHEST, LOWEST
from ..inference.loading import check_counts, check_number, roomy_limit

Row = dict[str, Any]
LONG_TEXTS = ("truncate", "windows")


@dataclass
class TaskOptions:
    """How texts are cut and answers are chosen, in training, evaluation and prediction alike.

    Raises:
        ValueError: a number out of its range.
    """

    max_length: int | None = field(
        default=None,
        metadata={
            "help": "tokens of a row (default: what the model can read; question answering 384)"
        },
    )
    doc_stride: int | None = field(
        default=None,
        metadata={
            "help": "tokens that neighbouring windows of a long text share (default: 64; question "
            "answering 128)"
        },
    )
    long_texts: str = field(
        default="truncate",
        metadata={
            "help": "in training of sequence classification: cut long texts, or learn from their "
            "windows. Evaluation "
            "and prediction read every window",
            "choices": LONG_TEXTS,
        },
    )
    threshold: float = field(
        default=0.5, metadata={"help": "multi-label: probability from which a label is given"}
    )
    max_answer_length: int = field(
        default=30, metadata={"help": "question answering: longest answer in tokens"}
    )
    allow_no_answer: bool | None = field(
        default=None,
        metadata={
            "help": "question answering: whether 'no answer' is possible (default: if the data "
            "have such rows)"
        },
    )
    null_score_diff_threshold: float = field(
        default=0.0,
        metadata={
            "help": "'no answer' wins where its logit exceeds the best answer's by more than this"
        },
    )
    max_source_length: int | None = field(
        default=None,
        metadata={
            "help": "tokens of a source text (default: what the model can read, at most 512)"
        },
    )
    max_target_length: int | None = field(
        default=None,
        metadata={"help": "tokens of a target text in training (default: 256; summaries 128)"},
    )
    source_prefix: str = field(
        default="",
        metadata={
            "help": "put before each source text, such as 'summarize: ', or the target's code, "
            "such as '>>deu<<', of a model that knows several languages"
        },
    )
    source_code: str | None = field(
        default=None,
        metadata={
            "help": "the language of the sources, by the code of a tokenizer that knows several: "
            "en_XX (mBART), en (M2M100), eng_Latn (NLLB)"
        },
    )
    target_code: str | None = field(
        default=None, metadata={"help": "likewise the language to write, such as de_DE"}
    )
    num_beams: int | None = field(
        default=None, metadata={"help": "beams of the search (default: the model's, or 4)"}
    )
    length_penalty: float | None = field(
        default=None, metadata={"help": "default: the model's, or 0.6"}
    )
    max_new_tokens: int | None = field(
        default=None,
        metadata={"help": "longest text written (default: source + 50 tokens; summaries 128)"},
    )
    top_k: int | None = field(
        default=None,
        metadata={
            "help": "prediction: give the so many best labels or answers with their scores too"
        },
    )
    coverage: float | None = field(
        default=None,
        metadata={
            "help": "prediction of texts' classes: give the set of labels that holds the right one "
            "in this share of rows, such as 0.9"
        },
    )
    prediction_batch_size: int = field(
        default=32, metadata={"help": "rows a forward pass when predicting"}
    )

    def __post_init__(self):
        names = (
            "max_length",
            "max_source_length",
            "max_target_length",
            "num_beams",
            "max_new_tokens",
        )
        names += ("max_answer_length", "prediction_batch_size", "top_k")
        check_counts(1, **{name: getattr(self, name) for name in names})
        check_counts(0, doc_stride=self.doc_stride)
        check_number("threshold", self.threshold, 0, 1)
        if self.coverage is not None:
            check_number("coverage", self.coverage, LOWEST, HIGHEST)
        check_number("null_score_diff_threshold", self.null_score_diff_threshold)
        if self.long_texts not in LONG_TEXTS:
            raise ValueError(f"long_texts must be one of {LONG_TEXTS}, got {self.long_texts!r}")


class Task(ABC):
    """One task; a subclass says what its rows, features and figures are."""

    name: str
    rows: type[TaskRows]  # how `bertlite.data` reads and checks them
    head: str  # the ending of the class that does the task, as in `inference.loading.load`
    reads: tuple[tuple[str, ...], ...]  # columns of which `predict` needs these, or these
    words: tuple[str, ...]  # options of the command line that rows can be given by
    usage: str  # a line of Python that asks a trained model, for its card
    labelled = False  # whether the model has a class for each label of the data
    ranks = False  # whether `predict` gives the best of several answers, as many as `top_k`
    main_metric: str  # by which the best checkpoint is chosen
    arguments_class: type[TrainingArguments] = TrainingArguments
    max_length: int | None = None  # defaults of `TaskOptions`
    doc_stride = 64
    pipeline_tag: str

    @abstractmethod
    def encode(
        self,
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        model: Any,
        options: TaskOptions,
    ) -> list[Row]:
        """Features to train on.

        One dict with `input_ids` and labels for each row, or for each window of it.

        Raises:
            ValueError: a row that no model of this size can read.
        """

    @abstractmethod
    def collator(
        self, tokenizer: PreTrainedTokenizerBase, model: Any
    ) -> Callable[[list[Row]], dict[str, Any]]:
        """Makes a batch of features."""

    @abstractmethod
    def predict(
        self,
        rows: Sequence[Row],
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        options: TaskOptions,
        *,
        show_progress: bool = True,
        device: Any = None,
    ) -> list[Row]:
        """The model's answer to each row, in order, as a dict that JSON can hold."""

    @abstractmethod
    def score(
        self, rows: Sequence[Row], predictions: Sequence[Row], model: Any
    ) -> dict[str, float]:
        """The figures of predictions that `predict` made of labelled rows."""

    def report(self, rows: Sequence[Row], predictions: Sequence[Row], model: Any) -> dict[str, Any]:
        """What `metrics.class_report` says of predictions; {} where a task has no classes."""
        return {}

    def tell_languages(self, model: Any, tokenizer: Any, options: TaskOptions) -> None:
        """Have model and tokenizer read and write the languages that `options` name, for good.

        Raises:
            ValueError: the task writes nothing, or the tokenizer knows no such language.
        """
        if options.source_code is not None or options.target_code is not None:
            raise ValueError(
                "source_code and target_code are for translation and summarization, got task "
                f"{self.name}"
            )

    def check_row(self, row: Row, number: int) -> None:
        """Refuse, with a ValueError, a row that lacks what `predict` reads."""
        if not isinstance(row, Mapping):
            raise ValueError(
                f"rows must be dicts, as {{'text': ...}} is, got {row!r:.80} in row {number}"
            )
        if any(all(row.get(name) is not None for name in names) for names in self.reads):
            return
        needed = " or ".join(" and ".join(names) for names in self.reads)
        raise ValueError(
            f"rows must have {needed} for {self.name}, got {sorted(row)} in row {number}"
        )

    def rows_of_words(self, words: dict[str, list[str]]) -> list[Row]:
        """Rows of what stands on the command line, by the options' names.

        Raises:
            ValueError: a question is missing, or as many of one as of the other.
        """
        return [{str(self.rows.line_column): text} for text in words.get("text", [])]

    def head_fields(self, labels: list[str] | None, problem_type: str | None) -> dict[str, Any]:
        """The fields of a config that say what its head's outputs mean."""
        if not self.labelled or not labels:
            return {}
        return {
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
        }

    def measure(
        self,
        rows: Sequence[Row],
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        options: TaskOptions,
        **run: Any,
    ) -> dict[str, float]:
        """The figures of a model on labelled rows; arguments as in `predict`."""
        if not rows:
            raise ValueError(f"{self.name}: rows must hold at least one row to measure, got none")
        return self.score(rows, self.predict(rows, model, tokenizer, options, **run), model)

    def limit(self, model: Any, tokenizer: PreTrainedTokenizerBase, options: TaskOptions) -> int:
        """Tokens of a row; a ValueError where special tokens would take them all."""
        return roomy_limit("max_length", model, tokenizer, options.max_length or self.max_length)

    def stride(self, options: TaskOptions) -> int:
        """Tokens that neighbouring windows share."""
        return self.doc_stride if options.doc_stride is None else options.doc_stride

    def best_metric(self, problem_type: str | None, *, weighted: bool = False) -> str:
        """By which figure the best checkpoint is chosen; higher is better.

        Args:
            problem_type: of sequence classification.
            weighted: whether rare classes weigh more in the loss, as they should here then.
        """
        return self.main_metric

    def arguments(self) -> dict[str, Any]:
        """BERT's usual recipe (Devlin et al.

        2018, appendix A.3), as fields of `TrainingArguments`.
        """
        return {
            "learning_rate": 5e-5,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.1,
            "weight_decay": 0.01,
            "num_train_epochs": 3,
            "per_device_train_batch_size": 32,
            "per_device_eval_batch_size": 64,
            "report_to": "none",
            "logging_steps": 50,
            "save_total_limit": 2,
            "dataloader_pin_memory": False,
        }
