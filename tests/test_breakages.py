"""The checks notice what the library's own tests miss.

Each is run on a model that is broken on purpose.
"""

import contracts
import pytest
import torch
from bertlite.models.masking import FlatLayout
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES

from bertlite.models import attention, layers

MODEL, MASKED_LM = BERT_CASES[0], BERT_CASES[2]
SEQ2SEQ = TRANSFORMER_CASES[1]
BOTH = pytest.mark.parametrize("case", [MASKED_LM, SEQ2SEQ], ids=str)


def must_notice(check, case, reason: str = "differs") -> None:
    """The check fails for the reason that it is there for."""
    with pytest.raises(AssertionError, match=reason):
        check(case)


@pytest.fixture
def _mask_ignored_on_the_padded_path(monkeypatch):
    """The encoder's mask says that every key is real."""
    right = layers.attention_masks

    def broken(config, states, attention_mask, segments=None, **kind):
        if not kind.get("is_causal") and kind.get("encoder_hidden_states") is None:
            attention_mask = None
        return right(config, states, attention_mask, segments, **kind)

    monkeypatch.setattr(layers, "attention_masks", broken)


@pytest.fixture
def _mask_ignored_on_the_flat_path(monkeypatch):
    """The flat layout takes padding for real tokens."""
    right = FlatLayout.of.__func__

    def broken(cls, attention_mask, segments, shape, device):
        return right(cls, torch.ones(shape), segments, shape, device)

    monkeypatch.setattr(FlatLayout, "of", classmethod(broken))


@pytest.mark.parametrize("case", [MODEL, MASKED_LM, SEQ2SEQ], ids=str)
@pytest.mark.usefixtures("_mask_ignored_on_the_padded_path")
def test_ignored_padding_mask_is_noticed(case):
    must_notice(contracts.check_padding, case)


@pytest.mark.parametrize("case", [MODEL, MASKED_LM, SEQ2SEQ], ids=str)
@pytest.mark.usefixtures("_mask_ignored_on_the_flat_path")
def test_ignored_padding_in_the_flat_layout_is_noticed(case):
    must_notice(contracts.check_padding, case)


def test_positions_that_ignore_the_cache_are_noticed(monkeypatch):
    right = layers.Embeddings.forward

    def broken(self, input_ids=None, token_type_ids=None, position_ids=None, inputs_embeds=None):
        return right(
            self, input_ids, token_type_ids, position_ids - position_ids.min(), inputs_embeds
        )

    monkeypatch.setattr(layers.Embeddings, "forward", broken)
    must_notice(contracts.check_cache, SEQ2SEQ)


def test_values_that_move_in_the_cache_are_noticed(monkeypatch):
    """Values that move in the cache with every step."""
    right = attention.Attention._keys_and_values

    def broken(self, hidden_states, key_value_states, past_key_values):
        key, value = right(self, hidden_states, key_value_states, past_key_values)
        return key, value if self.is_cross_attention else value.roll(1, dims=-2)

    monkeypatch.setattr(attention.Attention, "_keys_and_values", broken)
    must_notice(contracts.check_cache, SEQ2SEQ)


@BOTH
def test_untied_weights_are_noticed(monkeypatch, case):
    """Equal values are not enough: it must be the same parameter."""
    right = case.model_class.get_output_embeddings

    def broken(self):
        head = right(self)
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        return head

    monkeypatch.setattr(case.model_class, "get_output_embeddings", broken)
    must_notice(contracts.check_tied, case, "not tied")


@BOTH
def test_weights_that_are_never_tied_are_noticed(monkeypatch, case):
    monkeypatch.setattr(case.model_class, "tie_weights", lambda self, *args, **kwargs: None)
    must_notice(contracts.check_tied, case, "not tied")


class OnlyEager:
    """An attention registry that knows nothing but what it is given."""

    def get_interface(self, name, default):
        return default

    def get(self, name, default):
        return default


@BOTH
def test_sdpa_never_called_is_noticed(monkeypatch, case):
    monkeypatch.setattr(attention, "ALL_ATTENTION_FUNCTIONS", OnlyEager())
    must_notice(contracts.check_switching, case, "sdpa not called")
    must_notice(contracts.check_custom_attention, case, "not every module")


@BOTH
def test_packed_rows_that_see_each_other_are_noticed(monkeypatch, case):
    monkeypatch.setattr(layers, "segment_ids", lambda position_ids, batch_size: None)
    must_notice(contracts.check_packed, case)


@BOTH
def test_loss_that_ignores_the_item_count_is_noticed(monkeypatch, case):
    """What the library's own heads do: accumulated gradients come out too large."""
    right = case.model_class.forward

    def broken(self, *args, num_items_in_batch=None, **kwargs):
        return right(self, *args, **kwargs)

    monkeypatch.setattr(case.model_class, "forward", broken)
    must_notice(contracts.check_accumulation, case)


@BOTH
@pytest.mark.parametrize(
    "check",
    [
        contracts.check_padding,
        contracts.check_tied,
        contracts.check_switching,
        contracts.check_packed,
    ],
)
def test_nothing_is_noticed_where_nothing_is_broken(case, check):
    check(case)


def test_unbroken_cache_passes():
    contracts.check_cache(SEQ2SEQ)
