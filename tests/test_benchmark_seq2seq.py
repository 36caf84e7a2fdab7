"""The pure parts of benchmarks/sequence_to_sequence.py, by hand-worked numbers."""

import gzip
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def data(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("seq2seq_data")


@pytest.fixture
def benchmark_script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("sequence_to_sequence")


def test_pairs_are_read_in_order_for_both_tasks(data, tmp_path):
    rows = [
        {"translation": {"en": "Open it.", "de": "Öffnen."}},
        {"translation": {"en": "a", "de": "b"}},
    ]
    with gzip.open(tmp_path / "train.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    assert data.read_pairs(tmp_path, "train", data.TASKS["translation"]) == [
        ("Open it.", "Öffnen."),
        ("a", "b"),
    ]
    assert data.TASKS["summarization"].pair({"summary": "short", "document": "long"}) == (
        "long",
        "short",
    )
    with pytest.raises(ValueError, match=r"data must hold validation\.jsonl\.gz"):
        data.read_pairs(tmp_path, "validation", data.TASKS["translation"])


def test_a_subset_is_the_same_each_time_and_keeps_the_order(data):
    pairs = [(str(row), "") for row in range(100)]
    chosen = data.subset(pairs, 10)
    assert chosen == data.subset(pairs, 10)
    assert len(set(chosen)) == 10
    assert [int(source) for source, _ in chosen] == sorted(int(source) for source, _ in chosen)
    assert data.subset(pairs, 0) == data.subset(pairs, 100) == pairs


def test_the_lead_is_the_first_ten_words(data):
    assert data.lead("a b\n c d e  f g h i j k l") == "a b c d e f g h i j"


def test_rouge_of_a_summary_is_the_share_of_words(data):
    # Precision 2/2, recall 2/4: F1 is 2 · 1 · 0.5 / 1.5.
    found = data.scores(
        data.TASKS["summarization"], ["blocks game"], ["falling blocks game engine"]
    )
    assert found["rouge1"] == pytest.approx(2 / 3)
    assert found["rougeL"] == pytest.approx(2 / 3)


def test_a_translation_equal_to_its_reference_has_full_scores(data):
    found = data.scores(
        data.TASKS["translation"], ["Legt den Abstand fest ."], ["Legt den Abstand fest ."]
    )
    assert found["bleu"] == pytest.approx(100)
    assert found["chrf"] == pytest.approx(100)


def test_the_clock_counts_training_only_and_goes_on_where_its_checkpoint_was(
    benchmark_script, monkeypatch, tmp_path
):
    script = benchmark_script
    times = iter([100.0, 130.0, 131.0, 500.0, 540.0])
    monkeypatch.setattr(script.time, "process_time", lambda: next(times))
    monkeypatch.setattr(
        script, "write_texts", lambda task, model, tokenizer, sources, beams: sources
    )
    (tmp_path / "checkpoint-7").mkdir()
    arguments, state = (
        SimpleNamespace(output_dir=str(tmp_path)),
        SimpleNamespace(global_step=0, epoch=0.5),
    )
    control = SimpleNamespace(should_training_stop=False, should_save=False)
    options = {"pairs": [("a b c d", "a b c d")], "tokenizer": None, "minutes": 1.0, "every": 0.5}
    clock = script.TrainingClock(script.TASKS["translation"], **options)
    clock.on_train_begin(arguments, state, control)  # at 100
    state.global_step = 7
    clock.on_step_end(
        arguments, state, control
    )  # at 130: a point is due, and drawing it ends at 131
    assert (clock.seconds, len(clock.curve), clock.curve[0]["bleu"]) == (
        30.0,
        1,
        pytest.approx(100),
    )
    assert not control.should_training_stop
    clock.mark = 131.0
    monkeypatch.setattr(clock, "_count", lambda: None)
    clock.on_save(arguments, state, control)
    resumed = script.TrainingClock(script.TASKS["translation"], **options)
    monkeypatch.setattr(script.time, "process_time", lambda: 500.0)
    resumed.on_train_begin(arguments, state, control)
    assert (resumed.seconds, len(resumed.curve), resumed.resumed) == (30.0, 1, [7])
    monkeypatch.setattr(script.time, "process_time", lambda: 530.5)
    resumed.on_step_end(arguments, state, control)
    assert control.should_training_stop
    assert control.should_save
    assert resumed.seconds == pytest.approx(60.5)


def test_the_table_has_a_line_for_each_model_and_the_lead(benchmark_script):
    lead = {"rouge1": 0.3, "rougeL": 0.268}
    row = {
        "which": "ours",
        "weights": "averaged",
        "beams": 4,
        "rows": 8,
        "rouge1": 0.4,
        "rougeL": 0.35,
        "lead_10": lead,
    }
    lines = benchmark_script.result_table(
        {"a": row, "b": {"curve": []}}, ("rouge1", "rougeL")
    ).splitlines()
    assert lines[2] == "| ours | averaged | 4 | 8 | 0.400 | 0.350 |"
    assert lines[3] == "| first 10 words | | | 8 | 0.300 | 0.268 |"
    with pytest.raises(ValueError, match="report needs the results of evaluate"):
        benchmark_script.result_table({}, ("rouge1",))


def few_rows(folder: Path) -> None:
    """A data folder with a handful of pairs a split."""
    words = ["open", "close", "save", "print", "copy", "file", "page", "cell"]
    pairs = [(f"{verb} the {noun}", f"das {noun} {verb}") for verb in words for noun in words]
    for split in ("train", "validation"):
        with gzip.open(folder / f"{split}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(
                json.dumps({"translation": {"en": en, "de": de}}) + "\n" for en, de in pairs
            )


@pytest.mark.slow
def test_every_command_runs_for_both_models_and_a_stopped_run_goes_on(
    benchmark_script, monkeypatch, tmp_path
):
    script = benchmark_script
    few_rows(tmp_path)
    monkeypatch.setattr(script, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(script, "CURVE_ROWS", 4)
    shape = [
        "--width",
        "16",
        "--layers",
        "1",
        "--vocabulary",
        "300",
        "--max-tokens",
        "256",
        "--precision",
        "fp32",
    ]
    limits = [
        "--warmup",
        "4",
        "--planned-steps",
        "4000",
        "--save-steps",
        "2",
        "--rows",
        "4",
        "--every",
        "0.05",
    ]
    shared = ["--data", str(tmp_path), "--work", str(tmp_path / "work"), *shape, *limits]

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["script", *words, *shared])
        script.main()

    run("tokenizer")
    for which, weights in (("ours", "averaged"), ("transformers", "last")):
        run("train", "--which", which, "--minutes", "0.02")
        run("train", "--which", which, "--minutes", "0.04", "--resume")
        run("evaluate", "--which", which, "--weights", weights)
        found = json.loads(
            (tmp_path / "results" / f"translation_{which}_training.json").read_text()
        )
        assert found["minutes"] >= 0.04
        assert len(found["resumed_at_steps"]) == 1
        assert 0 < found["resumed_at_steps"][0] < found["steps"]
    run("report")
    assert len((tmp_path / "results" / "translation.md").read_text().splitlines()) == 4
    assert (tmp_path / "results" / "translation_curve.png").stat().st_size > 1000


def test_seeds_are_reported_with_their_spread(monkeypatch, tmp_path, capsys):
    """Mean and standard deviation by hand: of 10, 12, 14 they are 12 and 2."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    script = importlib.import_module("sequence_seeds")
    shared = {"settings": {"width": 8, "layers": 1, "max_tokens": 64, "precision": "fp32"}}
    shared |= {"parameters": 1000, "processor": "some", "versions": {"torch": "2"}}
    for which, weights in script.WEIGHTS.items():
        for seed in range(3):
            folder = tmp_path / f"seed-{seed}"
            folder.mkdir(exist_ok=True)
            start = f"translation_{which}_"
            trained = {"minutes": 3.0, "steps": 100 + seed, **shared}
            (folder / f"{start}training.json").write_text(json.dumps(trained))
            measured = {"bleu": 10.0 + 2 * seed, "chrf": 30.0, "rows": 5, "beams": 4}
            (folder / f"{start}{weights}_beam4.json").write_text(json.dumps(measured))
    words = ["report", "--work", str(tmp_path), "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["script", *words])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    expected = "| ours | 3.0 | 100, 101, 102 | 12.0 ± 2.0 (10.0, 12.0, 14.0) | 30.0 ± 0.0 "
    assert lines[2].startswith(expected)
    assert lines[3].startswith("| transformers | 3.0 | ")
    assert "Seeds 0, 1, 2; 5 validation rows, beam 4; width 8" in lines[-1]
    assert (tmp_path / "translation_seeds.md").read_text().splitlines() == lines
