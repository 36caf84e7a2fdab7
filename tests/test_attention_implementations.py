"""Attention implementations that need other hardware, driven here through the library's own code.

Flash attention needs a GPU. Its two kernels are replaced by readable ones with the same arguments,
so that everything around them (the library's wrapper, our layout, masks and lengths) runs as it
would there.
"""

import pytest
import torch
from cases import Case, packed, sequences
from contracts import assert_equal
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES
from transformers import modeling_flash_attention_utils as flash_utils

from bertlite import BertLiteModel, TransformerLiteModel

CASES = [*BERT_CASES, *TRANSFORMER_CASES]
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=str)


def plain_attention(query, key, value, scale, causal):
    """`(T, H, D)` queries over `(S, H, D)` keys, the last query standing at the last key."""
    scores = torch.einsum("thd,shd->hts", query, key) * scale
    if causal:
        after = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(
            1 + key.shape[0] - query.shape[0]
        )
        scores = scores.masked_fill(after, float("-inf"))
    return torch.einsum("hts,shd->thd", scores.softmax(-1), value)


class FlashStandIn:
    """The two functions of the package flash-attn, and how often each was called."""

    def __init__(self):
        self.fixed, self.varlen = 0, 0

    def flash_attn_func(self, q, k, v, dropout_p=0.0, softmax_scale=None, causal=False):
        self.fixed += 1
        return torch.stack(
            [plain_attention(*row, softmax_scale, causal) for row in zip(q, k, v, strict=True)]
        )

    def flash_attn_varlen_func(
        self,
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        max_seqlen_q,
        max_seqlen_k,
        dropout_p=0.0,
        softmax_scale=None,
        causal=False,
    ):
        self.varlen += 1
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        assert cu_seqlens_q[-1] == len(q)
        assert cu_seqlens_k[-1] == len(k)
        assert max_seqlen_q == cu_seqlens_q.diff().max()
        pieces = (q.split(cu_seqlens_q.diff().tolist()), k.split(cu_seqlens_k.diff().tolist()))
        values = v.split(cu_seqlens_k.diff().tolist())
        return torch.cat(
            [
                plain_attention(*piece, softmax_scale, causal)
                for piece in zip(*pieces, values, strict=True)
            ]
        )


@pytest.fixture
def flash(monkeypatch):
    stand_in = FlashStandIn()

    def imports(implementation, *args, **kwargs):
        functions = (stand_in.flash_attn_func, stand_in.flash_attn_varlen_func, None)
        return (*functions, flash_utils._pad_input, flash_utils._unpad_input)

    monkeypatch.setattr(flash_utils, "_lazy_imports", imports)
    monkeypatch.setattr(flash_utils, "_loaded_implementation", None)
    return stand_in


def with_flash(case: Case, implementation: str, **overrides):
    """A model switched past the library's look for the package, which is not on this machine."""
    model = case.model("eager", **overrides)
    for module in model.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = implementation
    return model


@EVERY_CASE
@pytest.mark.parametrize("implementation", ["flash_attention_2", "flash_attention_3"])
def test_flash_attention_gives_the_same(case, implementation, flash):
    batch = case.batch()
    with torch.no_grad():
        expected = case.real(case.model("eager")(**batch), batch)
        for backend in ("cpu", "plain"):
            model = with_flash(case.on(backend=backend), implementation)
            assert_equal(case.real(model(**batch), batch), expected)
    assert flash.varlen


def test_flash_attention_takes_the_whole_batch_end_to_end_at_once(flash):
    """One call a layer for all sequences, however their lengths differ."""
    case = next(case for case in CASES if case.model_class is BertLiteModel)
    model = with_flash(case, "flash_attention_2")
    with torch.no_grad():
        model(**case.batch())
    assert flash.varlen == len(model.encoder.layer)
    assert not flash.fixed


def test_a_padded_source_takes_nothing_from_the_targets(flash):
    """The library's wrapper cuts the queries by the mask of the source.

    With Marian, targets beyond it are zero.
    """
    case = next(case for case in CASES if case.model_class is TransformerLiteModel)
    batch = case.batch()
    batch["attention_mask"] = batch["attention_mask"].clone()
    batch["attention_mask"][0, 2:] = 0  # fewer source tokens than targets
    with torch.no_grad():
        expected = case.real(case.model("eager")(**batch), batch)
        found = case.real(with_flash(case, "flash_attention_2")(**batch), batch)
    assert_equal(found, expected)


@pytest.mark.parametrize("implementation", ["flash_attention_2", "flex_attention"])
def test_masks_that_an_implementation_cannot_take_are_refused(implementation, flash):
    case = next(case for case in CASES if case.model_class is BertLiteModel)
    batch = case.batch()
    batch["attention_mask"] = batch["attention_mask"][:, None, None].bool()
    with pytest.raises(
        ValueError, match=f"4D attention_mask.*'eager' or 'sdpa', got '{implementation}'"
    ):
        with_flash(case, implementation)(**batch)


def test_packed_targets_under_flash_attention_are_refused(flash):
    case = next(case for case in CASES if case.model_class is TransformerLiteModel)
    batch = packed(case, sequences(case.batch()), [(0, 1), (2, 3)])
    with pytest.raises(ValueError, match="packed position_ids.*got 'flash_attention_2'"):
        with_flash(case, "flash_attention_2")(**batch, packed=True)


@pytest.mark.slow
def test_flex_attention_keeps_packed_rows_apart():
    case = next(case for case in CASES if case.model_class is BertLiteModel)
    batch = packed(case, sequences(case.batch()), [(0, 1), (2, 3)])
    with torch.no_grad():
        expected = case.real(case.model("eager")(**batch, packed=True), batch)
        found = case.model("flex_attention")(**batch, packed=True)
        assert_equal(case.real(found, batch), expected)


@pytest.mark.slow
@EVERY_CASE
def test_flex_attention_gives_the_same(case):
    batch = case.batch()
    with torch.no_grad():
        expected = case.real(case.model("eager")(**batch), batch)
        assert_equal(case.real(case.model("flex_attention")(**batch), batch), expected)
