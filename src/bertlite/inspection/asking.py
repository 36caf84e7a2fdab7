"""From a text and a wish to subjects: what of a model's prediction can be explained."""

from typing import Any

import torch

from ..inference.batching import evaluating
from ..inference.encode import recipe_of
from .attention import as_batch, check_arguments, written_ids
from .subjects import SimilaritySubject, Subject, WritingSubject
from .targets import LOG_ODDS, TARGETS, Target, Wanted, log_odds, word_number
from .tokens import MARKS, TextTokens, pieces_of, read_text, written_tokens


def find_subjects(
    model: Any,
    tokenizer: Any,
    text: str,
    *,
    text_pair: str | None = None,
    written: str | None = None,
    wanted: Wanted | None = None,
    max_length: int | None = None,
    device: Any = None,
) -> list[Subject]:
    """What can be explained of a model's prediction, what it believes most first.

    Args:
        model: loaded.
        tokenizer: of the model.
        text: the text, the question, or the source.
        text_pair: the second of a pair, the context of a question, or the text to compare with.
        written: of an encoder-decoder, the text that it is to have written; None: what it
            generates.
        wanted: a label, or a word, where one is asked for.
        max_length: cut the text to so many tokens.
        device: where to run.

    Raises:
        ValueError: those of `attribute`.
    """
    wanted = wanted or Wanted()
    check_arguments(model, text_pair, written)
    if model.config.is_encoder_decoder:
        return writing_subjects(
            model, tokenizer, text, written, wanted, max_length=max_length, device=device
        )
    find = next(
        (find for head, find in TARGETS.items() if has_head(model, head)),
        None,
    )
    if find is None:
        return [similarity_subject(model, tokenizer, text, text_pair, wanted, max_length)]
    tokens = read_text(tokenizer, model, text, text_pair, max_length)
    with evaluating(model, device) as place:
        outputs = model(**as_batch(tokens, place))
    targets = find(model, tokenizer, tokens, outputs, wanted)
    return [Subject(model, tokenizer, tokens, target) for target in targets]


def has_head(model: Any, head: str) -> bool:
    """Whether a model's class, or one that it stands on, ends with the name of a head."""
    return any(base.__name__.endswith(head) for base in type(model).__mro__)


def similarity_subject(
    model: Any,
    tokenizer: Any,
    text: str,
    text_pair: str | None,
    wanted: Wanted,
    max_length: int | None,
) -> Subject:
    """The cosine of two texts, as `encode` makes their vectors."""
    if text_pair is None:
        raise ValueError(
            f"text_pair must be given: {type(model).__name__} is explained by the similarity of "
            "two texts"
        )
    if wanted != Wanted():
        raise ValueError(f"target and word must be None for a similarity, got {wanted}")
    recipe = recipe_of(model)
    if recipe.prompt(None, None):
        raise ValueError(
            "model must be one whose folder puts no prompt before texts, got "
            f"{recipe.prompt(None, None)!r}"
        )
    cut = max_length or recipe.max_length
    texts = [each.lower() if recipe.lower_case else each for each in (text, text_pair)]
    first, second = (read_text(tokenizer, model, each, max_length=cut) for each in texts)
    return SimilaritySubject(
        model,
        tokenizer,
        joined(first, second),
        Target("similarity of the two texts", "cosine", lambda outputs: outputs),
        first=len(first),
        recipe=recipe,
        inputs=(first.inputs, second.inputs),
    )


def joined(first: TextTokens, second: TextTokens) -> TextTokens:
    """The tokens of one text and then those of another, as of a pair."""
    count = len(first.word_places())
    words = tuple(None if word is None else word + count for word in second.words)
    return TextTokens(
        (first.texts[0], second.texts[0]),
        {
            name: row + second.inputs[name]
            for name, row in first.inputs.items()
            if name in second.inputs
        },
        first.tokens + second.tokens,
        first.offsets + second.offsets,
        first.words + words,
        first.texts_of + tuple(None if each is None else 1 for each in second.texts_of),
    )


def writing_subjects(
    model: Any,
    tokenizer: Any,
    text: str,
    written: str | None,
    wanted: Wanted,
    *,
    max_length: int | None,
    device: Any,
) -> list[Subject]:
    """Each token that was written, after the source and what was written before it."""
    if wanted.target is not None:
        raise ValueError(
            f"target must be None for {type(model).__name__}, which is explained by the tokens "
            f"that it writes; word names one, got target {wanted.target!r}"
        )
    source = read_text(tokenizer, model, text, None, max_length)
    with evaluating(model, device) as place:
        ids = written_ids(model, tokenizer, as_batch(source, place), written, {})[0].tolist()
    pieces = pieces_of(tokenizer, ids)
    steps = range(1, len(ids))
    if wanted.word is not None:
        steps = range(1, len(ids))[word_number([bare(p) for p in pieces[1:]], wanted.word) :][:1]
    whole = written_tokens(tokenizer, ids)
    return [
        WritingSubject(
            model,
            tokenizer,
            joined(source, whole.beginning(step)),
            Target(pieces[step], LOG_ODDS, last_log_odds(ids[step])),
            source=len(source),
        )
        for step in steps
    ]


def bare(piece: str) -> str:
    """A piece without the marks of its tokenizer."""
    for mark in MARKS:
        piece = piece.removeprefix(mark)
    return piece


def last_log_odds(index: int):
    """The log-odds of the next token, of logits `(B, T, V)`."""

    def value_of(outputs: Any) -> torch.Tensor:
        return log_odds(outputs.logits[:, -1], index)

    return value_of
