"""Masks over real text, by chi-square: 15 %, 80/10/10, whole words whole, never a special token."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from pretraining_cases import CLS, MASK, SEP, TOKENIZER, options, store, stream  # noqa: F401
from scipy.stats import binomtest, chisquare

from bertlite.pretraining import MaskingOptions
from bertlite.pretraining.token_masking import mask_tokens

RANDOMLY = 1e-4
SPECIAL = set(TOKENIZER.all_special_ids)


def batches(store, count=40, **given):  # noqa: F811
    return list(islice(stream(store, options(updates=count, tokens=1024, **given)), count))


def original(batch):
    """The rows before masking: the labels put back."""
    return batch["input_ids"].where(batch["labels"] == -100, batch["labels"])


def test_special_tokens_and_segments(store):  # noqa: F811
    for batch in batches(store, 5):
        ids, real = original(batch), batch["attention_mask"].bool()
        assert not any(
            (batch["labels"] == special).any() for special in SPECIAL - {TOKENIZER.unk_token_id}
        )
        for row, mask, types in zip(
            ids.tolist(), real, batch["token_type_ids"].tolist(), strict=True
        ):
            length = int(mask.sum())
            assert mask[:length].all()
            first = row.index(SEP)
            assert (row[0], row[length - 1], row[:length].count(SEP)) == (CLS, SEP, 2)
            assert types == [0] * (first + 1) + [1] * (length - first - 1) + [0] * (
                len(row) - length
            )
            assert set(row[length:]) <= {TOKENIZER.pad_token_id}


@pytest.mark.parametrize("whole_words", [False, True])
def test_shares(store, whole_words):  # noqa: F811
    kinds, lengths, chosen, drawn = Counter(), 0, 0, Counter()
    for batch in batches(store, masking={"whole_words": whole_words}):
        at = batch["labels"] != -100
        per_row = at.sum(-1)
        wanted = np.maximum(1, np.rint(0.15 * batch["attention_mask"].sum(-1).numpy()))
        assert (
            (per_row.numpy() <= wanted).all() if whole_words else (per_row.numpy() == wanted).all()
        )
        lengths, chosen = lengths + int(batch["attention_mask"].sum()), chosen + int(at.sum())
        for seen, true in zip(
            batch["input_ids"][at].tolist(), batch["labels"][at].tolist(), strict=True
        ):
            kinds["mask" if seen == MASK else "kept" if seen == true else "random"] += 1
            if seen not in (MASK, true):
                drawn[seen] += 1
        assert (batch["input_ids"][~at] != MASK).all()
    assert 0.14 < chosen / lengths < 0.16
    # A random token is the true one now and then, and then looks kept: one in some 1,000, which the
    # test bears.
    expected = [0.8 * chosen, 0.1 * chosen, 0.1 * chosen]
    assert chisquare([kinds["mask"], kinds["random"], kinds["kept"]], expected).pvalue > RANDOMLY
    assert not SPECIAL & set(drawn)
    assert not any(
        token.startswith("[unused") for token in TOKENIZER.convert_ids_to_tokens(list(drawn))
    )


def test_random_tokens_are_uniform():
    ids = np.full((200, 100), 7)
    ordinary = np.arange(5, 45)
    seen, labels = mask_tokens(
        ids,
        np.ones_like(ids, bool),
        np.zeros_like(ids, bool),
        np.full(200, 100),
        MaskingOptions(probability=1.0, mask_share=0.0, random_share=1.0),
        mask_id=3,
        ordinary_ids=ordinary,
        generator=np.random.default_rng(0),
    )
    assert (labels == 7).all()
    assert chisquare(np.bincount(seen.ravel(), minlength=45)[5:]).pvalue > RANDOMLY
    assert seen.min() >= 5


def test_every_place_is_as_likely():
    ids = np.full((4000, 20), 7)
    maskable = np.ones_like(ids, bool)
    maskable[:, [0, 19]] = False
    _, labels = mask_tokens(
        ids,
        maskable,
        np.zeros_like(maskable),
        np.full(4000, 20),
        MaskingOptions(),
        mask_id=3,
        ordinary_ids=np.arange(5, 45),
        generator=np.random.default_rng(1),
    )
    assert ((labels != -100).sum(-1) == 3).all()
    counts = (labels != -100).sum(0)
    assert counts[0] == counts[19] == 0
    assert chisquare(counts[1:19]).pvalue > RANDOMLY


def test_whole_words_are_whole(store):  # noqa: F811
    pieces = 0
    for batch in batches(store, masking={"whole_words": True}):
        ids, chosen = original(batch), batch["labels"] != -100
        for row, marks, length in zip(
            ids.tolist(), chosen.tolist(), batch["attention_mask"].sum(-1), strict=True
        ):
            tokens = TOKENIZER.convert_ids_to_tokens(row[:length])
            for place in range(1, len(tokens)):
                if tokens[place].startswith("##") and row[place - 1] not in SPECIAL:
                    assert marks[place] == marks[place - 1], tokens[place - 1 : place + 1]
                    pieces += marks[place]
    assert pieces > 200  # continuations were chosen at all
    # Without the option words are split: the assertion above can fail.
    batch = batches(store, 1)[0]
    tokens = [TOKENIZER.convert_ids_to_tokens(row) for row in original(batch).tolist()]
    marks = (batch["labels"] != -100).tolist()
    assert any(
        tokens[row][place].startswith("##") and marks[row][place] != marks[row][place - 1]
        for row in range(len(tokens))
        for place in range(1, len(tokens[row]))
    )


def test_words_of_another_kind_of_tokenizer(tmp_path):
    """Byte-level BPE has no ##: word ids tell what makes a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from bertlite.pretraining import write_token_store

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.train_from_iterator(
        ["low lower"] * 9, trainers.BpeTrainer(vocab_size=14, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    found = write_token_store([["lower low", "wool"]], tokenizer, tmp_path / "store")
    words = [len(tokenizer.encode(" " + word)) for word in ("lower", "low", "wool")]
    expected = [flag for count in words for flag in (0, *[1] * (count - 1))]
    assert max(words) > 1
    assert found.continues.tolist() == expected
    assert found.sentence_ends.tolist() == [words[0] + words[1], sum(words)]


def test_limit_of_predictions(store):  # noqa: F811
    for whole_words in (False, True):
        for batch in batches(store, 5, masking={"max_predictions": 4, "whole_words": whole_words}):
            counts = (batch["labels"] != -100).sum(-1)
            assert counts.min() >= 1
            assert (
                (counts <= 4).float().mean() == 1
                or whole_words
                and (counts <= 4).float().mean() > 0.95
            )
            assert counts.max() >= 4


def test_masks_are_drawn_anew(store):  # noqa: F811
    """The same text in two epochs has other places masked, as often together as two independent
    draws.
    """
    maskings = [{"probability": 0.15}] * 2
    found = []
    for seed, masking in enumerate(maskings):
        given = options("none", updates=30, masking=masking)
        whole = stream(store, given)
        rows = [row for _, row in zip(range(400), sorted_rows(store, given), strict=False)]
        found.append((whole.make_batch(seed, rows)["labels"] != -100).numpy())
    together = int((found[0] & found[1]).sum())
    assert found[0].sum() > 1000
    assert binomtest(together, int(found[0].sum()), found[1].sum() / found[1].size).pvalue > 1e-12
    assert together < 0.4 * found[0].sum()


def sorted_rows(store, given):  # noqa: F811
    from bertlite.pretraining.batch_stream import plan_blocks

    return sorted(
        row for rows in plan_blocks(store, 64, given, 0) for row in rows if row.length == 64
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"probability": 0}, "probability"),
        ({"mask_share": 0.95}, "mask_share and random_share"),
        ({"max_predictions": 0}, "max_predictions"),
    ],
)
def test_refused(given, message):
    with pytest.raises(ValueError, match=message):
        MaskingOptions(**given)
