"""Attention with dropout as one node of the graph, against the formula with the same random
numbers.
"""

from unittest import mock

import pytest
import torch
from cases import bert_config

import bertlite
from bertlite.backends.cpu import attention
from bertlite.backends.cpu.attention import FlatAttention
from bertlite.backends.cpu.dropout_attention import DroppedAttention
from bertlite.backends.unpadding import equal_length_groups
from bertlite.models.attention import Attention

pytestmark = pytest.mark.processor

HEADS, SIZE = 3, 4
LENGTHS = {
    "runs": [2, 2, 5, 7, 7, 7],
    "one": [6],
    "single tokens": [1, 1, 1],
    "empty ones": [0, 3, 0, 3, 4],
}


def inputs(lengths, dtype=torch.float32):
    generator, count = torch.Generator().manual_seed(0), sum(lengths)
    made = [
        torch.randn(1, count, HEADS * SIZE, generator=generator).to(dtype).requires_grad_()
        for _ in range(3)
    ]
    return made, torch.randn(1, count, HEADS, SIZE, generator=generator).to(dtype)


class Caller(torch.nn.Module):
    """Stands for the module that attends, in training."""

    is_causal = False
    config = bert_config()


Caller.config._attn_implementation = "sdpa"


def in_one_node(tensors, lengths, dropout=0.4):
    """`FlatAttention` on `(1, N, H · D)` each, with the masks of a fixed seed."""
    torch.manual_seed(1)
    heads = [tensor.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for tensor in tensors]
    flat = FlatAttention(equal_length_groups(lengths))
    context, _ = flat(Caller(), *heads, None, scaling=0.5, dropout=dropout)
    return context


def by_formula(tensors, lengths, dropout=0.4):
    """The same, run by run, by the formula that torch derives."""
    with mock.patch.object(attention, "suits_one_node", return_value=False):
        return in_one_node(tensors, lengths, dropout)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("dropout", [0.4, 1e-4])
def test_values_and_gradients_are_those_of_the_formula(lengths, dropout):
    tensors, gradient = inputs(lengths)
    found, expected = (f(tensors, lengths, dropout) for f in (in_one_node, by_formula))
    assert "DroppedAttention" in str(found.grad_fn.next_functions)
    assert "DroppedAttention" not in str(expected.grad_fn.next_functions)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    for one, other in zip(
        *(torch.autograd.grad(out, tensors, gradient) for out in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_gradient_may_be_one_number_spread_out():
    tensors, _ = inputs([2, 2, 5])
    both = [function(tensors, [2, 2, 5]).sum() for function in (in_one_node, by_formula)]
    for one, other in zip(*(torch.autograd.grad(total, tensors) for total in both), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_gradients_are_those_of_differences():
    """By torch's own numerical check, with the masks held."""
    tensors, _ = inputs([2, 2, 3], torch.float64)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda *each: in_one_node(each, [2, 2, 3]), tensors, fast_mode=True)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_is_frozen_gets_no_second_gradient(frozen):
    tensors, gradient = inputs([2, 3])
    tensors[frozen].requires_grad_(False)
    second = []
    for function in (in_one_node, by_formula):
        free = [tensor for tensor in tensors if tensor.requires_grad]
        first = torch.autograd.grad(function(tensors, [2, 3]), free, gradient, create_graph=True)
        second.append(torch.autograd.grad(sum(each.square().sum() for each in first), free))
    for one, other in zip(*second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_transforms_go_by_the_formula():
    tensors, _ = inputs([2, 3])
    slope = torch.func.grad(lambda x: in_one_node([x, *tensors[1:]], [2, 3], 1e-4).sum())(
        tensors[0]
    )
    total = by_formula(tensors, [2, 3], 1e-4).sum()
    (expected,) = torch.autograd.grad(total, tensors[:1])
    torch.testing.assert_close(slope, expected.detach())


def step(model, rows, mask):
    torch.manual_seed(2)
    model.zero_grad()
    loss = model(rows, mask, labels=torch.tensor([0, 1, 1])).loss
    with torch.autocast("cpu", enabled=False):  # as usual, the backward pass lies outside
        loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("way", ["plain", "checkpointed", "autocast"])
def test_training_takes_it_and_changes_nothing(monkeypatch, way):
    """A model's gradients with it and without, and that it is asked at all."""
    torch.manual_seed(0)
    model = bertlite.BertLiteForSequenceClassification(
        bertlite.preset("bert-tiny", num_labels=2)
    ).train()
    rows = torch.randint(5, 99, (3, 8))
    mask = (torch.arange(8) < torch.tensor([[3], [8], [5]])).long()
    calls, right = [], DroppedAttention.apply
    monkeypatch.setattr(DroppedAttention, "apply", lambda *given: calls.append(1) or right(*given))
    if way == "checkpointed":
        model.gradient_checkpointing_enable()
    with torch.autocast("cpu", enabled=way == "autocast"):
        found = step(model, rows, mask)
        taken = len(calls)
        monkeypatch.setattr(attention, "suits_one_node", lambda query: False)
        expected = step(model, rows, mask)
    layers = sum(isinstance(module, Attention) for module in model.modules())
    # The last layer ends at the first token, which is all that the pooler reads: its inputs are
    # kept, and nothing is computed twice.
    assert taken == len(calls) == (2 * layers - 1 if way == "checkpointed" else layers)
    for name, gradient in found.items():
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-4, atol=1e-3 if way == "autocast" else 1e-6, msg=name
        )
