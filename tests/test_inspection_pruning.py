"""Pruned models: equal to masked ones, smaller, saved, loaded and exported."""

import json
import warnings

import pytest
import torch
import transformers
from cases import BERT, bert_config, padded, randomize, transformer_config
from pairs import bert_pair
from test_exports import OTHER_LENGTHS, assert_close, batch_of, exported
from test_travelling import WORDS, make_tokenizer, run

import bertlite
from bertlite.inspection import mask_heads, mask_neurons, prune
from bertlite.models.roberta import RobertaForMaskedLM

HEADS, NEURONS = {0: [1, 2], 1: [0]}, {0: [0, 5, 47], 1: list(range(10, 40))}
TARGETS = torch.tensor([[5, 6, 1], [7, 1, -100], [3, 9, 1]])


def batch() -> dict[str, torch.Tensor]:
    ids, mask = padded((6, 9, 3), "right", torch.Generator().manual_seed(3))
    return {"input_ids": ids, "attention_mask": mask}


def classifier(**overrides) -> bertlite.BertLiteForSequenceClassification:
    return randomize(bertlite.BertLiteForSequenceClassification(bert_config(**overrides)))


@pytest.mark.processor
@pytest.mark.parametrize("backend", ["plain", "cpu", "packed"])
def test_a_pruned_model_is_the_masked_one(backend):
    model = classifier()
    with torch.no_grad():
        with mask_heads(model, HEADS), mask_neurons(model, NEURONS):
            expected = model(**batch()).logits
        small = prune(model, heads=HEADS, neurons=NEURONS).eval()
        small = (
            bertlite.optimize(small)
            if backend == "packed"
            else bertlite.use_backend(small, backend)
        )
        torch.testing.assert_close(small(**batch()).logits, expected, atol=1e-6, rtol=0)
        (report,) = small.backend_report()
        assert report == f"BertLiteModel, encode: {backend}"
    layers = small.bert.encoder.layer
    assert [tuple(layer.attention.self.query.weight.shape) for layer in layers] == [
        (16, 32),
        (24, 32),
    ]
    assert [tuple(layer.attention.output.dense.weight.shape) for layer in layers] == [
        (32, 16),
        (32, 24),
    ]
    assert [tuple(layer.output.dense.weight.shape) for layer in layers] == [(32, 45), (32, 18)]
    assert model.config.heads_per_layer is None  # the model itself stays whole
    assert model.bert.encoder.layer[0].attention.self.query.weight.shape == (32, 32)


@pytest.mark.processor
@pytest.mark.parametrize("part", ["encoder", "decoder", "cross"])
def test_a_pruned_transformer_is_the_masked_one(part, tmp_path):
    model = randomize(bertlite.TransformerLiteForConditionalGeneration(transformer_config()))
    heads, given = {0: [0], 1: [1]}, {**batch(), "labels": TARGETS}
    small = prune(model, heads=heads, part=part)
    small.save_pretrained(tmp_path)
    loaded = type(small).from_pretrained(tmp_path).eval()
    with torch.no_grad(), mask_heads(model, heads, part=part):
        expected = model(**given).logits
        for each in (small, loaded):
            torch.testing.assert_close(each(**given).logits, expected, atol=2e-6, rtol=0)
        asked = {**batch(), "num_beams": 2, "max_new_tokens": 6}
        assert torch.equal(loaded.generate(**asked), model.generate(**asked))
    assert "generate: cpu" in loaded.backend_report()[0]


def test_it_loads_as_it_is_and_takes_fewer_bytes(tmp_path):
    model = classifier()
    small = prune(prune(model, heads={0: [1, 2]}), neurons=NEURONS)  # one after the other
    for each, name in ((model, "whole"), (small, "small")):
        each.save_pretrained(tmp_path / name)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "small")]
    cut = sum(weight.numel() for weight in model.parameters())
    cut -= sum(weight.numel() for weight in small.parameters())
    # per head 4 matrices of 8 x 32 and 3 biases of 8; per neuron 2 columns of 32 and a bias
    assert cut == 2 * (4 * 8 * 32 + 3 * 8) + 33 * (2 * 32 + 1)
    assert sizes[0] - sizes[1] == pytest.approx(4 * cut, abs=200)  # and the header's digits
    config = json.loads((tmp_path / "small/config.json").read_text())
    assert config["heads_per_layer"] == [2, 4]
    assert config["intermediate_sizes"] == [45, 18]
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "small")
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**batch()).logits, small(**batch()).logits)


def test_their_class_refuses_what_it_cannot_be(tmp_path):
    prune(classifier(), heads=HEADS).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="mismatched"):
        transformers.BertForSequenceClassification.from_pretrained(tmp_path)


def test_equal_widths_and_fewer_layers_stay_a_plain_bert(tmp_path):
    """As transformers' own class without those layers, with those columns of the layer zeroed."""
    theirs, ours = bert_pair("ForSequenceClassification", tmp_path / "whole")
    small = prune(ours, neurons={1: range(40, 48)}, layers=[0])
    assert small.config.num_hidden_layers == 1
    assert small.config.intermediate_size == 40
    assert small.config.intermediate_sizes is None
    del theirs.bert.encoder.layer[0]
    with torch.no_grad():
        theirs.bert.encoder.layer[0].output.dense.weight[:, 40:] = 0.0
        expected = theirs(**batch()).logits
        torch.testing.assert_close(small(**batch()).logits, expected, atol=1e-6, rtol=0)
        small.save_pretrained(tmp_path / "small")
        again = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "small")
        torch.testing.assert_close(again.eval()(**batch()).logits, expected, atol=1e-6, rtol=0)


def test_layers_of_a_decoder_are_numbered_anew():
    """Or its cache would look for keys where none are."""
    model = randomize(bertlite.TransformerLiteForConditionalGeneration(transformer_config()))
    small = prune(model, layers=[0], part="decoder")
    assert small.config.decoder_layers == 1
    asked = {**batch(), "max_new_tokens": 6}
    fast = small.generate(**asked)
    plain = bertlite.use_backend(small, "plain").generate(**asked)
    assert torch.equal(fast, plain)


@pytest.mark.slow
def test_it_loads_where_bertlite_is_not(tmp_path):
    model = bertlite.BertLiteForMaskedLM(bert_config(vocab_size=len(WORDS)))
    prune(randomize(model), heads=HEADS, neurons=NEURONS).save_pretrained(tmp_path / "saved")
    make_tokenizer(tmp_path).save_pretrained(tmp_path / "saved")
    run(
        "load_without_bertlite.py",
        tmp_path / "saved",
        tmp_path / "again",
        json.dumps(["AutoConfig", "AutoModelForMaskedLM"][1:]),
        HF_MODULES_CACHE=str(tmp_path / "modules"),
    )
    first, again = (
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / name).eval()
        for name in ("saved", "again")
    )
    ids = torch.tensor([[2, 5, 8, 3]])
    assert torch.equal(first(ids).logits, again(ids).logits)
    assert again.config.heads_per_layer == [2, 3]


def test_it_is_exported(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="it runs what was exported")
    pytest.importorskip("onnx", reason="torch writes its files with it")
    model = classifier()
    small = prune(model, heads=HEADS, neurons=NEURONS)
    exported(small, batch_of((6, 4)), tmp_path / "model.onnx", dynamo=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for lengths in OTHER_LENGTHS:
        given = batch_of(lengths)
        made = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        with torch.no_grad(), mask_heads(model, HEADS), mask_neurons(model, NEURONS):
            assert_close(made[0], model(**given).logits, given["attention_mask"])


def test_it_is_trained_further_and_compiled_graphs_see_its_sizes():
    small = prune(classifier(), heads=HEADS).train()
    small(**batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
    assert all(weight.grad is not None for weight in small.parameters())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(small.eval(), (), batch())
        found = program.module()(**batch()).logits
        torch.testing.assert_close(found, small(**batch()).logits, atol=1e-5, rtol=0)


def test_what_cannot_be_cut_is_refused():
    model = classifier()
    with pytest.raises(ValueError, match="heads must leave at least one of the 4 of layer 1"):
        prune(model, heads={1: range(4)})
    with pytest.raises(ValueError, match="neurons must leave at least one of the 48"):
        prune(model, neurons={0: range(48)})
    with pytest.raises(ValueError, match="layers must leave at least one of 2"):
        prune(model, layers=[0, 1])
    with pytest.raises(ValueError, match=r"layers must be from 0 to 1, got \[2\]"):
        prune(model, layers=[2])
    with pytest.raises(ValueError, match="layers must be whole numbers, got '0'"):
        prune(model, layers="0")
    with pytest.raises(ValueError, match="model must be a loaded model, got 'out/model'"):
        prune("out/model", heads={0: [0]})
    model.bert.encoder.layer[0].intermediate.dense = torch.nn.Identity()
    with pytest.raises(ValueError, match="plain linear layers.* got a Identity in layer 0"):
        prune(model, heads={0: [0]})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads_per_layer": [4]}, "2 numbers .num_hidden_layers. from 1 to 4"),
        ({"heads_per_layer": [5, 1]}, "from 1 to 4 .num_attention_heads., got .5, 1."),
        ({"intermediate_sizes": [0, 1]}, "from 1 to 48 .intermediate_size., got .0, 1."),
    ],
)
def test_sizes_that_fit_no_model_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        bertlite.BertLiteModel(bert_config(**fields))


def test_a_roberta_can_lose_layers_and_nothing_else(tmp_path):
    """Its `config.json` stays one of its family, which has no sizes of each layer."""
    fields = {**BERT, "max_position_embeddings": 42, "pad_token_id": 1, "num_hidden_layers": 3}
    theirs = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**fields))
    randomize(theirs).save_pretrained(tmp_path)
    ours = RobertaForMaskedLM.from_pretrained(tmp_path).eval()
    with pytest.raises(ValueError, match="must be a BertLite .* got a RobertaForMaskedLM"):
        prune(ours, heads={0: [0]})
    small = prune(ours, layers=[1])
    del theirs.roberta.encoder.layer[1]
    real = batch()["attention_mask"].bool()
    with torch.no_grad():
        found, expected = small(**batch()).logits[real], theirs(**batch()).logits[real]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        small.save_pretrained(tmp_path / "small")
        again = transformers.RobertaForMaskedLM.from_pretrained(tmp_path / "small").eval()
        torch.testing.assert_close(again(**batch()).logits[real], expected, atol=1e-5, rtol=0)


def test_a_transformer_starts_from_a_pruned_bert(tmp_path):
    small = prune(classifier(), heads=HEADS, neurons={1: [3]})
    small.save_pretrained(tmp_path)
    options = {"decoder_start_token_id": 1, "eos_token_id": 2, "decoder_layers": 1}
    started = bertlite.warm_start_from_bert(tmp_path, **options).model.eval()
    with torch.no_grad():
        found = started.get_encoder()(**batch()).last_hidden_state
        expected = small.bert(**batch()).last_hidden_state
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert started.config.decoder_heads_per_layer == [2]
