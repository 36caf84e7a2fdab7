"""`prepare` reads every format into the same rows, numbered as an editor numbers the lines."""

import gzip
import json

import datasets
import pandas
import pytest

from bertlite.data import prepare

ROWS = [
    {"text": 'He said "no", twice.', "label": "neg"},
    {"text": "Grüße, 世界\u2028!", "label": "pos"},
    {"text": "NA", "label": "pos"},
]
EXPECTED = [{"text": row["text"], "label": {"neg": 0, "pos": 1}[row["label"]]} for row in ROWS]


def write_rows(path, rows):
    """By other libraries than the readers."""
    frame = pandas.DataFrame(rows)
    kind = path.name.split(".")[1]
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind in ("csv", "tsv"):
        frame.to_csv(path, sep="\t" if kind == "tsv" else ",", index=False, quoting=0)
    else:
        frame.to_json(path, orient="records", lines=kind == "jsonl", force_ascii=False)
    return path


@pytest.mark.parametrize(
    "name",
    ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.gz", "a.tsv.xz"],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_tables(name, streaming, tmp_path):
    data = prepare(
        "sequence-classification", write_rows(tmp_path / name, ROWS), streaming=streaming
    )
    assert list(data.train) == EXPECTED
    assert isinstance(data.train, datasets.IterableDataset if streaming else datasets.Dataset)
    assert data.labels == ["neg", "pos"]
    assert data.problem_type == "single_label_classification"
    assert str(data.problems) == "no bad rows"
    assert (data.validation, data.test) == (None, None)


@pytest.mark.parametrize("make", [list, datasets.Dataset.from_list, pandas.DataFrame])
def test_in_memory(make, tmp_path):
    made = make(ROWS)
    if isinstance(made, pandas.DataFrame):
        made = datasets.Dataset.from_pandas(made)
    assert list(prepare("sequence-classification", made).train) == EXPECTED


def test_splits_of_a_folder_and_of_a_dataset_dict(tmp_path):
    for split in ("train", "dev", "test"):
        write_rows(tmp_path / f"{split}.jsonl", ROWS[: {"train": 3, "dev": 2, "test": 1}[split]])
    data = prepare("sequence-classification", dataset=tmp_path)
    assert {name: len(rows) for name, rows in data.splits.items()} == {
        "train": 3,
        "validation": 2,
        "test": 1,
    }
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    assert list(prepare("sequence-classification", dataset=splits).train) == EXPECTED
    splits.save_to_disk(tmp_path / "saved")
    assert list(prepare("sequence-classification", dataset=tmp_path / "saved").train) == EXPECTED


def test_many_files_and_patterns(tmp_path):
    paths = [write_rows(tmp_path / f"part{number}.csv", [row]) for number, row in enumerate(ROWS)]
    for given in (paths, str(tmp_path / "part*.csv")):
        assert list(prepare("sequence-classification", given).train) == EXPECTED


def test_semicolons_and_long_fields(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "\ufefftext;label\n"
        + "x, " * 100_000
        + ";1\nline\nof text;0\n".replace("line\nof", '"line\nof"').replace('of" text', 'of text"'),
        encoding="utf-8",
    )
    rows = list(prepare("sequence-classification", path).train)
    assert [len(row["text"]) for row in rows] == [300_000, len("line\nof text")]
    assert [row["label"] for row in rows] == [1, 0]


CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


@pytest.mark.parametrize("name", ["a.conll", "a.txt"])
def test_conll(name, tmp_path):
    (tmp_path / name).write_text(CONLL)
    data = prepare("token-classification", tmp_path / name)
    assert data.labels == ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    assert list(data.train) == [
        {"tokens": ["EU", "rejects"], "tags": [1, 0]},
        {"tokens": ["Peter", "Blackburn"], "tags": [3, 4]},
    ]
    second = prepare("token-classification", tmp_path / name, columns={"tags": "column 2"})
    assert second.labels == ["NNP", "VBZ"]
    assert second.train[0]["tags"] == [0, 1]


def squad(version, **question):
    asked = {
        "id": "q1",
        "question": "Where?",
        "answers": [{"text": "Ulm", "answer_start": 3}],
        **question,
    }
    paragraph = {"context": "In Ulm.", "qas": [asked]}
    return {"version": version, "data": [{"title": "T", "paragraphs": [paragraph]}]}


@pytest.mark.parametrize("indent", [None, 2])
def test_squad(indent, tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(squad("1.1"), indent=indent))
    row = {
        "id": "q1",
        "question": "Where?",
        "context": "In Ulm.",
        "answers": {"text": ["Ulm"], "answer_start": [3]},
    }
    assert list(prepare("question-answering", path).train) == [row]
    path.write_text(json.dumps(squad("v2.0", is_impossible=True, answers=[]), indent=indent))
    assert prepare("question-answering", path).train[0]["answers"] == {
        "text": [],
        "answer_start": [],
    }
    path.write_text(json.dumps(squad("v2.0", answers=[{"text": "Ulm", "answer_start": 2}])))
    with pytest.raises(
        ValueError, match=r"train.json question 1 \(id q1\): answer not at.*it stands at 3"
    ):
        prepare("question-answering", path)


def test_answers_of_other_shapes():
    """A list of answers, JSON in a cell, and no id."""
    row = {"question": "Where?", "context": "In Ulm."}
    answers = [{"text": "Ulm", "answer_start": 3}]
    for cell in (answers, json.dumps(answers), {"text": "Ulm", "answer_start": 3}):
        data = prepare("question-answering", [{**row, "answers": cell}, {**row, "answers": cell}])
        assert data.train["id"][:] == ["0", "1"]
        assert data.train[1]["answers"] == {"text": ["Ulm"], "answer_start": [3]}


def test_parallel_text(tmp_path):
    english, german = tmp_path / "train.en", tmp_path / "train.de"
    english.write_text("A cat.\nA form\x0cfeed.\n")
    german.write_text("Eine Katze.\nEin Vorschub.\n")
    rows = [
        {"source": "A cat.", "target": "Eine Katze."},
        {"source": "A form\x0cfeed.", "target": "Ein Vorschub."},
    ]
    for given in ((english, german), f"{english} {german}", f"{english},{german}"):
        assert list(prepare("translation", given).train) == rows
    german.write_text("Eine Katze.\n")
    with pytest.raises(ValueError, match=r"train.en has 2 and train.de 1"):
        prepare("translation", (english, german))


def test_translation_columns(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"translation": {"en": "cat", "de": "Katze"}}\n')
    forth, back = {"source": "cat", "target": "Katze"}, {"source": "Katze", "target": "cat"}
    assert list(prepare("translation", path).train) == [forth]
    assert list(prepare("translation", path, source_language="de").train) == [back]
    assert list(prepare("translation", path, target_language="en").train) == [back]
    assert list(prepare("translation", path, require_labels=False).train) == [{"source": "cat"}]
    with pytest.raises(ValueError, match="source_language must be one of en, de, got 'fr'"):
        prepare("translation", path, source_language="fr")
    rows = [{"en": "cat", "de": "Katze"}]
    assert list(prepare("translation", rows, source_language="en", target_language="de").train) == [
        forth
    ]


SWAG = {
    "sent1": "She opens it.",
    "sent2": "She",
    "ending0": "reads.",
    "ending1": "flies.",
    "label": 1,
}
ARC = {
    "question": "Which?",
    "choices": {"text": ["a rock", "a cat"], "label": ["A", "B"]},
    "answerKey": "B",
}
RACE = {"article": "Long.", "question": "Which?", "options": ["no", "yes"], "answer": "B"}
COPA = {
    "premise": "It rained.",
    "question": "effect",
    "choice1": "Wet.",
    "choice2": "Dry.",
    "label": 0,
}
WINOGRANDE = {"sentence": "The _ ran.", "option1": "cat", "option2": "box", "answer": "2"}


@pytest.mark.parametrize(
    ("row", "texts", "choices", "label"),
    [
        (SWAG, {"question": "She opens it."}, ["She reads.", "She flies."], 1),
        (ARC, {"question": "Which?"}, ["a rock", "a cat"], 1),
        (RACE, {"context": "Long.", "question": "Which?"}, ["no", "yes"], 1),
        (COPA, {"context": "It rained.", "question": "effect"}, ["Wet.", "Dry."], 0),
        (WINOGRANDE, {"question": "The _ ran."}, ["cat", "box"], 1),
        (
            {"question": "Which?", "choices": '["no", "yes"]', "label": "yes"},
            {"question": "Which?"},
            ["no", "yes"],
            1,
        ),
    ],
)
def test_multiple_choice(row, texts, choices, label):
    assert list(prepare("multiple-choice", [row]).train) == [
        {**texts, "choices": choices, "label": label}
    ]


def test_summaries_and_pairs():
    rows = [{"document": "Long.", "summary": "Short."}]
    assert list(prepare("summarization", rows).train) == [{"source": "Long.", "target": "Short."}]
    rows = [
        {"premise": "A", "hypothesis": "B", "label": "x"},
        {"premise": "C", "hypothesis": "D", "label": "y"},
    ]
    assert prepare("sequence-classification", rows).train[1] == {
        "text": "C",
        "text_pair": "D",
        "label": 1,
    }


def test_rows_without_labels(tmp_path):
    (tmp_path / "words.txt").write_text("In\nUlm\n\nNo\n")
    data = prepare("token-classification", test=tmp_path / "words.txt", require_labels=False)
    assert list(data.test) == [{"tokens": ["In", "Ulm"]}, {"tokens": ["No"]}]
    assert data.labels is None
    data = prepare("sequence-classification", test=[{"text": "a"}], require_labels=False)
    assert list(data.test) == [{"text": "a"}]
    with pytest.raises(ValueError, match="no column for tags"):
        prepare("token-classification", test=tmp_path / "words.txt")


def test_first_rows_only():
    rows = [{"text": str(number), "label": number % 2} for number in range(9)]
    data = prepare("sequence-classification", rows, rows, max_train_examples=4, max_eval_examples=2)
    assert (len(data.train), len(data.validation)) == (4, 2)


def test_streams_split_over_loader_workers(tmp_path):
    """Two files, two workers: every row once."""
    import torch

    for number in range(2):
        write_rows(
            tmp_path / f"part{number}.csv",
            [{"text": f"{number}{row}", "label": row} for row in range(3)],
        )
    data = prepare("sequence-classification", str(tmp_path / "part*.csv"), streaming=True)
    loader = torch.utils.data.DataLoader(data.train, batch_size=None, num_workers=2)
    assert sorted(row["text"] for row in loader) == ["00", "01", "02", "10", "11", "12"]


@pytest.mark.parametrize("name", ["a.json", "a.parquet", "a.csv.gz"])
def test_files_of_another_format(name, tmp_path):
    (tmp_path / name).write_text("nothing of the kind")
    with pytest.raises(ValueError, match=f"{name} must"):
        prepare("sequence-classification", tmp_path / name)


def test_what_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="train must be a file that exists, got nowhere.csv"):
        prepare("sequence-classification", "nowhere.csv")
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(ValueError, match="a.docx must be of a known format: .csv"):
        prepare("sequence-classification", tmp_path / "a.docx")
    with pytest.raises(ValueError, match="task must be one of.*'tagging'"):
        prepare("tagging", ROWS)
    with pytest.raises(ValueError, match="must be given"):
        prepare("translation")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="'no-such-data' is no local file"):
        prepare("translation", "no-such-data")
