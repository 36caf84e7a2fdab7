"""Tasks from data of every shape.

Streams, folders of the hub, bad rows, other files than JSON lines, long texts.
"""

import json

import datasets
import pandas
import pytest
import torch
from inference_cases import WORDS, byte_pairs, wordpiece
from tasks_cases import ROWS, base_folder, write_rows
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    MarianConfig,
    MarianMTModel,
)

import bertlite
from bertlite import evaluate, finetune
from bertlite.cli.main import main
from bertlite.tasks import TASKS

CLASSIFICATION = "sequence-classification"
QUIET = {
    "disable_tqdm": True,
    "use_cpu": True,
    "max_steps": 1,
    "save_strategy": "no",
    "eval_strategy": "no",
}
QUIET |= {"per_device_train_batch_size": 2}
WRITING = ("translation", "summarization")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return base_folder(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """Transformers' own Marian, saved with its tokenizer."""
    folder, tokenizer = tmp_path_factory.mktemp("models") / "marian", byte_pairs()
    sizes = {
        f"{side}_{name}": number
        for side in ("encoder", "decoder")
        for name, number in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
    }
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = MarianConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        max_position_embeddings=64,
        init_std=0.3,
        dropout=0.0,
        forced_eos_token_id=None,
        decoder_start_token_id=tokenizer.pad_token_id,
        **special,
        **sizes,
    )
    torch.manual_seed(3)
    MarianMTModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def saved_bert(folder, **sizes):
    """Transformers' own BERT of one layer, saved with its tokenizer."""
    tokenizer = wordpiece()
    config = BertConfig(
        vocab_size=len(tokenizer), num_hidden_layers=1, num_attention_heads=2, **sizes
    )
    model = BertModel(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def command(*words):
    """Run `bertlite` with these words."""
    return main([str(word) for word in words])


def tuned(task, model, output_dir, *words):
    """One step by `bertlite finetune`, and what the run recorded."""
    quiet = [part for name, value in QUIET.items() for part in (f"--{name}", str(value).lower())]
    assert (
        command("finetune", task, "--model", model, "--output_dir", output_dir, *words, *quiet) == 0
    )
    return json.loads((output_dir / "metrics.json").read_text())


def measured(model, capsys, *words):
    """The figures of `bertlite evaluate`."""
    capsys.readouterr()
    assert command("evaluate", model, *words) == 0
    return json.loads(capsys.readouterr().out)


# ---- streams


def test_a_stream_is_shuffled_and_read_whole(base, tmp_path):
    """Rows of two files, sorted by label.

    Every row once a pass, in another order than in the files and each pass.
    """
    rows = [{"text": f"{WORDS[n]} cat", "label": int(n >= 8)} for n in range(16)]
    for part in range(2):
        write_rows(tmp_path / f"part{part}.jsonl", rows[8 * part : 8 * part + 8])
    given = {"train": str(tmp_path / "part*.jsonl"), "streaming": True, "arguments": QUIET}
    result = finetune(CLASSIFICATION, base, output_dir=tmp_path / "out", **given)
    assert isinstance(result.trainer.train_dataset, datasets.IterableDataset)
    assert result.metrics["train"]["steps"] == 1
    expected = [wordpiece()(row["text"])["input_ids"] for row in rows]
    passes = []
    for epoch in range(2):
        result.trainer.train_dataset.set_epoch(epoch)
        passes.append([row["input_ids"] for row in result.trainer.train_dataset])
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(expected)
    assert passes[0] != expected
    assert passes[0] != passes[1]
    result = finetune(
        CLASSIFICATION, base, output_dir=tmp_path / "plain", shuffle_buffer=1, **given
    )
    assert sorted(row["input_ids"] for row in result.trainer.train_dataset) == sorted(expected)


def test_a_stream_that_never_ends_is_trained_on(base, tmp_path):
    """Only as many rows are read as the steps and the buffer need."""
    read = []

    def endless():
        number = 0
        while True:
            read.append(number)
            yield {"text": f"the cat {WORDS[number % 10]}", "label": ["bad", "good"][number % 2]}
            number += 1

    stream = datasets.IterableDataset.from_generator(endless)
    given = {"train": stream, "streaming": True, "labels": ["bad", "good"], "shuffle_buffer": 4}
    arguments = {**QUIET, "max_steps": 3}
    problem = {"problem_type": "single_label_classification"}
    result = finetune(
        CLASSIFICATION, base, output_dir=tmp_path / "out", arguments=arguments, **given, **problem
    )
    assert result.metrics["train"]["steps"] == 3
    assert len(read) < 5000


def test_bad_rows_of_a_stream(base, tmp_path):
    rows = [*ROWS[CLASSIFICATION][:3], {"text": "", "label": "bad"}, *ROWS[CLASSIFICATION][3:]]
    given = {
        "train": write_rows(tmp_path / "rows.jsonl", rows),
        "streaming": True,
        "shuffle_buffer": 1,
    }
    arguments = {**QUIET, "max_steps": 4}
    with pytest.raises(ValueError, match=r"(?s)rows.jsonl line 4: empty text.*on_bad_row"):
        finetune(CLASSIFICATION, base, output_dir=tmp_path / "stop", arguments=arguments, **given)
    skip = {"on_bad_row": "skip", "arguments": arguments}
    result = finetune(CLASSIFICATION, base, output_dir=tmp_path / "skip", **skip, **given)
    assert result.metrics["train"]["steps"] == 4
    assert result.problems.total >= 1
    assert set(result.problems.counts) == {"empty text"}


# ---- the hub


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """A data set as the hub has them.

    Parquet shards, and a card that names configurations and splits.
    """
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(
        datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "cache" / "downloads"
    )
    folder = tmp_path / "user" / "films"
    (folder / "plain").mkdir(parents=True)
    names = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"sentence": datasets.Value("string"), "label": names})
    for split, count in (("train", 8), ("validation", 4), ("test", 2)):
        table = {
            "sentence": [f"the cat {word}" for word in WORDS[:count]],
            "label": [n % 2 for n in range(count)],
        }
        made = datasets.Dataset.from_dict(table, features=features)
        made.to_parquet(folder / "plain" / f"{split}-00000-of-00001.parquet")
    files = "".join(
        f"  - split: {split}\n    path: plain/{split}-*\n"
        for split in ("train", "validation", "test")
    )
    card = f"---\nconfigs:\n- config_name: plain\n  data_files:\n{files}---\n# Films\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


@pytest.mark.parametrize("more", [[], ["--streaming"], ["--dataset_config", "plain"]])
def test_a_data_set_of_the_hub(more, hub_folder, base, tmp_path, capsys):
    figures = tuned(CLASSIFICATION, base, tmp_path / "out", "--dataset", hub_folder, *more)
    assert {"train", "validation", "test", "report"} == set(figures)
    config = bertlite.BertLiteForSequenceClassification.from_pretrained(tmp_path / "out").config
    assert config.id2label == {0: "bad", 1: "good"}
    found = measured(tmp_path / "out", capsys, "--dataset", hub_folder)
    assert found["examples"] == 2
    assert found["accuracy"] == pytest.approx(figures["test"]["accuracy"])


def test_a_data_set_without_what_is_asked_for(hub_folder, base, tmp_path, capsys):
    given = {"output_dir": tmp_path / "out", "arguments": QUIET}
    with pytest.raises(ValueError, match="dataset: .*could be loaded.*fancy"):
        finetune(CLASSIFICATION, base, dataset=hub_folder, dataset_config="fancy", **given)
    tuned(CLASSIFICATION, base, tmp_path / "out", "--dataset", hub_folder)
    write_rows(tmp_path / "train.jsonl", ROWS[CLASSIFICATION])
    (tmp_path / "only").mkdir()
    (tmp_path / "train.jsonl").rename(tmp_path / "only" / "train.jsonl")
    with pytest.raises(
        ValueError, match="dataset must have a split test to measure on, .* has train"
    ):
        evaluate(str(tmp_path / "out"), dataset=tmp_path / "only")


# ---- bad rows

BAD = {
    CLASSIFICATION: ({"text": " ", "label": "bad"}, "empty text"),
    "token-classification": (
        {"tokens": ["the", "cat"], "tags": ["O"]},
        "tokens and tags of unequal length",
    ),
    "question-answering": (
        {
            "id": "x",
            "question": "who",
            "context": "the cat",
            "answers": {"text": ["dog"], "answer_start": [4]},
        },
        "answer not at answer_start",
    ),
    "multiple-choice": (
        {"question": "who", "choices": ["a", "b", "cat"], "label": 7},
        "label out of range",
    ),
    "translation": ({"source": "the cat", "target": None}, "missing value"),
    "summarization": ({"source": "", "target": "cat"}, "empty text"),
}


@pytest.mark.parametrize("task", TASKS)
def test_bad_rows_stop_or_are_counted(task, base, marian, tmp_path, capsys):
    """Row 3 of the file is bad.

    Named before anything is written, or left out and counted, in both commands.
    """
    bad, kind = BAD[task]
    good = ROWS[task]
    file = write_rows(tmp_path / "rows.jsonl", [*good[:2], bad, *good[2:]])
    model = marian if task in WRITING else base
    given = {"train": file, "output_dir": tmp_path / "out", "arguments": QUIET}
    with pytest.raises(
        ValueError, match=f"(?s)1 bad row .*rows.jsonl line 3: {kind}.*--on_bad_row skip"
    ):
        finetune(task, model, **given)
    assert not list((tmp_path / "out").iterdir())
    result = finetune(task, model, on_bad_row="skip", **given)
    assert result.problems.counts == {kind: 1}
    assert result.metrics["train"]["steps"] == 1
    short = ["--max_new_tokens", "3"] if task in WRITING else []
    assert command("evaluate", tmp_path / "out", "--task", task, "--test", file) == 2
    assert "rows.jsonl line 3" in capsys.readouterr().err
    found = measured(
        tmp_path / "out", capsys, "--task", task, "--test", file, "--on_bad_row", "skip", *short
    )
    assert (found["examples"], found["bad_rows"]) == (len(good), 1)


def test_rows_in_memory_are_not_written_into_the_record(base, tmp_path):
    given = {"train": ROWS[CLASSIFICATION], "output_dir": tmp_path / "out", "arguments": QUIET}
    finetune(CLASSIFICATION, base, **given)
    written = json.loads((tmp_path / "out" / "run_arguments.json").read_text())
    assert written["data_options"]["train"] == "list of 8 in memory"


# ---- files of other kinds, by the command


def test_pairs_of_a_tsv(base, tmp_path, capsys):
    lines = [
        "sentence1\tsentence2\tlabel",
        *(f"the cat\t{word} sat\t{n % 2}" for n, word in enumerate(WORDS[:6])),
    ]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
    tuned(CLASSIFICATION, base, tmp_path / "out", "--train", tmp_path / "pairs.tsv")
    assert measured(tmp_path / "out", capsys, "--test", tmp_path / "pairs.tsv")["examples"] == 6
    words = ["--text", "the cat", "--text_pair", "went sat"]
    assert command("predict", tmp_path / "out", *words) == 0
    found = json.loads(capsys.readouterr().out)
    theirs = BertForSequenceClassification.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        scores = theirs(**wordpiece()("the cat", "went sat", return_tensors="pt")).logits.softmax(
            -1
        )[0]
    assert found["score"] == pytest.approx(float(scores.max()), abs=1e-5)


def test_numbers_of_a_parquet(base, tmp_path, capsys):
    frame = pandas.DataFrame(
        {"review": [f"the {word}" for word in WORDS[:6]], "stars": [1.5, 2.0, 3.5, 4.0, 1.0, 5.0]}
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    tuned(CLASSIFICATION, base, tmp_path / "out", "--train", tmp_path / "rows.parquet")
    found = measured(tmp_path / "out", capsys, "--test", tmp_path / "rows.parquet")
    theirs = BertForSequenceClassification.from_pretrained(tmp_path / "out")
    batch = wordpiece()(frame["review"].tolist(), return_tensors="pt", padding=True)
    with torch.no_grad():
        scores = theirs(**batch).logits[:, 0]
    expected = float(((scores - torch.tensor(frame["stars"].tolist())) ** 2).mean())
    assert found["mse"] == pytest.approx(expected, rel=1e-4)


def test_several_labels_of_a_csv(base, tmp_path, capsys):
    lines = ["text,label", "the cat,loud|rude", "a mat,rude", "paris,", "london,loud"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    words = ["--train", tmp_path / "rows.csv", "--problem_type", "multi_label_classification"]
    tuned(CLASSIFICATION, base, tmp_path / "out", *words)
    for threshold, micro in (
        ("0", 2 * 4 / 12),
        ("1", 0.0),
    ):  # all of 8 marks or none, 4 of them right
        found = measured(
            tmp_path / "out", capsys, "--test", tmp_path / "rows.csv", "--threshold", threshold
        )
        assert found["f1_micro"] == pytest.approx(micro)
    assert command("predict", tmp_path / "out", "--text", "the cat", "--threshold", "0") == 0
    assert {each["label"] for each in json.loads(capsys.readouterr().out)["labels"]} == {
        "loud",
        "rude",
    }


def test_conll(base, tmp_path, capsys):
    text = "-DOCSTART- -X- O\n\nanna NNP B-PER\nwent VBD O\n\nto TO O\nparis NNP B-LOC\n"
    (tmp_path / "train.conll").write_text(text * 2)
    tuned("token-classification", base, tmp_path / "out", "--train", tmp_path / "train.conll")
    found = measured(tmp_path / "out", capsys, "--test", tmp_path / "train.conll")
    assert found["examples"] == 4
    assert {"overall_f1", "PER_f1", "LOC_f1"} <= set(found)


def test_plain_parallel_text_from_a_marian_folder(marian, tmp_path, capsys):
    """With a learning rate of 0, our command writes what transformers' own model writes."""
    sources, targets = (
        ["the cat sat", "bob drank tea", "who went"],
        ["anna went", "to paris", "to london"],
    )
    (tmp_path / "train.en").write_text("\n".join(sources) + "\n")
    (tmp_path / "train.de").write_text("\n".join(targets) + "\n")
    both = f"{tmp_path}/train.en {tmp_path}/train.de"
    tuned("translation", marian, tmp_path / "out", "--train", both, "--learning_rate", "0")
    settings = {"num_beams": 2, "max_new_tokens": 6, "length_penalty": 1.0}
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    assert measured(tmp_path / "out", capsys, "--test", both, *options)["examples"] == 3
    assert command("predict", tmp_path / "out", "--text", *sources, *options) == 0
    found = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    tokenizer, theirs = byte_pairs(), MarianMTModel.from_pretrained(marian)
    for source, text in zip(sources, found, strict=True):
        ids = theirs.generate(**tokenizer(source, return_tensors="pt"), **settings)
        assert text == tokenizer.decode(ids[0], skip_special_tokens=True).strip()


@pytest.mark.parametrize("task", WRITING)
def test_marian_folders_are_fine_tuned(task, marian, tmp_path):
    """The loss of the first step is that of transformers' own model on the same batch."""
    file = write_rows(tmp_path / "rows.jsonl", ROWS[task])
    arguments = {**QUIET, "per_device_train_batch_size": 6, "logging_steps": 1, "max_steps": 2}
    result = finetune(task, marian, train=file, output_dir=tmp_path / "out", arguments=arguments)
    tokenizer, theirs = byte_pairs(), MarianMTModel.from_pretrained(marian)
    batch = tokenizer([row["source"] for row in ROWS[task]], return_tensors="pt", padding=True)
    batch["labels"] = tokenizer([row["target"] for row in ROWS[task]], return_tensors="pt")[
        "input_ids"
    ]
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        expected = float(theirs(**batch).loss)
    first = next(entry["loss"] for entry in result.trainer.state.log_history if "loss" in entry)
    assert first == pytest.approx(expected, rel=1e-3)
    changed = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert not torch.equal(changed.model.shared.weight, theirs.model.shared.weight)


def test_translation_starts_from_transformers_bert(tmp_path, capsys):
    bert, _ = saved_bert(
        tmp_path / "bert", hidden_size=32, intermediate_size=48, max_position_embeddings=40
    )
    file = write_rows(tmp_path / "rows.jsonl", ROWS["translation"])
    words = ["--train", file, "--warm_start", "--learning_rate", "0"]
    tuned("translation", tmp_path / "bert", tmp_path / "out", *words)
    model = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(tmp_path / "out")
    weights = model.model.encoder.layers[0].state_dict()
    assert any(
        torch.equal(value, bert.encoder.layer[0].intermediate.dense.weight)
        for value in weights.values()
    )
    found = measured(tmp_path / "out", capsys, "--test", file, "--max_new_tokens", "4")
    assert set(found) == {"bleu", "chrf", "bleu_signature", "chrf_signature", "examples"}


def test_no_answer_by_its_threshold(base, tmp_path, capsys):
    """4 questions with an answer and 2 without.

    The threshold says to how many "no answer" is given.
    """
    file = write_rows(tmp_path / "rows.jsonl", ROWS["question-answering"])
    tuned("question-answering", base, tmp_path / "out", "--train", file, "--validation", file)
    words = ["--test", file, "--null_score_diff_threshold"]
    every = measured(tmp_path / "out", capsys, *words, "-1000")
    assert (every["NoAns_exact"], every["HasAns_exact"], every["exact"]) == (
        100,
        0,
        pytest.approx(100 * 2 / 6),
    )
    none = measured(tmp_path / "out", capsys, *words, "1000")
    assert (none["NoAns_exact"], none["NoAns_f1"]) == (0, 0)
    question = ["--question", "who went", "--text", "anna went to paris"]
    for more, nothing in ((["-1000", "--allow_no_answer", "true"], True), (["-1000"], False)):
        assert (
            command("predict", tmp_path / "out", *question, "--null_score_diff_threshold", *more)
            == 0
        )
        assert (json.loads(capsys.readouterr().out)["answer"] == "") == nothing


def test_texts_over_512_tokens_by_windows(tmp_path, capsys):
    """1,200 words in rows of 512 (510 without special tokens) that share 64.

    From 0, 446 and 892, which holds 308.
    """
    _, tokenizer = saved_bert(
        tmp_path / "bert", hidden_size=16, intermediate_size=16, max_position_embeddings=512
    )
    words = [WORDS[number % 17] for number in range(1200)]
    rows = [{"text": " ".join(words), "label": "long"}, {"text": "the cat", "label": "short"}]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    given = {
        "train": file,
        "output_dir": tmp_path / "out",
        "arguments": QUIET,
        "long_texts": "windows",
    }
    result = finetune(CLASSIFICATION, tmp_path / "bert", **given)
    features = result.trainer.train_dataset
    assert [len(ids) for ids in features["input_ids"]] == [512, 512, 310, 4]
    assert features["labels"][:] == [0, 0, 0, 1]
    theirs = BertForSequenceClassification.from_pretrained(tmp_path / "out")
    logits, lengths = [], []
    for start in (0, 446, 892):
        part = words[start : start + 510]
        with torch.no_grad():
            logits.append(
                theirs(**tokenizer(" ".join(part), return_tensors="pt")).logits[0] * len(part)
            )
        lengths.append(len(part))
    expected = (sum(logits) / sum(lengths)).softmax(-1)
    capsys.readouterr()
    assert command("predict", tmp_path / "out", "--text", rows[0]["text"]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(
        float(expected.max()), abs=1e-5
    )
