"""A checkpoint is whole or refused: checksums, damaged files, kills, and saves at one time."""

import errno
import json
import os
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
import torch
import transformers
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from saving_cases import make, names_in, value_of

import bertlite
from bertlite.models import files

SCRIPT = Path(__file__).parent / "scripts" / "kill_while_saving.py"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 440473133\n"


# What a file's metadata hold.


def test_metadata_that_the_library_wrote_stays(tmp_path, monkeypatch):
    theirs = {"torchao": json.dumps({"Tensor": {"block_size": [1, 32], "é": '"'}}), "empty": ""}
    save = transformers.modeling_utils.safe_save_file
    monkeypatch.setattr(
        transformers.modeling_utils,
        "safe_save_file",
        lambda tensors, path, metadata: save(tensors, path, metadata={**metadata, **theirs}),
    )
    make(5.0).save_pretrained(tmp_path, max_shard_size="10KB")
    monkeypatch.undo()
    for path in tmp_path.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        assert metadata.pop("crc32").isdigit()
        assert metadata == {"format": "pt", **theirs}
    assert value_of(tmp_path) == 5


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"crc32": "0" * 40}])
@pytest.mark.parametrize("count", [1, 50, 63, 64, 65, 200])
def test_a_checksum_moves_the_tensors_and_changes_none(metadata, count, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 64)
    tensors = {"b": torch.arange(count, dtype=torch.int8), "a": torch.randn(count, 3)}
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata=metadata)
    content = path.read_bytes()
    expected = zlib.crc32(content[8 + int.from_bytes(content[:8], "little") :])
    for _ in range(2):  # a second time is no different
        files.add_checksum(path)
        loaded = load_file(path)
        assert loaded.keys() == tensors.keys()
        assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {**(metadata or {}), "crc32": str(expected)}
        files.check_file(path)


# What is checked on loading.


def damage(path: Path, how: str) -> None:
    """Break a weights file in one of the ways in which files break."""
    data = bytearray(path.read_bytes())
    if how == "pointer":
        data = bytearray(POINTER.encode())
    elif how == "bit":
        data[-7] ^= 1
    else:
        data = data[: len(data) // 2]
    path.write_bytes(bytes(data))


WAYS = [("pointer", "git-lfs pointer, run git lfs pull"), ("bit", "checksum"), ("cut", "damaged")]


@pytest.mark.parametrize("how", ["pointer", "bit", "cut"])
def test_a_broken_file_that_is_not_loaded_stops_nothing(how, tmp_path):
    make(1.0).save_pretrained(tmp_path)
    make(2.0).save_pretrained(tmp_path, variant="fp16", max_shard_size="10KB")
    (tmp_path / "sub").mkdir()
    make(3.0).save_pretrained(tmp_path / "sub")
    state = bertlite.BertLiteModel.from_pretrained(tmp_path / "sub").state_dict()
    torch.save(state, tmp_path / "sub/pytorch_model.bin")
    for other in ("model_ema.safetensors", "model-00007-of-00008.safetensors"):
        (tmp_path / other).write_bytes((tmp_path / "model.safetensors").read_bytes())
        damage(tmp_path / other, how)
    assert value_of(tmp_path) == 1
    damage(tmp_path / "model.safetensors", how)
    assert value_of(tmp_path, variant="fp16") == 2
    assert value_of(tmp_path, subfolder="sub") == 3
    damage(tmp_path / "sub/model.safetensors", how)
    assert bertlite.BertLiteModel.from_pretrained(
        tmp_path, subfolder="sub", use_safetensors=False
    ).state_dict()


@pytest.mark.parametrize("dtype", [True, False])
@pytest.mark.parametrize(("how", "message"), WAYS)
@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("kind", ["single", "shards", "variant", "subfolder"])
def test_the_file_that_is_loaded_is_checked(kind, by_name, how, message, dtype, tmp_path):
    """By path and in the hub's cache; also where the library looks into it for its data type."""
    commit = "0" * 40
    repository = tmp_path / "cache/models--someone--model"
    folder = repository / "snapshots" / commit
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    kwargs = {"subfolder": "sub"} if kind == "subfolder" else {}
    kwargs |= {"variant": "fp16"} if kind == "variant" else {}
    where = folder / kwargs.get("subfolder", "")
    size = "10KB" if kind == "shards" else "5GB"
    make(6.0).save_pretrained(where, variant=kwargs.get("variant"), max_shard_size=size)
    if not dtype:
        config = json.loads((where / "config.json").read_text())
        (where / "config.json").write_text(json.dumps({**config, "dtype": None}))
    source = "someone/model" if by_name else folder
    kwargs |= {"cache_dir": tmp_path / "cache", "local_files_only": True} if by_name else {}
    assert value_of(source, **kwargs) == 6
    broken = sorted(where.glob("*.safetensors"))[0]
    damage(broken, how)
    with pytest.raises(ValueError, match=f"{broken.name}: .*{message}"):
        value_of(source, **kwargs)


def test_a_pointer_in_the_place_of_a_pickle(tmp_path):
    make().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_text(POINTER)
    with pytest.raises(ValueError, match="pytorch_model.bin: is a git-lfs pointer"):
        value_of(tmp_path)


@pytest.mark.parametrize("name", ["someone/nothing", "no such//name", "nowhere"])
def test_a_name_that_does_not_exist_gets_the_librarys_error(name, tmp_path):
    messages = []
    for reader in (transformers.BertModel, bertlite.BertLiteModel):
        with pytest.raises(OSError) as caught:
            reader.from_pretrained(name, cache_dir=tmp_path, local_files_only=True)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


# Kills, and saves at the same time.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {}),
        (None, {"max_shard_size": "1KB"}),
        ({"max_shard_size": "1KB"}, {"max_shard_size": "1KB"}),
        ({}, {"max_shard_size": "1KB"}),
        ({"max_shard_size": "1KB"}, {}),
    ],
)
def test_a_kill_at_any_moment_leaves_no_mix(old, new, tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), json.dumps(old), json.dumps(new)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    states, extra = json.loads(done.stdout)
    assert {after for _, after in states} == {"new"}
    assert {before for before, _ in states} <= {"old", "none", "new"}
    assert states[-1][0] == "new"
    assert not extra


def test_what_a_kill_left_is_swept_and_what_is_alive_is_not(tmp_path):
    dead, alive, own = (tmp_path / f"{files.SCRATCH}{name}" for name in ("dead", "alive", "own"))
    for folder in (dead, alive, own):
        (folder / files.WRITING).mkdir(parents=True)
        (folder / files.WRITING / "model.safetensors").write_text("half")
    (own / "notes.txt").write_text("mine")
    (tmp_path / ".bertlite-saving.txt").write_text("mine")
    with FileLock(alive / "lock"):
        make().save_pretrained(tmp_path)
        assert not dead.exists()
        assert (alive / files.WRITING / "model.safetensors").exists()
    make().save_pretrained(tmp_path)
    assert names_in(tmp_path) == {
        "config.json",
        "model.safetensors",
        own.name,
        ".bertlite-saving.txt",
    }


def test_a_save_that_was_cut_short_is_named_and_finished_by_the_next(tmp_path, monkeypatch):
    make(1.0, hidden_act="gelu").save_pretrained(tmp_path)
    rename = os.replace

    def fail(source, destination):
        if str(destination).endswith("model.safetensors"):
            raise OSError(errno.EIO, "broken")
        rename(source, destination)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the next save into it finishes this one") as caught:
        make(2.0, hidden_act="relu").save_pretrained(tmp_path)
    assert caught.value.errno == errno.EIO
    monkeypatch.undo()
    with pytest.raises(ValueError, match="cut short, or is not over yet; save again, or move"):
        value_of(tmp_path)
    make(3.0).save_pretrained(tmp_path, variant="fp16")
    assert (value_of(tmp_path), value_of(tmp_path, variant="fp16")) == (2, 3)


def test_threads_leave_one_whole_model(tmp_path):
    """Each has its own number of shards, activation and weights."""
    acts, sizes = ["gelu", "relu", "silu"], ["5GB", "30KB", "10KB"]
    models = [make(number, hidden_act=act) for number, act in enumerate(acts)]
    alone = []
    for number, size in enumerate(sizes):
        models[number].save_pretrained(tmp_path / size, max_shard_size=size)
        alone.append(names_in(tmp_path / size))
    failed = []

    def save(number: int) -> None:
        try:
            for _ in range(4):
                models[number].save_pretrained(tmp_path / "model", max_shard_size=sizes[number])
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    last = int(value_of(tmp_path / "model"))
    config = bertlite.BertLiteConfig.from_pretrained(tmp_path / "model")
    assert config.hidden_act == acts[last]
    assert names_in(tmp_path / "model") == alone[last]
