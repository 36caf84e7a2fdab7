"""`bertlite pretrain` as a user meets it.

What it reads, what it refuses before work is lost, other tasks, bfloat16.
"""

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from accelerate import PartialState
from pretraining_cases import (  # noqa: F401
    DOCUMENTS,
    TOKENIZER,
    command,
    one_thread_of_torch,
    text_file,
    tokenizer_folder,
)
from safetensors.torch import load_file
from transformers import BertForPreTraining, GPT2TokenizerFast

from bertlite.cli import main as cli
from bertlite.cli.pretrain import main
from bertlite.pretraining import TokenStore


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max-steps", "0"], "--max-steps must be at least 1, got 0"),
        (["--max-lengths", "600"], "--max-lengths must be one or two numbers from 8 to 512"),
        (["--max-lengths", "4"], "--max-lengths must be one or two numbers from 8 to 512"),
        (
            ["--tokens-per-batch", "20"],
            "--tokens-per-batch must hold a row, got 20 with --max-lengths 64",
        ),
        (["--keep-checkpoints", "1"], "--keep-checkpoints must be at least 2"),
        (["--mask-probability", "2"], "--mask-probability must be above 0"),
        (["--short-probability", "2"], "--short-probability must lie in"),
        (["--max-predictions", "0"], "--max-predictions must be at least 1"),
        (["--vocab-size", "50"], "--vocab-size must not be given with --tokenizer"),
        (["--cased"], "--cased must not be given with --tokenizer, which says so itself"),
        (["--keep_accents"], "--strip-accents and --keep-accents must not be given with --tok"),
        (["--model", "no_such_folder"], "--preset must not be given with --model"),
        (
            ["--report-to", "no_such_thing"],
            "--report-to must name any of .*tensorboard.*, got 'no_such_thing'",
        ),
        (["--report-to", "clearml"], "pip install clearml"),
        (
            ["--tokenizer", "no_such_folder"],
            "--tokenizer must be a folder or hub name of a tokenizer, got 'no_such_f",
        ),
        (
            ["--held-out-share", "0.000001"],
            "--held-out-share must leave at least 2 documents to measure on, got 0 of",
        ),
        (
            ["--held-out-share", "0.999999"],
            "--held-out-share must leave at least 2 documents to train on, got 0 of",
        ),
        (["--held-out-inputs", "no_such.txt"], "--held-out-inputs: .*no_such.txt"),
        (
            ["--held-out-inputs", "EMPTY"],
            "--held-out-inputs must hold documents.*2 to train on, got 0 in .*empty.txt",
        ),
        (["--batches-per-update", "0"], "--batches-per-update must be at least 1"),
        (["--resume"], "--resume: --output-dir must hold a run"),
    ],
)
def test_refused_before_any_work(text, tokenizer, tmp_path, more, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty.txt").write_text("\n \n")
    more = [str(tmp_path / "empty.txt") if word == "EMPTY" else word for word in more]
    with pytest.raises(ValueError, match=message):
        main([*command(text, tokenizer, tmp_path / "out"), *more])
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_without_room_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match="--vocab-size must be at least 105, got 50"):
        main([str(text), "--output_dir", str(tmp_path / "out"), "--vocab_size", "50"])
    with pytest.raises(ValueError, match="--preset must be one of bert-base, .*got 'bert-huge'"):
        main([str(text), "--output_dir", str(tmp_path / "out"), "--preset", "bert-huge"])


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("pretrain", ["x.txt", "--output-dir", "x", "--max-steps", "0"]),
        ("pretrain", ["x.txt", "--output-dir", "x", "--no-such-option"]),
        ("tokenizer", ["train", "wordpiece", "x.txt", "--output-dir", "x", "--no-such-option"]),
        ("tokenizer", ["train", "wordpiece", "no.txt", "--output-dir", "x"]),
        ("convert", ["x", "y", "--head", "none-such"]),
    ],
)
def test_a_wrong_option_needs_no_heavy_import(module, words):
    """It is refused at once: torch and transformers alone take seconds to import."""
    code = f"""
import sys
from bertlite.cli.{module} import main
try:
    main({words!r})
except (ValueError, SystemExit):
    sys.exit(sum(name in sys.modules for name in ("torch", "transformers.trainer")))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "missing.txt",
            None,
            "inputs: input must be a file, folder, pattern or hub:NAME.*missing.txt",
        ),
        (
            "empty.txt",
            "",
            "inputs must hold documents.*2 to train on and 2 to measure on, got 0 in .*empty.txt",
        ),
        (
            "one.txt",
            "One sentence here.\nAnd another.\n",
            "inputs must hold documents.*got 1 in .*one.txt",
        ),
        (
            "rows.jsonl",
            '{"body": "Text."}\n',
            "inputs: .*line 1: must have text in the field 'text'.*--field",
        ),
        ("rows.jsonl", "{broken\n", "inputs: input rows.jsonl line 1: broken JSON"),
        (
            "rows.parquet",
            "PAR1 no",
            "inputs: .*rows.parquet must be a Parquet file",
        ),
        ("words.docx", "", "inputs: input must end in one of .txt"),
        (
            "utf16.txt",
            b"\xff\xfe\n",
            "inputs: .*utf16.txt must be UTF-8, or as its byte-order mark says",
        ),
        (
            "hub:./no_such_data",
            None,
            "inputs: input hub:./no_such_data must be a data set that can be read",
        ),
    ],
)
def test_text_refused_before_any_work(tokenizer, tmp_path, name, content, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = name if name.startswith("hub:") else tmp_path / name
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=message):
        main(command(path, tokenizer, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_refusals_are_one_line(tmp_path, capsys):
    (tmp_path / "empty.txt").touch()
    assert (
        cli.main(["pretrain", str(tmp_path / "empty.txt"), "--output-dir", str(tmp_path / "out")])
        == 2
    )
    printed = capsys.readouterr().err
    assert printed.startswith("bertlite pretrain: error: inputs must hold documents")
    assert printed.count("\n") == 1


def test_output_folders_that_cannot_be(text, tokenizer, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place, message in (
        ("full", "--output-dir must be new or empty"),
        ("file", "--output-dir must be new or empty"),
        ("file/below", "--output-dir must be a folder that can be made"),
    ):
        with pytest.raises(ValueError, match=message):
            main(command(text, tokenizer, tmp_path / place))
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_tokenizers_that_cannot_serve(text, tokenizer, tmp_path):
    backend = {"vocab": {"a": 0, "<|endoftext|>": 1}, "merges": []}
    GPT2TokenizerFast(**backend).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(
        ValueError, match="--tokenizer must have the tokens cls, sep, pad and mask, got .*gpt2"
    ):
        main([*command(text, tokenizer, tmp_path / "out"), "--tokenizer", str(tmp_path / "gpt2")])
    assert not (tmp_path / "out").exists()
    # One that knows next to no character of the text: found when the text is tokenized, before
    # training.
    greek = tmp_path / "greek.txt"
    greek.write_text(
        "\n\n".join(f"Αυτή είναι η πρόταση {number}.\nΚαι άλλη." for number in range(40))
    )
    with pytest.raises(
        ValueError, match="--tokenizer must serve the text, got .*% unknown of the tokens of train"
    ):
        main(command(greek, tokenizer, tmp_path / "out"))


@pytest.fixture(scope="module")
def started(text, tokenizer, tmp_path_factory) -> Path:
    """A run of two updates, with a checkpoint after each."""
    output = tmp_path_factory.mktemp("started") / "run"
    assert main([*command(text, tokenizer, output, steps=2), "--save-steps", "1"]) == 0
    return output


def test_resume_from_damaged_checkpoints(started, text, tokenizer, capfd, caplog):
    """One changed byte is found.

    The checkpoint before it is taken, or, where there is none, nothing is overwritten.
    """
    before = load_file(started / "model.safetensors")
    again = [*command(text, tokenizer, started, steps=2), "--save-steps", "1", "--resume"]

    def damage(step: int) -> None:
        file = started / f"checkpoint-{step}" / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-5] ^= 1
        file.write_bytes(content)

    damage(2)
    with caplog.at_level("INFO", logger="bertlite"):
        assert main(again) == 0
    assert "checkpoint-2, which is not whole" in caplog.text
    assert "Going on from" in caplog.text
    assert "checkpoint-1" in caplog.text
    after = load_file(started / "model.safetensors")
    assert all(torch.equal(after[name], before[name]) for name in before)
    damage(1)
    damage(2)
    with pytest.raises(
        ValueError, match="--resume: .* must hold a whole checkpoint, got damaged ones only"
    ):
        main(again)
    (started / "pretraining.json").write_text("{")
    with pytest.raises(
        ValueError, match="--resume: .*pretraining.json must hold the run's options"
    ):
        main(again)


@pytest.mark.parametrize("task", ["sentence_order", "none"])
def test_other_tasks(text, tokenizer, tmp_path, task):
    """End to end: learns, is measured, and without pairs the pooler is left as it was."""
    output = tmp_path / "out"
    assert (
        main(
            [
                *command(text, tokenizer, output, "--task", task, "--whole-words", steps=4),
                "--warmup",
                "0",
            ]
        )
        == 0
    )
    figures = json.loads((output / "metrics.json").read_text())
    assert ("eval_next_sentence_accuracy" in figures) == (task == "sentence_order")
    first = load_file(output / "checkpoint-3" / "model.safetensors")
    last = load_file(output / "model.safetensors")
    moved = {name for name, tensor in last.items() if not torch.equal(tensor, first[name])}
    assert "bert.embeddings.word_embeddings.weight" in moved
    # Weight decay moves the weights of what has no loss; its bias, which starts at zero, stays
    # there.
    assert bool(last["cls.seq_relationship.bias"].any()) == (task == "sentence_order")
    assert not BertForPreTraining.from_pretrained(output, output_loading_info=True)[1][
        "missing_keys"
    ]


@pytest.mark.slow
def test_bfloat16(text, tokenizer, tmp_path, monkeypatch):
    """`--bf16`.

    The products are bfloat16 ones, weights stay float32, and it learns what float32 does, nearly.
    """
    from bertlite.models.modeling_bertlite import BertLiteForPreTraining

    seen = []
    plain = BertLiteForPreTraining.forward

    def forward(self, *args, **kwargs):
        if self.training:  # not where what it computes is noted, after training
            enabled = torch.is_autocast_enabled("cpu")
            seen.append(torch.get_autocast_dtype("cpu") if enabled else torch.float32)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(BertLiteForPreTraining, "forward", forward)
    losses = {}
    for more in ([], ["--bf16"]):
        output = tmp_path / f"run{len(more)}"
        assert (
            main([*command(text, tokenizer, output, *more, steps=6), "--logging-steps", "1"]) == 0
        )
        history = json.loads((output / "log.json").read_text())
        losses[len(more)] = [entry["loss"] for entry in history if "loss" in entry]
        assert {tensor.dtype for tensor in load_file(output / "model.safetensors").values()} == {
            torch.float32
        }
    assert set(seen[:6]) == {torch.float32}
    assert set(seen[6:]) == {torch.bfloat16}
    assert losses[0] != losses[1]
    # bfloat16 keeps 8 bits: of a loss near 7 that is 0.03 for one rounding, and means of many err
    # less.
    assert losses[1] == pytest.approx(losses[0], abs=0.03)
    assert losses[1][-1] < losses[1][0] - 0.1


@pytest.mark.slow
def test_every_kind_of_input_gives_the_same_tokens(tokenizer, tmp_path):
    """Parquet, JSON lines, and a folder laid out as a data set of the hub, against plain text."""
    texts = ["\n".join(each) for each in DOCUMENTS[:60]]
    rows = [{"body": text, "number": number} for number, text in enumerate(texts)]
    (tmp_path / "plain.txt").write_text("\n\n".join(texts))
    write_rows(tmp_path / "rows.jsonl", rows)
    pandas.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    hub = tmp_path / "hub" / "data"
    hub.mkdir(parents=True)
    pandas.DataFrame(rows[:30]).to_parquet(hub / "train-00000-of-00002.parquet")
    pandas.DataFrame(rows[30:]).to_parquet(hub / "train-00001-of-00002.parquet")
    pandas.DataFrame(rows[:1]).to_parquet(hub / "test-00000-of-00001.parquet")  # not for training
    (tmp_path / "hub" / "README.md").write_text("---\nlicense: psf-2.0\n---\nReal text.\n")
    stores = {}
    for name in ("plain.txt", "rows.jsonl", "rows.parquet", "hub"):
        given = f"hub:{tmp_path / 'hub'}" if name == "hub" else tmp_path / name
        output = tmp_path / f"out-{name}"
        assert main([*command(given, tokenizer, output, steps=1), "--field", "body"]) == 0
        stores[name] = TokenStore(output / "tokens" / "train")
    expected = stores.pop("plain.txt")
    assert len(expected) > 40
    for store in stores.values():
        assert store.ids.tolist() == expected.ids.tolist()
        assert store.document_ends.tolist() == expected.document_ends.tolist()


def test_parts_of_a_hub_data_set(tokenizer, tmp_path, text):
    """`hub:NAME:CONFIG` reads that part only.

    A part that is not there is refused with those that are.
    """
    hub = tmp_path / "hub"
    for part, sentences in (("en", DOCUMENTS[:60]), ("de", [["Ein Satz."], ["Noch einer."]])):
        (hub / part).mkdir(parents=True)
        write_rows(hub / part / "train.jsonl", [{"text": "\n".join(each)} for each in sentences])
    parts = "".join(
        f"- config_name: {part}\n  data_files: {part}/*.jsonl\n" for part in ("en", "de")
    )
    (hub / "README.md").write_text(f"---\nconfigs:\n{parts}---\n")
    assert main(command(f"hub:{hub}:en", tokenizer, tmp_path / "out", steps=1)) == 0
    held_out = TokenStore(tmp_path / "out" / "tokens" / "held_out")
    assert len(TokenStore(tmp_path / "out" / "tokens" / "train")) + len(held_out) == 60
    with pytest.raises(
        ValueError, match="inputs: input .* must be a data set that can be read.*fr.*en"
    ):
        main(command(f"hub:{hub}:fr", tokenizer, tmp_path / "other", steps=1))


def test_processes_that_share_no_device_are_refused(text, tokenizer, tmp_path, monkeypatch):
    """Two launched processes of which each would think that it is alone would write over each
    other.
    """
    PartialState(cpu=True)  # as one that is alone
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match="each process must have a device of its own, got 2 processes for 1 device"
    ):
        main(command(text, tokenizer, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
