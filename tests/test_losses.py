"""Every loss against torch's own in double precision, hand-worked numbers, and itself in pieces."""

import math

import pytest
import torch
from cases import bert_config
from torch import nn

from bertlite.models.losses import (
    check_integers,
    class_loss,
    cross_entropy,
    mean_over_items,
    sequence_loss,
    span_loss,
    vocabulary_loss,
)

ROWS, WIDTH, WORDS = 17, 8, 29


def vocabulary_inputs(dtype=torch.float32):
    shapes = ((ROWS, WIDTH), (WORDS, WIDTH), (WORDS,))
    tensors = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    return tensors, torch.randint(0, WORDS, (ROWS,))


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("items", [None, 40, torch.tensor(40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vocabulary_loss_equals_torchs_cross_entropy(chunk, smoothing, items, dtype):
    (hidden, weight, bias), labels = vocabulary_inputs(dtype)
    logits = nn.functional.linear(hidden, weight, bias).double()
    total = nn.functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)
    expected = total / (ROWS if items is None else 40)
    # A factor of 2 stands for a loss scale: the gradient that comes in is not 1.
    expected_gradients = torch.autograd.grad(2 * expected, (hidden, weight, bias))
    found = vocabulary_loss(hidden, labels, weight, bias, items, chunk, smoothing)
    assert abs(found.item() - expected.item()) < 1e-6 * max(1, expected.item())
    (2 * found).backward()
    for tensor, gradient in zip((hidden, weight, bias), expected_gradients, strict=True):
        torch.testing.assert_close(tensor.grad, gradient, rtol=1e-5, atol=1e-6)


def test_vocabulary_loss_in_bf16_is_as_close_as_torchs():
    (hidden, weight, bias), labels = vocabulary_inputs()
    reference = nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), labels)
    expected = torch.autograd.grad(reference, (hidden, weight, bias))
    half = [tensor.detach().bfloat16().requires_grad_() for tensor in (hidden, weight, bias)]
    plain = nn.functional.cross_entropy(nn.functional.linear(*half).float(), labels)
    theirs = torch.autograd.grad(plain, half)
    ours = torch.autograd.grad(vocabulary_loss(half[0], labels, *half[1:], chunk_size=5), half)
    for name, ref, their, our in zip(
        ("hidden", "weight", "bias"), expected, theirs, ours, strict=True
    ):
        assert (our - ref).abs().mean() < 3 * (their - ref).abs().mean(), name


def test_vocabulary_loss_under_autocast():
    (hidden, weight, bias), labels = vocabulary_inputs()
    reference = nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), labels)
    expected = torch.autograd.grad(reference, (hidden, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        loss = vocabulary_loss(hidden, labels, weight, bias, chunk_size=5)
    assert loss.dtype == torch.float32
    for found, gradient in zip(
        torch.autograd.grad(loss, (hidden, weight, bias)), expected, strict=True
    ):
        assert found.dtype == torch.float32
        assert (found - gradient).abs().max() < 0.03 * gradient.abs().max()


@pytest.mark.parametrize("frozen", [(0,), (1, 2), (2,)])
def test_vocabulary_loss_with_frozen_parts(frozen):
    """As under LoRA: some of hidden states, weight and bias need no gradient."""
    tensors, labels = vocabulary_inputs()
    for index in frozen:
        tensors[index].requires_grad_(False)
    live = [tensor for tensor in tensors if tensor.requires_grad]
    expected = torch.autograd.grad(
        nn.functional.cross_entropy(nn.functional.linear(*tensors), labels), live
    )
    found = torch.autograd.grad(
        vocabulary_loss(tensors[0], labels, *tensors[1:], chunk_size=3), live
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_vocabulary_loss_without_labels_is_zero():
    (hidden, weight, bias), labels = vocabulary_inputs()
    loss = vocabulary_loss(hidden[:0], labels[:0], weight, bias)
    loss.backward()
    assert loss == 0
    assert not weight.grad.any()
    assert not hidden.grad.any()


def test_vocabulary_loss_without_gradient():
    (hidden, weight, bias), labels = vocabulary_inputs()
    with torch.no_grad():
        loss = vocabulary_loss(hidden, labels, weight, bias, chunk_size=4)
        torch.testing.assert_close(
            loss, nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), labels)
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torchs(smoothing):
    logits, labels = torch.randn(3, 5, 7), torch.randint(0, 7, (3, 5))
    labels[0, :3] = -100
    expected = nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing
    )
    torch.testing.assert_close(cross_entropy(logits, labels, None, smoothing), expected)
    torch.testing.assert_close(cross_entropy(logits, labels, 24, smoothing), expected * 12 / 24)


def test_label_smoothing_by_hand():
    """Probabilities 1/2, 1/4, 1/4 and ε = 0.3: 0.8 on the label, 0.1 on each other class."""
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    expected = 0.8 * math.log(2) + 0.1 * math.log(4) + 0.1 * math.log(4)
    assert cross_entropy(logits, torch.tensor([0]), None, 0.3).item() == pytest.approx(
        expected, rel=1e-6
    )


def test_cross_entropy_of_half_precision_is_computed_in_fp32():
    logits, labels = (torch.randn(64, 50) * 5).bfloat16(), torch.randint(0, 50, (64,))
    torch.testing.assert_close(
        cross_entropy(logits, labels), nn.functional.cross_entropy(logits.float(), labels)
    )


@pytest.mark.parametrize(
    ("count", "items", "expected"), [(4, None, 2.0), (0, None, 8.0), (4, 16, 0.5)]
)
def test_mean_over_items(count, items, expected):
    total = torch.tensor(8.0)
    assert mean_over_items(total, count, items) == expected
    assert (
        mean_over_items(total, torch.tensor(count), None if items is None else torch.tensor(items))
        == expected
    )


def test_pieces_add_up_however_uneven():
    logits, labels = torch.randn(6, 9, 5, dtype=torch.float32), torch.randint(0, 5, (6, 9))
    labels[torch.rand(6, 9) < 0.6] = -100
    count = int((labels != -100).sum())
    for sizes in ((6,), (1, 5), (2, 1, 3), (1,) * 6):
        pieces = zip(logits.split(sizes), labels.split(sizes), strict=True)
        total = sum(cross_entropy(each, label, count) for each, label in pieces)
        torch.testing.assert_close(total, cross_entropy(logits, labels), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_class_loss_takes_columns(shape):
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, -100])
    expected = nn.functional.cross_entropy(logits[:3], labels[:3])
    torch.testing.assert_close(class_loss("labels", logits, labels.view(shape)), expected)
    assert class_loss("labels", logits, None) is None


@pytest.mark.parametrize(
    ("problem", "labels", "expected"),
    [
        ("regression", torch.tensor([[1.0, 2.0], [0.0, 0.0]]), (1 + 4 + 0 + 4) / 4),
        ("multi_label_classification", torch.tensor([[1.0, 0.0], [0.0, 1.0]]), None),
        ("single_label_classification", torch.tensor([0, 1]), None),
    ],
)
def test_sequence_loss_by_kind(problem, labels, expected):
    logits = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    wanted = {
        "regression": expected,
        "multi_label_classification": (3 * math.log(2) + math.log(1 + math.exp(-2))) / 4,
        "single_label_classification": (math.log(2) + math.log(1 + math.exp(-2))) / 2,
    }[problem]
    config = bert_config(num_labels=2, problem_type=problem)
    assert sequence_loss(logits, labels, config).item() == pytest.approx(wanted, rel=1e-6)


def test_span_loss_by_hand():
    """Uniform logits over 3 real positions of 4: ln 3 each, for the start and for the end."""
    logits, mask = torch.zeros(1, 4), torch.tensor([[1, 1, 1, 0]])
    place = torch.tensor([1])
    assert span_loss(logits, logits, place, place, mask).item() == pytest.approx(
        math.log(3), rel=1e-6
    )
    assert span_loss(logits, logits, place, place).item() == pytest.approx(math.log(4), rel=1e-6)
    assert span_loss(logits, logits, place, torch.tensor([4]), mask).item() == pytest.approx(
        math.log(3) / 2, rel=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_span_loss_stays_finite_in_half_precision(dtype):
    logits = (torch.randn(2, 6) * 10).to(dtype).requires_grad_()
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    loss = span_loss(logits, logits, torch.tensor([0, 5]), torch.tensor([2, 5]), mask)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert not logits.grad[0, 3:].any()


@pytest.mark.parametrize(
    ("labels", "shape", "message"),
    [
        (torch.tensor([3]), None, "in .0, 3"),
        (torch.tensor([-1]), None, "-1"),
        (torch.tensor([1.0]), None, "integers.*float32"),
        (torch.tensor([True]), None, "integers.*bool"),
        (torch.tensor([1, 2]), (3,), "shape .3"),
    ],
)
def test_labels_refused(labels, shape, message):
    with pytest.raises(ValueError, match=f"next_sentence_label.*{message}"):
        check_integers("next_sentence_label", labels, 3, shape)


def test_labels_of_nothing_still_have_a_shape():
    check_integers("labels", torch.empty(0, dtype=torch.long), 3, (0,))
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\), got \(0,\)"):
        check_integers("labels", torch.empty(0, dtype=torch.long), 3, (2,))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_labels_may_be_of_any_whole_type(dtype):
    """Also where the number of classes does not fit into it."""
    check_integers("labels", torch.tensor([0, 100], dtype=dtype), 30522, (2,))
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 100\) or be -100, got 100"):
        check_integers("labels", torch.tensor([0, 100], dtype=dtype), 100, (2,))
