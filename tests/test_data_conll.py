"""Sentences in columns: comments, ids and tags of CoNLL, CoNLL-U and their like."""

import pandas
import pytest

from bertlite.data import prepare

TAGGING = "token-classification"


def tagged(tmp_path, text, name="a.conll", **options):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return prepare(TAGGING, tmp_path / name, **options)


def words_of(data):
    return [(row["tokens"], [data.labels[number] for number in row["tags"]]) for row in data.train]


# ---- CoNLL

TWO = [(["Ada", "lived"], ["B-PER", "O"]), (["Bob"], ["B-PER"])]


@pytest.mark.parametrize(
    "text",
    [
        "# id 5239\tdomain=en\nAda\tB-PER\nlived\tO\n\n# id 5240\tdomain=en\nBob\tB-PER\n\n",
        "# id 1 domain=en\n\nAda _ _ B-PER\nlived _ _ O\n\n\n# id 2 domain=en\nBob _ _ B-PER\n",
        "# sent_id = 1\nAda NN B-NP B-PER\nlived VB O O\n\n# sent_id = 2\nBob NN B-NP B-PER\n",
        "# sent_id = 1\n# text = Ada lived\nAda B-PER\nlived O\n\n# a word\nBob B-PER\n",
        "#begin document (a); part 000\nAda x B-PER\nlived y O\n\nBob x B-PER\n#end document\n",
        "1\tAda\tB-PER\t-\tann\n2\tlived\tO\t-\tann\n\n1\tBob\tB-PER\t-\tann\n",
        "Ada\tB-PER\t_\t_\nlived\tO\t_\t_\n\nBob\tB-PER\t_\t_\n",
        "-DOCSTART- -X- O\n\nAda NN B-PER\nlived VB O\n-DOCSTART- -X- O\nBob NN B-PER",
        "Ada\tB-PER \nlived\tO \n\t\nBob\tB-PER \n",
        "\ufeffAda B-PER\r\nlived O\r\n\r\nBob B-PER\r\n",
    ],
)
def test_comments_and_columns_of_conll(text, tmp_path):
    assert words_of(tagged(tmp_path, text)) == TWO


def test_a_word_may_be_a_number_sign(tmp_path):
    """As a word of its own, at the start of a sentence too, and as a hashtag."""
    for gap in (" ", "\t"):
        text = "# O\nAda B-PER\n# O\n\n#ada B-PER\nlived O\n".replace(" ", gap)
        assert words_of(tagged(tmp_path, text)) == [
            (["#", "Ada", "#"], ["O", "B-PER", "O"]),
            (["#ada", "lived"], ["B-PER", "O"]),
        ]


def test_a_word_may_hold_other_white_space(tmp_path):
    text = "10\u00a0000 B-NUM\nmen O\n\na\u2028b O\nc B-NUM\n"
    assert [words for words, _ in words_of(tagged(tmp_path, text))] == [
        ["10\u00a0000", "men"],
        ["a\u2028b", "c"],
    ]


def test_a_line_with_too_many_columns_is_a_bad_row(tmp_path):
    text = "Ada B-PER\nlived O\n\nNew York B-LOC\n\nBob B-PER\n"
    with pytest.raises(ValueError, match="a.conll line 4: another number of columns: a line has 3"):
        tagged(tmp_path, text)


CONLLU = """# newdoc id = d
# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\tV\tMood=Imp\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\tP\tCase=Acc\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\tE\t_\t5\tcase\t_\t_
4\tel\tel\tDET\tD\t_\t5\tdet\t_\t_
5\tmar\tmar\tNOUN\tN\t_\t1\tobl\t_\tSpaceAfter=No

# sent_id = 2
1\t10 000\t10000\tNUM\tZ\t_\t0\troot\t_\t_
1.1\tvan\tir\tVERB\tV\t_\t_\t_\t0:root\t_
"""


@pytest.mark.parametrize("name", ["a.conllu", "a.conll", "a.txt", "a.conllu.gz"])
def test_conllu(name, tmp_path):
    """Words by the standard: no lines of several words in one, no empty nodes; tags are UPOS."""
    if name.endswith(".gz"):
        import gzip

        (tmp_path / name).write_bytes(gzip.compress(CONLLU.encode()))
        data = prepare(TAGGING, tmp_path / name)
    else:
        data = tagged(tmp_path, CONLLU, name)
    assert words_of(data) == [
        (["Vamos", "nos", "a", "el", "mar"], ["VERB", "PRON", "ADP", "DET", "NOUN"]),
        (["10 000"], ["NUM"]),
    ]
    second = prepare(TAGGING, tmp_path / name, columns={"tags": "xpos"})
    assert words_of(second)[1] == (["10 000"], ["Z"])


def test_words_written_by_python(tmp_path):
    """Lists as a data frame writes them to CSV."""
    frame = pandas.DataFrame({"tokens": [["I", "am"], ["I'm"]], "tags": [["P", "A"], ["P"]]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert words_of(prepare(TAGGING, tmp_path / "a.csv")) == [
        (["I", "am"], ["P", "A"]),
        (["I'm"], ["P"]),
    ]


def test_words_of_a_tsv(tmp_path):
    """With empty lines between sentences it is no table; without them it is one."""
    text = "#\thttp://a.de [2005]\n1\tAda\tB-PER\tO\n2\tlived\tO\tO\n\n1\tBob\tB-PER\tO\n"
    assert words_of(tagged(tmp_path, text, "a.tsv")) == TWO
    table = 'tokens\ttags\n["Ada"]\t["B-PER"]\n["a"]\t["O"]\n'
    assert len(tagged(tmp_path, table, "b.tsv").train) == 2
