"""What is said of a text before training: how much is shown, and what cannot be learned from it."""

import json

import pytest
from pretraining_cases import (  # noqa: F401
    DOCUMENTS,
    TOKENIZER,
    command,
    one_thread_of_torch,
    options,
    tokenizer_folder,
)
from transformers import BertTokenizer

from bertlite.cli.pretrain import main
from bertlite.pretraining import Phase, StreamOptions, survey_text, write_token_store
from bertlite.pretraining.survey import doubts


def store_of(documents, folder, tokenizer=TOKENIZER):
    return write_token_store(documents, tokenizer, folder / "store", show_progress=False)


def test_shares_by_hand(tmp_path):
    """Words of one token. Rows of 13 without pairs hold 11: of 4 and 5 tokens, 9 in each row.

    A pass of two such documents is two rows of 11 tokens with [CLS] and [SEP], 22 in all.
    """
    documents = [["the a is of", "the a is of to"], ["to of is a", "the a is of in"]]
    store = store_of(documents, tmp_path)
    assert len(store.ids) == 18
    given = options("none", length=13, updates=11, tokens=16)
    found = survey_text(store, TOKENIZER, given)
    assert found.shown == {13: 1.0}
    assert found.passes == pytest.approx(11 * 16 / 22)
    assert (found.random_pairs, found.one_sentence, found.continuing) == (None, 0.0, 0.0)
    assert str(found) == "text shown by one pass: 100.0% in rows of 13; the run makes 8.00 passes"
    assert found.to_dict()["shown"] == {"13": 1.0}
    assert doubts(found, given) == []


def test_long_sentences_are_cut_by_pairs_and_said(tmp_path):
    """Two sentences of 29 tokens in a row of 33, of which 3 are special: they keep 15 each.

    A real pair shows 30 of 58, and a random one 15 of 29.
    """
    store = store_of([[" ".join(["the"] * 29)] * 40] * 3, tmp_path)
    given = options(length=33, short=0, tokens=66)
    found = survey_text(store, TOKENIZER, given)
    assert found.shown[33] == pytest.approx(15 / 29)
    (said,) = doubts(found, given)
    assert "one pass shows 51.7% of the text only" in said
    assert "--max-lengths" in said
    # Of 30 tokens, one fills a row, and then no second one is real.
    store = store_of([[" ".join(["the"] * 30)] * 40] * 3, tmp_path)
    said = doubts(survey_text(store, TOKENIZER, given), given)
    assert "100.0% of the pairs have a random second segment, since sentences are as" in said[1]
    # Nothing of a transcript is lost, which is one sentence longer than a row.
    store = store_of([[" ".join(["the"] * 1201)]] * 3, tmp_path)
    found = survey_text(store, TOKENIZER, given)
    assert found.shown == {33: 1.0}
    assert found.random_pairs < 0.7


def test_documents_of_one_sentence_make_random_pairs(tmp_path):
    store = store_of([[f"the {number} is a string"] for number in range(40)], tmp_path)
    found = survey_text(store, TOKENIZER, options(length=32))
    assert (found.random_pairs, found.one_sentence) == (1.0, 1.0)
    (said,) = doubts(found, options(length=32))
    assert "100.0% of the pairs have a random second segment" in said
    assert "--task none" in said
    assert doubts(survey_text(store, TOKENIZER, options("none")), options("none")) == []


def test_whole_words_of_chinese(tmp_path):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *"他来了你呢好。", "film", "##s", "rice"]
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(vocabulary)})
    whole = options(masking={"whole_words": True})
    store = store_of([["他来了。", "你呢好。"], ["films 好。", "好好。"]], tmp_path, tokenizer)
    found = survey_text(store, tokenizer, whole)
    assert found.han == pytest.approx(9 / 15)  # beside four full stops, film and ##s
    (said,) = doubts(found, whole)
    assert "--whole-words masks no whole words of Chinese: 60.0% of the tokens" in said
    assert doubts(found, options()) == []
    store = store_of([["film rice", "rice film"], ["film film", "rice"]], tmp_path, tokenizer)
    (said,) = doubts(survey_text(store, tokenizer, whole), whole)
    assert "--whole-words changes next to nothing: 0.0% of the tokens go on" in said
    store = store_of([["films rice", "rice films"], ["film films", "rice"]], tmp_path, tokenizer)
    assert doubts(survey_text(store, tokenizer, whole), whole) == []


def test_two_phases_are_both_measured(tmp_path):
    store = store_of(DOCUMENTS[:100], tmp_path)
    given = StreamOptions(phases=(Phase(32, 5), Phase(64, 5)), tokens_per_batch=256)
    found = survey_text(store, TOKENIZER, given)
    assert set(found.shown) == {32, 64}
    assert 0.5 < found.shown[32] <= 1


def test_the_command_says_it_and_keeps_it(tokenizer, tmp_path, caplog):
    """In the log, before training; in the run's note, the figures and the card."""
    rows = [{"text": " ".join(each)[:60]} for each in DOCUMENTS[:80]]
    rows[7]["text"] += " \ud83d"
    rows.insert(3, {"text": None})
    path = tmp_path / "rows.jsonl"
    path.write_text("\ufeff" + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given = command(path, tokenizer, tmp_path / "out", "--whole-words", steps=1)
    with caplog.at_level("INFO", logger="bertlite"):
        assert main(given) == 0
    before = caplog.text[: caplog.text.index("Written to")]
    assert "inputs: 1 rows without text (null), which were passed over" in before
    assert "inputs: 1 texts with half a character (a lone surrogate), which was replaced" in before
    assert "text shown by one pass: " in before
    assert "of the pairs have a random second segment" in before
    assert "--task none" in before
    note = json.loads((tmp_path / "out" / "pretraining.json").read_text())["text"]
    assert note == json.loads((tmp_path / "out" / "metrics.json").read_text())["text"]
    assert note["one_sentence"] == 1.0
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"one pass shows {note['shown']['32']:.1%} in rows of 32" in card
    assert "| masked-LM loss |" in card
