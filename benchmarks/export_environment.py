"""What an exported folder needs: a fresh environment with onnxruntime and tokenizers alone.

A virtual environment is made, these two packages are installed into it and its size on disk is
measured. Folders for classes, entities, answers, vectors and translations are exported, from the
real MiniLM weights (with random heads, whose answers mean nothing but must be the same) and from a
small encoder-decoder with random weights. Each is run there by its own `run.py`, and what it says
is compared with bertlite's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import torch
from encoder_inputs import minilm_folder

PACKAGES = ("onnxruntime", "tokenizers")
TEXTS = [
    "Anna Schmidt moved from Berlin to the coast in 1998.",
    "A dull, lifeless film.",
    "The opera was written by Mozart in 1791, and first performed in Vienna. " * 12,
]
QUESTION = "Who wrote it?"
LIMIT = 250  # MB of the environment


def make_environment(folder: Path) -> Path:
    """The interpreter of a new environment with the two packages."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pins = Path(__file__).parents[1] / "constraints.txt"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "-c"]
    subprocess.run([*command, str(pins), *PACKAGES], check=True)
    return python


def size_of(folder: Path) -> float:
    """MB on disk."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_blocks * 512 for path in files) / 1e6


def save_models(folder: Path) -> dict[str, Path]:
    """A folder for each kind of work."""
    from transformers import AutoTokenizer

    import bertlite
    from bertlite.tokenization import train_joint_bpe

    torch.manual_seed(0)
    found = {"embed": minilm_folder()}
    heads = {
        "classify": ("SequenceClassification", {"num_labels": 3}),
        "tag": ("TokenClassification", {"id2label": {0: "O", 1: "B-PER", 2: "I-PER"}}),
        "answer": ("QuestionAnswering", {}),
    }
    for name, (head, fields) in heads.items():
        model = getattr(bertlite, f"BertLiteFor{head}").from_pretrained(minilm_folder(), **fields)
        model.save_pretrained(folder / name)
        AutoTokenizer.from_pretrained(minilm_folder()).save_pretrained(folder / name)
        found[name] = folder / name
    tokenizer = train_joint_bpe(TEXTS * 20, vocab_size=400)
    config = bertlite.preset(
        "transformer-base", vocab_size=len(tokenizer), d_model=128, init_std=0.2
    )
    config.pad_token_id = config.decoder_start_token_id = tokenizer.pad_token_id
    config.eos_token_id = config.forced_eos_token_id = tokenizer.eos_token_id
    model = bertlite.TransformerLiteForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 30
    model.save_pretrained(folder / "translate")
    tokenizer.save_pretrained(folder / "translate")
    return {**found, "translate": folder / "translate"}


def said_there(python: Path, folder: Path, name: str) -> list:
    """What `run.py` of a folder says in the environment."""
    inputs = [f"{QUESTION}\t{text}" for text in TEXTS] if name == "answer" else TEXTS
    done = subprocess.run(
        [str(python), str(folder / "run.py")],
        input="\n".join(inputs),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    return [json.loads(each) for each in done.stdout.splitlines()]


def said_here(folder: Path, name: str) -> list:
    """What bertlite says."""
    import bertlite

    if name == "answer":
        return bertlite.answer([QUESTION] * len(TEXTS), TEXTS, folder)
    if name == "embed":
        return bertlite.encode(TEXTS, str(folder)).tolist()
    return getattr(bertlite, name)(TEXTS, folder)


def difference(found, expected) -> float:
    """The largest difference of numbers; anything else must be equal."""
    if isinstance(expected, dict):
        return max((difference(found[key], each) for key, each in expected.items()), default=0.0)
    if isinstance(expected, list):
        if len(found) != len(expected):
            raise SystemExit(f"expected {expected!r:.200}, got {found!r:.200}")
        pairs = zip(found, expected, strict=True)
        return max((difference(one, other) for one, other in pairs), default=0.0)
    if isinstance(expected, float):
        return abs(found - expected)
    if found != expected:
        raise SystemExit(f"expected {expected!r}, got {found!r}")
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks export-environment", description=__doc__
    )
    parser.parse_args()
    from bertlite.export.exporting import export_folder

    with tempfile.TemporaryDirectory() as place:
        python = make_environment(Path(place, "environment"))
        size = size_of(Path(place, "environment"))
        listed = [sys.executable, "-m", "pip", "--python", str(python), "list", "--format=freeze"]
        names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
        print(f"environment: {size:.0f} MB of at most {LIMIT}: {', '.join(names)}")
        for name, folder in save_models(Path(place)).items():
            out = Path(place, f"{name}-onnx")
            export_folder(folder, out)
            apart = difference(said_there(python, out, name), said_here(folder, name))
            mib = size_of(out)
            print(f"{name}: the same in the environment, within {apart:.1e}; folder {mib:.0f} MB")
    if size > LIMIT:
        raise SystemExit(f"the environment must take at most {LIMIT} MB, got {size:.0f}")


if __name__ == "__main__":
    main()
