"""Masks and packed rows, against hand-worked examples and transformers' BERT."""

import contracts
import pytest
import torch
from cases import Case, packed, sequences, set_backend
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES
from watching import counterpart

from bertlite.models.masks import packed_mask, segment_ids

MODEL, MASKED_LM, SEQ2SEQ = BERT_CASES[0], BERT_CASES[2], TRANSFORMER_CASES[0]


def test_segments_by_hand():
    positions = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]])
    numbered = [[0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 0, 0]]
    assert segment_ids(positions, None, None, 2).tolist() == numbered
    assert segment_ids(positions, torch.ones(2, 6), True, 2).tolist() == numbered
    assert segment_ids(positions[:1], None, None, 3).shape == (3, 6)


def test_positions_that_start_again_mean_packing_only_where_no_mask_is_given():
    """Or where it is asked for in words, or refused."""
    positions, mask = torch.tensor([[0, 1, 2, 0, 1, 0]]), torch.ones(1, 6)
    assert segment_ids(positions, mask, None, 1) is None
    assert segment_ids(positions, None, False, 1) is None


@pytest.mark.parametrize(
    "positions", [None, torch.arange(4)[None], torch.tensor([[3, 5, 9]]), torch.tensor([[0]])]
)
def test_no_segments_where_nothing_is_packed(positions):
    assert segment_ids(positions, None, None, 1) is None


def test_packed_mask_by_hand():
    segments, real = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 1, 0]])
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert packed_mask(segments, segments, real)[0, 0].int().tolist() == expected
    causal = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert packed_mask(segments, segments, None, causal=True)[0, 0].int().tolist() == causal


def test_query_without_any_key_sees_all():
    allowed = packed_mask(torch.tensor([[0, 1, 2]]), torch.tensor([[0, 0, 1]]), None)
    assert allowed[0, 0].int().tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("case", [MODEL, SEQ2SEQ], ids=str)
@pytest.mark.parametrize("form", ["boolean", "additive"])
def test_prepared_masks_pass_through(case: Case, form, attention):
    """A 4D mask that says what the 2D mask says gives the same on real tokens."""
    model, batch = case.model(attention), case.batch()
    mask = batch["attention_mask"].bool()[:, None, None]  # (B, 1, 1, S)
    if form == "additive":
        mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    mask = mask.expand(-1, -1, 9, -1)
    with torch.no_grad():
        expected = case.real(model(**batch), batch)
        if case is SEQ2SEQ:
            encoded = model.get_encoder()(batch["input_ids"], attention_mask=mask)
            given = {"encoder_outputs": encoded, "attention_mask": mask[:, :, :6]}
            given.update(
                {name: tensor for name, tensor in batch.items() if name.startswith("decoder")}
            )
        else:
            given = {**batch, "attention_mask": mask}
        contracts.assert_equal(case.real(model(**given), batch), expected)


def test_packed_rows_leak_nothing_whatever_stands_beside(attention):
    """To the bit: another neighbour in the row changes nothing."""
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
    model, ids = MODEL.model(attention), torch.randint(3, 61, (1, 7))
    other = ids.clone()
    other[:, 4:] = 3 + (ids[:, 4:] + 9) % 50
    for backend in ("plain", "cpu"):
        set_backend(model, backend)
        with torch.no_grad():
            states = [
                model(each, position_ids=positions).last_hidden_state for each in (ids, other)
            ]
        assert torch.equal(states[0][:, :4], states[1][:, :4])
        assert (states[0][:, 4:] - states[1][:, 4:]).abs().max() > 0.1


@pytest.mark.parametrize("case", BERT_CASES[:10], ids=str)
@pytest.mark.parametrize("backend", ["plain", "cpu"])
def test_positions_that_start_again_beside_a_mask_are_berts(case, backend, attention):
    """As markers and segment-wise positions need it: every real token sees every other."""
    model = set_backend(case.model(attention), backend)
    whole = sequences(case.batch())
    rows = packed(case, whole, [(0, 1), (2, 3)] if not case.choices else [(0,), (1,), (2,), (3,)])
    if case.choices:
        rows["position_ids"] = rows["position_ids"] % 3
    with torch.no_grad():
        expected = case.real(counterpart(case, model)(**rows), rows)
        found = case.real(model(**rows), rows)
        contracts.assert_equal(found, expected)
        apart = case.real(model(**rows, packed=True), rows)
    name = next(iter(case.outputs))
    assert (apart[name] - found[name]).abs().max() > 1e-2
