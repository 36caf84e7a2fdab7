"""Whole runs of the GPU benchmark: `Trainer`, pretraining on ragged rows, and growth with size."""

import tempfile
from typing import Any

import torch
from gpu_measure import race
from gpu_models import Setting, batches, load, on_device, real_tokens
from gpu_works import KNOWN, OURS, THEIRS, Entry
from transformers import Trainer, TrainingArguments

from bertlite.data.collators import WithLengths

SIZES = {"batch": (1, 4, 16, 64, 256), "length": (16, 64, 128, 256, 512)}


def entries() -> list[Entry]:
    """The whole runs, for the table."""
    return [
        Entry("Trainer, masked LM, batch 16", trainer, 3),
        Entry("pretraining, ragged rows", pretraining, 2.5),
    ]


def trainer(setting: Setting) -> dict[str, Any]:
    """60 updates of two accumulated batches of 16 skewed rows, data loading included."""
    rows = []
    for batch in batches(setting, "skewed", 1920, 1, "words"):
        rows.append({key: batch[key][0].tolist() for key in ("input_ids", "labels")})
    tokens = sum(len(row["input_ids"]) for row in rows)
    steps = 1 if setting.quick else 60

    def run(ours: bool, with_lengths: bool) -> None:
        arguments = TrainingArguments(
            tempfile.mkdtemp(),
            per_device_train_batch_size=2 if setting.quick else 16,
            gradient_accumulation_steps=2,
            bf16=setting.is_gpu,
            max_steps=steps,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not setting.is_gpu,
        )
        collator = WithLengths(collate) if with_lengths else collate
        model = load(setting, "masked-lm", ours=ours)
        Trainer(model, arguments, train_dataset=rows, data_collator=collator).train()

    competitors = {
        THEIRS: lambda: run(False, False),
        OURS: lambda: run(True, False),
        KNOWN: lambda: run(True, True),
    }
    return {"rows": race(setting, competitors), "tokens": tokens}


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Rows padded to the longest."""
    longest = max(len(row["input_ids"]) for row in rows)

    def filled(row: list[int], value: int) -> list[int]:
        return row + [value] * (longest - len(row))

    masks = [filled([1] * len(row["input_ids"]), 0) for row in rows]
    return {
        "input_ids": torch.tensor([filled(row["input_ids"], 0) for row in rows]),
        "attention_mask": torch.tensor(masks),
        "labels": torch.tensor([filled(row["labels"], -100) for row in rows]),
    }


def pretraining(setting: Setting) -> dict[str, Any]:
    """Masked-LM steps on long ragged rows, batch 64, whose lengths a collator knows."""
    made = batches(setting, "long", 256, 64, "words")

    def over(ours: bool):
        known = [on_device(setting, batch, with_lengths=ours) for batch in made]
        model = load(setting, "masked-lm", ours=ours).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

        def work() -> None:
            for batch in known:
                with torch.autocast(setting.device, torch.bfloat16):
                    loss = model(**batch).loss
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

        return work

    rows = race(setting, {THEIRS: over(False), KNOWN: over(True)})
    tokens = real_tokens(made)
    for row in rows.values():
        if "seconds" in row:
            row["tokens_a_second"] = tokens / row["seconds"]
    return {"rows": rows, "tokens": tokens}


def growth(setting: Setting, along: str) -> list[dict[str, Any]]:
    """Microseconds a real token, as the batch or the length grows; the other is 128 or 32."""
    points = []
    for size in SIZES[along][: 2 if setting.quick else None]:
        batch, length = (size, 128) if along == "batch" else (32, size)
        made = batches(setting, str(length), batch, batch)
        models = {THEIRS: False, KNOWN: True}
        works = {}
        for name, ours in models.items():
            model = load(setting, "base", ours=ours, dtype=torch.bfloat16).eval()
            given = on_device(setting, made[0], with_lengths=ours)
            works[name] = torch.no_grad()(lambda model=model, given=given: model(**given))
        rows = race(setting, works)
        tokens = real_tokens(made)
        each = {
            name: 1e6 * row["seconds"] / tokens for name, row in rows.items() if "seconds" in row
        }
        points.append({"size": size, "microseconds": each})
    return points
