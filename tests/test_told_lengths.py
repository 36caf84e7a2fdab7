"""Every way to run a model brings a GPU the lengths of its rows, so that nothing is waited for.

On a CPU nobody asks for them: these tests let it count as a device that is waited for.
"""

import pytest
import torch
from pretraining_cases import (  # noqa: F401
    command,
    one_thread_of_torch,
    text_file,
    tokenizer_folder,
)
from tasks_cases import CLASSIFICATION, QUIET, ROWS, write_rows
from torch import nn
from transformers import AutoTokenizer, BertModel

import bertlite
from bertlite.backends import lengths
from bertlite.cli.pretrain import main
from bertlite.models import encoder

TEXTS = ["the cat sat", "anna went to paris", "bob"]


@pytest.fixture
def told(monkeypatch):
    """What each forward was told: the number of real tokens of each row, or None."""
    seen, check = [], encoder.check_lengths

    def recorded(given, shape, **kwargs):
        found = check(given, shape, **kwargs)
        seen.append(None if found is None else found.sequences)
        return found

    monkeypatch.setattr(encoder, "check_lengths", recorded)
    monkeypatch.setattr(lengths, "WAITED_FOR", ["cuda", "cpu"])
    return seen


@pytest.mark.parametrize("task", [CLASSIFICATION, "token-classification", "multiple-choice"])
def test_fine_tuning(task, base, tmp_path, told):
    rows = write_rows(tmp_path / "rows.jsonl", ROWS[task])
    bertlite.finetune(
        task, base, train=rows, output_dir=tmp_path / "out", arguments=QUIET, say=None
    )
    assert len(told) == 3  # two steps, and the probe that is saved with the model
    assert all(told[:2])


def test_inference(base, told):
    config, tokenizer = (
        bertlite.BertLiteConfig.from_pretrained(base),
        AutoTokenizer.from_pretrained(base),
    )
    bertlite.classify(TEXTS, bertlite.BertLiteForSequenceClassification(config), tokenizer)
    bertlite.tag(TEXTS, bertlite.BertLiteForTokenClassification(config), tokenizer)
    bertlite.encode(TEXTS, bertlite.BertLiteModel(config), tokenizer)
    sizes = {len(ids) for ids in tokenizer(TEXTS)["input_ids"]}
    assert len(told) == 3
    assert all(set(each) == sizes for each in told)


def test_models_that_are_not_ours_are_told_nothing(base, told):
    """Nor are ours on a CPU, which waits for nothing."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    theirs = BertModel.from_pretrained(base).eval()
    vectors = bertlite.encode(TEXTS, theirs, tokenizer, pooling="mean")
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = theirs(**batch).last_hidden_state
    weights = batch["attention_mask"][..., None].float()
    expected = nn.functional.normalize((states * weights).sum(1) / weights.sum(1))
    torch.testing.assert_close(torch.from_numpy(vectors), expected, atol=1e-5, rtol=1e-4)
    lengths.WAITED_FOR.remove("cpu")
    bertlite.encode(TEXTS, bertlite.BertLiteModel.from_pretrained(base), tokenizer)
    assert told == [None]


def test_pretraining(text, tokenizer, tmp_path, told):
    assert main(command(text, tokenizer, tmp_path / "out", steps=2)) == 0
    trained = [each for each in told if each]
    assert len(trained) >= 2
