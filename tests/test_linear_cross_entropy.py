"""The loss over a vocabulary without its logits, against torch's cross-entropy.

Values and gradients, whole and in chunks, in half precision, with frozen parts.
"""

import pytest
import torch
from torch import nn

from bertlite.backends.cpu.linear import linear
from bertlite.backends.linear_cross_entropy import linear_cross_entropy
from bertlite.models.losses import cross_entropy

pytestmark = pytest.mark.processor

ROWS, WIDTH, WORDS = 17, 8, 29


def vocabulary_inputs(dtype=torch.float32):
    shapes = ((ROWS, WIDTH), (WORDS, WIDTH), (WORDS,))
    tensors = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    return tensors, torch.randint(0, WORDS, (ROWS,))


def loss_of(hidden, labels, weight, bias, further=None, **options) -> torch.Tensor:
    """The loss of a layer that holds these very tensors."""
    layer = nn.Linear(1, 1)
    del layer.weight, layer.bias
    layer.weight, layer.bias = weight, bias
    product = options.pop("product", nn.functional.linear)
    return linear_cross_entropy(hidden, layer, labels, product=product, bias=further, **options)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("items", [None, 40, torch.tensor(40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torchs_cross_entropy(chunk, smoothing, items, dtype):
    (hidden, weight, bias), labels = vocabulary_inputs(dtype)
    logits = nn.functional.linear(hidden, weight, bias).double()
    total = nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    expected = total / (ROWS if items is None else 40)
    # A factor of 2 stands for a loss scale: the gradient that comes in is not 1.
    expected_gradients = torch.autograd.grad(2 * expected, (hidden, weight, bias))
    found = loss_of(
        hidden,
        labels,
        weight,
        bias,
        num_items_in_batch=items,
        chunk_size=chunk,
        label_smoothing=smoothing,
    )
    assert abs(found.item() - expected.item()) < 1e-6 * max(1, expected.item())
    (2 * found).backward()
    for tensor, gradient in zip((hidden, weight, bias), expected_gradients, strict=True):
        torch.testing.assert_close(tensor.grad, gradient, rtol=1e-5, atol=1e-6)


def test_in_bf16_is_as_close_as_torchs():
    (hidden, weight, bias), labels = vocabulary_inputs()
    reference = nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), labels)
    expected = torch.autograd.grad(reference, (hidden, weight, bias))
    half = [tensor.detach().bfloat16().requires_grad_() for tensor in (hidden, weight, bias)]
    plain = nn.functional.cross_entropy(nn.functional.linear(*half).float(), labels)
    theirs = torch.autograd.grad(plain, half)
    ours = torch.autograd.grad(loss_of(half[0], labels, *half[1:], chunk_size=5), half)
    for name, ref, their, our in zip(
        ("hidden", "weight", "bias"), expected, theirs, ours, strict=True
    ):
        assert (our - ref).abs().mean() < 3 * (their - ref).abs().mean(), name


def test_under_autocast():
    (hidden, weight, bias), labels = vocabulary_inputs()
    reference = nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), labels)
    expected = torch.autograd.grad(reference, (hidden, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(hidden, labels, weight, bias, chunk_size=5)
    assert loss.dtype == torch.float32
    for found, gradient in zip(
        torch.autograd.grad(loss, (hidden, weight, bias)), expected, strict=True
    ):
        assert found.dtype == torch.float32
        assert (found - gradient).abs().max() < 0.03 * gradient.abs().max()


@pytest.mark.parametrize("frozen", [(0,), (1, 2), (2,)])
def test_with_frozen_parts(frozen):
    """As under LoRA: some of hidden states, weight and bias need no gradient."""
    tensors, labels = vocabulary_inputs()
    for index in frozen:
        tensors[index].requires_grad_(False)
    live = [tensor for tensor in tensors if tensor.requires_grad]
    expected = torch.autograd.grad(
        nn.functional.cross_entropy(nn.functional.linear(*tensors), labels), live
    )
    found = torch.autograd.grad(loss_of(tensors[0], labels, *tensors[1:], chunk_size=3), live)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_labels_is_zero():
    (hidden, weight, bias), labels = vocabulary_inputs()
    loss = loss_of(hidden[:0], labels[:0], weight, bias)
    loss.backward()
    assert loss == 0
    assert not weight.grad.any()
    assert not hidden.grad.any()


def test_without_gradient():
    (hidden, weight, bias), labels = vocabulary_inputs()
    with torch.no_grad():
        loss = loss_of(hidden, labels, weight, bias, chunk_size=4)
        torch.testing.assert_close(
            loss, nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), labels)
        )


@pytest.mark.parametrize("own", [True, False])
def test_a_bias_beside_the_layers_own(own):
    """As Marian's `final_logits_bias`."""
    (hidden, weight, bias), labels = vocabulary_inputs()
    further = torch.randn(WORDS, requires_grad=True)
    live = [hidden, weight, bias, further] if own else [hidden, weight, further]
    whole = bias + further if own else further
    logits = nn.functional.linear(hidden, weight, whole)
    expected = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), live)
    loss = loss_of(hidden, labels, weight, bias if own else None, further, chunk_size=4)
    for found, right in zip(torch.autograd.grad(loss, live), expected, strict=True):
        torch.testing.assert_close(found, right)


def test_products_are_those_that_are_given():
    """Forward, and back to the hidden states, for each of three chunks."""
    (hidden, weight, bias), labels = vocabulary_inputs()
    calls = []

    def product(*given):
        calls.append(given)
        return linear(*given)

    found = loss_of(hidden, labels, weight, bias, chunk_size=6, product=product)
    assert len(calls) == 6
    torch.testing.assert_close(found, loss_of(hidden, labels, weight, bias))


def test_it_is_the_plain_loss():
    """Of a model's head, by the core's own function."""
    (hidden, weight, bias), labels = vocabulary_inputs()
    logits = nn.functional.linear(hidden, weight, bias)
    for options in ({}, {"num_items_in_batch": 40, "label_smoothing": 0.1}):
        expected = cross_entropy("labels", logits, labels, **options)
        torch.testing.assert_close(loss_of(hidden, labels, weight, bias, **options), expected)
