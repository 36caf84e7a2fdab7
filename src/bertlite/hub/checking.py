"""Does a saved folder load for everyone, and compute the same for all?

Every Auto class that fits loads it in fresh processes, with bertlite and without, and runs a few
ids; bertlite's own class is what they are held to.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .classes import fitting_classes, own_class, read_config
from .fresh_process import REPORT
from .probe import (
    PROBE_FILE,
    TOLERANCE,
    differences,
    probe_inputs,
    read_probe,
    without_padding,
)

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass
class FolderReport:
    """What was found of a folder.

    Attributes:
        facts: what is as it should be, a line each.
        problems: what is not, a line each; nothing where the folder may be sent.
    """

    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check_folder(
    folder: str | os.PathLike, python: str = sys.executable, tolerance: float = TOLERANCE
) -> FolderReport:
    """Check files, every Auto class with and without bertlite, and the probe where there is one.

    Args:
        folder: where a model is saved.
        python: the interpreter of the processes, such as one with another transformers.
        tolerance: by which outputs may differ, of their size where that is more than 1.

    Returns:
        The facts and the problems.

    Raises:
        ValueError: no folder, no model of bertlite's families, or a damaged file.
    """
    path = Path(folder)
    config = read_config(path)
    report = FolderReport()
    check_weights(path, report)
    classes = fitting_classes(path, config)
    own = own_class(path, config)
    with tempfile.TemporaryDirectory() as scratch:
        for without in (False, True):
            check_process(path, config, classes, own, python, without, Path(scratch), report)
        compare(Path(scratch), path, own, tolerance, report)
    return report


def check_weights(folder: Path, report: FolderReport) -> None:
    """Every weights file that a reader opens is whole; a ValueError names one that is not."""
    from ..models.files import check_files, shards_of

    found = [name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        pickled = [name for name in PICKLES if (folder / name).is_file()]
        came = f"only {pickled[0]}, a pickle" if pickled else "none"
        report.problems.append(
            f"weights must be in safetensors, got {came}: load the model and save it again"
        )
        return
    names = sorted(shards_of(folder / found[0])) if found[0].endswith(".json") else found[:1]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: {found[0]} names {missing[0]}, which is not there")
    check_files(folder / name for name in names)
    size = sum((folder / name).stat().st_size for name in names)
    report.facts.append(f"weights: {len(names)} file(s) of safetensors, {size:,} bytes, whole")


def inputs_for(folder: Path, auto_class: str) -> dict[str, list]:
    """The probe's ids in the form that a head takes."""
    from transformers import PreTrainedConfig

    fields, _ = PreTrainedConfig.get_config_dict(os.fspath(folder))
    sizes = type("Sizes", (), {})()
    names = ["vocab_size", "decoder_vocab_size", "pad_token_id", "max_position_embeddings"]
    names += ["model_type"]
    for name in names:
        setattr(sizes, name, fields.get(name))
    sizes.is_encoder_decoder = bool(fields.get("is_encoder_decoder"))
    sizes.architectures = ["ForMultipleChoice"] if "MultipleChoice" in auto_class else []
    return probe_inputs(sizes)


def check_process(
    folder: Path,
    config: Mapping[str, Any],
    classes: Mapping[str, str],
    own: str,
    python: str,
    without: bool,
    scratch: Path,
    report: FolderReport,
) -> None:
    """Load and run every class in one process; what it made goes to `scratch`."""
    inputs = {name: inputs_for(folder, name) for name in classes}
    asked = dict(inputs)
    if not without:
        asked |= {classes[name]: value for name, value in inputs.items()}
    where = "without bertlite" if without else "with bertlite"
    found = ask(
        python,
        {
            "folder": str(folder.resolve()),
            "classes": asked,
            "outputs": str(scratch / f"{where}.safetensors"),
            "without_bertlite": without,
            # Who has bertlite needs no code; who has not must trust that of the folder, if any.
            "trust_remote_code": without and bool(config.get("auto_map")),
        },
    )
    (scratch / f"{where}.json").write_text(json.dumps(found), encoding="utf-8")
    made = found["classes"][own]
    if "refused" in made:
        report.problems.append(f"{own} {where}: refused, {made['refused']}")
    elif made["missing"]:
        listed = ", ".join(made["missing"][:3])
        report.problems.append(f"{own} {where}: {listed} would be random, no file holds them")
    else:
        release = found["transformers"]
        report.facts.append(f"{own} {where}, transformers {release}: {made['class']}")


def ask(python: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """What a fresh process answers.

    Raises:
        ValueError: it ended without an answer.
    """
    script = Path(__file__).with_name("fresh_process.py")
    package = str(Path(__file__).resolve().parents[2])  # another interpreter may not have it
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(Path(question["outputs"]).parent / "modules"),
        "TRANSFORMERS_VERBOSITY": "error",
    }
    environment.pop("HF_TOKEN", None)  # nothing is fetched, so nothing needs it
    done = subprocess.run(
        [python, "-P", str(script)],
        input=json.dumps({**question, "package": package}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env=environment,
    )
    for line in done.stdout.splitlines():
        if line.startswith(REPORT):
            return json.loads(line.removeprefix(REPORT))
    said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
    raise ValueError(f"the folder could not be loaded in a fresh process: {said}")


def compare(scratch: Path, folder: Path, own: str, tolerance: float, report: FolderReport) -> None:
    """Hold what every class made to what bertlite's made, and that to the probe."""
    from safetensors.torch import load_file

    outputs, found = {}, {}
    for where in ("with bertlite", "without bertlite"):
        file = scratch / f"{where}.safetensors"
        outputs[where] = load_file(file) if file.exists() else {}
        found[where] = json.loads((scratch / f"{where}.json").read_text())["classes"]
    reference = outputs["with bertlite"]
    ours = fitting_classes(folder, read_config(folder))
    for where, made in outputs.items():
        fits = [name for name in ours if is_run(found[where].get(name))]
        worst = 0.0
        for name in fits:
            if not is_run(found["with bertlite"][ours[name]]):
                continue
            difference = largest_difference(made, name, reference, ours[name], folder)
            worst = max(worst, difference)
            if not difference <= tolerance:
                report.problems.append(
                    f"{name} {where}: differs from bertlite's {ours[name].rpartition('.')[2]} by "
                    f"{difference:.3g}, allowed {tolerance:g}"
                )
        if fits:
            report.facts.append(
                f"{len(fits)} Auto classes {where}: the same as bertlite's within {worst:.2g}"
            )
    if (folder / PROBE_FILE).is_file():
        check_against_probe(folder, reference, ours[own], report)
    else:
        report.facts.append(
            f"no {PROBE_FILE}: nothing says what the model computed when it was saved"
        )


def is_run(made: Mapping[str, Any] | None) -> bool:
    """Whether a class loaded all that it needs, and ran."""
    return made is not None and "refused" not in made and not made["missing"]


def largest_difference(
    made: Mapping[str, Any], name: str, reference: Mapping[str, Any], ours: str, folder: Path
) -> float:
    """Between the outputs of two classes at real tokens, by the size of the outputs."""
    inputs, worst = inputs_for(folder, name), 0.0
    for key, value in made.items():
        own, _, output = key.rpartition("/")
        wanted = reference.get(f"{ours}/{output}")
        if own != name or wanted is None:
            continue
        if wanted.shape != value.shape:
            return float("inf")
        value, wanted = (without_padding(output, each, inputs) for each in (value, wanted))
        scale = max(1.0, float(wanted.abs().max()))
        difference = float((value - wanted).abs().max()) / scale
        worst = max(worst, difference) if difference >= 0 else float("inf")  # NaN too
    return worst


def check_against_probe(
    folder: Path, reference: Mapping[str, Any], ours: str, report: FolderReport
) -> None:
    """Hold what the folder's own class made to the probe."""
    probe = read_probe(folder)
    found = {
        output: without_padding(output, value, probe["inputs"])
        for own, _, output, value in (
            (*key.rpartition("/"), value) for key, value in reference.items()
        )
        if own == ours
    }
    lines = differences(probe, found)
    report.problems += [f"{PROBE_FILE}: {line}" for line in lines]
    if not lines:
        report.facts.append(f"{PROBE_FILE}: computes what it did when that was written")
