"""The stream is the same whoever reads it.

Any number of workers and processes, after a stop, from its seed alone.
"""

from itertools import islice

import pytest
import torch
from pretraining_cases import DOCUMENTS, TOKENIZER, options, store, stream  # noqa: F401

from bertlite.pretraining import BatchStream, Phase, StreamOptions, TokenStore, write_token_store
from bertlite.pretraining.batch_stream import plan_batches
from bertlite.pretraining.token_store import is_held_out


def same(left, right) -> bool:
    return len(left) == len(right) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(left, right, strict=True)
    )


@pytest.fixture(scope="module")
def straight(store):  # noqa: F811
    return list(stream(store, options(updates=12)))


def test_holds_what_was_asked(straight):
    assert len(straight) == 12
    for batch in straight:
        tokens = int(batch["attention_mask"].sum())
        assert 512 - 64 < tokens <= 512  # the next row, at most 64 long, did not fit
    assert not same(straight[:1], straight[1:2])


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_workers_change_nothing(store, straight, workers):  # noqa: F811
    assert same(list(stream(store, options(updates=12)).loader(workers)), straight)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_it(store, straight, processes):  # noqa: F811
    for index in range(processes):
        part = stream(store, options(updates=12), process_index=index, num_processes=processes)
        assert same(list(part), straight[index::processes])
        assert same(list(part.loader(2)), straight[index::processes])


@pytest.mark.parametrize("start", [0, 1, 5, 11, 12])
def test_goes_on_anywhere(store, straight, start):  # noqa: F811
    assert same(list(stream(store, options(updates=12), start=start)), straight[start:])
    shared = stream(store, options(updates=12), start=start, process_index=1, num_processes=2)
    assert same(list(shared.loader(2)), straight[start:][1::2])


def test_seed(store, straight):  # noqa: F811
    assert same(list(stream(store, options(updates=12))), straight)
    assert not same(list(stream(store, options(updates=12, seed=1))), straight)
    torch.manual_seed(123)  # the global state has no part in it
    assert same(list(stream(store, options(updates=12))), straight)


def test_phases(store):  # noqa: F811
    given = StreamOptions((Phase(32, 4), Phase(64, 2)), tokens_per_batch=256, batches_per_update=2)
    batches = list(BatchStream(store, TOKENIZER, given))
    assert [batch["input_ids"].shape[1] for batch in batches] == [32] * 8 + [64] * 4
    for start in (7, 8, 9):
        assert same(list(BatchStream(store, TOKENIZER, given, start=start)), batches[start:])


def test_an_epoch_holds_every_row_once(store):  # noqa: F811
    given, tokens, epochs = options("none"), 0, []
    rows = (row for batch in plan_batches(store, 64, given) for row in batch)
    for _ in range(2):
        epoch = []
        while tokens < len(store.ids) * (len(epochs) + 1):
            epoch.append(next(rows))
            tokens += epoch[-1].a_end - epoch[-1].a_start
        epochs.append(epoch)
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert len(set(epochs[0])) == len(epochs[0])


def test_tasks(store):  # noqa: F811
    batch = next(iter(stream(store, options("none"))))
    assert "next_sentence_label" not in batch
    assert not batch["token_type_ids"].any()
    batch = next(iter(stream(store, options("sentence_order"))))
    assert set(batch["next_sentence_label"].tolist()) <= {0, 1, -100}


def test_store_gives_the_text_back(store):  # noqa: F811
    assert len(store) == len(DOCUMENTS)
    for document in (0, 7, len(store) - 1):
        bounds = store.bounds(document)
        expected = [
            ids
            for text in DOCUMENTS[document]
            if (ids := TOKENIZER(text, add_special_tokens=False).input_ids)
        ]
        found = [store.ids[a:b].tolist() for a, b in zip(bounds, bounds[1:], strict=False)]
        assert found == expected
    assert store.description["unknown"] == int((store.ids == TOKENIZER.unk_token_id).sum())


def test_store_in_pieces_and_replaced(tmp_path):
    whole = write_token_store(
        iter(DOCUMENTS[:600]), TOKENIZER, tmp_path / "store"
    )  # more than one call's worth
    assert len(whole) == min(600, len(DOCUMENTS))
    replaced = write_token_store([[""], ["one two", " "], ["three"]], TOKENIZER, tmp_path / "store")
    assert (len(replaced), len(replaced.sentence_ends)) == (2, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    with pytest.raises(ValueError, match="at least one"):
        write_token_store([[" "]], TOKENIZER, tmp_path / "other")
    (tmp_path / "store" / "ids.bin").write_bytes(b"xx")
    with pytest.raises(ValueError, match="tokens, got 1"):
        TokenStore(tmp_path / "store")


def test_held_out_by_text():
    shares = [is_held_out([str(number)], 0.2) for number in range(2000)]
    assert 0.16 < sum(shares) / 2000 < 0.24
    assert shares == [is_held_out([str(number)], 0.2) for number in range(2000)]


def test_refused(tmp_path, store):  # noqa: F811
    for given, message in (
        ({"phases": ()}, "phases"),
        ({"phases": (Phase(128, 0),)}, "updates"),
        ({"phases": (Phase(128, 1),), "tokens_per_batch": 100}, "tokens_per_batch must hold a row"),
        ({"phases": (Phase(128, 1),), "batches_per_update": 0}, "batches_per_update"),
    ):
        with pytest.raises(ValueError, match=message):
            StreamOptions(**given)
    single = write_token_store([["one two three."]], TOKENIZER, tmp_path / "single")
    with pytest.raises(ValueError, match="at least 2 documents"):
        stream(single, options())
    assert len(list(islice(stream(single, options("none")), 2))) == 2
