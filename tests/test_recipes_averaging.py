"""Averages of checkpoints: by hand, loaded again, refused, and at the end of a `Trainer` run."""

import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import Pad, pairs, tiny_transformer, training_arguments
from transformers import (
    AutoModelForSeq2SeqLM,
    Trainer,
    TrainerCallback,
    TrainerState,
)

from bertlite.training import (
    CheckpointAveraging,
    average_checkpoints,
)


def checkpoints(folder, scales=(1.0, 2.0, 6.0)):
    """Checkpoints of one model, its weights multiplied by `scales`, out of order on purpose."""
    model = tiny_transformer()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for step, scale in zip((90, 100, 1000), scales, strict=True):
        for name, parameter in model.named_parameters():
            parameter.data.copy_(start[name] * scale)
        model.save_pretrained(folder / f"checkpoint-{step}")
        (folder / f"checkpoint-{step}" / "optimizer.pt").write_text("x")
        (folder / f"checkpoint-{step}" / "tokenizer.json").write_text(str(step))
    return start


def test_averages_by_hand_and_loads(tmp_path):
    start = checkpoints(tmp_path)
    (tmp_path / "checkpoint-best").mkdir()  # not one of the run's
    for last, factor in ((3, 3.0), (2, 4.0), (1, 6.0)):
        folder = average_checkpoints(tmp_path, tmp_path / f"average-{last}", last=last)
        model = AutoModelForSeq2SeqLM.from_pretrained(folder)
        for name, parameter in model.named_parameters():
            # Tables of positions are computed: no file holds them, and nothing averages them.
            wanted = start[name] * (1.0 if "embed_positions" in name else factor)
            torch.testing.assert_close(parameter.data, wanted, atol=1e-6, rtol=1e-6)
        assert (folder / "tokenizer.json").read_text() == "1000"
        names = {path.name for path in (tmp_path / "checkpoint-1000").iterdir()} - {"optimizer.pt"}
        assert {path.name for path in folder.iterdir()} == names
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # no scratch left


def write(folder, **tensors):
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_integers_come_from_the_last_and_dtypes_stay(tmp_path):
    first = write(
        tmp_path / "a", w=torch.tensor([1.0, 2.0], dtype=torch.bfloat16), steps=torch.tensor([3])
    )
    second = write(
        tmp_path / "b", w=torch.tensor([2.0, 6.0], dtype=torch.bfloat16), steps=torch.tensor([8])
    )
    made = load_file(average_checkpoints([first, second], tmp_path / "out") / "model.safetensors")
    assert made["steps"].tolist() == [8]
    assert made["w"].dtype == torch.bfloat16
    assert made["w"].tolist() == [1.5, 4.0]


def test_averages_shards(tmp_path):
    start = checkpoints(tmp_path)
    for step in (90, 1000):
        model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / f"checkpoint-{step}")
        model.save_pretrained(tmp_path / "shards" / f"checkpoint-{step}", max_shard_size="10KB")
    assert len(list((tmp_path / "shards" / "checkpoint-90").glob("*.safetensors"))) > 1
    model = AutoModelForSeq2SeqLM.from_pretrained(
        average_checkpoints(tmp_path / "shards", tmp_path / "out", last=2)
    )
    torch.testing.assert_close(model.model.shared.weight.data, start["model.shared.weight"] * 3.5)


def test_averaging_refuses(tmp_path):
    good = write(tmp_path / "good", w=torch.ones(2))
    cases = {
        "w is .*3.* and .*2": write(tmp_path / "shape", w=torch.ones(3)),
        "w is .*float64.*float32": write(tmp_path / "dtype", w=torch.ones(2, dtype=torch.float64)),
        "x is in one of": write(tmp_path / "names", w=torch.ones(2), x=torch.ones(2)),
        "must hold model.safetensors": tmp_path / "missing",
        "damaged": write(tmp_path / "cut", w=torch.ones(2)),
    }
    cut = tmp_path / "cut" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-4])
    for message, bad in cases.items():
        with pytest.raises(ValueError, match=message):
            average_checkpoints([bad, good], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="output must be a new folder"):
        average_checkpoints([good], good)
    with pytest.raises(ValueError, match="at least one folder"):
        average_checkpoints([], tmp_path / "out")
    with pytest.raises(ValueError, match="at least 5 checkpoints, got 0"):
        average_checkpoints(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="last must be at least 1"):
        average_checkpoints(tmp_path, tmp_path / "out", last=0)


@pytest.mark.slow
def test_callback_averages_a_run(tmp_path):
    model = tiny_transformer()
    arguments = training_arguments(
        tmp_path, max_steps=6, save_strategy="steps", save_steps=2, save_total_limit=2
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=pairs(),
        data_collator=Pad(),
        callbacks=[CheckpointAveraging(last=2)],
    )
    trainer.train()
    ends = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (4, 6)]
    averaged = load_file(tmp_path / "averaged" / "model.safetensors")
    assert averaged.keys() == ends[0].keys()
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, (ends[0][name] + ends[1][name]) / 2)
    assert (
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "averaged").num_parameters()
        == model.num_parameters()
    )
    trainer.train()  # again: the old average is replaced
    assert (tmp_path / "averaged" / "model.safetensors").is_file()


@pytest.mark.slow
def test_callback_ignores_what_an_earlier_run_left(tmp_path):
    write(tmp_path / "checkpoint-999", w=torch.ones(2))
    arguments = training_arguments(tmp_path, max_steps=5, save_strategy="steps", save_steps=2)
    averaging = CheckpointAveraging(last=3)  # of the updates 2, 4 and 5
    model = tiny_transformer()
    Trainer(
        model, arguments, train_dataset=pairs(), data_collator=Pad(), callbacks=[averaging]
    ).train()
    ends = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4, 5)]
    averaged = load_file(tmp_path / "averaged" / "model.safetensors")
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, sum(end[name] for end in ends) / 3)


class StopAfter(TrainerCallback):
    """Ends a run before its time, as early stopping does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


@pytest.fixture
def warned():
    """What the library's loggers say."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("bertlite.training.checkpoint_averaging")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_callback_by_hand_where_there_are_too_few(tmp_path, warned):
    """(1 + 3 + 8) / 3 and (2 + 6 + 7) / 3.

    Checkpoint-6 was deleted, checkpoint-999 is of another run.
    """
    for step, weights in {2: [1.0, 2.0], 4: [3.0, 6.0], 8: [8.0, 7.0], 999: [50.0, 50.0]}.items():
        write(tmp_path / f"checkpoint-{step}", w=torch.tensor(weights))
    averaging, state = CheckpointAveraging(last=5), TrainerState(is_world_process_zero=True)
    arguments = training_arguments(tmp_path)
    for state.global_step in (2, 4, 6, 8):
        averaging.on_save(arguments, state, None)
    averaging.on_train_end(arguments, state, None, model=None)
    assert load_file(tmp_path / "averaged" / "model.safetensors")["w"].tolist() == [4.0, 5.0]
    expected = "the last 5 checkpoints were to be averaged, but the run saved 3, which are averaged"
    assert warned == [f"CheckpointAveraging: {expected}"]


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "steps"), [(5, (2, 4)), (3, (2,))])
def test_callback_averages_what_a_stopped_run_saved(tmp_path, stop, steps, warned):
    arguments = training_arguments(tmp_path, max_steps=20, save_strategy="steps", save_steps=2)
    callbacks = [CheckpointAveraging(last=3), StopAfter(stop)]
    Trainer(
        tiny_transformer(),
        arguments,
        train_dataset=pairs(),
        data_collator=Pad(),
        callbacks=callbacks,
    ).train()
    ends = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in steps]
    for name, tensor in load_file(tmp_path / "averaged" / "model.safetensors").items():
        torch.testing.assert_close(tensor, sum(end[name] for end in ends) / len(ends))
    assert len(warned) == 1
    assert f"the run saved {len(steps)}, which are averaged" in warned[0]


def test_callback_keeps_the_weights_of_a_run_stopped_before_its_first_checkpoint(tmp_path, warned):
    arguments = training_arguments(tmp_path, max_steps=20, save_strategy="steps", save_steps=4)
    callbacks = [CheckpointAveraging(last=3), StopAfter(2)]
    model = tiny_transformer()
    Trainer(
        model, arguments, train_dataset=pairs(), data_collator=Pad(), callbacks=callbacks
    ).train()
    assert [path.name for path in tmp_path.iterdir()] == ["averaged"]
    kept = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "averaged").state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, kept[name]), name
    assert len(warned) == 1
    assert "the run saved none" in warned[0]


def test_callback_says_at_the_start_that_a_run_is_short(tmp_path, warned):
    """Two checkpoints of one epoch a piece; the mean of both."""
    arguments = training_arguments(tmp_path, num_train_epochs=2, save_strategy="epoch")
    callbacks = [CheckpointAveraging(last=3)]
    Trainer(
        tiny_transformer(),
        arguments,
        train_dataset=pairs(2),
        data_collator=Pad(),
        callbacks=callbacks,
    ).train()
    ends = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (2, 4)]
    for name, tensor in load_file(tmp_path / "averaged" / "model.safetensors").items():
        torch.testing.assert_close(tensor, (ends[0][name] + ends[1][name]) / 2)
    assert "the run is to save 2 with save_strategy 'epoch'" in warned[0]
    assert "the run saved 2" in warned[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"save_strategy": "no"},
            "save_strategy must save at least one checkpoint to average, got none with .*'no'",
        ),
        (
            {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 2},
            "save_total_limit must be .* at least 3",
        ),
    ],
)
def test_callback_refuses_at_the_start(tmp_path, options, message):
    arguments = training_arguments(tmp_path, max_steps=4, **options)
    trainer = Trainer(
        tiny_transformer(),
        arguments,
        train_dataset=pairs(),
        data_collator=Pad(),
        callbacks=[CheckpointAveraging(3)],
    )
    with pytest.raises(ValueError, match=message):
        trainer.train()
    assert trainer.state.global_step == 0
