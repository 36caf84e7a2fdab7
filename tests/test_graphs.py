"""torch.compile without graph breaks and torch.export, of every base model and head.

Two processes equal to one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cases import randomize, transformer_config
from test_training import HEADS, make, rows

import bertlite

SCRIPTS = Path(__file__).parent / "scripts"


def batch_of(head: str, count: int = 4) -> dict[str, torch.Tensor]:
    data = rows(head if head != "Model" else "ForSequenceClassification", count)[:]
    return {name: data[name] for name in ("input_ids", "attention_mask")}


def transformer():
    return randomize(bertlite.TransformerLiteForConditionalGeneration(transformer_config()))


def first_difference(left, right, mask: torch.Tensor) -> float:
    """Largest difference of the first output on real tokens."""
    difference = (left[0] - right[0]).abs()
    if difference.shape[:2] == mask.shape:
        difference = difference * (mask if difference.ndim == 2 else mask[..., None])
    return float(difference.max())


@pytest.mark.parametrize("head", ["Model", *HEADS])
def test_compile_in_one_graph(head):
    """With a mask, and before the model has computed anything plainly."""
    torch.compiler.reset()
    model, batch = make(head), batch_of(head)
    assert not batch["attention_mask"].all()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert first_difference(compiled(**batch), model(**batch), batch["attention_mask"]) < 1e-5


@pytest.mark.parametrize("before", ["nothing", "a pass", "optimize"])
def test_what_was_done_before_does_not_matter_to_a_graph(before):
    """A pass attaches faster layers and packs weights: a graph takes the plain ones."""
    torch.compiler.reset()
    model, batch = make("ForSequenceClassification"), batch_of("ForSequenceClassification")
    expected = make("ForSequenceClassification")(**batch).logits.detach()
    with torch.no_grad():
        if before == "optimize":
            bertlite.optimize(model)
        if before != "nothing":
            model(**batch)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        exported = torch.export.export(model, (), batch, strict=False).module()
        for graph in (compiled, exported):
            torch.testing.assert_close(graph(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_compile_a_training_step_in_one_graph():
    torch.compiler.reset()
    data = rows("ForMaskedLM", 4)[:]
    model = make("ForMaskedLM").train()
    model(**data).loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    torch.compile(model, backend="aot_eager", fullgraph=True)(**data).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", ["Model", *HEADS])
def test_export_with_any_batch_and_length(head):
    model, batch = make(head), batch_of(head)
    choices = {1: 2} if head == "ForMultipleChoice" else {}
    length = 2 if choices else 1
    shape = {
        0: torch.export.Dim("batch", min=2, max=64),
        length: torch.export.Dim("length", min=2, max=40),
    }
    exported = torch.export.export(
        model, (), batch, dynamic_shapes=dict.fromkeys(batch, shape), strict=False
    )
    other = {name: tensor[:3, ..., :6] for name, tensor in batch.items()}
    with torch.no_grad():
        expected = model(**other)
        assert (
            first_difference(exported.module()(**other), expected, other["attention_mask"]) < 1e-5
        )


@pytest.mark.parametrize(
    "model_class", ["TransformerLiteModel", "TransformerLiteForConditionalGeneration"]
)
def test_transformer_compiles_and_exports(model_class):
    torch.compiler.reset()
    model = randomize(getattr(bertlite, model_class)(transformer_config()))
    batch = {
        **batch_of("Model"),
        "decoder_input_ids": torch.randint(3, 61, (4, 6)),
        "use_cache": False,
    }
    with torch.no_grad():
        expected = model(**batch)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        exported = torch.export.export(model, (), batch, strict=False).module()
        for found in (compiled(**batch), exported(**batch)):
            assert (found[0] - expected[0]).abs().max() < 1e-5


@pytest.mark.slow
def test_inductor_gives_the_same():
    torch.compiler.reset()
    model, batch = make("ForSequenceClassification"), batch_of("ForSequenceClassification")
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True)
        assert first_difference(compiled(**batch), model(**batch), batch["attention_mask"]) < 1e-5


@pytest.mark.slow
def test_static_cache_with_a_compiled_forward():
    torch.compiler.reset()
    model, batch = transformer(), batch_of("Model")
    expected = model.generate(**batch, max_new_tokens=10)
    model.forward = torch.compile(model.forward, fullgraph=True)
    assert torch.equal(
        model.generate(**batch, max_new_tokens=10, cache_implementation="static"), expected
    )


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """`accelerate launch` on two processes (gloo) against one with the same global batch."""
    results = []
    for processes, batch_size in ((1, 8), (2, 4)):
        target = tmp_path / f"{processes}.pt"
        launch = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
        ]
        launch += ["--dynamo_backend", "no", "--num_processes", str(processes)]
        # The name is the launcher's for "several processes on one machine"; the script itself asks
        # for CPU and gloo.
        launch += ["--multi_gpu", "--main_process_port", "0"] if processes > 1 else ["--cpu"]
        command = [*launch, str(SCRIPTS / "train_in_parallel.py"), str(target), str(batch_size)]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parent),
        }
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
        results.append(torch.load(target))
    assert results[0]["processes"] == 1
    assert results[1]["processes"] == 2
    assert (results[0]["weights"] - results[0]["start"]).abs().max() > 1e-4
    torch.testing.assert_close(results[1]["weights"], results[0]["weights"], atol=1e-6, rtol=0)
