"""What is explained: one number that a model gives, such as the log-odds of a label.

A probability p, of softmax or of sigmoid, is explained by its log-odds, ln p / (1 - p): it has no
ceiling at which gradients vanish, and adding a constant to all logits leaves it as it is.

Shapes: `B` rows, `T` tokens, `L` labels, `V` vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..inference.sequence_classification import TEMPERATURE
from .tokens import TextTokens

LOG_ODDS = "log-odds"
LONGEST_ANSWER = 30  # tokens


@dataclass(frozen=True)
class Target:
    """One number of a model's output.

    Attributes:
        name: for whoever reads the explanation.
        unit: "log-odds", "score" or "cosine".
        value_of: from the model's outputs for B rows to `(B,)`.
        places: of the tokens whose vectors are read, where there are such.
    """

    name: str
    unit: str
    value_of: Callable[[Any], torch.Tensor]
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """What the caller asks for: a label or token by its name or number, and a word."""

    target: str | int | None = None
    word: str | int | None = None


def log_odds(logits: torch.Tensor, index: int) -> torch.Tensor:
    """Log-odds, ln p / (1 - p), of the softmax probability of `index`, `(B, L)` to `(B,)`.

    >>> log_odds(torch.tensor([[1.0, 3.0]]), 1)
    tensor([2.])
    """
    others = torch.arange(logits.shape[-1], device=logits.device) != index
    return logits[:, index] - logits[:, others].logsumexp(-1)


def shown(value: float, unit: str) -> str:
    """A value as a reader takes it: a probability where it is one.

    >>> shown(0.0, "log-odds"), shown(-0.25, "score")
    ('probability 50.0 %', 'score -0.250')
    """
    if unit == LOG_ODDS:
        return f"probability {100 / (1 + 2.718281828459045**-value):.1f} %"
    return f"{unit} {value:.3f}"


def class_targets(
    model: Any, tokenizer: Any, tokens: TextTokens, outputs: Any, wanted: Wanted
) -> list[Target]:
    """A label or score of the whole text; without a wish all of them, the highest first."""
    if wanted.word is not None:
        raise ValueError(f"word must be None for labels of whole texts, got {wanted.word!r}")
    config = model.config
    labels = [config.id2label[number] for number in range(config.num_labels)]
    order = outputs.logits[0].argsort(descending=True).tolist()
    chosen = order if wanted.target is None else [label_number(labels, wanted.target)]
    return [class_target(config, labels[number], number) for number in chosen]


def class_target(config: Any, name: str, number: int) -> Target:
    """By the kind of problem, as `classify` decides it."""
    regression = config.problem_type == "regression" or config.num_labels == 1
    if regression:
        return Target(name, "score", lambda outputs: outputs.logits[:, number])
    temperature = getattr(config, TEMPERATURE, None) or 1.0
    if config.problem_type == "multi_label_classification":
        return Target(name, LOG_ODDS, lambda outputs: outputs.logits[:, number] / temperature)
    return Target(name, LOG_ODDS, lambda outputs: log_odds(outputs.logits / temperature, number))


def token_targets(
    model: Any, tokenizer: Any, tokens: TextTokens, outputs: Any, wanted: Wanted
) -> list[Target]:
    """The label of a word, read at its first token; without a wish those of all entities."""
    labels = [model.config.id2label[number] for number in range(model.config.num_labels)]
    firsts = [places[0] for places in tokens.word_places()]
    words = tokens.words_as_text()
    best = outputs.logits[0].argmax(-1).tolist()  # (T,)
    if wanted.word is None:
        numbers = [n for n, place in enumerate(firsts) if labels[best[place]] != "O"] or [0]
    else:
        numbers = [word_number(words, wanted.word)]
    if wanted.word is None and wanted.target is not None:
        numbers = numbers[:1]
    found = []
    for number in numbers:
        place = firsts[number]
        label = best[place] if wanted.target is None else label_number(labels, wanted.target)
        found.append(place_target(f"{words[number]}: {labels[label]}", place, label))
    return found


def place_target(name: str, place: int, index: int) -> Target:
    """Log-odds of `index` at a token, of logits `(B, T, L)`."""
    return Target(
        name, LOG_ODDS, lambda outputs: log_odds(outputs.logits[:, place], index), (place,)
    )


def masked_targets(
    model: Any, tokenizer: Any, tokens: TextTokens, outputs: Any, wanted: Wanted
) -> list[Target]:
    """A word in the place of a mask; without a wish the best three for each mask."""
    masks = [n for n, id in enumerate(tokens.inputs["input_ids"]) if id == tokenizer.mask_token_id]
    if not masks:
        raise ValueError(f"text must hold {tokenizer.mask_token}, got {tokens.texts[0]!r:.80}")
    if wanted.word is not None:
        masks = [masks[word_number([tokenizer.mask_token] * len(masks), wanted.word)]]
    found = []
    for place in masks:
        ids = outputs.logits[0, place].topk(3).indices.tolist()
        if wanted.target is not None:
            ids = [token_number(tokenizer, wanted.target)]
        for id in ids:
            found.append(place_target(tokenizer.convert_ids_to_tokens(id), place, id))
    return found


def answer_targets(
    model: Any, tokenizer: Any, tokens: TextTokens, outputs: Any, wanted: Wanted
) -> list[Target]:
    """Start and end of the answer that the model gives, or at another word of the context."""
    sides = ("start", "end") if wanted.target is None else (wanted.target,)
    if not set(sides) <= {"start", "end"}:
        raise ValueError(f"target must be 'start' or 'end' of an answer, got {wanted.target!r}")
    if len(tokens.texts) < 2:
        raise ValueError("text_pair must be given: the context of the question, which is text")
    if wanted.word is None:
        places = best_span(tokens, outputs.start_logits[0], outputs.end_logits[0])
    else:
        groups = [each for each in tokens.word_places() if tokens.texts_of[each[0]] == 1]
        words = [tokens.texts[1][slice(*tokens.characters(each))] for each in groups]
        chosen = groups[word_number(words, wanted.word)]
        places = (chosen[0], chosen[-1])
    found = []
    for side in sides:
        place = places[0] if side == "start" else places[1]
        found.append(side_target(str(side), place, tokens))
    return found


def side_target(side: str, place: int, tokens: TextTokens) -> Target:
    """Log-odds that the answer starts, or ends, at a token."""
    start, end = tokens.characters([place])
    name = f"answer {side}s at {tokens.texts[1][start:end]!r}"
    return Target(
        name, LOG_ODDS, lambda outputs: log_odds(outputs[f"{side}_logits"], place), (place,)
    )


def best_span(tokens: TextTokens, start: torch.Tensor, end: torch.Tensor) -> tuple[int, int]:
    """The best passage of the context by start and end logits `(T,)`."""
    hidden = torch.tensor([number != 1 for number in tokens.texts_of], device=start.device)
    scores = start.masked_fill(hidden, -torch.inf)[:, None] + end.masked_fill(hidden, -torch.inf)
    allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
    best = int(scores.masked_fill(~allowed, -torch.inf).argmax())
    return best // len(start), best % len(start)


TARGETS: dict[str, Callable[..., list[Target]]] = {
    "ForSequenceClassification": class_targets,
    "ForTokenClassification": token_targets,
    "ForQuestionAnswering": answer_targets,
    "ForMaskedLM": masked_targets,
}


def label_number(labels: list[str], wanted: str | int) -> int:
    """The number of a label; a ValueError that lists them where there is none."""
    if isinstance(wanted, int) and not isinstance(wanted, bool) and 0 <= wanted < len(labels):
        return wanted
    if wanted in labels:
        return labels.index(str(wanted))
    if str(wanted).isdigit() and int(wanted) < len(labels):
        return int(wanted)
    raise ValueError(f"target must be one of {', '.join(labels)}, got {wanted!r}")


def token_number(tokenizer: Any, wanted: str | int) -> int:
    """The id of a token; a ValueError where the vocabulary does not have it as one piece."""
    if isinstance(wanted, int):
        if not 0 <= wanted < len(tokenizer):
            raise ValueError(f"target must be an id below {len(tokenizer)}, got {wanted}")
        return wanted
    ids = tokenizer(wanted, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise ValueError(f"target must be one token of the vocabulary, got {wanted!r}")
    return ids[0]


def word_number(words: list[str], wanted: str | int) -> int:
    """The number of a word, by number or by its text; a ValueError where there is no such."""
    if isinstance(wanted, int) and not isinstance(wanted, bool) and 0 <= wanted < len(words):
        return wanted
    for number, word in enumerate(words):
        if word.casefold() == str(wanted).casefold():
            return number
    if str(wanted).isdigit() and int(wanted) < len(words):
        return int(wanted)
    listed = ", ".join(words[:12]) + (", ..." if len(words) > 12 else "")
    raise ValueError(f"word must be one of {listed}, or its number from 0, got {wanted!r}")
