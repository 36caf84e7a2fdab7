"""`bertlite finetune` in two processes ends at the weights of one, within rounding."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertForPreTraining, BertTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "warm", "funny", "dull", "long"]


@pytest.fixture
def given(tmp_path):
    """A tiny BERT without dropout, whose draws would differ, and rows of uneven length."""
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(WORDS), intermediate_size=64, **sizes, **none)
    BertForPreTraining(config).save_pretrained(tmp_path / "bert")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    assert AutoTokenizer.from_pretrained(tmp_path / "bert")("warm film").input_ids[1:-1] == [7, 6]
    rows = [
        f"{'a ' * (n % 5)}{word} film,{word in 'warm funny'}"
        for n in range(6)
        for word in WORDS[7:]
    ]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return tmp_path


def finetune(folder, output, batch_size, launch=()):
    command = [
        *(sys.executable, *launch, "-m", "bertlite.cli.main"),
        *("finetune", "sequence-classification", "--model", "bert", "--train", "reviews.csv"),
        *("--output_dir", output, "--num_train_epochs", "1", "--use_cpu"),
        *("--per_device_train_batch_size", str(batch_size)),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(folder / output / "model.safetensors"), done.stdout


@pytest.mark.slow
def test_two_processes_end_where_one_does(given):
    alone, _ = finetune(given, "one", 8)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    together, said = finetune(given, "two", 4, torchrun)
    assert "2 processes" in said
    start = load_file(given / "bert" / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(alone[name], start[name])
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, atol=1e-6, rtol=1e-5)
