"""`bertlite pretrain` from the command line.

It learns, resumes to the same weights, measures what it says.
"""

import json
from pathlib import Path

import pytest
import torch
from pretraining_cases import (  # noqa: F401
    DOCUMENTS,
    TOKENIZER,
    command,
    one_thread_of_torch,
    options,
    stream,
    text_file,
    tokenizer_folder,
)
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertForPreTraining

import bertlite
from bertlite.cli.pretrain import main
from bertlite.cli.pretrain_options import make_parser
from bertlite.pretraining import PretrainingTrainer, write_token_store
from bertlite.pretraining.training import (
    held_out_figures,
    is_complete,
    last_complete_checkpoint,
    mark_complete,
)


@pytest.fixture(scope="module")
def straight(text, tokenizer, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "straight"
    assert main(command(text, tokenizer, output)) == 0
    return output


def test_writes_what_it_says(straight):
    history = json.loads((straight / "log.json").read_text())
    assert [entry["step"] for entry in history if "loss" in entry] == [2, 4, 6, 8]
    assert history[-1]["processor_seconds"] > history[0]["processor_seconds"] > 0
    figures = json.loads((straight / "metrics.json").read_text())
    assert figures["eval_masked_lm_loss"] < torch.log(torch.tensor(float(len(TOKENIZER)))) + 0.5
    assert 7 * (512 - 64) < figures["tokens_seen"] <= 8 * 512
    assert (straight / "curves.png").read_bytes()[:4] == b"\x89PNG"
    model = bertlite.BertLiteForMaskedLM.from_pretrained(straight)
    assert model.config.hidden_size == 128
    theirs, info = BertForPreTraining.from_pretrained(straight, output_loading_info=True)
    assert not info["missing_keys"]
    tokenizer = AutoTokenizer.from_pretrained(straight)
    inputs = tokenizer("Return a string.", return_tensors="pt")
    ours = bertlite.BertLiteForPreTraining.from_pretrained(straight).eval()
    with torch.no_grad():
        expected = theirs.eval()(**inputs).prediction_logits
        torch.testing.assert_close(ours(**inputs).prediction_logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("step", [3, 6])
def test_resumed_run_gives_the_same_weights(straight, text, tokenizer, tmp_path, step):
    """From before and from within the second phase, with workers, past a checkpoint that a kill
    left half written.
    """
    import shutil

    output = tmp_path / "resumed"
    shutil.copytree(straight, output, ignore=shutil.ignore_patterns("model.safetensors"))
    shutil.copytree(
        straight / f"checkpoint-{step}", output / f"checkpoint-{step}", dirs_exist_ok=True
    )
    for path in output.glob("checkpoint-*"):
        if int(path.name.split("-")[1]) > step:
            (path / "optimizer.pt").write_bytes(b"half")
    assert main(command(text, tokenizer, output, "--resume", "--num-workers", "2")) == 0
    expected, found = (
        load_file(straight / "model.safetensors"),
        load_file(output / "model.safetensors"),
    )
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0)
    start = load_file(straight / f"checkpoint-{step}" / "model.safetensors")
    assert any((start[name] != tensor).any() for name, tensor in expected.items())


def test_trains_a_tokenizer_of_its_own(text, tmp_path):
    given = command(
        text, tmp_path, tmp_path / "out", "--vocab-size", "700", "--task", "none", steps=1
    )
    at = given.index("--tokenizer")
    assert main(given[:at] + given[at + 2 :]) == 0
    assert "unknown rate" in (tmp_path / "out" / "tokenizer_report.txt").read_text()
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == 700
    assert "eval_next_sentence_accuracy" not in json.loads(
        (tmp_path / "out" / "metrics.json").read_text()
    )


def tiny_trainer(folder, store, accumulated: int, seed: int = 0):
    from transformers import TrainingArguments

    torch.manual_seed(0)
    config = bertlite.preset("bert-tiny", vocab_size=len(TOKENIZER), hidden_dropout_prob=0.0)
    config.attention_probs_dropout_prob = 0.0
    model = bertlite.BertLiteForPreTraining(config)
    given = options(short=1.0, tokens=256, updates=2, batches_per_update=accumulated, seed=seed)
    arguments = TrainingArguments(
        str(folder),
        max_steps=2,
        gradient_accumulation_steps=accumulated,
        ignore_data_skip=True,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        max_grad_norm=0.0,
        per_device_train_batch_size=1,
        disable_tqdm=True,
    )
    optimizers = (torch.optim.SGD(model.parameters(), lr=0.1), None)
    return PretrainingTrainer(model, arguments, stream=stream(store, given), optimizers=optimizers)


def test_accumulated_batches_weigh_words_and_pairs_alike(tmp_path):
    """One update over three batches moves the weights as their rows in one batch do.

    Both losses are means over all.
    """
    store = write_token_store(DOCUMENTS, TOKENIZER, tmp_path / "store")
    for seed in range(20):  # until the batches are uneven, or nothing would show
        trainer = tiny_trainer(tmp_path, store, 3, seed)
        batches = list(trainer.train_dataset)[:3]
        if len({len(batch["input_ids"]) for batch in batches}) > 1:
            break
    assert len({len(batch["input_ids"]) for batch in batches}) > 1
    model = tiny_trainer(tmp_path, store, 1).model.train()
    words = sum(int((batch["labels"] != -100).sum()) for batch in batches)
    pairs = sum(len(batch["input_ids"]) for batch in batches)
    loss = torch.zeros(())
    for batch in batches:  # the definition, from full logits
        labels, follows = batch.pop("labels"), batch.pop("next_sentence_label")
        outputs = model(**batch)
        summed = {"reduction": "sum"}
        by_word = outputs.prediction_logits.flatten(0, 1)
        loss = loss + torch.nn.functional.cross_entropy(by_word, labels.flatten(), **summed) / words
        loss = (
            loss
            + torch.nn.functional.cross_entropy(outputs.seq_relationship_logits, follows, **summed)
            / pairs
        )
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    before = {
        name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()
    }
    trainer.args.max_steps = 1
    trainer.create_scheduler = lambda *arguments, **kwargs: None  # constant rate
    trainer.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(trainer.optimizer, factor=1.0)
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        moved = (before[name] - parameter.detach()) / 0.1
        torch.testing.assert_close(
            moved, expected[name], atol=2e-6, rtol=1e-3, msg=lambda text, name=name: name + text
        )


def test_held_out_figures_by_hand():
    # Losses 2 + 4 over 4 tokens, of which 1 right; 3 of 4 pairs right.
    figures = held_out_figures(torch.tensor([6.0, 1, 4, 3, 4], dtype=torch.float64))
    assert figures["masked_lm_loss"] == 1.5
    assert figures["perplexity"] == pytest.approx(4.4816890703)
    assert (figures["masked_lm_accuracy"], figures["next_sentence_accuracy"]) == (0.25, 0.75)


def test_held_out_figures_of_a_model(tmp_path):
    """Against the library's own loss of the same weights over the same batches."""
    store = write_token_store(DOCUMENTS, TOKENIZER, tmp_path / "store")
    trainer = tiny_trainer(tmp_path, store, 1)
    trainer.held_out = list(stream(store, options(updates=3, seed=9)))
    figures = trainer.evaluate()
    trainer.model.save_pretrained(tmp_path / "model")
    theirs = BertForPreTraining.from_pretrained(tmp_path / "model").eval()
    total = tokens = right = pairs = 0
    for batch in trainer.held_out:
        labels, follows = batch["labels"], batch["next_sentence_label"]
        with torch.no_grad():
            inputs = {
                name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")
            }
            outputs = theirs(**inputs)
        logits = outputs.prediction_logits.flatten(0, 1)
        total += float(torch.nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum"))
        tokens += int((labels != -100).sum())
        right += int((outputs.seq_relationship_logits.argmax(-1) == follows).sum())
        pairs += len(follows)
    assert figures["eval_masked_lm_loss"] == pytest.approx(total / tokens, abs=1e-5)
    assert figures["eval_next_sentence_accuracy"] == right / pairs


def test_half_written_checkpoints_are_passed_over(tmp_path):
    for step in (2, 10, 9):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_bytes(b"1234")
        mark_complete(folder)
    assert (
        last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    )  # by number, not by name
    (tmp_path / "checkpoint-10" / "weights").write_bytes(b"12")
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    (tmp_path / "checkpoint-9" / "weights").write_bytes(b"1235")  # of the same size
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    (tmp_path / "checkpoint-2" / "weights").unlink()
    with pytest.raises(ValueError, match="--resume.*checkpoint-10, checkpoint-9, checkpoint-2"):
        last_complete_checkpoint(tmp_path)
    for folder in tmp_path.iterdir():
        (
            folder / "complete.json"
        ).unlink()  # killed before any was whole: nothing is lost by beginning anew
    assert last_complete_checkpoint(tmp_path) is None
    assert not is_complete(tmp_path)


def test_another_run_is_never_overwritten(straight, text, tokenizer):
    with pytest.raises(ValueError, match="give --resume"):
        main(command(text, tokenizer, straight))
    with pytest.raises(ValueError, match="--seed must be 0, as before, got 4"):
        main(command(text, tokenizer, straight, "--resume", "--seed", "4"))


def test_help_names_every_kind_of_input():
    shown = make_parser().format_help()
    for word in (
        "blank lines",
        "rows.jsonl.gz",
        "rows.parquet",
        "hub:NAME",
        "--resume",
        "torchrun",
        "128 512",
    ):
        assert word in shown
