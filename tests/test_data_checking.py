"""Bad rows are named with their lines before training starts.

Labels, columns and odd splits are said aloud.
"""

import json

import datasets
import pytest

from bertlite.data import Problems, prepare
from bertlite.data.problems import BadRow

CLASSIFICATION = "sequence-classification"
TAGGING = "token-classification"
ANSWERING = "question-answering"
CHOOSING = "multiple-choice"


@pytest.fixture
def as_lines(tmp_path):
    """A JSON lines file of these rows; bytes go in as they are."""

    def write(rows, name="data.jsonl"):
        path = tmp_path / name
        path.write_bytes(
            b"".join(
                (row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n"
                for row in rows
            )
        )
        return path

    return write


GOOD = {
    CLASSIFICATION: {"text": "a film", "label": 0},
    TAGGING: {"tokens": ["In", "Ulm"], "tags": ["O", "B-LOC"]},
    ANSWERING: {
        "id": "1",
        "question": "Where?",
        "context": "In Ulm.",
        "answers": {"text": ["Ulm"], "answer_start": [3]},
    },
    CHOOSING: {"question": "Which?", "choices": ["a", "b"], "label": 1},
    "translation": {"translation": {"en": "cat", "de": "Katze"}},
    "summarization": {"document": "Long.", "summary": "Short."},
}
BAD = [
    (CLASSIFICATION, {"text": None}, "missing value: text"),
    (CLASSIFICATION, {"text": " \t"}, "empty text"),
    (CLASSIFICATION, {"text": ["a"]}, "not a text"),
    (CLASSIFICATION, {"label": None}, "missing label"),
    (CLASSIFICATION, {"label": " "}, "missing label"),
    (TAGGING, {"tags": ["O"]}, "tokens and tags of unequal length: 2 tokens, 1 tags"),
    (TAGGING, {"tokens": ["In", ""]}, "empty text: token 2"),
    (TAGGING, {"tokens": [], "tags": []}, "empty text"),
    (TAGGING, {"tags": ["O", None]}, "missing label"),
    (ANSWERING, {"id": "2", "context": "In Rome."}, "answer not at answer_start.*does not hold it"),
    (
        ANSWERING,
        {"id": "2", "answers": {"text": ["Ulm"], "answer_start": [-4]}},
        "answer not at answer_start",
    ),
    (
        ANSWERING,
        {"id": "2", "answers": {"text": ["Ulm"], "answer_start": []}},
        "answers of unequal length",
    ),
    (ANSWERING, {"id": "2", "answers": {"text": [""], "answer_start": [3]}}, "empty text: answer"),
    (ANSWERING, {"id": "2", "answers": None}, "missing value: answers"),
    (ANSWERING, {"id": "2", "answers": "Ulm"}, "broken JSON"),
    (
        ANSWERING,
        {"id": "2", "answers": {"text": ["Ulm"], "answer_start": ["3"]}},
        "answers are not",
    ),
    (ANSWERING, {}, "id stands twice: '1'"),
    (CHOOSING, {"label": 2}, "label out of range: 2 of 2 choices"),
    (CHOOSING, {"label": -1}, "label out of range"),
    (CHOOSING, {"label": "C"}, "label out of range"),
    (CHOOSING, {"choices": ["a", ""]}, "empty text: choice 1"),
    (CHOOSING, {"choices": ["a", "b", "c"]}, "another number of choices: 3, but most rows have 2"),
    ("translation", {"translation": {"en": "cat"}}, "missing value: target"),
    ("translation", {"translation": "cat"}, "not one text a language"),
    ("summarization", {"summary": ""}, "empty text: target"),
]


@pytest.mark.parametrize(("task", "change", "message"), BAD)
@pytest.mark.parametrize("streaming", [False, True])
def test_bad_rows(task, change, message, streaming, as_lines):
    """Line 3 of a file with an empty line 2, which counts as a line. Line 4 comes after it."""
    last = {**GOOD[task], "id": "4", **({"label": 1} if task == CLASSIFICATION else {})}
    path = as_lines([GOOD[task], b"", {**GOOD[task], **change}, last])
    with pytest.raises(ValueError, match=f"(?s)1 bad row.*data.jsonl line 3: {message}"):
        list(prepare(task, path, streaming=streaming).train)
    data = prepare(task, path, on_bad_row="skip", streaming=streaming)
    assert len(list(data.train)) == 2
    assert data.problems.total == 1
    assert "data.jsonl line 3" in str(data.problems)


def test_broken_lines(as_lines):
    """Bytes that are not UTF-8, an escape of half a character, what is not JSON or no object."""
    good = GOOD[CLASSIFICATION]
    broken = [
        b'{"text": "\xe9t\xe9", "label": 0}',
        b'{"text": "\\ud83d", "label": 0}',
        b'{"text": ',
        b"[1]",
    ]
    path = as_lines([good, *broken, {"text": "\ufffd?", "label": 1}])
    data = prepare(CLASSIFICATION, path, on_bad_row="skip")
    assert data.problems.counts == {"broken UTF-8": 2, "broken JSON": 1, "not a JSON object": 1}
    assert data.train["text"][:] == ["a film", "\ufffd?"], (
        "the replacement character itself is a character"
    )
    str(data.problems).encode("utf-8")


def test_lines_of_csv_with_line_ends_in_fields(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,label\n"two\nlines",1\n,1\n"a ""b""",0,9\n\xe9t\xe9,0\nlast,0\n')
    data = prepare(CLASSIFICATION, path, on_bad_row="skip")
    assert [example.split(":")[0] for example in data.problems.examples] == [
        f"a.csv line {n}" for n in (4, 5, 6)
    ]
    assert data.problems.counts == {
        "empty text": 1,
        "another number of fields": 1,
        "broken UTF-8": 1,
    }


def test_a_quote_in_a_tsv_takes_no_other_line_with_it(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"Oh, he said.\t1\nNo.\t0\n"a ""b"""\t0\n')
    assert prepare(CLASSIFICATION, path).train["text"][:] == ['"Oh, he said.', "No.", 'a "b"']


def test_conll_lines(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("In O\nUlm B-LOC\n\nNo\nno O\n\nIn O\n \nin O\n")
    with pytest.raises(
        ValueError,
        match="a.conll line 4: tokens and tags of unequal length: a line holds 'No' only",
    ):
        prepare(TAGGING, path)
    assert len(prepare(TAGGING, path, on_bad_row="skip").train) == 3


def test_first_ten_of_all():
    rows = [{"text": "", "label": 0}] * 12 + [
        {"text": "a", "label": 0},
        {"text": "b", "label": None},
    ]
    with pytest.raises(ValueError) as caught:
        prepare(CLASSIFICATION, rows)
    message = str(caught.value)
    assert "13 bad rows (12 × empty text, 1 × missing label)" in message
    assert "train row 10:" in message
    assert "train row 11:" not in message
    assert "and 3 more" in message


def test_both_splits_are_checked_before_stopping():
    rows = [{"text": "", "label": 0}, {"text": "a", "label": 0}]
    with pytest.raises(ValueError, match=r"(?s)train row 1: .*validation row 1: "):
        prepare(CLASSIFICATION, rows, rows)


def test_streams_count_anew(as_lines):
    """Good ids are forgotten between epochs."""
    data = prepare(ANSWERING, as_lines([GOOD[ANSWERING]]), streaming=True)
    assert list(data.train) == list(data.train)


def test_no_good_row():
    with pytest.raises(ValueError, match="train must have at least one good row"):
        prepare("summarization", [{"document": "", "summary": "a"}], on_bad_row="skip")


def test_report():
    problems = Problems("skip")
    assert not problems
    problems.add("a.csv line 2", BadRow("empty text", "text"))
    assert str(problems) == "1 bad row (1 × empty text):\n  a.csv line 2: empty text: text"
    problems.raise_if_any()
    with pytest.raises(ValueError, match="on_bad_row must be one of stop, skip, got 'ignore'"):
        prepare(CLASSIFICATION, [GOOD[CLASSIFICATION]], on_bad_row="ignore")


def label_rows(*values):
    return [{"text": f"row {number}", "label": value} for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "names", "encoded", "problem_type"),
    [
        (["b", "a", "b"], ["a", "b"], [1, 0, 1], "single_label_classification"),
        (["10", "9", "10.0"], ["9", "10"], [1, 0, 1], "single_label_classification"),
        ([10, 9.0, "9"], ["9", "10"], [1, 0, 0], "single_label_classification"),
        ([True, False], ["False", "True"], [1, 0], "single_label_classification"),
        (["1", "2.5", "-3"], None, [1.0, 2.5, -3.0], "regression"),
        (
            [["b", "a"], [], ["c"]],
            ["a", "b", "c"],
            [[1, 1, 0], [0, 0, 0], [0, 0, 1]],
            "multi_label_classification",
        ),
        (
            [[0, 0, 1], [1, 1, 0]],
            ["0", "1", "2"],
            [[0, 0, 1], [1, 1, 0]],
            "multi_label_classification",
        ),
        ([[0], [1, 2]], ["0", "1", "2"], [[1, 0, 0], [0, 1, 1]], "multi_label_classification"),
    ],
)
def test_labels_are_found(values, names, encoded, problem_type):
    data = prepare(CLASSIFICATION, label_rows(*values))
    assert data.labels == names
    assert data.train["label"][:] == encoded
    assert data.problem_type == problem_type


def test_labels_and_types_that_are_given():
    data = prepare(
        CLASSIFICATION, label_rows("a|c", "b"), problem_type="multi_label_classification"
    )
    assert data.train["label"][:] == [[1, 0, 1], [0, 1, 0]]
    assert prepare(CLASSIFICATION, label_rows(1, 2), problem_type="regression").train["label"][
        :
    ] == [1.0, 2.0]
    assert prepare(CLASSIFICATION, label_rows("b", "a"), labels=["b", "a"]).train["label"][:] == [
        0,
        1,
    ]
    assert prepare(CLASSIFICATION, label_rows(1, "0"), labels=["neg", "pos"]).train["label"][:] == [
        1,
        0,
    ]
    with pytest.raises(ValueError, match="train row 2: unknown label: 'c'; known are b, a"):
        prepare(CLASSIFICATION, label_rows("b", "c"), labels=["b", "a"])
    with pytest.raises(ValueError, match="label is not a finite number: 'x'"):
        prepare(CLASSIFICATION, label_rows(1.5, "x"), problem_type="regression")
    with pytest.raises(ValueError, match="labels must differ"):
        prepare(CLASSIFICATION, label_rows("b"), labels=["b", "b"])
    with pytest.raises(ValueError, match="problem_type must be one of"):
        prepare(CLASSIFICATION, label_rows("b"), problem_type="binary")


def test_a_column_for_each_class():
    rows = [{"text": "a", "rude": 1, "loud": 0}, {"text": "b", "rude": 0, "loud": 2}]
    for columns in (["rude", "loud"], "rude,loud"):
        data = prepare(CLASSIFICATION, rows, columns={"label": columns}, on_bad_row="skip")
        assert data.labels == ["rude", "loud"]
        assert data.train["label"][:] == [[1.0, 0.0]]
        assert data.problems.total == 1


def test_names_of_class_labels():
    """As the data set says, also where a model knows the same names in another order."""
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])}
    )
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    assert prepare(CLASSIFICATION, made).labels == ["pos", "neg"]
    assert prepare(CLASSIFICATION, made, labels=["neg", "pos"]).train["label"][:] == [1, 0]
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-X", "I-X"]))
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "ner_tags": tags}
    )
    made = datasets.Dataset.from_dict(
        {"tokens": [["a", "b"]], "ner_tags": [[2, 0]]}, features=features
    )
    data = prepare(TAGGING, made)
    assert (data.labels, data.train[0]["tags"]) == (["O", "B-X", "I-X"], [2, 0])


def test_labels_of_training_hold_for_the_others():
    data = prepare(CLASSIFICATION, label_rows("a", "b"), label_rows("b"))
    assert data.validation["label"][:] == [1]
    with pytest.raises(ValueError, match="validation row 1: unknown label: 'c'; known are a, b"):
        prepare(CLASSIFICATION, label_rows("a", "b"), label_rows("c"))


def test_both_tags_of_a_type_are_known():
    rows = [{"tokens": ["Ulm"], "tags": ["B-LOC"]}]
    longer = [{"tokens": ["New", "Ulm"], "tags": ["B-LOC", "I-LOC"]}]
    data = prepare(TAGGING, rows, longer)
    assert data.labels == ["B-LOC", "I-LOC"]
    assert data.warnings == [
        "train has a single class: all 1 labels are 'B-LOC', so there is nothing to learn",
        "validation has 1 labels that train never has: I-LOC (1)",
    ]
    assert prepare(TAGGING, [{"tokens": ["a", "b"], "tags": ["NOUN", "B-X"]}]).labels == [
        "NOUN",
        "B-X",
    ]


def test_rows_that_two_splits_share():
    data = prepare(CLASSIFICATION, label_rows("a", "b", "a"), label_rows("b", "b"), label_rows("a"))
    assert data.warnings == [
        "validation has 2 of 2 rows that train has too, the first: 'row 0'",
        "test has 1 of 1 rows that train has too, the first: 'row 0'",
    ]


@pytest.mark.parametrize(
    ("task", "row", "columns", "message"),
    [
        (
            CLASSIFICATION,
            {"a": "x", "label": 1},
            None,
            "no column for text.*the columns are a, label",
        ),
        (
            CLASSIFICATION,
            {"text": "x", "b": 1},
            None,
            "no column for label.*the columns are text, b",
        ),
        (
            CLASSIFICATION,
            {"review": "x", "content": "y", "label": 1},
            None,
            "text could be review or content",
        ),
        (
            CLASSIFICATION,
            {"text": "x", "label": 1},
            {"text": "body"},
            "must be a column of the data, got 'body'",
        ),
        (
            CLASSIFICATION,
            {"text": "x", "label": 1},
            {"words": "text"},
            "roles of sequence-classification are",
        ),
        (
            TAGGING,
            {"tokens": ["x"], "ner_tags": ["O"], "pos_tags": ["X"]},
            None,
            "tags could be ner_tags or pos_tags",
        ),
        (CHOOSING, {"question": "x", "label": 1}, None, "no column for choices"),
        (ANSWERING, {"question": "x", "context": "y"}, None, "no column for answers"),
    ],
)
def test_columns_that_are_missing_or_ambiguous(task, row, columns, message):
    with pytest.raises(ValueError, match=f"columns: .*{message}"):
        prepare(task, [row], columns=columns)


def test_columns_that_are_given():
    rows = [{"text": "not this", "title": "this", "y": label} for label in "ab"]
    data = prepare(CLASSIFICATION, rows, columns={"text": "title", "label": "y"})
    assert list(data.train) == [{"text": "this", "label": 0}, {"text": "this", "label": 1}]


def test_limits_below_one():
    with pytest.raises(ValueError, match="max_eval_examples must be at least 1, got 0"):
        prepare(CLASSIFICATION, label_rows("a"), max_eval_examples=0)
