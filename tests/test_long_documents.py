"""Documents of 10,000 tokens, read by windows: every character in its place, and memory flat.

The documents are drawn by hypothesis: words of several scripts with accents, combining marks and
emoji, between white space of all kinds.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inference_cases import LABELS, WORDS, bert, byte_pairs, tiny_writer, wordpiece

import bertlite
from bertlite.inference.choices import cut_choices
from bertlite.inference.long_texts import split_text
from bertlite.inference.windows import cut_windows
from bertlite.tasks import TASKS, TaskOptions

TOKENS = 10_000
ODD = [
    "na\u00efve",
    "cafe\u0301",
    "\u4e2d\u6587",
    "\u0141\u00f3d\u017a",
    "\U0001f600",
    "a.b",
    "x",
    "zoo;",
]
SPACES = [" ", "  ", "\n", "\t", "\u00a0", "\r\n", " \n\n "]
# Building a document takes longer than hypothesis likes, and is the same for the same draw.
FEW = settings(
    max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@st.composite
def documents(draw, tokens=TOKENS):
    """A text of about so many tokens, from a handful of drawn words and spaces."""
    words = draw(st.lists(st.sampled_from([*WORDS, *ODD]), min_size=3, max_size=12))
    spaces = draw(st.lists(st.sampled_from(SPACES), min_size=1, max_size=4))
    chance = random.Random(draw(st.integers(0, 10**6)))
    size = len(wordpiece()(" ".join(words), add_special_tokens=False)["input_ids"])
    chosen = chance.choices(words, k=tokens * len(words) // size)
    return "".join(word + chance.choice(spaces) for word in chosen)


@FEW
@given(text=documents(), stride=st.integers(0, 40), longest=st.integers(24, 64))
def test_windows_hold_every_token_of_the_document(text, stride, longest):
    """Against the tokenizer, which reads the whole document at once."""
    tokenizer = wordpiece()
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    (found,) = cut_windows(tokenizer, [text], max_length=longest, doc_stride=stride)
    assert found.offsets == [tuple(pair) for pair in whole["offset_mapping"]]
    seen = np.zeros(len(found.offsets), dtype=int)
    for window in found.windows:
        assert len(window.inputs["input_ids"]) <= longest
        held = slice(window.start, window.start + window.length)
        ids = window.inputs["input_ids"][window.first : window.first + window.length]
        assert ids == whole["input_ids"][held]
        seen[held] += 1
    assert seen.min() >= 1


@pytest.mark.slow
@FEW
@given(text=documents())
def test_tags_stand_where_they_say(text):
    """Words follow each other with nothing but white space between; entities are in the text."""
    model = bert("TokenClassification", wordpiece(), labels=LABELS)
    words = bertlite.tag(text, model, wordpiece(), aggregate=False, show_progress=False)
    end = 0
    for each in words:
        assert text[each["start"] : each["end"]] == each["word"]
        assert not text[end : each["start"]].strip()
        end = each["end"]
    assert not text[end:].strip()
    entities = bertlite.tag(text, model, wordpiece(), show_progress=False)
    assert entities
    places = [(each["start"], each["end"]) for each in entities]
    assert places == sorted(places)
    assert all(first[1] <= second[0] for first, second in zip(places, places[1:], strict=False))
    assert all(text[each["start"] : each["end"]] == each["word"] for each in entities)


@pytest.mark.slow
@FEW
@given(text=documents())
def test_every_given_word_has_a_tag(text):
    model, words = bert("TokenClassification", wordpiece(), labels=LABELS), text.split()
    (found,) = TASKS["token-classification"].predict(
        [{"tokens": words}], model, wordpiece(), TaskOptions(), show_progress=False
    )
    assert len(found["tags"]) == len(words)


@pytest.mark.slow
@FEW
@given(text=documents(), stride=st.integers(0, 30))
def test_answers_stand_where_they_say(text, stride):
    model = bert("QuestionAnswering", wordpiece())
    options = {"top_k": 5, "doc_stride": stride, "show_progress": False}
    found = bertlite.answer("who went to paris?", text, model, wordpiece(), **options)
    assert len(found) == 5
    for each in found:
        assert text[each["start"] : each["end"]] == each["answer"]
        assert each["answer"].strip()


@pytest.mark.slow
@FEW
@given(text=documents(), stride=st.integers(0, 30))
def test_a_document_is_classified_by_all_of_its_windows(text, stride):
    """The mean of what `classify` says of each window alone, weighted by its tokens."""
    model, tokenizer = (
        bert("SequenceClassification", wordpiece(), labels=["a", "b", "c"]),
        wordpiece(),
    )
    found = bertlite.classify(
        text, model, tokenizer, top_k=3, doc_stride=stride, show_progress=False
    )
    (cut,) = cut_windows(tokenizer, [text], max_length=64, doc_stride=stride)
    total = np.zeros(3)
    for start in range(0, len(cut.windows), 32):
        part = cut.windows[start : start + 32]
        batch = tokenizer.pad([each.inputs for each in part], return_tensors="pt")
        logits = model(**batch).logits.detach().double().numpy()
        total += logits.T @ np.array([each.length for each in part])
    mean = total / sum(each.length for each in cut.windows)
    expected = np.exp(mean - mean.max()) / np.exp(mean - mean.max()).sum()
    scores = {each["label"]: each["score"] for each in found}
    np.testing.assert_allclose([scores[name] for name in "abc"], expected, atol=1e-4)


CHOICES = ["anna", "bob cat sat", "tea with bob in london"]


@FEW
@given(text=documents(), stride=st.integers(0, 40), longest=st.integers(24, 64))
def test_every_choice_is_read_with_the_same_windows(text, stride, longest):
    """Each window: a part of the context, the question, one choice; together the whole context."""
    tokenizer, question = wordpiece(), "who went to paris?"

    def ids(some):
        return tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]

    whole, asked = ids(text), ids(question)
    row = {"context": text, "question": question, "choices": CHOICES}
    (found,) = cut_choices([row], tokenizer, longest, stride)
    spans = [[(each.start, each.length) for each in choice.windows] for choice in found]
    assert spans[0] == spans[1] == spans[2]
    assert spans[0][0][0] == 0
    assert sum(spans[0][-1]) == len(whole)
    assert all(b[0] <= sum(a) for a, b in zip(spans[0], spans[0][1:], strict=False))
    for name, choice in zip(CHOICES, found, strict=True):
        second = [*ids(name), tokenizer.sep_token_id]
        for window in choice.windows:
            part = whole[window.start : window.start + window.length]
            first = [tokenizer.cls_token_id, *part, *asked, tokenizer.sep_token_id]
            assert window.inputs["input_ids"] == first + second
            assert window.inputs["token_type_ids"] == [0] * len(first) + [1] * len(second)
            assert len(window.inputs["attention_mask"]) == len(first + second) <= longest


@pytest.mark.slow
@FEW
@given(text=documents(), stride=st.integers(0, 30))
def test_a_choice_is_made_by_all_windows(text, stride):
    """The softmax of the mean of what the model says of each window, weighted by its tokens."""
    model, tokenizer = bert("MultipleChoice", wordpiece()), wordpiece()
    row = {"question": text, "choices": CHOICES}
    (found,) = TASKS["multiple-choice"].predict(
        [row], model, tokenizer, TaskOptions(doc_stride=stride), show_progress=False
    )
    (texts,) = cut_choices([row], tokenizer, 64, stride)
    total = np.zeros(3)
    for windows in zip(*(each.windows for each in texts), strict=True):
        table = tokenizer.pad([each.inputs for each in windows], return_tensors="pt")
        table = {name: tensor[None] for name, tensor in table.items()}  # (1, C, T)
        logits = model(**table).logits[0].detach().double().numpy()
        total += logits * windows[0].length
    mean = total / sum(each.length for each in texts[0].windows)
    expected = np.exp(mean - mean.max()) / np.exp(mean - mean.max()).sum()
    np.testing.assert_allclose(found["scores"], expected, atol=1e-4)


@FEW
@given(text=documents(), limit=st.integers(10, 60))
def test_sources_are_split_without_losing_a_character(text, limit):
    tokenizer = byte_pairs()

    def fits(part):
        return len(tokenizer(part)["input_ids"]) <= limit

    parts = split_text(text, fits)
    assert "".join(parts) == text
    assert all(map(fits, parts))


@pytest.mark.slow
@pytest.mark.parametrize("write", [bertlite.translate, bertlite.summarize])
@settings(FEW, max_examples=1)
@given(text=documents(3000))
def test_a_document_is_written_whole(write, text):
    """In parts; a translation keeps the document's lines."""
    model, tokenizer = tiny_writer(byte_pairs()), byte_pairs()
    written = write(text, model, tokenizer, num_beams=1, max_new_tokens=3, show_progress=False)
    assert isinstance(written, str)
    if write is bertlite.translate:
        assert written.count("\n") == text.count("\n")


@pytest.mark.slow
def test_memory_is_flat():
    """The peak of a process grows by a few megabytes, not with the document or its square."""
    script = Path(__file__).parent / "scripts" / "long_documents.py"
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=300
    )
    grown = json.loads(done.stdout.splitlines()[-1])
    assert set(grown) == {"classify", "tag", "answer", "choose", "translate"}
    assert max(grown.values()) < 32, grown  # a row of 10,000 tokens alone would take 800 MB
