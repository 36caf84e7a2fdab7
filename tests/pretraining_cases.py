"""Real documents for the tests of pretraining.

Python's own documentation strings, which every machine has.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizer

from bertlite.pretraining import (
    BatchStream,
    MaskingOptions,
    PairOptions,
    Phase,
    StreamOptions,
    write_token_store,
)
from bertlite.pretraining.sentences import sentences_of
from bertlite.tokenization import train_wordpiece

MODULES = (
    "argparse",
    "asyncio",
    "collections",
    "concurrent",
    "csv",
    "datetime",
    "decimal",
    "difflib",
    "email",
)
MODULES += (
    "functools",
    "html",
    "http",
    "importlib",
    "inspect",
    "io",
    "itertools",
    "json",
    "logging",
)
MODULES += (
    "pathlib",
    "pickle",
    "random",
    "re",
    "socket",
    "sqlite3",
    "statistics",
    "string",
    "subprocess",
    "tarfile",
)
MODULES += (
    "tempfile",
    "textwrap",
    "threading",
    "typing",
    "unittest",
    "urllib",
    "uuid",
    "xml",
    "zipfile",
    "doctest",
)
MODULES += ("fractions", "multiprocessing", "turtle")


def members(name: str):
    module = importlib.import_module(name)
    yield module
    if hasattr(module, "__path__"):
        for child in pkgutil.iter_modules(module.__path__, f"{name}."):
            if not child.name.endswith(
                ("__main__", "popen_spawn_win32", "windows_events", "windows_utils")
            ):
                yield importlib.import_module(child.name)


def documents() -> list[list[str]]:
    """A document for each class or module with a description of some length.

    Its own text and its methods'.
    """
    found = {}
    for name in MODULES:
        for module in members(name):
            kept = [value for value in vars(module).values() if inspect.isclass(value)]
            for value in [module, *kept]:
                parts = [value, *(vars(value).values() if inspect.isclass(value) else ())]
                texts = [
                    text
                    for part in parts
                    if isinstance(text := getattr(part, "__doc__", None), str)
                ]
                text = "\n".join(
                    " ".join(inspect.cleandoc(each).split())
                    for each in texts
                    if each is not int.__doc__
                )
                if len(text) > 300:
                    found[text] = sentences_of(text, "paragraph")
    return sorted(found.values())


DOCUMENTS = documents()
TOKENIZER: BertTokenizer = train_wordpiece([" ".join(each) for each in DOCUMENTS], vocab_size=1200)
CLS, SEP, MASK = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.mask_token_id


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return write_token_store(DOCUMENTS, TOKENIZER, tmp_path_factory.mktemp("tokens") / "store")


def options(
    task="next_sentence", length=64, updates=10, short=0.1, masking=None, **overrides
) -> StreamOptions:
    return StreamOptions(
        phases=(Phase(length, updates),),
        tokens_per_batch=overrides.pop("tokens", 512),
        pairs=PairOptions(task=task, short_probability=short),
        masking=MaskingOptions(**masking or {}),
        **overrides,
    )


def stream(store, given: StreamOptions, **place) -> BatchStream:
    return BatchStream(store, TOKENIZER, given, **place)


@pytest.fixture(scope="module", autouse=True, name="one_thread")
def one_thread_of_torch():
    """Two threads may add in another order from one run to the next, and runs are compared bit by
    bit here.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", name="text")
def text_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("text") / "docs.txt"
    file.write_text("\n\n".join("\n".join(each) for each in DOCUMENTS[:250]))
    return file


@pytest.fixture(scope="module", name="tokenizer")
def tokenizer_folder(tmp_path_factory) -> Path:
    TOKENIZER.save_pretrained(folder := tmp_path_factory.mktemp("tokenizer"))
    return folder


def command(text, tokenizer, output, *more, steps=8) -> list[str]:
    given = {
        "tokenizer": tokenizer,
        "output-dir": output,
        "max-steps": steps,
        "preset": "bert-tiny",
    }
    given |= {
        "tokens-per-batch": 512,
        "save-steps": 3,
        "eval-steps": 4,
        "logging-steps": 2,
        "held-out-share": 0.1,
    }
    given |= {"learning-rate": 1e-3, "held-out-batches": 2, "keep-checkpoints": 5}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    lengths = ["--max-lengths", "32", "64", "--long-share", "0.5"]
    return [str(text), *words, "--lines", "sentence", "--cpu", *lengths, *more]
