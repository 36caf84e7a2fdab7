"""Pictures of classifiers: the bins of a reliability diagram by hand, the files, and the card."""

import doctest
import importlib.util
import json

import pytest
from tasks_cases import ROWS, base_folder, write_rows

from bertlite import finetune
from bertlite.cli.main import main
from bertlite.hub import report_parts
from bertlite.metrics import pictures
from bertlite.training import reports
from bertlite.training.calibration import expected_calibration_error, reliability

CLASSIFICATION = "sequence-classification"
PNG = b"\x89PNG"


@pytest.fixture
def without_matplotlib(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name)
    )


def test_bins_by_hand():
    """Tenths: 0.95 and 0.91 of which one is right, 0.62 which is; 1.0 has no bin of its own."""
    found = reliability([0.95, 0.91, 0.62, 1.0], [True, False, True, True], bins=10)
    assert found == [
        {"from": 0.6, "to": 0.7, "rows": 1, "score": 0.62, "right": 1.0},
        {"from": 0.9, "to": 1.0, "rows": 3, "score": pytest.approx(2.86 / 3), "right": 2 / 3},
    ]
    expected = (0.38 + (2.86 - 2)) / 4
    assert expected_calibration_error(
        [0.95, 0.91, 0.62, 1.0], [True, False, True, True], bins=10
    ) == pytest.approx(expected)


def test_pictures_show_what_was_measured(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda axes, path: drawn.append(axes))
    bins = reliability([0.95, 0.91, 0.62], [True, False, True], bins=10)
    pictures.draw_reliability(bins, tmp_path / "a.png")
    points = drawn[0].lines[1].get_xydata().tolist()
    assert points == [[0.62, 1.0], [pytest.approx(0.93), 0.5]]
    pictures.draw_confusion(
        {"labels": ["$a", "b$"], "counts": [[3, 0], [1, 2]]}, tmp_path / "b.png"
    )
    assert [text.get_text() for text in drawn[1].texts] == ["3", "1", "2"]
    assert drawn[1].images[0].get_array().tolist() == [[1.0, 0.0], [1 / 3, 2 / 3]]


def test_labels_are_text_and_not_formulas(tmp_path):
    matrix = {"labels": ["$\\frac{$", "\u65e5\u672c"], "counts": [[3, 0], [1, 2]]}
    pictures.draw_confusion(matrix, tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("name", "message"), [("a.txt", "path must end in one of"), ("none/a.png", "folder that is")]
)
def test_what_cannot_be_drawn_is_refused(name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pictures.draw_reliability([], tmp_path / name)


def test_a_command_line_without_matplotlib_stops_before_any_work(without_matplotlib, capsys):
    words = ["evaluate", "nowhere", "--test", "none.csv", "--reliability-picture", "a.png"]
    assert main(words) == 2
    assert "--reliability_picture: pictures need matplotlib" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with validation and test rows of other sizes."""
    folder = tmp_path_factory.mktemp("run")
    rows = write_rows(folder / "rows.jsonl", ROWS[CLASSIFICATION])
    few = write_rows(folder / "few.jsonl", ROWS[CLASSIFICATION][:3])
    arguments = {"disable_tqdm": True, "use_cpu": True, "num_train_epochs": 1}
    result = finetune(
        CLASSIFICATION,
        base_folder(folder / "base"),
        train=rows,
        validation=rows,
        test=few,
        output_dir=folder / "out",
        arguments=arguments,
        say=None,
    )
    return folder / "out", result, few


def test_the_card_shows_each_class_of_the_test_rows(run):
    out, result, few = run
    card, report = (out / "README.md").read_text(), result.metrics["report"]
    assert report["split"] == "test"
    assert sum(part["rows"] for part in report["per_class"].values()) == 3
    assert sum(each["rows"] for each in report["reliability"]) == 3
    assert "Of each class, on the test rows:" in card
    assert "![Confusion matrix](confusion_matrix.png)" in card
    for name in report["pictures"]:
        assert f"]({name})" in card
        assert (out / name).read_bytes().startswith(PNG)
    assert len(report["pictures"]) == 2
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["report"] == report


def test_evaluate_says_of_the_same_rows_what_the_card_says(run, tmp_path, capsys):
    out, result, few = run
    words = ["--test", str(few), "--reliability_picture", str(tmp_path / "r.png")]
    assert main(["evaluate", str(out), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("per_class", "confusion_matrix", "reliability", "brier_score"):
        assert found[name] == result.metrics["report"][name], name
    assert (tmp_path / "r.png").read_bytes().startswith(PNG)


def test_a_card_without_matplotlib_says_so(run, without_matplotlib, tmp_path):
    report = dict(run[1].metrics["report"])
    report["pictures"] = reports.draw_report(report, tmp_path)
    assert report["pictures"] == []
    assert not list(tmp_path.iterdir())
    text = "\n".join(report_parts.report_parts(report))
    assert (
        'No pictures were drawn: pictures need matplotlib; install it with: pip install "' in text
    )
    assert "![" not in text


def test_a_card_of_many_classes_and_of_none():
    labels = [f"class {number}" for number in range(60)]
    part = {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "rows": 2}
    report = {"split": "test", "per_class": dict.fromkeys(labels, part), "pictures": []}
    report["confusion_matrix"] = {"labels": labels, "counts": []}
    parts = report_parts.report_parts(report)
    assert "| class 49 | 1.0000 | 0.5000 | 0.6667 | 2 |\n\n... and 10 more." in parts[1]
    assert len(parts) == 3  # no matrix of 60 columns
    assert report_parts.report_parts(None) == []
    assert not doctest.testmod(report_parts).failed


def test_pictures_that_a_model_has_not_are_refused_before_the_work(tmp_path, capsys):
    cases = {
        "confusion": ("ForSequenceClassification", "regression"),
        "reliability": ("ForTokenClassification", None),
    }
    for name, (head, kind) in cases.items():
        config = {"model_type": "bert", "architectures": [f"Bert{head}"], "problem_type": kind}
        (tmp_path / "config.json").write_text(json.dumps(config))
        words = ["--test", "missing.csv", f"--{name}_picture", str(tmp_path / "a.png")]
        assert main(["evaluate", str(tmp_path), *words]) == 2
        assert f"--{name}_picture must come with a classifier" in capsys.readouterr().err
