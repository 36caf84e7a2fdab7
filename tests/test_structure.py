"""The shape of the source: who imports whom, how large files and functions are, and a plain core.

Files of `models` travel with checkpoints: they are what a reader and a machine without bertlite
have, so they must be plain.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bertlite
from bertlite.models.families import FAMILIES

SOURCE = Path(bertlite.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
CORE = sorted((SOURCE / "models").glob("*.py"))
EVERY_CORE_FILE = pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)

# A file of the core imports from the lines above its own only.
LEVELS = (
    ("transformer_families", "versions", "config_fields"),
    ("configuration",),
    ("family_configuration",),
    ("parts", "inputs", "files"),
    ("names", "masks", "attention", "embeddings", "losses", "outputs", "seam", "heads", "patches"),
    ("layers",),
    ("checkpoint",),
    ("encoder",),
    ("decoder",),
    ("bert_base", "transformer_base"),
    ("bert_vocabulary",),
    ("modeling_bertlite", "modeling_transformerlite"),
    ("family_heads",),
    ("albert", "roberta", "distilbert", "electra", "modernbert", "mpnet", "modeling_patches"),
    ("vit", "deit", "audio_spectrogram_transformer"),
    ("families",),
    ("auto", "presets", "warm_start", "__init__"),
)
# A room imports from itself, from those on lines above its own, and from those on its line.
ROOMS = (
    ("version", "models"),
    ("backends",),
    ("conversion", "inference", "metrics"),
    ("data", "tasks"),
    ("tokenization", "hub"),
    ("pretraining",),
    ("training",),
    ("export", "inspection", "serving"),
    ("cli",),
    ("__main__",),
)
# What is known to be over a limit: to be made smaller, and then taken from here.
LONG_FILES: set[str] = set()
LONG_FAMILIES = {"albert": 111, "audio_spectrogram_transformer": 109, "modernbert": 175}
LONG_FUNCTIONS = {
    "backends/cpu/search.py:step",
    "cli/demo.py:make_parser",
    "cli/demo.py:train",
    "models/decoder.py:forward",
    "models/bert_vocabulary.py:forward",
    "models/modeling_bertlite.py:forward",
    "models/modeling_transformerlite.py:forward",
    "models/transformer_base.py:forward",
}


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def imports_of(path: Path) -> list[tuple[ast.stmt, str]]:
    """Every import of the package's own, in functions too, as a full module name."""
    here = ["bertlite", *path.relative_to(SOURCE).with_suffix("").parts]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = here[: -node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found += [
                (node, base if node.module else f"{base}.{alias.name}") for alias in node.names
            ]
    return [(node, name) for node, name in found if name.split(".")[0] == "bertlite"]


@EVERY_CORE_FILE
def test_the_core_imports_downwards(path):
    places = {name: place for place, level in enumerate(LEVELS) for name in level}
    assert path.stem in places, "a new file: say in LEVELS where it stands"
    below = {f"bertlite.models.{name}" for name, place in places.items()}
    below = {name for name in below if places[name.split(".")[-1]] < places[path.stem]}
    assert {name for _, name in imports_of(path)} <= below


def test_the_core_names_the_backends_once():
    """They are looked up, not imported: a checkpoint's code runs where there are none."""
    naming = set()
    for path in CORE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value == "bertlite.backends":
                naming.add(path.stem)
    assert naming == {"seam"}


def test_backends_stand_on_the_core_alone():
    for path in sorted((SOURCE / "backends").rglob("*.py")):
        rooms = {name.split(".")[1] for _, name in imports_of(path) if "." in name}
        assert rooms <= {"models", "backends"}, name_of(path)


def test_nothing_imports_the_command_line():
    for path in FILES:
        if path.is_relative_to(SOURCE / "cli") or path.name == "__main__.py":
            continue
        rooms = {name.split(".")[1] for _, name in imports_of(path) if "." in name}
        assert "cli" not in rooms, name_of(path)


def test_rooms_import_downwards():
    ranks = {room: rank for rank, line in enumerate(ROOMS) for room in line}
    for path in FILES:
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room == "__init__":  # which names everything, and imports it when it is asked for
            continue
        assert room in ranks, "a new room: say in ROOMS where it stands"
        for _, name in imports_of(path):
            if "." in name:
                assert ranks[name.split(".")[1]] <= ranks[room], f"{name_of(path)}: {name}"


def test_auto_stands_on_nothing():
    """Importing bertlite runs it, and must import no model."""
    assert not imports_of(SOURCE / "models/auto.py")


@EVERY_CORE_FILE
def test_core_files_import_flatly(path):
    """`from .x import Y` on the file's own level.

    Anything else is not copied, or breaks, when a model is saved.
    """
    for node, name in imports_of(path):
        assert isinstance(node, ast.ImportFrom), name
        assert node.level == 1, name
        assert node.module, name
        assert "." not in node.module, name
        assert node.col_offset == 0, f"{name} is imported inside a function"
    text = path.read_text()
    lines = re.findall(r"^\s*(?:from\s+\.\S*\s+import|import\s+\.)", text, re.MULTILINE)
    assert len(lines) == len({node.lineno for node, _ in imports_of(path)}), (
        "an import line in a docstring counts"
    )


@EVERY_CORE_FILE
def test_the_core_is_plain(path):
    """It asks for no processor and no operation of one: that is the backends' work."""
    text = path.read_text()
    words = re.findall(
        r"mkldnn|onednn|torch\._C|\baten\b|is_cpu|is_cuda|device\.type", text, re.IGNORECASE
    )
    assert not words


def test_files_are_small():
    """Under 600 lines for a modelling file, 400 for any other."""
    too_long = set()
    for path in FILES:
        limit = 600 if path.name.startswith("modeling_") else 400
        if len(path.read_text().splitlines()) >= limit:
            too_long.add(name_of(path))
    assert too_long == LONG_FILES


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef, text: list[str]) -> int:
    """Of its body, without docstring, blank lines and comments."""
    body = function.body
    if ast.get_docstring(function) and len(body) > 1:
        body = body[1:]
    lines = text[body[0].lineno - 1 : body[-1].end_lineno]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


def lines_of_file(path: Path) -> int:
    """Lines of code of a file, imports among them, without docstrings, blank lines and comments."""
    text = path.read_text()
    said: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            said |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    kept = [line.strip() for number, line in lines if number not in said]
    return sum(bool(line) and not line.startswith("#") for line in kept)


def test_families_are_short():
    """At most 80 lines of code, but for those that are known; the page says how many."""
    page = (SOURCE.parents[1] / "docs/families.md").read_text(encoding="utf-8")
    said = dict(re.findall(r"^\| `models/(\w+)\.py` \|.*\| (\d+) \|$", page, re.MULTILINE))
    modules = {family.module for family in FAMILIES.values() if not family.writes}
    modules.remove("modeling_bertlite")  # what the others are short by
    found = {name: lines_of_file(SOURCE / f"models/{name}.py") for name in modules}
    assert {name: each for name, each in found.items() if each > 80} == LONG_FAMILIES
    own = {name: each for name, each in found.items() if name in said}
    assert {name: int(each) for name, each in said.items()} == own
    assert {"roberta", "distilbert", "electra", "mpnet", "albert", "modernbert"} <= set(own)


def test_functions_are_small():
    """Under 40 lines of code."""
    too_long = set()
    for path in FILES:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if lines_of_code(node, text.splitlines()) >= 40:
                too_long.add(f"{name_of(path)}:{node.name}")
    assert too_long == LONG_FUNCTIONS


def found_by_ruff(rule: str, *options: str) -> set[tuple[str, str]]:
    """Files and messages of one of ruff's rules."""
    command = [sys.executable, "-m", "ruff", "check", "--select", rule, "--output-format", "json"]
    done = subprocess.run(
        [*command, *options, str(SOURCE)], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    return {(name_of(Path(each["filename"])), each["message"]) for each in json.loads(done.stdout)}


def test_functions_branch_little():
    """A complexity of at most 8, as ruff counts it."""
    assert not found_by_ruff("C901", "--config", "lint.mccabe.max-complexity=8")


def test_lines_of_the_core_are_as_the_formatter_leaves_them():
    """At most 100 columns, and nothing is kept from it."""
    found = found_by_ruff("E501", "--ignore-noqa")
    assert not {name for name, _ in found if name.startswith("models/")}
    for path in CORE:
        assert not re.search(r"#\s*fmt:\s*(skip|off)", path.read_text()), name_of(path)
