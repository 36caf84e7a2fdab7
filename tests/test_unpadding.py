"""Real tokens laid end to end: the layout by hand, and that padding and what nobody reads cost
nothing.
"""

import contracts
import pytest
import torch
from cases import packed, sequences
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES
from watching import tokens_seen

from bertlite.backends.unpadding import (
    TokenLayout,
    equal_length_groups,
    flash_arguments,
    lengths_of_ends,
    reads_padding,
)
from bertlite.models.masks import segment_ids

MODEL, MASKED_LM, SEQ2SEQ = BERT_CASES[0], BERT_CASES[2], TRANSFORMER_CASES[1]


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([], []),
        ([0], []),
        ([3], [(1, 3)]),
        ([2, 2, 5], [(2, 2), (1, 5)]),
        ([1, 0, 1, 3], [(1, 1), (1, 1), (1, 3)]),
    ],
)
def test_groups_of_equal_length(lengths, groups):
    assert equal_length_groups(lengths) == groups


def test_what_flash_attention_is_told():
    told = flash_arguments([1, 2, 3], torch.device("cpu"))
    assert told["cu_seq_lens_q"].tolist() == told["cu_seq_lens_k"].tolist() == [0, 1, 3, 6]
    assert told["max_length_q"] == told["max_length_k"] == 3
    assert told["cu_seq_lens_q"].dtype == torch.int32
    assert lengths_of_ends(told["cu_seq_lens_q"]) == [1, 2, 3]


def test_layout_by_hand():
    """Rows of 3, 1 and 2 tokens, shortest first."""
    mask = torch.tensor([[1, 1, 1], [0, 0, 1], [1, 1, 0]])
    layout = TokenLayout.of(mask, None, (3, 3), mask.device)
    assert layout.indices.tolist() == [5, 6, 7, 0, 1, 2]
    assert layout.lengths == [1, 2, 3]
    read = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).bool()
    assert layout.places(read).tolist() == [4, 0, 1]  # row by row


@pytest.mark.parametrize("seed", range(5))
def test_layout_takes_and_puts_back(seed):
    torch.manual_seed(seed)
    mask = torch.rand(4, 7) < 0.5
    positions = torch.tensor([0, 1, 2, 0, 1, 0, 1]).expand(4, 7)
    states = torch.randn(4, 7, 3)
    read = mask & (torch.rand(4, 7) < 0.5)
    for segments in (None, segment_ids(positions, None, None, 4)):
        for rounded in (False, True):
            layout = TokenLayout.of(mask, segments, (4, 7), mask.device, round_sizes=rounded)
            taken = layout.take(states)
            assert torch.equal(layout.put_back(taken), states * mask[..., None])
            assert torch.equal(taken[0, layout.places(read)], states[read])
            lengths = layout.lengths[: len(layout.lengths) - (len(layout.indices) > layout.count)]
            assert lengths == sorted(lengths)
            assert sum(lengths) == layout.count == mask.sum()
            assert sum(layout.lengths) == len(layout.indices)


def test_layouts_with_spare_tokens_have_few_sizes():
    """Code is kept for every size by oneDNN.

    A last sequence, which nobody reads, rounds them up, by 3 % at most.
    """
    sizes = set()
    for count in range(1, 1025):
        mask = torch.arange(1024)[None] < count
        layout = TokenLayout.of(mask, None, (1, 1024), mask.device, round_sizes=True)
        size = len(layout.indices)
        assert layout.lengths == [count] + [size - count] * (size > count)
        assert count <= size <= count * 33 / 32
        sizes.add(size)
    assert len(sizes) < 200
    states = torch.randn(1, 1024, 2)
    mask = torch.arange(1024)[None] < 1001
    layout = TokenLayout.of(mask, None, (1, 1024), mask.device, round_sizes=True)
    assert len(layout.indices) == 1008
    assert torch.equal(layout.put_back(layout.take(states)), states * mask[..., None])


def test_layout_of_rows_padded_after_their_last_position():
    """The library's convention.

    Positions of 1 at padding, which begin a sequence each and hold no real token.
    """
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
    segments = segment_ids(positions, None, None, 2)
    layout = TokenLayout.of(mask, segments, (2, 5), mask.device)
    assert layout.indices.tolist() == [5, 6, 0, 1, 2]


def test_who_reads_padding():
    mask, first = torch.tensor([[1, 1, 0], [0, 1, 1]]), torch.zeros(2, 3, dtype=torch.bool)
    first[:, 0] = True
    assert not reads_padding(None, None, reads_first=True)
    assert not reads_padding(mask, None, reads_first=False)
    assert reads_padding(mask, None, reads_first=True)
    assert not reads_padding(mask[:1], None, reads_first=True)
    assert reads_padding(mask, first, reads_first=False)
    assert not reads_padding(mask[:1], first[:1], reads_first=False)


@pytest.mark.parametrize("case", [MODEL, MASKED_LM, SEQ2SEQ], ids=str)
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_no_arithmetic_on_padding(case, training, attention):
    """The rows of 9, 5, 7 and 2 tokens run as 23 positions, not as 36."""
    model, batch = case.model(attention).train(training), case.batch()

    def seen(**changes):
        return set(tokens_seen(model, "attention_sublayer", **{**batch, **changes}))

    batch["zero_padding"] = True
    assert seen() == {23}
    assert seen(attention_mask=None) == {36}
    assert seen(attention_mask=torch.ones(4, 9)) == {36}
    assert seen(output_hidden_states=True) == {36}
    assert seen(output_attentions=True) == {36}
    model.config.unpad_inputs = False
    assert seen() == {36}


@pytest.mark.parametrize("case", [MODEL, SEQ2SEQ], ids=str)
@torch.no_grad()
def test_in_training_padding_is_berts_unless_told_else(case):
    model, batch = case.model().train(), case.batch()
    assert set(tokens_seen(model, "attention_sublayer", **batch)) == {36}
    assert set(tokens_seen(model.eval(), "attention_sublayer", **batch)) == {23}
    assert set(tokens_seen(model, "attention_sublayer", **batch, zero_padding=False)) == {36}


def test_rows_that_begin_with_padding_step_aside_for_the_pooler():
    """BERT's pooler reads position 0 whatever the mask hides, as in transformers.

    Other heads need not step aside.
    """
    batch = MODEL.batch("left")
    with torch.no_grad():
        assert set(tokens_seen(MODEL.model(), "attention_sublayer", **batch)) == {36}
        assert set(tokens_seen(MASKED_LM.model(), "attention_sublayer", **batch)) == {23}


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


@pytest.mark.parametrize("backend", ["cpu", "plain"])
@pytest.mark.parametrize(
    "watched", [{}, {"output_attentions": True}, {"output_hidden_states": True}]
)
@pytest.mark.parametrize("positions", [True, False])
def test_sequences_that_the_caller_laid_end_to_end(attention, backend, watched, positions):
    """`cu_seq_lens_q` and its fellows, with positions or (where the caller wants them to run on)
    without.
    """
    whole = sequences(MASKED_LM.batch())
    model, row = MASKED_LM.on(backend=backend).model(attention), end_to_end(whole)
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
