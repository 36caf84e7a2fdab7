"""Commands on files as people have them, from training to prediction."""

import json

import pandas
import pytest
from inference_cases import WORDS
from tasks_cases import TINY, base_folder, bpe_folder

from bertlite import evaluate, finetune
from bertlite.cli.main import main

CLASSIFICATION = "sequence-classification"
QUIET = ["--max_steps", "1", "--use_cpu", "true", "--disable_tqdm", "true", "--save_strategy", "no"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_folder(tmp_path_factory.mktemp("models") / "base")


def command(*words):
    """Run `bertlite` with these words, which must go well."""
    assert main([str(word) for word in words]) == 0


def answers(capsys, *words):
    """What `bertlite predict` writes."""
    capsys.readouterr()
    command("predict", *words)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def record_of(folder):
    return json.loads((folder / "run_arguments.json").read_text(encoding="utf-8"))


def write_frame(path, words, labels=("good", "bad"), names=("Body", "Stars"), **options):
    columns = [[f"the cat {word}" for word in words], [labels[n % 2] for n in range(len(words))]]
    frame = pandas.DataFrame(dict(zip(names, columns, strict=True)))
    frame.to_csv(path, index=False, **options)
    return path


def test_several_files_of_rows(base, tmp_path):
    files = [write_frame(tmp_path / f"{name}.csv", WORDS[:4]) for name in "ab"]
    words = ["--train", *files, "--output_dir", tmp_path / "out", *QUIET]
    command("finetune", CLASSIFICATION, "--model", base, *words)
    record = record_of(tmp_path / "out")
    assert record["data_options"]["train"] == [str(file) for file in files]
    assert record["rows"] == {"train": 8}
    assert record["columns"] == {"text": "Body", "label": "Stars"}
    assert "- train: `a.csv`, `b.csv`" in (tmp_path / "out" / "README.md").read_text()


def test_one_file_is_recorded_as_one(base, tmp_path):
    file = write_frame(tmp_path / "a.csv", WORDS[:4])
    words = ["--train", file, "--output_dir", tmp_path / "out", *QUIET]
    command("finetune", CLASSIFICATION, "--model", base, *words)
    assert record_of(tmp_path / "out")["data_options"]["train"] == str(file)


def test_columns_and_encodings_from_training_to_prediction(base, tmp_path, capsys):
    """Columns that were given in training need not be given again."""
    given = {"names": ("Größe", "Stars"), "encoding": "cp1252"}
    file = write_frame(tmp_path / "a.csv", WORDS[:4], **given)
    words = ["--train", file, "--columns", "text=größe", "--encoding", "cp1252", *QUIET]
    command("finetune", CLASSIFICATION, "--model", base, *words, "--output_dir", tmp_path / "out")
    found = answers(capsys, tmp_path / "out", file, "--encoding", "cp1252")
    assert {each["label"] for each in found} <= {"good", "bad"}
    assert len(found) == 4
    figures = evaluate(str(tmp_path / "out"), test=str(file), encoding="cp1252")
    assert figures["examples"] == 4


def test_rows_left_out_are_in_the_record(base, tmp_path):
    file = write_frame(tmp_path / "a.csv", [*WORDS[:4], "x"])
    file.write_text(file.read_text().replace("the cat x", " "))
    words = ["--train", file, "--output_dir", tmp_path / "out", "--on_bad_row", "skip", *QUIET]
    command("finetune", CLASSIFICATION, "--model", base, *words)
    record = record_of(tmp_path / "out")
    assert record["rows"] == {"train": 4}
    assert record["left_out"] == {"train": {"empty text": 1}}


def test_a_data_frame(base, tmp_path):
    frame = pandas.DataFrame({"Text": ["the cat", "a mat"] * 2, "Label": ["x", "y"] * 2})
    arguments = {"max_steps": 1, "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    result = finetune(
        CLASSIFICATION, base, train=frame, output_dir=tmp_path / "out", arguments=arguments
    )
    assert result.model.config.id2label == {0: "x", 1: "y"}
    assert record_of(tmp_path / "out")["data_options"]["train"] == "DataFrame of 4 in memory"
    figures = evaluate(str(tmp_path / "out"), test=frame)
    assert figures["examples"] == 4


def test_parallel_text_by_a_pattern(tmp_path, capsys):
    tokenizer = bpe_folder(tmp_path / "bpe")
    (tmp_path / "train.en").write_text("the cat sat\nbob drank tea\n")
    (tmp_path / "train.de").write_text("anna went\nto paris\n")
    both = ["--train", tmp_path / "train.de", tmp_path / "train.en"]  # as a shell writes train.*
    start = ["--from_scratch", "--config_preset", "transformer-base", "--tokenizer", tokenizer]
    start += ["--config_overrides", *TINY, "--output_dir", tmp_path / "out", *QUIET]
    assert main([str(word) for word in ("finetune", "translation", *both, *start)]) == 2
    assert "--source_language" in capsys.readouterr().err
    command("finetune", "translation", *both, "--source_language", "en", *start)
    told = "source is train.en and target train.de, told by their languages"
    assert record_of(tmp_path / "out")["decisions"][0] == told
    found = answers(capsys, tmp_path / "out", tmp_path / "train.en", "--max_new_tokens", "3")
    assert len(found) == 2


def test_questions_that_nobody_has_answered(base, tmp_path, capsys):
    asked = {"question": "who went", "answers": [{"text": "anna", "answer_start": 0}]}
    paragraph = {"context": "anna went to paris", "qas": [asked]}
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    words = ["--train", tmp_path / "a.json", "--output_dir", tmp_path / "out", *QUIET]
    command("finetune", "question-answering", "--model", base, *words)
    asked["id"] = "q1"
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    assert answers(capsys, tmp_path / "out", tmp_path / "a.json")[0]["id"] == "q1"
    del asked["answers"], asked["id"]
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    (found,) = answers(capsys, tmp_path / "out", tmp_path / "a.json")
    assert found["id"] == "0"
    assert found["answer"] in paragraph["context"]


def test_files_of_a_file_of_options(base, tmp_path):
    files = [str(write_frame(tmp_path / f"{name}.csv", WORDS[:4])) for name in "ab"]
    for number, train in enumerate((files, files[0])):
        options = tmp_path / "run.json"
        options.write_text(json.dumps({"train": train, "model": base}))
        command(
            *("finetune", CLASSIFICATION, options, "--output_dir", tmp_path / f"out{number}"),
            *QUIET,
        )
        rows = record_of(tmp_path / f"out{number}")["rows"]
        assert rows == {"train": 8 if number == 0 else 4}


def test_a_model_of_one_output_gives_numbers(base, tmp_path):
    """As transformers takes a config that does not say what its one label is."""
    made = {"train": [{"text": "the cat", "label": 1.5}, {"text": "a mat", "label": 2.5}]}
    arguments = {"max_steps": 1, "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    folder = tmp_path / "out"
    finetune(CLASSIFICATION, base, output_dir=folder, arguments=arguments, **made)
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("problem_type") == "regression"
    (folder / "config.json").write_text(json.dumps(config))
    assert "mse" in evaluate(str(folder), test=made["train"])
