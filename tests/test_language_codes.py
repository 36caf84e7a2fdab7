"""`translate` and `summarize` with models of many languages, against transformers' generate."""

import json
import re
from pathlib import Path

import pytest
import torch
from seq2seq_cases import their_model
from seq2seq_folders import TEXTS, make_folder

import bertlite
from bertlite.inference.language_codes import Languages, language_tokens, marking
from bertlite.inspection import attention_maps
from bertlite.tasks import TASKS
from bertlite.tasks.base import TaskOptions

pytestmark = pytest.mark.processor

MANY = ["m2m100", "nllb", "mbart", "mbart50"]
SHORT = {"num_beams": 2, "max_new_tokens": 9, "no_repeat_ngram_size": 2}


@pytest.fixture(scope="module", params=MANY)
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    model, tokenizer, codes = make_folder(request.param, path)
    return request.param, path, model, tokenizer, codes


def expected_texts(kind, model, tokenizer, source, target) -> list[str]:
    """As the model cards of these models do it."""
    tokenizer.src_lang = source
    token = tokenizer.get_lang_id(target) if kind == "m2m100" else None
    token = tokenizer.convert_tokens_to_ids(target) if token is None else token
    name = "decoder_start_token_id" if kind == "mbart" else "forced_bos_token_id"
    texts = []
    for text in TEXTS:
        given = {**tokenizer(text, return_tensors="pt"), name: token, **SHORT}
        words = model.generate(**given, length_penalty=0.6)
        assert token in words
        languages = torch.tensor([*language_tokens(tokenizer).values()])
        kept = words[0][~torch.isin(words[0], languages)]  # M2M100's own decode shows them
        texts.append(tokenizer.decode(kept, skip_special_tokens=True).strip())
    return texts


@pytest.mark.slow
def test_translations(folder):
    kind, path, model, tokenizer, (first, second, third) = folder
    found = []
    for source, target in ((first, second), (second, third)):
        languages = {"source_language": source, "target_language": target}
        found.append(bertlite.translate(TEXTS, str(path), **languages, **SHORT))
        assert found[-1] == expected_texts(kind, model, tokenizer, source, target)
        assert any(found[-1])
    summaries = bertlite.summarize(
        TEXTS, str(path), source_language=first, target_language=second, **SHORT
    )
    assert summaries == found[0]


@pytest.mark.slow
def test_a_language_is_named_by_somebody(folder, tmp_path):
    """By the caller or by the model; and the tokenizer is left as it was."""
    kind, path, model, tokenizer, (first, second, _) = folder
    with pytest.raises(ValueError, match="target_language must be given"):
        bertlite.translate("a", str(path))
    with pytest.raises(ValueError, match="explain: written must be given, since the model writes"):
        attention_maps("a", str(path))
    ours = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(path).eval()
    tokenizer.src_lang = first
    name = "decoder_start_token_id" if kind == "mbart" else "forced_bos_token_id"
    setattr(ours.generation_config, name, language_tokens(tokenizer)[second])
    found = bertlite.translate(TEXTS, ours, tokenizer, **SHORT)
    assert found == expected_texts(kind, model, tokenizer, first, second)
    bertlite.translate("a", ours, tokenizer, source_language=second, **SHORT)
    assert tokenizer.src_lang == first


def test_unknown_languages_are_refused(folder):
    _, path, _, _, (first, _, _) = folder
    with pytest.raises(ValueError, match=f"source_language.*codes, such as .*{first}.*got"):
        bertlite.translate("a", str(path), source_language=first + "x", target_language=first)
    with pytest.raises(ValueError, match="target_language must be one of"):
        bertlite.translate("a", str(path), target_language="Klingon")


@pytest.mark.slow
def test_scores_leave_the_language_out(folder):
    """It is no choice of the model's; its first word is the one after."""
    kind, path, model, tokenizer, (first, second, _) = folder
    languages = {"source_language": first, "target_language": second}
    found = bertlite.translate("abc", str(path), return_scores=True, **languages, **SHORT)
    tokenizer.src_lang = first
    given = tokenizer("abc", return_tensors="pt")
    name = "decoder_start_token_id" if kind == "mbart" else "forced_bos_token_id"
    words = model.generate(
        **given, **SHORT, length_penalty=0.6, **{name: language_tokens(tokenizer)[second]}
    )
    with torch.no_grad():
        logits = model(**given, decoder_input_ids=words[:, :-1]).logits[0]
    scores = logits.log_softmax(-1).gather(-1, words[0, 1:, None])[:, 0]
    scores = scores[0 if kind == "mbart" else 1 :]
    assert found["score"] == pytest.approx(float(scores.sum() / len(scores) ** 0.6), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bart", "pegasus"])
def test_models_of_one_language(tmp_path, kind):
    model, tokenizer, _ = make_folder(kind, tmp_path)
    found = bertlite.summarize(TEXTS, str(tmp_path), **SHORT)
    words = [
        model.generate(**tokenizer(text, return_tensors="pt"), **SHORT, length_penalty=0.6)
        for text in TEXTS
    ]
    assert found == [tokenizer.decode(each[0], skip_special_tokens=True).strip() for each in words]
    with pytest.raises(ValueError, match="marks no languages, got 'de'"):
        bertlite.summarize("a", str(tmp_path), target_language="de")
    with marking(tokenizer, Languages()):
        assert language_tokens(tokenizer) == {}


@pytest.mark.parametrize("kind", [*MANY, "bart", "pegasus"])
def test_what_is_learnt_begins_and_ends_as_in_transformers(kind, tmp_path):
    """Labels of the tokenizer's own targets, moved on by the family's own function."""
    model, tokenizer, codes = make_folder(kind, tmp_path)
    options = TaskOptions(source_code=(*codes, None)[0], target_code=(*codes, None, None)[1])
    ours = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(tmp_path)
    TASKS["translation"].tell_languages(ours, tokenizer, options)
    rows = [{"source": "bad cab", "target": "deaf"}, {"source": "jig", "target": "a b c"}]
    found = TASKS["translation"].encode(rows, tokenizer, ours, options)
    texts = {
        "text": [row["source"] for row in rows],
        "text_target": [row["target"] for row in rows],
    }
    expected = tokenizer(**texts)
    assert [row["input_ids"] for row in found] == expected["input_ids"]
    assert [row["labels"] for row in found] == expected["labels"]
    batch = TASKS["translation"].collator(tokenizer, ours)(found)
    with torch.no_grad():
        losses = [each(**batch).loss for each in (model, ours.eval())]
    torch.testing.assert_close(*losses)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nllb", "mbart"])
def test_a_finetuned_folder_knows_its_languages(kind, tmp_path):
    """It translates as it was taught, with no word about languages."""
    _, _, (first, second, third) = make_folder(kind, tmp_path / "start")
    rows = tmp_path / "train.jsonl"
    lines = [{"source": text, "target": text[::-1]} for text in TEXTS * 3]
    rows.write_text("\n".join(json.dumps(line) for line in lines))
    arguments = {"max_steps": 2, "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    given = {"train": str(rows), "output_dir": tmp_path / "out", "arguments": arguments}
    codes = {"source_code": second, "target_code": third}
    bertlite.finetune("translation", model=str(tmp_path / "start"), **given, **codes)
    folder = str(tmp_path / "out")
    languages = {"source_language": second, "target_language": third}
    expected = bertlite.translate(TEXTS, folder, **languages, **SHORT)
    assert bertlite.translate(TEXTS, folder, **SHORT) == expected
    with pytest.raises(ValueError, match="source_code must be one of"):
        bertlite.finetune(
            "translation", model=folder, **{**given, "output_dir": tmp_path / "no"}, source_code="x"
        )


def test_what_the_page_of_families_shows(tmp_path, monkeypatch, capsys):
    """Its blocks on encoder-decoders run; a tiny folder stands where the hub's name is."""
    monkeypatch.chdir(tmp_path)
    make_folder("nllb", tmp_path / "facebook" / "nllb-200-distilled-600M")
    page = (Path(__file__).parents[1] / "docs" / "families.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page.split("## Encoder-decoders")[1], re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})
    assert capsys.readouterr().out.startswith("torch.Size([1, ")


@pytest.mark.slow
@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForQuestionAnswering"])
def test_barts_heads_load_by_name_and_by_task(tmp_path, head):
    """`bertlite.load` finds the class, and so do `classify` and `answer`."""
    _, tokenizer, _ = make_folder("bart", tmp_path / "writer")
    model = their_model("bart", head, vocab_size=len(tokenizer))
    model.save_pretrained(tmp_path / "bart")
    tokenizer.save_pretrained(tmp_path / "bart")
    assert type(bertlite.load(tmp_path / "bart")).__name__ == f"TransformerLite{head}"
    assert type(bertlite.load(tmp_path / "writer")).__name__.endswith("ForConditionalGeneration")
    folder = str(tmp_path / "bart")
    with torch.no_grad():
        if head == "ForSequenceClassification":
            found = bertlite.classify(TEXTS, folder)
            logits = [model(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
            labels = [model.config.id2label[int(each.argmax())] for each in logits]
            assert [each["label"] for each in found] == labels
        else:
            assert "answer" in bertlite.answer("bad cab", "a bad cab deaf hide", folder)
