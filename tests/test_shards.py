"""Shares of several processes: rows in order, each shard once, whole or not there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from inference_cases import TEXTS, bert, same, wordpiece

import bertlite
from bertlite.cli.main import main
from bertlite.cli.shards import Shards, Share

LINES = [f"{TEXTS[number % 3]} {number}" for number in range(23)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("model")
    bert("SequenceClassification", wordpiece(), labels=["bad", "good"]).save_pretrained(found)
    wordpiece().save_pretrained(found)
    return str(found)


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return str(file)


def vectors_of(folder):
    return np.concatenate([np.load(each) for each in sorted(folder.glob("shard-*.npy"))])


def answers_of(folder):
    files = sorted(folder.glob("shard-*.jsonl"))
    return [json.loads(line) for each in files for line in each.read_text().splitlines()]


def as_process(monkeypatch, rank, count):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(count))


def test_each_process_writes_its_share(folder, texts, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ["encode", folder, texts, "--output-dir", str(out), "--shard-rows", "5"]
    as_process(monkeypatch, 1, 2)
    assert main(words) == 0
    assert [each.name for each in sorted(out.glob("shard-*"))] == [
        "shard-000001.npy",
        "shard-000003.npy",
    ]
    assert not (out / "whole.json").exists()
    as_process(monkeypatch, 0, 2)
    assert main(words) == 0
    assert json.loads((out / "whole.json").read_text()) == {"rows": 23, "shards": 5}
    np.testing.assert_allclose(vectors_of(out), bertlite.encode(LINES, folder), atol=1e-5)


def test_predict_writes_shards_too(folder, texts, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ["predict", folder, texts, "--output_dir", str(out), "--shard_rows", "4"]
    for rank in (0, 1, 2):
        as_process(monkeypatch, rank, 3)
        assert main(words) == 0
    found = answers_of(out)
    assert [each["text"] for each in found] == LINES
    expected = bertlite.classify(LINES, folder)
    same([{"label": each["label"], "score": each["score"]} for each in found], expected, 1e-5)


def test_what_is_there_is_not_done_again(folder, texts, tmp_path):
    out = tmp_path / "out"
    words = ["encode", folder, texts, "--output-dir", str(out), "--shard-rows", "5"]
    assert main(words) == 0
    before = vectors_of(out)
    (out / "shard-000002.npy").unlink()
    np.save(out / "shard-000000.npy", np.zeros((5, 32), np.float32))
    assert main(words) == 0
    after = vectors_of(out)
    assert not after[:5].any()  # it was left as it was
    np.testing.assert_array_equal(after[5:], before[5:])


def test_a_shard_is_whole_or_not_there(tmp_path):
    shards = Shards(tmp_path / "out", 2, ".txt", Share())
    shards.begin({})

    def write(path, rows):
        path.write_text(rows[0])
        if "c" in rows:
            raise OSError(28, "No space left on device")
        path.write_text("".join(rows))

    with pytest.raises(OSError, match="No space"):
        shards.write("abcde", write)
    assert sorted(each.name for each in shards.folder.iterdir()) == [
        "plan.json",
        "shard-000000.txt",
    ]
    assert shards.write("abcde", lambda path, rows: path.write_text("".join(rows))) == [1, 2]
    assert [shards.path(number).read_text() for number in range(3)] == ["ab", "cd", "e"]


def test_other_rows_or_options_are_refused(folder, texts, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["encode", folder, texts, "--output-dir", str(out), "--shard-rows", "5"]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "--pooling", "cls"]) == 2
    assert "begun with pooling None, now 'cls'" in capsys.readouterr().err
    assert main([*words[:-1], "6"]) == 2
    assert "shard_rows 5, now 6" in capsys.readouterr().err
    Path(texts).write_text("others\n")
    assert main(words) == 2
    assert "--output-dir must be new for other rows" in capsys.readouterr().err
    words[4] = str(tmp_path)
    assert main(words) == 2
    assert "--output-dir must be new or empty" in capsys.readouterr().err


def test_one_file(folder, texts, tmp_path, monkeypatch, capsys):
    file = tmp_path / "vectors.npy"
    words = ["encode", folder, texts, "--output", str(file), "--pooling", "max", "--no-normalize"]
    assert main(words) == 0
    expected = bertlite.encode(LINES, folder, pooling="max", normalize=False)
    np.testing.assert_allclose(np.load(file), expected, atol=1e-5)
    as_process(monkeypatch, 0, 2)
    for command in (words, ["predict", folder, texts]):
        capsys.readouterr()
        assert main(command) == 2
        assert "must be given for 2 processes" in capsys.readouterr().err
    assert main(["encode", folder, texts]) == 2
    assert "takes --output or --output-dir, got neither" in capsys.readouterr().err


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"],
    "accelerate": ["accelerate.commands.launch", "--num_processes", "2", "--cpu"],
}


def launch(launcher, *words):
    """A command in two processes, which make a group that can be killed."""
    start = [sys.executable, "-m", *LAUNCHERS[launcher], "-m", "bertlite.cli.main", *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(start, env=env, start_new_session=True, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_two_processes_and_a_kill(folder, tmp_path):
    """Killed in the middle under torchrun; finished under accelerate, and nothing is done twice."""
    lines = LINES * 100
    file, out = tmp_path / "texts.txt", tmp_path / "out"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ("encode", folder, str(file), "--output-dir", str(out), "--shard-rows", "20")
    process = launch("torchrun", *words)
    limit = time.monotonic() + 120
    while len(list(out.glob("shard-*"))) < 3:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < limit
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)
    time.sleep(0.2)
    made = {each: each.stat().st_mtime_ns for each in out.glob("shard-*")}
    assert 3 <= len(made) < 115
    assert not (out / "whole.json").exists()
    process = launch("accelerate", *words)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said.decode()
    assert json.loads((out / "whole.json").read_text()) == {"rows": 2300, "shards": 115}
    assert made == {each: each.stat().st_mtime_ns for each in made}
    np.testing.assert_allclose(vectors_of(out), bertlite.encode(lines, folder), atol=1e-5)


def test_options_that_change_rows_are_of_the_plan(folder, tmp_path, capsys):
    """Not those that change no answer: after a want of memory, smaller batches go on."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    words = ["predict", folder, str(rows), "--output_dir", str(tmp_path / "out")]
    assert main([*words, "--prediction_batch_size", "4"]) == 0
    assert main([*words, "--device", "cpu"]) == 0
    assert main([*words, "--on_bad_row", "skip"]) == 2
    assert "begun with on_bad_row 'stop', now 'skip'" in capsys.readouterr().err
    assert main([*words, "--encoding", "cp1252"]) == 2
    assert "begun with encoding None, now 'cp1252'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["encode", "predict"])
def test_another_model_in_the_same_folder_is_refused(command, folder, texts, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "model")
    words = [command, str(tmp_path / "model"), texts, "--output-dir", str(tmp_path / "out")]
    assert main([*words, "--shard-rows", "9"]) == 0
    bert("SequenceClassification", wordpiece(), labels=["bad", "good"]).save_pretrained(
        tmp_path / "model"
    )
    assert main([*words, "--shard-rows", "9"]) == 2
    assert "begun with weights" in capsys.readouterr().err


def test_where_it_cannot_write_is_said_before_the_work(folder, texts, tmp_path, capsys):
    for output, message in (
        (tmp_path, f"--output must be a file to write to, got the folder {tmp_path}"),
        (Path(texts, "v.npy"), "--output must be in a folder that can be written"),
    ):
        with mock.patch("bertlite.cli.prediction_input.open_input") as opened:
            assert main(["encode", folder, texts, "--output", str(output)]) == 2
        assert not opened.called
        assert message in capsys.readouterr().err
