"""Batches of so many tokens: by hand, on random lengths, and in transformers' own `Trainer`."""

import pytest
import torch
from tiny_runs import Pad, pairs, tiny_transformer, training_arguments
from transformers import (
    DataCollatorForSeq2Seq,
    MarianConfig,
    MarianMTModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
)

from bertlite.training import (
    TokenBatchCollator,
    TokenBatches,
    TokenBatchSampler,
    token_lengths,
    transformer_optimizers,
)


def test_token_batches_by_hand():
    # Sorted by target, then source: rows 1 (2+2), 3 (3+2), 0 (4+3), 2 (5+5).
    source, target = [4, 2, 5, 3], [3, 2, 5, 2]
    options = {"max_tokens": 14, "shuffle": False}
    # Padded: {1, 3} is 2 · (3 + 2) = 10, with row 0 it would be 3 · (4 + 3) = 21; {0, 2} would be 2
    # · 10 = 20.
    assert list(TokenBatchSampler(source, target, **options)) == [[1, 3], [0], [2]]
    # Real: {1, 3} is 9, with row 0 16; {0} is 7, with row 2 17.
    assert list(TokenBatchSampler(source, target, count="real", **options)) == [[1, 3], [0], [2]]
    assert list(TokenBatchSampler(source, target, count="real", max_tokens=16, shuffle=False)) == [
        [1, 3, 0],
        [2],
    ]
    assert list(TokenBatchSampler(source, target, max_tokens=16, shuffle=False)) == [
        [1, 3],
        [0],
        [2],
    ]
    assert list(TokenBatchSampler(source, **options)) == [
        [1, 3, 0],
        [2],
    ]  # sources only: 3 · 4 = 12
    # Windows {0, 1} and {2, 3}: sorted apart, and no batch has rows of both.
    assert list(TokenBatchSampler(source, target, window_size=2, **options)) == [[1, 0], [3], [2]]


@pytest.mark.parametrize("window_size", [None, 1, 17, 1000])
@pytest.mark.parametrize("count", ["padded", "real"])
def test_token_batches_hold_every_row_once_and_no_more_than_the_limit(count, window_size):
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randint(1, 40, (2, 300), generator=generator).tolist()
    sampler = TokenBatchSampler(
        source, target, max_tokens=200, count=count, window_size=window_size, seed=5
    )
    epochs = []
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert len(epochs[-1]) == len(sampler)  # in every epoch
        assert sorted(row for batch in epochs[-1] for row in batch) == list(range(300))
        for batch in epochs[-1]:
            padded = len(batch) * (
                max(source[row] for row in batch) + max(target[row] for row in batch)
            )
            real = sum(source[row] + target[row] for row in batch)
            assert (padded if count == "padded" else real) <= 200
    assert epochs[0] != epochs[1] != epochs[2]
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]
    other = TokenBatchSampler(
        source, target, max_tokens=200, count=count, window_size=window_size, seed=6
    )
    assert list(other) != epochs[0]


def test_sorting_by_length_saves_padding():
    source = torch.randint(1, 100, (400,), generator=torch.Generator().manual_seed(0)).tolist()
    numbers = [
        len(TokenBatchSampler(source, max_tokens=500, window_size=size)) for size in (1, 50, None)
    ]
    assert numbers[0] == 400  # windows of one row
    assert numbers[0] > numbers[1] > numbers[2]
    assert numbers[2] < 1.2 * sum(source) / 500


def test_token_batches_as_a_batch_sampler():
    data = pairs()
    sampler = TokenBatchSampler(
        token_lengths(data, "input_ids"), token_lengths(data, "labels"), max_tokens=40
    )
    batches = list(torch.utils.data.DataLoader(data, batch_sampler=sampler, collate_fn=Pad()))
    assert len(batches) == len(sampler)
    assert sum(int(batch["attention_mask"].sum()) for batch in batches) == sum(
        token_lengths(data, "input_ids")
    )
    assert all(batch["input_ids"].numel() + batch["labels"].numel() <= 40 for batch in batches)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ([3, 9, 12], [1, 1, 1]),
            {"max_tokens": 10},
            r"row 2 has 12 \+ 1 tokens, max_tokens is 10",
        ),
        (([3, 0],), {"max_tokens": 10}, "at least 1, got 0 in row 1"),
        (([],), {"max_tokens": 10}, "at least one integer"),
        (([1.5],), {"max_tokens": 10}, "at least one integer"),
        (([1, 2], [1]), {"max_tokens": 10}, "target_lengths must have 2 entries, got 1"),
        (([1],), {"max_tokens": 10, "count": "words"}, "count must be one of"),
        (([1],), {"max_tokens": 10, "window_size": 0}, "window_size must be"),
    ],
)
def test_token_batches_refuse(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        TokenBatchSampler(*arguments, **options)


def test_token_lengths():
    assert token_lengths([{"a": [1, 2]}, {"a": [3]}], "a") == [2, 1]
    for data in (pairs(2), [{"a": 1}]):
        with pytest.raises(ValueError, match="column 'b'"):
            token_lengths(data, "b")
    with pytest.raises(ValueError, match="column 'a'"):
        token_lengths([{"a": 1}], "a")


class Watch:
    """A collator that notes the sources of each batch."""

    def __init__(self):
        self.seen, self.collator = [], Pad()

    def __call__(self, rows):
        self.seen.append([tuple(row["input_ids"]) for row in rows])
        return self.collator(rows)


def test_trainer_takes_token_batches(tmp_path):
    data, watch = pairs(), Watch()
    batches = TokenBatches(data, max_tokens=40, seed=1)
    model = tiny_transformer()
    arguments = training_arguments(
        tmp_path, Seq2SeqTrainingArguments, num_train_epochs=2, eval_strategy="epoch"
    )
    trainer = Seq2SeqTrainer(
        model,
        arguments,
        train_dataset=batches,
        eval_dataset=data,
        data_collator=TokenBatchCollator(watch),
    )
    trainer.train()
    assert trainer.state.global_step == 2 * len(batches)
    sources = {tuple(row["input_ids"]) for row in data}
    expected = {frozenset(tuple(row["input_ids"]) for row in batch) for batch in batches}
    trained = watch.seen[: len(batches)]
    assert {frozenset(seen) for seen in trained} == expected
    assert {row for seen in trained for row in seen} == sources
    assert all(
        "eval_loss" in entry for entry in trainer.state.log_history if entry.get("eval_runtime")
    )


def test_accumulated_token_batches_weigh_every_token_alike(tmp_path):
    # One update over all batches by accumulation moves the weights as one batch of everything does.
    data, moved = pairs(), []
    whole = training_arguments(tmp_path, per_device_train_batch_size=len(data))
    batches = TokenBatches(data, max_tokens=40)
    pieces = training_arguments(tmp_path, gradient_accumulation_steps=len(batches))
    for arguments, train in ((whole, data), (pieces, batches)):
        model = tiny_transformer()
        optimizers = (torch.optim.SGD(model.parameters(), lr=0.1), None)
        collator = TokenBatchCollator(Pad())
        trainer = Trainer(
            model, arguments, train_dataset=train, data_collator=collator, optimizers=optimizers
        )
        trainer.train()
        assert trainer.state.global_step == 1
        moved.append(model.state_dict())
    start = tiny_transformer().state_dict()
    assert (moved[0]["model.shared.weight"] - start["model.shared.weight"]).abs().max() > 1e-4
    for name, tensor in moved[0].items():
        torch.testing.assert_close(moved[1][name], tensor, atol=1e-6, rtol=1e-5)


def tiny_marian():
    torch.manual_seed(0)
    config = tiny_transformer(dropout=0.1).config.to_dict()
    return MarianMTModel(
        MarianConfig(**{name: config[name] for name in vars(MarianConfig()) if name in config})
    )


def test_a_resumed_run_gives_the_same_weights(tmp_path):
    # The order of the batches, the schedule and the optimizer come back; the model is transformers'
    # own.
    def train(folder, checkpoint=None):
        model = tiny_marian()
        arguments = training_arguments(
            folder, num_train_epochs=2, save_strategy="steps", save_steps=7
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=TokenBatches(pairs(), max_tokens=40, seed=1),
            data_collator=TokenBatchCollator(Pad()),
            optimizers=transformer_optimizers(model, warmup_steps=5),
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        assert trainer.state.global_step > 14
        return model.state_dict()

    straight = train(tmp_path / "straight")
    for step in (7, 14):
        resumed = train(tmp_path / "resumed", str(tmp_path / "straight" / f"checkpoint-{step}"))
        for name, tensor in straight.items():
            torch.testing.assert_close(
                resumed[name], tensor, atol=0, rtol=0, msg=lambda text, name=name: name + text
            )


def test_the_librarys_collator_fits(tmp_path):
    class Tokenizer:  # what DataCollatorForSeq2Seq asks of a tokenizer
        padding_side = "right"

        def pad(self, rows, **kwargs):
            return Pad()(rows)

    collator = TokenBatchCollator(DataCollatorForSeq2Seq(Tokenizer(), model=tiny_transformer()))
    batch = collator([TokenBatches(pairs(), max_tokens=40)[0]])
    assert batch["decoder_input_ids"].shape == batch["labels"].shape
