"""The encoder-decoder: caches, positions and what generation builds on."""

import contracts
import pytest
import torch
from cases import IGNORED, VOCABULARY, Case, packed, sequences, singles
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache

from bertlite import TransformerLiteForConditionalGeneration, TransformerLiteModel
from bertlite.models.layers import LayerSteps

STATES = {"encoder_last_hidden_state": "source", "last_hidden_state": "target"}
LOGITS = {"logits": "target", "encoder_last_hidden_state": "source"}
WORDS = {"labels": "target"}
SEPARATE = {"share_encoder_decoder_embeddings": False}
CASES = [
    Case(TransformerLiteModel, STATES),
    Case(TransformerLiteForConditionalGeneration, LOGITS, WORDS),
    Case(
        TransformerLiteForConditionalGeneration,
        LOGITS,
        WORDS,
        {"label_smoothing": 0.1},
        name="smoothed",
    ),
    Case(
        TransformerLiteForConditionalGeneration,
        LOGITS,
        WORDS,
        {"norm_first": True},
        name="pre-norm",
    ),
    Case(
        TransformerLiteForConditionalGeneration,
        LOGITS,
        WORDS,
        {
            "position_embedding_type": "absolute",
            "normalize_embedding": True,
            "activation_function": "relu",
        },
        name="learned-positions",
    ),
    Case(
        TransformerLiteForConditionalGeneration,
        LOGITS,
        WORDS,
        {
            "encoder_heads_per_layer": [1, 2],
            "encoder_ffn_dims": [7, 33],
            "decoder_heads_per_layer": [2, 1],
            "cross_heads_per_layer": [1, 2],
            "decoder_ffn_dims": [48, 9],
        },
        name="pruned",
    ),
]


SEQ2SEQ = CASES[1]


def test_labels_are_shifted_once():
    """The decoder reads the start token and the labels but the last.

    The loss compares place by place.
    """
    model, batch = SEQ2SEQ.model(), SEQ2SEQ.batch()
    source = {name: tensor for name, tensor in batch.items() if not name.startswith("decoder")}
    labels = torch.tensor([[7, 8, 9, 1], [5, 1, -100, -100], [6, 1, -100, -100], [4, 4, 1, -100]])
    shifted = torch.tensor([[2, 7, 8, 9], [2, 5, 1, 0], [2, 6, 1, 0], [2, 4, 4, 1]])
    assert torch.equal(model.prepare_decoder_input_ids_from_labels(labels), shifted)
    with torch.no_grad():
        outputs, expected = (
            model(**source, labels=labels),
            model(**source, decoder_input_ids=shifted),
        )
    contracts.assert_equal({"logits": outputs.logits}, {"logits": expected.logits}, atol=0)
    torch.testing.assert_close(
        outputs.loss, nn.functional.cross_entropy(expected.logits.flatten(0, 1), labels.flatten())
    )
    assert outputs.past_key_values is None


def test_label_smoothing_is_torchs():
    model, batch = SEQ2SEQ.model(label_smoothing=0.1), SEQ2SEQ.batch()
    labels = SEQ2SEQ.make_labels(batch)["labels"]
    outputs = model(**batch, labels=labels)
    logits = outputs.logits.flatten(0, 1)
    expected = nn.functional.cross_entropy(logits, labels.flatten(), label_smoothing=0.1)
    assert abs(expected - nn.functional.cross_entropy(logits, labels.flatten())) > 1e-3
    torch.testing.assert_close(outputs.loss, expected)
    torch.testing.assert_close(model.train()(**batch, labels=labels).loss, expected)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_chunked_loss_and_gradients_equal_the_plain_ones(chunk):
    batch = SEQ2SEQ.batch()
    labels = SEQ2SEQ.make_labels(batch)
    plain, model = (SEQ2SEQ.model(loss_chunk_size=size, label_smoothing=0.1) for size in (0, chunk))
    expected = SEQ2SEQ.gradients(plain, batch, labels)
    contracts.assert_equal(SEQ2SEQ.gradients(model, batch, labels), expected)
    assert "logits" not in model(**batch, **labels)
    assert plain(**batch, **labels).logits.shape == (4, 6, VOCABULARY)
    assert model.eval()(**batch, **labels).logits.shape == (4, 6, VOCABULARY)


def test_logits_to_keep():
    model, batch = SEQ2SEQ.model(), SEQ2SEQ.batch()
    with torch.no_grad():
        whole = model(**batch).logits
        assert whole.shape == (4, 6, VOCABULARY)
        for kept, expected in (
            (1, whole[:, -1:]),
            (3, whole[:, -3:]),
            (torch.tensor([0, 2]), whole[:, [0, 2]]),
        ):
            torch.testing.assert_close(model(**batch, logits_to_keep=kept).logits, expected)


def test_cache_holds_every_layer_of_both_attentions():
    model, batch = SEQ2SEQ.model(), SEQ2SEQ.batch()
    cache = model(**batch, use_cache=True).past_key_values
    assert isinstance(cache, EncoderDecoderCache)
    for part, length in ((cache.self_attention_cache, 6), (cache.cross_attention_cache, 9)):
        assert len(part.layers) == 2
        assert all(
            layer.keys.shape == layer.values.shape == (4, 2, length, 16) for layer in part.layers
        )


def test_encoder_runs_once_and_its_outputs_can_be_given():
    model, batch = SEQ2SEQ.model(), SEQ2SEQ.batch()
    source = {name: batch.pop(name) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        encoded, expected = model.get_encoder()(**source), model(**source, **batch).logits
        for given in (encoded, (encoded[0],)):
            outputs = model(encoder_outputs=given, attention_mask=source["attention_mask"], **batch)
            torch.testing.assert_close(outputs.logits, expected)


def test_target_does_not_see_its_future():
    model, batch = SEQ2SEQ.model(), SEQ2SEQ.batch()
    other = dict(batch, decoder_input_ids=batch["decoder_input_ids"].clone())
    other["decoder_input_ids"][:, 3:] = 60 - other["decoder_input_ids"][:, 3:]
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            first, second = (model(**each).logits for each in (batch, other))
        torch.testing.assert_close(first[:, :3], second[:, :3])
        assert (first[:, 3:] - second[:, 3:]).abs().max() > 1e-2


@pytest.mark.parametrize("cache", [None, "dynamic"])
def test_packed_targets_do_not_leak_whatever_the_cache(attention, cache):
    """The rows of the contract again, with and without an empty cache from the caller."""
    whole = sequences(SEQ2SEQ.batch())
    rows, alone = (
        packed(SEQ2SEQ, whole, [(0, 1), (2, 3)]),
        packed(SEQ2SEQ, whole, [(0,), (1,), (2,), (3,)]),
    )
    model = SEQ2SEQ.model(attention)
    given = EncoderDecoderCache(DynamicCache(), DynamicCache()) if cache else None
    with torch.no_grad():
        found = SEQ2SEQ.real(model(**rows, past_key_values=given, packed=True), rows)
        contracts.assert_equal(found, SEQ2SEQ.real(model(**alone), alone))


def test_packed_rows_give_the_gradients_of_the_sequences_alone(attention):
    whole = sequences(SEQ2SEQ.batch())
    rows, alone = (
        packed(SEQ2SEQ, whole, [(0, 1), (2, 3)]),
        packed(SEQ2SEQ, whole, [(0,), (1,), (2,), (3,)]),
    )
    model, found = SEQ2SEQ.model(attention), []
    for batch in (rows, alone):
        labels = batch["decoder_input_ids"].masked_fill(
            batch["decoder_attention_mask"] == 0, IGNORED
        )
        found.append(SEQ2SEQ.gradients(model, batch, {"labels": labels}, packed=True))
    contracts.assert_equal(*found)


def test_left_padded_targets_equal_targets_alone(attention):
    """With the positions that count real tokens only."""
    model, batch = SEQ2SEQ.model(attention), SEQ2SEQ.batch()
    for name in ("decoder_input_ids", "decoder_attention_mask"):
        batch[name] = batch[name].flip(-1)
    mask = batch["decoder_attention_mask"]
    batch["decoder_position_ids"] = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
    with torch.no_grad():
        alone = [SEQ2SEQ.real(model(**row), row)["logits"] for row in singles(batch)]
        found = SEQ2SEQ.real(model(**batch), batch)["logits"]
    contracts.assert_equal({"logits": found}, {"logits": torch.cat(alone)})


def test_separate_vocabularies_of_both_sides():
    model = SEQ2SEQ.model(share_encoder_decoder_embeddings=False, decoder_vocab_size=70)
    outputs = model(torch.tensor([[60, 5]]), decoder_input_ids=torch.tensor([[69, 5]]))
    assert outputs.logits.shape == (1, 2, 70)
    assert model.get_output_embeddings().weight is model.get_decoder().get_input_embeddings().weight


@pytest.mark.parametrize("backend", ["plain", "cpu"])
def test_layerdrop_leaves_layers_out_in_training_only(monkeypatch, backend):
    case = SEQ2SEQ.on(backend=backend)
    model, batch = case.model(encoder_layerdrop=0.999, decoder_layerdrop=0.999), case.batch()
    calls, right = [], LayerSteps.feed_forward
    monkeypatch.setattr(LayerSteps, "feed_forward", lambda *given: calls.append(1) or right(*given))
    model.train()(**batch, zero_padding=True)
    assert calls == []
    model.eval()(**batch)
    assert len(calls) == 4


def test_logits_and_encoder_states_in_training_are_computed_when_they_are_touched():
    """The encoder's at padding are Marian's then, by a second pass over the source."""
    model, batch = SEQ2SEQ.model().train(), SEQ2SEQ.batch()
    labels = SEQ2SEQ.make_labels(batch)
    outputs, expected = model(**batch, **labels), SEQ2SEQ.plainly().model().train()(**batch)
    names = ("logits", "encoder_last_hidden_state")
    assert not set(names) & set(outputs.keys())
    for name in names:
        contracts.assert_equal({name: outputs[name]}, {name: expected[name]})
    copied = type(model(**batch, **labels))(loss=outputs.loss)
    for name in names:
        with pytest.raises(AttributeError, match=f"{name}.*loss_chunk_size"):
            getattr(copied, name)


def test_resizing_separate_vocabularies_leaves_the_target_side_whole():
    """As in Marian, `resize_token_embeddings` is the source's then.

    The target's head keeps its size and labels.
    """
    model = SEQ2SEQ.model(share_encoder_decoder_embeddings=False)
    model.resize_token_embeddings(VOCABULARY + 7, mean_resizing=False)
    head = model.get_output_embeddings()
    assert head.out_features == len(head.weight) == model.config.decoder_vocab_size == VOCABULARY
    with pytest.raises(ValueError, match="labels"):
        model(torch.tensor([[4, 5]]), labels=torch.tensor([[VOCABULARY + 1]]))


@pytest.mark.parametrize("tied", [True, False])
def test_resizing_the_target_side(tied):
    """Marian's method for separate vocabularies."""
    model = SEQ2SEQ.model(share_encoder_decoder_embeddings=False, tie_word_embeddings=tied)
    batch = SEQ2SEQ.batch()
    with torch.no_grad():
        before = model(**batch).logits
        model.resize_decoder_token_embeddings(VOCABULARY + 7)
        after = model(**batch).logits
    assert model.config.decoder_vocab_size == after.shape[-1] == VOCABULARY + 7
    assert model.config.vocab_size == VOCABULARY
    torch.testing.assert_close(after[..., :VOCABULARY], before)
