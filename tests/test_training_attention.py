"""Attention with dropout as one node of the graph, against the formula with the same random
numbers.
"""

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import bertlite
from bertlite.backends.cpu.dropout_attention import DroppedAttention, attend_dropping
from bertlite.models.attention import Attention, attend_each_sequence, scaled_dot_product_attention

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
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    return made, ends, torch.randn(1, count, HEADS, SIZE, generator=generator).to(dtype)


def attended(function, tensors, ends, dropout=0.4):
    torch.manual_seed(1)
    heads = [tensor.unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for tensor in tensors]
    module = torch.nn.Module().train()
    module.is_causal = False
    return function(
        scaled_dot_product_attention, module, *heads, ends, scaling=0.5, dropout=dropout
    )


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("dropout", [0.4, 1e-4])
def test_values_and_gradients_are_those_of_the_formula(lengths, dropout):
    tensors, ends, gradient = inputs(lengths)
    found, expected = (
        attended(f, tensors, ends, dropout) for f in (attend_dropping, attend_each_sequence)
    )
    assert "DroppedAttention" in str(found.grad_fn.next_functions)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    for one, other in zip(
        *(torch.autograd.grad(out, tensors, gradient) for out in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_gradient_may_be_one_number_spread_out():
    tensors, ends, _ = inputs([2, 2, 5])
    both = [
        attended(function, tensors, ends).sum()
        for function in (attend_dropping, attend_each_sequence)
    ]
    for one, other in zip(*(torch.autograd.grad(total, tensors) for total in both), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_gradients_are_those_of_differences():
    """By torch's own numerical check, with the masks held."""
    tensors, ends, _ = inputs([2, 2, 3], torch.float64)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda *each: attended(attend_dropping, each, ends), tensors, fast_mode=True)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_is_frozen_gets_no_second_gradient(frozen):
    tensors, ends, gradient = inputs([2, 3])
    tensors[frozen].requires_grad_(False)
    second = []
    for function in (attend_dropping, attend_each_sequence):
        free = [tensor for tensor in tensors if tensor.requires_grad]
        first = torch.autograd.grad(
            attended(function, tensors, ends), free, gradient, create_graph=True
        )
        second.append(torch.autograd.grad(sum(each.square().sum() for each in first), free))
    for one, other in zip(*second, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_sequences_that_do_not_add_up_are_the_formulas_error():
    tensors, ends, _ = inputs([2, 3])
    with pytest.raises(RuntimeError, match="split_with_sizes"):
        attended(attend_dropping, tensors, ends[:-1])


def test_transforms_go_by_the_formula():
    tensors, ends, _ = inputs([2, 3])
    slope = torch.func.grad(
        lambda x: attended(attend_dropping, [x, *tensors[1:]], ends, 1e-4).sum()
    )(tensors[0])
    (expected,) = torch.autograd.grad(
        attended(attend_each_sequence, tensors, ends, 1e-4).sum(), tensors[:1]
    )
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
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "bertlite_dropping", attend_each_sequence)
        expected = step(model, rows, mask)
    layers = sum(isinstance(module, Attention) for module in model.modules())
    assert taken == len(calls) == layers * (2 if way == "checkpointed" else 1)
    for name, gradient in found.items():
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-4, atol=1e-3 if way == "autocast" else 1e-6, msg=name
        )
