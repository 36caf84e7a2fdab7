"""Which graphs a source becomes, what they read and give, and examples for them.

Shapes: `B` batch, `C` choices, `T` length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..backends.engines.onnx_graph import fusable_attention
from .modules import EmbeddingGraph, HeadGraph
from .sources import Source

Batch = dict[str, torch.Tensor]
TARGETS = 7  # tokens that a decoder is given


@dataclass(frozen=True)
class Plan:
    """A graph to be written.

    Attributes:
        name: of its file.
        module: what is recorded.
        example: inputs to record it with.
        outputs: names of its outputs, in order.
        free: of inputs and outputs, the sides that change from batch to batch, with their names.
        num_heads: of its attention; 0: of each layer its own, which no fusion knows.
        hidden_size: of its vectors.
    """

    name: str
    module: nn.Module
    example: Batch
    outputs: tuple[str, ...]
    free: dict[str, dict[int, str]]
    num_heads: int
    hidden_size: int


def head_plan(source: Source, attention: Callable | None = fusable_attention) -> Plan:
    """The graph of a BERT with or without a head; `attention` as in `HeadGraph`."""
    task, inputs = source.task, source.inputs
    module: nn.Module
    if task.name == "embed":
        module = EmbeddingGraph(source.encoder, inputs, source.recipe, attention)
    else:
        module = HeadGraph(source.model, inputs, task.outputs, attention)
    choices = task.name == "choose"
    sides = {0: "batch", 1: "choices", 2: "length"} if choices else {0: "batch", 1: "length"}
    free = dict.fromkeys(inputs, sides)
    for name, per_token in zip(task.outputs, task.per_token, strict=True):
        free[name] = sides if per_token else {0: "batch", **({1: "choices"} if choices else {})}
    encoder = source.encoder
    return Plan(
        name="model",
        module=module.eval(),
        example=make_batch(source, (8, 5)),
        outputs=task.outputs,
        free=free,
        num_heads=0 if encoder.config.is_pruned else encoder.num_heads,
        hidden_size=encoder.config.hidden_size,
    )


def make_batch(
    source: Source, lengths: Sequence[int], side: str = "right", seed: int = 0, choices: int = 2
) -> Batch:
    """Random ids of rows with these lengths, `(B, T)`, of multiple choice `(B, C, T)`.

    With targets of one length, of an encoder-decoder.
    """
    generator = torch.Generator().manual_seed(seed)
    config: Any = source.encoder.config
    if source.task.name == "choose":
        lengths = [length for length in lengths for _ in range(choices)]
    longest = max(lengths)
    ids = words((len(lengths), longest), config.vocab_size, config.pad_token_id, generator)
    places = torch.arange(longest)[None]  # (1, T)
    counts = torch.tensor(list(lengths))[:, None]  # (B, 1)
    real = places < counts if side == "right" else places >= longest - counts
    batch = {"input_ids": ids, "attention_mask": real.long()}
    if "token_type_ids" in source.inputs:
        types = torch.randint(config.type_vocab_size, ids.shape, generator=generator)
        batch["token_type_ids"] = types
    if source.task.name == "translate":
        size = (len(lengths), TARGETS)
        vocabulary, padding = config.target_vocab_size, config.pad_token_id
        batch["decoder_input_ids"] = words(size, vocabulary, padding, generator)
    if source.task.name == "choose":
        batch = {name: each.unflatten(0, (-1, choices)) for name, each in batch.items()}
    return batch


def words(
    shape: tuple[int, ...], vocabulary: int, padding: int | None, generator: torch.Generator
) -> torch.Tensor:
    """Random ids, none of them padding, of which some models make other positions."""
    ids = torch.randint(vocabulary, shape, generator=generator)
    return torch.where(ids == padding, (ids + 1) % vocabulary, ids) if padding is not None else ids
