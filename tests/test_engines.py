"""ONNX Runtime and OpenVINO behind the seam: the contracts, changed weights, and which is taken."""

import copy
import ctypes
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import backend_contracts
import pytest
import torch
from cases import BERT, padded, randomize
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES
from transformers import BertConfig, BertModel

import bertlite
from bertlite.backends.engines import measured, sessions
from bertlite.backends.engines.measured import MeasuredBackend, nearest

pytestmark = pytest.mark.processor
CHECKS = (
    backend_contracts.check_values,
    backend_contracts.check_report,
    backend_contracts.check_copies,
    backend_contracts.check_packed,
    backend_contracts.check_hooks,
)
CASES = {str(case): case for case in [*BERT_CASES, *TRANSFORMER_CASES]}


def model_of(**fields) -> bertlite.BertLiteModel:
    return randomize(bertlite.BertLiteModel(bertlite.BertLiteConfig(**{**BERT, **fields}))).eval()


def batch_of(lengths=(6, 3)) -> dict[str, torch.Tensor]:
    ids, mask = padded(lengths, "right", torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": mask}


def states_of(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch).last_hidden_state[batch["attention_mask"].bool()]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", list(CASES)[:2] + list(CASES)[-1:])
def test_contracts(name, check):
    pytest.importorskip("onnxruntime", reason="it is the backend")
    case = CASES[name].on(backend="onnxruntime")
    if check is backend_contracts.check_hooks and not backend_contracts.has_counterpart(case):
        return
    check(case)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_transformers_outputs_and_changed_weights(name, tmp_path):
    """BertModel's vectors, before and after each way in which weights change."""
    pytest.importorskip(name, reason="it is the backend")
    theirs = randomize(BertModel(BertConfig(**BERT))).eval()
    theirs.save_pretrained(tmp_path)
    ours = bertlite.optimize(bertlite.BertLiteModel.from_pretrained(tmp_path).eval(), backend=name)
    for change in (None, in_place, loaded, exchanged):
        if change is not None:
            change(theirs)
            change(ours)
        for lengths in ((6, 3), (1,)):
            batch = batch_of(lengths)
            torch.testing.assert_close(
                states_of(ours, batch), states_of(theirs, batch), atol=2e-5, rtol=1e-4
            )
        assert f"BertLiteModel, encode: {name}" in ours.backend_report()


@torch.no_grad()
def in_place(model) -> None:
    model.embeddings.word_embeddings.weight.mul_(0.5)
    model.encoder.layer[1].output.dense.weight.add_(0.01)


def loaded(model) -> None:
    state = {name: each * 0.9 for name, each in model.state_dict().items() if "bias" in name}
    model.load_state_dict(state, strict=False)


def exchanged(model) -> None:
    torch.manual_seed(3)
    own = model.encoder.layer[0].intermediate.dense
    model.encoder.layer[0].intermediate.dense = torch.nn.Linear(own.in_features, own.out_features)
    model.encoder.layer[0].intermediate.dense.requires_grad_(False)


def test_why_it_is_not_taken():
    pytest.importorskip("onnxruntime", reason="it is the backend")
    model, batch = bertlite.optimize(model_of(), backend="onnxruntime"), batch_of()
    plainly = bertlite.use_backend(copy.deepcopy(model), "plain")
    embeds = model.embeddings.word_embeddings(batch["input_ids"])
    mask = batch["attention_mask"]
    asked = {
        "output_attentions was asked for": {**batch, "output_attentions": True},
        "output_hidden_states was asked for": {**batch, "output_hidden_states": True},
        "the attention mask is prepared": {**batch, "attention_mask": mask[:, None, None].bool()},
        "vectors are given instead of ids": {"inputs_embeds": embeds, "attention_mask": mask},
        "positions are given": {**batch, "position_ids": torch.arange(6)[None].flip(-1)},
    }
    for reason, given in asked.items():
        with torch.no_grad():
            found, expected = (each(**given).last_hidden_state for each in (model, plainly))
        assert f"not onnxruntime: {reason}" in model.backend_report()[0]
        real = mask.bool()
        torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-4)
    handle = model.encoder.layer[0].register_forward_hook(lambda *args: None)
    states_of(model, batch)
    handle.remove()
    assert "not onnxruntime: a hook watches EncoderLayer" in model.backend_report()[0]
    with pytest.raises(ValueError, match="must be in evaluation mode while it is optimised"):
        model.train()(**batch)


@pytest.mark.parametrize("name", ["auto", "openvino"])
def test_threads_do_not_meet(name, monkeypatch):
    """Each has its own rows' vectors, whichever backend the others took."""
    pytest.importorskip("openvino", reason="it is a backend")
    monkeypatch.setattr(MeasuredBackend, "measure", lambda self: None)
    model = bertlite.optimize(model_of(), backend=name)
    if name == "auto":
        times = {"packed": 2.0, "onnxruntime": 1.0, "openvino": 1.0}
        model.backend_choice.table = {(1, 16): times, (8, 16): {**times, "packed": 0.5}}
    batches = [batch_of((6,)), batch_of((6, 2) * 4)] * 8
    expected = [states_of(model, batch) for batch in batches]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda batch: states_of(model, batch), batches * 4))
    for one, other in zip(found, expected * 4, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    copied = copy.deepcopy(model)
    torch.testing.assert_close(states_of(copied, batches[0]), expected[0], atol=1e-5, rtol=1e-4)


class SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_signals_still_have_a_stack_when_models_are_gone():
    """Each `Core` of OpenVINO brings a stack for signals and takes it away, in any order."""
    pytest.importorskip("openvino", reason="it is the backend")
    models = [bertlite.optimize(model_of(), backend="openvino") for _ in range(2)]
    while models:
        states_of(models[0], batch_of((6,)))
        models.pop(0)
        gc.collect()
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    start = stack.start or 0
    assert not start or any(first <= start < last for first, last in mapped)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_ids_of_no_row_are_named(name):
    """OpenVINO takes any id without a word."""
    pytest.importorskip(name, reason="it is the backend")
    model = bertlite.optimize(model_of(), backend=name)
    for ids in (torch.tensor([[5, 61]]), torch.tensor([[-1, 5]])):
        with pytest.raises(ValueError, match=r"input_ids must lie in \[0, 61\)"):
            model(input_ids=ids)


def test_the_fastest_at_each_size_is_taken(monkeypatch):
    """By a table that says so; padding counts for ours alone."""
    pytest.importorskip("onnxruntime", reason="it is a backend")
    monkeypatch.setattr(measured, "SECONDS", 0.0)
    monkeypatch.setattr(MeasuredBackend, "measure", lambda self: None)
    monkeypatch.setattr(measured, "ENGINES", {"onnxruntime": measured.ENGINES["onnxruntime"]})
    model = bertlite.optimize(model_of(), backend="auto")
    plainly = bertlite.use_backend(copy.deepcopy(model), "plain")
    chosen = model.backend_choice
    chosen.table = {(1, 16): {"packed": 2.0, "onnxruntime": 1.0}}
    chosen.table[8, 16] = {"packed": 2.0, "onnxruntime": 1.5}
    expected = {(6,): "onnxruntime", (6,) * 8: "onnxruntime", (6, *(2,) * 7): "packed"}
    for lengths, name in expected.items():
        batch = batch_of(lengths)
        torch.testing.assert_close(
            states_of(model, batch), states_of(plainly, batch), atol=1e-5, rtol=1e-4
        )
        assert model.backend_report() == [f"BertLiteModel, encode: auto ({name})"]
    model.encoder.layer[0].register_forward_hook(lambda *args: None)
    states_of(model, batch_of((6,)))
    assert "encode: plain; not auto (packed): a hook watches" in model.backend_report()[0]
    assert nearest(chosen.table, 3, 40) == (8, 16)
    assert nearest(chosen.table, 2, 500) == (1, 16)
    bertlite.undo_optimize(model)
    assert all(weight.requires_grad for weight in model.parameters())


def test_measuring_is_bounded(monkeypatch):
    """What would take longer than is left is not measured, and done by us."""
    pytest.importorskip("onnxruntime", reason="it is a backend")
    sizes = []
    monkeypatch.setattr(
        MeasuredBackend,
        "times",
        lambda self, backends, rows, length, seconds: (
            sizes.append((rows, length)) or {"packed": 0.001 if rows < 32 else 20.0}
        ),
    )
    model = bertlite.optimize(model_of(), backend="auto")
    assert sizes == [(1, 16), (8, 16), (32, 16)]  # it reads 40 tokens
    sizes.clear()
    monkeypatch.setattr(measured, "LENGTHS", (16, 40))
    model.backend_choice.measure()
    assert sizes == [(1, 16), (1, 40), (8, 16), (8, 40), (32, 16)]  # where 20 s are used up
    model.backend_choice.table.clear()
    model.backend_choice.measure(seconds=-1)
    assert not model.backend_choice.table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tensorrt"}, "backend must be one of .* got 'tensorrt'"),
        ({"backend": "onnxruntime", "dtype": "int8"}, "dtype must be fp32 with a backend other"),
        ({"backend": "auto", "dtype": "bf16"}, "dtype must be fp32 with a backend other"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        bertlite.optimize(model_of(), **options)


def test_a_graph_that_differs_is_not_taken(monkeypatch):
    """At once where it is asked for, and later where weights have changed."""
    pytest.importorskip("onnxruntime", reason="it is the backend")
    model, batch = bertlite.optimize(model_of(), backend="onnxruntime"), batch_of()
    real = sessions.OnnxSession.run
    monkeypatch.setattr(
        sessions.OnnxSession, "run", lambda self, given: [each + 0.01 for each in real(self, given)]
    )
    in_place(model)
    plainly = bertlite.use_backend(copy.deepcopy(model), "plain")
    torch.testing.assert_close(
        states_of(model, batch), states_of(plainly, batch), atol=1e-5, rtol=1e-4
    )
    assert "not onnxruntime: its graph's vectors are" in model.backend_report()[0]
    with pytest.raises(ValueError, match="cannot compute this model: its graph's vectors are"):
        bertlite.optimize(model_of(), backend="onnxruntime")


def test_an_engine_that_is_not_installed(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ValueError, match=r'openvino must be installed; .*"bertlite\[openvino\]"'):
        bertlite.optimize(model_of(), backend="openvino")
