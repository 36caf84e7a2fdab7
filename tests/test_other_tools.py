"""Tools that look into a model: quantisers, accelerate, and what loads a file into a module."""

import accelerate
import pytest
import torch
from pairs import HEADS, SEPARATE, bert_pair, marian_pair
from safetensors.torch import load_file
from torch import nn

IDS = torch.tensor([[2, 5, 9, 20, 7, 3], [2, 11, 3, 4, 8, 6]])
BERT_HEADS = pytest.mark.parametrize("head", HEADS)


def quantized_layers(model: nn.Module) -> list[str]:
    """Where `quantize_dynamic` has put a layer of its own."""
    made = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    found = [
        name for name, each in made.named_modules() if type(each).__module__.startswith("torch.ao")
    ]
    assert found
    return found


@BERT_HEADS
def test_dynamic_quantization_of_bert(head, tmp_path):
    theirs, ours = bert_pair(head, tmp_path)
    assert quantized_layers(ours) == quantized_layers(theirs)


@pytest.mark.parametrize("fields", [{}, SEPARATE], ids=["shared", "separate"])
def test_dynamic_quantization_of_marian(fields, tmp_path):
    theirs, ours = marian_pair(tmp_path, **fields)
    assert quantized_layers(ours) == quantized_layers(theirs)


@pytest.mark.parametrize("first", ["quantize", "run"])
def test_a_quantized_model_gives_what_a_quantized_bert_gives(first, tmp_path):
    """Before its first pass or after it, with padding and in a copy."""
    theirs, ours = bert_pair("ForSequenceClassification", tmp_path, "sdpa")
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        plain = ours(IDS, attention_mask=mask).logits if first == "run" else None
        made = [
            torch.ao.quantization.quantize_dynamic(model, {nn.Linear})(
                IDS, attention_mask=mask
            ).logits
            for model in (ours, theirs)
        ]
        scale = float(made[1].abs().max())
        # Ours quantises the rows of a batch without padding: their scale is that of real tokens.
        torch.testing.assert_close(made[0], made[1], atol=0.03 * scale, rtol=0)
        if plain is not None:
            torch.testing.assert_close(ours(IDS, attention_mask=mask).logits, plain)
            assert not torch.equal(plain, made[0])


def test_bitsandbytes_finds_as_many_layers(tmp_path):
    reason = "bitsandbytes has no wheels for every machine"
    bitsandbytes = pytest.importorskip("bitsandbytes", reason=reason)
    from transformers import BitsAndBytesConfig
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    counts = []
    for model in bert_pair("ForSequenceClassification", tmp_path):
        made = replace_with_bnb_linear(
            model, quantization_config=BitsAndBytesConfig(load_in_8bit=True)
        )
        counts.append(sum(isinstance(m, bitsandbytes.nn.Linear8bitLt) for m in made.modules()))
    assert counts[0] == counts[1] > 10


def test_torchao_quantizes_as_many_layers_with_equal_outputs(tmp_path):
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    found, logits = [], []
    for model in bert_pair("ForSequenceClassification", tmp_path, "sdpa"):
        quantize_(model.eval(), Int8WeightOnlyConfig())
        found.append(
            [name for name, each in model.named_parameters() if type(each) is not nn.Parameter]
        )
        with torch.no_grad():
            logits.append(model(IDS, attention_mask=mask).logits)
    assert found[0] == found[1]
    assert len(found[0]) > 10
    torch.testing.assert_close(logits[0], logits[1])


def assert_same_outputs(found: nn.Module, expected: nn.Module, **inputs) -> None:
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(**inputs)[0], expected.eval()(**inputs)[0])


@pytest.mark.slow
@BERT_HEADS
@pytest.mark.parametrize("placed", [None, {"": "cpu"}], ids=["as it is", "with a device map"])
def test_accelerate_loads_a_checkpoint_into_a_model(head, placed, tmp_path):
    _, ours = bert_pair(head, tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    inputs = {"input_ids": IDS[None] if head == "ForMultipleChoice" else IDS}
    for folder in ("theirs", "ours"):
        fresh = type(ours)(ours.config)
        accelerate.load_checkpoint_in_model(fresh, tmp_path / folder, device_map=placed)
        fresh.tie_weights()
        assert_same_outputs(fresh, ours, **inputs)


@BERT_HEADS
def test_accelerate_loads_and_dispatches(head, tmp_path):
    _, ours = bert_pair(head, tmp_path)
    with accelerate.init_empty_weights():
        empty = type(ours)(ours.config)
    empty.tie_weights()
    placed = accelerate.load_checkpoint_and_dispatch(empty, tmp_path, device_map={"": "cpu"})
    inputs = {"input_ids": IDS[None] if head == "ForMultipleChoice" else IDS}
    assert_same_outputs(placed, ours, **inputs)


@pytest.mark.parametrize("fields", [{}, SEPARATE], ids=["shared", "separate"])
def test_accelerate_loads_a_marian(fields, tmp_path):
    _, ours = marian_pair(tmp_path, **fields)
    fresh = type(ours)(ours.config)
    accelerate.load_checkpoint_in_model(fresh, tmp_path)
    fresh.tie_weights()
    inputs = {"input_ids": IDS, "decoder_input_ids": IDS[:, :4]}
    assert_same_outputs(fresh, ours, **inputs)


@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_layers_that_accelerate_keeps_elsewhere(where, tmp_path):
    """Offloaded weights come and go by hooks on each module."""
    theirs, ours = bert_pair("ForSequenceClassification", tmp_path / "saved", "sdpa")
    expected = theirs(IDS).logits
    if where == "cpu":
        placed = accelerate.cpu_offload(ours, execution_device=torch.device("cpu"))
    else:
        folder = tmp_path / "offloaded"
        placed = accelerate.disk_offload(ours, folder, execution_device=torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(placed(IDS).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_plain_load_state_dict_of_a_bert_file(tmp_path):
    """What scripts do that read a file without the library."""
    _, ours = bert_pair("ForMaskedLM", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    fresh = type(ours)(ours.config)
    missing = fresh.load_state_dict(tensors, strict=False).missing_keys
    assert set(missing) == {
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
    }  # the tied ones, which a file of BERT leaves out
    assert_same_outputs(fresh, ours, input_ids=IDS)
