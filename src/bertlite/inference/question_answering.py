"""Extractive question answering: the passage of a context that answers a question, as in SQuAD.

Shapes: `N` tokens of the context, `A` longest answer in tokens, `T` length of a window.
"""

from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from .batching import RunOptions, run_windows
from .loading import as_texts, check_counts, check_number, load, position_limit
from .windows import EncodedText, cut_windows

SAME_CHARACTERS = (
    16  # at most so many spans share their characters: a character of 4 bytes, each its own token
)


def answer(
    question: str | Iterable[str],
    context: str | Iterable[str],
    model: Any,
    tokenizer: Any = None,
    *,
    top_k: int = 1,
    max_length: int = 384,
    doc_stride: int = 128,
    max_answer_length: int = 30,
    handle_impossible_answer: bool = False,
    null_score_diff_threshold: float = 0.0,
    batch_size: int = 32,
    device: torch.device | str | int | None = None,
    show_progress: bool = True,
) -> dict | list:
    """Find the passage of the context that answers the question.

    A context that is too long is read in overlapping windows. A candidate is every passage of 1 to
    `max_answer_length` tokens that lies within one window; its logit is the start logit of its
    first token plus the end logit of its last, the highest where several windows hold it.
    Candidates of all windows compete: `score` is the softmax of their logits over all candidates of
    the context (and over "no answer" where that is allowed).

    Args:
        question: one question, or a list.
        context: one context, or a list. One question with many contexts, or many with one, are
            combined.
        model: a folder, a hub name or a loaded model for question answering.
        tokenizer: a fast tokenizer, or where to load one; None: that of the model's folder.
        top_k: how many candidates to return.
        max_length: tokens of a window, question included; no more than the model has positions.
        doc_stride: tokens of the context that two neighbouring windows share.
        max_answer_length: in tokens.
        handle_impossible_answer: whether "no answer" is possible, as in SQuAD 2. Its logit is that
            of the first token, [CLS], the lowest of all windows.
        null_score_diff_threshold: "no answer" wins where its logit exceeds the best candidate's by
            more than this.
        batch_size: windows a forward pass.
        device: where to run; None: where the model is.
        show_progress: a progress bar where the work takes more than three seconds.

    Returns:
        For each question a dict of `answer`, `score`, and `start` and `end`, such that
        `context[start:end]` is the answer; with `handle_impossible_answer` also
        `no_answer_probability`. "No answer" is "" with start and end 0. With `top_k` above 1, a
        list of such dicts, best first. For one question and one context, its result alone.

    Raises:
        ValueError: an empty text, as many questions as contexts missing, a question that fills the
            window, a model of another kind, a tokenizer without offsets, numbers out of range.
    """
    questions, contexts, single = paired_texts(question, context)
    check_counts(1, top_k=top_k, max_length=max_length, max_answer_length=max_answer_length)
    check_counts(0, doc_stride=doc_stride)
    check_number("null_score_diff_threshold", null_score_diff_threshold)
    options = RunOptions(batch_size, device, show_progress)
    model, tokenizer = load("answer", model, tokenizer, "ForQuestionAnswering", device)
    encoded = cut_windows(
        tokenizer,
        questions,
        contexts,
        cut_pair=[True] * len(questions),
        doc_stride=doc_stride,
        max_length=position_limit(model, tokenizer, max_length),
        names=("question", "context"),
    )
    check_contexts(contexts, encoded)
    kind: dict = {
        "outputs": ("start_logits", "end_logits"),
        "per_token": True,
        "description": "Answering",
    }
    logits = run_windows(
        model, tokenizer, encoded, options, **kind
    )  # of each window two tensors, (T,) each
    results = []
    for context_text, text, found in zip(contexts, encoded, logits, strict=True):
        scores = span_logits(context_text, text, found, max_answer_length)
        null = null_logit(tokenizer, text, found) if handle_impossible_answer else None
        ranked = rank(context_text, text, scores, top_k, null, null_score_diff_threshold)
        results.append(ranked[0] if top_k == 1 else ranked)
    return results[0] if single else results


def paired_texts(question: Any, context: Any) -> tuple[list[str], list[str], bool]:
    """Questions and contexts of equal number, and whether one of each was given.

    A ValueError where they do not fit.
    """
    questions, one_question = as_texts("question", question)
    contexts, one_context = as_texts("context", context)
    if one_question and not one_context:
        questions = questions * len(contexts)
    if one_context and not one_question:
        contexts = contexts * len(questions)
    if len(questions) != len(contexts):
        raise ValueError(
            "question and context must be as many contexts as questions, got "
            f"{len(questions)} questions and {len(contexts)} contexts"
        )
    return questions, contexts, one_question and one_context


def visible_tokens(context: str, text: EncodedText) -> list[bool]:
    """For each token whether it stands for more than white space.

    An answer begins and ends with such a one.
    """
    return [bool(context[start:end].strip()) for start, end in text.offsets]


def check_contexts(contexts: list[str], encoded: list[EncodedText]) -> None:
    """Refuse, with a ValueError, a context in which the tokenizer sees nothing, such as control
    characters alone.
    """
    for index, (context, text) in enumerate(zip(contexts, encoded, strict=True)):
        if not any(visible_tokens(context, text)):
            raise ValueError(
                f"context[{index}] must hold some text, the tokenizer sees none in {context!r:.80}"
            )


def span_logits(
    context: str, text: EncodedText, logits: list[tuple[torch.Tensor, ...]], max_answer_length: int
) -> torch.Tensor:
    """Logits `(N, A)` of the passages.

    Row i, column j is the passage of tokens i to i + j; -inf where there is none.

    Only tokens of the context have a row, so neither the question nor special tokens or padding can
    be picked.

    Args:
        logits: start and end logits of each window, `(T,)` each.
    """
    count = len(text.offsets)
    longest = min(max_answer_length, count)
    visible = torch.tensor(visible_tokens(context, text))  # (N,)
    scores = torch.full((count, longest), -torch.inf, dtype=torch.float64)
    beyond = torch.full((longest - 1,), -torch.inf, dtype=torch.float64)
    for window, (start_logits, end_logits) in zip(text.windows, logits, strict=True):
        places = slice(window.first, window.first + window.length)
        tokens = slice(window.start, window.start + window.length)
        hidden = ~visible[tokens]
        starts = start_logits[places].double().masked_fill(hidden, -torch.inf)
        ends = end_logits[places].double().masked_fill(hidden, -torch.inf)
        spans = starts[:, None] + torch.cat([ends, beyond]).unfold(0, longest, 1)  # (length, A)
        scores[tokens] = torch.maximum(scores[tokens], spans)
    return scores


def null_logit(
    tokenizer: PreTrainedTokenizerBase, text: EncodedText, logits: list[tuple[torch.Tensor, ...]]
) -> torch.Tensor:
    """The logit of "no answer".

    Start plus end at [CLS], in the window that believes in it least (a scalar).
    """
    found = []
    for window, (start_logits, end_logits) in zip(text.windows, logits, strict=True):
        ids = window.inputs["input_ids"]
        place = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
        found.append(start_logits[place].double() + end_logits[place].double())
    return torch.stack(found).min()


def rank(
    context: str,
    text: EncodedText,
    scores: torch.Tensor,
    top_k: int,
    null: torch.Tensor | None,
    threshold: float,
) -> list[dict]:
    """The `top_k` best passages of `(N, A)` logits, and "no answer" among them where `null` is its
    logit.
    """
    every = scores.flatten()
    total = (every if null is None else torch.cat([every, null[None]])).logsumexp(0)
    extra = {} if null is None else {"no_answer_probability": float((null - total).exp())}
    wanted = min(top_k * SAME_CHARACTERS, int(every.isfinite().sum()))
    best = every.topk(wanted)
    found: dict[tuple[int, int], dict] = {}
    for score, place in zip(
        (best.values - total).exp().tolist(), best.indices.tolist(), strict=True
    ):
        first, more = divmod(place, scores.shape[1])
        start, end = text.characters(context, first, first + more)
        passage = {
            "answer": context[start:end],
            "score": score,
            "start": start,
            "end": end,
            **extra,
        }
        found.setdefault((start, end), passage)
        if len(found) == top_k:
            break
    ranked = list(found.values())
    if null is not None:
        score = extra["no_answer_probability"]
        wins = null - best.values[0] > threshold
        # Ranked by probability, but the threshold alone decides whether it comes first.
        place = 0 if wins else max(1, sum(passage["score"] >= score for passage in ranked))
        ranked.insert(place, {"answer": "", "score": score, "start": 0, "end": 0, **extra})
    return ranked[:top_k]
