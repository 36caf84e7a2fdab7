"""What `fuzzing.py` feeds: readers of files and of requests, and a few right inputs of each."""

import gzip
import io
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from kill_works import base_model
from transformers import BertModel
from transformers.utils import logging

import bertlite
from bertlite.cli.option_files import read_options
from bertlite.data import prepare
from bertlite.inference.loading import load_tokenizer
from bertlite.pretraining.documents import read_documents

# Errors that a user can act on: one line on the command line, a library's own words.
NAMED = (ValueError, OSError, StrictDataclassError)
SQUAD = {"id": "1", "question": "Where?", "answers": [{"text": "London", "answer_start": 13}]}
ARTICLE = {"title": "t", "paragraphs": [{"context": "Ada lived in London.", "qas": [SQUAD]}]}
UNIVERSAL = (
    b"1\tAda\tAda\tPROPN\tNNP\t_\t2\tnsubj\t_\t_\n2\truns\trun\tVERB\tVBZ\t_\t0\troot\t_\t_\n"
)
ROWS: dict[str, tuple[str, bytes]] = {
    "rows.csv": ("sequence-classification", b'text,label\na film,good\n"a, b",bad\nlong,good\n'),
    "rows.tsv": ("sequence-classification", b"text\tlabel\na film\tgood\nb\tbad\nc\tgood\n"),
    "rows.jsonl": (
        "sequence-classification",
        b'{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n{"text": "c", "label": "x"}\n',
    ),
    "scores.json": ("sequence-classification", b'[{"text": "a", "label": 1.5}, {"text": "b"}]'),
    "rows.conll": ("token-classification", b"Ada B-PER\nlives O\n\nin O\nLondon B-LOC\n\n"),
    "rows.conllu": ("token-classification", b"# id\n" + UNIVERSAL + b"\n"),
    "squad.json": ("question-answering", json.dumps({"data": [ARTICLE]}).encode()),
    "pairs.jsonl": ("translation", b'{"translation": {"en": "a", "de": "b"}}\n' * 3),
    "choices.jsonl": ("multiple-choice", b'{"question": "q", "choices": ["a", "b"], "label": 0}\n'),
}


@dataclass
class Target:
    """One reader: a few right inputs, and what feeds it."""

    seeds: list[bytes]
    feed: Callable[[bytes], str]  # "read", or how the input was refused


def refusing(read: Callable[[bytes], Any]) -> Callable[[bytes], str]:
    """What happens to an input; errors that are not named go on."""

    def feed(content: bytes) -> str:
        try:
            read(content)
        except NAMED as error:
            return type(error).__name__
        return "read"

    return feed


def data_target(room: Path, name: str) -> Target:
    """A file of rows, read and checked as `finetune` does."""
    task, content = ROWS[name]

    def read(damaged: bytes) -> None:
        (room / name).write_bytes(damaged)
        prepare(task, train=str(room / name), on_bad_row="skip")

    return Target([content], refusing(read))


def text_target(room: Path) -> Target:
    """Raw text, also compressed, as `pretrain` reads it."""

    def read(content: bytes) -> None:
        name = "docs.txt.gz" if content[:2] == b"\x1f\x8b" else "docs.txt"
        (room / name).write_bytes(content)
        for _ in read_documents([str(room / name)]):
            pass

    text = b"One sentence. Another!\nA line\n\nNext document; that's all.\n"
    return Target([text, gzip.compress(text, mtime=0)], refusing(read))


def options_target(room: Path) -> Target:
    """A file of options, in YAML or JSON."""

    def read(content: bytes) -> None:
        path = room / ("options.json" if content[:1] == b"{" else "options.yaml")
        path.write_bytes(content)
        read_options(str(path))

    yaml = b"model: base\ntrain: [a.csv, b.csv]\nmax_steps: 10\nlora: true\n"
    return Target([yaml, b'{"model": "base", "seeds": [1, 2]}'], refusing(read))


def folder_target(
    room: Path, name: str, load: Callable[[Path], Any], seeds: list[bytes], gone: str = ""
) -> Target:
    """One file of a model's folder, damaged; `gone` is one that it stands in for."""
    folder = room / f"folder-{name}"
    shutil.copytree(room / "plain", folder)
    (folder / gone).unlink() if gone else None

    def read(content: bytes) -> None:
        (folder / name).write_bytes(content)
        try:
            load(folder)
        except RuntimeError as error:  # the library's word for a config of other sizes
            if "ignore_mismatched_sizes" not in str(error):
                raise
            raise ValueError("mismatched sizes") from error

    return Target(seeds, refusing(read))


class Touch:
    """What a pickle does that runs code: it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def load_words(folder: Path) -> Any:
    """The tokenizer of a folder, at work."""
    tokenizer = load_tokenizer("classify", None, str(folder), fast=True)
    return tokenizer("the cat sat on a mat", truncation=True, max_length=8)


def model_targets(room: Path) -> dict[str, Target]:
    """Each file of a folder of weights and tokenizer.

    The folder is as transformers saves it: without checksums, which would refuse any damage.
    """
    base_model(room)
    model = BertModel.from_pretrained(room / "base")
    model.save_pretrained(room / "plain")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(room / "base" / name, room / "plain")
    state = model.state_dict()
    archive = io.BytesIO()
    torch.save(state, archive)
    runs = [pickle.dumps({"a": Touch(room / "mark")}, protocol=number) for number in (0, 2, 4)]
    index = {"metadata": {}, "weight_map": dict.fromkeys(state, "model.safetensors")}
    escaping = {"metadata": {}, "weight_map": dict.fromkeys(state, "../outside.safetensors")}
    load = bertlite.BertLiteModel.from_pretrained
    plain = room / "plain"

    def seeds(name: str) -> list[bytes]:
        return [(plain / name).read_bytes()]

    def files(name: str, given: list[bytes], gone: str = "") -> Target:
        return folder_target(room, name, load, given, gone)

    shown = [json.dumps(each).encode() for each in (index, escaping)]
    words, weights = load_words, "model.safetensors"
    return {
        "config.json": files("config.json", seeds("config.json")),
        weights: files(weights, seeds(weights)),
        "pytorch_model.bin": files("pytorch_model.bin", [archive.getvalue(), *runs], weights),
        f"{weights}.index.json": files(f"{weights}.index.json", shown, weights),
        "tokenizer.json": folder_target(room, "tokenizer.json", words, seeds("tokenizer.json")),
    }


def server_target(room: Path) -> Target:
    """Bodies of requests to a server of two models; the first byte says to which endpoint."""
    from fastapi.testclient import TestClient

    from bertlite.serving.access import Access
    from bertlite.serving.app import make_app
    from bertlite.serving.options import ServingOptions
    from bertlite.serving.server import make_engine

    folders = {"classes": str(room / "base"), "vectors": str(room / "plain")}
    client = TestClient(make_app(make_engine(folders, ServingOptions()), Access(None)))
    client.__enter__()  # starts the engine; the process ends without stopping it
    paths = ["/classify", "/embed", "/v1/embeddings"]
    bodies: list[dict] = [
        {"texts": ["the cat", "a mat"], "text_pair": ["b", "c"], "top_k": 2, "doc_stride": 3},
        {"texts": ["the cat", "a mat"], "pooling": "mean", "normalize": True, "max_length": 9},
        {"input": ["the cat"], "model": "vectors", "encoding_format": "base64"},
    ]

    def feed(content: bytes) -> str:
        reply = client.post(paths[content[0] % 3 if content else 0], content=content[1:])
        if reply.status_code == 200:
            json.loads(reply.content)
            return "read"
        error = reply.json()["error"]
        if reply.status_code >= 500 or not error["message"]:
            raise RuntimeError(f"status {reply.status_code}: {error}")
        return str(reply.status_code)

    seeds = [bytes([place]) + json.dumps(body).encode() for place, body in enumerate(bodies)]
    return Target(seeds, feed)


MAKERS: dict[str, Callable[[Path], Target]] = {
    **{name: lambda room, name=name: data_target(room, name) for name in ROWS},  # type: ignore[misc]
    "docs.txt": text_target,
    "options.yaml": options_target,
    "requests": server_target,
    **{
        name: lambda room, name=name: model_targets(room)[name]  # type: ignore[misc]
        for name in (
            "config.json",
            "model.safetensors",
            "pytorch_model.bin",
            "model.safetensors.index.json",
            "tokenizer.json",
        )
    },
}


def make_target(name: str, room: Path) -> Target:
    """A target by its name; what it writes lies in `room`."""
    logging.set_verbosity(logging.CRITICAL)
    torch.set_num_threads(1)
    if name == "requests":
        model_targets(room)
    return MAKERS[name](room)
