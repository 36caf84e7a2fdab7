"""Files of a checkpoint: whole or not at all."""

import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file


def save_folder(write: Callable[[Path], None], target: Path) -> None:
    """Write a folder aside and move it into place (placeholder until the saving rework lands)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        written = Path(scratch, "folder")
        write(written)
        for path in written.glob("*.safetensors"):
            add_checksum(path)
        target.mkdir(exist_ok=True)
        for path in sorted(written.iterdir()):
            os.replace(path, target / path.name)


def move_into_place(written: Path, target: Path) -> None:
    """Move a complete folder to where it belongs."""
    target.mkdir(exist_ok=True)
    for path in sorted(written.iterdir()):
        os.replace(path, target / path.name)


def file_checksum(path: Path, tensors_only: bool = False) -> str:
    """CRC-32 of a file, or of the tensor bytes of a safetensors file, which follow its header."""
    checksum = 0
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little") if tensors_only else 0)
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return str(checksum)


def add_checksum(path: Path) -> None:
    """Note the checksum of the tensors in the file's own metadata."""
    part = path.with_suffix(".part")
    save_file(load_file(path), part, metadata={"format": "pt", "crc32": file_checksum(path, True)})
    os.replace(part, path)


def check_file(path: Path) -> None:
    """Refuse a damaged safetensors file with a ValueError."""
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get("crc32")
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or no safetensors file ({error})") from error
    if expected is not None and expected != file_checksum(path, tensors_only=True):
        raise ValueError(
            f"{path}: damaged safetensors file, its tensors do not match the checksum {expected}"
        )
