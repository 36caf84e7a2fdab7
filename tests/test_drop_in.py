"""A drop-in to the last name: what code that was written for BERT or Marian looks for is there.

Keys, order, module types, names that scripts filter by, and modules that can be called alone.
"""

import copy
import inspect
import re

import pytest
import torch
import transformers
from cases import bert_config, randomize
from pairs import HEADS, SEPARATE, bert_pair, marian_pair
from torch import nn

import bertlite
from bertlite.models.embeddings import SinusoidalEmbedding

EVERY_HEAD = pytest.mark.parametrize("head", HEADS)
EVERY_MARIAN = pytest.mark.parametrize(
    ("base", "fields"),
    [(False, {}), (True, {}), (False, SEPARATE), (True, SEPARATE)],
    ids=["shared", "base, shared", "separate", "base, separate"],
)
LEAVES = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.Dropout)
IDS = torch.tensor([[2, 5, 9, 20, 7, 3]])


def assert_same_keys(ours: nn.Module, theirs: nn.Module) -> None:
    """Of parameters and buffers: the same names in the same order, with the same shapes."""
    found, expected = ours.state_dict(), theirs.state_dict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert torch.equal(found[name], value), name
    assert [name for name, _ in ours.named_parameters()] == [
        name for name, _ in theirs.named_parameters()
    ]


@EVERY_HEAD
def test_keys_of_bert(head, tmp_path):
    theirs, ours = bert_pair(head, tmp_path)
    assert_same_keys(ours, theirs)
    fresh = type(theirs)(theirs.config)
    fresh.load_state_dict(ours.state_dict())  # strict, and without a word of ours
    assert_same_keys(ours, fresh)


@EVERY_MARIAN
def test_keys_of_marian(base, fields, tmp_path):
    theirs, ours = marian_pair(tmp_path, base=base, **fields)
    assert_same_keys(ours, theirs)
    fresh = type(theirs)(theirs.config)
    fresh.load_state_dict(ours.state_dict())
    assert_same_keys(ours, fresh)


def assert_folder_is_theirs(ours: nn.Module, theirs: nn.Module, folder, inputs) -> None:
    """Saved by ours, loaded by theirs: no key too much or too little, weights without a difference.

    Marian's base class computes its tables of positions, but does not say that files lack them.
    """
    ours.save_pretrained(folder)
    again, info = type(theirs).from_pretrained(folder, output_loading_info=True)
    assert not [name for name in info["missing_keys"] if "embed_positions" not in name]
    assert not info["unexpected_keys"]
    assert_same_keys(again.eval(), theirs)
    with torch.no_grad():
        found, expected = again(**inputs), theirs(**inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Not to the last bit: where a tensor lies in memory decides which kernel multiplies it.
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-6)


@EVERY_HEAD
def test_folders_of_bert(head, tmp_path):
    theirs, ours = bert_pair(head, tmp_path / "theirs")
    inputs = {"input_ids": IDS[None] if head == "ForMultipleChoice" else IDS}
    assert_folder_is_theirs(ours, theirs, tmp_path / "ours", inputs)


@EVERY_MARIAN
def test_folders_of_marian(base, fields, tmp_path):
    theirs, ours = marian_pair(tmp_path / "theirs", base=base, **fields)
    inputs = {"input_ids": IDS, "decoder_input_ids": IDS, "use_cache": False}
    assert_folder_is_theirs(ours, theirs, tmp_path / "ours", inputs)


def types_of(model: nn.Module) -> dict[str, type]:
    return {name: type(module) for name, module in model.named_modules() if name}


def assert_plain_types(ours: nn.Module, theirs: nn.Module) -> None:
    """Exactly torch's layers, by type, wherever theirs has them; nothing is a subclass."""
    found, expected = types_of(ours), types_of(theirs)
    for name, kind in expected.items():
        if kind in LEAVES:
            assert found[name] is kind, f"{name}: {found.get(name)} is not {kind}"
    for name, kind in found.items():
        if issubclass(kind, LEAVES) and kind is not SinusoidalEmbedding:
            assert kind in LEAVES, f"{name} is a {kind}"


@EVERY_HEAD
def test_types_of_bert(head, tmp_path):
    theirs, ours = bert_pair(head, tmp_path)
    assert_plain_types(ours, theirs)
    missing = types_of(theirs).keys() - types_of(ours).keys()
    assert not missing, "every node of BERT's tree stands in ours"


@EVERY_MARIAN
def test_types_of_marian(base, fields, tmp_path):
    theirs, ours = marian_pair(tmp_path, base=base, **fields)
    assert_plain_types(ours, theirs)
    assert not types_of(theirs).keys() - types_of(ours).keys()


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForMaskedLM"])
def test_types_after_a_forward_pass(head, tmp_path):
    """What makes layers faster leaves their types, and a copy of the model is as free."""
    theirs, ours = bert_pair(head, tmp_path)
    ours(IDS)
    assert_plain_types(ours, theirs)
    assert_plain_types(copy.deepcopy(ours), theirs)


def test_the_list_of_what_does_not_decay(tmp_path):
    """`no_decay = ["bias", "LayerNorm.weight"]`, copied from script to script, finds every norm."""
    for head in HEADS:
        theirs, ours = bert_pair(head, tmp_path)
        no_decay = ["bias", "LayerNorm.weight"]
        decayed = [
            {
                name
                for name, _ in model.named_parameters()
                if not any(part in name for part in no_decay)
            }
            for model in (ours, theirs)
        ]
        assert decayed[0] == decayed[1]
        assert not [name for name in decayed[0] if "norm" in name.lower()]


def test_freezing_by_name(tmp_path):
    """The scripts that freeze embeddings and the lower layers."""
    _, ours = bert_pair("ForSequenceClassification", tmp_path)
    for name, parameter in ours.named_parameters():
        if name.startswith(("bert.embeddings.", "bert.encoder.layer.0.")):
            parameter.requires_grad = False
    for parameter in ours.bert.encoder.layer[1].attention.self.query.parameters():
        parameter.requires_grad = False
    ours.train()(IDS, labels=torch.tensor([1])).loss.backward()
    without = {name for name, each in ours.named_parameters() if each.grad is None}
    assert "bert.encoder.layer.1.attention.self.query.weight" in without
    assert "bert.encoder.layer.1.attention.self.key.weight" not in without
    assert {name for name in without if "layer.1" not in name} == {
        name
        for name, _ in ours.named_parameters()
        if name.startswith(("bert.embeddings.", "bert.encoder.layer.0."))
    }


def test_modules_can_be_called_alone(tmp_path):
    """`embeddings(input_ids)`, `encoder(h)`, a layer, its parts, `pooler(h)` and `cls(h)`."""
    theirs, ours = bert_pair("ForMaskedLM", tmp_path / "words")
    hidden = torch.randn(2, 5, 32)
    assert_close(ours.bert.embeddings(IDS), theirs.bert.embeddings(IDS))
    segments = torch.tensor([[0, 0, 1, 1, 1, 1]])
    both = (ours.bert.embeddings, theirs.bert.embeddings)
    assert_close(*(each(IDS, token_type_ids=segments) for each in both))
    assert_close(*(each(IDS, position_ids=IDS + 1) for each in both))
    assert_close(*(each(inputs_embeds=hidden) for each in both))
    assert_close(*(each(IDS, past_key_values_length=3) for each in both))
    assert_close(ours.cls(hidden), theirs.cls(hidden))
    assert_close(ours.cls.predictions.transform(hidden), theirs.cls.predictions.transform(hidden))
    assert_close(ours.bert.encoder(hidden)[0], theirs.bert.encoder(hidden)[0])
    mine, other = ours.bert.encoder.layer[0], theirs.bert.encoder.layer[0]
    assert_close(mine(hidden), first(other(hidden)))
    assert_close(mine.attention(hidden)[0], other.attention(hidden)[0])
    assert_close(mine.intermediate(hidden), other.intermediate(hidden))
    inner = torch.randn(2, 5, 48)
    assert_close(mine.output(inner, hidden), other.output(inner, hidden))
    assert_close(mine.attention.output(hidden, hidden), other.attention.output(hidden, hidden))

    theirs, ours = bert_pair("ForPreTraining", tmp_path / "pretraining")
    assert_close(ours.bert.pooler(hidden), theirs.bert.pooler(hidden))
    pooled = torch.randn(2, 32)
    for found, expected in zip(ours.cls(hidden, pooled), theirs.cls(hidden, pooled), strict=True):
        assert_close(found, expected)
    theirs, ours = bert_pair("ForNextSentencePrediction", tmp_path / "pairs")
    assert_close(ours.cls(pooled), theirs.cls(pooled))


def first(made):
    return made[0] if isinstance(made, tuple) else made


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


class MeanPooler(nn.Module):
    """A pooler that somebody has written for their BERT."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states.mean(1)


def test_an_exchanged_pooler_is_the_one_that_runs(tmp_path):
    """It gets all positions, not the first alone."""
    theirs, ours = bert_pair("ForSequenceClassification", tmp_path)
    for model in (theirs, ours):
        model.bert.pooler = MeanPooler()
    mask = torch.ones_like(IDS)
    assert_close(ours(IDS, attention_mask=mask).logits, theirs(IDS, attention_mask=mask).logits)
    for model in (theirs, ours):
        model.train()
    assert_close(ours(IDS).logits, theirs(IDS).logits)


@pytest.mark.parametrize(
    "place",
    [
        "bert.embeddings.word_embeddings",
        "bert.embeddings.LayerNorm",
        "bert.encoder.layer.1.attention.self.value",
        "bert.encoder.layer.1.attention.output",
        "bert.encoder.layer.1.attention.output.dense",
        "bert.encoder.layer.1.intermediate",
        "bert.encoder.layer.1.intermediate.intermediate_act_fn",
        "bert.encoder.layer.1.output.LayerNorm",
        "bert.encoder.layer.1",
        "bert.pooler.dense",
    ],
)
def test_an_exchanged_part_is_the_one_that_runs(place, tmp_path):
    """Wherever in the tree somebody puts a module of their own."""
    theirs, ours = bert_pair("ForSequenceClassification", tmp_path)
    before = ours(IDS).logits
    for model in (theirs, ours):
        parent, _, name = place.rpartition(".")
        setattr(model.get_submodule(parent), name, Doubling(model.get_submodule(place)))
    found, expected = ours(IDS).logits, theirs(IDS).logits
    assert_close(found, expected)
    assert not torch.allclose(found, before, atol=1e-3)


class Doubling(nn.Module):
    """Twice what the module gives that it stands for."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        made = self.module(*args, **kwargs)
        return (2 * made[0], *made[1:]) if isinstance(made, tuple) else 2 * made


def test_auto_config_of_a_folder_makes_a_model(tmp_path):
    """With the code that travelled: its config is another class than the installed one."""
    model = randomize(bertlite.BertLiteForMaskedLM(bert_config()))
    model.save_pretrained(tmp_path, with_code=True)
    config = transformers.AutoConfig.from_pretrained(tmp_path, trust_remote_code=True)
    for auto_class in ("AutoModel", "AutoModelForMaskedLM", "AutoModelForSequenceClassification"):
        model = getattr(transformers, auto_class).from_config(config, trust_remote_code=True)
        assert model.config.model_type == "bertlite"
        assert model(IDS)[0].isfinite().all()
    assert transformers.AutoModel.from_config(config)(IDS)[0].isfinite().all()


EVERY_CLASS = [
    getattr(bertlite, name) for name in bertlite.__all__ if re.search("Model$|For", name)
]


@pytest.mark.parametrize("model_class", EVERY_CLASS, ids=lambda each: each.__name__)
def test_forward_says_what_it_takes_besides(model_class):
    """As in transformers, whose exporters and tests read it: typed, with `output_attentions`."""
    given = inspect.signature(model_class.forward).parameters["kwargs"]
    assert "output_attentions" in given.annotation.__args__[0].__annotations__
