"""The checks notice what the library's own tests miss.

Each is run on a model, or on a backend, that is broken on purpose.
"""

import backend_contracts
import contracts
import pytest
import torch
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES

from bertlite.backends import flat_backend
from bertlite.backends.cpu import backend, linear, packed_backend, packed_encoder
from bertlite.backends.linear_cross_entropy import ChunkedCrossEntropy
from bertlite.backends.unpadding import TokenLayout
from bertlite.models import attention, decoder, embeddings, encoder, seam

MODEL, MASKED_LM, TOKENS = BERT_CASES[0], BERT_CASES[2], BERT_CASES[7]
SEQ2SEQ = TRANSFORMER_CASES[1]
BOTH = pytest.mark.parametrize("case", [MASKED_LM, SEQ2SEQ], ids=str)
BY_BACKEND = pytest.mark.parametrize("name", ["cpu", "packed"])


def must_notice(check, case, reason: str = "differs") -> None:
    """The check fails for the reason that it is there for."""
    with pytest.raises(AssertionError, match=reason):
        check(case)


@pytest.fixture
def _mask_ignored_on_the_padded_path(monkeypatch):
    """The encoder's mask says that every key is real."""
    right = encoder.encoder_mask

    def broken(config, hidden_states, attention_mask, segments, **options):
        return right(config, hidden_states, None, segments, **options)

    monkeypatch.setattr(encoder, "encoder_mask", broken)


@pytest.fixture
def _mask_ignored_on_the_flat_path(monkeypatch):
    """The flat layout takes padding for real tokens."""
    right = TokenLayout.of.__func__

    def broken(cls, attention_mask, segments, shape, device, round_sizes=False):
        return right(cls, torch.ones(shape), segments, shape, device, round_sizes)

    monkeypatch.setattr(TokenLayout, "of", classmethod(broken))


@pytest.mark.parametrize("case", [MODEL, MASKED_LM, SEQ2SEQ], ids=str)
@pytest.mark.usefixtures("_mask_ignored_on_the_padded_path")
def test_ignored_padding_mask_is_noticed(case):
    must_notice(contracts.check_padding, case.on(backend="plain"))


@pytest.mark.parametrize("case", [MODEL, MASKED_LM, SEQ2SEQ], ids=str)
@BY_BACKEND
@pytest.mark.usefixtures("_mask_ignored_on_the_flat_path")
def test_ignored_padding_in_the_flat_layout_is_noticed(case, name):
    must_notice(contracts.check_padding, case.on(backend=name))
    must_notice(backend_contracts.check_values, case.on(backend=name))


@pytest.mark.parametrize("case", [MODEL, MASKED_LM, SEQ2SEQ], ids=str)
@BY_BACKEND
def test_rows_put_back_in_another_order_are_noticed(monkeypatch, case, name):
    right = TokenLayout.put_back
    monkeypatch.setattr(TokenLayout, "put_back", lambda self, states: right(self, states.flip(1)))
    must_notice(backend_contracts.check_values, case.on(backend=name))


@pytest.mark.parametrize("name", ["cpu", "packed"])
def test_vectors_read_at_the_wrong_place_are_noticed(monkeypatch, name):
    right = TokenLayout.places
    monkeypatch.setattr(
        TokenLayout, "places", lambda self, positions: right(self, positions).roll(1)
    )
    must_notice(backend_contracts.check_values, BERT_CASES[4].on(backend=name))
    if name == "cpu":
        must_notice(backend_contracts.check_gradients, MASKED_LM.on(backend=name))


@BY_BACKEND
def test_a_backend_that_does_not_step_aside_for_hooks_is_noticed(monkeypatch, name):
    monkeypatch.setattr(flat_backend, "hooked_module", lambda model: None)
    must_notice(backend_contracts.check_hooks, MASKED_LM.on(backend=name), "shows|seen")


def test_global_hooks_that_are_overlooked_are_noticed(monkeypatch):
    monkeypatch.setattr(seam, "GLOBAL_HOOKS", ())
    must_notice(backend_contracts.check_hooks, MASKED_LM.on(backend="cpu"), "shows|seen")


def test_a_loss_that_leaves_out_vectors_somebody_watches_is_noticed(monkeypatch):
    monkeypatch.setattr(seam.Seam, "is_watched", lambda self, **kwargs: False)
    check = backend_contracts.check_hooks_in_training
    for case in (MASKED_LM, TOKENS):
        must_notice(check, case.on(backend="cpu"), "shows|seen")


def test_a_backend_that_is_never_taken_is_noticed(monkeypatch):
    monkeypatch.setattr(backend.CpuBackend, "unsupported", lambda self, *_, **__: ["broken"])
    must_notice(backend_contracts.check_report, MASKED_LM.on(backend="cpu"), "encode")


@BOTH
def test_wrong_gradients_of_the_chunked_loss_are_noticed(monkeypatch, case):
    right = ChunkedCrossEntropy.backward

    def broken(ctx, gradient):
        of_hidden, *rest = right(ctx, gradient)
        return of_hidden * 1.01, *rest

    monkeypatch.setattr(ChunkedCrossEntropy, "backward", staticmethod(broken))
    must_notice(backend_contracts.check_gradients, case.on(backend="cpu"))


@BOTH
def test_a_product_that_forgets_its_bias_is_noticed(monkeypatch, case):
    right = linear.linear
    monkeypatch.setattr(linear, "linear", lambda x, weight, bias=None: right(x, weight))
    must_notice(backend_contracts.check_values, case.on(backend="cpu"))


@BOTH
def test_packed_weights_that_are_stale_are_noticed(monkeypatch, case):
    """A copy that goes on with the weights of the first."""
    monkeypatch.delattr(packed_backend.PackedBackend, "__getstate__")
    monkeypatch.setattr(packed_backend, "state_of", lambda weights: [])
    monkeypatch.setattr(packed_backend, "parts_of", lambda layers: [])
    with pytest.raises((AssertionError, RuntimeError, TypeError)):
        backend_contracts.check_copies(case.on(backend="packed"))


@BOTH
def test_a_layer_without_its_last_norm_is_noticed(monkeypatch, case):
    right, calls = packed_encoder.normalized, []

    def broken(norm, hidden_states):
        calls.append(1)
        return hidden_states if len(calls) % 2 == 0 else right(norm, hidden_states)

    monkeypatch.setattr(packed_encoder, "normalized", broken)
    must_notice(backend_contracts.check_values, case.on(backend="packed"))


def test_positions_that_ignore_the_cache_are_noticed(monkeypatch):
    right = decoder.TransformerDecoder.embed

    def broken(self, input_ids, token_type_ids, position_ids, inputs_embeds):
        start = position_ids - position_ids.min()
        return right(self, input_ids, token_type_ids, start, inputs_embeds)

    monkeypatch.setattr(decoder.TransformerDecoder, "embed", broken)
    must_notice(contracts.check_cache, SEQ2SEQ)


def test_values_that_move_in_the_cache_are_noticed(monkeypatch):
    """Values that move in the cache with every step."""
    right = attention.Attention.keys_and_values

    def broken(self, key, value, past_key_values):
        key, value = right(self, key, value, past_key_values)
        return key, value.roll(1, dims=-2)

    monkeypatch.setattr(attention.Attention, "keys_and_values", broken)
    must_notice(contracts.check_cache, SEQ2SEQ)


@BOTH
def test_segments_that_are_forgotten_are_noticed(monkeypatch, case):
    """A module that shows what transformers' does not."""
    right = embeddings.EmbeddingSteps.look_up

    def broken(self, input_ids, token_type_ids, position_ids, inputs_embeds):
        return right(self, input_ids, token_type_ids, position_ids * 0, inputs_embeds)

    monkeypatch.setattr(embeddings.EmbeddingSteps, "look_up", broken)
    must_notice(backend_contracts.check_hooks, case.on(backend="plain"))


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
    case = case.on(backend="plain")
    must_notice(contracts.check_switching, case, "sdpa not called")
    must_notice(contracts.check_custom_attention, case, "not every module")


@BOTH
@pytest.mark.parametrize("name", ["plain", "cpu", "packed"])
def test_packed_rows_that_see_each_other_are_noticed(monkeypatch, case, name):
    """In all that is computed alike by the backend and by the plain core: by sequences alone."""
    for module in (encoder, decoder):
        monkeypatch.setattr(module, "segment_ids", lambda *_: None)
    must_notice(backend_contracts.check_packed, case.on(backend=name))


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
        backend_contracts.check_packed,
        backend_contracts.check_hooks,
    ],
)
def test_nothing_is_noticed_where_nothing_is_broken(case, check):
    check(case)


def test_unbroken_cache_passes():
    contracts.check_cache(SEQ2SEQ)
