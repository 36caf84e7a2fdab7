"""What `python -m benchmarks fuzzing` has found, a test each."""

import json
import zipfile

import pytest
import torch
from cases import bert_config
from hostile_cases import (  # noqa: F401
    bert_folder,
    copy_of,
    scratch_folder,
    silent_library,
)
from inference_cases import wordpiece
from transformers import BertModel

import bertlite
from bertlite.cli.pretrain_text import load_tokenizer as load_tokenizer_of_pretraining
from bertlite.data import prepare
from bertlite.data.text_files import COMPRESSION
from bertlite.inference.loading import load_tokenizer
from bertlite.pretraining.documents import read_documents


@pytest.mark.parametrize("metadata", [{}, {"metadata": None}, {"metadata": "\x00"}])
def test_an_index_without_metadata_is_refused(bert, scratch, metadata):
    folder = copy_of(bert, scratch)
    names = list(BertModel.from_pretrained(folder).state_dict())
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = {"weight_map": dict.fromkeys(names, "part.safetensors"), **metadata}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index.json: damaged, an index holds metadata"):
        bertlite.BertLiteModel.from_pretrained(folder)
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {}}')
    with pytest.raises(ValueError, match=r"index.json: damaged, an index holds metadata"):
        bertlite.BertLiteModel.from_pretrained(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({**index, "metadata": {}}))
    assert bertlite.BertLiteModel.from_pretrained(folder)


@pytest.mark.parametrize("name", ["docs.txt.gz", "docs.txt.bz2", "docs.txt.xz"])
def test_a_damaged_archive_is_refused(scratch, name):
    """Every byte in turn."""
    path, text = scratch / name, "One sentence. Another one!\n" * 20
    with COMPRESSION[path.suffix](path, "wt") as file:
        file.write(text)
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 85]) + content[place + 1 :])
        try:
            assert list(read_documents([str(path)]))
        except ValueError:
            refused += 1
    assert refused > len(content) / 2


@pytest.mark.parametrize("part", ["model", "truncation", "post_processor", "added_tokens"])
def test_a_damaged_tokenizer_is_refused(scratch, part):
    folder = scratch / "words"
    wordpiece().save_pretrained(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**content, part: 1.5}))
    with pytest.raises(ValueError, match="classify: no tokenizer can be loaded from"):
        load_tokenizer("classify", None, str(folder), fast=True)
    with pytest.raises(ValueError, match="--tokenizer must be a folder or hub name"):
        load_tokenizer_of_pretraining(str(folder), "--tokenizer")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dtype", "../x", "dtype must be the name of a type of torch, such as float32, got '../x'"),
        ("dtype", "cos", "dtype must be the name of a type of torch"),
        ("type_vocab_size", 2**70, "type_vocab_size must be at most 2147483648"),
        ("hidden_size", -(2**80), "hidden_size must be at most"),
    ],
)
def test_a_config_that_torch_cannot_hold_is_refused(bert, scratch, field, value, message):
    folder = copy_of(bert, scratch)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(ValueError, match=f"BertLiteConfig: {message}"):
        bertlite.BertLiteModel.from_pretrained(folder)


@pytest.mark.parametrize("value", ["[" * 9000, "1" * 5000], ids=["lists in lists", "long number"])
def test_json_without_end_is_a_bad_row(scratch, value):
    path = scratch / "rows.jsonl"
    lines = [json.dumps({"text": str(n), "label": "xy"[n % 2]}) for n in range(4)]
    path.write_text("\n".join([*lines, '{"text": "a", "label": ' + value]))
    data = prepare("sequence-classification", train=str(path), on_bad_row="skip")
    assert len(data.train) == 4
    assert "broken JSON" in str(data.problems)
    (scratch / "rows.json").write_text('{"data":\n[' + value)
    with pytest.raises(ValueError, match=r"rows.json must hold JSON"):
        prepare("sequence-classification", train=str(scratch / "rows.json"))


def test_a_tensor_larger_than_its_storage_is_refused(bert, scratch):
    """What a flipped bit in a pickle's sizes makes of it."""
    folder = copy_of(bert, scratch)
    state = BertModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save({name: tensor.clone() for name, tensor in state.items()}, folder / "whole.bin")
    vocabulary = bert_config().vocab_size
    size, larger = (b"K" + bytes([number]) for number in (vocabulary, vocabulary + 1))
    with (
        zipfile.ZipFile(folder / "whole.bin") as whole,
        zipfile.ZipFile(folder / "pytorch_model.bin", "w") as damaged,
    ):
        for entry in whole.infolist():
            content = whole.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert size in content
                content = content.replace(size, larger)
            damaged.writestr(entry.filename, content)
    with pytest.raises(ValueError, match="pytorch_model.bin: damaged, or no file of tensors alone"):
        bertlite.BertLiteModel.from_pretrained(folder)
