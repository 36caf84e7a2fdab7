"""Labels of words, and the entities that they form.

Shapes: `N` tokens of a text, `L` labels.
"""

from collections.abc import Iterable
from typing import Any

import torch

from .batching import RunOptions, run_windows
from .loading import as_texts, check_counts, check_text, load, position_limit
from .windows import EncodedText, cut_windows


def tag(
    texts: str | Iterable[Any],
    model: Any,
    tokenizer: Any = None,
    *,
    is_split_into_words: bool = False,
    aggregate: bool = True,
    ignore_labels: Iterable[str] = ("O",),
    max_length: int | None = None,
    doc_stride: int = 64,
    batch_size: int = 32,
    device: torch.device | str | int | None = None,
    show_progress: bool = True,
) -> list:
    """Label the words of texts and join them to entities.

    A word has the label of its first token. Labels of the form B-X and I-X (IOB2) form entities X:
    B-X begins one, I-X goes on with one of the same kind, or begins one where none is open. Of
    other labels, neighbours that are equal form an entity. A text that is too long is read in
    overlapping windows; a token counts in the window where it stands farthest from both edges, so
    that entities across windows stay whole.

    Args:
        texts: one text, or a list; with `is_split_into_words` one list of words, or a list of
            lists.
        model: a folder, a hub name or a loaded model for token classification.
        tokenizer: a fast tokenizer, or where to load one; None: that of the model's folder. It also
            says what a word is, unless words are given.
        is_split_into_words: whether words are given, as training data have them.
        aggregate: False for the label of each word instead of entities.
        ignore_labels: kinds of entities to leave out. Labels of single words are never left out.
        max_length: tokens of a window; None: as many as model and tokenizer can take.
        doc_stride: tokens that two neighbouring windows share.
        batch_size: windows a forward pass.
        device: where to run; None: where the model is.
        show_progress: a progress bar where the work takes more than three seconds.

    Returns:
        For each text a list of dicts: `entity_group` (without `aggregate`: `entity`, the word's
        label), `score` (the label's softmax probability, the mean over the entity's words), `word`,
        and `start` and `end`, such that `text[start:end]` is the word; words given count as joined
        by single spaces. Given words come one dict each, with `entity` "O" and score 0 where the
        tokenizer sees nothing in a word. For one text, its list alone.

    Raises:
        ValueError: an empty text or word, a model of another kind, a tokenizer without offsets,
            numbers out of range.
    """
    given, single = as_sentences(texts) if is_split_into_words else as_texts("texts", texts)
    sentences: list[Any] = [*given]
    check_counts(1, max_length=max_length)
    check_counts(0, doc_stride=doc_stride)
    options, ignored = RunOptions(batch_size, device, show_progress), set(ignore_labels)
    model, tokenizer = load("tag", model, tokenizer, "ForTokenClassification", device)
    encoded = cut_windows(
        tokenizer,
        sentences,
        max_length=position_limit(model, tokenizer, max_length),
        doc_stride=doc_stride,
        is_split_into_words=is_split_into_words,
    )
    logits = run_windows(model, tokenizer, encoded, options, per_token=True, description="Tagging")
    results = []
    for sentence, text, found in zip(sentences, encoded, logits, strict=True):
        scores = token_logits(text, [window for (window,) in found]).softmax(-1)  # (N, L)
        words = label_words(sentence, text, scores, model.config.id2label)
        results.append(join_entities(sentence, words, ignored) if aggregate else words)
    return results[0] if single else results


def as_sentences(value: Any) -> tuple[list[list[str]], bool]:
    """Lists of words, and whether one list was given; a ValueError for anything else."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ValueError(
            f"texts must be a list of words, or of such lists, got {type(value).__name__}"
        )
    sentences: list[Any] = list(value)
    single = bool(sentences) and isinstance(sentences[0], str)
    if single:
        sentences = [sentences]
    for number, words in enumerate(sentences):
        name = "texts" if single else f"texts[{number}]"
        if isinstance(words, str | bytes) or not isinstance(words, Iterable):
            raise ValueError(
                f"{name} must be a list of words, got {type(words).__name__}: {words!r:.80}"
            )
        sentences[number] = list(words)
        if not sentences[number]:
            raise ValueError(f"{name} must hold at least one word, got none")
        for place, word in enumerate(sentences[number]):
            check_text(f"{name}[{place}]", word)
    return sentences, single


def token_logits(text: EncodedText, logits: list[torch.Tensor]) -> torch.Tensor:
    """Logits `(N, L)` of a text's tokens, each from the window where it has the most neighbours on
    its poorer side.
    """
    merged = logits[0].new_zeros(len(text.offsets), logits[0].shape[-1])
    richest = torch.full((len(text.offsets),), -1)
    for window, values in zip(text.windows, logits, strict=True):
        tokens = slice(window.start, window.start + window.length)
        place = torch.arange(window.length)
        neighbours = torch.minimum(place, place.flip(0))  # (length,)
        better = neighbours > richest[tokens]
        merged[tokens][better] = values[window.first : window.first + window.length][better]
        richest[tokens][better] = neighbours[better]
    return merged


def label_words(
    sentence: str | list[str], text: EncodedText, scores: torch.Tensor, id2label: dict[int, str]
) -> list[dict]:
    """One dict for each word.

    The label of its first token, and its characters; `scores` are `(N, L)`.
    """
    labels: dict[Any, dict] = {}
    best = scores.max(-1)
    spans: dict[Any, list[int]] = {}
    for token, number in enumerate(text.word_ids):
        key = ("token", token) if number is None else number  # a token of no word stands alone
        if key not in labels:
            labels[key] = {
                "entity": id2label[int(best.indices[token])],
                "score": float(best.values[token]),
            }
        spans.setdefault(key, [token, token])[1] = token
    if isinstance(sentence, list):
        return place_words(sentence, labels)
    words = []
    for key, label in labels.items():
        start, end = text.characters(sentence, *spans[key])
        if start < end:  # not the white space that some tokenizers see as a word
            words.append({**label, "word": sentence[start:end], "start": start, "end": end})
    return words


def place_words(sentence: list[str], labels: dict[Any, dict]) -> list[dict]:
    """Every given word with its label, or "O" where it has no token, and where it stands in the
    joined sentence.
    """
    words, start = [], 0
    for number, word in enumerate(sentence):
        found = {"entity": "O", "score": 0.0, **labels.get(number, {})}
        words.append({**found, "word": word, "start": start, "end": start + len(word)})
        start += len(word) + 1
    return words


def join_entities(sentence: str | list[str], words: list[dict], ignored: set[str]) -> list[dict]:
    """Words with labels to entities, as `tag` describes."""
    joined = sentence if isinstance(sentence, str) else " ".join(sentence)
    groups: list[tuple[str, list[dict]]] = []
    for word in words:
        prefix, kind = split_label(word["entity"])
        if groups and prefix != "B" and groups[-1][0] == kind:
            groups[-1][1].append(word)
        else:
            groups.append((kind, [word]))
    entities = []
    for kind, members in groups:
        if kind not in ignored:
            start, end = members[0]["start"], members[-1]["end"]
            score = sum(member["score"] for member in members) / len(members)
            place = {"word": joined[start:end], "start": start, "end": end}
            entities.append({"entity_group": kind, "score": score, **place})
    return entities


def split_label(label: str) -> tuple[str, str]:
    """A label's IOB2 prefix, "" where it has none, and its kind.

    >>> split_label("B-PER"), split_label("O")
    (('B', 'PER'), ('', 'O'))
    """
    prefix, dash, kind = label.partition("-")
    return (prefix, kind) if dash and kind and prefix in ("B", "I") else ("", label)
