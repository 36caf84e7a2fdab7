"""Pairs over real text, by chi-square and by hand.

Who is next, how long, cut where, and from which document.
"""

import random
from collections import Counter

import pytest
from pretraining_cases import DOCUMENTS, options, store  # noqa: F401
from scipy.stats import binomtest, chisquare

from bertlite.pretraining import PairOptions, TokenStore, read_documents, split_sentences
from bertlite.pretraining.batch_stream import plan_blocks
from bertlite.pretraining.sentence_pairs import Row, document_rows, fit, full_sentence_rows

LENGTH = 64
RANDOMLY = 1e-4  # significance: with fixed seeds a test either always passes or always fails


@pytest.fixture(scope="module")
def rows(store):  # noqa: F811
    """Rows of five epochs, with the number of their document."""
    generator, found = random.Random(5), []
    for _ in range(5):
        for document in range(len(store)):
            found += [
                (document, row)
                for row in document_rows(store, document, LENGTH, PairOptions(), generator)
            ]
    return found


def owner(store: TokenStore, position: int) -> int:  # noqa: F811
    ends = store.sentence_ends[store.document_ends - 1]
    return int(ends.searchsorted(position, side="right"))


def test_real_text():
    assert len(DOCUMENTS) > 300
    assert sum(map(len, DOCUMENTS)) > 5000


def test_half_is_next_exactly(store):  # noqa: F811
    """Two sentences that together do not fill a row always leave a choice: then it is a coin."""
    short = [
        d for d in range(len(store)) if len(b := store.bounds(d)) >= 3 and b[2] - b[0] < LENGTH - 3
    ]
    generator, labels = random.Random(1), Counter()
    for _ in range(20):
        for document in short:
            row = next(
                document_rows(store, document, LENGTH, PairOptions(short_probability=0), generator)
            )
            labels[row.label] += 1
    assert sum(labels.values()) > 1000
    assert chisquare([labels[0], labels[1]]).pvalue > RANDOMLY


def test_random_next_is_never_of_the_same_document(store, rows):  # noqa: F811
    others = Counter()
    for document, row in rows:
        if row.label == 1:
            assert owner(store, row.b_start) != document
            others[owner(store, row.b_start)] += 1
        else:
            assert owner(store, row.b_start) == owner(store, row.b_end - 1) == document
        assert owner(store, row.a_start) == owner(store, row.a_end - 1) == document
    # Every other document is as likely: chi-square over all of them.
    counts = [others[document] for document in range(len(store))]
    assert sum(counts) / len(counts) > 5
    assert chisquare(counts).pvalue > RANDOMLY


def test_real_next_goes_on_where_a_ends(rows):
    """At once in a row that was not cut.

    In one that was, less what A lost at its end and B at its beginning.
    """
    follows = [row for _, row in rows if row.label == 0]
    assert all(row.a_end == row.b_start for row in follows if row.length < LENGTH)
    assert all(row.a_end <= row.b_start for row in follows)
    assert sum(row.length < LENGTH for row in follows) > 1000


def test_rows_fill_up_to_the_limit(rows):
    lengths = [row.length for _, row in rows]
    assert max(lengths) == LENGTH
    assert min(row.a_end - row.a_start for _, row in rows) >= 1
    assert min(row.b_end - row.b_start for _, row in rows) >= 1
    assert sum(length == LENGTH for length in lengths) / len(lengths) > 0.4


def test_share_and_lengths_of_short_documents(store):  # noqa: F811
    """A document of 3,000 sentences of one token.

    Its rows show the target that was drawn for it, exactly.
    """
    bounds, targets = list(range(3001)), Counter()

    class Ones:
        def bounds(self, document):
            return bounds

        def __len__(self):
            return 2

    generator = random.Random(3)
    for _ in range(2000):
        rows_found = [next(document_rows(Ones(), 0, 32, PairOptions(), generator))]
        targets[rows_found[0].length - 3] += 1
    short = sum(count for target, count in targets.items() if target < 29)
    # A short target is drawn from 2 to 29: 29 itself, one in 28, looks full.
    assert binomtest(short, 2000, 0.1 * 27 / 28).pvalue > RANDOMLY
    assert chisquare([targets[target] for target in range(2, 29)]).pvalue > RANDOMLY


def test_cut_by_hand():
    generator = random.Random(0)
    fronts = Counter()
    for _ in range(4000):
        # 10 + 4 tokens and 3 special ones into 14: A loses 3, as it is the longer one throughout.
        row = fit(Row(100, 110, 200, 204, 1), 14, generator)
        assert (row.a_end - row.a_start, row.b_start, row.b_end) == (7, 200, 204)
        fronts[row.a_start - 100] += 1
    # Each of three tokens is lost at the front with probability 1/2: 1, 3, 3, 1 eighths.
    assert chisquare([fronts[k] for k in range(4)], [500, 1500, 1500, 500]).pvalue > RANDOMLY
    # Equal lengths: B loses first, then they take turns. 5 + 5 into 6 tokens: B, A, B, A.
    row = fit(Row(0, 5, 10, 15, 0), 9, generator)
    assert (row.a_end - row.a_start, row.b_end - row.b_start) == (3, 3)
    row = fit(Row(0, 5, 10, 15, 0), 10, generator)
    assert (row.a_end - row.a_start, row.b_end - row.b_start) == (4, 3)
    assert fit(Row(0, 5, 10, 15, 0), 13, generator) == Row(0, 5, 10, 15, 0)
    assert fit(Row(0, 20, 0, 0, -100), 12, generator).length == 12  # without B


def test_nothing_of_a_is_lost_when_the_next_is_random(store):  # noqa: F811
    """Every sentence that a row does not cut is in one row of the epoch.

    Uncut rows lie end to end in the document.
    """
    generator = random.Random(2)
    for document in range(0, len(store), 7):
        found = list(
            document_rows(store, document, 100_000, PairOptions(short_probability=0), generator)
        )
        at = store.bounds(document)[0]
        for row in found:
            assert row.a_start == at
            at = row.b_end if row.label == 0 else row.a_end
        assert at == store.bounds(document)[-1]


def test_sentence_order(store):  # noqa: F811
    swapped, generator = Counter(), random.Random(4)
    for document in range(len(store)):
        for row in document_rows(
            store, document, LENGTH, PairOptions(task="sentence_order"), generator
        ):
            swapped[row.label] += 1
            if row.label == 0:
                assert row.a_end <= row.b_start
            elif row.label == 1:
                assert row.b_end <= row.a_start
            else:
                assert row.b_start == row.b_end == 0
            assert owner(store, row.a_start) == document
    assert swapped[0] + swapped[1] > 1000
    assert chisquare([swapped[0], swapped[1]]).pvalue > RANDOMLY


def test_full_sentences_by_hand():
    # Sentences of 3, 4, 12 and 2 tokens, 8 to a row: 3 + 4; then 12 cut into 8 and 4, with 2 to
    # follow.
    found = [(row.a_start, row.a_end) for row in full_sentence_rows([10, 13, 17, 29, 31], 10)]
    assert found == [(10, 17), (17, 25), (25, 31)]


def test_epochs_hold_the_same_text_in_another_order(store):  # noqa: F811
    given = options("none")
    epochs = [
        [row for rows in plan_blocks(store, LENGTH, given, epoch) for row in rows]
        for epoch in (0, 1)
    ]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert sum(row.a_end - row.a_start for row in epochs[0]) == len(store.ids)


def test_sentences_by_hand():
    text = 'It is 3.5 km, e.g. by Mr. Smith. "Really?" he said. Yes! J. R. Hartley (1983) wrote. 2 men came.'
    assert split_sentences(text) == [
        "It is 3.5 km, e.g. by Mr. Smith.",
        '"Really?" he said.',
        "Yes!",
        "J. R. Hartley (1983) wrote.",
        "2 men came.",
    ]
    assert split_sentences("他来了。你呢？好") == ["他来了。", "你呢？", "好"]
    assert split_sentences("  ") == []


def test_inputs(tmp_path):
    import gzip

    import pandas

    (tmp_path / "a.txt").write_text("One here. Two here.\nThree.\n\n\n \nFour.\n")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write('{"body": "Five. Six."}\n\n{"body": "Seven."}\n')
    pandas.DataFrame({"body": ["Eight.\nNine."]}).to_parquet(tmp_path / "c.parquet")
    expected = [
        ["One here.", "Two here.", "Three."],
        ["Four."],
        ["Five.", "Six."],
        ["Seven."],
        ["Eight.", "Nine."],
    ]
    assert list(read_documents([str(tmp_path)], field="body")) == expected
    assert list(read_documents([str(tmp_path / "*.txt")], lines="sentence"))[0] == [
        "One here. Two here.",
        "Three.",
    ]
    (tmp_path / "bad.jsonl").write_text('{"body": "x"}\n{"text": 1}\n')
    with pytest.raises(ValueError, match="line 2.*'body'"):
        list(read_documents([str(tmp_path / "bad.jsonl")], field="body"))
    for name in ("nothing.txt", "x.pdf"):
        (tmp_path / "x.pdf").write_text("")
        with pytest.raises(ValueError, match="input must"):
            read_documents([str(tmp_path / name)])
