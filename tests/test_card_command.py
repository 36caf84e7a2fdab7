"""`bertlite card`: made anew from the record of a run, and refused with blanks."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from tasks_cases import ROWS, base_folder, write_rows

from bertlite import finetune
from bertlite.cli.main import main
from bertlite.hub.card_check import FIELDS, SECTIONS, card_problems

TASK = "sequence-classification"
QUIET = {"disable_tqdm": True, "use_cpu": True, "per_device_train_batch_size": 2}
LICENCES = ["--license", "mit", "--language", "en", "de"]
LICENCES += ["--data-license", "CC-BY 4.0", "--base-license", "Apache-2.0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    file = write_rows(folder / "rows.jsonl", ROWS[TASK])
    base = base_folder(folder / "base")
    arguments = {**QUIET, "num_train_epochs": 2}
    data = {"train": file, "validation": file, "test": file}
    finetune(TASK, base, **data, output_dir=folder / "out", say=None, arguments=arguments)
    return folder / "out"


@pytest.fixture
def folder(run, tmp_path):
    shutil.copytree(run, tmp_path / "out", ignore=shutil.ignore_patterns("checkpoint-*"))
    return tmp_path / "out"


def text_of(folder) -> str:
    return " ".join((folder / "README.md").read_text().split())


def test_the_card_of_a_run_has_blanks_until_they_are_filled(folder, capsys):
    assert main(["card", str(folder), "--check"]) == 1
    said = capsys.readouterr().out
    assert "license is missing" in said
    assert "language is missing" in said
    assert "is a blank to fill in: - Data: to be added" in said
    assert main(["card", str(folder), *LICENCES]) == 0
    assert card_problems(folder) == []
    data = ModelCard.load(folder / "README.md").data
    assert (data.license, data.language) == ("mit", ["en", "de"])
    assert {part.dataset_split for part in data.eval_results} == {"validation", "test"}
    assert "Data: CC-BY 4.0." in text_of(folder)
    assert "Weights it started from (`base`): Apache-2.0." in text_of(folder)


def test_what_the_run_recorded_is_what_the_card_says(folder):
    """Made anew elsewhere, it says the same of machine, versions, choice and data."""
    before = (folder / "README.md").read_text()
    assert main(["card", str(folder)]) == 1
    assert (folder / "README.md").read_text() == before
    record = json.loads((folder / "run_arguments.json").read_text())
    rows = Path(record["data_options"]["train"]).read_bytes()
    digest = hashlib.sha256(rows).hexdigest()
    assert f"SHA-256 of `rows.jsonl`: `{digest}`" in text_of(folder)
    record["run"] |= {"hardware": "3 × abacus", "versions": "abacus 1.0"}
    (folder / "run_arguments.json").write_text(json.dumps(record))
    main(["card", str(folder), *LICENCES])
    assert "in fp32 on 3 × abacus." in text_of(folder)
    assert "abacus 1.0." in text_of(folder)
    assert "The validation rows chose the checkpoint: the one with the highest" in text_of(folder)


def test_a_record_of_an_earlier_version(folder):
    record = json.loads((folder / "run_arguments.json").read_text())
    del record["run"]
    (folder / "run_arguments.json").write_text(json.dumps(record))
    assert main(["card", str(folder), *LICENCES]) == 0
    assert "not recorded: an earlier version made the run" in text_of(folder)
    assert "No checkpoint was chosen" not in text_of(folder)


def test_a_result_for_a_registered_benchmark(folder, capsys):
    words = ["--benchmark", "nyu-mll/glue", "sst2", "accuracy"]
    assert main(["card", str(folder), *LICENCES, *words]) == 0
    (entry,) = yaml.safe_load((folder / ".eval_results/nyu-mll_glue.yaml").read_text())
    assert entry["dataset"] == {"id": "nyu-mll/glue", "task_id": "sst2"}
    figures = json.loads((folder / "metrics.json").read_text())
    assert entry["value"] == figures["test"]["accuracy"]
    words[-1] = "bleu"
    assert main(["card", str(folder), *words]) == 2
    assert "metric must be a figure of the test rows" in capsys.readouterr().err


def test_a_folder_without_a_record(tmp_path, capsys):
    (tmp_path / "README.md").write_text("mine")
    assert main(["card", str(tmp_path)]) == 2
    assert "must hold the record of a run" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "mine"


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_is_asked_for(name, folder):
    main(["card", str(folder), *LICENCES])
    path = folder / "README.md"
    path.write_text(path.read_text().replace(f"## {name}\n", f"### {name}\n"))
    assert any(f"section {name} is missing" in line for line in card_problems(folder))


@pytest.mark.parametrize("name", [*FIELDS, "model-index"])
def test_every_field_is_asked_for(name, folder):
    main(["card", str(folder), *LICENCES])
    path = folder / "README.md"
    head, fields, body = path.read_text().split("---\n", 2)
    kept = {key: value for key, value in yaml.safe_load(fields).items() if key != name}
    path.write_text(f"---\n{yaml.safe_dump(kept)}---\n{body}")
    assert any(name in line for line in card_problems(folder))


@pytest.mark.parametrize(
    "blank", ["To be added.", "TODO: limits", "[More Information Needed]", "see <your data>"]
)
def test_blanks_are_found(blank, folder):
    main(["card", str(folder), *LICENCES])
    with (folder / "README.md").open("a") as file:
        file.write(f"\n{blank}\n")
    assert any("is a blank" in line for line in card_problems(folder))


def test_what_was_given_before_stays(folder, capsys):
    """One after the other, as the lines on what is missing say it."""
    for words, status in (
        (["--license", "mit"], 1),
        (["--language", "en", "de"], 1),
        (["--data-license", "CC-BY 4.0 (see example.org/a. b)"], 1),
        (["--base-license", "Apache-2.0"], 0),
        ([], 0),
        (["--language", "fr"], 0),
    ):
        assert main(["card", str(folder), *words]) == status, words
    data = ModelCard.load(folder / "README.md").data
    assert (data.license, data.language) == ("mit", ["fr"])
    assert "Data: CC-BY 4.0 (see example.org/a. b)." in text_of(folder)
    assert "Weights it started from (`base`): Apache-2.0." in text_of(folder)
    assert "MISSING" in capsys.readouterr().out
