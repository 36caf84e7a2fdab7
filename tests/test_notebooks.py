"""Each notebook runs from a clean kernel and says what it is about without naming this machine."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 500_000  # bytes, pictures included
# What makes a notebook long, and shorter in a test: the pictures in the file are of the whole.
SHORTER = {
    "03_fine_tuning": {
        "read_reviews(), 320, 300)": "read_reviews(), 128, 60)",
        "[:150]  # for": "[:40]  # for",
        "for _ in range(200)]": "for _ in range(80)]",
        "for _ in range(120)]": "for _ in range(40)]",
        '"num_train_epochs": 3}': '"num_train_epochs": 1}',
        "in range(240)]": "in range(80)]",
        "in range(100)]": "in range(40)]",
        '"num_train_epochs": 4}': '"num_train_epochs": 1}',
    },
    "05_pretraining": {"steps = 2800\n": "steps = 400\n"},
}
EVERY_NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# A path from the root of a Unix system, or of a Windows drive.
ABSOLUTE = re.compile(r"(?<![\w./:])/(?:home|root|Users|work|tmp|usr|opt|var|mnt)/|\b[A-Z]:\\")


def texts_of(notebook) -> list[str]:
    """Sources and textual outputs."""
    found = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found.append(output.get("text", ""))
            found += [
                str(value)
                for kind, value in output.get("data", {}).items()
                if kind.startswith("text/")
            ]
    return found


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 5


@EVERY_NOTEBOOK
def test_a_notebook_is_fit_to_be_read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S.*\?", first.source), "a title that asks the notebook's question"
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < LARGEST
    for text in texts_of(notebook):
        assert not ABSOLUTE.search(text), text[:200]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.source.strip()
            kinds = [(output.output_type, output.get("name")) for output in cell.outputs]
            assert ("error", None) not in kinds
            assert ("stream", "stderr") not in kinds, "warnings do not belong before a reader"


@pytest.mark.parametrize("text", ["see /home/me/x", "'/tmp/run'", "C:\\Users"])
def test_absolute_paths_are_seen(text):
    assert ABSOLUTE.search(text)


@pytest.mark.parametrize(
    "text", ["https://example.org/home/x", "src/usr/local", "and/or", "B: \\alpha"]
)
def test_other_slashes_are_not(text):
    assert not ABSOLUTE.search(text)


@pytest.mark.slow
@EVERY_NOTEBOOK
def test_a_notebook_runs(path, monkeypatch, tmp_path):
    """From a clean kernel in an empty folder, offline.

    A cell that fails is an error. The kernel has one thread, as every process of the tests: two
    that wait for each other on a busy machine take many times as long.
    """
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # nobody's own startup files
    notebook = nbformat.read(path, as_version=4)
    for whole, short in SHORTER.get(path.stem, {}).items():
        (cell,) = (cell for cell in notebook.cells if whole in cell.source)
        cell.source = cell.source.replace(whole, short)
    place = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(notebook, kernel_name="python3", resources=place)
    client.execute()
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "every cell ran, in order"
