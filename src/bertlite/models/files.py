"""Files of a checkpoint: checked before they are loaded, and saved all or nothing.

A folder is saved in three steps: everything is written into a scratch folder inside the target (so
on the same disk, whatever the target's parent is), each weights file gets its checksum, and the
files are moved up one rename at a time. Who is killed before the third step has changed nothing.
Where more than one file changes, the third step first takes away the weights file (or the index of
its shards) that a reader opens, and puts the new one there last: a reader finds the old files, the
new ones, or no weights, and never a mix.
"""

import errno
import filecmp
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from transformers.utils import cached_file

BLOCK = 1 << 22  # bytes read at a time
CHECKSUM = "crc32"  # the entry of a file's metadata
GIT_LFS = b"version https://git-lfs"  # how the text begins that stands for a file that git left out
LOCK, SCRATCH = ".bertlite-saving.lock", ".bertlite-saving-"
WRITING, WRITTEN = "writing", "written"  # a scratch folder's content, before and after completion
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# One file, a shard, or an index; the library puts a variant before an index's `.json`.
WEIGHTS = re.compile(
    r"(?P<name>.+?)(?P<shard>-\d{5}-of-\d{5})?\.safetensors(\.index(?P<variant>\..+)?\.json)?"
)


@contextmanager
def whole_folder(target: str | os.PathLike) -> Iterator[Path]:
    """An empty folder to save into; its files take their places in `target` when the block ends.

    Of what `target` holds, only files of the same names are replaced, and only shards, index or
    single file of a weights file that has just been replaced are removed. If the block fails,
    nothing has changed. What a killed save left behind is cleared up first. Several threads and
    processes may save into one folder: the last to finish is the one whose files are there.

    Raises:
        OSError: `target` can't be written, or its disk is full.
        ValueError: an adapter cut into shards, which nothing could load again.
    """
    folder = Path(os.path.realpath(target))  # a link stays a link, and may lead to another disk
    scratch: Path | None = None
    alive: FileLock | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder) as has_locks:
            if has_locks:
                _sweep(folder)
            scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
            alive = _hold(scratch / "lock")
        (scratch / WRITING).mkdir()
        yield scratch / WRITING
        _complete(scratch)
        with _locked(folder):
            move_into_place(scratch / WRITTEN, folder)
            os.rename(scratch / WRITTEN, scratch / WRITING)  # what is left was there already
    except (OSError, SafetensorError) as error:
        is_written = scratch is not None and (scratch / WRITTEN).exists()
        state = f"the next save into it finishes this one, from {scratch}" if is_written else ""
        raise _disk_error(error, target, state or "what it held is as it was") from error
    finally:
        if alive is not None:
            alive.release()
        # Once it is written whole, a scratch folder is the only place where those weights are.
        if scratch is not None and not (scratch / WRITTEN).exists():
            shutil.rmtree(scratch, ignore_errors=True)


def _disk_error(error: Exception, target: str | os.PathLike, state: str) -> OSError:
    """One line that names the folder; safetensors tells its reason in words only."""
    said = re.search(r"os error (\d+)", str(error))
    code = error.errno if isinstance(error, OSError) else int(said[1]) if said else errno.EIO
    return OSError(code, f"not saved, {state} ({error})", str(target))


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Keep other saves into `folder` waiting; False on a disk that has no locks."""
    path = folder / LOCK
    lock = _hold(path)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            with suppress(OSError):  # Windows keeps a file that is open
                path.unlink()  # who waits for it sees that it is gone, and makes a new one
            lock.release()


def _hold(path: Path, wait: bool = True) -> FileLock | None:
    """A lock that ends with the process at the latest; None where the disk has none.

    Raises:
        Timeout: another holds it, and `wait` is false.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in NO_LOCKS:
            raise
        return None
    return lock


def _sweep(folder: Path) -> None:
    """Finish what a killed save had written whole, and remove what it had not."""
    for scratch in sorted(folder.glob(f"{SCRATCH}*/")):
        if not {path.name for path in scratch.iterdir()} <= {"lock", WRITING, WRITTEN}:
            continue  # not one of ours
        try:
            lock = _hold(scratch / "lock", wait=False)
        except Timeout:
            continue  # its process is still writing
        if lock is None:
            continue
        if (scratch / WRITTEN).exists():
            move_into_place(scratch / WRITTEN, folder)
        lock.release()  # no other looks at it: who sweeps holds the folder's lock
        shutil.rmtree(scratch, ignore_errors=True)


def _complete(scratch: Path) -> None:
    """Make a written folder ready to be moved, and mark it so."""
    written = scratch / WRITING
    if shards := list(written.glob("adapter_model-*.safetensors")):
        raise ValueError(
            "max_shard_size must leave an adapter in one file, since nothing loads its shards, "
            f"got {len(shards)} of them"
        )
    _drop_code_of_adapters(written)
    for path in sorted(written.glob("*.safetensors")):
        add_checksum(path)
    os.rename(written, scratch / WRITTEN)


def _drop_code_of_adapters(written: Path) -> None:
    """An adapter has no config to name any code."""
    if (written / "adapter_config.json").exists() and not (written / "config.json").exists():
        for path in written.glob("*.py"):
            path.unlink()


def finish_config(
    folder: Path, plain: tuple[str, str] | None, auto_map: Mapping[str, str] | None = None
) -> None:
    """Let a config name transformers' classes, where it can, and only code that is there.

    Args:
        folder: holds a `config.json` that the library has written.
        plain: model type and class of transformers that compute the same, None where none do.
        auto_map: where the classes are to be looked for; the library names the files in which
            they stand.
    """
    config = folder / "config.json"
    before = json.loads(config.read_text(encoding="utf-8"))
    fields = dict(before)
    if plain is not None:
        fields["model_type"], fields["architectures"] = plain[0], [plain[1]]
    named = (fields.pop("auto_map", None) or {}) | dict(auto_map or {})
    there = {key: name for key, name in named.items() if _has_code(folder, name)}
    if there:
        fields["auto_map"] = there
    if fields != before:
        text = json.dumps(fields, indent=2, sort_keys=True) + "\n"  # as the library writes it
        config.write_text(text, encoding="utf-8")


def _has_code(folder: Path, reference: str | list[str | None]) -> bool:
    """Whether the module of `module.Class` is there; `repository--module.Class` is elsewhere."""
    names = [reference] if isinstance(reference, str) else [name for name in reference if name]
    return all("--" in name or (folder / f"{name.split('.')[0]}.py").exists() for name in names)


def move_into_place(written: Path, target: Path) -> None:
    """Move a complete folder's files to where they belong, so that no reader finds a mix.

    A move that was cut short is taken up again by calling this once more.
    """
    names = sorted(str(path.relative_to(written)) for path in written.rglob("*") if path.is_file())
    for name in names:
        if (target / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder stands where a file belongs", name)
    outdated = _outdated(written, target)
    changed = [name for name in names if not _is_same(written / name, target / name)]
    opened = [name for name in names if (match := WEIGHTS.fullmatch(name)) and not match["shard"]]
    if len(changed) + len(outdated) > 1:
        for name in opened:
            (target / name).unlink(missing_ok=True)
    for path in outdated:
        path.unlink()
    for name in sorted(changed, key=lambda name: name in opened):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(written / name, target / name)


def _is_same(new: Path, old: Path) -> bool:
    """Whether a small file has the same content; weights count as changed, unread."""
    return ".safetensors" not in new.name and old.is_file() and filecmp.cmp(new, old, shallow=False)


def _outdated(written: Path, target: Path) -> list[Path]:
    """Shards, index or single file that `target` holds of the weights that `written` replaces."""
    kept = {path.name for path in written.iterdir()}
    for index in written.glob("*.safetensors.index*.json"):
        kept |= shards_of(index)  # an earlier, unfinished move may have put some there already
    replaced = {_weights_name(name) for name in kept} - {None}
    return [
        path
        for path in sorted(target.glob("*.safetensors*"))
        if path.name not in kept and _weights_name(path.name) in replaced
    ]


def _weights_name(name: str) -> str | None:
    """`model.fp16` for its single file, shards and index alike; None for other files."""
    match = WEIGHTS.fullmatch(name)
    return match["name"] + (match["variant"] or "") if match else None


def shards_of(index: Path) -> set[str]:
    """The names of the files that an index points to, all of them in its own folder.

    Raises:
        ValueError: no index, or one that points elsewhere.
    """
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = set(content["weight_map"].values())
        content["metadata"].items()  # to which the library adds
        next(iter(names))
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise ValueError(
            f"{index}: damaged, an index holds metadata and a weight_map of file names"
        ) from error
    for name in names:
        if not isinstance(name, str) or not name or Path(name).name != name:
            raise ValueError(f"{index}: must name files of its own folder, got {name!r}")
    return names


def check_index(source: str, variant: str | None = None, **asked) -> None:
    """Refuse, with a ValueError, an index in the folder `source` that leads out of it.

    The arguments are those of `from_pretrained`.
    """
    folder = Path(source, asked.get("subfolder") or "")
    ending = f".{variant}" if variant else ""
    for kind in ("model{}.safetensors", "pytorch_model{}.bin"):
        if (folder / kind.format(ending)).is_file():
            return
        index = folder / (kind.format("") + f".index{ending}.json")
        if index.is_file():
            shards_of(index)
            return


def file_checksum(path: Path, tensors_only: bool = False) -> str:
    """CRC-32 of a file, or of the tensor bytes of a safetensors file, which follow its header."""
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little") if tensors_only else 0
        return str(_checksum_from(file, start))


def _checksum_from(file: BinaryIO, start: int, shift: int = 0) -> int:
    """CRC-32 of what follows `start`, on the way moved `shift` (less than a block) bytes back."""
    end = file.seek(0, os.SEEK_END)  # now: what is moved makes the file longer
    file.seek(start)
    block, checksum = file.read(BLOCK), 0
    while block:
        checksum = zlib.crc32(block, checksum)
        after = start + len(block)
        following = file.read(min(BLOCK, end - after))  # before its first bytes are written over
        if shift:
            file.seek(start + shift)
            file.write(block)
            file.seek(after + len(following))
        start, block = after, following
    return checksum


def add_checksum(path: Path) -> None:
    """Note the checksum of the tensors in the file's own metadata, and keep what that holds.

    A flipped bit then shows on loading. The file is read once and changed where it stands, so it
    needs no room for a second copy; it must be one that nobody reads yet.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        metadata = header.setdefault("__metadata__", {})
        metadata[CHECKSUM] = "9" * 10  # as long as the longest
        # A writer may have left room. The tensors begin at a multiple of eight, as always.
        room = max(length, -(-len(_json(header)) // 8) * 8)
        metadata[CHECKSUM] = str(_checksum_from(file, 8 + length, room - length))
        file.seek(0)
        file.write(room.to_bytes(8, "little") + _json(header).ljust(room))
        file.flush()
        os.fsync(file.fileno())  # a disk that is full must say so before old files are replaced


def _json(header: dict) -> bytes:
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()


def explain_failure(
    source: str, variant: str | None = None, use_safetensors: bool | None = None, **asked
) -> None:
    """Say what is wrong with the files that the library failed to load, if it is known.

    Args:
        source: a folder or hub name.
        variant: as of `from_pretrained`, like all other arguments.
        use_safetensors: see `variant`.
        asked: see `variant`.

    Raises:
        ValueError: a file that was to be loaded is damaged, or only git-lfs's pointer to it; or a
            save into the folder was killed between two moves.
    """
    where = {key: asked[key] for key in ("cache_dir", "revision", "subfolder") if asked.get(key)}
    where |= {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
    ending = f".{variant}" if variant else ""
    single, index = f"model{ending}.safetensors", f"model.safetensors.index{ending}.json"
    names = [single, index] if use_safetensors is not False else []
    for name in [*names, f"pytorch_model{ending}.bin"]:
        with suppress(OSError):  # no such repository or name: the library's own error says so
            path = cached_file(source, name, **where)
            if path is not None:
                shards = sorted(shards_of(Path(path))) if name == index else [name]
                found = [cached_file(source, shard, **where) for shard in shards]
                check_files(path for path in found if path is not None)
                check_pickle(Path(path))
                return
    folder = Path(source, asked.get("subfolder") or "")
    for scratch in folder.glob(f"{SCRATCH}*/{WRITTEN}"):
        raise ValueError(
            f"{folder}: a save into this folder was cut short, or is not over yet; save again, or "
            f"move the files of {scratch} up"
        )


def check_pickle(path: Path) -> None:
    """Refuse, with a ValueError, a `.bin` file that does not hold plain tensors alone."""
    if path.suffix != ".bin":
        return
    try:
        torch.load(path, map_location="cpu", weights_only=True)  # as "meta", any size fits
    except Exception as error:  # a damaged pickle fails in any way
        code = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it names the code {code[1]}" if code else f"{type(error).__name__} in reading it"
        raise ValueError(
            f"{path}: damaged, or no file of tensors alone ({why}); code in a pickle is not run"
        ) from error


def check_files(paths: Iterable[str | os.PathLike]) -> None:
    """Check every file of a checkpoint, see `check_file`."""
    for path in paths:
        check_file(Path(path))


def check_file(path: Path) -> None:
    """Refuse a damaged weights file; files of other writers hold no checksum to compare.

    Raises:
        ValueError: the file is damaged, or only git-lfs's pointer to it.
    """
    with path.open("rb") as file:
        if file.read(len(GIT_LFS)) == GIT_LFS:
            raise ValueError(
                f"{path}: is a git-lfs pointer, run git lfs pull in its folder to get the weights"
            )
    if path.suffix != ".safetensors":
        return
    try:
        with safe_open(path, framework="pt") as opened:
            expected = (opened.metadata() or {}).get(CHECKSUM)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or no safetensors file ({error})") from error
    if expected is not None and expected != file_checksum(path, tensors_only=True):
        raise ValueError(
            f"{path}: damaged safetensors file, its tensors do not match the checksum {expected} "
            "in its metadata (a program that changes tensors must not copy that entry)"
        )
