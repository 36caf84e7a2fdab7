"""A short training after pruning, in which the smaller model learns from the one it was cut from.

Three losses are added: the task's own; the distance of its answers to the unpruned model's (Hinton
et al. 2015, at temperature 2); and of its layers' states to theirs, as a share of their size (Jiao
et al. 2020, TinyBERT), which have the same width since pruning leaves the hidden size alone.

Shapes: `B` rows, `T` length, `E` hidden size, `L` labels.
"""

from typing import Any

import torch
from torch import nn
from transformers import Trainer

TEMPERATURE = 2.0
STATES_WEIGHT = 5.0  # of the layers' distance, which is a share well below 1
ANSWERS = ("logits", "start_logits", "end_logits")
IGNORED = -100


class DistillingTrainer(Trainer):
    """The library's trainer with the three losses.

    `teacher` is the unpruned model; `kept` are the numbers of its layers that the trained one still
    has.
    """

    teacher: Any = None
    kept: tuple[int, ...] = ()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The sum of the losses, and the outputs where they are asked for."""
        if self.teacher is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        wanted = {**inputs, "output_hidden_states": True}
        outputs = model(**wanted, num_items_in_batch=num_items_in_batch)
        with torch.no_grad():
            theirs = self.teacher(**{k: v for k, v in wanted.items() if k != "labels"})
        kind = getattr(self.teacher.config, "problem_type", None)
        loss = outputs.loss + answers_distance(
            outputs, theirs, inputs.get("labels"), has_classes=kind in (None, SINGLE)
        )
        there = inputs.get("attention_mask", inputs["input_ids"].new_ones(1)).bool()
        states = [theirs.hidden_states[0], *(theirs.hidden_states[n + 1] for n in self.kept)]
        loss = loss + STATES_WEIGHT * states_distance(outputs.hidden_states, states, there)
        return (loss, outputs) if return_outputs else loss


SINGLE = "single_label_classification"


def answers_distance(
    ours: Any, theirs: Any, labels: torch.Tensor | None, *, has_classes: bool
) -> torch.Tensor:
    """Distance of the answers, over rows or over the tokens that are labelled.

    Kullback and Leibler's where the outputs are scores of classes, else the mean square.
    """
    total = None
    for name in ANSWERS:
        if getattr(ours, name, None) is None:
            continue
        mine, other = getattr(ours, name), getattr(theirs, name)  # (B, L) or (B, T, L)
        if mine.ndim == 3 and labels is not None and labels.shape == mine.shape[:2]:
            mine, other = mine[labels != IGNORED], other[labels != IGNORED]  # (labelled, L)
        if has_classes and mine.shape[-1] > 1:
            target = (other / TEMPERATURE).log_softmax(-1)
            found = nn.functional.kl_div(
                (mine / TEMPERATURE).log_softmax(-1), target, log_target=True, reduction="batchmean"
            )
            found = found * TEMPERATURE**2
        else:
            found = nn.functional.mse_loss(mine, other)
        total = found if total is None else total + found
    if total is None:
        raise ValueError(f"model must answer with one of {ANSWERS} to be recovered, got none")
    return total


def states_distance(
    ours: Any, theirs: list[torch.Tensor], attention_mask: torch.Tensor
) -> torch.Tensor:
    """Mean square of the difference of states at real tokens, as a share of theirs, over layers."""
    parts = []
    for mine, other in zip(ours, theirs, strict=True):  # (B, T, E) each
        mask = attention_mask.expand(mine.shape[:2])
        mine, other = mine[mask], other[mask]
        parts.append((mine - other).square().mean() / other.square().mean())
    return torch.stack(parts).mean()
