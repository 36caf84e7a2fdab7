"""The checks of what a caller gives, one by one."""

import pytest
import torch

from bertlite.models.inputs import (
    check_labels,
    check_mask,
    check_positions,
    label_error,
    out_of_range,
)


@pytest.mark.parametrize("shape", [(2, 5), (2, 1, 3, 5), (1, 1, 1, 5), (2, 4, 3, 5)])
def test_masks_that_fit(shape):
    check_mask("attention_mask", torch.ones(shape), batch=2, heads=4, queries=3, keys=5)


@pytest.mark.parametrize(
    "shape", [(2, 4), (5,), (1, 5), (2, 3, 5), (3, 1, 3, 5), (2, 1, 3, 4), (2, 1, 5, 5)]
)
def test_masks_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"attention_mask.*\(2, 5\)"):
        check_mask("attention_mask", torch.ones(shape), batch=2, heads=4, queries=3, keys=5)


def test_positions_are_boolean_and_of_the_batch():
    check_positions(None, (2, 3))
    check_positions(torch.ones(2, 3, dtype=torch.bool), (2, 3))
    with pytest.raises(ValueError, match=r"positions must be boolean of shape \(2, 3\).*int64"):
        check_positions(torch.ones(2, 3, dtype=torch.long), (2, 3))
    with pytest.raises(ValueError, match=r"positions must be boolean.*got torch.bool.*\(1, 1\)"):
        check_positions(torch.ones(1, 1, dtype=torch.bool), (2, 3))


def test_what_is_out_of_range():
    assert out_of_range("input_ids", None, 3, "") is None
    assert out_of_range("input_ids", torch.tensor([0, 2]), 3, "") is None
    assert out_of_range("input_ids", torch.empty(0), 3, "") is None
    for wrong in (3, -1):
        error = out_of_range("input_ids", torch.tensor([0, wrong]), 3, "(vocab_size)")
        assert str(error) == f"input_ids must lie in [0, 3) (vocab_size), got {wrong}"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([1.0]), "integers.*float32"),
        (torch.tensor([True]), "integers.*bool"),
        (torch.tensor([1, 2]), r"shape \(1,\), got \(2,\)"),
        (torch.empty(0, dtype=torch.long), r"shape \(1,\), got \(0,\)"),
    ],
)
def test_labels_refused(labels, message):
    with pytest.raises(ValueError, match=f"next_sentence_label.*{message}"):
        check_labels("next_sentence_label", labels, (1,))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_labels_may_be_of_any_whole_type(dtype):
    """Also where the number of classes does not fit into it."""
    labels = torch.tensor([0, 100], dtype=dtype)
    check_labels("labels", labels, (2,))
    assert label_error("labels", labels, 30522) is None
    expected = "labels must lie in [0, 100) or be -100, got 100"
    assert str(label_error("labels", labels, 100)) == expected


def test_the_label_of_what_is_not_predicted_is_in_range():
    assert label_error("labels", torch.tensor([-100, 2]), 3) is None
    assert "got -1" in str(label_error("labels", torch.tensor([-100, -1]), 3))
