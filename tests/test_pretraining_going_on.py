"""Going on: from a trained BERT (`--model`), past the end of a finished run, after a kill."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from pretraining_cases import (  # noqa: F401
    DOCUMENTS,
    TOKENIZER,
    command,
    one_thread_of_torch,
    text_file,
    tokenizer_folder,
)
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig

import bertlite
from bertlite.cli.pretrain import main
from bertlite.pretraining.starting import check_tokenizer

SIZES = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module", name="few")
def few_documents(tmp_path_factory) -> Path:
    """Enough for runs of two updates, and soon tokenized."""
    file = tmp_path_factory.mktemp("few") / "docs.txt"
    file.write_text("\n\n".join("\n".join(each[:20]) for each in DOCUMENTS[:60]))
    return file


def words(text, output, *more, steps=2) -> list[str]:
    """A short run without a preset or a tokenizer of its own."""
    given = ["--output_dir", output, "--held-out-share", "0.1", "--held-out-batches", "2", "--cpu"]
    given += ["--tokens-per-batch", "512", "--max-lengths", "32", "--lines", "sentence"]
    given += ["--max-steps", steps, "--save-steps", "1", "--keep-checkpoints", "9"]
    return [str(word) for word in (text, *given, *more)]


def bert_folder(path: Path, head: str, **changes) -> Path:
    torch.manual_seed(3)
    model = getattr(transformers, f"Bert{head}")(BertConfig(**{**SIZES, **changes}))
    model.half().save_pretrained(path)
    TOKENIZER.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    ("head", "task", "new"),
    [
        ("ForPreTraining", "next_sentence", []),
        ("ForMaskedLM", "none", ["pooler", "seq_relationship"]),
        ("Model", "none", ["cls.predictions", "seq_relationship"]),
        ("ForSequenceClassification", "none", ["cls.predictions", "seq_relationship"]),
    ],
)
def test_goes_on_from_a_bert(head, task, new, few, tmp_path, caplog):
    """The weights are its own until the first update: a rate of next to nothing leaves them so.

    They are kept in float32, whatever the folder holds; what it lacks is said.
    """
    folder = bert_folder(tmp_path / "bert", head)
    start = load_file(folder / "model.safetensors")
    with caplog.at_level("INFO", logger="bertlite"):
        assert main(words(few, tmp_path / "out", "--model", folder, "--learning-rate=1e-20")) == 0
    made = load_file(tmp_path / "out" / "model.safetensors")
    encoder = {name: tensor for name, tensor in start.items() if "classifier" not in name}
    found = {name: made[name if name in made else f"bert.{name}"] for name in encoder}
    assert {tensor.dtype for tensor in made.values()} == {torch.float32}
    for name, tensor in encoder.items():
        torch.testing.assert_close(found[name], tensor.float(), atol=1e-15, rtol=0, msg=name)
    assert all(any(part in line for line in caplog.messages) for part in new)
    assert ("left out: classifier" in caplog.text) == (head == "ForSequenceClassification")
    note = json.loads((tmp_path / "out" / "pretraining.json").read_text())
    assert (note["task"], note["model"], note["preset"]) == (task, str(folder), None)
    assert (note["learning_rate"], note["vocab_size"]) == (1e-20, None)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Start: `bert`" in card
    assert str(tmp_path) not in card


def test_keeps_casing_and_learns_at_a_lower_rate(few, tmp_path):
    folder = bert_folder(tmp_path / "bert", "ForMaskedLM")
    cased = transformers.BertTokenizer(
        vocab=TOKENIZER.get_vocab(), do_lower_case=False, strip_accents=True
    )
    cased.save_pretrained(folder)
    assert main(words(few, tmp_path / "out", "--model", folder, "--warmup", "0", steps=1)) == 0
    saved = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (saved.do_lower_case, saved.strip_accents) == (False, True)
    assert "case kept, accents taken away" in (tmp_path / "out" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "pretraining.json").read_text())["learning_rate"] == 5e-5
    model = bertlite.BertLiteForMaskedLM.from_pretrained(tmp_path / "out")
    assert model.config.hidden_size == 32


@pytest.mark.slow
def test_a_run_from_a_model_resumes_to_the_same_weights(few, tmp_path):
    folder = bert_folder(tmp_path / "bert", "ForMaskedLM")
    given = ["--model", folder]
    assert main(words(few, tmp_path / "out", *given, steps=3)) == 0
    output = tmp_path / "again"
    shutil.copytree(tmp_path / "out", output, ignore=shutil.ignore_patterns("checkpoint-[23]"))
    assert main(words(few, output, *given, "--resume", steps=3)) == 0
    expected, found = (load_file(run / "model.safetensors") for run in (tmp_path / "out", output))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    with pytest.raises(ValueError, match="--model must be .*bert', as before, got None"):
        main([*words(few, output, "--resume", steps=3), "--tokenizer", str(folder)])


def test_models_and_tokenizers_that_do_not_fit(few, tmp_path):
    folder = bert_folder(tmp_path / "bert", "ForMaskedLM")
    other = transformers.BertTokenizer(
        vocab={token: (number + 1) % 9 for token, number in list(TOKENIZER.get_vocab().items())[:9]}
    )
    other.save_pretrained(tmp_path / "other")
    small = bert_folder(tmp_path / "small", "ForMaskedLM", vocab_size=1000)
    flat = bert_folder(tmp_path / "flat", "ForPreTraining", type_vocab_size=1)
    transformers.GPT2Config().save_pretrained(tmp_path / "gpt2")
    bert_folder(tmp_path / "bare", "ForMaskedLM")
    for path in (tmp_path / "bare").glob("*token*"):
        path.unlink()
    shutil.copytree(folder, tmp_path / "headless")
    (tmp_path / "headless" / "model.safetensors").unlink()
    bert = ["--model", folder]
    for more, message in (
        (["--model", "nowhere"], "--model must be a folder with a config.json, or a hub name"),
        (["--model", tmp_path / "gpt2"], "--model must be a BERT, got model_type 'gpt2'"),
        (["--model", tmp_path / "bare"], "--model must .*tokenizer"),
        (["--model", small], "--model: tokenizer must give ids below .* 1000, got ids up to 1199"),
        (["--model", tmp_path / "headless"], "--model must hold a BERT's weights, got .*headless"),
        (["--model", flat], "--task must be none for --model .*flat.* got next_sentence"),
        ([*bert, "--tokenizer", tmp_path / "other"], "--tokenizer must give the ids"),
        ([*bert, "--preset", "bert-tiny"], "--preset must not be given with --model"),
        ([*bert, "--vocab-size", "900"], "--vocab-size must not be given with --model"),
        ([*bert, "--max-lengths", "65"], "--max-lengths must be at most 64, the positions of --m"),
    ):
        with pytest.raises(ValueError, match=message):
            main(words(few, tmp_path / "out", *more))
        assert not (tmp_path / "out").exists()


def test_repeated_lines_of_a_vocabulary_need_rows(few, tmp_path):
    """Their ids lie beyond `len(tokenizer)`: a table of that length would fail at once."""
    tokens = sorted(TOKENIZER.get_vocab(), key=TOKENIZER.get_vocab().get)
    folder = tmp_path / "twice"
    folder.mkdir()
    lines = [*tokens[:104], "", "the", "the", *tokens[104:], ""]
    (folder / "vocab.txt").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    (folder / "config.json").write_text('{"model_type": "bert"}')
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) < len(lines) - 1
    given = ["--tokenizer", folder, "--preset", "bert-tiny"]
    assert main(words(few, tmp_path / "out", *given, steps=1)) == 0
    config = bertlite.BertLiteConfig.from_pretrained(tmp_path / "out")
    assert config.vocab_size == len(lines) - 1
    model_config = bertlite.BertLiteConfig(**{**SIZES, "vocab_size": len(lines) - 1})
    check_tokenizer(tokenizer, model_config)
    model_config.vocab_size -= 1
    with pytest.raises(ValueError, match="tokenizer must give ids below"):
        check_tokenizer(tokenizer, model_config)


@pytest.fixture(scope="module")
def finished(text, tokenizer, tmp_path_factory) -> Path:
    """A run of four updates over two lengths, ended."""
    output = tmp_path_factory.mktemp("finished") / "run"
    assert main([*command(text, tokenizer, output, steps=4), "--save-steps", "2"]) == 0
    return output


def test_a_finished_run_is_left_as_it_is(finished, text, tokenizer, caplog):
    """Not one step more, not a byte: it says so."""
    note = (finished / "pretraining.json").read_text()
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    again = [*command(text, tokenizer, finished, steps=4), "--save-steps", "2", "--resume"]
    at = again.index("--max-steps")
    with caplog.at_level("INFO", logger="bertlite"):
        assert main(again[:at] + again[at + 2 :]) == 0  # without the option: as before
    assert "is finished, with 4 updates: nothing was done" in caplog.text
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    after.pop(finished / "pretraining.json")  # written anew, the same
    before.pop(finished / "pretraining.json")
    assert after == before
    assert (finished / "pretraining.json").read_text() == note
    with pytest.raises(ValueError, match="--max-steps must be at least 4, as before, got 3"):
        main([*command(text, tokenizer, finished, steps=3), "--resume"])


def test_a_kill_before_the_results_costs_no_step(finished, text, tokenizer, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    for name in ("metrics.json", "model.safetensors"):
        (output / name).unlink()
    assert main([*command(text, tokenizer, output, steps=4), "--save-steps", "2", "--resume"]) == 0
    expected, found = (load_file(run / "model.safetensors") for run in (finished, output))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    figures = [json.loads((run / "metrics.json").read_text()) for run in (finished, output)]
    assert figures[0]["steps"] == figures[1]["steps"] == 4
    assert figures[0]["eval_masked_lm_loss"] == figures[1]["eval_masked_lm_loss"]


def test_a_finished_run_goes_on_with_more_updates(finished, text, tokenizer, tmp_path, monkeypatch):
    """The text goes on where it stopped, in rows of the last length; the first update counts."""
    from bertlite.pretraining import PretrainingTrainer

    seen = []
    plain = PretrainingTrainer.training_step

    def training_step(self, model, inputs, *arguments, **keywords):
        rate = self.optimizer.param_groups[0]["lr"]
        seen.append((self.state.global_step, rate, inputs["input_ids"].shape[1]))
        return plain(self, model, inputs, *arguments, **keywords)

    monkeypatch.setattr(PretrainingTrainer, "training_step", training_step)
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    again = [*command(text, tokenizer, output, steps=8), "--save-steps", "2", "--resume"]
    assert main(again) == 0
    assert [step for step, _, _ in seen] == [4, 5, 6, 7]
    # Linear decay from 1e-3 at the end of one step of warm-up to 0 at step 8.
    expected = [1e-3 * (8 - step) / 7 for step in (4, 5, 6, 7)]
    assert [rate for _, rate, _ in seen] == pytest.approx(expected)
    assert min(length for _, _, length in seen) > 32  # two updates of 32, all others of 64
    assert json.loads((output / "metrics.json").read_text())["steps"] == 8
    note = json.loads((output / "pretraining.json").read_text())
    assert (note["max_steps"], note["planned_steps"]) == (8, 4)


def test_what_a_kill_leaves_is_swept(finished, text, tokenizer, tmp_path, caplog):
    """An empty checkpoint, one without its note, half-written tokens: deleted, and said."""
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    for name in ("checkpoint-30", "checkpoint-6", "tokens/.train-abc", "checkpoint-mine"):
        (output / name).mkdir()
    (output / "checkpoint-6" / "model.safetensors").write_bytes(b"half")
    (output / "checkpoint-4" / "complete.json").unlink()
    with caplog.at_level("INFO", logger="bertlite"):
        again = [*command(text, tokenizer, output, steps=4), "--save-steps", "2", "--resume"]
        assert main(again) == 0
    assert {path.name for path in output.glob("checkpoint-*")} == {
        "checkpoint-2",
        "checkpoint-4",  # trained again from the one before
        "checkpoint-mine",
    }
    assert (output / "checkpoint-4" / "complete.json").exists()
    assert not (output / "tokens" / ".train-abc").exists()
    assert caplog.text.count("which a stop has left half written") == 4
    expected, found = (load_file(run / "model.safetensors") for run in (finished, output))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
