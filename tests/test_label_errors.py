"""Labels that are probably wrong: planted ones are found, and what cannot be checked is said."""

import csv
import importlib.util
import json
import random
import tracemalloc

import numpy as np
import pytest
from tasks_cases import base_folder, write_rows

import bertlite
from bertlite.cli.main import main
from bertlite.training.label_errors import held_out_scores, vectors_of, word_counts

SUBJECTS = {
    "cooking": "onion butter oven salt stew pepper soup garlic",
    "sailing": "anchor mast harbour keel rudder tide deck sail",
    "music": "violin chord drum choir tempo flute melody bass",
}


def written(count=90, seed=0):
    """Rows of six words of their subject, each different."""
    chance = random.Random(seed)
    names = list(SUBJECTS)
    return [
        {
            "text": " ".join(chance.choices(SUBJECTS[names[place % 3]].split(), k=6)),
            "label": names[place % 3],
        }
        for place in range(count)
    ]


def planted(rows, places):
    """The rows, with the label of another subject at these places."""
    names = list(SUBJECTS)
    changed = [dict(row) for row in rows]
    for place in places:
        changed[place]["label"] = names[(names.index(rows[place]["label"]) + 1) % 3]
    return changed


def test_planted_mistakes_are_found_with_the_right_label():
    rows, places = written(), [3, 40, 77]
    found = bertlite.check_labels(planted(rows, places))
    assert sorted(each["row"] for each in found.suspects) == [place + 1 for place in places]
    for each in found.suspects:
        assert each["suggested"] == rows[each["row"] - 1]["label"]
        assert each["text"] == rows[each["row"] - 1]["text"]
        assert 0 <= each["given_confidence"] < each["confidence"] <= 1
    assert 0.9 < found.agreement <= 87 / 90
    assert "90 rows checked, 3 of them suspect" in str(found)
    sure = [each["given_confidence"] for each in found.suspects]
    assert sure == sorted(sure)


def test_right_labels_are_left_alone():
    assert bertlite.check_labels(written()).suspects == []


def test_a_mistake_that_stands_there_many_times_is_no_proof_of_itself():
    """Equal texts are judged together: else each copy would vouch for the others."""
    rows = planted(written(), [])
    copies = [{"text": "onion soup salt stew garlic oven", "label": "music"}] * 5
    found = bertlite.check_labels([*rows, *copies])
    assert {each["row"] for each in found.suspects} == {91, 92, 93, 94, 95}
    also = {"text": copies[0]["text"], "label": "cooking"}
    assert bertlite.check_labels([*rows, *copies, also]).contradictions == 6


def test_no_row_is_judged_by_itself():
    """Labels that nothing tells, of texts that are all different: no better than chance."""
    chance = np.random.default_rng(0)
    texts = [f"{number:x} {number * 7:x}" for number in range(400)]
    labels = chance.integers(0, 2, 400)
    scores = held_out_scores([word_counts(texts)], labels, texts, 5, seed=0)
    assert abs((scores.argmax(1) == labels).mean() - 0.5) < 0.1
    np.testing.assert_allclose(scores.sum(1), 1)


def test_rows_have_the_numbers_of_the_file(tmp_path):
    rows = planted(written(), [40])
    rows.insert(10, {"text": None, "label": "music"})
    file = write_rows(tmp_path / "rows.jsonl", rows)
    found = bertlite.check_labels(file, on_bad_row="skip")
    assert [(each["row"], each["where"]) for each in found.suspects] == [(42, "rows.jsonl line 42")]
    assert "left out: 1 bad row" in str(found)
    with pytest.raises(ValueError, match="1 bad row"):
        bertlite.check_labels(file)


def test_labels_with_few_rows_are_named():
    rare = [{"text": f"word{number} other", "label": "rare"} for number in range(4)]
    found = bertlite.check_labels([*rare, *written()])
    assert found.unchecked == {"rare": 4}
    assert found.rows == 90
    assert "too few rows to be checked: rare (4)" in str(found)
    with pytest.raises(ValueError, match=r"two labels with at least 5 different texts.*'a': 1"):
        bertlite.check_labels([{"text": "x", "label": "a"}, {"text": "y", "label": "b"}])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.5, 2.25], "one class each, got labels of kind regression"),
        ([["a"], ["a", "b"]], "one class each, got labels of kind multi_label"),
    ],
)
def test_other_labels_are_refused(labels, message):
    rows = [{"text": f"text {place}", "label": labels[place % 2]} for place in range(20)]
    with pytest.raises(ValueError, match=message):
        bertlite.check_labels(rows)


def test_without_cleanlab_it_says_how_to_install_it(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "cleanlab" else found(name)
    )
    with pytest.raises(ValueError, match=r'pip install "bertlite\[labels\]"'):
        bertlite.check_labels([])


def test_vectors_of_a_model_and_of_pairs(tmp_path):
    base = base_folder(tmp_path / "base")
    rows = [{"text": "the cat", "text_pair": "anna went"}, {"text": "cat", "text_pair": "sat"}]
    first, second = (
        bertlite.encode([row[name] for row in rows], base) for name in ("text", "text_pair")
    )
    expected = np.concatenate([first, second, abs(first - second)], axis=1)
    found = vectors_of(rows, base, None, {})
    np.testing.assert_array_equal(found, expected)


def test_the_command_writes_a_table(tmp_path, capsys):
    file = write_rows(tmp_path / "rows.jsonl", planted(written(), [3, 40]))
    base, table = base_folder(tmp_path / "base"), tmp_path / "suspects.csv"
    words = [file, "--model", base, "--output", str(table), "--max-length", "16"]
    assert main(["check-labels", *words]) == 0
    assert "90 rows checked" in capsys.readouterr().err
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {int(row["row"]) for row in rows} >= {4, 41}
    assert list(rows[0]) == [
        "row", "where", "given", "suggested", "confidence", "given_confidence", "text"
    ]  # fmt: skip


def test_a_trained_classifier_is_warned_of(tmp_path, capsys):
    file = write_rows(tmp_path / "rows.jsonl", written(30))
    base = base_folder(tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["architectures"] = ["BertForSequenceClassification"]
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    assert main(["check-labels", file, "--model", base]) == 0
    assert "it has learnt their mistakes too" in " ".join(capsys.readouterr().err.split())
    assert main(["check-labels", str(tmp_path / "none.csv")]) == 2


def test_a_folder_of_sentence_transformers_in_parts_is_read(tmp_path, capsys):
    """Older ones hold the weights a folder deeper."""
    base_folder(tmp_path / "st" / "0_Transformer")
    modules = [
        {
            "idx": 0,
            "name": "0",
            "path": "0_Transformer",
            "type": "sentence_transformers.models.Transformer",
        },
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ]
    (tmp_path / "st" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "st" / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (tmp_path / "st" / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    file = write_rows(tmp_path / "rows.jsonl", planted(written(60), [3]))
    assert main(["check-labels", file, "--model", str(tmp_path / "st")]) == 0
    assert 4 in {json.loads(line)["row"] for line in capsys.readouterr().out.splitlines()}


def test_one_long_text_costs_no_memory_for_all():
    """Equal texts are found without a table in which each text has the room of the longest."""
    texts = [f"{'good' if n % 2 else 'bad'} film {n}" for n in range(200)]
    texts[0] = "bad film " + "x" * 500_000
    labels = np.arange(200) % 2
    tracemalloc.start()
    held_out_scores([word_counts(texts)], labels, texts, folds=2, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # the table alone would have 400 MB


def test_a_missing_file_is_called_by_its_own_argument():
    with pytest.raises(ValueError, match="^data must be a file that exists, got no.csv"):
        bertlite.check_labels("no.csv")
