"""A part of `make travel`: folders as each version saved them, with the transformers of here."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

import travel_matrix
from travel_matrix import FIXTURES, folders, is_fault, run

from bertlite.models.versions import TESTED_TRANSFORMERS

FEW = ("0.1/bert_pre_norm", "0.2/bert", "0.2/transformer_pre_norm")


@pytest.mark.slow
def test_folders_of_every_version_load_here(tmp_path, capsys):
    assert run({"installed": sys.executable}, FIXTURES, tmp_path, FEW) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(FEW) + 1
    assert all("equal" in line for line in lines[:-1])


def test_the_matrix_covers_the_releases_that_the_code_names():
    minors = [".".join(each.split(".")[:2]) for each in travel_matrix.RELEASES]
    assert tuple(minors) == TESTED_TRANSFORMERS


def test_fixtures_have_the_code_that_their_configs_name(tmp_path):
    made = folders(FIXTURES, tmp_path)
    assert {each.parent.name for each in made} == {"0.1", "0.2", "0.2_before_plain"}
    for folder in made:
        auto_map = json.loads((folder / "config.json").read_text()).get("auto_map") or {}
        named = {f"{path.split('.')[0]}.py" for path in auto_map.values()}
        assert named <= {path.name for path in folder.iterdir()}


def test_what_is_a_fault():
    new, old = Path("0.2/bert"), Path("0.1/bert")
    assert not is_fault(new, "equal")
    assert not is_fault(new, "refused by name")
    assert is_fault(new, "FAILED: KeyError")
    assert not is_fault(old, "FAILED: KeyError")
    assert is_fault(old, "WRONG: differs by 1")
