"""The GPU benchmark in its small form on a CPU, and its parts by hand-worked numbers."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: importlib.import_module(name)


@pytest.mark.slow
def test_it_runs_in_small_on_a_cpu(tmp_path):
    """Everything is compared and timed; what needs a GPU says that it was not run."""
    call = [sys.executable, "-m", "benchmarks", "gpu", "--device", "cpu", "--quick"]
    done = subprocess.run(
        [*call, "--output", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert all(row["right"] for row in report["correct"])
    assert len(report["works"]) == 16
    for work in report["works"]:
        assert not any("failed" in row for row in work["rows"].values()), work
        assert work.get("same_tokens", True)
    text = (tmp_path / "gpu.md").read_text()
    assert "not run on a CPU" in text
    assert text.count("| not run |") > 10
    assert (tmp_path / "gpu.png").stat().st_size > 1000


def test_bad_options_are_refused_before_any_work(module):
    main = module("gpu").main
    for given, message in (
        (["--device", "tpu"], "got 'tpu'"),
        (["--device", "cpu", "--rounds", "0"], "got 0"),
        (["--device", "cpu", "--parts", "speed"], "got 'speed'"),
    ):
        with pytest.raises(SystemExit, match=message):
            main(given)
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="must have a GPU, got none; not run"):
            main([])


def test_operations_of_bert_base(module):
    """Twelve layers of 7,077,888 weights, two operations each: 169.9 million a token."""
    models, measure = module("gpu_models"), module("gpu_measure")
    assert measure.encoder_operations(models.FULL, 1) == 2 * 12 * 7_077_888


def test_speeds_are_compared_in_the_same_rounds(module, monkeypatch):
    """Theirs take 4, 6 and 8 seconds, ours 1, 2 and 4: multiples of 4, 3 and 2, so 3."""
    measure, models = module("gpu_measure"), module("gpu_models")
    given = {"theirs": iter([4.0, 6.0, 8.0]), "ours": iter([1.0, 2.0, 4.0])}
    monkeypatch.setattr(measure, "timed", lambda setting, work: next(given[work()]))

    def broken():
        raise RuntimeError("no kernel")

    setting = models.Setting("cpu", quick=True, rounds=3, folder=Path("unused"))
    works = {"theirs": lambda: "theirs", "ours": lambda: "ours", "third": broken}
    rows = measure.race(setting, works)
    assert rows["ours"]["ratio"] == 3
    assert rows["ours"]["seconds"] == 2
    assert rows["theirs"]["ratio"] == 1
    assert rows["third"] == {"failed": "RuntimeError: no kernel"}


def test_a_line_of_the_table(module):
    results = module("gpu_results")
    rows = {
        "transformers sdpa": {"ratio": 1.0},
        "bertlite": {"ratio": 2.5},
        "bertlite, lengths known": {
            "ratio": 3.0,
            "seconds": 2.0,
            "tokens_a_second": 1000.0,
            "launches": 400,
            "waits": 4,
        },
    }
    entry = {"name": "step", "target": 2.5, "who": "bertlite, lengths known", "rows": rows}
    entry |= {"operations": 1e12, "batches": 4, "tokens": 2000}
    entry["peaks"] = {"transformers sdpa": 1000, "bertlite, lengths known": 400}
    found = results.line(entry, 1e12)
    expected = "| step | 2.5 | 3.00 | bertlite, lengths known | bertlite 2.50 | 1,000 | 50% | 100 "
    assert found == expected + "| 1 | 0.40 |"
    rows["bertlite, lengths known"] = {"failed": "RuntimeError: no kernel"}
    assert "failed: RuntimeError: no kernel" in results.line(entry, 1e12)


def test_batches_are_padded_as_their_lengths_say(module):
    models = module("gpu_models")
    setting = models.Setting("cpu", quick=True, rounds=1, folder=Path("unused"))
    made = models.batches(setting, "skewed", 4, 2, "words")
    expected = models.lengths("skewed", 4)
    assert [int(mask.sum()) for batch in made for mask in batch["attention_mask"]] == list(expected)
    assert models.real_tokens(made) == expected.sum()
    known = models.on_device(setting, made[0], with_lengths=True)["lengths"]
    assert list(known.sequences) == list(expected[:2])
    assert known.labelled == int((made[0]["labels"] != -100).sum())
