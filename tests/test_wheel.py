"""The wheel holds every file of the package: code, pages and templates."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = ("pyproject.toml", "README.md", "LICENSE")


@pytest.mark.slow
def test_the_wheel_has_all_files_and_the_command(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for name in NEEDED:
        shutil.copy(ROOT / name, source / name)
    build = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    done = subprocess.run([sys.executable, *build, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = tmp_path.glob("bertlite-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        packed = set(opened.namelist())
        about = next(name for name in packed if name.endswith("entry_points.txt"))
        assert "bertlite = bertlite.cli.main:main" in opened.read(about).decode()
    package = ROOT / "src"
    wanted = {
        path.relative_to(package).as_posix()
        for path in (package / "bertlite").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(wanted) > 150
    assert wanted <= packed, sorted(wanted - packed)
