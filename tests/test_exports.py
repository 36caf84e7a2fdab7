"""Graphs that leave Python: ONNX by both exporters, and `torch.jit.trace`.

Each runs with another batch size and length than it was made with, and with padding.
"""

import warnings
from pathlib import Path

import pytest
import torch
from cases import padded
from pairs import HEADS, bert_pair, marian_pair
from torch import nn

LENGTHS = (6, 4)
OTHER_LENGTHS = ((9, 5, 2), (3,), (12, 12, 7, 1))


def batch_of(lengths) -> dict[str, torch.Tensor]:
    ids, mask = padded(lengths, "right", torch.Generator().manual_seed(len(lengths)))
    return {"input_ids": ids, "attention_mask": mask}


def for_head(head: str, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rows as choices, where the head takes some."""
    if head != "ForMultipleChoice":
        return batch
    return {name: tensor[None] for name, tensor in batch.items()}


def assert_close(found, expected: torch.Tensor, mask: torch.Tensor) -> None:
    """At real tokens, where it is by token."""
    found = torch.as_tensor(found)
    if expected.shape[:2] == mask.shape:
        found, expected = found[mask.bool()], expected[mask.bool()]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


class FirstOutput(nn.Module):
    """A model whose forward gives one tensor, as graphs like it, with inputs by position."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=False)[0]


def exported(model: nn.Module, batch: dict, path: Path, dynamo: bool) -> None:
    """The model's file, batch and length free."""
    names = list(batch)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if not dynamo:
            places = {batch["input_ids"].ndim - 2: "rows", batch["input_ids"].ndim - 1: "length"}
            torch.onnx.export(
                model,
                tuple(batch.values()),
                str(path),
                input_names=names,
                output_names=["first"],
                dynamic_axes=dict.fromkeys(names, places),
                dynamo=False,
            )
            return
        last = batch["input_ids"].ndim - 1
        free = {last - 1: torch.export.Dim.DYNAMIC, last: torch.export.Dim.DYNAMIC}
        torch.onnx.export(
            model,
            (),
            str(path),
            kwargs=batch,
            input_names=names,
            dynamic_shapes=dict.fromkeys(names, free),
            dynamo=True,
            verbose=False,
        )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("head", HEADS)
def test_the_old_exporter_of_onnx(head, attention, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="it runs what was exported")
    pytest.importorskip("onnx", reason="torch writes its files with it")
    theirs, ours = bert_pair(head, tmp_path / "model", attention)
    exported(ours, for_head(head, batch_of(LENGTHS)), tmp_path / "model.onnx", dynamo=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for lengths in OTHER_LENGTHS:
        batch = for_head(head, batch_of(lengths))
        made = session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})
        with torch.no_grad():
            assert_close(made[0], theirs(**batch)[0], batch["attention_mask"])


@pytest.mark.slow
@pytest.mark.parametrize("head", ["Model", "ForSequenceClassification", "ForMaskedLM"])
def test_the_new_exporter_of_onnx(head, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="it runs what was exported")
    pytest.importorskip("onnxscript", reason="torch's new exporter is written in it")
    theirs, ours = bert_pair(head, tmp_path / "model", "sdpa")
    exported(ours, batch_of(LENGTHS), tmp_path / "model.onnx", dynamo=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for lengths in OTHER_LENGTHS:
        batch = batch_of(lengths)
        made = session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})
        with torch.no_grad():
            assert_close(made[0], theirs(**batch)[0], batch["attention_mask"])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("head", HEADS)
def test_traces(head, attention, tmp_path):
    """Made before the first plain pass and after it."""
    theirs, ours = bert_pair(head, tmp_path, attention)
    given = for_head(head, batch_of(LENGTHS))
    for _ in range(2):
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            model = FirstOutput(ours, tuple(given))
            traced = torch.jit.trace(model, tuple(given.values()), check_trace=False)
        for lengths in OTHER_LENGTHS:
            batch = for_head(head, batch_of(lengths))
            with torch.no_grad():
                expected = theirs(**batch)[0]
                assert_close(traced(*batch.values()), expected, batch["attention_mask"])
                ours(**batch)


def test_a_traced_transformer(tmp_path):
    theirs, ours = marian_pair(tmp_path, "sdpa")
    names = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask")

    def inputs(lengths, targets):
        return dict(
            zip(names, [*batch_of(lengths).values(), *batch_of(targets).values()], strict=True)
        )

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        ours.config.use_cache = False
        given = inputs((6, 4), (5, 5))
        traced = torch.jit.trace(FirstOutput(ours, names), tuple(given.values()), check_trace=False)
        for lengths, targets in (((9, 5), (7, 3)), ((3, 2), (2, 4))):
            other = inputs(lengths, targets)
            expected = theirs(**other, use_cache=False)[0]
            assert_close(traced(*other.values()), expected, other["decoder_attention_mask"])
