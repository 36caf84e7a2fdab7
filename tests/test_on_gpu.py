"""The CUDA backend on a GPU itself; without one everything here is skipped.

The other tests of the backend put stand-ins in place of the kernels. These run the kernels, let
torch itself find out where a program waits (`torch.cuda.set_sync_debug_mode`), and replay graphs.
"""

import copy
import subprocess
import sys
import warnings

import pytest
import torch
from cuda_cases import BERT_HEADS, WRITER, assert_same, batch_of, gradients, make, plain, took

import bertlite
from bertlite.backends.cuda import kernels
from bertlite.backends.cuda.compiled import compile_layers, graphs_compiled
from bertlite.backends.generation import generate
from bertlite.data.collators import lengths_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
HALF = [torch.bfloat16, torch.float16]


def on_gpu(batch: dict) -> dict:
    return {key: value.to("cuda") for key, value in batch.items()}


@pytest.fixture
def exact_products():
    """No TF32, by which fp32 would be compared at three digits."""
    was = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = was


@pytest.mark.parametrize("head_size", [8, 32, 64, 128])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
def test_every_kernel_that_is_taken_passes_its_trial(dtype, head_size):
    device = torch.device("cuda", torch.cuda.current_device())
    capability = torch.cuda.get_device_capability()
    choice = kernels.choose(device, dtype, head_size)
    if dtype == torch.bfloat16 and capability < (8, 0):
        assert choice.plain is choice.dropping is None
    else:
        assert choice.plain
        assert choice.dropping


@pytest.mark.parametrize("name", [*BERT_HEADS, WRITER])
def test_a_training_step_is_the_plain_one(name, exact_products):
    model, batch = make(name).train().to("cuda"), on_gpu(batch_of(name))
    other = plain(model)
    found, expected = model(**batch).loss, other(**batch).loss
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    found.backward()
    expected.backward()
    assert_same(gradients(model), gradients(other), atol=1e-4)
    assert took(model) == {"cuda"}


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_as_far_off_as_the_plain_core(dtype):
    model, batch = make("BertLiteModel").to("cuda"), on_gpu(batch_of("BertLiteModel"))
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        exact = plain(model).double()(**batch).last_hidden_state[real]
        theirs = plain(model).to(dtype)(**batch).last_hidden_state[real].double()
        ours = copy.deepcopy(model).to(dtype)(**batch).last_hidden_state[real].double()
    assert (ours - exact).abs().mean() < 3 * (theirs - exact).abs().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_by_its_statistics(dtype):
    """Mean and spread of the loss over 64 draws are those of the core."""
    model = make("BertLiteForMaskedLM", attention_probs_dropout_prob=0.2).train().to("cuda", dtype)
    batch, other = on_gpu(batch_of("BertLiteForMaskedLM")), plain(model)
    with torch.no_grad():
        found = torch.stack([model(**batch).loss for _ in range(64)]).double()
        expected = torch.stack([other(**batch).loss for _ in range(64)]).double()
    error = ((found.var() + expected.var()) / 64).sqrt()
    assert found.std() > 0
    assert abs(found.mean() - expected.mean()) < 5 * error + 1e-2 * expected.mean()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", [*BERT_HEADS, WRITER])
def test_torch_finds_one_wait_and_none_with_lengths(name, training):
    model, given = make(name).train(training).to("cuda"), batch_of(name)
    model(**on_gpu(given))  # kernels are tried at the first call of a process
    for lengths, waits in ((None, 1), (lengths_of(given), 0)):
        batch = on_gpu(given)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                model(**batch, lengths=lengths)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        said = [str(each.message) for each in seen if "synchroniz" in str(each.message)]
        assert len(said) == waits, said


def test_an_id_out_of_range_leaves_the_gpu_usable():
    model, batch = make("BertLiteModel").to("cuda"), on_gpu(batch_of("BertLiteModel"))
    wrong = {**batch, "input_ids": batch["input_ids"].clone()}
    wrong["input_ids"][0, 0] = 61
    with pytest.raises(ValueError, match=r"input_ids must lie in \[0, 61\)"):
        model(**wrong)
    assert model(**batch).last_hidden_state.isfinite().all()


def test_an_id_out_of_range_where_nobody_waits_is_named():
    code = (
        "import torch, bertlite\n"
        "model = bertlite.BertLiteModel(bertlite.preset('bert-tiny')).eval().cuda()\n"
        "model(input_ids=torch.full((2, 5), 40_000, device='cuda'))\n"
        "torch.cuda.synchronize()\n"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "input_ids must lie in [0, " in done.stdout + done.stderr


@pytest.mark.parametrize("dtype", [None, "fp32", "fp16", "bf16"])
def test_graphs_give_the_outputs_of_the_plain_core(dtype):
    model, batch = make("BertLiteModel").to("cuda"), on_gpu(batch_of("BertLiteModel"))
    real, other = batch["attention_mask"].bool(), plain(model)
    bertlite.optimize(model, dtype=dtype)
    with torch.no_grad():
        expected = other(**batch).last_hidden_state[real]
        for _ in range(3):
            found = model(**batch).last_hidden_state[real]
            far = 1e-4 if dtype in (None, "fp32") else 0.1
            torch.testing.assert_close(found, expected, atol=far, rtol=far)
    assert model.backend_report() == ["BertLiteModel, encode: cuda-frozen"]
    assert model.backend_choice.graphs.recorded == 1


@pytest.mark.slow
def test_compiled_layers_are_compiled_once():
    model = make("BertLiteForMaskedLM").train().to("cuda")
    compile_layers(model)
    counts = []
    for rows in ([0], [0, 1], [1, 2, 3], [0, 1, 2, 3], [2]):
        batch = on_gpu({key: value[rows] for key, value in batch_of(BERT_HEADS[0]).items()})
        with torch.autocast("cuda", torch.float16):
            model(**batch).loss.backward()
        counts.append(graphs_compiled())
    assert counts[-1] == counts[2]


@pytest.mark.slow
@pytest.mark.parametrize("num_beams", [1, 4])
def test_generation_writes_the_tokens_of_the_library(num_beams, exact_products):
    model, batch = make(WRITER).to("cuda"), on_gpu(batch_of(WRITER))
    del batch["labels"]
    asked = {"num_beams": num_beams, "max_new_tokens": 12, "do_sample": False}
    assert torch.equal(generate(model, **batch, **asked), model.generate(**batch, **asked))


def test_out_of_memory_says_what_to_lower():
    model = make("BertLiteForMaskedLM", max_position_embeddings=512).train().to("cuda")
    ids = torch.full((512, 512), 5, device="cuda")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.001)
    try:
        with pytest.raises(torch.OutOfMemoryError, match="Lower the tokens of a batch"):
            model(input_ids=ids, labels=ids)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
