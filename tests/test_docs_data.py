"""Every Python block of `docs/data.md` runs, in order, and writes what the page says."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
from transformers.utils import logging

from bertlite.tasks import TASKS

PAGE = Path(__file__).parents[1] / "docs" / "data.md"
BLOCK = re.compile(
    r"(?:<!-- needs (\w+) -->\n)?```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL
)


def test_the_page_on_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    names: dict = {}
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 20
    try:
        for needed, code, written in blocks:
            if needed and not has(needed):
                continue
            capsys.readouterr()
            exec(compile(code, PAGE.name, "exec"), names)
            assert capsys.readouterr().out == written, code
    finally:
        logging.set_verbosity(level)


def has(package):
    """Whether an optional package is installed."""
    try:
        __import__(package)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("task", TASKS)
def test_the_page_has_an_example_of_each_task(task):
    assert f'prepare("{task}"' in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["cells", "columns", "decisions", "parallel"])
def test_examples_in_docstrings(name):
    results = doctest.testmod(importlib.import_module(f"bertlite.data.{name}"))
    assert results.attempted
    assert not results.failed
