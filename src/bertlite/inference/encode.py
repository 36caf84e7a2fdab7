"""`encode`.

Texts to vectors, in batches by token budget, tokenised in a thread while the model computes.

Shapes: `B` batch, `T` length, `E` hidden size.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

BLOCK = (
    1024  # texts tokenised at a time: enough to sort well by length, little enough to start at once
)
POOLINGS = ("mean", "cls", "max")


def pool(hidden_states: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """`(B, T, E)` and `(B, T)` to one vector a row, `(B, E)`, from real tokens only."""
    real = attention_mask.bool()[..., None]  # (B, T, 1)
    if pooling == "cls":
        return hidden_states[:, 0]
    if pooling == "max":
        return hidden_states.masked_fill(~real, -torch.inf).amax(1)
    return hidden_states.masked_fill(~real, 0).sum(1) / real.sum(1)


def batches_by_budget(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices from the longest to the shortest, as many at a time as fit into `budget` tokens.

    At least one.

    >>> list(batches_by_budget([2, 5, 3], budget=6))
    [[1], [2, 0]]
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and tokens + lengths[index] > budget:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def tokenized(
    texts: list[str], tokenizer, max_length: int, budget: int
) -> Iterator[tuple[list[int], dict]]:
    """Where each text of a batch stands in `texts`, and the padded batch.

    Longest first, so that memory peaks first.
    """
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    for start in range(0, len(order), BLOCK):
        places = order[start : start + BLOCK]
        rows = tokenizer([texts[place] for place in places], truncation=True, max_length=max_length)
        for batch in batches_by_budget([len(ids) for ids in rows["input_ids"]], budget):
            picked = {name: [column[index] for index in batch] for name, column in rows.items()}
            padded = tokenizer.pad(picked, padding_side="right", return_tensors="pt")
            yield [places[index] for index in batch], dict(padded)


def ahead(items: Iterator, depth: int = 4) -> Iterator:
    """The items, made in a thread up to `depth` ahead of who takes them.

    An error there is raised here.
    """
    waiting: queue.Queue = queue.Queue(depth)
    stopped, end = threading.Event(), object()

    def put(item) -> bool:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:  # raised again below, in the thread that asked
            put((end, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def check_options(
    texts, pooling: str, output: str, batch_tokens: int, max_length: int | None
) -> list[str]:
    """The texts as a list; a ValueError for what cannot be encoded, before anything is computed."""
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}")
    if output not in ("numpy", "torch"):
        raise ValueError(f"output must be 'numpy' or 'torch', got {output!r}")
    for name, value in (("batch_tokens", batch_tokens), ("max_length", max_length)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    texts = [texts] if isinstance(texts, str) else list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"texts must hold strings, got {type(text).__name__} at position {place}"
            )
    return texts


def encode(
    texts: str | Sequence[str],
    model: Any,
    tokenizer=None,
    *,
    pooling: str = "mean",
    normalize: bool = True,
    max_length: int | None = None,
    batch_tokens: int = 2048,
    output: str = "numpy",
    show_progress: bool = False,
) -> np.ndarray | torch.Tensor:
    """One vector for each text, in the order given.

    `(texts, E)` in fp32, or `(E,)` for a single string.

    With the defaults, the vectors of a sentence-transformers model with mean pooling and a norm,
    such as MiniLM.

    Args:
        texts: a string or strings.
        model: an encoder, with or without a head, optimised or not; of an encoder-decoder, its
            encoder is used.
        tokenizer: its tokenizer; None: the one beside the model's weights.
        pooling: "mean" over real tokens, "cls" for the first one, "max" for the largest of each
            channel.
        normalize: scale each vector to length 1.
        max_length: tokens a text is cut to; None: as many as tokenizer and model take.
        batch_tokens: real tokens computed at a time.
        output: "numpy" or "torch".
        show_progress: a bar over the texts.

    Raises:
        ValueError: an unknown option, or a text that is no string.
    """
    rows = check_options(texts, pooling, output, batch_tokens, max_length)
    if tokenizer is None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(model.config._name_or_path)
    limit = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    vectors = torch.empty(len(rows), model.config.hidden_size)
    batches = ahead(tokenized(rows, tokenizer, min(max_length or limit, limit), batch_tokens))
    with (
        torch.inference_mode(),
        tqdm(total=len(rows), disable=not show_progress, unit="text") as progress,
    ):
        for places, batch in batches:
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            hidden_states = encoder(**batch).last_hidden_state  # (B, T, E)
            pooled = pool(hidden_states, batch["attention_mask"], pooling).float()
            vectors[places] = (
                nn.functional.normalize(pooled, dim=-1) if normalize else pooled
            ).cpu()
            progress.update(len(places))
    made = vectors[0] if isinstance(texts, str) else vectors
    return made.numpy() if output == "numpy" else made
