"""Masks, packed rows and the flat layout, against hand-worked examples and sequences run alone."""

import contracts
import pytest
import torch
from bertlite.models.masking import (
    FlatLayout,
    check_mask,
    equal_length_groups,
    packed_mask,
    segment_ids,
)
from cases import Case, packed, sequences
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES

from bertlite.models.layers import EncoderLayer

MODEL, MASKED_LM, SEQ2SEQ = BERT_CASES[0], BERT_CASES[2], TRANSFORMER_CASES[0]


def test_segments_by_hand():
    positions = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]])
    assert segment_ids(positions, 2).tolist() == [[0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 0, 0]]
    assert segment_ids(positions[:1], 3).shape == (3, 6)


@pytest.mark.parametrize(
    "positions", [None, torch.arange(4)[None], torch.tensor([[3, 5, 9]]), torch.tensor([[0]])]
)
def test_no_segments_where_nothing_is_packed(positions):
    assert segment_ids(positions, 1) is None


def test_packed_mask_by_hand():
    segments, real = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 1, 0]])
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert packed_mask(segments, segments, real)[0, 0].int().tolist() == expected
    causal = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert packed_mask(segments, segments, None, causal=True)[0, 0].int().tolist() == causal


def test_query_without_any_key_sees_all():
    allowed = packed_mask(torch.tensor([[0, 1, 2]]), torch.tensor([[0, 0, 1]]), None)
    assert allowed[0, 0].int().tolist() == [[1, 1, 0], [0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("shape", [(2, 5), (2, 1, 3, 5), (1, 1, 1, 5), (2, 4, 3, 5)])
def test_masks_that_fit(shape):
    check_mask("attention_mask", torch.ones(shape), batch=2, heads=4, queries=3, keys=5)


@pytest.mark.parametrize(
    "shape", [(2, 4), (5,), (1, 5), (2, 3, 5), (3, 1, 3, 5), (2, 1, 3, 4), (2, 1, 5, 5)]
)
def test_masks_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"attention_mask.*\(2, 5\)"):
        check_mask("attention_mask", torch.ones(shape), batch=2, heads=4, queries=3, keys=5)


@pytest.mark.parametrize(
    ("ends", "groups"),
    [
        ([0], []),
        ([0, 3], [(1, 3)]),
        ([0, 2, 4, 9], [(2, 2), (1, 5)]),
        ([0, 1, 1, 2, 5], [(2, 1), (1, 3)]),
    ],
)
def test_groups_of_equal_length(ends, groups):
    assert equal_length_groups(torch.tensor(ends)) == groups


def test_layout_by_hand():
    """Rows of 3, 1 and 2 tokens, shortest first."""
    mask = torch.tensor([[1, 1, 1], [0, 0, 1], [1, 1, 0]])
    layout = FlatLayout.of(mask, None, (3, 3), mask.device)
    assert layout.index.tolist() == [5, 6, 7, 0, 1, 2]
    assert (
        layout.kwargs["cu_seq_lens_q"].tolist()
        == layout.kwargs["cu_seq_lens_k"].tolist()
        == [0, 1, 3, 6]
    )
    assert layout.kwargs["max_length_q"] == layout.kwargs["max_length_k"] == 3
    assert layout.kwargs["cu_seq_lens_q"].dtype == torch.int32


@pytest.mark.parametrize("seed", range(5))
def test_layout_takes_and_puts_back(seed):
    torch.manual_seed(seed)
    mask = torch.rand(4, 7) < 0.5
    positions = torch.tensor([0, 1, 2, 0, 1, 0, 1]).expand(4, 7)
    states = torch.randn(4, 7, 3)
    for segments in (None, segment_ids(positions, 4)):
        layout = FlatLayout.of(mask, segments, (4, 7), mask.device)
        assert torch.equal(layout.put_back(layout.take(states)), states * mask[..., None])
        lengths = layout.kwargs["cu_seq_lens_q"].diff().tolist()
        assert lengths == sorted(lengths)
        assert sum(lengths) == mask.sum()


def test_layouts_on_a_cpu_have_few_sizes():
    """Code is kept for every size by oneDNN.

    A last sequence, which nobody reads, rounds them up, by 3 % at most.
    """
    sizes = set()
    for count in range(1, 1025):
        mask = torch.arange(1024)[None] < count
        layout = FlatLayout.of(mask, None, (1, 1024), mask.device)
        ends, size = layout.kwargs["cu_seq_lens_q"].tolist(), len(layout.index)
        assert ends == [0, count] + [size] * (size > count)
        assert count <= size <= count * 33 / 32
        assert layout.kwargs["max_length_q"] == count
        sizes.add(size)
    assert len(sizes) < 200
    states = torch.randn(1, 1024, 2)
    mask = torch.arange(1024)[None] < 1001
    layout = FlatLayout.of(mask, None, (1, 1024), mask.device)
    assert len(layout.index) == 1008
    assert torch.equal(layout.put_back(layout.take(states)), states * mask[..., None])


def test_layout_of_rows_padded_after_their_last_position():
    """The library's convention.

    Positions of 1 at padding, which begin a sequence each and hold no real token.
    """
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
    layout = FlatLayout.of(mask, segment_ids(positions, 2), (2, 5), mask.device)
    assert layout.index.tolist() == [5, 6, 0, 1, 2]


def lengths_seen(model, **batch) -> set:
    """The shapes that reach the encoder's layers."""
    shapes, hooks = set(), []
    for layer in model.modules():
        if type(layer) is EncoderLayer:
            hooks.append(
                layer.register_forward_pre_hook(
                    lambda _, args: shapes.add(tuple(args[0].shape[:2]))
                )
            )
    with torch.no_grad():
        model(**batch)
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.parametrize("case", [MODEL, MASKED_LM, SEQ2SEQ], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_no_arithmetic_on_padding(case, training, attention):
    """The rows of 9, 5, 7 and 2 tokens run as 23 positions, not as 36."""
    model, batch = case.model(attention).train(training), case.batch()
    assert lengths_seen(model, **batch) == {(1, 23)}
    assert lengths_seen(model, **dict(batch, attention_mask=None)) == {(4, 9)}
    assert lengths_seen(model, **dict(batch, attention_mask=torch.ones(4, 9))) == {(4, 9)}
    assert lengths_seen(model, **batch, output_hidden_states=True) == {(4, 9)}
    assert lengths_seen(model, **batch, output_attentions=True) == {(4, 9)}
    assert lengths_seen(case.model(attention, unpad_inputs=False), **batch) == {(4, 9)}


def test_rows_that_begin_with_padding_step_aside_for_the_pooler():
    """BERT's pooler reads position 0 whatever the mask hides, as in transformers.

    Other heads need not step aside.
    """
    batch = MODEL.batch("left")
    assert lengths_seen(MODEL.model(), **batch) == {(4, 9)}
    assert lengths_seen(MASKED_LM.model(), **batch) == {(1, 23)}


def end_to_end(whole: list[dict]) -> dict:
    """One row without padding, with the library's arguments that say where each sequence begins."""
    row = packed(MODEL, whole, [tuple(range(len(whole)))])
    row.pop("attention_mask")
    lengths = [len(sequence["input_ids"]) for sequence in whole]
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    places = {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
    }
    return {**row, **places}


@pytest.mark.parametrize("unpad", [True, False])
@pytest.mark.parametrize(
    "watched", [{}, {"output_attentions": True}, {"output_hidden_states": True}]
)
@pytest.mark.parametrize("positions", [True, False])
def test_sequences_that_the_caller_laid_end_to_end(attention, unpad, watched, positions):
    """`cu_seq_lens_q` and its fellows, with positions or (where the caller wants them to run on)
    without.
    """
    whole = sequences(MASKED_LM.batch())
    model, row = MASKED_LM.model(attention, unpad_inputs=unpad), end_to_end(whole)
    alone = packed(MASKED_LM, whole, [(0,), (1,), (2,), (3,)])
    if not positions:  # one embedding for every position: then only who sees whom matters
        row.pop("position_ids")
        with torch.no_grad():
            weight = model.bert.embeddings.position_embeddings.weight
            weight.copy_(weight[0].clone())
    with torch.no_grad():
        found, expected = model(**row, **watched), model(**alone)
    contracts.assert_equal(MASKED_LM.real(found, row), MASKED_LM.real(expected, alone))


def test_encoder_decoder_takes_sequences_that_the_caller_laid_end_to_end(attention):
    whole = sequences(SEQ2SEQ.batch())
    model, alone = SEQ2SEQ.model(attention), packed(SEQ2SEQ, whole, [(0,), (1,), (2,), (3,)])
    row = packed(SEQ2SEQ, whole, [(0, 1, 2, 3)])
    row = {name: tensor for name, tensor in row.items() if not name.endswith("mask")}
    places = {
        name: value
        for name, value in end_to_end(whole_bert(whole)).items()
        if "_q" in name or "_k" in name
    }
    with torch.no_grad():
        found, expected = model(**row, **places), model(**alone)
    contracts.assert_equal(SEQ2SEQ.real(found, row), SEQ2SEQ.real(expected, alone))


def whole_bert(whole: list[dict]) -> list[dict]:
    """The source side only."""
    return [
        {name: tensor for name, tensor in each.items() if not name.startswith("decoder")}
        for each in whole
    ]


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
            encoded = model.encoder(batch["input_ids"], attention_mask=mask)
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
    for unpad in (True, False):
        model.config.unpad_inputs = unpad
        with torch.no_grad():
            states = [
                model(each, position_ids=positions).last_hidden_state for each in (ids, other)
            ]
        assert torch.equal(states[0][:, :4], states[1][:, :4])
        assert (states[0][:, 4:] - states[1][:, 4:]).abs().max() > 0.1
