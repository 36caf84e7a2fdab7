"""Pairs over real text, by chi-square and by hand.

Who is next, how long, cut where, and from which document.
"""

import doctest
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy
import pytest
from pretraining_cases import DOCUMENTS, TOKENIZER, options, store  # noqa: F401
from scipy.stats import binomtest, chisquare

from bertlite.cli import spelling
from bertlite.pretraining import PairOptions, TokenStore, read_documents, sentences, split_sentences
from bertlite.pretraining.batch_stream import plan_blocks
from bertlite.pretraining.documents import MENDED, NO_TEXT, find_inputs
from bertlite.pretraining.sentence_pairs import (
    Row,
    cut_long_sentences,
    document_rows,
    fit,
    full_sentence_rows,
    random_stretch,
)
from bertlite.pretraining.sentences import sentences_of
from bertlite.tokenization import vocabulary

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


class Corpus:
    """A store of one-token ids whose sentences have the lengths given; two documents of them."""

    def __init__(self, *lengths: int, continues: int = 0):
        self.places = [sum(lengths[:number]) for number in range(len(lengths) + 1)]
        self.continues = numpy.full(self.places[-1], continues, numpy.uint8)

    def bounds(self, document: int) -> list[int]:
        return self.places

    def __len__(self) -> int:
        return 2


def test_full_sentences_by_hand():
    # Sentences of 3, 4, 12 and 2 tokens, 8 to a row: 3 + 4; then 12 as 6 and 6, the latter with 2.
    bounds, cut = cut_long_sentences(Corpus(3, 4, 12, 2), 0, 8, 8)
    assert (bounds, cut) == ([0, 3, 7, 13, 19, 21], [False, False, True, True, False])
    found = [(row.a_start, row.a_end) for row in full_sentence_rows(bounds, 10)]
    assert found == [(0, 7), (7, 13), (13, 21)]


def test_pieces_begin_with_words_where_they_can():
    corpus = Corpus(12, continues=1)
    assert cut_long_sentences(corpus, 0, 8, 8)[0] == [0, 6, 12]  # one long word
    corpus.continues[[0, 2, 5]] = 0  # words at 0, 2 and 5: 7 are left, which fit
    assert cut_long_sentences(corpus, 0, 8, 8)[0] == [0, 5, 12]
    corpus.continues[5] = 1  # 2 is not in the latter half of the six
    assert cut_long_sentences(corpus, 0, 8, 8)[0] == [0, 6, 12]
    assert cut_long_sentences(Corpus(8, 8), 0, 8, 4) == ([0, 8, 16], [False, False])


@pytest.mark.parametrize("length", [8, 33, 64, 128])
@pytest.mark.parametrize("task", ["next_sentence", "sentence_order", "none"])
@pytest.mark.parametrize(
    "lengths", [(2501,), (20, 900, 20, 126, 4000)], ids=["one", "among others"]
)
def test_a_sentence_longer_than_a_row_is_shown_whole(task, length, lengths):
    """A transcript without full stops; nothing of it is left out, whatever row it is in."""
    corpus = Corpus(*lengths)
    long = {
        place
        for start, end in pairwise(corpus.places)
        if end - start > length
        for place in range(start, end)
    }
    shown, generator = Counter(), random.Random(0)
    options_given = PairOptions(task=task, short_probability=0)
    for row in document_rows(corpus, 0, length, options_given, generator):
        assert row.length <= length
        shown.update(range(row.a_start, row.a_end))
        if row.label != 1 or task == "sentence_order":
            shown.update(range(row.b_start, row.b_end))
    assert max(shown.values()) == 1
    missing = long - set(shown)
    # Beside other sentences, a row that is too long is cut at its ends, as in the original.
    assert len(missing) <= (0 if len(lengths) == 1 else 2 * length)
    labels = Counter(
        row.label for row in document_rows(corpus, 0, length, options_given, random.Random(1))
    )
    assert task == "none" or labels[0] > labels.total() / 5  # its own pieces are real pairs


def test_random_segments_come_from_anywhere_in_a_long_sentence():
    corpus, starts, generator = Corpus(1000), Counter(), random.Random(0)
    for _ in range(4000):
        start, end = random_stretch(corpus, 0, 40, 125, generator)
        assert end - start == 40
        starts[start] += 1
    assert set(starts) <= set(range(961))
    assert chisquare([starts[place] for place in range(961)]).pvalue > RANDOMLY


def test_epochs_hold_the_same_text_in_another_order(store):  # noqa: F811
    given = options("none")
    epochs = [
        [row for rows in plan_blocks(store, LENGTH, given, epoch) for row in rows]
        for epoch in (0, 1)
    ]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert sum(row.a_end - row.a_start for row in epochs[0]) == len(store.ids)


@pytest.mark.parametrize(
    "text",
    [
        'It is 3.5 km, e.g. by Mr. Smith.|"Really?" he said.|Yes!|J. R. Hartley (1983) wrote.|Ok.',
        "See example.org?x=1 and What?!Really. ok then.|Übung.|Sie ging…|2 men came.",
        "«Да.»|«Нет!» — сказал он.|Потом ушёл.",
        "राम घर गया।|सीता आई।|मोहन भी॥|अंत",
        "وہ آیا۔|تم کہاں ہو؟|میں یہاں ہوں۔",
        "هل أنت بخير؟|نعم، أنا بخير!|شكراً.",
        "ሰላም።|እንዴት ነህ።",
        "မင်္ဂလာပါ။|နေကောင်းလား။",
        "នេះជាភាសាខ្មែរ។|ល្អណាស់។",
        "Բարեւ։|Ինչպես ես։",
        "สวัสดีครับ ผมชื่อสมชาย",
        "so then we went uh to the place and i said no you did not",
    ],
)
def test_sentences_of_many_scripts(text):
    """By hand: between white space, where Unicode's annex 29 and the rules of the page put them."""
    expected = text.split("|")
    assert split_sentences(" ".join(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "他来了。|你呢？|好",
        "「他来了。」|他说：「好！」|然后走了！！！",
        "３．５キロです．|次の文です．",
        "राम आया।|सीता गई",
    ],
)
def test_sentences_without_spaces(text):
    assert split_sentences(text.replace("|", "")) == text.split("|")


@pytest.mark.parametrize("module", [sentences, spelling, vocabulary], ids=lambda m: m.__name__)
def test_examples_in_docstrings(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


def test_line_ends_of_unicode():
    """UAX #29 ends a sentence at each of them; lines of a file end at line feeds alone."""
    assert split_sentences("one\u2028two\u2029three\x85four\x0bfive") == [
        "one",
        "two",
        "three",
        "four\x0bfive",
    ]
    assert sentences_of("one\u2028two\x0c\r\n\nthree\rfour", "sentence") == [
        "one\u2028two",
        "three",
        "four",
    ]
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


def test_odd_rows(tmp_path):
    """A byte order mark, null, NaN, half an emoji, a table; what is lost is counted."""
    lines = ['{"text": "One."}', '{"text": null}', '{"text": "Two \\ud83d here."}', '{"text": NaN}']
    content = "\ufeff" + "\r\n".join(lines)
    (tmp_path / "rows.jsonl").write_bytes(content.encode())
    (tmp_path / "rows.json").write_bytes(("\ufeff[" + ",".join(lines) + "]").encode())
    for name in ("rows.jsonl", "rows.json"):
        counts = Counter()
        found = list(read_documents([str(tmp_path / name)], counts=counts))
        assert found == [["One."], ["Two \ufffd here."]]
        assert dict(counts) == {NO_TEXT: 2, MENDED: 1}
        assert len(TOKENIZER.tokenize(found[1][0])) == len(TOKENIZER.tokenize("Two here."))
    (tmp_path / "mark.txt").write_bytes("\ufeffOne.\r\n\r\nTwo.".encode())
    (tmp_path / "table.csv").write_text('id,text\n1,One.\n2,"Two.\nThree."\n')
    assert list(read_documents([str(tmp_path / "mark.txt")])) == [["One."], ["Two."]]
    assert [Path(name).name for name in find_inputs([str(tmp_path)])] == [
        "mark.txt",
        "rows.json",
        "rows.jsonl",
    ]
    assert list(read_documents([str(tmp_path / "table.csv")])) == [["One."], ["Two.", "Three."]]
    for name, content in (("a.jsonl", b'{"text": "caf\xe9"}'), ("a.txt", b"caf\xe9")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"input .*{name}.* must be UTF-8"):
            list(read_documents([str(tmp_path / name)]))
