"""`translate` and `summarize` against transformers' own Marian and its `generate`, one text at a
time.
"""

import pytest
from inference_cases import TEXTS, byte_pairs, same, tiny_writer
from transformers import MarianMTModel

from bertlite.inference import summarize, translate


@pytest.fixture(scope="module")
def bpe():
    return byte_pairs()


@pytest.fixture(scope="module")
def writer(bpe):
    return tiny_writer(bpe)


# ---- translate, summarize


def generated_alone(model, tokenizer, text, **settings):
    """The library's own generate on one text: what was written, and its score."""
    inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    output = model.generate(**inputs, return_dict_in_generate=True, output_scores=True, **settings)
    score = output.get("sequences_scores")
    if score is None:
        chosen = [
            step[0].log_softmax(-1)[token]
            for step, token in zip(output.scores, output.sequences[0, 1:], strict=False)
        ]
        score = [sum(chosen) / len(chosen) ** 0.6]
    return {
        "text": tokenizer.decode(output.sequences[0], skip_special_tokens=True).strip(),
        "score": float(score[0]),
    }


@pytest.mark.parametrize("beams", [None, 1, 3])
def test_translate_agrees_with_generate_of_transformers(beams, writer, bpe, tmp_path):
    writer.save_pretrained(tmp_path)
    bpe.save_pretrained(tmp_path)
    marian = MarianMTModel.from_pretrained(tmp_path).eval()
    given = {} if beams is None else {"num_beams": beams}
    settings = {"num_beams": 4, "length_penalty": 0.6, **given}
    if beams == 1:
        del settings["length_penalty"]
    lengths = [len(bpe(text).input_ids) + 50 for text in TEXTS]
    expected = [
        generated_alone(marian, bpe, text, max_new_tokens=min(length, 127), **settings)
        for text, length in zip(TEXTS, lengths, strict=True)
    ]
    same(translate(TEXTS, str(tmp_path), return_scores=True, **given), expected, 1e-3)
    assert translate(TEXTS, marian, bpe, **given) == [each["text"] for each in expected]


def test_the_models_own_settings_come_first(writer, bpe, monkeypatch):
    monkeypatch.setattr(writer.generation_config, "num_beams", 2)
    monkeypatch.setattr(writer.generation_config, "max_length", 9)
    expected = generated_alone(writer, bpe, TEXTS[0], num_beams=2, length_penalty=0.6, max_length=9)
    same(translate(TEXTS[0], writer, bpe, return_scores=True), expected)
    different = generated_alone(
        writer, bpe, TEXTS[0], num_beams=2, length_penalty=-2.0, max_new_tokens=5
    )
    same(
        summarize(TEXTS[0], writer, bpe, return_scores=True, length_penalty=-2.0, max_new_tokens=5),
        different,
    )


def test_every_row_has_its_own_limit(writer, bpe, monkeypatch):
    widths, generate = [], writer.generate
    monkeypatch.setattr(
        writer, "generate", lambda **kwargs: widths.append(generate(**kwargs)) or widths[-1]
    )
    endless = {"suppress_tokens": [bpe.eos_token_id], "num_beams": 1}
    lengths = [len(bpe(text).input_ids) for text in TEXTS[:2]]
    alone = [translate(text, writer, bpe, **endless) for text in TEXTS[:2]]
    assert [each.shape[1] - 1 for each in widths] == [length + 50 for length in lengths]
    assert translate(TEXTS[:2], writer, bpe, **endless) == alone
    summarize(TEXTS[0], writer, bpe, **endless)
    assert widths[-1].shape[1] - 1 == 127  # the model's last position comes before 128


def test_several_texts_for_one(writer, bpe):
    found = translate(
        TEXTS[:2], writer, bpe, num_return_sequences=3, max_new_tokens=8, return_scores=True
    )
    assert [len(each) for each in found] == [3, 3]
    assert all(each[0]["score"] >= each[1]["score"] >= each[2]["score"] for each in found)
    same(found[1][0], translate(TEXTS[1], writer, bpe, max_new_tokens=8, return_scores=True))


def test_too_long_is_said_aloud(writer, bpe):
    count = len(bpe(TEXTS[2]).input_ids)
    options = {"max_source_length": 20, "max_new_tokens": 8}
    with pytest.warns(
        UserWarning, match=rf"translate: texts\[1\] has {count} tokens; the model reads 20"
    ):
        cut = translate(["the cat", TEXTS[2]], writer, bpe, **options)
    kept = bpe.decode(bpe(TEXTS[2]).input_ids[:19])
    assert cut[1] == translate(kept, writer, bpe, max_new_tokens=8)
    with pytest.raises(ValueError, match=rf"summarize: texts\[0\] has {count} tokens"):
        summarize(TEXTS[2], writer, bpe, on_too_long="error", **options)
    with pytest.raises(ValueError, match="on_too_long must be one of truncate, error, got 'split'"):
        summarize(TEXTS[2], writer, bpe, on_too_long="split", **options)


def test_long_texts_are_split_by_sentences(writer, bpe):
    sentences = ["Anna drank tea with Bob.", "Anna drank tea with Tim?", "Anna drank tea with Kim!"]
    limit = max(len(bpe(sentence).input_ids) for sentence in sentences)
    options = {"max_new_tokens": 8, "return_scores": True}
    alone = translate(sentences, writer, bpe, **options)
    text = f"{sentences[0]} {sentences[1]}\n\n{sentences[2]}"
    found = translate(
        [text, "the cat"], writer, bpe, on_too_long="split", max_source_length=limit, **options
    )
    assert found[0]["text"] == f"{alone[0]['text']} {alone[1]['text']}\n\n{alone[2]['text']}"
    assert found[0]["score"] == pytest.approx(sum(each["score"] for each in alone) / 3, abs=1e-4)
    with pytest.raises(ValueError, match="num_return_sequences must be 1"):
        translate(text, writer, bpe, on_too_long="split", num_return_sequences=2)
    with pytest.raises(ValueError, match="max_source_length is too small"):
        translate(text, writer, bpe, on_too_long="split", max_source_length=1)


@pytest.mark.parametrize(
    "name", ["num_beams", "max_new_tokens", "num_return_sequences", "max_source_length"]
)
@pytest.mark.parametrize("value", [0, -1, 2.5, "4"])
def test_counts_that_are_none_are_refused(name, value, writer, bpe):
    with pytest.raises(
        ValueError, match=f"{name} must be a whole number of at least 1, got {value!r}"
    ):
        translate("tea", writer, bpe, **{name: value})
