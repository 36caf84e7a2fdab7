"""Several processes train as one.

Under torchrun, `accelerate launch` and FSDP2, all on CPUs over gloo.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from pretraining_cases import command, text_file, tokenizer_folder  # noqa: F401
from safetensors.torch import load_file
from transformers import AutoModelForPreTraining

SCRIPTS = Path(__file__).parent / "scripts"
CONFIGS = Path(__file__).parents[1] / "configs"
PLAIN, SHARDED = SCRIPTS / "pretrain_without_dropout.py", SCRIPTS / "pretrain_sharded.py"
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
TORCHRUN += ["--rdzv-endpoint", "localhost:0"]


def launch(words: list, expected: int = 0) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    call = [sys.executable, *map(str, words)]
    done = subprocess.run(
        call, capture_output=True, text=True, env=environment, check=False, timeout=300
    )
    assert done.returncode == expected, done.stdout[-1000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def accelerate_config(folder: Path, name: str) -> list:
    """The words of `accelerate launch` with a file of `configs/`, for two processes on CPUs and at
    a free port.
    """
    given = yaml.safe_load((CONFIGS / name).read_text())
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        given |= {"num_processes": 2, "use_cpu": True, "main_process_port": probe.getsockname()[1]}
    if given["distributed_type"] == "MULTI_GPU":
        given["distributed_type"] = "MULTI_CPU"
    (folder / name).write_text(yaml.safe_dump(given))
    return ["-m", "accelerate.commands.launch", "--config_file", folder / name]


def options(text, tokenizer, output, *more) -> list:
    return command(
        text, tokenizer, output, "--batches-per-update", "2", "--save-steps", "2", *more, steps=3
    )


@pytest.fixture(scope="module")
def alone(text, tokenizer, tmp_path_factory) -> Path:
    """One process with two batches an update."""
    output = tmp_path_factory.mktemp("alone") / "run"
    launch([PLAIN, *options(text, tokenizer, output)])
    return output


def assert_as_one(alone: Path, output: Path) -> None:
    expected, found = (
        load_file(alone / "model.safetensors"),
        load_file(output / "model.safetensors"),
    )
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5)
    figures = [json.loads((run / "metrics.json").read_text()) for run in (alone, output)]
    assert 5 * (512 - 64) < figures[1]["tokens_seen"] <= 6 * 512
    for name in (
        "eval_masked_lm_loss",
        "eval_masked_lm_accuracy",
        "eval_next_sentence_accuracy",
        "tokens_seen",
    ):
        assert figures[1][name] == pytest.approx(figures[0][name], abs=1e-5)


@pytest.mark.slow
def test_torchrun(alone, text, tokenizer, tmp_path):
    launch([*TORCHRUN, PLAIN, *options(text, tokenizer, tmp_path / "run")])
    assert_as_one(alone, tmp_path / "run")


@pytest.mark.slow
def test_torchrun_finds_out_that_there_is_no_accelerator(alone, text, tokenizer, tmp_path):
    """Without `--cpu` as well, the processes work together instead of each on its own in the same
    folder.
    """
    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator, which the processes would rightly use")
    words = [word for word in options(text, tokenizer, tmp_path / "run") if word != "--cpu"]
    launch([*TORCHRUN, PLAIN, *words])
    assert_as_one(alone, tmp_path / "run")


@pytest.mark.slow
def test_accelerate_launch(alone, text, tokenizer, tmp_path):
    start = accelerate_config(tmp_path, "eight_gpus.yaml")
    launch([*start, PLAIN, *options(text, tokenizer, tmp_path / "run")])
    assert_as_one(alone, tmp_path / "run")


@pytest.mark.slow
def test_fsdp2(alone, text, tokenizer, tmp_path):
    """Sharded by torch's FSDP2.

    The same weights, a folder that anyone reads, and the same again after a stop.
    """
    output = tmp_path / "run"
    start = [*accelerate_config(tmp_path, "eight_gpus_fsdp2.yaml"), SHARDED]
    launch([*start, *options(text, tokenizer, output)])
    assert_as_one(alone, output)
    assert {path.name for path in output.glob("*.py")} == {path.name for path in alone.glob("*.py")}
    configs = [json.loads((run / "config.json").read_text()) for run in (alone, output)]
    assert configs[0] == configs[1]
    loaded = AutoModelForPreTraining.from_pretrained(output)
    assert type(loaded) is transformers.BertForPreTraining
    shutil.rmtree(output / "checkpoint-3")
    (output / "model.safetensors").unlink()
    launch([*start, *options(text, tokenizer, output, "--resume")])
    assert_as_one(alone, output)


@pytest.mark.slow
def test_fsdp_without_accelerators_is_refused(text, tokenizer, tmp_path):
    """Accelerate would train unsharded without a word."""
    start = accelerate_config(tmp_path, "eight_gpus_fsdp2.yaml")
    output = launch(
        [
            *start,
            "-m",
            "bertlite.cli.main",
            "pretrain",
            *options(text, tokenizer, tmp_path / "run"),
        ],
        expected=1,
    )
    assert "error: FSDP must have accelerators" in output
    assert not (tmp_path / "run").exists()
