"""Same text, same numbers: a text has the same result alone and in any batch, bit for bit.

Over batchings, orders, 1 and 2 threads, and held to AVX2, in processes of their own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "scripts" / "same_numbers.py"
HELD_TO_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
FUNCTIONS = ("encode", "classify", "tag", "answer")
PRECISIONS = ("bf16", "fp32", "int8")


@pytest.fixture(scope="module", params=["as it is", "held to AVX2"])
def environment(request):
    held = HELD_TO_AVX2 if request.param == "held to AVX2" else {}
    return {**os.environ, **held, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module", params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    return request.param


@pytest.fixture(scope="module", params=PRECISIONS)
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def differing(environment, threads, precision):
    """How many texts differ, by function."""
    command = [sys.executable, str(SCRIPT), str(threads), precision]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_text_has_the_same_numbers_alone_and_in_any_batch(function, differing):
    assert differing[function] == 0
