"""`python -m benchmarks`, and the parts of its encoder benchmark.

By hand-worked numbers, and against transformers.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

ROOT = Path(__file__).parents[1]


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: importlib.import_module(name)


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_the_benchmarks_are_listed_and_others_refused():
    listed = run().stdout
    assert all(name in listed for name in ("encoder ", "generation ", "masked-lm ", "pretraining "))
    assert "common" not in listed
    wrong = run("nothing")
    assert wrong.returncode != 0
    assert "got 'nothing'" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_bad_options_are_refused_before_any_work(module, capsys):
    main = module("encoder_inference").main
    options = (
        ["--scenarios", "sortd"],
        ["--rounds", "0"],
        ["--threads", "0"],
        ["--competitors", "TensorRT"],
    )
    for given, value in zip(options, ("'sortd'", "got 0", "got 0", "'tensorrt'"), strict=True):
        with pytest.raises(SystemExit, match=value):
            main(given)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "growth-length" in capsys.readouterr().out


def test_outputs_are_compared_on_real_tokens_only(module):
    race = module("encoder_race")
    expected = np.array([[[3.0, 4.0], [3.0, 4.0]], [[1.0, 0.0], [9.0, 9.0]]])
    found = np.array([[[3.0, 4.5], [3.0, 3.5]], [[0.0, 1.0], [np.nan, 7.0]]])
    mask = np.array([[1, 1], [1, 0]])
    figures = race.difference(found, expected, mask)
    assert figures == {"max_difference": 1.0, "cosine": 0.0}
    assert race.difference(found[:1], expected[:1], mask[:1]) == pytest.approx(
        {"max_difference": 0.5, "cosine": 1.0}
    )
    assert race.is_right({"max_difference": 9e-4, "cosine": 1.0}, "fp32")
    assert not race.is_right({"max_difference": 2e-3, "cosine": 1.0}, "fp32")
    assert race.is_right({"max_difference": 2e-3, "cosine": 0.99}, "int8")
    assert not race.is_right({"max_difference": float("nan"), "cosine": float("nan")}, "int8")


def runners_of(module, **changes):
    """Runners whose last hidden states are the ids and their squares, changed by a function."""

    def output(batch):
        ids = batch["input_ids"].astype(np.float64)
        return np.stack([ids, ids**2], -1)

    make = module("encoder_peers").Runner
    return {
        name: make(lambda batch: batch, lambda batch, c=change: c(output(batch)), np.asarray)
        for name, change in changes.items()
    }


def broken(outputs):
    raise RuntimeError("out of\nmemory")


def test_who_is_wrong_is_named_and_not_timed(module):
    race, inputs = module("encoder_race"), module("encoder_inputs")
    changes = {
        "same": lambda x: x,
        "near": lambda x: x + 5e-4,
        "off": lambda x: x + 0.01,
        "broken": broken,
    }
    runners = runners_of(module, **changes, nan=lambda x: x * np.nan, short=lambda x: x[:, 1:])
    precisions = dict.fromkeys(runners, "fp32")
    scenario = inputs.Scenario("s", "title", np.array([3, 5, 4]), 2)
    result = race.measure(scenario, runners, runners["same"], precisions, {}, rounds=2)
    assert {name for name, row in result["rows"].items() if row["right"]} == {"same", "near"}
    assert {name for name, row in result["rows"].items() if "seconds" in row} == {"same", "near"}
    assert result["rows"]["broken"]["failed"] == "RuntimeError: out of memory"
    assert result["tokens"] == 12
    assert result["padded"] == pytest.approx((2 * 5 + 4) / 12)
    text = "\n".join(module("encoder_results").table(result, {}))
    assert text.count("not timed") == 2
    assert "failed: RuntimeError" in text


def test_speeds_are_ratios_of_neighbouring_rounds(module):
    race = module("common").Race({"a": None, "b": None})
    race.times, race.kept = {"a": [9.0, 2.0, 4.0, 8.0], "b": [9.0, 1.0, 8.0, 2.0]}, [1, 2, 3]
    assert race.ratio("b") == 2.0
    assert race.ratio("a", to="b") == 0.5
    spread = module("encoder_race").spread(race, "a")
    assert spread == {"seconds": 4.0, "low": 3.0, "high": 6.0}


def test_the_floor_holds_every_product_of_a_layer(module):
    config = SimpleNamespace(hidden_size=8, intermediate_size=32, num_hidden_layers=3)
    race = module("encoder_race")
    model = BertModel(BertConfig(**vars(config), num_attention_heads=2, vocab_size=50))
    linears = [each for each in model.encoder.modules() if isinstance(each, torch.nn.Linear)]
    products = race.Products(config, by_onednn=False)
    assert sum(weight.numel() for weight in products.weights) == sum(
        each.weight.numel() for each in linears
    )
    for each in race.floors(config).values():
        each.run([5, 17, 1])


def test_batches_survive_the_way_to_another_process(module, tmp_path):
    child, inputs = module("encoder_child"), module("encoder_inputs")
    batches = inputs.equal(4, 2, 12).batches()
    child.write_batches(batches, str(tmp_path / "inputs.npz"))
    for left, right in zip(child.read_batches(str(tmp_path / "inputs.npz")), batches, strict=True):
        assert left.keys() == right.keys()
        assert all((left[name] == right[name]).all() for name in left)
    assert child.busy_threads({"1": 5.0}, {"1": 6.0, "2": 0.9, "3": 0.1}) == 2


@pytest.mark.slow
def test_everyone_gives_the_outputs_of_transformers(module, tmp_path):
    """Whoever is not installed is named.

    Everybody else is right, and takes part in its own process too.
    """
    inputs = module("encoder_inputs")
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    weights = inputs.random_weights(str(tmp_path / "weights"), **sizes)
    model = BertModel.from_pretrained(weights)
    with torch.no_grad():
        for parameter in (
            model.encoder.parameters()
        ):  # biases and norms of fresh weights would hide a missing one
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(weights)
    script = ROOT / "tests" / "scripts" / "compare_engines.py"
    command = [sys.executable, str(script), str(ROOT / "benchmarks"), weights, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    rows, left_out, precisions = found["rows"], found["left_out"], found["precisions"]
    failed = [
        name
        for name, why in left_out.items()
        if not why.startswith("not installed") and "bf16" not in name
    ]
    assert not failed, left_out
    assert len(rows) == len(precisions) - len(left_out)
    assert all(row["right"] for row in rows.values()), json.dumps(rows, indent=1)
    assert all(
        row["max_difference"] < 1e-4 for name, row in rows.items() if precisions[name] == "fp32"
    ), rows
    assert 2**26 < found["memory"]["peak_bytes"] < 2**32, found["memory"]


@pytest.mark.slow
def test_a_peer_in_its_own_process_gives_the_same(module, tmp_path):
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(tmp_path)
    files = module("encoder_graphs").Files(str(tmp_path), str(tmp_path))
    batch = {
        "input_ids": np.arange(12).reshape(2, 6),
        "attention_mask": np.ones((2, 6), dtype=np.int64),
    }
    here = module("encoder_peers").BY_NAME["transformers eager"].load_here(files, 1)
    there = module("encoder_worker").remote_runner("transformers eager", files, 1)
    number = there.adapt(batch)
    there.forward_all([number, number])
    np.testing.assert_array_equal(there.array(None), here.array(here.forward(here.adapt(batch))))
    with pytest.raises(RuntimeError, match="KeyError: 'nobody'"):
        module("encoder_worker").remote_runner("nobody", files, 1)
