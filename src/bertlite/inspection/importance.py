"""How much a model leans on each head and each inner neuron.

By gradient (Michel, Levy and Neubig 2019, "Are sixteen heads really better than one?", section
4.1): the mean over examples of |dL/dg|, where g is a gate of 1 before the head. One pass forward
and backward gives all of them. By ablation: what a score loses where one head is off, one head at a
time; slower, and no approximation.

Both say what this model does on these rows with all other heads at work. A head may count for
little because another one does the same: two such heads have little importance each, and much
together.

Shapes: `B` rows, `H` heads, `I` inner neurons.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .heads import Gates, head_gates, mask_heads, neuron_gates
from .layer_parts import head_counts, neuron_counts

Batch = Mapping[str, Any]
COUNTED_ONCE = 1  # a loss that is divided by one item is their sum


@dataclass(frozen=True)
class Importance:
    """Of one part of a model.

    Attributes:
        heads: `(H,)` a layer.
        neurons: `(I,)` a layer; none for the part "cross", nor by ablation.
        examples: rows that it was measured on.
        part: "encoder", "decoder" or "cross".
    """

    heads: list[torch.Tensor]
    neurons: list[torch.Tensor]
    examples: int
    part: str

    def ranked_heads(self) -> list[tuple[int, int]]:
        """(layer, head), the least important first."""
        places = [
            (float(value), layer, head)
            for layer, values in enumerate(self.heads)
            for head, value in enumerate(values)
        ]
        return [(layer, head) for _, layer, head in sorted(places)]

    def normalized_heads(self) -> list[torch.Tensor]:
        """Each layer's divided by their length, as Michel et al. do before they rank (appendix)."""
        return [each / each.norm().clamp_min(1e-30) for each in self.heads]


def gradient_importance(
    model: nn.Module, batches: Iterable[Batch], *, part: str = "encoder", power: int = 1
) -> Importance:
    """Importance of all heads and inner neurons by the gradient of the loss.

    The loss of a row is the sum over what is labelled in it. The model computes as in evaluation,
    without dropout, and is left as it was.

    Args:
        model: a BertLite or TransformerLite model whose head has a loss.
        batches: inputs with labels, as the model's forward takes them.
        part: "encoder", "decoder" or "cross".
        power: 1: the mean of |dL/dg|, as in the paper; 2: the mean of its square, the diagonal of
            Fisher's information, in which heads and neurons can be compared and added (Kwon et al.
            2022, "A fast post-training pruning framework for Transformers", section 4.1).

    Returns:
        The importance of every head and neuron.

    Raises:
        ValueError: no batch, one without labels, or a part that there is not.
    """
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, got {power!r}")
    heads, with_neurons = head_counts(model, part), part != "cross"
    neurons = neuron_counts(model, part) if with_neurons else []
    sums = [torch.zeros(count) for count in (*heads, *neurons)]
    examples = 0
    with evaluating(model):
        for batch in batches:
            for total, gradient in zip(sums, gate_gradients(model, batch, part), strict=True):
                total += gradient.abs().pow(power).sum(0).cpu()
            examples += rows_of(batch)
    if not examples:
        raise ValueError("batches must hold at least one batch, got none")
    means = [total / examples for total in sums]
    return Importance(means[: len(heads)], means[len(heads) :], examples, part)


def gate_gradients(model: nn.Module, batch: Batch, part: str) -> list[torch.Tensor]:
    """dL/dg of each row: `(B, H)` a layer, then `(B, I)` a layer."""
    rows, device = rows_of(batch), next(model.parameters()).device
    neurons = neuron_counts(model, part) if part != "cross" else []
    ones = [
        torch.ones(rows, count, device=device, requires_grad=True)
        for count in (*head_counts(model, part), *neurons)
    ]
    first = len(ones) - len(neurons)
    with torch.enable_grad(), head_gates(model, ones[:first], part):
        with neuron_gates(model, ones[first:], part) if neurons else Gates():
            loss = loss_of(model, batch, device)
        return list(torch.autograd.grad(loss, ones))


def ablation_importance(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    part: str = "encoder",
    score: Callable[[Any], float] | None = None,
) -> Importance:
    """Importance of all heads by switching off one after the other.

    Args:
        model: as in `gradient_importance`.
        batches: inputs with labels; they are read once for each head, so no stream.
        part: "encoder", "decoder" or "cross".
        score: of the model, higher is better, such as its accuracy; `batches` are not read then.
            None: the loss over `batches`, turned round.

    Returns:
        What the score loses where a head is off: below 0 where the model is better without.

    Raises:
        ValueError: no batch, one without labels, or a part that there is not.
    """
    batches = list(batches)
    if score is None and not batches:
        raise ValueError("batches must hold at least one batch, got none")

    def measured() -> float:
        return -mean_loss(model, batches) if score is None else float(score(model))

    counts = head_counts(model, part)
    found = [torch.zeros(count) for count in counts]
    with evaluating(model):
        whole = measured()
        for layer, count in enumerate(counts):
            for head in range(count):
                with mask_heads(model, {layer: [head]}, part=part):
                    found[layer][head] = whole - measured()
    return Importance(found, [], sum(map(rows_of, batches)), part)


def mean_loss(model: nn.Module, batches: Iterable[Batch]) -> float:
    """The loss a row, over all batches."""
    device = next(model.parameters()).device
    total, rows = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            total += float(loss_of(model, batch, device))
            rows += rows_of(batch)
    return total / rows


def loss_of(model: nn.Module, batch: Batch, device: Any) -> torch.Tensor:
    """The sum of the losses of a batch."""
    moved = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }
    loss = getattr(model(**moved, num_items_in_batch=COUNTED_ONCE), "loss", None)
    if loss is None:
        raise ValueError(
            f"batches must hold labels for {type(model).__name__}, got {', '.join(sorted(batch))}"
        )
    return loss


def rows_of(batch: Batch) -> int:
    """Rows that the model's layers see; those of choices count one by one."""
    ids = batch.get("input_ids")
    if ids is None:
        raise ValueError(f"batches must hold input_ids, got {', '.join(sorted(batch))}")
    return int(ids[..., 0].numel())


@contextmanager
def evaluating(model: nn.Module):
    """Without dropout; afterwards each module is in the mode in which it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
