"""Requests to works: each cut into rows as the function of its name does, and finished as there.

Shapes: `T` length of a row, `E` hidden size, `L` labels.
"""

from collections.abc import Callable
from typing import Any

import torch

from ..inference import question_answering, sequence_classification, token_classification
from ..inference.batching import Row, RunOptions, collate, run_rows
from ..inference.encode import check_options, finished, prompt_tokens, width
from ..inference.label_sets import threshold_for
from ..inference.loading import as_texts, position_limit, roomy_limit
from ..inference.pooling import pool
from ..inference.windows import EncodedText, cut_windows
from .catalog import ServedModel
from .requests import AnswerRequest, ClassifyRequest, EmbedRequest, TagRequest
from .works import Pass, Work

Prepare = Callable[[ServedModel, Any], Work]


def prepare_embed(served: ServedModel, asked: EmbedRequest) -> Work:
    """Vectors of texts, one `(E,)` a text, as `bertlite.encode` makes them."""
    texts = check_options(asked.texts, asked.pooling, "numpy", 1, asked.max_length)
    recipe = served.recipe
    before = recipe.prompt(asked.prompt, asked.prompt_name)
    skipped = 0 if recipe.include_prompt or not before else prompt_tokens(served.tokenizer, before)
    poolings = recipe.poolings if asked.pooling is None else (asked.pooling,)
    size = width(recipe, poolings, served.model.config.hidden_size)
    normalize = recipe.normalize if asked.normalize is None else asked.normalize
    texts = [(before + text).lower() if recipe.lower_case else before + text for text in texts]
    length = asked.max_length or recipe.max_length
    limit = roomy_limit("max_length", served.model, served.tokenizer, length)
    columns = served.tokenizer(texts, truncation=True, max_length=limit) if texts else {}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def finish(outputs: list[torch.Tensor]) -> torch.Tensor:
        if not outputs:
            return torch.zeros(0, size)
        pooled = [
            pool(states[None], torch.ones(1, len(states), dtype=torch.long), poolings, skipped)
            for states in outputs
        ]
        with torch.inference_mode():
            vectors = finished(torch.cat(pooled), recipe, normalize)
        if not vectors.isfinite().all():
            raise ArithmeticError("the model's vectors hold infinite numbers, or none at all")
        return vectors

    return Work(encoder_pass(served), rows, finish)


def encoder_pass(served: ServedModel) -> Pass:
    """Rows to the vectors of their tokens, `(T, E)` each."""

    def run(rows: list[Row]) -> list[torch.Tensor]:
        batch = collate(rows, served.reader, served.model.device, served.model)
        with torch.inference_mode():
            states = served.encoder(**batch).last_hidden_state.float().cpu()  # (B, T, E)
        return [states[place, : len(row["input_ids"])] for place, row in enumerate(rows)]

    return Pass((served.name, "embed"), run)


def head_pass(
    served: ServedModel, outputs: tuple[str, ...] = ("logits",), per_token: bool = True
) -> Pass:
    """Rows to the head's outputs for them, as `run_rows` gives them."""

    def run(rows: list[Row]) -> list[tuple[torch.Tensor, ...]]:
        return run_rows(
            served.model,
            served.reader,
            rows,
            RunOptions(batch_size=len(rows), device=None, show_progress=False),
            outputs=outputs,
            per_token=per_token,
            description=served.name,
        )

    return Pass((served.name, "head"), run)


def rows_of(encoded: list[EncodedText]) -> list[Row]:
    """The windows of texts, one behind the other."""
    return [window.inputs for text in encoded for window in text.windows]


def by_text(encoded: list[EncodedText], outputs: list[Any]) -> list[list[Any]]:
    """Outputs of windows, of each text its own."""
    found = iter(outputs)
    return [[next(found) for _ in text.windows] for text in encoded]


def prepare_classify(served: ServedModel, asked: ClassifyRequest) -> Work:
    """Classes of texts, as `bertlite.classify` gives them."""
    config = served.model.config
    first, second, _ = sequence_classification.as_pairs(asked.texts, asked.text_pair)
    sequence_classification.check_wanted(asked.top_k, asked.coverage)
    in_set = None if asked.coverage is None else threshold_for(config, asked.coverage)
    limit = position_limit(served.model, served.tokenizer, asked.max_length)
    encoded = sequence_classification.encode(
        served.tokenizer, first, second, limit, asked.doc_stride
    )

    def finish(outputs: list[Any]) -> list[Any]:
        means = [
            sequence_classification.mean_logits(text, torch.stack([each for (each,) in found]))
            for text, found in zip(encoded, by_text(encoded, outputs), strict=True)
        ]  # (L,) each
        return [
            sequence_classification.decide(mean, config, asked.top_k, asked.threshold, in_set)
            for mean in means
        ]

    return Work(head_pass(served, per_token=False), rows_of(encoded), finish)


def prepare_tag(served: ServedModel, asked: TagRequest) -> Work:
    """Entities of texts, as `bertlite.tag` gives them."""
    split = asked.is_split_into_words
    texts = asked.texts
    given = token_classification.as_sentences(texts) if split else as_texts("texts", texts)
    sentences: list[Any] = [*given[0]]
    encoded = cut_windows(
        served.tokenizer,
        sentences,
        max_length=position_limit(served.model, served.tokenizer, asked.max_length),
        doc_stride=asked.doc_stride,
        is_split_into_words=split,
    )
    ignored = set(asked.ignore_labels)

    def finish(outputs: list[Any]) -> list[Any]:
        results = []
        for sentence, text, found in zip(
            sentences, encoded, by_text(encoded, outputs), strict=True
        ):
            logits = token_classification.token_logits(text, [each for (each,) in found])
            words = token_classification.label_words(
                sentence, text, logits.softmax(-1), served.model.config.id2label
            )
            results.append(
                token_classification.join_entities(sentence, words, ignored)
                if asked.aggregate
                else words
            )
        return results

    return Work(head_pass(served), rows_of(encoded), finish)


def prepare_answer(served: ServedModel, asked: AnswerRequest) -> Work:
    """Answers to questions, as `bertlite.answer` finds them."""
    questions, contexts, _ = question_answering.paired_texts(asked.question, asked.context)
    encoded = cut_windows(
        served.tokenizer,
        questions,
        contexts,
        cut_pair=[True] * len(questions),
        doc_stride=asked.doc_stride,
        max_length=position_limit(served.model, served.tokenizer, asked.max_length),
        names=("question", "context"),
    )
    question_answering.check_contexts(contexts, encoded)

    def finish(outputs: list[Any]) -> list[Any]:
        results = []
        for context, text, found in zip(contexts, encoded, by_text(encoded, outputs), strict=True):
            scores = question_answering.span_logits(context, text, found, asked.max_answer_length)
            null = (
                question_answering.null_logit(served.reader, text, found)
                if asked.handle_impossible_answer
                else None
            )
            ranked = question_answering.rank(
                context, text, scores, asked.top_k, null, asked.null_score_diff_threshold
            )
            results.append(ranked[0] if asked.top_k == 1 else ranked)
        return results

    way = head_pass(served, outputs=("start_logits", "end_logits"))
    return Work(way, rows_of(encoded), finish)
