"""The yardstick of `benchmarks/mixed_sizes.py`: a padded batch of theirs gives their numbers."""

import importlib
from pathlib import Path

import pytest
import torch
from contracts import assert_equal
from patch_cases import AST, mixed_values, one_by_one, theirs_of

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("mixed_sizes")


@pytest.mark.parametrize("family", ["vit", "deit", AST])
def test_a_padded_batch_equals_each_image_alone(script, family):
    theirs = theirs_of(family, "Model")
    values = mixed_values(theirs.config)
    with torch.no_grad():
        alone = one_by_one(theirs, values, "last_hidden_state")
        expected = torch.cat([each[:, 0] for each in alone])
        assert_equal({"": script.Padded(theirs)(values)}, {"": expected})


def test_sizes_are_whole_patches(script):
    sides = script.image_sides(50, 64, 384)
    assert all(side % 16 == 0 and 64 <= side <= 384 for pair in sides for side in pair)
    assert len(set(sides)) > 40
