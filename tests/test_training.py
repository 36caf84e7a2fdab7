"""Training with the library's own Trainer.

Every head, accumulation, resuming, checkpointing, bf16, LoRA.
"""

import copy

import pytest
import torch
import transformers
from cases import IGNORED, VOCABULARY, bert_config, randomize, transformer_config
from datasets import Dataset
from safetensors.torch import load_file
from transformers import (
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

import bertlite

HEADS = {
    "ForPreTraining": ("labels", "next_sentence_label"),
    "ForMaskedLM": ("labels",),
    "ForNextSentencePrediction": ("labels",),
    "ForSequenceClassification": ("labels",),
    "ForTokenClassification": ("labels",),
    "ForQuestionAnswering": ("start_positions", "end_positions"),
    "ForMultipleChoice": ("labels",),
}
LENGTH = 9


def rows(head: str, count: int = 16) -> Dataset:
    """Rows of one length, padded by the mask, with labels that fit.

    Rows differ in how many words carry one.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(high, *shape):
        return torch.randint(high, shape, generator=generator)

    ids = draw(VOCABULARY - 3, count, LENGTH) + 3
    mask = (torch.arange(LENGTH) < draw(LENGTH - 2, count)[:, None] + 3).long()
    made = {"input_ids": ids, "attention_mask": mask}
    if head in ("ForMaskedLM", "ForPreTraining", "ForTokenClassification"):
        kept = mask.bool() & (torch.rand(ids.shape, generator=generator) < 0.5)
        kept[:, 0] = True
        labels = ids if "Token" not in head else ids % 3
        made["labels"] = labels.masked_fill(~kept, IGNORED)
    elif head == "ForQuestionAnswering":
        made.update(start_positions=draw(2, count), end_positions=draw(2, count) + 1)
    else:
        made["labels"] = draw(2, count)
    if head == "ForPreTraining":
        made["next_sentence_label"] = draw(2, count)
    if head == "ForMultipleChoice":
        for name in ("input_ids", "attention_mask"):
            made[name] = torch.stack([made[name], made[name].flip(0)], 1)
    return Dataset.from_dict({name: value.tolist() for name, value in made.items()}).with_format(
        "torch"
    )


def arguments(folder, **options) -> TrainingArguments:
    """Quiet, on a CPU, with a plain optimizer unless told otherwise."""
    fixed = {
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "save_strategy": "no",
        "optim": "sgd",
        "seed": 0,
    }
    return TrainingArguments(
        str(folder), **{**fixed, "learning_rate": 0.05, "lr_scheduler_type": "constant", **options}
    )


def make(head: str, **overrides):
    """A head of ours with small random weights."""
    return randomize(getattr(bertlite, f"BertLite{head}")(bert_config(**overrides)), std=0.1)


def weights(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("head", HEADS)
def test_trainer_finds_labels_trains_and_evaluates(head, tmp_path):
    data, model = rows(head), make(head)
    seen = {}

    def compute_metrics(prediction):
        seen["labels"] = prediction.label_ids
        return {
            "rows": len(
                prediction.predictions[0]
                if isinstance(prediction.predictions, tuple)
                else prediction.predictions
            )
        }

    options = arguments(
        tmp_path,
        num_train_epochs=3,
        per_device_train_batch_size=4,
        optim="adamw_torch",
        learning_rate=5e-3,
    )
    trainer = Trainer(
        model, options, train_dataset=data, eval_dataset=data, compute_metrics=compute_metrics
    )
    assert tuple(sorted(trainer.label_names)) == tuple(sorted(HEADS[head]))
    before = trainer.evaluate()
    assert before["eval_rows"] == len(data)
    assert seen["labels"] is not None
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before["eval_loss"]


def updated(model, head, folder, batch_size, steps) -> torch.Tensor:
    """The weights after one update from the same 16 rows, in pieces."""
    options = {
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": steps,
        "max_steps": 1,
    }
    options |= {"max_grad_norm": 0.0}
    Trainer(model, arguments(folder, **options), train_dataset=rows(head)).train()
    return weights(model)


@pytest.mark.parametrize(
    "head",
    ["ForMaskedLM", "ForTokenClassification", "ForSequenceClassification", "ForMultipleChoice"],
)
def test_accumulated_pieces_give_the_update_of_the_full_batch(head, tmp_path):
    model = make(head)
    start, pieces = weights(model), copy.deepcopy(model)
    whole = updated(model, head, tmp_path, 16, 1)
    parts = updated(pieces, head, tmp_path, 4, 4)
    assert (whole - start).abs().max() > 1e-4
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


def test_the_librarys_own_bert_takes_steps_four_times_too_large(tmp_path):
    """Why this package has its own losses; when this fails, the library has mended it."""
    make("ForMaskedLM").save_pretrained(tmp_path / "model")
    theirs = [transformers.BertForMaskedLM.from_pretrained(tmp_path / "model") for _ in range(2)]
    start = weights(theirs[0])
    whole = updated(theirs[0], "ForMaskedLM", tmp_path, 16, 1) - start
    parts = updated(theirs[1], "ForMaskedLM", tmp_path, 4, 4) - start
    assert parts.norm() / whole.norm() == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForPreTraining"])
def test_resuming_gives_the_weights_of_the_uninterrupted_run(head, tmp_path):
    options = {"max_steps": 6, "save_steps": 3, "save_strategy": "steps", "optim": "adamw_torch"}
    options |= {"per_device_train_batch_size": 4, "lr_scheduler_type": "linear"}
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    whole = make(head, **dropout)
    Trainer(whole, arguments(tmp_path, **options), train_dataset=rows(head)).train()
    resumed = make(head, **dropout)
    trainer = Trainer(resumed, arguments(tmp_path, **options), train_dataset=rows(head))
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    torch.testing.assert_close(weights(resumed), weights(whole), atol=1e-7, rtol=0)
    assert sorted(load_file(tmp_path / "checkpoint-6/model.safetensors"))[0].startswith(
        "bert.embeddings."
    )


def test_resuming_at_the_end_loads_every_weight(tmp_path):
    options = {"max_steps": 2, "save_steps": 2, "save_strategy": "steps"}
    first = make("ForMaskedLM")
    Trainer(first, arguments(tmp_path, **options), train_dataset=rows("ForMaskedLM")).train()
    again = randomize(bertlite.BertLiteForMaskedLM(bert_config()), seed=9)
    trainer = Trainer(again, arguments(tmp_path, **options), train_dataset=rows("ForMaskedLM"))
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(weights(again), weights(first))
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight


def test_load_best_model_at_end(tmp_path):
    options = {
        "max_steps": 4,
        "save_steps": 2,
        "eval_steps": 2,
        "save_strategy": "steps",
        "eval_strategy": "steps",
    }
    options |= {"load_best_model_at_end": True, "learning_rate": 5.0}  # each step makes it worse
    data = rows("ForSequenceClassification")
    model = make("ForSequenceClassification")
    trainer = Trainer(model, arguments(tmp_path, **options), train_dataset=data, eval_dataset=data)
    trainer.train()
    best = bertlite.BertLiteForSequenceClassification.from_pretrained(
        trainer.state.best_model_checkpoint
    )
    assert torch.equal(weights(trainer.model), weights(best))


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"bf16": True}])
def test_gradient_checkpointing_and_bf16_train(options, tmp_path):
    plain, other = make("ForMaskedLM"), make("ForMaskedLM")
    data = rows("ForMaskedLM")
    start = weights(plain)
    for model, extra in ((plain, {}), (other, options)):
        Trainer(model, arguments(tmp_path, max_steps=2, **extra), train_dataset=data).train()
    moved, difference = (weights(plain) - start).norm(), (weights(other) - weights(plain)).norm()
    assert difference <= (1e-6 if "bf16" not in options else 0.1) * moved


def test_seq2seq_trainer_generates_and_smooths(tmp_path):
    config = transformer_config(label_smoothing=0.1)
    model = randomize(bertlite.TransformerLiteForConditionalGeneration(config), std=0.1)
    generator = torch.Generator().manual_seed(0)
    data = [
        {
            "input_ids": torch.randint(3, 61, (5,), generator=generator).tolist(),
            "labels": [4, 5 + number % 3, 1],
        }
        for number in range(16)
    ]
    fixed = {
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "save_strategy": "no",
        "predict_with_generate": True,
    }
    options = Seq2SeqTrainingArguments(
        str(tmp_path),
        **fixed,
        num_train_epochs=12,
        learning_rate=5e-3,
        generation_max_length=6,
        generation_num_beams=2,
    )
    tokenizer = _Padding()
    seen = {}

    def compute_metrics(prediction):
        seen["generated"] = prediction.predictions
        return {}

    trainer = Seq2SeqTrainer(
        model,
        options,
        train_dataset=data,
        eval_dataset=data,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        compute_metrics=compute_metrics,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before
    assert seen["generated"].shape[0] == len(data)
    assert (seen["generated"][:, 1] == 4).all()  # every target begins so


class _Padding:
    """As much of a tokenizer as the collator asks for."""

    padding_side, pad_token_id = "right", 0

    def pad(
        self, features, padding=True, max_length=None, pad_to_multiple_of=None, return_tensors=None
    ):
        longest = max(len(row["input_ids"]) for row in features)
        ids = [row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in features]
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(ids).ne(0).long()}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_trains_saves_loads_and_merges(checkpointing, tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    base = make("ForSequenceClassification")
    lora = LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], r=4, lora_dropout=0.0)
    model = get_peft_model(copy.deepcopy(base), lora)
    data = rows("ForSequenceClassification")
    options = arguments(
        tmp_path, max_steps=4, optim="adamw_torch", gradient_checkpointing=checkpointing
    )
    Trainer(model, options, train_dataset=data).train()
    inputs = {name: data[:8][name] for name in ("input_ids", "attention_mask")}
    model.eval()
    with torch.no_grad():
        expected = model(**inputs).logits
        assert (expected - base(**inputs).logits).abs().max() > 1e-3
        model.save_pretrained(tmp_path / "adapter")
        loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "adapter").eval()
        torch.testing.assert_close(loaded(**inputs).logits, expected)
        merged = loaded.merge_and_unload()
        torch.testing.assert_close(merged(**inputs).logits, expected, atol=1e-5, rtol=0)
        merged.save_pretrained(tmp_path / "merged")
        again = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(again(**inputs).logits, expected, atol=1e-5, rtol=0)
