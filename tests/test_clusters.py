"""The examples that encode on a cluster, run on a local one of two workers."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from inference_cases import WORDS, bert, wordpiece

import bertlite

EXAMPLES = Path(__file__).parents[1] / "examples"


def is_there(engine):
    package = {"ray": "ray", "spark": "pyspark"}[engine]
    return importlib.util.find_spec(package) and (engine == "ray" or shutil.which("java"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "spark"])
def test_two_workers_give_the_vectors_of_one_process(engine, tmp_path):
    """Every text once, with the vector of a single call."""
    if not is_there(engine):
        needed = {"ray": 'pip install "ray[data]"', "spark": "pip install pyspark, and Java 17"}
        pytest.skip(f"{engine} is not here: {needed[engine]}")
    folder, file, out = tmp_path / "model", tmp_path / "texts.txt", tmp_path / "out"
    tokenizer = wordpiece()
    bertlite.BertLiteModel(bert("MaskedLM", tokenizer).config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    texts = [" ".join((WORDS * 3)[place : place + place % 13 + 1]) for place in range(40)]
    file.write_text("\n".join(texts) + "\n")
    words = [str(folder), str(file), str(out), "--workers", "2", "--block", "10"]
    script = str(EXAMPLES / f"encode_with_{engine}.py")
    env = {**os.environ, "PYSPARK_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, *words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    parts = [pd.read_parquet(each) for each in out.rglob("*.parquet")]
    found = pd.concat(parts).sort_values("row")
    assert found["row"].tolist() == list(range(len(texts)))
    assert found["text"].tolist() == texts
    vectors = np.stack(found["vector"].tolist())
    np.testing.assert_allclose(vectors, bertlite.encode(texts, str(folder)), atol=1e-6)
