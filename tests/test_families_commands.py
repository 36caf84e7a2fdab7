"""bertlite's functions and commands on folders of other families, as transformers saved them."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from cases import randomize
from inference_cases import LABELS, TEXTS, wordpiece
from transformers import PreTrainedTokenizerFast

import bertlite
from bertlite.cli.main import main
from bertlite.models.families import FAMILIES as ALL

FAMILIES = ("Roberta", "DistilBert", "Electra", "MPNet", "ModernBert")
KINDS = ("python", "text")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer() -> PreTrainedTokenizerFast:
    """One without segments, whose padding is the word 0."""
    made = wordpiece()
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, **{name: str(getattr(made, name)) for name in names}
    )


def save(stem: str, head: str, folder, labels=None):
    """A folder of a family, by transformers' own class."""
    words = tokenizer()
    fields = {"vocab_size": len(words), "max_position_embeddings": 70, "pad_token_id": 0, **SIZES}
    if stem == "ModernBert":
        fields |= {f"{name}_token_id": 0 for name in ("bos", "eos", "cls", "sep")}
    if labels is not None:
        fields["id2label"] = dict(enumerate(labels))
        fields["label2id"] = {label: number for number, label in enumerate(labels)}
    inner = "hidden_dim" if stem == "DistilBert" else "intermediate_size"
    config = getattr(transformers, f"{stem}Config")(**fields, **{inner: 64})
    model = randomize(getattr(transformers, stem + head)(config), std=0.3)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model, words


def padded(words, texts):
    return words(texts, padding=True, return_tensors="pt", return_token_type_ids=False)


@pytest.mark.parametrize("stem", FAMILIES)
def test_classify_and_optimize(tmp_path, stem):
    theirs, words = save(stem, "ForSequenceClassification", tmp_path, ["bad", "good", "odd"])
    with torch.no_grad():
        expected = theirs(**padded(words, TEXTS)).logits.softmax(-1)
    found = bertlite.classify(TEXTS, tmp_path, top_k=3)
    by_label = [{each["label"]: each["score"] for each in row} for row in found]
    shares = torch.tensor([[row[name] for name in theirs.config.label2id] for row in by_label])
    torch.testing.assert_close(shares, expected, atol=1e-5, rtol=0)
    model = bertlite.optimize(bertlite.load(tmp_path))
    with torch.no_grad():
        packed = model(**padded(words, TEXTS)).logits.softmax(-1)
    torch.testing.assert_close(packed, expected, atol=1e-5, rtol=0)
    assert model.backend_report() == [f"{stem}Model, encode: packed"]


@pytest.mark.parametrize("stem", FAMILIES)
def test_encode(tmp_path, stem):
    """The mean of the real vectors."""
    theirs, words = save(stem, "Model", tmp_path)
    batch = padded(words, TEXTS)
    with torch.no_grad():
        vectors = theirs(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = (vectors * mask).sum(1) / mask.sum(1)
    found = torch.as_tensor(bertlite.encode(TEXTS, tmp_path, pooling="mean", normalize=False))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stem", FAMILIES)
def test_tag_and_answer(tmp_path, stem):
    """Each word is a token here: its label is that of the largest logit."""
    theirs, words = save(stem, "ForTokenClassification", tmp_path / "tag", LABELS)
    text = "anna went to paris with bob"
    batch = padded(words, [text])
    with torch.no_grad():
        shares = theirs(**batch).logits[0, 1:-1].softmax(-1)
    found = bertlite.tag(text, tmp_path / "tag", aggregate=False, ignore_labels=())
    assert [each["entity"] for each in found] == [LABELS[best] for best in shares.argmax(-1)]
    save(stem, "ForQuestionAnswering", tmp_path / "answer")
    answer = bertlite.answer("who went", text, tmp_path / "answer")
    assert answer["answer"] == text[answer["start"] : answer["end"]]


@pytest.mark.slow
@pytest.mark.parametrize("stem", FAMILIES)
def test_finetune_and_predict(tmp_path, capsys, stem):
    """The commands: a folder of the family comes out, which transformers' own class reads."""
    save(stem, "ForMaskedLM", tmp_path / "start")
    rows = [{"text": "the cat", "label": "x"}, {"text": "a mat", "label": "y"}] * 8
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)) + "\n")
    words = ["finetune", "sequence-classification", "--model", str(tmp_path / "start")]
    words += ["--train", str(data), "--output_dir", str(tmp_path / "out")]
    assert main([*words, "--num_train_epochs", "1"]) == 0
    theirs = getattr(transformers, f"{stem}ForSequenceClassification")
    _, report = theirs.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "out"), "--text", "the cat"]) == 0
    said = capsys.readouterr().out
    assert "x" in said or "y" in said


def test_the_page_shows_what_happens(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save("Roberta", "ForMaskedLM", tmp_path / "FacebookAI" / "roberta-base")
    page = (Path(__file__).parents[1] / "docs/families.md").read_text(encoding="utf-8")
    code, said = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in KINDS)
    exec(compile(code, "families.md", "exec"), {})
    assert capsys.readouterr().out == said


def test_the_page_names_every_family():
    page = (Path(__file__).parents[1] / "docs/families.md").read_text(encoding="utf-8")
    ours = ("bertlite", "transformerlite")  # a BERT or a Marian with settings of our own
    assert not [name for name in ALL if f"`{name}`" not in page and name not in ours]
