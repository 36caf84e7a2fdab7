"""What kind of labels a column holds: decided where it is sure, asked where it is doubtful."""

import random

import pytest

from bertlite.data import prepare
from bertlite.data.cells import parse_cell
from bertlite.data.labels import as_list

CLASSIFICATION = "sequence-classification"
SINGLE, MULTI = "single_label_classification", "multi_label_classification"


def rows(*values):
    return [{"text": f"row {number}", "label": value} for number, value in enumerate(values)]


def prepared(*values, **options):
    return prepare(CLASSIFICATION, rows(*values), **options)


# ---- numbers


@pytest.mark.parametrize("mistake", ["nan", float("nan"), None, "inf", "2,5 stars", "good", ""])
def test_one_mistake_among_scores_is_a_bad_row_of_a_regression(mistake):
    values = [1.5, 2.0, 0.5, mistake, 4.0]
    with pytest.raises(ValueError, match=r"1 bad row .*\n  train row 4: .*\n.*--on_bad_row skip"):
        prepared(*values)
    data = prepared(*values, on_bad_row="skip")
    assert (data.problem_type, data.labels) == ("regression", None)
    assert data.train["label"][:] == [1.5, 2.0, 0.5, 4.0]
    assert data.problems.by_split["train"].total() == 1
    assert "train: 4 rows, 1 left out" in str(data)
    assert "numbers from 0.5 to 4, 2 on average" in str(data)


def test_numbers_with_commas_are_asked_about():
    with pytest.raises(ValueError, match="'1,5' may be decimals with a comma, or two labels"):
        prepared("1,5", "2,5", "3")
    assert prepared("1,2", "2,3", problem_type=MULTI).labels == ["1", "2", "3"]


def test_an_empty_value_among_classes_is_no_class():
    """`nan`, `#N/A` and the like are what pandas and spreadsheets write for nothing."""
    for nothing in ("nan", "NaN", "<NA>", "#N/A"):
        with pytest.raises(ValueError, match="train row 3: missing label"):
            prepared("0", "1", nothing)
        assert prepared("0", "1", nothing, on_bad_row="skip").labels == ["0", "1"]


def test_a_typo_among_whole_numbers_is_warned_of():
    data = prepared("1", "2", "1", "2", "1x")
    assert data.labels == ["1", "1x", "2"]
    assert data.warnings == ["labels are numbers but for '1x' (1 ×), each of which is a class too"]


# ---- several labels a row


@pytest.mark.parametrize(
    ("values", "labels", "encoded"),
    [
        (["a|b", "a", "b|c"], ["a", "b", "c"], [[1, 1, 0], [1, 0, 0], [0, 1, 1]]),
        (["a | b", "b"], ["a", "b"], [[1, 1], [0, 1]]),
        (["Arts, Crafts|Sport", "Sport"], ["Arts, Crafts", "Sport"], [[1, 1], [0, 1]]),
        (["a,b", "b,c", "a,c"], ["a", "b", "c"], [[1, 1, 0], [0, 1, 1], [1, 0, 1]]),
        (["a;b", "b", "a"], ["a", "b"], [[1, 1], [0, 1], [1, 0]]),
        (["[0, 1, 1]", "[1, 0, 0]"], ["0", "1", "2"], [[0, 1, 1], [1, 0, 0]]),
        (["[0 1 1]", "[1 0 0]"], ["0", "1", "2"], [[0, 1, 1], [1, 0, 0]]),
        (["[0. 1. 1.]", "[1. 0. 0.]"], ["0", "1", "2"], [[0, 1, 1], [1, 0, 0]]),
        (["(0, 1, 1)", "(1, 0, 0)"], ["0", "1", "2"], [[0, 1, 1], [1, 0, 0]]),
        (["['x', 'y']", "['x']"], ["x", "y"], [[1, 1], [1, 0]]),
        (["['x' 'y']", "['x']"], ["x", "y"], [[1, 1], [1, 0]]),
        (['["x", "y"]', "[]"], ["x", "y"], [[1, 1], [0, 0]]),
        (["{'y', 'x'}", "{'x'}"], ["x", "y"], [[1, 1], [1, 0]]),
        ([[0, 1], [1, 0], [0, 1]], ["0", "1"], [[0, 1], [1, 0], [0, 1]]),
    ],
)
def test_several_labels_are_told(values, labels, encoded):
    data = prepared(*values)
    assert (data.problem_type, data.labels) == (MULTI, labels)
    assert data.train["label"][:] == encoded
    assert f"kind of task: {MULTI}" in data.decisions


@pytest.mark.parametrize("values", [["a|b", "c"], ["a,b", "a", "b,c"], ["x|y", "z|w"]])
def test_what_may_be_several_labels_is_asked_about(values):
    with pytest.raises(ValueError, match=f"may be one name, or several; .*--problem_type {SINGLE}"):
        prepared(*values)
    assert prepared(*values, problem_type=SINGLE).labels == sorted(values)
    assert prepared(*values, problem_type=MULTI).problem_type == MULTI


def test_lists_in_some_rows_only_are_asked_about():
    for values in (["[1, 0]", "x"], [["a"], "b"]):
        with pytest.raises(ValueError, match="some labels are lists, .* and others are not"):
            prepared(*values)


def test_names_with_commas_are_names_and_warned_of():
    data = prepared("Business, Finance", "Sport", "Arts, Culture", "Sport")
    assert data.labels == ["Arts, Culture", "Business, Finance", "Sport"]
    (warning,) = data.warnings
    assert f"'Business, Finance' are taken as one name each; problem_type=\"{MULTI}\"" in warning


def test_known_names_say_what_a_text_holds():
    assert prepared("a|b", "a", labels=["a", "b"]).train["label"][:] == [[1, 1], [1, 0]]
    assert prepared("a|b", "a", labels=["a", "a|b"]).train["label"][:] == [1, 0]


def test_lists_of_one_label_are_warned_of():
    data = prepared(["a"], ["b"], ["a"])
    assert data.train["label"][:] == [[1, 0], [0, 1], [1, 0]]
    assert "taken as multi-label" in data.warnings[0]
    assert prepared(["a"], ["b"], problem_type=SINGLE).train["label"][:] == [0, 1]


def test_written_lists_are_read_back_as_they_were():
    """Whatever `repr` writes of a list of names, quotes and brackets in them too."""
    draw = random.Random(7)
    alphabet = "ab'\" ,|[]\\é"
    for _ in range(300):
        names = [
            "".join(draw.choice(alphabet) for _ in range(draw.randint(1, 5)))
            for _ in range(draw.randint(0, 4))
        ]
        assert as_list(repr(names)) == names
        assert parse_cell(repr(names), "label") == names


# ---- classes


@pytest.mark.parametrize("task", [CLASSIFICATION, "token-classification"])
def test_a_single_class_is_refused(task):
    tags = {"tokens": ["In", "it"], "tags": ["O", "O"]}
    given = rows("pos", "pos") if task == CLASSIFICATION else [tags, tags]
    with pytest.raises(ValueError, match="the data hold one label only, '(pos|O)' in (label|tags)"):
        prepare(task, given)
    name = "pos" if task == CLASSIFICATION else "O"
    assert prepare(task, given, labels=[name, "B-X"]).labels == [name, "B-X"]


def test_nearly_as_many_labels_as_rows_are_refused():
    names = [f"id{number}" for number in range(600)]
    with pytest.raises(ValueError, match="600 labels for 600 rows, such as id0.*--columns label="):
        prepared(*names)
    data = prepared(*names, problem_type=SINGLE)
    assert len(data.labels) == 600
    assert "600 labels for 600 rows" in data.warnings[0]
    with pytest.raises(ValueError, match="--problem_type regression"):
        prepared(*range(600))
    assert prepared(*range(600), problem_type="regression").labels is None
    few = prepared(*(f"kind {number % 30}" for number in range(600)))
    assert (len(few.labels), few.warnings) == (30, [])


def test_labels_of_one_row_are_warned_of_where_there_are_many():
    names = [f"kind {number % 25}" for number in range(100)] + ["rare"]
    assert prepared(*names).warnings == ["labels that occur once only: rare (1 in all)"]


@pytest.mark.parametrize("twin", ["mixed", "MIXED ", "Mixed"])
def test_labels_that_differ_in_capitals_only_are_asked_about(twin):
    values = ["Mixed", "good", twin, "mixed"]
    with pytest.raises(ValueError, match="'Mixed' .* and 'mixed' .*--labels"):
        prepared(*values)
    one = prepared(*values, labels=["good", "mixed"])
    assert one.train["label"][:] == [1, 0, 1, 1]
    assert "train: label 'Mixed' is taken as 'mixed' (1 ×)" in " ".join(one.warnings) or (
        twin == "Mixed"
    )
    apart = prepared("Mixed", "good", "mixed", labels=["Mixed", "good", "mixed"])
    assert apart.train["label"][:] == [0, 1, 2]


def test_capitals_of_a_later_split_are_taken_and_said():
    data = prepare(CLASSIFICATION, rows("pos", "neg"), rows("Pos", "NEG", "neg"))
    assert data.validation["label"][:] == [1, 0, 0]
    assert [each for each in data.warnings if "taken as" in each] == [
        "validation: label 'Pos' is taken as 'pos' (1 ×)",
        "validation: label 'NEG' is taken as 'neg' (1 ×)",
    ]
    with pytest.raises(ValueError, match="unknown label: 'negg'; known are neg, pos; is 'neg' mea"):
        prepare(CLASSIFICATION, rows("pos", "neg"), rows("negg"))


# ---- what was decided


def test_what_was_decided_is_said_and_can_be_kept():
    made = [{"Review": "a", "Stars": "bad"}, {"Review": "", "Stars": "bad"}]
    made += [{"Review": "b", "Stars": "good"}] * 2
    data = prepare(CLASSIFICATION, made, made[:1], on_bad_row="skip")
    assert str(data).splitlines() == [
        "task: sequence-classification",
        "columns: text is Review; label is Stars",
        f"kind of task: {SINGLE}",
        "labels of train: bad 1, good 2",
        "labels of validation: bad 1, good 0",
        "train: 3 rows, 1 left out (1 × empty text)",
        "validation: 1 rows",
    ]
    record = data.record()
    assert record["columns"] == {"text": "Review", "label": "Stars"}
    assert record["left_out"] == {"train": {"empty text": 1}}
    assert record["rows"] == {"train": 3, "validation": 1}
    assert record["label_counts"]["train"] == {"bad": 1, "good": 2}


def test_what_is_no_label():
    with pytest.raises(ValueError, match="train row 3: label is not one value"):
        prepared("a", "b", {"a": 1})
    with pytest.raises(ValueError, match="train row 3: label is not one value"):
        prepared("a", "b", ["a", "b"], problem_type=SINGLE)


def test_a_known_name_with_a_comma_is_not_taken_apart():
    names = ["Arts, Crafts", "Sport"]
    data = prepared("Arts, Crafts", "Sport", labels=names, problem_type=MULTI)
    assert data.train["label"][:] == [[1, 0], [0, 1]]


def test_columns_of_marks_are_named_where_no_label_is():
    made = [{"text": "a", "rude": 1, "loud": 0}, {"text": "b", "rude": 0, "loud": 1}]
    with pytest.raises(ValueError, match="no column for label .*; is label=rude,loud meant"):
        prepare(CLASSIFICATION, made)


def test_no_label_at_all():
    with pytest.raises(ValueError, match=r"got none \(label is not one value: .*--labels"):
        prepared({"0": "x"}, {"0": "y"})


def test_lists_of_numpy_numbers():
    """As data frames with numpy 2 write them."""
    data = prepared("[np.int64(0), np.int64(1)]", "[np.int64(1), np.int64(1)]")
    assert data.train["label"][:] == [[0, 1], [1, 1]]
    assert prepared("array(['x', 'y'], dtype=object)", "['x']", problem_type=SINGLE).labels


@pytest.mark.parametrize(
    "values",
    [
        ["a|b", "a", "b|c", ""],
        ["1.5", "x", "2", "0.5"],
        ["[0, 1]", "[1, 1]", "[0, 0]"],
        ["Business, Finance", "Sport", "Sport"],
        ["1", "2", "2x", "1"],
    ],
)
def test_the_order_of_rows_decides_nothing(values):
    draw = random.Random(3)
    found = set()
    for _ in range(6):
        draw.shuffle(values)
        data = prepared(*values, on_bad_row="skip")
        found.add((data.problem_type, tuple(data.labels or ())))
    assert len(found) == 1
