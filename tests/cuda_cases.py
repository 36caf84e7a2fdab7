"""Models, batches and comparisons for the tests of the CUDA backend; nothing runs on a GPU."""

import copy

import torch
from cases import bert_config, randomize, transformer_config

import bertlite
from bertlite.models.inputs import IGNORED

LENGTHS = [9, 5, 7, 2]
BERT_HEADS = [
    "BertLiteForMaskedLM",
    "BertLiteForPreTraining",
    "BertLiteForSequenceClassification",
    "BertLiteForTokenClassification",
    "BertLiteForQuestionAnswering",
    "BertLiteForNextSentencePrediction",
    "BertLiteForMultipleChoice",
]
WRITER = "TransformerLiteForConditionalGeneration"


def make(name: str, **overrides):
    """A model with large weights, the same at each call."""
    config = (transformer_config if name.startswith("Transformer") else bert_config)(**overrides)
    return randomize(getattr(bertlite, name)(config))


def plain(model):
    """The same model by the plain core."""
    other = copy.deepcopy(model)
    for module in other.modules():
        if hasattr(module, "backend_choice"):
            module.backend_choice = "plain"
    return other


def batch_of(name: str, side: str = "right") -> dict:
    """Ragged rows whose padding holds random words, and the head's labels."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    mask = mask.flip(1) if side == "left" else mask
    ids = torch.randint(3, 60, mask.shape, generator=generator)
    batch = {"input_ids": ids, "attention_mask": mask}
    hidden = (torch.rand(ids.shape, generator=generator) < 0.5) | (mask == 0)
    words, rows = ids.masked_fill(hidden, IGNORED), torch.tensor([0, 1, 1, 0])
    if name in ("BertLiteForMaskedLM", "BertLiteForPreTraining"):
        batch["labels"] = words
    if name in ("BertLiteForPreTraining", "BertLiteForNextSentencePrediction"):
        key = "next_sentence_label" if name.endswith("Training") else "labels"
        batch[key] = rows
    if name == "BertLiteForTokenClassification":
        batch["labels"] = words.clamp(max=2)
    if name == "BertLiteForSequenceClassification":
        batch["labels"] = rows
    if name == "BertLiteForQuestionAnswering":
        batch |= {"start_positions": rows, "end_positions": rows + 1}
    if name == "BertLiteForMultipleChoice":
        batch = {key: value.view(2, 2, -1) for key, value in batch.items()}
        batch["labels"] = rows[:2]
    if name == WRITER:
        batch["labels"] = words.flip(1)[:, :6]
    return batch


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def assert_same(found: dict, expected: dict, atol: float = 2e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=atol, rtol=1e-4, msg=name)


def took(model) -> set[str]:
    """Which backends did the work of the last forward."""
    return {line.split(": ")[1].split(";")[0] for line in model.backend_report()}
