"""A question with each of its choices as rows of ids, in windows where they are too long for one.

Every choice is read with the same windows. A model of multiple choice is trained by a softmax over
the choices of one question, so its logits mean something only beside those of the other choices of
the same window. Their mean over windows keeps that: what a window adds to all choices alike falls
out of the softmax. (The highest logit of any window would not: it may come from a window that
rates all choices highly.)

Shapes: `B` rows, `T` length.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from .batching import RunOptions, run_windows
from .sequence_classification import mean_logits
from .windows import EncodedText, Window, count_tokens, cut_windows


@dataclass(frozen=True)
class ChoicePlan:
    """How one question and its choices are cut."""

    first: str  # what stands before each choice
    choices: Sequence[str]
    lengths: list[int]  # tokens of a window, for each choice
    cut_choices: bool = False  # whether the choices are cut, and not what stands before them
    tail: list[int] = field(default_factory=list)  # tokens put behind each window of `first`


class EachChoice(nn.Module):
    """A model of multiple choice that reads rows `(B, T)`, each a question with one choice."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, **inputs: torch.Tensor) -> Any:
        """The model's output; logits `(B, 1)`."""
        return self.model(**{name: value[:, None] for name, value in inputs.items()})


def whole_question(row: dict) -> str:
    """What stands before each choice: the question, behind its context where it has one."""
    context = row.get("context")
    return row["question"] if context is None else f"{context} {row['question']}"


def cut_choices(
    rows: Sequence[dict], tokenizer: PreTrainedTokenizerBase, limit: int, doc_stride: int
) -> list[list[EncodedText]]:
    """For each row, for each choice, its windows of at most `limit` tokens.

    Of what is too long, the context is cut where there is one, and the question and a choice stand
    in each window; else the question, or the choices where the longest is longer than it.

    Args:
        rows: `question`, `choices`, perhaps `context`.
        tokenizer: a fast tokenizer.
        limit: tokens of a row, special ones included.
        doc_stride: tokens of the cut text that two neighbouring windows share.

    Raises:
        ValueError: a question and its longest choice, of which neither leaves room for the other.
    """
    plans = list(plan_rows(rows, tokenizer, limit))
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)  # what one call can encode
    for index, plan in enumerate(plans):
        for choice, length in enumerate(plan.lengths):
            groups[length].append((index, choice))
    encoded = [[EncodedText()] * len(plan.choices) for plan in plans]
    for length, members in groups.items():
        found = cut_windows(
            tokenizer,
            [plans[index].first for index, _ in members],
            [plans[index].choices[choice] for index, choice in members],
            cut_pair=[plans[index].cut_choices for index, _ in members],
            max_length=length,
            doc_stride=doc_stride,
        )
        for (index, choice), text in zip(members, found, strict=True):
            tail = plans[index].tail
            text.windows = [with_tail(window, tail) for window in text.windows]
            encoded[index][choice] = text
    return encoded


def plan_rows(
    rows: Sequence[dict], tokenizer: PreTrainedTokenizerBase, limit: int
) -> Iterator[ChoicePlan]:
    """How each row is cut; arguments and errors as in `cut_choices`."""
    room = limit - tokenizer.num_special_tokens_to_add(pair=True)
    asked = count_tokens(tokenizer, [whole_question(row) for row in rows])
    counts = iter(count_tokens(tokenizer, [each for row in rows for each in row["choices"]]))
    for number, (row, tokens) in enumerate(zip(rows, asked, strict=True)):
        sizes = [next(counts) for _ in row["choices"]]
        longest, first = max(sizes, default=0), whole_question(row)
        plan = ChoicePlan(first, row["choices"], [limit] * len(sizes))
        if tokens + longest <= room:
            yield plan
            continue
        # The longest choice says what a window of the question holds, so that all have the same.
        equal = [limit - longest + size for size in sizes]
        if row.get("context") is not None:
            tail = tokenizer(row["question"], add_special_tokens=False, verbose=False)["input_ids"]
            if len(tail) + longest < room:
                lengths = [length - len(tail) for length in equal]
                yield replace(plan, first=row["context"], lengths=lengths, tail=tail)
                continue
        if min(tokens, longest) >= room:
            raise ValueError(
                f"question and choices of row {number} must leave room for each other in rows of "
                f"{limit} tokens, got {tokens} tokens and {longest} of the longest choice; shorten "
                "one of them"
            )
        yield replace(plan, cut_choices=True) if longest > tokens else replace(plan, lengths=equal)


def with_tail(window: Window, tail: list[int]) -> Window:
    """A window, with tokens put behind its part of the first text."""
    if not tail:
        return window
    end = window.first + window.length
    inputs = {
        name: [
            *values[:end],
            *(tail if name == "input_ids" else values[end - 1 : end] * len(tail)),
            *values[end:],
        ]
        for name, values in window.inputs.items()
    }
    return replace(window, inputs=inputs)


def choice_scores(
    encoded: Sequence[Sequence[EncodedText]],
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    options: RunOptions,
) -> list[torch.Tensor]:
    """For each row the probabilities of its choices: the softmax of their mean logits.

    A window counts as much as it has tokens of the text that is cut.
    """
    texts = [text for row in encoded for text in row]
    logits = run_windows(EachChoice(model), tokenizer, texts, options, description="Choosing")
    means = iter(
        mean_logits(text, torch.stack([window for (window,) in found]))[0]
        for text, found in zip(texts, logits, strict=True)
    )
    return [torch.stack([next(means) for _ in row]).softmax(-1) for row in encoded]
