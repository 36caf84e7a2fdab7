"""Files as people have them: encodings, SQuAD, spreadsheets, what is in memory, columns' names."""

import codecs
import json
import sys

import datasets
import numpy as np
import pandas
import pyarrow
import pytest

from bertlite.data import prepare

CLASSIFICATION, TAGGING = "sequence-classification", "token-classification"
ANSWERING = "question-answering"


# ---- encodings

TEXTS = ["Grüße", "naïve €"]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv"])
def test_a_byte_order_mark_says_the_encoding(encoding, mark, kind, tmp_path):
    frame = pandas.DataFrame({"text": TEXTS, "label": ["a", "b"]})
    if kind.startswith("json"):
        text = frame.to_json(orient="records", lines=kind == "jsonl", force_ascii=False)
    else:
        text = frame.to_csv(index=False, sep="," if kind == "csv" else "\t")
    (tmp_path / f"a.{kind}").write_bytes(mark + text.encode(encoding))
    assert prepare(CLASSIFICATION, tmp_path / f"a.{kind}").train["text"][:] == TEXTS


def test_files_that_were_joined_keep_their_marks(tmp_path):
    lines = [json.dumps({"text": text, "label": text[0]}).encode() + b"\n" for text in TEXTS]
    (tmp_path / "a.jsonl").write_bytes(b"".join(codecs.BOM_UTF8 + line for line in lines))
    assert prepare(CLASSIFICATION, tmp_path / "a.jsonl").train["text"][:] == TEXTS


def test_an_encoding_that_is_given(tmp_path):
    frame = pandas.DataFrame({"Größe": TEXTS, "label": ["a", "b"]})
    frame.to_csv(tmp_path / "a.csv", index=False, encoding="cp1252")
    given = {"columns": {"text": "größe"}}
    with pytest.raises(ValueError, match=r"must name its columns in the encoding .*--encoding"):
        prepare(CLASSIFICATION, tmp_path / "a.csv", **given)
    data = prepare(CLASSIFICATION, tmp_path / "a.csv", encoding="cp1252", **given)
    assert data.train["text"][:] == TEXTS
    frame.rename(columns={"Größe": "text"}).to_csv(
        tmp_path / "a.csv", index=False, encoding="cp1252"
    )
    with pytest.raises(
        ValueError, match=r"2 × broken UTF-8.*\n.*\n.*\n.*--encoding …\), as cp1252"
    ):
        prepare(CLASSIFICATION, tmp_path / "a.csv")
    with pytest.raises(ValueError, match="encoding must be a name that Python knows.*'utf-9'"):
        prepare(CLASSIFICATION, tmp_path / "a.csv", encoding="utf-9")


def test_half_characters_anywhere_are_bad_rows(tmp_path):
    """In a text, a label, an id, a tag, a choice: the report can be printed."""
    half = "\\ud83d"
    cases = {
        CLASSIFICATION: ['{"text": "a", "label": "x%s"}', '{"text": "%s", "label": "x"}'],
        TAGGING: ['{"tokens": ["a"], "tags": ["x%s"]}', '{"tokens": ["%s"], "tags": ["x"]}'],
        "multiple-choice": ['{"question": "a", "choices": ["x", "y%s"], "label": 0}'],
        "summarization": ['{"text": "a", "summary": "%s"}', '{"text": "%s", "summary": "a"}'],
    }
    for task, templates in cases.items():
        good = [template % "" or "a" for template in templates]
        lines = [template % half for template in templates]
        lines += [line.replace('""', '"a"') for line in good] + [
            line.replace('""', '"b"').replace('"x', '"z') for line in good
        ]
        (tmp_path / "a.jsonl").write_text("\n".join(lines))
        with pytest.raises(ValueError, match=f"{len(templates)} × broken UTF-8") as caught:
            prepare(task, tmp_path / "a.jsonl")
        str(caught.value).encode("utf-8")


# ---- SQuAD


def write_squad(path, *questions):
    paragraph = {"context": "In Ulm.", "qas": list(questions)}
    path.write_text(json.dumps({"data": [{"title": "T", "paragraphs": [paragraph]}]}))
    return path


def test_squad_without_answers_or_ids(tmp_path):
    path = write_squad(
        tmp_path / "a.json", {"question": "Where?"}, {"question": "When?", "answers": []}
    )
    data = prepare(ANSWERING, test=path, require_labels=False)
    assert list(data.test) == [
        {"id": "0", "question": "Where?", "context": "In Ulm."},
        {"id": "1", "question": "When?", "context": "In Ulm."},
    ]
    with pytest.raises(ValueError, match=r"a.json question 1: missing value: answers"):
        prepare(ANSWERING, path)
    bare = write_squad(tmp_path / "b.json", {"question": "Where?"})
    with pytest.raises(ValueError, match="no column for answers"):
        prepare(ANSWERING, bare)


def test_squad_questions_are_numbered_from_one(tmp_path):
    good = {"id": "q1", "question": "Where?", "answers": [{"text": "Ulm", "answer_start": 3}]}
    path = write_squad(
        tmp_path / "a.json",
        good,
        {"id": "q2", "question": "When?", "answers": [{"text": "Ulm"}]},
        {"id": "q3\ud83d", "question": "Why?", "answers": []},
        {"id": "q4", "answers": []},
    )
    with pytest.raises(ValueError, match="3 bad rows") as caught:
        prepare(ANSWERING, path)
    places = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:4]]
    assert places == [
        "a.json question 2 (id q2)",
        r"a.json question 3 (id q3\ud83d)",
        "a.json question 4 (id q4)",
    ]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "a"}]}]}))
    with pytest.raises(ValueError, match="nested as SQuAD is, got in article 1: KeyError"):
        prepare(ANSWERING, path)


def test_no_option_is_advised_that_is_not_there(tmp_path):
    """A prediction answers every row: none can be left out."""
    with pytest.raises(ValueError, match="empty text") as caught:
        prepare(CLASSIFICATION, test=[{"text": "a"}, {"text": ""}], require_labels=False)
    assert "on_bad_row" not in str(caught.value)


# ---- spreadsheets


def test_a_spreadsheet(tmp_path):
    pytest.importorskip("openpyxl")
    frame = pandas.DataFrame({"Text": ["NA", "10", "", None], "Label": ["a", "b", "a", None]})
    frame.to_excel(tmp_path / "a.xlsx", index=False)
    with pytest.raises(ValueError, match="1 bad row .*: *\n  a.xlsx row 4: empty text"):
        prepare(CLASSIFICATION, tmp_path / "a.xlsx")
    data = prepare(CLASSIFICATION, tmp_path / "a.xlsx", on_bad_row="skip")
    assert list(data.train) == [{"text": "NA", "label": 0}, {"text": "10", "label": 1}]


def test_a_spreadsheet_without_the_library_that_reads_it(tmp_path, monkeypatch):
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(
        ValueError, match=r"a.xlsx needs openpyxl .*: pip install openpyxl; or save"
    ):
        prepare(CLASSIFICATION, tmp_path / "a.xlsx")


# ---- in memory


def test_rows_of_a_data_frame():
    """Numbers and lists as Python's; whatever stands for a missing value is one."""
    frame = pandas.DataFrame({"Text": ["a", "b", None], "Label": [1, 0, 1]}, index=[7, 8, 9])
    with pytest.raises(ValueError, match="train row 3: missing value"):
        prepare(CLASSIFICATION, frame)
    data = prepare(CLASSIFICATION, frame, frame[:1], on_bad_row="skip")
    assert list(data.train) == [{"text": "a", "label": 1}, {"text": "b", "label": 0}]
    frame = pandas.DataFrame({"text": ["a", "b"], "label": [np.array([0, 1, 1]), [1, 0, 0]]})
    assert prepare(CLASSIFICATION, frame).train["label"][:] == [[0, 1, 1], [1, 0, 0]]
    frame = pandas.DataFrame({"text": ["a", "b", "c"], "label": ["x", "y", "z"]})
    for dtype in ("category", "string"):
        data = prepare(CLASSIFICATION, frame.astype({"label": dtype}))
        assert data.labels == ["x", "y", "z"]
    frame["label"] = pandas.Series([1, None, 2], dtype="Int64")
    with pytest.raises(ValueError, match="train row 2: missing label"):
        prepare(CLASSIFICATION, frame)


@pytest.mark.parametrize("make", [dict, pyarrow.table, datasets.Dataset.from_dict])
def test_columns_in_memory(make):
    columns = {"text": ["a", "b"], "label": ["x", "y"]}
    assert list(prepare(CLASSIFICATION, make(columns)).train) == [
        {"text": "a", "label": 0},
        {"text": "b", "label": 1},
    ]
    with pytest.raises(ValueError, match="train must have columns of one length"):
        prepare(CLASSIFICATION, {"text": ["a"], "label": ["x", "y"]})


def test_what_are_no_rows():
    for given in (5, [("a", "x")], iter([{"text": "a"}])):
        with pytest.raises(ValueError, match="train must be a path, .*, a data frame or dict"):
            prepare(CLASSIFICATION, given)
    frame = pandas.DataFrame({"text": ["a"]})
    with pytest.raises(ValueError, match="dataset must be a folder.*DataFrame; give rows as train"):
        prepare(CLASSIFICATION, dataset=frame)


# ---- columns


@pytest.mark.parametrize("names", [("Text", "Label"), ("TEXT ", " LABEL"), ("Review", "CATEGORY")])
def test_capitals_of_columns_do_not_count(names, tmp_path):
    made = [dict(zip(names, values, strict=True)) for values in (("a", "x"), ("b", "y"))]
    data = prepare(CLASSIFICATION, made)
    assert list(data.train) == [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    data = prepare(CLASSIFICATION, made, columns={"text": names[0].lower().strip()})
    assert data.columns == {"text": names[0], "label": names[1]}


def test_two_columns_that_differ_in_capitals():
    row = {"text": "this", "Text": "not this", "label": "x"}
    data = prepare(CLASSIFICATION, [row, {**row, "label": "y"}])
    assert data.train["text"][:] == ["this", "this"]
    with pytest.raises(ValueError, match="text could be Text or TEXT"):
        prepare(CLASSIFICATION, [{"Text": "a", "TEXT": "b", "label": "x"}])
    made = [{"Body": "a", "BODY": "b", "label": "x"}]
    with pytest.raises(ValueError, match="text could be Body or BODY"):
        prepare(CLASSIFICATION, made, columns={"text": "body"})


def test_pairs_and_choices_in_capitals():
    made = [{"Premise": "a", "Hypothesis": "b", "Label": label} for label in "xy"]
    assert prepare(CLASSIFICATION, made).train[0] == {"text": "a", "text_pair": "b", "label": 0}
    made = [{"Question": "Which?", "Option 1": "a", "Option 2": "b", "Answer": "2"}]
    assert prepare("multiple-choice", made).train[0] == {
        "question": "Which?",
        "choices": ["a", "b"],
        "label": 1,
    }


def test_columns_are_remembered_where_they_are():
    made = [{"body text": "a", "text": "b", "stars": label} for label in "xy"]
    trained = prepare(CLASSIFICATION, made, columns={"text": "body text"})
    given = {"remembered_columns": trained.columns, "require_labels": False}
    data = prepare(CLASSIFICATION, test=[{"text": "b", "Body Text": "a"}], **given)
    assert list(data.test) == [{"text": "a"}]
    assert list(prepare(CLASSIFICATION, test=[{"text": "b"}], **given).test) == [{"text": "b"}]
    data = prepare(CLASSIFICATION, test=made[:1], columns={"text": "text"}, **given)
    assert list(data.test) == [{"text": "b"}]
    pairs = [{"premise": "a", "hypothesis": "b", "title": "c"}]
    given["remembered_columns"] = {"text": "title", "label": "stars"}
    assert list(prepare(CLASSIFICATION, test=pairs, **given).test) == [{"text": "c"}]


# ---- plain text without labels


@pytest.mark.parametrize(
    ("task", "name", "column"),
    [(CLASSIFICATION, "a.txt", "text"), ("translation", "a.en", "source")],
)
def test_lines_of_a_text_without_labels(task, name, column, tmp_path):
    (tmp_path / name).write_text("One.\nTwo.\n")
    data = prepare(task, test=tmp_path / name, require_labels=False)
    assert list(data.test) == [{column: "One."}, {column: "Two."}]
    with pytest.raises(ValueError, match=f"{name} must be of a known format"):
        prepare(task, test=tmp_path / name)
    (tmp_path / "a.docx").write_bytes(b"PK\x03\x04\0\0")
    with pytest.raises(ValueError, match="a.docx must be of a known format"):
        prepare(task, test=tmp_path / "a.docx", require_labels=False)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_column_that_is_named_twice(kind, tmp_path):
    text = "text,label,text\na,x,b\n"
    (tmp_path / f"a.{kind}").write_text(text.replace(",", "\t") if kind == "tsv" else text)
    with pytest.raises(ValueError, match=f"a.{kind} must name each column once, got 'text' twice"):
        prepare(CLASSIFICATION, tmp_path / f"a.{kind}")


def test_numbers_and_arrays_of_numpy_in_rows():
    made = [
        {"text": "a", "label": np.float32(1.5)},
        {"text": "b", "label": np.float32("nan")},
        {"text": np.str_("c"), "label": np.int64(2)},
    ]
    with pytest.raises(ValueError, match="1 bad row .*\n  train row 2: missing label"):
        prepare(CLASSIFICATION, made)
    tokens = [{"tokens": np.array(["In", "Ulm"]), "tags": np.array(["O", "B-X"])}]
    assert prepare(TAGGING, tokens).train[0]["tags"] == [0, 1]
    shaped = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).with_format("numpy")
    assert prepare(CLASSIFICATION, shaped).train["label"][:] == [0, 1]


def test_answers_as_data_frames_write_them():
    row = {"question": "Where?", "context": "In Ulm."}
    cells = [
        "{'text': array(['Ulm'], dtype=object), 'answer_start': array([3], dtype=int32)}",
        "{'text': ['Ulm'], 'answer_start': [np.int64(3)]}",
        {"text": np.array(["Ulm"]), "answer_start": np.array([3])},
        {"text": ["Ulm"], "answer_start": [3.0]},
    ]
    for cell in cells:
        data = prepare(ANSWERING, [{**row, "answers": cell}])
        assert data.train[0]["answers"] == {"text": ["Ulm"], "answer_start": [3]}


def test_json_as_data_frames_write_it(tmp_path):
    frame = pandas.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    for orient in ("columns", "records"):
        frame.to_json(tmp_path / "a.json", orient=orient)
        assert prepare(CLASSIFICATION, tmp_path / "a.json").train["label"][:] == [0, 1]


def test_columns_that_are_numbered():
    frame = pandas.DataFrame([["a", "x"], ["b", "y"]])
    data = prepare(CLASSIFICATION, frame, columns={"text": 0, "label": 1})
    assert data.train[1] == {"text": "b", "label": 1}


def test_utf_16_without_a_mark(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,label\na,x\nb,y\n".encode("utf-16-le"))
    with pytest.raises(ValueError, match="in the encoding in which it is read, .*--encoding"):
        prepare(CLASSIFICATION, tmp_path / "a.csv")
    data = prepare(CLASSIFICATION, tmp_path / "a.csv", encoding="utf-16-le")
    assert data.train["text"][:] == ["a", "b"]
    (tmp_path / "b.csv").write_bytes(b"\xff\xfet\0e\0x")
    message = "b.csv must be UTF-8, or as its byte-order mark says, got: .*truncated data"
    with pytest.raises(ValueError, match=message):
        prepare(CLASSIFICATION, tmp_path / "b.csv")
