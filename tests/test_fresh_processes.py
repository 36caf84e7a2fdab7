"""Every way to get a model takes the same backend; each way in a process of its own, so that none
finds what another has imported.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import bert_config, randomize
from transformers import BertTokenizer

import bertlite

SCRIPT = Path(__file__).parent / "scripts/report_backend.py"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dull", "film", "good", "the", "."]
TAKEN = {
    "attribute": "cpu",
    "module": "cpu",
    "Auto class": "cpu",
    "copy": "cpu",
    "copy without bertlite": "plain",
    "finetune": "cpu",
    "Trainer": "cpu",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A classifier of two labels, with a tokenizer; pre-norm, which is ours by its name too."""
    target = tmp_path_factory.mktemp("classifier")
    config = bert_config(vocab_size=len(WORDS), num_labels=2, norm_first=True)
    randomize(bertlite.BertLiteForSequenceClassification(config)).save_pretrained(target)
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(target)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("way", TAKEN)
def test_the_backend_that_is_taken(way, folder, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "code")}
    if way == "copy without bertlite":
        environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), way, str(folder), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    taken = [line.split(", encode: ")[1] for line in found["report"] if ", encode: " in line]
    assert taken == [TAKEN[way]], found
    travelled = found["module"].startswith("transformers_modules.")
    assert travelled == way.startswith("copy"), found
    assert found["bertlite"] == (way != "copy without bertlite"), found
