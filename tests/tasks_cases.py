"""Tiny rows, models and folders for the tests of `bertlite.tasks`."""

import json

import pytest
from inference_cases import WORDS, byte_pairs, wordpiece

import bertlite

CLASSIFICATION = "sequence-classification"
QUIET = {"disable_tqdm": True, "use_cpu": True, "max_steps": 2, "per_device_train_batch_size": 2}
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
CONTEXT = " ".join(WORDS * 3)


def question_rows():
    """Four questions with an answer in one of the context's windows, two without."""
    rows = []
    for number in range(6):
        row = {"id": str(number), "question": "who went", "context": CONTEXT}
        found = (
            {"text": ["paris"], "answer_start": [CONTEXT.index("paris", number * 50)]}
            if number < 4
            else None
        )
        rows.append({**row, "answers": found or {"text": [], "answer_start": []}})
    return rows


ROWS = {
    "sequence-classification": [
        {"text": "the cat sat " * (i + 1), "label": ["bad", "good"][i % 2]} for i in range(8)
    ],
    "token-classification": [
        {"tokens": (WORDS * 3)[:n], "tags": [LABELS[j % 5] for j in range(n)]}
        for n in (5, 10, 15, 40)
    ],
    "question-answering": question_rows(),
    "multiple-choice": [
        {"question": "who went " * i, "choices": ["anna", "bob cat", "london"], "label": i % 3}
        for i in range(1, 7)
    ],
    "translation": [
        {"source": f"the cat sat {word}", "target": "Anna went to paris"} for word in WORDS[:6]
    ],
    "summarization": [
        {"source": f"the cat sat {word}", "target": "Anna went to paris"} for word in WORDS[:6]
    ],
}
TINY = [
    "encoder_layers=1",
    "decoder_layers=1",
    "encoder_ffn_dim=32",
    "decoder_ffn_dim=32",
    "d_model=32",
]
TINY += ["encoder_attention_heads=2", "decoder_attention_heads=2", "max_position_embeddings=64"]


def write_rows(path, rows):
    """A JSON lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def base_folder(path):
    """A BERT of two layers without a head, and its tokenizer."""
    tokenizer = wordpiece()
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
    }
    config = bertlite.BertLiteConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **sizes)
    bertlite.BertLiteModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def bpe_folder(path):
    """A byte-level BPE tokenizer."""
    byte_pairs().save_pretrained(path)
    return str(path)


def refused(message, task=CLASSIFICATION, **options):
    """`finetune` says no, in these words."""
    with pytest.raises(ValueError, match=message):
        bertlite.finetune(task, **options)
