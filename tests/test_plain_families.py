"""Folders of BERT's relatives are theirs: no code, and checked by the same command."""

import json

import pytest
import transformers
from cases import randomize

from bertlite.hub.classes import fitting_classes, own_class, read_config
from bertlite.hub.probe import check_probe, write_probe
from bertlite.models.families import BERT, FAMILIES

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
OTHER_NAMES = {"distilbert": {"hidden_dim": 48}}  # of the same size
OTHER_NAMES["modernbert"] = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
RELATIVES = [name for name, family in FAMILIES.items() if not family.writes and family is not BERT]
RELATIVES = [name for name in RELATIVES if "ForSequenceClassification" in FAMILIES[name].heads]


@pytest.mark.parametrize("name", RELATIVES)
def test_a_relative_saves_a_folder_of_its_own_and_no_code(name, tmp_path):
    theirs = transformers.AutoModelForSequenceClassification.from_config(
        transformers.AutoConfig.for_model(name, **SIZES, **OTHER_NAMES.get(name, {}))
    )
    randomize(theirs).save_pretrained(tmp_path / "theirs")
    family = FAMILIES[name]
    ours = family.model("ForSequenceClassification").from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    fields = json.loads((tmp_path / "ours/config.json").read_text())
    assert fields["model_type"] == name
    assert fields["architectures"] == [type(theirs).__name__]
    assert "auto_map" not in fields
    assert not list((tmp_path / "ours").glob("*.py"))
    write_probe(tmp_path / "ours")
    assert check_probe(tmp_path / "ours", theirs) == []
    config = read_config(tmp_path / "ours")
    assert own_class(tmp_path, config) == "AutoModelForSequenceClassification"
    assert fitting_classes(tmp_path, config)["AutoModel"].endswith(f".{family.stem}Model")
