"""Who watches sees BERT: hooks, attributions, gradients for each sample, and what outputs hold.

The same code on transformers' class and on ours, with the same weights.
"""

import pytest
import torch
from cases import padded
from datasets import Dataset
from pairs import HEADS, bert_pair
from torch import nn
from transformers import Trainer, TrainingArguments

BATCH = dict(
    zip(
        ("input_ids", "attention_mask"),
        padded((9, 5, 7, 2), "right", torch.Generator().manual_seed(1)),
        strict=True,
    )
)
ON_POOLER = [
    head for head in HEADS if head in ("Model", "ForNextSentencePrediction", "ForPreTraining")
]
ON_POOLER += ["ForSequenceClassification", "ForMultipleChoice"]


def batch_for(head: str) -> dict[str, torch.Tensor]:
    if head != "ForMultipleChoice":
        return BATCH
    return {name: tensor.unflatten(0, (2, 2)) for name, tensor in BATCH.items()}


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def forward_outputs(model: nn.Module, batch: dict, everywhere: bool) -> dict[str, torch.Tensor]:
    """What each leaf of the base model gives, by a hook on each or by a global one."""
    base, seen = model.base_model, {}
    names = {module: name for name, module in base.named_modules() if not module._modules}

    def watch(module, given, output):
        if module in names and isinstance(output, torch.Tensor):
            seen[names[module]] = output.detach()

    if everywhere:
        handles = [nn.modules.module.register_module_forward_hook(watch)]
    else:
        handles = [module.register_forward_hook(watch) for module in names]
    try:
        model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("everywhere", [False, True], ids=["each", "global"])
@pytest.mark.parametrize("head", HEADS)
def test_forward_hooks_see_what_berts_see(head, everywhere, training, tmp_path):
    """All positions of every module, with padding, in training and in evaluation."""
    theirs, ours = bert_pair(head, tmp_path, "sdpa")
    theirs.set_attn_implementation("sdpa")
    batch = batch_for(head)
    found, expected = (
        forward_outputs(model.train(training), batch, everywhere) for model in (ours, theirs)
    )
    assert found.keys() == expected.keys()
    assert len(found) > 20
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert_close(found[name], value)


@pytest.mark.parametrize("head", HEADS[1:])
def test_backward_hooks_see_what_berts_see(head, tmp_path):
    """The gradient at each position of the last layer's output, one hook in the whole model."""
    theirs, ours = bert_pair(head, tmp_path, "sdpa")
    gradients = []
    for model in (ours, theirs):
        layer = model.bert.encoder.layer[-1].output
        handle = layer.register_full_backward_hook(
            lambda module, wanted, given: gradients.append(given[0].clone())
        )
        outputs = model.train()(**batch_for(head))
        sum(value.square().sum() for value in outputs.to_tuple()).backward()
        handle.remove()
    assert gradients[0].shape == gradients[1].shape == (*BATCH["input_ids"].shape, 32)
    scale = float(gradients[1].abs().max())
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5 * scale, rtol=1e-4)


@pytest.mark.parametrize("head", ON_POOLER)
def test_mean_pooling_in_a_hook_on_the_base_model(head, tmp_path):
    """Of a model whose own head reads the first position alone."""
    theirs, ours = bert_pair(head, tmp_path, "sdpa")
    means = []

    def pool(module, args, kwargs, output):
        mask = BATCH["attention_mask"][..., None]
        means.append((output.last_hidden_state * mask).sum(1) / mask.sum(1))

    with torch.no_grad():
        for model in (ours, theirs):
            model.base_model.register_forward_hook(pool, with_kwargs=True)
            model(**batch_for(head))
    assert_close(*means)


def test_watching_ends_with_the_hook(tmp_path):
    """And the report says who watched."""
    _, ours = bert_pair("ForSequenceClassification", tmp_path, "sdpa")
    with torch.no_grad():
        handle = ours.bert.pooler.register_forward_hook(lambda *given: None)
        ours(**BATCH)
        assert "a hook watches BertPooler" in ours.backend_report()[0]
        handle.remove()
        ours(**BATCH)
        assert ours.backend_report() == ["BertLiteModel, encode: cpu"]


def attributions(model: nn.Module) -> torch.Tensor:
    """Captum's integrated gradients of one logit, by token."""
    from captum.attr import LayerIntegratedGradients

    def logit(input_ids, attention_mask):
        return model(input_ids, attention_mask=attention_mask).logits[:, 1]

    method = LayerIntegratedGradients(logit, model.bert.embeddings)
    return method.attribute(
        BATCH["input_ids"],
        baselines=torch.zeros_like(BATCH["input_ids"]),
        additional_forward_args=(BATCH["attention_mask"],),
        n_steps=8,
    )


def test_integrated_gradients_of_padded_rows(tmp_path):
    theirs, ours = bert_pair("ForSequenceClassification", tmp_path, "sdpa")
    found, expected = attributions(ours), attributions(theirs)
    assert found.shape == (*BATCH["input_ids"].shape, 32)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_gradients_of_each_sample_of_the_last_layer(tmp_path):
    """Opacus' GradSampleModule."""
    opacus = pytest.importorskip("opacus", reason="opacus pins versions that others do not bear")
    labels, gradients = torch.tensor([0, 2, 1, 1]), []
    for model in bert_pair("ForSequenceClassification", tmp_path, "sdpa"):
        model.requires_grad_(False)
        model.bert.encoder.layer[-1].requires_grad_(True)
        wrapped = opacus.GradSampleModule(model.train())
        wrapped(**BATCH, labels=labels).loss.backward()
        layer = wrapped._module.bert.encoder.layer[-1]
        gradients.append({name: each.grad_sample for name, each in layer.named_parameters()})
    expected, found = gradients
    for name, value in expected.items():
        assert value.shape[0] == 4
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-3)


class Entropy(Trainer):
    """A regulariser over all real tokens, on what the library's `compute_loss` returns."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        entropy = -(outputs.logits.softmax(-1) * outputs.logits.log_softmax(-1)).sum(-1)
        entropy = entropy[inputs["attention_mask"].bool()].mean()
        return (loss - 0.1 * entropy, outputs) if return_outputs else loss - 0.1 * entropy


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForMaskedLM"])
def test_a_loss_of_the_callers_own_reads_logits(head, tmp_path):
    """Finite, and what the same training of BERT logs."""
    labels = BATCH["input_ids"] % 3
    labels = labels.masked_fill((BATCH["attention_mask"] == 0) | (labels == 2), -100)
    rows = Dataset.from_list(
        [
            {**{name: tensor[row].tolist() for name, tensor in BATCH.items()}, "labels": each}
            for row, each in enumerate(labels.tolist())
        ]
    )
    logged = []
    for model in bert_pair(head, tmp_path / "pair", "sdpa"):
        arguments = TrainingArguments(
            str(tmp_path / "run"),
            max_steps=3,
            logging_steps=1,
            per_device_train_batch_size=2,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            logging_nan_inf_filter=False,
        )
        trainer = Entropy(model, arguments, train_dataset=rows)
        trainer.train()
        logged.append([each["loss"] for each in trainer.state.log_history if "loss" in each])
    assert len(logged[0]) == 3
    assert logged[1] == pytest.approx(logged[0], abs=2e-4)


@pytest.mark.parametrize("head", ["ForMaskedLM", "ForPreTraining", "ForTokenClassification"])
def test_outputs_of_training_are_berts(head, tmp_path):
    """Logits that no loss read are there when they are asked for, however they are asked for."""
    theirs, ours = bert_pair(head, tmp_path, "sdpa")
    labels = (BATCH["input_ids"] % 3).masked_fill(BATCH["attention_mask"] == 0, -100)
    more = {"next_sentence_label": torch.tensor([0, 1, 1, 0])} if "Pre" in head else {}
    name = "prediction_logits" if "Pre" in head else "logits"
    asked = {**BATCH, "labels": labels, **more}
    expected = theirs.train()(**asked)
    ours.train()
    real = BATCH["attention_mask"].bool()
    for read in (
        lambda outputs: getattr(outputs, name),
        lambda outputs: outputs[name],
        lambda outputs: outputs.to_tuple()[1],
        lambda outputs: outputs[1],
    ):
        found = read(ours(**asked))
        assert found.isfinite().all()
        assert_close(found[real], expected[name][real])
    assert_close(ours(**asked).loss, expected.loss)
    assert_close(ours(**asked, return_dict=False)[1][real], expected[name][real])
