"""`encode`.

Texts to vectors, in batches by token budget, tokenised in a thread while the model computes.

Shapes: `B` batch, `T` length, `E` hidden size.
"""

import os
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ..backends.lengths import send
from .batching import evaluating
from .embedding_recipe import EmbeddingRecipe, read_recipe
from .loading import BASE, as_texts, check_counts, check_flag, load, roomy_limit
from .pooling import POOLINGS, pool

BLOCK = (
    1024  # texts tokenised at a time: enough to sort well by length, little enough to start at once
)


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


def put_unless(stopped: threading.Event, waiting: queue.Queue, item: Any) -> bool:
    """Put an item into the queue as soon as there is room; False where it was `stopped` first."""
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


def ahead(items: Iterator, depth: int = 4) -> Iterator:
    """The items, made in a thread up to `depth` ahead of who takes them.

    An error there is raised here.
    """
    waiting: queue.Queue = queue.Queue(depth)
    stopped, end = threading.Event(), object()

    def work() -> None:
        try:
            for item in items:
                if not put_unless(stopped, waiting, (item, None)):
                    return
            put_unless(stopped, waiting, (end, None))
        except BaseException as error:  # raised again below, in the thread that asked
            put_unless(stopped, waiting, (end, error))

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
    texts: Any, pooling: str | None, output: str, batch_tokens: int, max_length: int | None
) -> list[str]:
    """The texts as a list; a ValueError for what cannot be encoded, before anything is computed."""
    if pooling not in (None, *POOLINGS):
        raise ValueError(f"pooling must be one of {tuple(POOLINGS)}, got {pooling!r}")
    if output not in ("numpy", "torch"):
        raise ValueError(f"output must be 'numpy' or 'torch', got {output!r}")
    check_counts(1, batch_tokens=batch_tokens, max_length=max_length)
    return as_texts("texts", texts, blank=True)[0]


def encode(
    texts: str | Sequence[str],
    model: Any,
    tokenizer: Any = None,
    *,
    pooling: str | None = None,
    normalize: bool | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    max_length: int | None = None,
    batch_tokens: int = 2048,
    output: str = "numpy",
    device: torch.device | str | int | None = None,
    show_progress: bool = False,
) -> np.ndarray | torch.Tensor:
    """One vector for each text, in the order given.

    `(texts, E)` in fp32, or `(E,)` for a single string.

    Of a folder of sentence-transformers (one with a `modules.json`) the vectors are those that its
    files ask for: its length, pooling, layers, norm and prompts. Of any other, the mean over tokens
    at length 1. A text has the same vector alone and among others, whatever they are.

    Args:
        texts: a string or strings.
        model: a folder, a hub name, or a loaded encoder, with or without a head, optimised or not;
            of an encoder-decoder, its encoder is used.
        tokenizer: its tokenizer; None: the one beside the model's weights.
        pooling: "mean" over real tokens, "cls" for the first one, "max" for the largest of each
            channel, "mean_sqrt_len" for the sum over the root of the length, "weighted_mean" for
            the mean with rising weights, "last" for the last one; None: the folder's, or "mean".
        normalize: scale each vector to length 1; None: as the folder says, or yes.
        prompt: put before each text; None: the folder's default, if it has one.
        prompt_name: or the name of one of the folder's prompts.
        max_length: tokens a text is cut to; None: the folder's, or as many as tokenizer and model
            take.
        batch_tokens: real tokens computed at a time.
        output: "numpy" or "torch".
        device: where to run; None: where the model is.
        show_progress: a bar over the texts.

    Raises:
        ValueError: an unknown option, a text that is no string, no such model, or a folder whose
            vectors are made in a way that is not known here.
    """
    rows = check_options(texts, pooling, output, batch_tokens, max_length)
    check_flag("normalize", normalize)
    recipe = recipe_of(model)
    before = recipe.prompt(prompt, prompt_name)
    if isinstance(model, str | os.PathLike):
        model = os.path.join(model, recipe.folder) if recipe.folder else os.fspath(model)
    model, tokenizer = load("encode", model, tokenizer, BASE, device)
    skipped = 0 if recipe.include_prompt or not before else prompt_tokens(tokenizer, before)
    rows = [(before + row).lower() if recipe.lower_case else before + row for row in rows]
    length = roomy_limit("max_length", model, tokenizer, max_length or recipe.max_length)
    poolings = recipe.poolings if pooling is None else (pooling,)
    normalize = recipe.normalize if normalize is None else normalize
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    vectors = torch.empty(len(rows), width(recipe, poolings, model.config.hidden_size))
    batches = ahead(tokenized(rows, tokenizer, length, batch_tokens))
    with (
        evaluating(model, device) as place_of_work,
        torch.inference_mode(),
        tqdm(total=len(rows), disable=not show_progress, unit="text") as progress,
    ):
        for places, batch in batches:
            batch = send(batch, place_of_work, encoder)
            hidden_states = encoder(**batch).last_hidden_state  # (B, T, E)
            pooled = pool(hidden_states, batch["attention_mask"], poolings, skipped).cpu()
            vectors[places] = finished(pooled, recipe, normalize)
            progress.update(len(places))
    made = vectors[0] if isinstance(texts, str) else vectors
    return made.numpy() if output == "numpy" else made


def recipe_of(model: Any) -> EmbeddingRecipe:
    """What the folder says that a model is, or was loaded from; errors as in `read_recipe`."""
    if isinstance(model, str | os.PathLike):
        return read_recipe(model)
    source = getattr(getattr(model, "config", None), "_name_or_path", "")
    return read_recipe(source, offline=True) if source else EmbeddingRecipe()


def prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """Tokens of a prompt at the start of a row, special ones before it included."""
    ids = tokenizer(prompt)["input_ids"]
    return len(ids) - (1 if ids and ids[-1] in tokenizer.all_special_ids else 0)


def width(recipe: EmbeddingRecipe, poolings: Sequence[str], hidden_size: int) -> int:
    """Numbers of a vector; a ValueError where the folder's layers do not fit what is pooled."""
    found = len(poolings) * hidden_size
    for linear, _ in recipe.layers:
        if linear.in_features != found:
            raise ValueError(
                f"pooling must give the {linear.in_features} numbers that the folder's layers "
                f"read, got {found} of {', '.join(poolings)}"
            )
        found = linear.out_features
    return found


def finished(pooled: torch.Tensor, recipe: EmbeddingRecipe, normalize: bool) -> torch.Tensor:
    """`(B, E)` through the folder's layers, and to length 1 where that is wanted.

    Row by row: the product of many rows differs, in its last bits, from that of one.
    """
    for linear, activation in recipe.layers:
        pooled = torch.stack([activation(linear(row)) for row in pooled])
    return nn.functional.normalize(pooled, dim=-1) if normalize else pooled
