"""A few kills at random moments; `python -m benchmarks kills` does them by the hundred."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_what_a_kill_leaves_is_whole_and_the_work_goes_on():
    works = ["training", "pretraining", "exporting"]
    words = ["-m", "benchmarks", "kills", "--kills", "1", "--works", *works]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    table = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in table[2:]] == works
    assert [row[2] for row in table[2:]] == ["1", "1", "1"]  # kills
    assert [row[5] for row in table[2:]] == ["0", "0", "0"]  # that were wrong
