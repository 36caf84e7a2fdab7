"""Kill a save over an older one before every change of a folder, and say what that leaves.

Arguments: a folder to work in, and as JSON the arguments of the older and of the newer save.
Prints a JSON list of [what a reader finds, what it finds after one more save], and the number of
files too many at the end.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
import transformers
from transformers.utils import logging

import bertlite

logging.disable_progress_bar()
logging.set_verbosity_error()
EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
SIZES = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}


def make(value: float, hidden_act: str) -> bertlite.BertLiteModel:
    """A model whose every weight is `value`, with a config that belongs to it."""
    config = bertlite.BertLiteConfig(**SIZES, num_hidden_layers=1, hidden_act=hidden_act)
    model = bertlite.BertLiteModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def found(folder: Path) -> str:
    """What two readers load: the old model, the new one, none, or a mix."""
    seen = set()
    for reader in (bertlite.BertLiteModel, transformers.BertModel):
        try:
            model = reader.from_pretrained(folder)
        except (OSError, ValueError):
            seen.add("none")
            continue
        values = {float(part.detach().flatten()[0]) for part in model.parameters()}
        known = {("gelu", 1.0): "old", ("relu", 2.0): "new"}
        seen.add(known.get((model.config.hidden_act, *values), "mix"))
    return seen.pop() if len(seen) == 1 else f"readers differ: {sorted(seen)}"


def save_until(kill_at: int, folder: Path, arguments: dict) -> bool:
    """Save in a child that dies before its touch number `kill_at`; whether it lived to the end."""
    child = os.fork()
    if not child:
        touches = 0

        def count(event, arguments):
            nonlocal touches
            if event in EVENTS and str(folder) in str(arguments[0]):
                touches += 1
                if touches == kill_at:
                    os._exit(9)

        sys.addaudithook(count)
        make(2.0, "relu").save_pretrained(folder, **arguments)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> None:
    room, old, new = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    make(2.0, "relu").save_pretrained(room / "expected", **new)
    expected = {path.name for path in (room / "expected").iterdir()}
    states, extra, kill_at, lived = [], set(), 0, False
    while not lived:
        kill_at += 1
        folder = room / "model"
        shutil.rmtree(folder, ignore_errors=True)
        if old is not None:
            make(1.0, "gelu").save_pretrained(folder, **old)
        lived = save_until(kill_at, folder, new)
        left = found(folder)
        make(2.0, "relu").save_pretrained(folder, **new)
        states.append([left, found(folder)])
        extra |= {path.name for path in folder.iterdir()} - expected
    print(json.dumps([states, len(extra)]))


main()
