"""Every loss against torch's own in double precision, hand-worked numbers, and itself in pieces."""

import math

import pytest
import torch
from cases import bert_config
from torch import nn

from bertlite.models.losses import (
    cross_entropy,
    mean_over_items,
    problem_type,
    sequence_loss,
    span_loss,
)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_torchs(smoothing):
    logits, labels = torch.randn(3, 5, 7), torch.randint(0, 7, (3, 5))
    labels[0, :3] = -100
    expected = nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing
    )
    torch.testing.assert_close(cross_entropy("labels", logits, labels, None, smoothing), expected)
    torch.testing.assert_close(
        cross_entropy("labels", logits, labels, 24, smoothing), expected * 12 / 24
    )


def test_label_smoothing_by_hand():
    """Probabilities 1/2, 1/4, 1/4 and ε = 0.3: 0.8 on the label, 0.1 on each other class."""
    logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
    expected = 0.8 * math.log(2) + 0.1 * math.log(4) + 0.1 * math.log(4)
    assert cross_entropy("labels", logits, torch.tensor([0]), None, 0.3).item() == pytest.approx(
        expected, rel=1e-6
    )


def test_cross_entropy_of_half_precision_is_computed_in_fp32():
    logits, labels = (torch.randn(64, 50) * 5).bfloat16(), torch.randint(0, 50, (64,))
    torch.testing.assert_close(
        cross_entropy("labels", logits, labels), nn.functional.cross_entropy(logits.float(), labels)
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
        total = sum(cross_entropy("labels", each, label, count) for each, label in pieces)
        torch.testing.assert_close(
            total, cross_entropy("labels", logits, labels), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_labels_of_rows_may_be_a_column(shape):
    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, -100])
    expected = nn.functional.cross_entropy(logits[:3], labels[:3])
    torch.testing.assert_close(cross_entropy("labels", logits, labels.view(shape)), expected)


@pytest.mark.parametrize("wrong", [3, -1, 10**9])
def test_a_label_in_no_class_is_explained(wrong):
    """The look-up fails, and the error names the argument, the range and the value."""
    message = rf"next_sentence_label must lie in \[0, 3\) or be -100, got {wrong}"
    with pytest.raises(ValueError, match=message):
        cross_entropy("next_sentence_label", torch.randn(2, 3), torch.tensor([-100, wrong]))


def test_labels_of_another_shape_or_type_are_refused():
    for labels in (torch.tensor([1]), torch.tensor([1.0, 2.0])):
        with pytest.raises(ValueError, match="labels must"):
            cross_entropy("labels", torch.randn(2, 3), labels)


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
    assert sequence_loss(problem, logits, labels).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "labels", "kind"),
    [
        ({"num_labels": 1}, torch.tensor([1, 2]), "regression"),
        ({"num_labels": 3}, torch.tensor([1, 2]), "single_label_classification"),
        ({"num_labels": 3}, torch.ones(2, 3), "multi_label_classification"),
        ({"num_labels": 3}, torch.ones(2, 3).bool(), "multi_label_classification"),
        ({"num_labels": 3, "problem_type": "regression"}, torch.tensor([1]), "regression"),
    ],
)
def test_the_kind_of_problem(fields, labels, kind):
    assert problem_type(bert_config(**fields), labels) == kind


@pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
def test_labels_of_sequences_that_do_not_fit(kind):
    with pytest.raises(ValueError, match=rf"labels must have shape \(2, 3\) for {kind}"):
        sequence_loss(kind, torch.randn(2, 3), torch.ones(2, 2))


def test_marks_lie_between_0_and_1():
    with pytest.raises(ValueError, match="labels of multi_label_classification must lie between"):
        sequence_loss("multi_label_classification", torch.randn(1, 2), torch.tensor([[1.0, 2.0]]))


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
