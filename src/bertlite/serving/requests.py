"""The bodies of requests: their fields, what each must be, and examples for the page of the API.

The defaults are those of the functions in `bertlite.inference`.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

TEXTS = "a string or a list of strings"
LABELS = "a list of strings"


def field(default: Any, expected: str, description: str, **limits: Any) -> Any:
    """A field, what it must be in words, and what it is for."""
    extra: Any = {"expected": expected}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def whole(default: int | None, low: int, high: int, description: str) -> Any:
    """A field that is a whole number."""
    expected = f"a whole number from {low} to {high}"
    return field(default, expected, description, ge=low, le=high)


def yes(default: bool | None, description: str) -> Any:
    """A field that is true or false."""
    return field(default, "true or false", description)


def of_texts(description: str, default: Any = ...) -> Any:
    """A field of one text or several."""
    return field(default, TEXTS, description)


MAX_LENGTH = "tokens of a row; null: as many as the model can take"
CODE = "a code of the model's tokenizer, such as eng_Latn, a string"
STRIDE = "tokens that two neighbouring windows of a long text share"


class Asked(BaseModel):
    """What every request may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = field(
        None,
        "the name of a model of this server, a string",
        "which model answers; may be left out where one alone can",
    )


class EmbedRequest(Asked):
    """Vectors of texts, as `bertlite.encode`."""

    texts: str | list[str] = of_texts("one text, or a list")
    pooling: str | None = field(None, "a string", "mean, cls, max, ...; null: the model's own")
    normalize: bool | None = yes(None, "scale to length 1; null: as the model says, or yes")
    prompt: str | None = field(None, "a string", "put before each text")
    prompt_name: str | None = field(None, "a string", "or the name of one of the model's prompts")
    max_length: int | None = whole(None, 1, 1_000_000, "tokens a text is cut to")


class ClassifyRequest(Asked):
    """Classes or scores of texts, as `bertlite.classify`."""

    texts: str | list[str] = of_texts("one text, or a list")
    text_pair: str | list[str] | None = of_texts("the second text of each pair", None)
    top_k: int | None = whole(None, 1, 100_000, "labels of a text; null: the best alone")
    threshold: float = field(
        0.5, "a number from 0 to 1", "multi-label: from which a label counts", ge=0, le=1
    )
    coverage: float | None = field(
        None,
        "a number from 0.5 to 0.99",
        "give the set of labels that holds the right one in this share of rows",
        ge=0.5,
        le=0.99,
    )
    max_length: int | None = whole(None, 8, 1_000_000, MAX_LENGTH)
    doc_stride: int = whole(64, 0, 100_000, STRIDE)


class TagRequest(Asked):
    """Labels of words and the entities that they form, as `bertlite.tag`."""

    texts: str | list[str] | list[list[str]] = field(
        ..., f"{TEXTS}, or with is_split_into_words lists of words", "one text, or a list"
    )
    is_split_into_words: bool = yes(False, "whether words are given")
    aggregate: bool = yes(True, "false: the label of each word instead of entities")
    ignore_labels: list[str] = field(["O"], LABELS, "kinds of entities to leave out")
    max_length: int | None = whole(None, 8, 1_000_000, MAX_LENGTH)
    doc_stride: int = whole(64, 0, 100_000, STRIDE)


class AnswerRequest(Asked):
    """The passage of a context that answers a question, as `bertlite.answer`."""

    question: str | list[str] = of_texts("one question, or a list")
    context: str | list[str] = of_texts("where to look for the answer")
    top_k: int = whole(1, 1, 100, "answers to each question")
    max_length: int = whole(384, 8, 1_000_000, "tokens of a window, question included")
    doc_stride: int = whole(128, 0, 100_000, STRIDE)
    max_answer_length: int = whole(30, 1, 128, "in tokens")
    handle_impossible_answer: bool = yes(False, 'whether "no answer" is possible')
    null_score_diff_threshold: float = field(
        0.0, "a number", 'how much better "no answer" must be to win'
    )


class WriteRequest(Asked):
    """What translations and summaries have in common."""

    texts: str | list[str] = of_texts("one text, or a list")
    on_too_long: str = field("truncate", "a string", "truncate or error")
    max_source_length: int | None = whole(None, 8, 1_000_000, "tokens that are read of a text")
    source_prefix: str = field("", "a string", "put before each text, such as >>deu<<")
    source_language: str | None = field(None, CODE, "of the texts; null: as the tokenizer has it")
    target_language: str | None = field(None, CODE, "to write; null: as the model has it")
    return_scores: bool = yes(False, "a score beside each text")
    num_beams: int | None = whole(None, 1, 8, "beams of the search; null: the model's, or 4")
    max_new_tokens: int | None = whole(None, 1, 512, "tokens that are written at most")
    length_penalty: float | None = field(
        None, "a number from -10 to 10", "above 0 favours long texts", ge=-10, le=10
    )


class TranslateRequest(WriteRequest):
    """Translations, as `bertlite.translate`."""

    on_too_long: str = field("truncate", "a string", "truncate, split or error")
    keep_lines: bool = yes(True, "whether each line is translated by itself")


class SummarizeRequest(WriteRequest):
    """Summaries, as `bertlite.summarize`."""


class FillMaskRequest(Asked):
    """Words for the mask of a text, as the library's pipeline "fill-mask"."""

    texts: str | list[str] = of_texts("texts that hold the model's mask, such as [MASK]")
    top_k: int = whole(5, 1, 1000, "words for each mask")


class OpenAIEmbeddingsRequest(BaseModel):
    """Vectors of texts in the shape of OpenAI's interface."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: str | list[str] = of_texts("one text, or a list")
    model: str | None = field(
        None,
        "the name of a model of this server, a string",
        "which model answers; may be left out where one alone can",
    )
    encoding_format: str = field(
        "float", "float or base64", "of the vectors", pattern="^(float|base64)$"
    )
    dimensions: int | None = whole(None, 1, 1_000_000, "must be what the model's vectors have")
    user: str | None = field(None, "a string", "is not read")
