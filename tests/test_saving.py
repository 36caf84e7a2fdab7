"""Saving over what a folder holds already: nothing of the user's is lost, wherever it lies."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest
import transformers
from cases import bert_config, randomize
from saving_cases import make, names_in, value_of

import bertlite

OWN = [
    "model_ema.safetensors",
    "model_ema-00001-of-00002.safetensors",
    "model_ema.safetensors.index.json",
    "model-best.safetensors",
    "model.ema.safetensors",
    "my_model.safetensors",
    "pytorch_model.bin",
    "optimizer.safetensors",
    "notes.txt",
]


@pytest.fixture
def small_disk(tmp_path):
    """Makes a disk of so many bytes, where the machine allows it."""
    mounted = []

    def mount(size: int, options: str = "rw") -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no right to mount a disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


# What stays.


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("first", ["5GB", "10KB"])
@pytest.mark.parametrize("second", ["5GB", "10KB"])
def test_own_files_and_other_variants_stay(variant, first, second, tmp_path):
    other = None if variant else "fp16"
    for name in OWN:
        (tmp_path / name).write_text(name)
    make(1.0).save_pretrained(tmp_path, variant=variant, max_shard_size=first)
    kept = names_in(tmp_path)
    make(2.0).save_pretrained(tmp_path, variant=other, max_shard_size=second)
    assert kept <= names_in(tmp_path)
    assert [(tmp_path / name).read_text() for name in OWN] == OWN
    assert (value_of(tmp_path, variant=variant), value_of(tmp_path, variant=other)) == (1, 2)


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_of_the_file_that_was_replaced_go(variant, tmp_path):
    alone = {}
    for size in ("10KB", "5GB", "30KB", "10KB"):
        if size not in alone:
            make().save_pretrained(tmp_path / size, variant=variant, max_shard_size=size)
            alone[size] = names_in(tmp_path / size)
    assert len(alone["10KB"]) > len(alone["30KB"]) > len(alone["5GB"])
    for value, size in enumerate(("10KB", "5GB", "30KB", "10KB", "30KB", "5GB")):
        make(value).save_pretrained(tmp_path / "model", variant=variant, max_shard_size=size)
        assert names_in(tmp_path / "model") == alone[size]
        assert value_of(tmp_path / "model", variant=variant) == value


@pytest.mark.parametrize("size", ["5GB", "10KB"])
def test_an_adapter_beside_its_base(size, tmp_path):
    from peft import LoraConfig

    model = randomize(bertlite.BertLiteForSequenceClassification(bert_config()))
    model.save_pretrained(tmp_path, max_shard_size=size)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.add_adapter(LoraConfig(target_modules=["query"], r=2))
    with pytest.raises(ValueError, match="max_shard_size must leave an adapter in one file.*got"):
        model.save_pretrained(tmp_path, max_shard_size=100)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    model.save_pretrained(tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() - before.keys() == {"adapter_config.json", "adapter_model.safetensors"}
    assert {name: after[name] for name in before} == before


# Where the folder lies.


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(exists, tmp_path):
    real = tmp_path / "elsewhere" / "real"
    if exists:
        real.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(real)
    make(3.0).save_pretrained(link)
    assert link.is_symlink()
    assert value_of(real) == 3


def test_a_mount_point_and_a_link_to_another_disk(small_disk, tmp_path):
    disk = small_disk(10_000_000)
    for target in (disk, tmp_path / "link"):
        if target != disk:
            target.symlink_to(disk)
        make(4.0).save_pretrained(target)
        assert value_of(target) == 4


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_is_written_beside_the_folder(exists, tmp_path, monkeypatch):
    """So that a parent that is read-only does not matter; root may write everywhere."""
    target = tmp_path / "model"
    if exists:
        target.mkdir()
    seen = []
    rename = os.replace
    monkeypatch.setattr(
        os, "replace", lambda *both: (seen.append(os.listdir(tmp_path)), rename(*both))
    )
    make().save_pretrained(target)
    assert seen
    assert all(found == ["model"] for found in seen)


# What a disk needs.


def test_beside_the_old_file_there_is_room_for_one_only(tmp_path, monkeypatch):
    model = make(1.0, num_hidden_layers=6)
    model.save_pretrained(tmp_path)
    old = sum(path.stat().st_size for path in tmp_path.iterdir())
    sizes = []
    for name in ("fsync", "rename", "replace"):
        change = getattr(os, name)

        def watched(*both, change=change):
            sizes.append(sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()))
            return change(*both)

        monkeypatch.setattr(os, name, watched)
    model.save_pretrained(tmp_path)
    assert len(sizes) > 2
    assert old < max(sizes) <= 2 * old


def test_a_full_disk(small_disk):
    folder = small_disk(4_000_000) / "model"
    make(1.0).save_pretrained(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    large = make(2.0, num_hidden_layers=2, vocab_size=40_000)
    with pytest.raises(OSError, match="what it held is as it was.*model'$") as caught:
        large.save_pretrained(folder)
    assert caught.value.errno == errno.ENOSPC
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_read_only_disk(small_disk):
    disk = small_disk(4_000_000, "ro")
    with pytest.raises(OSError, match="not saved, .*Read-only.*model'$") as caught:
        make().save_pretrained(disk / "model")
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename"])
def test_an_error_before_the_move_changes_nothing(call, tmp_path, monkeypatch):
    make(1.0).save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*args, **kwargs):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="what it held is as it was.*quota exceeded") as caught:
        make(2.0).save_pretrained(tmp_path)
    monkeypatch.undo()
    assert caught.value.filename == str(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_process_that_is_not_the_main_one_writes_nothing(tmp_path):
    make().save_pretrained(tmp_path, is_main_process=False)
    assert not list(tmp_path.iterdir())


# The code beside the weights.


class InAUsersModule(bertlite.BertLiteModel):
    """A subclass that its author has not registered."""


def named_code(folder: Path) -> set[str]:
    """The files that `auto_map` names, all of which must be there."""
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    named = {f"{name.split('.')[0]}.py" for name in auto_map.values()}
    assert named <= {path.name for path in folder.iterdir()}
    return named


@pytest.mark.parametrize("module", [__name__, "__main__", "no.such.module"])
def test_a_users_subclass_names_no_code_that_is_not_there(module, tmp_path, monkeypatch):
    monkeypatch.setattr(InAUsersModule, "__module__", module)
    InAUsersModule(bert_config()).save_pretrained(tmp_path)
    assert named_code(tmp_path) == {"configuration.py"}
    InAUsersModule.from_pretrained(tmp_path)
    transformers.AutoModel.from_pretrained(tmp_path)


def test_a_users_subclass_that_is_registered_travels(tmp_path, monkeypatch):
    text = "from bertlite import BertLiteModel\n\n\nclass Mine(BertLiteModel):\n    pass\n"
    (tmp_path / "module_of_mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    import module_of_mine

    module_of_mine.Mine.register_for_auto_class("AutoModel")
    module_of_mine.Mine(bert_config()).save_pretrained(tmp_path / "saved")
    assert named_code(tmp_path / "saved") == {"configuration.py", "module_of_mine.py"}
    assert (tmp_path / "saved/module_of_mine.py").read_text() == text


def test_a_folder_that_went_through_transformers_names_its_code_again(tmp_path):
    make(1.0).save_pretrained(tmp_path / "ours", with_code=True)
    ours = named_code(tmp_path / "ours")
    transformers.BertModel.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    model = bertlite.BertLiteModel.from_pretrained(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "again", with_code=True)
    assert named_code(tmp_path / "again") == ours == {"configuration.py", "modeling_bertlite.py"}
