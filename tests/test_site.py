"""The site of the documentation builds without a network, and no link in it leads nowhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; `--strict` makes every dead link, dead anchor and missing page an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_site_needs_no_network(site):
    loaded = re.compile(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(https?:[^"]*)"')
    for page in site.rglob("*.html"):
        assert not loaded.findall(page.read_text(encoding="utf-8")), page


@pytest.mark.slow
def test_the_reference_shows_arguments_and_errors(site):
    page = (site / "reference" / "functions.html").read_text(encoding="utf-8")
    for function in ("encode", "classify", "finetune", "optimize"):
        assert re.search(rf'id="bertlite\.[\w.]*\.{function}"', page), function
    assert "Raises:" in page


@pytest.mark.slow
def test_every_deviation_of_the_source_is_listed(site):
    page = (site / "differences.html").read_text(encoding="utf-8")
    marked = sum(
        path.read_text(encoding="utf-8").count("Deviation: ")
        for path in (ROOT / "src" / "bertlite").rglob("*.py")
    )
    assert marked > 10
    assert page.count("<code>bertlite/") >= marked


@pytest.mark.slow
def test_files_that_pages_link_to_are_in_the_site(site):
    assert (site / "repository" / "benchmarks" / "results" / "versions" / "versions.html").exists()
