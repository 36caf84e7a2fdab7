"""Folders of BERT and Marian, old and new, ours and theirs: loaded, saved, or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from cases import bert_config, randomize, transformer_config
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
)
from transformers.utils import logging

import bertlite
from bertlite import BertLiteForMaskedLM, BertLiteModel, TransformerLiteForConditionalGeneration

HEADS = [
    "Model",
    "ForPreTraining",
    "ForMaskedLM",
    "ForNextSentencePrediction",
    "ForSequenceClassification",
]
HEADS += ["ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"]
SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
SIZES |= {"max_position_embeddings": 40}


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    """Whether two models of one class hold equal tensors."""
    mine, other = left.state_dict(), right.state_dict()
    return mine.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in mine.items()
    )


@pytest.fixture
def bert_folder(tmp_path) -> Path:
    """A folder that transformers' BertForMaskedLM saved."""
    folder = tmp_path / "bert"
    randomize(transformers.BertForMaskedLM(BertConfig(**SIZES))).save_pretrained(folder)
    return folder


@pytest.fixture
def expected(bert_folder) -> torch.Tensor:
    """What transformers makes of the folder."""
    with torch.no_grad():
        return transformers.BertForMaskedLM.from_pretrained(bert_folder)(
            torch.arange(9)[None]
        ).logits


def logits(folder) -> torch.Tensor:
    """What we make of it."""
    with torch.no_grad():
        return BertLiteForMaskedLM.from_pretrained(folder)(torch.arange(9)[None]).logits


def rewrite(folder: Path, change) -> None:
    """Replace the weights of a folder by `change(tensors)`."""
    path = folder / "model.safetensors"
    save_file({name: value.contiguous() for name, value in change(load_file(path)).items()}, path)


@pytest.mark.parametrize("head", HEADS)
def test_what_we_save_their_class_loads_without_a_difference(head, tmp_path):
    theirs = randomize(
        getattr(transformers, f"Bert{head}")(
            BertConfig(**SIZES, num_labels=2 if "Question" in head else 3)
        )
    )
    theirs.save_pretrained(tmp_path / "theirs")
    ours, info = getattr(bertlite, f"BertLite{head}").from_pretrained(
        tmp_path / "theirs", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ours.save_pretrained(tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours")
    assert same(theirs, again)
    assert (
        load_file(tmp_path / "ours/model.safetensors").keys()
        == load_file(tmp_path / "theirs/model.safetensors").keys()
    )


@pytest.mark.parametrize("shared", [True, False])
def test_marian_folders_both_ways(shared, tmp_path):
    fields = transformer_config(share_encoder_decoder_embeddings=shared).to_dict()
    names = transformers.MarianConfig().to_dict().keys() - {
        "model_type",
        "architectures",
        "transformers_version",
    }
    config = transformers.MarianConfig(**{name: fields[name] for name in names if name in fields})
    theirs = randomize(transformers.MarianMTModel(config))
    theirs.tie_weights()
    theirs.save_pretrained(tmp_path / "theirs")
    theirs = transformers.MarianMTModel.from_pretrained(
        tmp_path / "theirs"
    )  # with its position tables again
    ours = TransformerLiteForConditionalGeneration.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    assert same(theirs, transformers.MarianMTModel.from_pretrained(tmp_path / "ours"))
    ids = torch.randint(3, 61, (2, 7))
    assert torch.equal(
        theirs.generate(ids, max_new_tokens=12), ours.generate(ids, max_new_tokens=12)
    )


def test_gamma_and_beta(bert_folder, expected):
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def rename(tensors):
        for new, name in old.items():
            tensors = {key.replace(new, name): value for key, value in tensors.items()}
        return tensors

    rewrite(bert_folder, rename)
    torch.testing.assert_close(logits(bert_folder), expected, atol=1e-5, rtol=0)
    # As transformers' own BERT, ours writes the names that it has read; both read them again.
    BertLiteForMaskedLM.from_pretrained(bert_folder).save_pretrained(bert_folder / "new")
    torch.testing.assert_close(logits(bert_folder / "new"), expected, atol=1e-5, rtol=0)
    theirs, info = transformers.BertForMaskedLM.from_pretrained(
        bert_folder / "new", output_loading_info=True
    )
    assert not info["missing_keys"]
    with torch.no_grad():
        assert torch.equal(theirs(torch.arange(9)[None]).logits, expected)


def test_no_model_type_and_no_architectures(bert_folder, expected):
    path = bert_folder / "config.json"
    config = {name: value for name, value in json.loads(path.read_text()).items() if name in SIZES}
    path.write_text(json.dumps(config))
    torch.testing.assert_close(logits(bert_folder), expected, atol=1e-5, rtol=0)


def test_pytorch_model_bin_and_saved_position_ids(bert_folder, expected):
    tensors = load_file(bert_folder / "model.safetensors")
    tensors["bert.embeddings.position_ids"] = torch.arange(40)[None]
    torch.save(tensors, bert_folder / "pytorch_model.bin")
    (bert_folder / "model.safetensors").unlink()
    torch.testing.assert_close(logits(bert_folder), expected, atol=1e-5, rtol=0)
    model, info = BertLiteForMaskedLM.from_pretrained(bert_folder, output_loading_info=True)
    assert not info["unexpected_keys"]
    model.save_pretrained(bert_folder / "new")
    assert {path.suffix for path in (bert_folder / "new").iterdir()} == {
        ".json",
        ".safetensors",
    }


def test_code_in_a_pickle_is_not_run(bert_folder):
    class Harm:
        def __reduce__(self):
            return (open, (str(bert_folder / "harm"), "w"))

    torch.save(
        {"bert.embeddings.word_embeddings.weight": Harm()}, bert_folder / "pytorch_model.bin"
    )
    (bert_folder / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match="pytorch_model.bin: .* names the code .*open.* is not run"
    ):
        BertLiteForMaskedLM.from_pretrained(bert_folder)
    assert not (bert_folder / "harm").exists()


def test_tensors_saved_on_a_gpu(bert_folder, expected, monkeypatch):
    tensors = load_file(bert_folder / "model.safetensors")
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    torch.save(tensors, bert_folder / "pytorch_model.bin")
    monkeypatch.undo()
    (bert_folder / "model.safetensors").unlink()
    with pytest.raises(RuntimeError, match="(?i)cuda"):
        torch.load(bert_folder / "pytorch_model.bin", weights_only=True)  # the file really says so
    torch.testing.assert_close(logits(bert_folder), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", ["add", "strip"])
def test_a_head_with_or_without_the_base_prefix(bert_folder, change):
    base = BertLiteModel.from_pretrained(bert_folder, add_pooling_layer=False)

    def rename(tensors):
        tensors = {name: value for name, value in tensors.items() if name.startswith("bert.")}
        return {
            name.removeprefix("bert.") if change == "strip" else name: value
            for name, value in tensors.items()
        }

    rewrite(bert_folder, rename)
    assert same(base, BertLiteModel.from_pretrained(bert_folder, add_pooling_layer=False))
    head, info = BertLiteForMaskedLM.from_pretrained(bert_folder, output_loading_info=True)
    assert same(base, head.bert)
    assert all(name.startswith("cls.") for name in info["missing_keys"])


def test_keys_of_the_state_dict(bert_folder, expected):
    ours = BertLiteForMaskedLM.from_pretrained(bert_folder)
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    rewrite(
        bert_folder,
        lambda _: {name: value for name, value in ours.state_dict().items() if name not in tied},
    )
    torch.testing.assert_close(logits(bert_folder), expected, atol=1e-5, rtol=0)


def test_id2label_that_disagrees_with_num_labels_is_said(bert_folder, caplog):
    path = bert_folder / "config.json"
    path.write_text(
        json.dumps(
            {**json.loads(path.read_text()), "id2label": {"0": "a", "1": "b"}, "num_labels": 3}
        )
    )
    logger = logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    config = bertlite.BertLiteConfig.from_pretrained(bert_folder)
    logger.removeHandler(caplog.handler)
    assert config.num_labels == len(config.id2label) == 3
    assert "num_labels=3" in caplog.text
    assert "length `2`" in caplog.text


def test_weights_that_stay_new_are_named(bert_folder, caplog):
    logger = logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    logging.set_verbosity_warning()
    bertlite.BertLiteForSequenceClassification.from_pretrained(bert_folder)
    logger.removeHandler(caplog.handler)
    for name in (
        "classifier.weight",
        "classifier.bias",
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    ):
        assert name in caplog.text


def test_mismatched_shapes_are_an_error_or_ignored_on_request(bert_folder):
    folder = bert_folder / "classifier"
    bertlite.BertLiteForSequenceClassification(bert_config(num_labels=3)).save_pretrained(folder)
    said = r"got classifier\.\w+ of \(3.*\) in the file and of \(5.*\) by the config, and 1 more"
    for kind in (RuntimeError, ValueError):  # the library's, and that of bad input
        with pytest.raises(kind, match=said):
            bertlite.BertLiteForSequenceClassification.from_pretrained(folder, num_labels=5)
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(
        folder, num_labels=5, ignore_mismatched_sizes=True
    )
    assert model.classifier.weight.shape == (5, 32)


def test_dtype_shards_and_a_bert_config_object(bert_folder, expected):
    half = BertLiteForMaskedLM.from_pretrained(bert_folder, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    config = BertConfig.from_pretrained(bert_folder)
    model = BertLiteForMaskedLM.from_pretrained(bert_folder, config=config)
    model.save_pretrained(bert_folder / "shards", max_shard_size="10KB")
    assert len(list((bert_folder / "shards").glob("*.safetensors"))) > 2
    torch.testing.assert_close(logits(bert_folder / "shards"), expected, atol=1e-5, rtol=0)
    model.save_pretrained(bert_folder / "shards")  # the old shards must not stay
    assert [path.name for path in (bert_folder / "shards").glob("*.safetensors*")] == [
        "model.safetensors"
    ]
    torch.testing.assert_close(logits(bert_folder / "shards"), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (
            "albert",
            lambda: AlbertModel(
                AlbertConfig(hidden_size=32, num_attention_heads=4, intermediate_size=48)
            ),
        ),
        (
            "distilbert",
            lambda: DistilBertModel(DistilBertConfig(dim=32, n_layers=1, n_heads=4, hidden_dim=48)),
        ),
        ("gpt2", lambda: GPT2Model(GPT2Config(n_embd=32, n_layer=1, n_head=4))),
    ],
)
def test_other_architectures_are_refused_by_name(name, make, tmp_path):
    make().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"'{name}'.*bertlite and bert"):
        BertLiteModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"'{name}'.*transformerlite and marian"):
        TransformerLiteForConditionalGeneration.from_pretrained(tmp_path)


def test_an_empty_folder_and_foreign_weights_are_refused(bert_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no model_type.*bertlite and bert"):
        BertLiteModel.from_pretrained(tmp_path / "empty")
    rewrite(
        bert_folder,
        lambda tensors: {f"transformer.{name}": value for name, value in tensors.items()},
    )
    with pytest.raises(ValueError, match="not the weights of a bertlite or bert.*stayed random"):
        BertLiteModel.from_pretrained(bert_folder)


@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_a_truncated_file_or_a_broken_header_is_refused(writer, bert_folder):
    if writer == "ours":
        BertLiteForMaskedLM.from_pretrained(bert_folder).save_pretrained(bert_folder)
    path = bert_folder / "model.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-100])
    with pytest.raises(ValueError, match="model.safetensors: damaged"):
        BertLiteForMaskedLM.from_pretrained(bert_folder)
    path.write_bytes(good[:20] + bytes([good[20] ^ 0x80]) + good[21:])
    with pytest.raises(ValueError, match="model.safetensors: damaged"):
        BertLiteForMaskedLM.from_pretrained(bert_folder)


def test_one_flipped_bit_in_the_tensors_is_noticed(bert_folder):
    BertLiteForMaskedLM.from_pretrained(bert_folder).save_pretrained(bert_folder)
    path = bert_folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="checksum"):
        BertLiteForMaskedLM.from_pretrained(bert_folder)


def test_saving_over_a_file_or_a_folder_with_other_things(bert_folder, tmp_path):
    model = BertLiteForMaskedLM.from_pretrained(bert_folder)
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy/notes.txt").write_text("mine")
    model.save_pretrained(tmp_path / "busy")
    assert (tmp_path / "busy/notes.txt").read_text() == "mine"
    assert same(model, BertLiteForMaskedLM.from_pretrained(tmp_path / "busy"))
    shutil.copy(tmp_path / "busy/notes.txt", tmp_path / "file")
    model.save_pretrained(tmp_path / "file")  # the library logs an error and leaves the file alone
    assert (tmp_path / "file").read_text() == "mine"
