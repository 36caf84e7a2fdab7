"""PEFT on ours as on BERT and Marian: the same adapters in the same places, exchanged both ways.

Each adapter is made on one class with random weights, saved, and loaded on the other: both have
the same number of parameters there, and equal outputs, which are not those without the adapter.
"""

from pathlib import Path

import peft
import pytest
import torch
from contracts import assert_equal
from pairs import SEPARATE, bert_pair, marian_pair
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from torch import nn

import bertlite

IDS = torch.tensor([[2, 5, 9, 20, 7, 3], [2, 11, 3, 4, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
BERT = {"input_ids": IDS, "attention_mask": MASK}
MARIAN = {**BERT, "decoder_input_ids": IDS[:, :4], "use_cache": False}
BERT_ADAPTERS = {
    "default targets": {},
    "dense": {"target_modules": ["query", "key", "value", "dense"]},
    "all-linear": {"target_modules": "all-linear"},
    "pattern": {"target_modules": r".*layer\.1\.(attention\.output|intermediate)\.dense"},
    "one layer": {"target_modules": ["query"], "layers_to_transform": [1]},
    "word embeddings": {"target_modules": ["word_embeddings", "query"]},
    "new tokens": {"target_modules": ["query"], "trainable_token_indices": [5, 9]},
    "pooler": {"target_modules": ["value"], "modules_to_save": ["pooler"]},
    "embeddings saved": {"target_modules": ["value"], "modules_to_save": ["word_embeddings"]},
    "norms saved": {"target_modules": ["value"], "modules_to_save": ["LayerNorm"]},
    "dora": {"target_modules": ["query", "dense"], "use_dora": True},
}
MARIAN_ADAPTERS = {
    "attention": {"target_modules": ["q_proj", "v_proj"]},
    "all-linear": {"target_modules": "all-linear"},
    "feed-forward": {"target_modules": ["fc1", "fc2", "out_proj"]},
    "decoder": {"target_modules": r".*decoder\.layers\.\d+\.encoder_attn\.k_proj"},
    "words": {"target_modules": ["embed_tokens", "q_proj"]},
    "norms saved": {"target_modules": ["q_proj"], "modules_to_save": ["final_layer_norm"]},
}


def adapted(model: nn.Module, config: peft.PeftConfig) -> nn.Module:
    """A model with an adapter of random weights, large enough to show."""
    torch.manual_seed(3)
    made = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def outputs(model: nn.Module, inputs: dict) -> torch.Tensor:
    """The first output, at real tokens where it is by token."""
    with torch.no_grad():
        made = model(**inputs)[0]
    return made[MASK.bool()] if made.shape[:2] == MASK.shape else made


def adapter_sizes(model: nn.Module) -> dict[str, int]:
    """The adapter's own parameters, by name."""
    return {
        name: each.numel()
        for name, each in model.named_parameters()
        if any(part in name for part in ("lora_", "modules_to_save", "trainable_tokens", "prompt"))
    }


def assert_adapters_travel(pair, config, inputs, folder: Path) -> None:
    """Made on one class and loaded on the other, in both directions.

    `pair` makes the two models, afresh at each call.
    """
    for made_on, loaded_on in ((0, 1), (1, 0)):
        before = outputs(pair()[loaded_on], inputs)
        source = adapted(pair()[made_on], config())
        expected, sizes = outputs(source, inputs), adapter_sizes(source)
        saved = folder / f"adapter {made_on}"
        source.save_pretrained(saved)
        loaded = PeftModel.from_pretrained(pair()[loaded_on], saved).eval()
        assert sizes
        assert adapter_sizes(loaded) == sizes
        found = outputs(loaded, inputs)
        assert_equal({"outputs": found}, {"outputs": expected})
        assert not torch.allclose(found, before, atol=1e-3)
        if any(kind in name for name in sizes for kind in ("lora_", "trainable_tokens")):
            merged = [outputs(each.merge_and_unload(), inputs) for each in (loaded, source)]
            assert_equal({"outputs": merged[0]}, {"outputs": merged[1]})


@pytest.mark.parametrize("kind", BERT_ADAPTERS)
def test_adapters_of_bert(kind, tmp_path):
    def pair():
        return bert_pair("Model", tmp_path / "model", "sdpa")

    def config():
        return LoraConfig(r=4, init_lora_weights=False, **BERT_ADAPTERS[kind])

    assert_adapters_travel(pair, config, BERT, tmp_path)


@pytest.mark.parametrize(
    ("head", "task", "saved"),
    [
        ("ForSequenceClassification", "SEQ_CLS", ["classifier"]),
        ("ForSequenceClassification", "SEQ_CLS", ["classifier", "pooler"]),
        ("ForTokenClassification", "TOKEN_CLS", None),
        ("ForQuestionAnswering", "QUESTION_ANS", ["qa_outputs"]),
        ("ForMaskedLM", None, ["cls"]),
    ],
)
def test_adapters_of_berts_heads(head, task, saved, tmp_path):
    """A head is trained whole beside the adapter."""

    def pair():
        return bert_pair(head, tmp_path / "model", "sdpa")

    def config():
        return LoraConfig(r=4, init_lora_weights=False, task_type=task, modules_to_save=saved)

    assert_adapters_travel(pair, config, BERT, tmp_path)


@pytest.mark.parametrize("kind", MARIAN_ADAPTERS)
@pytest.mark.parametrize("fields", [{}, SEPARATE], ids=["shared", "separate"])
def test_adapters_of_marian(kind, fields, tmp_path):
    def pair():
        return marian_pair(tmp_path / "model", "sdpa", **fields)

    def config():
        options = {"r": 4, "init_lora_weights": False, "task_type": "SEQ_2_SEQ_LM"}
        return LoraConfig(**options, **MARIAN_ADAPTERS[kind])

    assert_adapters_travel(pair, config, MARIAN, tmp_path)


@pytest.mark.parametrize(
    ("head", "task"),
    [("ForSequenceClassification", "SEQ_CLS"), ("ForTokenClassification", "TOKEN_CLS")],
)
def test_prefixes(head, task, tmp_path):
    """Keys and values that every token sees before those of the batch, learned for each layer."""

    def pair():
        return bert_pair(head, tmp_path / "model", "sdpa")

    def config():
        return PrefixTuningConfig(task_type=task, num_virtual_tokens=3)

    assert_adapters_travel(pair, config, BERT, tmp_path)


def test_gradients_of_an_adapter(tmp_path):
    """Those of BERT, in training with padding, and none on what is frozen."""
    gradients = []
    for model in bert_pair("ForSequenceClassification", tmp_path, "sdpa"):
        config = LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear")
        made = adapted(model, config).train()
        made(**BERT, labels=torch.tensor([1, 2])).loss.backward()
        gradients.append({name: p.grad for name, p in made.named_parameters() if p.requires_grad})
        assert not [name for name, p in made.named_parameters() if not p.requires_grad and p.grad]
    expected, found = gradients
    assert_equal(found, expected)


def test_an_adapter_on_an_optimised_model_runs_through_its_own_layers(tmp_path):
    """Packed weights are those of plain layers; what stands in their place is not packed."""
    theirs, ours = bert_pair("Model", tmp_path, "sdpa")
    config = LoraConfig(r=4, init_lora_weights=False, target_modules=["query", "dense"])
    expected = outputs(adapted(theirs, config), BERT)
    made = adapted(bertlite.optimize(ours), config)
    torch.testing.assert_close(outputs(made, BERT), expected, atol=1e-5, rtol=1e-5)
    assert "a layer has been exchanged" in ours.backend_report()[0]
