"""Weights of classes in the loss: by hand, by torch and scikit-learn, however a batch is cut."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.utils.class_weight import compute_class_weight
from tasks_cases import ROWS, base_folder
from tiny_runs import tiny_bert, training_arguments
from torch import nn

from bertlite import finetune
from bertlite.tasks import TASKS
from bertlite.training.class_weights import WeightedLoss, class_weights
from bertlite.training.measuring import MeasuringTrainer

LABELS = ["a", "b", "c"]


def test_auto_is_scikit_learns_balanced():
    values = [0] * 20 + [1] * 5 + [2]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.asarray(values))
    assert class_weights("auto", [20, 5, 1], LABELS) == pytest.approx(expected.tolist())


def test_auto_of_several_labels_and_of_none():
    # Rows without the label over rows with it; nothing is known of a label that no row has.
    assert class_weights("auto", [3, 1, 0], LABELS, rows=4) == pytest.approx([1 / 3, 3.0, 1.0])
    assert class_weights("auto", [4, 0, 4], LABELS) == [1.0, 1.0, 1.0]


def test_weights_by_order_and_by_name():
    assert class_weights("1, 5,0.5", None, LABELS) == [1.0, 5.0, 0.5]
    assert class_weights([1, 5, 2], None, LABELS) == [1.0, 5.0, 2.0]
    assert class_weights({"b": 4}, None, LABELS) == [1.0, 4.0, 1.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("1,2", r"one number for each of 3 labels \(a, b, c\), got 2"),
        ("1,2,x", "must be auto, or one number a label with commas .*, got '1,2,x'"),
        ("1,2,-1", "must be above 0 and finite"),
        ({"d": 1}, "must be of the labels .* got d"),
        ("auto", "must be numbers where rows stream"),
    ],
)
def test_bad_weights_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        class_weights(given, None, LABELS)


def test_the_loss_is_torchs_weighted_mean():
    torch.manual_seed(0)
    loss = WeightedLoss([1.0, 3.0, 0.5])
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 1, 0, -100])
    expected = nn.functional.cross_entropy(logits, labels, weight=torch.tensor([1.0, 3.0, 0.5]))
    torch.testing.assert_close(loss({"logits": logits}, labels), expected)
    tagged = logits.view(2, 3, 3), labels.view(2, 3)  # (B, T, L), as of tokens
    torch.testing.assert_close(loss({"logits": tagged[0]}, tagged[1]), expected)


def test_the_loss_of_several_labels_is_torchs():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 2), torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 0]])
    loss = WeightedLoss([2.0, 5.0], "multi_label_classification")
    expected = nn.functional.binary_cross_entropy_with_logits(
        logits, labels, pos_weight=torch.tensor([2.0, 5.0])
    )
    torch.testing.assert_close(loss({"logits": logits}, labels), expected)


@pytest.mark.parametrize("tokens", [False, True])
def test_accumulated_gradients_are_the_whole_batchs(tokens, tmp_path):
    """One step over pieces of 1, 2 and 1 rows changes the weights as one over all four does."""
    ends = []
    rows = [
        {"input_ids": [5, 6, 7][: n % 3 + 1], "attention_mask": [1] * (n % 3 + 1), "labels": n % 2}
        for n in range(4)
    ]
    if tokens:
        rows = [{**row, "labels": [-100, 0, 1][: len(row["input_ids"])]} for row in rows]
    for size in (4, 1):
        torch.manual_seed(0)
        model = model_for(tokens)
        arguments = training_arguments(
            tmp_path / str(size),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=4 // size,
            optim="sgd",
            learning_rate=1.0,
            lr_scheduler_type="constant",
            max_steps=1,
        )
        trainer = MeasuringTrainer(
            model,
            arguments,
            data_collator=padded,
            train_dataset=Dataset.from_list(rows),
            compute_loss_func=WeightedLoss([1.0, 7.0]),
        )
        trainer.train()
        ends.append(model.state_dict())
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name], atol=1e-6, rtol=1e-5, msg=name)


def model_for(tokens):
    import bertlite

    config = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).config
    kind = bertlite.BertLiteForTokenClassification if tokens else None
    return (kind or bertlite.BertLiteForSequenceClassification)(config)


def padded(rows):
    fills = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    batch = {}
    for name in rows[0]:
        tensors = [torch.as_tensor(row[name]) for row in rows]
        batch[name] = (
            torch.stack(tensors)
            if not tensors[0].ndim
            else nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fills[name])
        )
    return batch


def test_the_count_of_an_evaluation_is_by_weight_too():
    loss = WeightedLoss([1.0, 3.0])
    labels = torch.tensor([0, 1, 1, -100])
    assert float(loss.weight_of(labels)) == 7.0
    outputs = SimpleNamespace(logits=torch.zeros(4, 2)).__dict__
    assert float(loss(outputs, labels, 7.0)) == pytest.approx(np.log(2))


def test_the_checkpoint_is_chosen_by_a_figure_that_sees_rare_classes(tmp_path):
    """Accuracy would keep the epoch that never says the rare one; so would it among seeds."""
    rows = ROWS["sequence-classification"]
    options = {"train": rows, "validation": rows, "check": True, "say": None}
    base, out = base_folder(tmp_path / "base"), tmp_path / "out"
    for weights, name in ((None, "accuracy"), ("auto", "f1_macro"), ("1,2", "f1_macro")):
        found = finetune(
            "sequence-classification", base, output_dir=out, class_weights=weights, **options
        )
        assert f"the highest {name} on the 8 validation rows" in " ".join(found.overview.split())
    chosen = TASKS["sequence-classification"].best_metric
    assert chosen("multi_label_classification", weighted=True) == "f1_macro"
    assert chosen("regression", weighted=True) == "pearsonr"
    assert TASKS["token-classification"].best_metric(None, weighted=True) == "overall_f1"
