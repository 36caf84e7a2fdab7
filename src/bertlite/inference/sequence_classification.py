"""Classes or scores of texts and of pairs of texts.

Shapes: `L` labels.
"""

from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from .batching import RunOptions, run_windows
from .label_sets import threshold_for
from .loading import as_texts, check_counts, check_number, load, position_limit
from .windows import EncodedText, count_tokens, cut_windows

TEMPERATURE = "calibration_temperature"  # of a config; `temperature` is generation's


def classify(
    texts: str | Iterable[str],
    model: Any,
    tokenizer: Any = None,
    *,
    text_pair: str | Iterable[str] | None = None,
    top_k: int | None = None,
    threshold: float = 0.5,
    coverage: float | None = None,
    max_length: int | None = None,
    doc_stride: int = 64,
    batch_size: int = 32,
    device: torch.device | str | int | None = None,
    show_progress: bool = True,
) -> dict | list:
    """Classify texts, by the model's kind (`config.problem_type`).

    A text that is too long is read in overlapping windows, and their logits are averaged, each
    weighted by the tokens of the text that it holds. Of a pair, the longer text is cut and the
    other stands in each window.

    Args:
        texts: one text, or a list.
        model: a folder, a hub name or a loaded model for sequence classification.
        tokenizer: a fast tokenizer, or where to load one; None: that of the model's folder.
        text_pair: the second text of each pair, as many as `texts`.
        top_k: how many labels to return at most.
        threshold: multi-label models: the probability from which a label is returned; 0 returns
            all.
        coverage: give the set of labels that holds the right one (of several, all right ones) in
            this share of rows such as the model's validation rows were, 0.9 for instance, by the
            thresholds that fine-tuning fitted on them.
        max_length: tokens of a window; None: as many as model and tokenizer can take.
        doc_stride: tokens that two neighbouring windows share.
        batch_size: windows a forward pass.
        device: where to run; None: where the model is.
        show_progress: a progress bar where the work takes more than three seconds.

    Returns:
        For each text, where the model has

        - a single label: a dict of `label` and `score` (softmax); with `top_k` a list of them, best
            first;
        - several labels: a list of such dicts (sigmoid), best first, those at or above `threshold`;
        - regression, which one output without a `problem_type` is too: the dict, whose score is the
            model's output as it is; a list in the order of the labels where there are several.

        With `coverage` it is a list of such dicts, best first, which is empty where no label
        reaches the threshold.

        For one string, its result alone. Where fine-tuning fitted a temperature
        (`config.calibration_temperature`), the logits are divided by it before softmax or sigmoid.

    Raises:
        ValueError: an empty text, texts and pairs of unequal number, a second text that leaves no
            room for the first, a model of another kind, a tokenizer without offsets, numbers out of
            range, `coverage` with `top_k` or of a model without thresholds.
    """
    first, second, single = as_pairs(texts, text_pair)
    check_counts(1, top_k=top_k, max_length=max_length)
    check_counts(0, doc_stride=doc_stride)
    check_number("threshold", threshold, 0, 1)
    check_wanted(top_k, coverage)
    options = RunOptions(batch_size, device, show_progress)
    model, tokenizer = load("classify", model, tokenizer, "ForSequenceClassification", device)
    in_set = None if coverage is None else threshold_for(model.config, coverage)
    limit = position_limit(model, tokenizer, max_length)
    encoded = encode(tokenizer, first, second, limit, doc_stride)
    logits = run_windows(model, tokenizer, encoded, options, description="Classifying")
    results = []
    for text, found in zip(encoded, logits, strict=True):
        mean = mean_logits(
            text, torch.stack([window for (window,) in found])
        )  # (windows, L) to (L,)
        results.append(decide(mean, model.config, top_k, threshold, in_set))
    return results[0] if single else results


def check_wanted(top_k: int | None, coverage: float | None) -> None:
    """Refuse, with a ValueError, a number of labels for a set whose size the model decides."""
    if coverage is not None and top_k is not None:
        raise ValueError(f"top_k and coverage exclude each other, got {top_k} and {coverage}")


def as_pairs(texts: Any, text_pair: Any) -> tuple[list[str], list[str] | None, bool]:
    """Texts, the second texts of pairs, and whether one string was given.

    A ValueError where they do not fit.
    """
    first, single = as_texts("texts", texts)
    if text_pair is None:
        return first, None, single
    second, single_pair = as_texts("text_pair", text_pair)
    if single_pair != single:
        expected, came = ("a string", "a list") if single else ("a list", "a string")
        raise ValueError(f"text_pair must be {expected}, as texts is, got {came}")
    if len(second) != len(first):
        raise ValueError(
            f"text_pair must hold as many texts as texts, {len(first)}, got {len(second)}"
        )
    return first, second, single


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    pairs: list[str] | None,
    limit: int,
    doc_stride: int,
) -> list[EncodedText]:
    """Windows of texts or pairs; of a pair, the longer text is cut."""
    cut_pair = None
    if pairs is not None:
        lengths = zip(count_tokens(tokenizer, texts), count_tokens(tokenizer, pairs), strict=True)
        cut_pair = [second > first for first, second in lengths]
    return cut_windows(
        tokenizer, texts, pairs, cut_pair=cut_pair, max_length=limit, doc_stride=doc_stride
    )


def mean_logits(text: EncodedText, logits: torch.Tensor) -> torch.Tensor:
    """`(windows, L)` to `(L,)`: the mean, each window weighted by its tokens of the text."""
    if len(text.windows) == 1:
        return logits[0]
    weights = logits.new_tensor([window.length for window in text.windows])[:, None]
    return (logits * weights).sum(0) / weights.sum()


def decide(
    logits: torch.Tensor,
    config: Any,
    top_k: int | None,
    threshold: float,
    in_set: float | None = None,
) -> dict | list[dict]:
    """Logits `(L,)` to labels with scores, as `classify` returns them.

    `in_set` is the probability from which a label is in a set, None where no set is asked for.
    """
    problem = config.problem_type or (
        "regression" if config.num_labels == 1 else "single_label_classification"
    )
    temperature = getattr(config, TEMPERATURE, None) or 1.0  # no field of transformers' configs
    if problem == "regression":
        scores = logits
    elif problem == "multi_label_classification":
        scores = (logits / temperature).sigmoid()
    else:
        scores = (logits / temperature).softmax(-1)
    labels = [
        {"label": config.id2label[index], "score": float(score)}
        for index, score in enumerate(scores)
    ]
    if problem == "regression":
        return labels[0] if len(labels) == 1 else labels
    labels.sort(
        key=lambda label: -label["score"]
    )  # stable: equal scores keep the order of the labels
    if in_set is not None or problem == "multi_label_classification":
        least = threshold if in_set is None else in_set
        return [label for label in labels if label["score"] >= least][:top_k]
    return labels[0] if top_k is None else labels[:top_k]
