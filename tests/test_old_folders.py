"""Folders that bertlite 0.1 wrote, with other module names inside, and what it computed from them.

Each folder of `fixtures/saved_before` holds a tiny model of random weights as 0.1 saved it, and in
`expected.json` the class that loaded it there, its inputs, its outputs at real tokens and the words
that it generated.
"""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

import bertlite

FOLDERS = sorted((Path(__file__).parent / "fixtures/saved_before").iterdir())
EVERY_FOLDER = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def expected(folder: Path) -> dict:
    return json.loads((folder / "expected.json").read_text())


def load(folder: Path) -> torch.nn.Module:
    return getattr(bertlite, expected(folder)["class"]).from_pretrained(folder).eval()


def inputs(folder: Path) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in expected(folder)["inputs"].items()}


def assert_as_before(model: torch.nn.Module, folder: Path) -> None:
    """The outputs of 0.1, at real tokens."""
    batch, before = inputs(folder), expected(folder)["outputs"]
    with torch.no_grad():
        outputs = model(**batch)
    assert before
    for name, value in before.items():
        found = outputs[name]
        if found.shape[:2] == batch["attention_mask"].shape:
            found = found[batch["attention_mask"].bool()]
        wanted = torch.tensor(value["values"]).view(value["shape"])
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@EVERY_FOLDER
def test_it_gives_what_it_gave(folder):
    model = load(folder)
    assert_as_before(model, folder)
    batch, words = inputs(folder), expected(folder)["generated"]
    if words is not None:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        assert model.generate(ids, attention_mask=mask, max_new_tokens=6).tolist() == words


@EVERY_FOLDER
def test_every_weight_has_its_place_and_is_saved_under_the_same_name(folder, tmp_path):
    model_class = getattr(bertlite, expected(folder)["class"])
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    model.save_pretrained(tmp_path)
    again, before = (load_file(each / "model.safetensors") for each in (tmp_path, folder))
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], value) for name, value in before.items())
    assert_as_before(load_again(model_class, tmp_path), folder)


def load_again(model_class: type, folder: Path) -> torch.nn.Module:
    return model_class.from_pretrained(folder).eval()


@pytest.mark.parametrize(
    "name", [folder.name for folder in FOLDERS if folder.name.startswith("bert_For")]
)
def test_transformers_bert_reads_it(name):
    """As `bert`, which the files of 0.1 can be called where they are BERT's in all but the name."""
    folder = Path(__file__).parent / "fixtures/saved_before" / name
    theirs_class = getattr(transformers, name.replace("bert_", "Bert"))
    fields = json.loads((folder / "config.json").read_text())
    config = transformers.BertConfig(**{**fields, "model_type": "bert"})
    theirs = theirs_class.from_pretrained(folder, config=config).eval()
    batch, ours = inputs(folder), load(folder)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        for found, wanted in zip(ours(**batch).values(), theirs(**batch).values(), strict=True):
            if found.shape[:2] == real.shape:
                found, wanted = found[real], wanted[real]
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert_pre_norm_ForPreTraining", "transformer_pre_norm"])
def test_the_norm_after_the_last_layer_stands_where_it_stood(kind):
    """Pre-norm needs one; no file of BERT or Marian has it, and ours always called it so."""
    folder = Path(__file__).parent / "fixtures/saved_before" / kind
    stacks = ["bert"] if kind.startswith("bert") else ["model.encoder", "model.decoder"]
    wanted = {f"{stack}.final_norm.{part}" for stack in stacks for part in ("weight", "bias")}
    assert wanted <= load_file(folder / "model.safetensors").keys()
    assert wanted <= load(folder).state_dict().keys()
