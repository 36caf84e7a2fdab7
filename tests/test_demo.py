"""`bertlite demo`.

Its data, its refusals, and a short run of the whole on the real weights and reviews.
"""

import json
from collections import Counter

import pytest

from bertlite.cli import demo
from bertlite.cli.demo_card import write_demo_card
from bertlite.cli.main import main


@pytest.fixture(scope="module")
def reviews() -> list[dict]:
    return demo.read_reviews()


def test_reviews_are_real_and_each_text_stands_once(reviews):
    assert len(reviews) > 8000
    labels = Counter(row["label"] for row in reviews)
    assert set(labels) == {0, 1}
    assert abs(labels[0] - labels[1]) < 100
    texts = [
        " ".join(
            "".join(c if c.isalnum() or c == "_" else " " for c in row["text"].lower()).split()
        )
        for row in reviews
    ]
    assert len(set(texts)) == len(texts)


def test_a_text_falls_into_one_split_whatever_stands_beside_it(reviews):
    splits = demo.split_reviews(reviews)
    place = {row["text"]: name for name, rows in splits.items() for row in rows}
    assert len(place) == len(reviews)
    shares = {name: len(rows) / len(reviews) for name, rows in splits.items()}
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.015)
    half = demo.split_reviews(reviews[::2])
    assert all(place[row["text"]] == name for name, rows in half.items() for row in rows)


def test_a_text_in_two_splits_is_refused():
    splits = {
        "train": [{"text": "A Dull film!", "label": 0}],
        "test": [{"text": "a dull film", "label": 0}],
    }
    with pytest.raises(ValueError, match="one in train and in test: a dull film"):
        demo.check_disjoint(splits)


def test_rivals_learn_from_the_training_reviews_only():
    rows = [
        {"text": f"{word} film {i}", "label": label}
        for i in range(6)
        for label, word in enumerate(["bad", "good"])
    ]
    wrong = [{"text": "bad", "label": 1}, {"text": "good", "label": 0}]
    found = demo.baselines({"train": rows, "validation": rows[:2], "test": wrong})
    assert found == {"majority class": 0.5, "TF-IDF with logistic regression": 0.0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "0"], "--epochs must be above 0, got 0"),
        (["--learning-rate", "nan"], "--learning-rate must be above 0, got nan"),
        (["--max-train-examples", "-3"], "--max-train-examples must be above 0, got -3"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["A film.", "  "], "sentence 2 must hold text"),
        (["--max-train-examples", "1"], "reviews of both labels, got 1"),
    ],
)
def test_bad_options_are_refused_before_any_work(words, message, tmp_path, capsys):
    assert main(["demo", *words, "--output-dir", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_peoples_files_are_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", "--output-dir", str(tmp_path)]) == 2
    assert "which holds other files" in capsys.readouterr().err
    assert main(["demo", "--output-dir", str(tmp_path / "thesis.txt")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_card_needs_every_figure(tmp_path):
    with pytest.raises(ValueError, match="figures must hold 'accuracy'"):
        write_demo_card(tmp_path, {"f1": 0.5})


@pytest.mark.slow
def test_the_whole_demo_in_short(tmp_path, capsys, monkeypatch):
    """Few reviews.

    What it learns is not the point, but that every step runs and says what it measured, and that
    the sentences are answered for the first time long before the end.
    """
    monkeypatch.setattr(demo, "FIRST_LOOK", 1)
    options = ["--max-train-examples", "96", "--max-eval-examples", "64", "--epochs", "1"]
    assert (
        main(
            ["demo", "A dull film.", "I laughed.", *options, "--output-dir", str(tmp_path / "out")]
        )
        == 0
    )
    printed = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert f"Held-out accuracy {figures['accuracy']:.4f}" in printed
    assert figures["accuracy"] * 64 == pytest.approx(round(figures["accuracy"] * 64))
    first = printed.index("A first answer, after 32 reviews")
    assert first < printed.index("I laughed.", first) < printed.index("[3/4]")
    assert "A dull film." in printed
    assert "I laughed." in printed
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{figures['accuracy']:.4f}" in card
    assert "--max-train-examples 96" in card
