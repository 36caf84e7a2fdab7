"""Which parts keep their weights: by BERT's names, Marian's, and those of other models."""

import pytest
import torch
from tiny_runs import tiny_bert, tiny_transformer
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MarianConfig,
    MarianMTModel,
)

from bertlite.training.adapters import add_adapters, merge_adapters, plain_model
from bertlite.training.freezing import encoder_layer, freeze, is_embedding
from bertlite.training.optimizers import layers_from_top

SIZES = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 48, "max_position_embeddings": 32}


def their_bert():
    return BertForSequenceClassification(BertConfig(**SIZES))


def their_distilbert():
    sizes = {"vocab_size": 40, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}
    return DistilBertForSequenceClassification(DistilBertConfig(**sizes))


def their_marian():
    sides = {
        f"{side}_{name}": number
        for side in ("encoder", "decoder")
        for name, number in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 48))
    }
    return MarianMTModel(
        MarianConfig(vocab_size=40, d_model=32, pad_token_id=0, decoder_start_token_id=0, **sides)
    )


def trained(model):
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("make", [tiny_bert, their_bert, their_distilbert])
def test_parts_of_an_encoder(make):
    sizes = {}
    for parts in ("embeddings", 1, "2", "encoder"):
        model = make()
        frozen = freeze(model, parts)
        assert trained(model) == {name for name, _ in model.named_parameters()} - set(frozen)
        sizes[str(parts)] = sum(
            weight.numel() for weight in model.parameters() if not weight.requires_grad
        )
    layer = sum(
        weight.numel() for name, weight in make().named_parameters() if encoder_layer(name) == 0
    )
    embeddings = sum(
        weight.numel() for name, weight in make().named_parameters() if is_embedding(name)
    )
    assert sizes["embeddings"] == embeddings
    assert sizes["1"] == embeddings + layer
    assert sizes["2"] == sizes["encoder"] == embeddings + 2 * layer
    # BERT's embeddings and layers, counted by hand: tables and norm; 4 · 32² + 2 · 32 · 48 and
    # their biases and norms.
    assert layer == 4 * 32 * 32 + 2 * 32 * 48 + 4 * 32 + 48 + 32 + 4 * 32


def test_the_head_is_trained():
    model = tiny_bert()
    freeze(model, "encoder")
    left = trained(model)
    assert left == {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize("make", [tiny_transformer, their_marian])
def test_of_an_encoder_decoder_the_encoder(make):
    model = make()
    freeze(model, "encoder")
    left = trained(model)
    assert left
    assert all(".decoder." in name for name in left)
    model = make()
    freeze(model, "embeddings")
    assert not [name for name in trained(model) if "shared" in name or "embed_" in name]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ("head", "must be embeddings, a number of layers or encoder, got 'head'"),
        (3, "must be at most the 2 layers of the encoder, got 3"),
        (-1, "must be embeddings, a number of layers or encoder, got -1"),
    ],
)
def test_other_parts_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        freeze(tiny_bert(), parts)


def test_a_model_of_other_names_is_refused():
    with pytest.raises(ValueError, match="Sequential has none such"):
        freeze(nn.Sequential(nn.Linear(2, 2)), "encoder")


def test_rates_by_layer_know_the_same_names():
    """Both name schemes give a parameter the same place: head 0, layers 1, 2, embeddings 3."""
    for make in (tiny_bert, their_bert):
        below = layers_from_top(make())
        assert {below[name] for name in below if is_embedding(name)} == {3}
        assert {below[name] for name in below if encoder_layer(name) == 0} == {2}
        assert below["classifier.weight"] == below["bert.pooler.dense.weight"] == 0
    assert layers_from_top(their_marian())["model.shared.weight"] == 3


@pytest.mark.parametrize("make", [tiny_bert, their_bert, tiny_transformer, their_marian])
def test_adapters_sit_at_every_linear_layer_and_merge(make):
    torch.manual_seed(0)
    model = make().eval()
    names = set(model.state_dict())
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "layer" in name
    ]
    adapted = add_adapters(model, 4).eval()
    left = trained(adapted)
    assert sum("lora_A" in name for name in left) == len(linear)
    heads = {name.split(".modules_to_save")[0] for name in left if "lora" not in name}
    expected = {"pooler.dense", "classifier"} if hasattr(model, "classifier") else set()
    assert {name.split("base_model.model.")[1].removeprefix("bert.") for name in heads} == expected
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[0, 5]])
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.2)
    with torch.no_grad():
        before = adapted(**inputs).logits
        torch.testing.assert_close(plain_model(adapted)(**inputs).logits, before)
        merged = merge_adapters(adapted, None)
        torch.testing.assert_close(merged(**inputs).logits, before, atol=1e-5, rtol=1e-5)
    assert set(merged.state_dict()) == names
    assert type(merged) is type(model)
