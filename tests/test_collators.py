"""Batches that know their lengths, from the collators of the library."""

import pickle

import pytest
import torch
from accelerate.utils import send_to_device
from cases import bert_config
from cuda_stand_ins import WaitCounter, stand_in_kernels, use_stand_in
from transformers import Trainer, TrainingArguments, default_data_collator
from transformers.data.data_collator import DataCollatorWithFlattening
from transformers.trainer_pt_utils import find_batch_size

from bertlite import BertLiteForSequenceClassification
from bertlite.data.collators import WithLengths, lengths_of
from bertlite.models.inputs import BatchLengths

IDS = torch.tensor([[5, 6, 7, 0], [8, 9, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])


def test_what_a_padded_batch_says_of_itself():
    found = lengths_of({"input_ids": IDS, "attention_mask": MASK, "token_type_ids": MASK})
    assert found == BatchLengths((3, 2), None, {"input_ids": (0, 9), "token_type_ids": (0, 1)})


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ([[-100, 3, -100, -100], [4, 5, -100, -100]], 3),
        ([[-100, 3, -100, 7], [4, 5, -100, -100]], None),  # one of padding: the device is asked
        ([1, 0], None),
        ([[1.0, 0.0], [0.0, 1.0]], None),
        ([[7, -100], [8, 9]], 3),  # of targets, which are shorter
    ],
)
def test_labels_are_counted(labels, count):
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": torch.tensor(labels)}
    assert lengths_of(batch).labelled == count


@pytest.mark.parametrize(
    "mask",
    [
        [[0, 1, 1, 1], [0, 0, 1, 1]],  # padded on the left
        [[1, 0, 1, 1], [1, 1, 0, 0]],
        [[1, 1, 1, 0], [0, 0, 0, 0]],
    ],
)
def test_rows_that_are_not_filled_from_the_left_have_none(mask):
    assert lengths_of({"input_ids": IDS, "attention_mask": torch.tensor(mask)}) is None
    rows = [{"input_ids": i.tolist(), "attention_mask": m} for i, m in zip(IDS, mask, strict=True)]
    assert "lengths" not in WithLengths(default_data_collator)(rows)


def test_choices_count_as_rows():
    batch = {"input_ids": IDS[None], "attention_mask": MASK[None]}
    assert lengths_of(batch).sequences == (3, 2)


def test_sequences_that_the_library_lays_end_to_end():
    rows = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    batch = WithLengths(DataCollatorWithFlattening())(rows)
    assert batch["lengths"].sequences == (3, 1)


def test_they_travel_through_workers_and_to_a_device():
    lengths = lengths_of({"input_ids": IDS, "attention_mask": MASK})
    assert pickle.loads(pickle.dumps(lengths)) == lengths
    batch = send_to_device({"lengths": lengths, "input_ids": IDS}, "cpu")
    assert batch["lengths"] is lengths
    assert find_batch_size(batch) == 2


def test_trainer_brings_them_to_the_model(tmp_path):
    """Loss and weights are those without them, and no forward waits."""
    generator = torch.Generator().manual_seed(0)
    rows = [
        {
            "input_ids": torch.randint(3, 60, (6,), generator=generator).tolist(),
            "attention_mask": [1] * (2 + index % 4) + [0] * (4 - index % 4),
            "labels": index % 2,
        }
        for index in range(16)
    ]
    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=4,
        max_steps=3,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_num_workers=0,
    )
    losses, waits = [], []
    for collator in (default_data_collator, WithLengths(default_data_collator)):
        torch.manual_seed(0)
        model = BertLiteForSequenceClassification(bert_config())
        with stand_in_kernels():
            use_stand_in(model)(torch.ones(1, 2, dtype=torch.long))
            forward = model.bert.forward
            seen = []

            def counted(*args, forward=forward, seen=seen, **kwargs):
                with WaitCounter() as counter:
                    made = forward(*args, **kwargs)
                seen.append(len(counter.waits))
                return made

            model.bert.forward = counted
            trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collator)
            losses.append(trainer.train().training_loss)
        waits.append(seen)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert waits == [[1, 1, 1], [0, 0, 0]]
