"""`bertlite tokenizer train`: what AutoTokenizer loads of it, and what it refuses."""

import json

import pytest
from inference_cases import TEXTS, WORDS
from transformers import AutoTokenizer

from bertlite.cli import main


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join([*TEXTS, " ".join(WORDS)] * 3), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_auto_tokenizer_loads_what_was_trained(kind, texts, tmp_path):
    out = tmp_path / "out"
    assert main(["tokenizer", "train", kind, texts, "--output_dir", str(out), "--vocab_size", "330"]) == 0
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert len(tokenizer) <= 330
    assert tokenizer.pad_token_id == 0
    ids = tokenizer("the cat sat in london")["input_ids"]
    if kind == "bpe":
        assert ids[-1] == tokenizer.eos_token_id == 1
        for text in TEXTS:  # whatever the script, nothing is lost
            assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    else:
        assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["[CLS]", "[SEP]"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == "the cat sat in london"
        assert tokenizer("THE CAT")["input_ids"] == tokenizer("the cat")["input_ids"]


def test_both_sides_of_a_translation_in_one_vocabulary(tmp_path):
    rows = [{"translation": {"en": "the house", "de": "das Haus"}}] * 30
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    out = str(tmp_path / "out")
    words = ["tokenizer", "train", "bpe", str(file), "--columns", "translation.en", "translation.de"]
    assert main([*words, "--output_dir", out, "--vocab_size", "300"]) == 0
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert len(tokenizer("the house das Haus")["input_ids"]) < 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.txt"], "files must be there, got missing.txt"),
        (["{empty}"], "must hold some text"),
        (["{rows}", "--columns", "text"], "columns must be columns of"),
        (["{texts}", "--vocab_size", "5"], "vocab_size must be a whole number of at least 300"),
        (["{texts}", "--output_dir", "{here}"], "output_dir must be new or empty"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(words, message, texts, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "rows.jsonl").write_text('{"source": "a"}\n')
    places = {"empty": tmp_path / "empty.txt", "rows": tmp_path / "rows.jsonl", "texts": texts, "here": tmp_path}
    words = [word.format(**places) for word in words]
    assert main(["tokenizer", "train", "bpe", "--output_dir", str(tmp_path / "new"), *words]) == 2
    assert message in capsys.readouterr().err
