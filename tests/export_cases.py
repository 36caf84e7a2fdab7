"""Folders with tiny models for the tests of `bertlite.export`, and their `run.py` without torch."""

import json
import subprocess
import sys
from pathlib import Path

from inference_cases import LABELS, bert, byte_pairs, tiny_writer, wordpiece

import bertlite

# Run in a process where neither torch nor any of what is built on it can be imported.
ALONE = """
import json, runpy, sys
for name in ("torch", "transformers", "bertlite", "onnx", "sentencepiece"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
names = runpy.run_path(sys.argv[1] + "/run.py")
results = [names[name](*given) for name, *given in json.loads(sys.stdin.read())]
print(json.dumps(results, default=lambda array: array.tolist()))
"""


def folder_of(head: str, path: Path, **config) -> Path:
    """A tiny model with its tokenizer; `head` as the class ends."""
    if head == "Seq2Seq":
        model, tokenizer = tiny_writer(byte_pairs()), byte_pairs()
    else:
        tokenizer = wordpiece()
        labels = {
            "TokenClassification": LABELS,
            "SequenceClassification": ["bad", "good", "so-so"],
        }.get(head)
        model = bert("MaskedLM" if head == "Model" else head, tokenizer, labels=labels, **config)
        model = bertlite.BertLiteModel(model.config).eval() if head == "Model" else model
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def run_alone(folder: Path, *calls: list) -> list:
    """Results of functions of a folder's `run.py`, each a name and its arguments."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder)],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
