"""What README.md tells people to type works, and says what CI does."""

import ast
import re
from pathlib import Path

import transformers

import bertlite
from bertlite.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = [code for language, code in BLOCKS if language == "bash"]
PYTHON = [code for language, code in BLOCKS if language == "python"]


def test_ci_calls_the_readmes_test_command():
    command = next(code for code in SHELL if "pytest" in code)
    assert command in (ROOT / ".ci" / "run").read_text()


def test_every_command_is_one_that_there_is():
    named = re.findall(r"bertlite ([a-z]+)", "\n".join(SHELL))
    assert "demo" in named
    assert set(named) <= set(COMMANDS)


def test_python_blocks_import_what_there_is():
    imported = []
    for code in PYTHON:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = {"bertlite": bertlite, "transformers": transformers}.get(node.module)
                imported += [(node.module, alias.name) for alias in node.names]
                assert module is None or all(hasattr(module, alias.name) for alias in node.names), (
                    node.module
                )
    assert ("bertlite", "BertLiteForMaskedLM") in imported


def test_links_lead_to_files():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert all((ROOT / link.split("#")[0]).exists() for link in links)


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"BENCH_\w+|TODO|FIXME|XXX", README)
