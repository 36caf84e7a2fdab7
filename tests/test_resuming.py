"""Runs that are killed, finished, full or not a number: what is kept, and what goes on."""

import errno
import json
import shutil

import pytest
import torch
from tasks_cases import ROWS, base_folder, write_rows
from transformers import TrainerCallback

import bertlite
from bertlite import finetune
from bertlite.training.checkpoints import (
    disk_errors,
    is_disk_error,
    is_whole,
    sweep_leftovers,
)
from bertlite.training.measuring import MeasuringTrainer

pytestmark = pytest.mark.slow  # runs that are killed and go on

CLASSIFICATION = "sequence-classification"
QUIET = {"disable_tqdm": True, "use_cpu": True, "per_device_train_batch_size": 2}
STEPS = {**QUIET, "max_steps": 4, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1}
STEPS |= {"save_total_limit": None}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_folder(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def given(base, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", ROWS[CLASSIFICATION])
    return {"model": base, "train": file, "arguments": STEPS, "say": None}


def weights_of(folder):
    return bertlite.BertLiteForSequenceClassification.from_pretrained(folder).state_dict()


def same_weights(one, other):
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-6, rtol=0, msg=name)


class KilledWhileSaving(Exception):
    """Stands for the signal that ends a process."""


@pytest.mark.parametrize("half", ["empty", "weights only", "cut short"])
def test_a_run_that_was_killed_while_it_saved_goes_on(half, given, tmp_path):
    """The last checkpoint is half written: the one before it is taken, and what is left swept."""
    whole = finetune(CLASSIFICATION, output_dir=tmp_path / "whole", **given)
    out = tmp_path / "out"
    finetune(CLASSIFICATION, output_dir=out, **given)
    for name in ("checkpoint-3", "checkpoint-4", "model.safetensors", "metrics.json"):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    broken = out / "checkpoint-3"
    if half == "empty":
        broken.mkdir()
    else:
        shutil.copytree(out / "checkpoint-2", broken)
        (broken / "trainer_state.json").unlink()
        if half == "cut short":
            file = broken / "optimizer.pt"
            file.write_bytes(file.read_bytes()[:100])
        else:
            (broken / "complete.json").unlink()
    (out / "checkpoint-30").mkdir()
    (out / ".metrics.json.part").write_text("{")
    again = finetune(CLASSIFICATION, output_dir=out, resume=True, **given)
    assert again.metrics["train"]["resumed_at"] == 2
    assert again.metrics["train"]["steps"] == 4
    assert not (out / "checkpoint-30").exists()
    assert not (out / ".metrics.json.part").exists()
    assert (out / "checkpoint-3" / "complete.json").is_file()
    same_weights(whole.model.state_dict(), again.model.state_dict())


def test_a_run_without_a_whole_checkpoint_starts_anew(given, tmp_path, caplog):
    out = tmp_path / "out"
    whole = finetune(CLASSIFICATION, output_dir=out, **given)
    for path in out.glob("checkpoint-*"):
        shutil.rmtree(path)
    (out / "checkpoint-1").mkdir()
    again = finetune(CLASSIFICATION, output_dir=out, resume=True, **given)
    assert "holds no whole checkpoint: the run starts anew" in caplog.text
    same_weights(whole.model.state_dict(), again.model.state_dict())


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_anew(given, tmp_path):
    whole, out = finetune(CLASSIFICATION, output_dir=tmp_path / "whole", **given), tmp_path / "out"
    out.mkdir()
    shutil.copy(tmp_path / "whole/run_arguments.json", out)
    (out / ".run_arguments.json.123.part").write_text("{")
    again = finetune(CLASSIFICATION, output_dir=out, resume=True, **given)
    same_weights(whole.model.state_dict(), again.model.state_dict())
    assert not list(out.glob(".*.part"))
    for path in out.glob("checkpoint-*"):
        shutil.rmtree(path)
    with pytest.raises(ValueError, match="resume must find a checkpoint"):  # a finished run
        finetune(CLASSIFICATION, output_dir=out, resume=True, **given)


class CountSteps(TrainerCallback):
    def __init__(self):
        self.steps = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1


@pytest.mark.parametrize(
    "length", [{"max_steps": 3}, {"num_train_epochs": 1, "max_steps": -1}, {"max_steps": 6}]
)
def test_a_finished_run_says_so_and_trains_no_step_more(length, given, tmp_path):
    out, counted, said = tmp_path / "out", CountSteps(), []
    given["arguments"] = {**STEPS, **length}
    first = finetune(CLASSIFICATION, output_dir=out, **given)
    given.update(say=said.append, callbacks=[counted])
    again = finetune(CLASSIFICATION, output_dir=out, resume=True, **given)
    assert counted.steps == 0
    assert any(
        f"is finished, after {first.metrics['train']['steps']} steps" in each for each in said
    )
    assert again.metrics == first.metrics
    same_weights(first.model.state_dict(), again.model.state_dict())


def test_a_finished_run_with_a_best_checkpoint_keeps_it(given, tmp_path):
    out, counted = tmp_path / "out", CountSteps()
    given["arguments"] = {**QUIET, "num_train_epochs": 3, "learning_rate": 0.01}
    given["validation"] = given["train"]
    first = finetune(CLASSIFICATION, output_dir=out, early_stopping=1, **given)
    saved = weights_of(out)
    again = finetune(
        CLASSIFICATION, output_dir=out, early_stopping=1, resume=True, callbacks=[counted], **given
    )
    assert counted.steps == 0
    assert again.metrics == first.metrics
    same_weights(saved, weights_of(out))


def test_more_epochs_go_on_from_a_finished_run(given, tmp_path):
    out = tmp_path / "out"
    finetune(CLASSIFICATION, output_dir=out, **given)
    given["arguments"] = {**STEPS, "max_steps": 6}
    again = finetune(CLASSIFICATION, output_dir=out, resume=True, **given)
    assert (again.metrics["train"]["resumed_at"], again.metrics["train"]["steps"]) == (4, 6)


class Poison(TrainerCallback):
    """From the third step on, the weights are no numbers."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2:
            model.classifier.weight.data.fill_(float("nan"))


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(given, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="training loss must be a number, got NaN .* after step 2"):
        finetune(CLASSIFICATION, output_dir=out, callbacks=[Poison()], **given)
    assert sorted(path.name for path in out.glob("checkpoint-*")) == [
        "checkpoint-1",
        "checkpoint-2",
    ]
    assert all(tensor.isfinite().all() for tensor in weights_of(out / "checkpoint-2").values())
    again = finetune(CLASSIFICATION, output_dir=out, resume=True, **given)
    assert again.metrics["train"]["resumed_at"] == 2


class Spoil(TrainerCallback):
    """After the third step's loss, before it is saved, the weights become no numbers."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 3:
            model.classifier.weight.data.fill_(float("inf"))


def test_weights_that_are_no_numbers_are_not_saved(given, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="got NaN or infinity after step 3"):
        finetune(CLASSIFICATION, output_dir=out, callbacks=[Spoil()], **given)
    assert not (out / "checkpoint-3").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        RuntimeError("[enforce fail at inline_container.cc:778] . PytorchStreamWriter failed"),
    ],
)
def test_a_full_disk_is_one_line_and_keeps_the_last_whole_checkpoint(
    error, given, tmp_path, monkeypatch
):
    out, save = tmp_path / "out", MeasuringTrainer._save_optimizer_and_scheduler

    def full(self, folder):
        if self.state.global_step == 3:
            raise error
        save(self, folder)

    monkeypatch.setattr(MeasuringTrainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(ValueError, match="output_dir must be on a disk .* checkpoint-2 is whole"):
        finetune(CLASSIFICATION, output_dir=out, **given)
    monkeypatch.undo()
    again = finetune(CLASSIFICATION, output_dir=out, resume=True, **given)
    assert again.metrics["train"]["resumed_at"] == 2


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    assert not is_disk_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_disk_error(FileNotFoundError(errno.ENOENT, "No such file or directory"))
    with pytest.raises(KeyError), disk_errors(tmp_path):
        raise KeyError("a bug")


def test_checkpoints_of_an_earlier_version_are_taken_and_left_alone(given, tmp_path):
    """They have no note of their files: the state that is written last says that they are whole."""
    out = tmp_path / "out"
    first = finetune(CLASSIFICATION, output_dir=out, **given)
    for name in ("checkpoint-3", "checkpoint-4"):
        shutil.rmtree(out / name)
    for path in out.glob("checkpoint-*/complete.json"):
        path.unlink()
    (out / "checkpoint-9").mkdir()
    (out / "checkpoint-9" / "trainer_state.json").write_text('{"global_step"')
    again = finetune(CLASSIFICATION, output_dir=out, resume=True, **given)
    assert again.metrics["train"]["resumed_at"] == 2
    assert (out / "checkpoint-1").is_dir()
    assert not (out / "checkpoint-9").exists()
    same_weights(first.model.state_dict(), again.model.state_dict())


def test_damaged_checkpoints_are_not_thrown_away(given, tmp_path):
    out = tmp_path / "out"
    finetune(CLASSIFICATION, output_dir=out, **given)
    for path in out.glob("checkpoint-*/model.safetensors"):
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="whole checkpoint in output_dir, got damaged ones only"):
        finetune(CLASSIFICATION, output_dir=out, resume=True, **given)
    assert len(list(out.glob("checkpoint-*"))) == 4


def test_a_checkpoint_that_is_named_is_taken(given, tmp_path):
    out = tmp_path / "out"
    first = finetune(CLASSIFICATION, output_dir=out, **given)
    given["arguments"] = {**STEPS, "resume_from_checkpoint": str(out / "checkpoint-2")}
    again = finetune(CLASSIFICATION, output_dir=out, **given)
    assert again.metrics["train"]["resumed_at"] == 2
    same_weights(first.model.state_dict(), again.model.state_dict())
    given["arguments"] = {**STEPS, "resume_from_checkpoint": str(out / "checkpoint-7")}
    with pytest.raises(ValueError, match="last or the folder of a checkpoint, got .*checkpoint-7"):
        finetune(CLASSIFICATION, output_dir=out, **given)


def test_adapters_and_class_weights_go_on(given, tmp_path):
    """Checkpoints of adapters hold them alone; the resumed run ends as the whole one does."""
    out, more = tmp_path / "out", {"lora": True, "class_weights": "1,4"}
    whole = finetune(CLASSIFICATION, output_dir=tmp_path / "whole", **given, **more)
    finetune(CLASSIFICATION, output_dir=out, **given, **more)
    for name in ("checkpoint-3", "checkpoint-4"):
        shutil.rmtree(out / name)
    again = finetune(CLASSIFICATION, output_dir=out, resume=True, **given, **more)
    assert again.metrics["train"]["resumed_at"] == 2
    same_weights(whole.model.state_dict(), again.model.state_dict())


def test_several_seeds_go_on_where_they_were_killed(given, tmp_path):
    """The second run was killed: the first trains no step more, the third starts."""
    out, counted = tmp_path / "out", CountSteps()
    whole = finetune(CLASSIFICATION, output_dir=tmp_path / "whole", seeds=[1, 2, 3], **given)
    finetune(CLASSIFICATION, output_dir=out, seeds=[1, 2, 3], **given)
    shutil.rmtree(out / "seed-3")
    for name in ("checkpoint-3", "checkpoint-4"):
        shutil.rmtree(out / "seed-2" / name)
    again = finetune(
        CLASSIFICATION, output_dir=out, seeds=[1, 2, 3], resume=True, callbacks=[counted], **given
    )
    assert counted.steps == 2 + 4
    for seed in (1, 2, 3):
        same_weights(
            weights_of(tmp_path / "whole" / f"seed-{seed}"), weights_of(out / f"seed-{seed}")
        )
    assert again.metrics["seeds"] == whole.metrics["seeds"]
    assert json.loads((out / "metrics.json").read_text())["seeds"]["kept"] == 1


def test_a_checkpoint_without_weights_is_not_whole(tmp_path):
    """What a kill leaves of one that was being removed: its note went first, its state is there."""
    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    (folder / "trainer_state.json").write_text('{"global_step": 4}')
    assert not is_whole(folder)
    (folder / "model.safetensors").write_bytes(b"")  # of an earlier version, which had no note
    assert is_whole(folder)
    (folder / "model.safetensors").unlink()
    sweep_leftovers(tmp_path)
    assert not folder.exists()
