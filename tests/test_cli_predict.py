"""`bertlite predict` and `bertlite evaluate` on files: what comes in, and beside the answers."""

import csv
import doctest
import io
import json
import sys

import pytest
from inference_cases import LABELS, WORDS, bert, byte_pairs, tiny_writer, wordpiece
from tasks_cases import write_rows

import bertlite
from bertlite.cli import tables
from bertlite.cli.main import main
from bertlite.metrics import class_report as reports

TEXTS = ["the cat sat", "Anna went to paris", "Bob drank tea"]
CLASSES = ["bad", "fair", "good"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of small models, one a task."""
    path = tmp_path_factory.mktemp("models")
    kinds = {
        "classes": ("SequenceClassification", {"labels": CLASSES}),
        "several": (
            "SequenceClassification",
            {"labels": CLASSES, "problem_type": "multi_label_classification"},
        ),
        "words": ("TokenClassification", {"labels": LABELS}),
        "answers": ("QuestionAnswering", {}),
    }
    for name, (head, options) in kinds.items():
        bert(head, wordpiece(), **options).save_pretrained(path / name)
        wordpiece().save_pretrained(path / name)
    tiny_writer(byte_pairs()).save_pretrained(path / "writes")
    byte_pairs().save_pretrained(path / "writes")
    return path


def run(capsys, *words):
    """The status, and what came on the screen."""
    capsys.readouterr()
    status = main([str(word) for word in words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


# ---- what stands beside the answers


def test_columns_of_the_input_come_with_the_answers(models, tmp_path, capsys):
    """A column that has an answer's name is renamed, in every row."""
    rows = [
        {"id": place, "review": text, "label": label, "tags": ["x", place]}
        for place, (text, label) in enumerate(zip(TEXTS, ["good", "bad", "odd"], strict=True))
    ]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    status, out, _ = run(capsys, "predict", models / "classes", file)
    assert status == 0
    expected = bertlite.classify(TEXTS, str(models / "classes"))
    for row, found, answer in zip(rows, json_lines(out), expected, strict=True):
        assert found == {
            "id": row["id"],
            "review": row["review"],
            "input_label": row["label"],
            "tags": row["tags"],
            "label": answer["label"],
            "score": pytest.approx(answer["score"], abs=1e-6),
        }
    _, out, _ = run(capsys, "predict", models / "classes", file, "--keep", "id")
    assert [list(row) for row in json_lines(out)] == [["id", "label", "score"]] * 3
    _, out, _ = run(capsys, "predict", models / "classes", file, "--keep")
    assert [list(row) for row in json_lines(out)] == [["label", "score"]] * 3
    status, _, err = run(capsys, "predict", models / "classes", file, "--keep", "name")
    assert status == 2
    assert "--keep must name columns of the file, id, review, label, tags, got name" in err


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_tables_come_back_as_tables(ending, models, tmp_path, capsys):
    separator = {"csv": ",", "tsv": "\t"}[ending]
    file, output = tmp_path / f"rows.{ending}", tmp_path / "new" / f"answers.{ending}"
    file.write_text("\n".join(separator.join(row) for row in [("id", "text"), *zip("abc", TEXTS)]))  # noqa: B905
    words = ("predict", models / "classes", file, "--output", output, "--probabilities")
    assert run(capsys, *words)[0] == 0
    with output.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened, delimiter=separator))
    assert [row["id"] for row in rows] == list("abc")
    for row in rows:
        scores = {label: float(row[f"score_{label}"]) for label in CLASSES}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(scores, key=lambda label: scores[label])
        assert float(row["score"]) == scores[row["label"]]
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_json_by_the_ending(models, tmp_path, capsys):
    for output, read in {"a.json": json.loads, "a.jsonl": json_lines}.items():
        words = ("predict", models / "classes", "--text", *TEXTS, "--output", tmp_path / output)
        assert run(capsys, *words)[0] == 0
        rows = read((tmp_path / output).read_text(encoding="utf-8"))
        assert [list(row) for row in rows] == [["label", "score"]] * 3


def test_the_best_labels_with_their_scores(models, capsys):
    _, out, _ = run(capsys, "predict", models / "classes", "--text", *TEXTS, "--top_k", "2")
    best = bertlite.classify(TEXTS, str(models / "classes"), top_k=2)
    for row, expected in zip(json_lines(out), best, strict=True):
        assert list(row["scores"]) == [each["label"] for each in expected]
        assert row["label"] == expected[0]["label"]
    words = ("--text", TEXTS[0], "--probabilities", "--threshold", "0.6")
    _, out, _ = run(capsys, "predict", models / "several", *words)
    (row,) = json_lines(out)
    assert set(row["scores"]) == set(CLASSES)
    above = {label for label, score in row["scores"].items() if score >= 0.6}
    assert {each["label"] for each in row["labels"]} == above
    question = ("--question", "who went to paris", "--text", TEXTS[1])
    _, out, _ = run(capsys, "predict", models / "answers", *question, "--top_k", "3")
    (row,) = json_lines(out)
    assert len(row["candidates"]) == 3
    assert row["candidates"][0]["answer"] == row["answer"]
    status, _, err = run(capsys, "predict", models / "answers", *question, "--probabilities")
    assert status == 2
    assert "--probabilities is for classes of texts" in err


# ---- what comes in


def test_an_empty_line_has_an_empty_answer(models, tmp_path, capsys):
    """Line n of the answers is that of line n of the file; which were empty is said."""
    file = tmp_path / "news.en"
    file.write_text("\nthe cat sat\n \nthe cat\n\n", encoding="utf-8")
    output, words = tmp_path / "news.de", ("--num_beams", "1", "--max_new_tokens", "4")
    status, _, err = run(capsys, "predict", models / "writes", file, "--output", output, *words)
    assert status == 0
    assert "3 rows hold no text, and have an empty answer: news.en line 1, news.en line 3" in err
    written = output.read_text(encoding="utf-8").split("\n")
    settings = {"num_beams": 1, "max_new_tokens": 4}
    found = bertlite.translate(["the cat sat", "the cat"], str(models / "writes"), **settings)
    expected = [" ".join(each.split()) for each in found]
    assert written == ["", expected[0], "", expected[1], "", ""]
    _, out, _ = run(capsys, "predict", models / "classes", file)
    rows = json_lines(out)
    assert [row.get("problem") for row in rows] == ["empty text", None, "empty text", None] + [
        "empty text"
    ]
    assert rows[0] == {"text": "", "problem": "empty text"}
    status, out, err = run(capsys, "predict", models / "classes", file, "--on_bad_row", "skip")
    assert (status, len(json_lines(out))) == (0, 2)
    assert "left out: 3 bad rows (3 × empty text)" in err


def test_bad_rows_stop_or_are_left_out(models, tmp_path, capsys):
    rows = [{"text": "the cat"}, {"text": None}, {"text": "Bob"}, {"text": ""}]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    status, out, err = run(capsys, "predict", models / "classes", file)
    assert (status, out) == (2, "")
    assert "rows.jsonl line 2" in err
    status, out, err = run(capsys, "predict", models / "classes", file, "--on-bad-row", "skip")
    assert (status, [row["text"] for row in json_lines(out)]) == (0, ["the cat", "Bob"])
    assert "left out: 2 bad rows" in err


@pytest.mark.parametrize(
    "content",
    ["the cat sat\nBob\n", '{"text": "the cat sat", "id": 1}\n{"text": "Bob", "id": 2}\n'],
)
def test_standard_input(content, models, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    status, out, _ = run(capsys, "predict", models / "classes", "-")
    assert status == 0
    assert [row["text"] for row in json_lines(out)] == ["the cat sat", "Bob"]


def test_columns_are_remembered_from_training(models, tmp_path, capsys):
    record = {
        "task": "sequence-classification",
        "data": {"columns": ["text=Said", "label=Felt"], "source_language": None},
    }
    folder = tmp_path / "model"
    bert("SequenceClassification", wordpiece(), labels=CLASSES).save_pretrained(folder)
    wordpiece().save_pretrained(folder)
    (folder / "run_arguments.json").write_text(json.dumps(record))
    rows = [{"Said": text, "Felt": "bad", "text": "no"} for text in TEXTS]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    _, out, _ = run(capsys, "predict", folder, file, "--keep")
    expected = bertlite.classify(TEXTS, str(folder))
    assert [row["label"] for row in json_lines(out)] == [each["label"] for each in expected]
    assert [row["score"] for row in json_lines(out)] == pytest.approx(
        [each["score"] for each in expected], abs=1e-6
    )
    status, out, _ = run(capsys, "evaluate", folder, "--test", file)
    assert status == 0
    right = sum(each["label"] == "bad" for each in expected)
    assert json.loads(out)["accuracy"] == pytest.approx(right / 3)
    named = ("--columns", "text=text")
    _, out, _ = run(capsys, "predict", folder, file, "--keep", *named)
    answer = bertlite.classify("no", str(folder))["label"]
    assert [row["label"] for row in json_lines(out)] == [answer] * 3


def test_a_device_that_is_not_there_is_named(models, capsys):
    status, _, err = run(
        capsys, "predict", models / "classes", "--text", "a", "--device", "nowhere"
    )
    assert status == 2
    assert "device must be one that torch can use here, got 'nowhere'" in err
    assert run(capsys, "predict", models / "classes", "--text", "a", "--device", "cpu")[0] == 0


# ---- evaluate


def test_figures_of_each_class(models, tmp_path, capsys):
    """Against counting by hand, on the screen and as a picture."""
    texts = [f"the cat {word}" for word in WORDS[:9]]
    truth = [CLASSES[place % 3] for place in range(9)]
    rows = [{"text": text, "label": label} for text, label in zip(texts, truth, strict=True)]
    file, picture = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "confusion.png"
    words = ("--test", file, "--confusion-picture", picture)
    status, out, err = run(capsys, "evaluate", models / "classes", *words)
    assert status == 0
    found = json.loads(out)
    chosen = [each["label"] for each in bertlite.classify(texts, str(models / "classes"))]
    counts = [
        [
            sum(pair == (true, taken) for pair in zip(truth, chosen, strict=True))
            for taken in CLASSES
        ]
        for true in CLASSES
    ]
    assert found["confusion_matrix"] == {"labels": CLASSES, "counts": counts}
    for place, label in enumerate(CLASSES):
        right, given = counts[place][place], sum(row[place] for row in counts)
        assert found["per_class"][label] == {
            "precision": pytest.approx(right / given if given else 0),
            "recall": pytest.approx(right / 3),
            "f1": pytest.approx(2 * right / (given + 3)),
            "rows": 3,
        }
    scores = bertlite.classify(texts, str(models / "classes"), top_k=3)
    missed = [
        sum((each["score"] - (each["label"] == true)) ** 2 for each in row)
        for row, true in zip(scores, truth, strict=True)
    ]
    assert found["brier_score"] == pytest.approx(sum(missed) / 9)
    assert 0 <= found["expected_calibration_error"] <= 1
    assert "true \\ taken for" in err
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "per_class" not in bertlite.evaluate(str(models / "classes"), test=file)


def test_figures_of_several_labels_and_of_words(models, tmp_path, capsys):
    rows = [{"text": text, "label": ["bad", "good"]} for text in TEXTS]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    found = json.loads(run(capsys, "evaluate", models / "several", "--test", file)[1])
    assert [found["per_class"][label]["rows"] for label in CLASSES] == [3, 0, 3]
    assert "confusion_matrix" not in found
    words = ("--confusion_picture", tmp_path / "a.png")
    status, _, err = run(capsys, "evaluate", models / "several", "--test", file, *words)
    assert status == 2
    assert "must come with a classifier of one label a row" in err
    rows = [{"tokens": ["Anna", "went", "to", "paris"], "tags": ["B-PER", "O", "O", "B-LOC"]}]
    file = write_rows(tmp_path / "words.jsonl", rows)
    found = json.loads(run(capsys, "evaluate", models / "words", "--test", file)[1])
    assert [found["per_class"][label]["rows"] for label in LABELS] == [2, 1, 0, 1, 0]
    assert sum(map(sum, found["confusion_matrix"]["counts"])) == 4


def test_many_classes_are_shown_by_what_is_mixed_up():
    labels = [f"class {number}" for number in range(30)]
    report = reports.class_report([0, 0, 0, 1, 2], [1, 1, 0, 1, 5], labels)
    last = reports.report_table(report).split("\n\n")[-1].splitlines()
    assert [line.split() for line in last[1:]] == [
        ["class", "0", "class", "1", "2"],
        ["class", "2", "class", "5", "1"],
    ]


@pytest.mark.parametrize("module", [reports, tables])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


@pytest.mark.parametrize("fields", [{"problem_type": "regression"}, {"id2label": {"0": "stars"}}])
def test_numbers_have_no_probabilities(fields, tmp_path, capsys):
    """They are refused by what the config says, before anything is loaded."""
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], **fields}
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, _, err = run(capsys, "predict", tmp_path, "--text", "a", "--probabilities")
    assert status == 2
    assert f"--probabilities is for classes of texts, got the numbers of {tmp_path}" in err
