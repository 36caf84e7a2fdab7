"""Which checkpoint a run goes on from, what a kill left behind, and what a full disk means."""

import errno
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging

from ..pretraining.training import MARKER, is_complete, step_of

logger = logging.get_logger(__name__)
STATE = "trainer_state.json"
# What the system says of a disk that takes nothing more.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
# The same, of libraries that pass on the words alone (safetensors, torch.save).
DISK_WORDS = re.compile(
    "no space left|quota exceeded|read-only file system|file too large|failed writing file"
    "|unexpected pos|inline_container|permission denied",
    re.IGNORECASE,
)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is as it was written.

    Of one without the note of its files (an earlier version wrote it, or a kill came just before
    the note), the state that is written last decides, beside weights: those are gone where a kill
    came while it was removed.
    """
    if (checkpoint / MARKER).exists():
        return is_complete(checkpoint)
    if not any(checkpoint.glob("*.safetensors")) and not any(checkpoint.glob("*.bin")):
        return False
    try:
        return steps_trained(checkpoint) == step_of(checkpoint)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def numbered(folder: Path) -> list[Path]:
    """The checkpoints in a folder, whole or not, the newest first."""
    found = [
        path
        for path in folder.glob("checkpoint-*")
        if path.is_dir() and path.name.split("-", 1)[1].isdigit()
    ]
    return sorted(found, key=step_of, reverse=True)


def find_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint of a run, None where there is none.

    One that a kill left half written, or that was damaged, is passed over with a warning.

    Raises:
        ValueError: checkpoints that once were whole are all damaged: beginning anew would throw the
            run away.
    """
    damaged = []
    for path in numbered(folder):
        if is_whole(path):
            return path
        logger.warning(f"Passing over {path}, which is not whole")
        damaged += [path.name] if (path / MARKER).exists() else []
    if damaged:
        raise ValueError(
            f"resume must find a whole checkpoint in output_dir, got damaged ones only, "
            f"{', '.join(damaged)}: bring one back, or delete them to begin anew"
        )
    return None


def sweep_leftovers(folder: Path) -> None:
    """Remove what a kill left half written: checkpoints, and files that were to be renamed.

    Checkpoints that once were whole, and all other files, are left alone.
    """
    for path in numbered(folder):
        if not (path / MARKER).exists() and not is_whole(path):
            logger.warning(f"Removing {path}, which was half written")
            shutil.rmtree(path, ignore_errors=True)  # another process may be faster
    for path in [*folder.glob(".averaged-*"), *folder.glob(".*.part")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def steps_trained(checkpoint: Path | None) -> int:
    """The updates that a checkpoint holds; 0 without one."""
    if checkpoint is None:
        return 0
    return json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["global_step"]


def is_disk_error(error: BaseException) -> bool:
    """Whether an error says that the disk took nothing more."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return True
    return bool(DISK_WORDS.search(str(error)))


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk into one line that says what is still there.

    Raises:
        ValueError: such an error; any other goes on as it is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) or not is_disk_error(error):
            raise
        try:
            checkpoint = find_checkpoint(folder)
        except ValueError:
            checkpoint = None
        kept = "no checkpoint was whole yet"
        if checkpoint is not None:
            kept = f"{checkpoint.name} is whole: make room and go on with resume"
        raise ValueError(
            f"output_dir must be on a disk that can be written, got {folder}: "
            f"{' '.join(str(error).split())[:200]}; {kept}"
        ) from error
