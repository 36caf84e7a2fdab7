"""Saved folders × releases of transformers × with and without bertlite × every Auto class.

    python tests/scripts/travel_matrix.py [--fixtures FOLDER] [--work FOLDER] [RELEASE ...]

Each release gets an environment of its own, which sees the packages of this one behind its own
transformers. What a class makes of a folder must be what bertlite's class makes of it here, within
1e-6, or a refusal that names the release. The exit status is 1 where it is neither.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from safetensors.torch import load_file

from bertlite.hub.checking import ask, inputs_for, largest_difference
from bertlite.hub.classes import fitting_classes, own_class, read_config

FIXTURES = Path(__file__).parent.parent / "fixtures/travelling"
RELEASES = ("5.21.1", "5.22.2", "5.23.0", "5.24.0")
TOLERANCE = 1e-6
# Folders whose code says for which releases it is; older code can only fail or be right.
NAMES_RELEASES = ("0.2",)


def make_environment(release: str, work: Path) -> Path:
    """The interpreter of an environment with this release of transformers."""
    place = work / f"transformers-{release}"
    python = place / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        (packages,) = place.glob("lib/python*/site-packages")
        (packages / "behind.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        command = [str(python), "-m", "pip", "install", "-q", f"transformers=={release}"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return python


def folders(fixtures: Path, work: Path) -> list[Path]:
    """The fixtures as they were saved: each with the code that its config names."""
    made = []
    for version in sorted(path for path in fixtures.iterdir() if path.is_dir()):
        for folder in sorted(path for path in version.iterdir() if path.is_dir()):
            target = work / version.name / folder.name
            shutil.copytree(folder, target, dirs_exist_ok=True)
            if read_config(target).get("auto_map"):
                zipfile.ZipFile(version / "code.zip").extractall(target)
            made.append(target)
    return made


def reference_of(folder: Path) -> dict:
    """What bertlite's own classes make of a folder, here."""
    classes = fitting_classes(folder, read_config(folder))
    asked = {ours: inputs_for(folder, name) for name, ours in classes.items()}
    return answer(sys.executable, folder, asked, without=False)


def answer(python: str, folder: Path, classes: dict, without: bool) -> dict:
    """What a fresh process answers, with the outputs."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "outputs.safetensors"
        trusted = without and bool(read_config(folder).get("auto_map"))
        question = {"folder": str(folder), "classes": classes, "outputs": str(file)}
        found = ask(python, {**question, "without_bertlite": without, "trust_remote_code": trusted})
        return {**found, "outputs": load_file(file) if file.exists() else {}}


def verdicts(python: str, folder: Path, reference: dict, without: bool) -> dict[str, str]:
    """For each Auto class that fits: equal, refused by name, or what is wrong."""
    ours = fitting_classes(folder, read_config(folder))
    asked = {name: inputs_for(folder, name) for name in ours}
    found = answer(python, folder, asked, without)
    own = own_class(folder, read_config(folder))
    made = {}
    for name, report in found["classes"].items():
        known = reference["classes"][ours[name]]
        if name != own and ("refused" in known or known["missing"]):
            continue  # a head that the folder does not hold
        if "refused" in report:
            by_name = "was tested with transformers" in report["refused"]
            made[name] = "refused by name" if by_name else f"FAILED: {report['refused'][:160]}"
        elif report["missing"]:
            made[name] = f"WRONG: {len(report['missing'])} tensors would be random"
        else:
            outputs = reference["outputs"]
            difference = largest_difference(found["outputs"], name, outputs, ours[name], folder)
            equal = difference <= TOLERANCE
            made[name] = "equal" if equal else f"WRONG: differs by {difference:.3g}"
    return made


def is_fault(folder: Path, verdict: str) -> bool:
    """Whether a verdict is one that must not be."""
    if verdict.startswith("WRONG"):
        return True
    return verdict.startswith("FAILED") and folder.parent.name in NAMES_RELEASES


def run(pythons: dict[str, str], fixtures: Path, work: Path, only: tuple[str, ...] = ()) -> int:
    """Print a line for each folder, release and way; the number of faults."""
    faults = 0
    for folder in folders(fixtures, work / "folders"):
        label = f"{folder.parent.name}/{folder.name}"
        if only and label not in only:
            continue
        reference = reference_of(folder)
        for release, python in pythons.items():
            for without in (False, True):
                made = verdicts(python, folder, reference, without)
                wrong = {name: each for name, each in made.items() if is_fault(folder, each)}
                faults += len(wrong) + (not made)
                said = ", ".join(
                    f"{list(made.values()).count(v)} {v}" for v in sorted(set(made.values()))
                )
                where = "without bertlite" if without else "with bertlite"
                print(f"{label}, transformers {release}, {where}: {said}", flush=True)
    print(f"{faults} faults")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="*", default=list(RELEASES))
    parser.add_argument("--fixtures", type=Path, default=FIXTURES)
    parser.add_argument("--work", type=Path, default=Path(".travel"))
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    pythons = {each: str(make_environment(each, work)) for each in arguments.releases}
    return 1 if run(pythons, arguments.fixtures, work) else 0


if __name__ == "__main__":
    sys.exit(main())
