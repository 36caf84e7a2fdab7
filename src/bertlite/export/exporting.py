"""`export_folder`: a folder that runs without torch, checked before it is there."""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..data.places import check_writable
from ..inference.language_codes import Languages
from ..models.files import NO_LOCKS
from ..version import VERSION
from .checking import check_exact, compare_roughly
from .companions import SETTINGS_FILE, write_companions
from .ctranslate2_format import CTranslate2
from .decoding import tell_writing
from .formats import Format, Onnx, OpenVino, Torch
from .measuring import Measured, measure_int8
from .sources import Source, read_source

FORMATS: dict[str, Format] = {
    each.name: each for each in (Onnx(), OpenVino(), CTranslate2(), Torch())
}


def export_folder(
    model: str | os.PathLike,
    out: str | os.PathLike,
    *,
    format: str = "onnx",
    int8: bool = False,
    data: Any = None,
    task: str | None = None,
    source_language: str | None = None,
    target_language: str | None = None,
) -> dict[str, Any]:
    """Write a folder that runs without torch, transformers and bertlite.

    It holds the graphs, the tokenizer, the config with its labels, and `run.py`, which needs the
    engine, numpy and tokenizers only. It is written beside `out` and moved there once its outputs
    are within 1e-4 of the model's over several shapes with padding. In int8 the task's figure on
    `data` must be within 0.3 points of the model's.

    Args:
        model: a folder or hub name: a BERT with any head, a folder of sentence-transformers, or an
            encoder-decoder.
        out: the folder to write, new or empty.
        format: "onnx", "openvino", "ctranslate2" or "torch".
        int8: whether products are computed in int8.
        data: labelled rows to measure int8 on, as `bertlite.evaluate` takes them; None: how near
            its outputs are to the model's is reported, and judged by nobody.
        task: of an encoder-decoder: "translation", line by line, or "summarization", of whole
            texts; None: as its run or its config says.
        source_language: of models that mark texts with it, the code that the folder goes by where
            nobody says another; None: as its tokenizer is set.
        target_language: likewise the language that is written; None: as its generation config says.

    Returns:
        What was found out: `largest_difference` of each output in fp32, and in int8 `figures`, or
        `cosine` and `agreement`.

    Raises:
        ValueError: what cannot be exported, by name; outputs that differ; a figure that fell.
        OSError: `out` cannot be written.
    """
    chosen = check_options(out, format, int8, data)
    source = read_source(model)
    tell_writing(source, task, Languages(source_language, target_language))
    chosen.refuse(source, int8)
    measured = None if data is None else Measured.read(source, data)
    with whole_export(Path(out)) as folder:
        chosen.write(source, folder)
        report = check_exact(chosen.compared(source, folder))
        write_companions(source, chosen, folder, int8)
        if int8:
            chosen.to_int8(source, folder)
            report |= check_int8(source, chosen, folder, measured)
        note(folder, chosen, report)
    return report


def check_options(out: Any, format: str, int8: bool, data: Any) -> Format:
    """The format; a ValueError for options that do not fit, before anything is loaded."""
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if data is not None and not int8:
        raise ValueError("data must come with int8, which is measured on it")
    target = Path(out)
    if target.exists() and not target.is_dir():
        raise ValueError(f"out must be a folder, got the file {target}")
    if target.is_dir() and any(target.iterdir()):
        raise ValueError(f"out must be new or empty, got {target}, which holds files")
    check_writable("out", target)
    return FORMATS[format]


@contextmanager
def whole_export(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, which takes its place when the block ends, in one rename.

    If the block fails, nothing has changed. What a killed export into `out` has left is removed
    first.

    Raises:
        ValueError: another export into `out` is under way.
    """
    out = Path(os.path.realpath(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{out.name}.exporting"
    with alone(out.with_name(f"{prefix}.lock")) as has_locks:
        for left in out.parent.glob(f"{glob.escape(prefix)}-*") if has_locks else ():
            shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=out.parent))
        try:
            yield scratch
            for path in (scratch, *scratch.rglob("*")):  # onnx makes some for its user alone
                path.chmod((0o777 if path.is_dir() else 0o666) & ~current_umask())
            os.rename(scratch, out)  # over an empty folder too
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Hold a lock, which ends with the process at the latest; False on a disk without locks."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"out must not be written by two exports at a time, got {path.parent}, where another "
            "is under way"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield lock.is_locked
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            path.unlink()
        lock.release()


def current_umask() -> int:
    """The bits that new files of this process do not get."""
    found = os.umask(0o022)
    os.umask(found)
    return found


def check_int8(
    source: Source, chosen: Format, folder: Path, measured: Measured | None
) -> dict[str, Any]:
    """What int8 costs: by the task's figure where there are rows, else by how near it is."""
    if measured is None:
        return compare_roughly(chosen.compared(source, folder))
    compute = None if source.task.name == "translate" else chosen.compute(source, folder)
    return measure_int8(source, compute, folder, measured)


def note(folder: Path, chosen: Format, report: dict[str, Any]) -> None:
    """Add to the settings how the folder was made and what its check has shown."""
    path = folder / SETTINGS_FILE
    settings = json.loads(path.read_text(encoding="utf-8"))
    packages = ("torch", "transformers", "tokenizers", "numpy", *chosen.packages)
    settings["made_with"] = {"bertlite": VERSION, **{each: installed(each) for each in packages}}
    settings["check"] = report
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def installed(package: str) -> str:
    """The version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
