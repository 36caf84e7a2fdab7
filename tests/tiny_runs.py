"""Models, data and arguments small enough to train in a test of the recipes."""

import torch
from datasets import Dataset
from torch import nn
from transformers import (
    TrainingArguments,
)

import bertlite

PAD, END = 0, 1


def tiny_bert(**overrides):
    config = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {**config, "intermediate_size": 48, "max_position_embeddings": 32, **overrides}
    return bertlite.BertLiteForSequenceClassification(bertlite.BertLiteConfig(**config))


def tiny_transformer(**overrides):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 40,
        "d_model": 32,
        "max_position_embeddings": 32,
        "pad_token_id": PAD,
        "eos_token_id": END,
    }
    for side in ("encoder", "decoder"):
        sizes.update({f"{side}_layers": 2, f"{side}_ffn_dim": 48, f"{side}_attention_heads": 2})
    config = {
        **sizes,
        "decoder_start_token_id": PAD,
        "forced_eos_token_id": None,
        "dropout": 0.0,
        **overrides,
    }
    return bertlite.TransformerLiteForConditionalGeneration(
        bertlite.TransformerLiteConfig(**config)
    )


def pairs(count=24):
    """Rows of different lengths: the source reversed is the target."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(count):
        length = int(torch.randint(1, 9, (), generator=generator))
        source = torch.randint(2, 40, (length,), generator=generator).tolist()
        row = {
            "input_ids": [*source, END],
            "attention_mask": [1] * (length + 1),
            "labels": [*source[::-1], END],
        }
        rows.append(row)
    return Dataset.from_list(rows)


class Pad:
    """The padding of `DataCollatorForSeq2Seq`, without a tokenizer."""

    fills = {"input_ids": PAD, "attention_mask": 0, "labels": -100}

    def __call__(self, rows):
        batch = {}
        for name in rows[0]:
            tensors = [torch.as_tensor(row[name]) for row in rows]
            batch[name] = nn.utils.rnn.pad_sequence(
                tensors, batch_first=True, padding_value=self.fills[name]
            )
        return batch


def training_arguments(folder, kind=TrainingArguments, **overrides):
    options = {
        "per_device_train_batch_size": 1,
        "num_train_epochs": 1,
        "report_to": [],
        "logging_steps": 1,
    }
    options.update(use_cpu=True, disable_tqdm=True, save_strategy="no", seed=3, max_grad_norm=0.0)
    return kind(str(folder), **{**options, **overrides})
