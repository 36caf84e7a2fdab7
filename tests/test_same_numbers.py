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


@pytest.mark.slow
@pytest.mark.parametrize("held", [{}, HELD_TO_AVX2], ids=["as it is", "held to AVX2"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_text_has_the_same_numbers_alone_and_in_any_batch(precision, held):
    """How many texts differ, by threads and function: none."""
    environment = {**os.environ, **held, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(SCRIPT), precision, "1", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    none = dict.fromkeys(FUNCTIONS, 0)
    assert json.loads(done.stdout.splitlines()[-1]) == {"1": none, "2": none}
