"""Half precision from files: stored in each precision, loaded in each, for every class.

Outputs are held to transformers' own distance from fp32; that of running models is in the oracles.
"""

import pytest
import torch
from pairs import HEADS, SEPARATE, bert_pair, marian_pair

HALVES = (torch.bfloat16, torch.float16)
IDS = torch.tensor([[2, 5, 9, 20, 7, 3], [2, 11, 3, 4, 8, 6]])
MARIAN = {"input_ids": IDS, "decoder_input_ids": IDS[:, :4], "use_cache": False}
KINDS = {
    "transformer": {},
    "separate": SEPARATE,
    "base": {"base": True},
    "base, separate": {"base": True, **SEPARATE},
}


def first_output(model, inputs) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**inputs)[0]


def assert_as_close_as_theirs(ours, theirs, exact, inputs) -> None:
    """|ours16 - theirs32| < 3 · |theirs16 - theirs32|, on the mean and on the largest."""
    dtypes = {each.dtype for each in (*ours.parameters(), *ours.buffers())}
    assert {dtype for dtype in dtypes if dtype.is_floating_point} == {theirs.dtype}
    expected = first_output(exact, inputs)
    found, half = first_output(ours, inputs), first_output(theirs, inputs)
    assert found.dtype == half.dtype
    ours_error, their_error = ((each.float() - expected).abs() for each in (found, half))
    assert ours_error.mean() < 3 * their_error.mean()
    assert ours_error.max() < 3 * their_error.max()


def check_every_way(theirs, ours, dtype, inputs, folder) -> None:
    """From a file in fp32 and in half, by the file's precision, by `dtype` and by `to`."""
    saved, theirs_class, ours_class = folder / "half", type(theirs), type(ours)
    theirs.save_pretrained(folder / "full")
    half = theirs_class.from_pretrained(folder / "full", dtype=dtype)
    half.save_pretrained(saved)
    ways = (
        lambda kind: kind.from_pretrained(saved),
        lambda kind: kind.from_pretrained(saved, dtype="auto"),
        lambda kind: kind.from_pretrained(saved, dtype=dtype),
        lambda kind: kind.from_pretrained(folder / "full", dtype=dtype),
        lambda kind: kind.from_pretrained(saved, dtype=torch.float32).to(dtype),
    )
    for load in ways:
        assert_as_close_as_theirs(load(ours_class), load(theirs_class), theirs, inputs)
    loaded = ours_class.from_pretrained(saved)
    loaded.save_pretrained(folder / "again")
    again = theirs_class.from_pretrained(folder / "again").state_dict()
    for name, value in half.state_dict().items():
        # Tables of positions are in no file: each class computes its own.
        assert "embed_positions" in name or torch.equal(again[name], value), name


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("head", HEADS)
def test_bert(head, dtype, tmp_path):
    theirs, ours = bert_pair(head, tmp_path / "pair", "sdpa")
    inputs = {"input_ids": IDS[None] if head == "ForMultipleChoice" else IDS}
    check_every_way(theirs, ours, dtype, inputs, tmp_path)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_marian(kind, dtype, tmp_path):
    theirs, ours = marian_pair(tmp_path / "pair", "sdpa", **KINDS[kind])
    check_every_way(theirs, ours, dtype, MARIAN, tmp_path)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_transformer_in_half_precision_writes_and_learns(dtype, tmp_path):
    """A fresh one as well as one from a file in half precision."""
    theirs, ours = marian_pair(tmp_path / "pair", "sdpa")
    theirs.to(dtype).save_pretrained(tmp_path / "half")
    ours = type(ours).from_pretrained(tmp_path / "half")
    words = ours.generate(IDS, max_new_tokens=5, num_beams=2)
    assert words.shape[0] == len(IDS)
    for model in (ours, type(ours)(ours.config).to(dtype)):
        loss = model.train()(input_ids=IDS, labels=IDS).loss
        loss.backward()
        assert loss.isfinite()
        gradients = [each.grad for each in model.parameters() if each.requires_grad]
        assert all(each is not None and each.isfinite().all() for each in gradients)
