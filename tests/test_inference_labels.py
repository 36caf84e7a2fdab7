"""`classify` and `tag` against transformers' pipelines, and results worked out by hand."""

from types import SimpleNamespace

import pytest
import torch
from inference_cases import LABELS, LETTERS, TEXTS, bert, same, wordpiece
from torch import nn
from transformers import pipeline

from bertlite.inference import classify, tag
from bertlite.inference.token_classification import join_entities


@pytest.fixture(scope="module")
def tokenizer():
    return wordpiece()


class PlannedForTokenClassification(nn.Module):
    """Labels every token with its position in the row."""

    def __init__(self, positions):
        super().__init__()
        id2label = {number: f"at-{number}" for number in range(positions)}
        self.config = SimpleNamespace(max_position_embeddings=positions, id2label=id2label)

    def forward(self, input_ids, **kwargs):
        return {
            "logits": 9
            * torch.eye(len(self.config.id2label))[: input_ids.shape[1]].expand(
                len(input_ids), -1, -1
            )
        }


# ---- classify


@pytest.mark.parametrize(
    "problem", ["single_label_classification", "multi_label_classification", "regression", None]
)
def test_classify_agrees_with_the_pipeline(problem, tokenizer):
    model = bert(
        "SequenceClassification",
        tokenizer,
        positions=128,
        labels=list("pqrs"),
        problem_type=problem,
    )
    expected = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")(
        TEXTS, top_k=None
    )
    if problem == "regression":
        expected = [sorted(each, key=lambda label: label["label"]) for each in expected]
    same(classify(TEXTS, model, tokenizer, top_k=4, threshold=0), expected)
    if problem == "multi_label_classification":
        chosen = [[label for label in each if label["score"] >= 0.5] for each in expected]
        same(classify(TEXTS, model, tokenizer), chosen)
        same(classify(TEXTS, model, tokenizer, top_k=1), [each[:1] for each in chosen])
    elif problem != "regression":
        same(classify(TEXTS, model, tokenizer), [each[0] for each in expected])


def test_pairs_agree_with_the_pipeline(tokenizer):
    model = bert("SequenceClassification", tokenizer, positions=128, labels=list("pq"))
    pairs = [
        {"text": one, "text_pair": other} for one, other in zip(TEXTS, TEXTS[::-1], strict=True)
    ]
    expected = [
        pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")(pair)
        for pair in pairs
    ]
    same(classify(TEXTS, model, tokenizer, text_pair=TEXTS[::-1]), expected)
    same(classify(TEXTS[0], model, tokenizer, text_pair=TEXTS[-1]), expected[0])
    with pytest.raises(ValueError, match="text_pair must be a list, as texts is, got a string"):
        classify(TEXTS, model, tokenizer, text_pair="the cat")


def test_one_output_is_a_number(tokenizer):
    model = bert("SequenceClassification", tokenizer, positions=128, num_labels=1)
    with torch.no_grad():
        logit = model(**tokenizer(TEXTS[0], return_tensors="pt")).logits.item()
    same(classify(TEXTS[0], model, tokenizer), {"label": "LABEL_0", "score": logit})


@pytest.mark.parametrize("paired", [False, True])
def test_long_texts_are_averaged_by_tokens(paired, tokenizer):
    model = bert("SequenceClassification", tokenizer, positions=16, labels=list("pqr"))
    # Rows of 16: [CLS] 14 tokens [SEP]; of pairs [CLS] pair pair [SEP] 11 tokens [SEP], the longer
    # text is cut.
    words, room = list(LETTERS), 11 if paired else 14
    starts = range(0, 26 - 3, room - 3)  # three tokens shared
    parts = [words[start : start + room] for start in starts]
    parts = parts[: next(i for i, part in enumerate(parts) if part[-1] == "z") + 1]
    total = torch.zeros(3)
    for part in parts:
        inputs = tokenizer(*(["the cat"] if paired else []), " ".join(part), return_tensors="pt")
        with torch.no_grad():
            total += model(**inputs).logits[0] * len(part)
    scores = (total / sum(map(len, parts))).softmax(-1)
    text = " ".join(words)
    texts = {"texts": "the cat", "text_pair": text} if paired else {"texts": text}
    found = classify(**texts, model=model, tokenizer=tokenizer, doc_stride=3, top_k=3)
    assert {each["label"]: each["score"] for each in found} == pytest.approx(
        dict(zip("pqr", scores.tolist(), strict=True)), abs=1e-5
    )


@pytest.mark.parametrize(
    "problem", ["single_label_classification", "multi_label_classification", "regression"]
)
def test_a_temperature_divides_the_logits(problem, tokenizer):
    """That of the config, after windows are averaged; numbers of a regression stay as they are."""
    model = bert(
        "SequenceClassification",
        tokenizer,
        positions=16,
        labels=list("pqr"),
        problem_type=problem,
    )
    texts = ["the cat", " ".join(LETTERS)]  # the second in windows
    options = {"top_k": 3, "threshold": 0, "doc_stride": 3, "show_progress": False}
    before = classify(texts, model, tokenizer, **options)
    model.config.calibration_temperature = 2.5
    for old, new in zip(before, classify(texts, model, tokenizer, **options), strict=True):
        scores = torch.tensor([each["score"] for each in old], dtype=torch.float64)
        if problem == "single_label_classification":
            scores = (scores.log() / 2.5).softmax(-1)
        elif problem == "multi_label_classification":
            scores = (scores.logit() / 2.5).sigmoid()
        assert [each["label"] for each in new] == [each["label"] for each in old]
        assert [each["score"] for each in new] == pytest.approx(scores.tolist(), abs=1e-6)
    model.config.calibration_temperature = None
    same(classify(texts, model, tokenizer, **options), before)


# ---- tag


@pytest.mark.parametrize("labels", [LABELS, ["O", "NOUN", "VERB"], ["B-A", "I-A", "B-B"]])
def test_tag_agrees_with_the_pipeline(labels, tokenizer):
    model = bert("TokenClassification", tokenizer, positions=128, labels=labels)
    with torch.no_grad():
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
        logits = model(**inputs).logits[inputs.attention_mask.bool()]
        model.classifier.bias -= logits.mean(0)  # so that every label occurs
    texts = [text for text in TEXTS if "\u0301" not in text]
    theirs = pipeline(
        "token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="first"
    )
    expected = [
        [
            {
                "entity_group": e["entity_group"],
                "score": float(e["score"]),
                "start": e["start"],
                "end": e["end"],
                "word": text[e["start"] : e["end"]],
            }
            for e in theirs(text)
        ]
        for text in texts
    ]
    assert sum(map(len, expected)) > 3
    same(tag(texts, model, tokenizer), expected)


def test_iob2_by_hand(tokenizer):
    labels = ["I-PER", "I-PER", "B-PER", "I-LOC", "O", "B-LOC", "I-LOC", "O", "I-LOC"]
    text = "a bb c d e f g h i"
    words, start = [], 0
    for number, (word, label) in enumerate(zip(text.split(), labels, strict=True)):
        words.append(
            {
                "entity": label,
                "score": number / 10,
                "start": start,
                "end": start + len(word),
                "word": word,
            }
        )
        start += len(word) + 1
    found = join_entities(text, words, {"O"})
    assert [(each["entity_group"], each["word"], round(each["score"], 9)) for each in found] == [
        ("PER", "a bb", 0.05),
        ("PER", "c", 0.2),
        ("LOC", "d", 0.3),
        ("LOC", "f g", 0.55),
        ("LOC", "i", 0.8),
    ]


def test_words_given_are_labelled_by_their_first_token(tokenizer):
    model = bert("TokenClassification", tokenizer, positions=128, labels=LABELS)
    words = ["Anna's", "went", "\u200b", "zoology", "to", "N.Y."]
    inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        best = model(**inputs).logits[0].softmax(-1).max(-1)
    first = {
        number: inputs.word_ids(0).index(number)
        for number in range(len(words))
        if number in inputs.word_ids(0)
    }
    found = tag(words, model, tokenizer, is_split_into_words=True, aggregate=False)
    assert [each["word"] for each in found] == words
    assert [each["entity"] for each in found] == [
        LABELS[best.indices[first[i]]] if i in first else "O" for i in range(len(words))
    ]
    joined = " ".join(words)
    assert all(joined[each["start"] : each["end"]] == each["word"] for each in found)
    same(
        tag([words, words[:1]], model, tokenizer, is_split_into_words=True, aggregate=False)[0],
        found,
    )
    for bad in ("Anna", [["a", ""]], [["a"], []], [["a"], "b"], ["a", 3]):
        with pytest.raises(ValueError, match="texts"):
            tag(bad, model, tokenizer, is_split_into_words=True)


def test_tokens_count_where_they_stand_farthest_from_the_edges(tokenizer):
    # Rows of 6: windows abcd and cdef. c has a neighbour on its poorer side in the first, d in the
    # second.
    found = tag(
        "a b c d e f", PlannedForTokenClassification(6), tokenizer, doc_stride=2, aggregate=False
    )
    assert [each["entity"] for each in found] == ["at-1", "at-2", "at-3", "at-2", "at-3", "at-4"]
