"""Lines, language codes and prefixes of the texts that `translate` and `summarize` read."""

import copy
import doctest
import warnings

import pytest
from inference_cases import TEXTS, byte_pairs, same, tiny_writer

from bertlite.inference import long_texts, summarize, translate
from bertlite.inference.long_texts import TooLong, encode_sources
from bertlite.tasks import TASKS
from bertlite.tasks.base import TaskOptions

CODES = [">>deu<<", ">>fra<<", ">>cmn_Hans<<"]
LIMITS = {"max_new_tokens": 8}


@pytest.fixture(scope="module")
def bpe():
    return byte_pairs()


@pytest.fixture(scope="module")
def coded():
    """A tokenizer that knows codes of languages."""
    tokenizer = copy.deepcopy(byte_pairs())
    tokenizer.add_tokens(CODES)
    return tokenizer


@pytest.fixture(scope="module")
def writer(coded):
    return tiny_writer(coded)


def rows_of(tokenizer, texts, limit=100, action="split", **options):
    """What each row reads, as text."""
    too_long = TooLong("translate", action, ("truncate", "error", "split"))
    rows = encode_sources(tokenizer, texts, limit, too_long, **options)
    return [
        (row.text, tokenizer.decode(row.input_ids, skip_special_tokens=True), row.separator)
        for row in rows
    ]


# ---- lines


@pytest.mark.parametrize("between", ["\n", "\n\n", "\r\n", " \n    ", "\u2028"])
def test_every_line_is_translated_and_stands_where_it_stood(between, writer, bpe):
    alone = translate(TEXTS[:3], writer, bpe, return_scores=True, **LIMITS)
    found = translate(
        ["the cat", f"\n{between.join(TEXTS[:3])}\n"], writer, bpe, return_scores=True, **LIMITS
    )
    same(found[0], translate("the cat", writer, bpe, return_scores=True, **LIMITS))
    assert found[1]["text"] == between.join(each["text"] for each in alone)
    mean = sum(each["score"] for each in alone) / 3
    assert found[1]["score"] == pytest.approx(mean, abs=1e-4)


def test_a_text_may_be_one_whole(writer, bpe):
    text = f"{TEXTS[0]}\n{TEXTS[1]}"
    assert rows_of(bpe, [text], by_line=False) == [(0, text, "")]
    assert rows_of(bpe, [text], by_line=True) == [(0, TEXTS[0], "\n"), (0, TEXTS[1], "")]
    several = {"num_return_sequences": 2, "num_beams": 2, **LIMITS}
    assert len(translate(text, writer, bpe, keep_lines=False, **several)) == 2
    with pytest.raises(ValueError, match="num_return_sequences must be 1 where texts have several"):
        translate(text, writer, bpe, **several)
    assert isinstance(summarize(text, writer, bpe, **LIMITS), str)  # is of the whole


def test_a_line_that_is_too_long_is_named(writer, bpe):
    text = f"the cat\n{TEXTS[2]}"
    count = len(bpe(TEXTS[2]).input_ids)
    with pytest.raises(ValueError, match=rf"texts\[1\] line 2 has {count} tokens"):
        translate(["a", text], writer, bpe, on_too_long="error", max_source_length=30, **LIMITS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no line is too long, though the text is
        translate("the cat\n" * 30, writer, bpe, max_source_length=10, **LIMITS)


def test_a_long_line_is_split_between_lines(bpe):
    text = "Open it. Close it.\n\nOpen it."
    limit = len(bpe("Close it.").input_ids)
    expected = [(0, "Open it.", " "), (0, "Close it.", "\n\n"), (0, "Open it.", "")]
    assert rows_of(bpe, [text], limit, by_line=True) == expected
    assert rows_of(bpe, [text], limit) == expected


# ---- codes and prefixes


def test_a_code_stands_before_every_part(coded):
    sentence = "Open the file. "
    limit = len(coded(f">>deu<< {sentence}").input_ids)
    for lead in (">>deu<< ", ">>deu<<", "  >>deu<<  ", ">>cmn_Hans<<\n"):
        rows = rows_of(coded, [lead + sentence * 4], limit, by_line=True)
        code = lead.strip()
        assert [text.split()[0] for _, text, _ in rows] == [code] * 4, lead
        assert [text for _, text, _ in rows] == [f"{code} Open the file."] * 4
    lines = rows_of(coded, [">>fra<< One.\nTwo."], by_line=True)
    assert [text for _, text, _ in lines] == [">>fra<< One.", ">>fra<< Two."]


def test_a_code_that_is_not_known_is_named(coded, bpe, writer):
    message = r"texts\[1\] begins with >>xyz<<, .*its codes are >>cmn_Hans<<, >>deu<<, >>fra<<"
    with pytest.raises(ValueError, match=message):
        translate([">>deu<< a", ">>xyz<< a"], writer, coded)
    with pytest.raises(ValueError, match=r"begins with >>ger<<"):
        translate("a", writer, coded, source_prefix=">>ger<<")
    assert rows_of(bpe, [">>xyz<< a"]) == [(0, ">>xyz<< a", "")]  # knows no codes at all


def test_a_text_without_a_code_is_named(coded, writer):
    with pytest.warns(UserWarning, match=r"texts\[1\] and 1 more name no target language"):
        translate([">>deu<< a", "b", "c"], writer, coded, **LIMITS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = translate(["b", "c"], writer, coded, source_prefix=">>deu<<", **LIMITS)
    assert found == translate([">>deu<< b", ">>deu<< c"], writer, coded, **LIMITS)


@pytest.mark.parametrize("function", [translate, summarize])
def test_a_prefix_stands_before_every_text(function, writer, bpe):
    texts = ["the cat", "Anna drank tea."]
    found = function(texts, writer, bpe, source_prefix="put simply: ", **LIMITS)
    assert found == function([f"put simply: {text}" for text in texts], writer, bpe, **LIMITS)
    with pytest.raises(ValueError, match="source_prefix must be a string, got 3"):
        function(texts, writer, bpe, source_prefix=3)


def test_a_prefix_stands_before_every_part(bpe):
    limit = len(bpe("to German: Open it.").input_ids)
    rows = rows_of(bpe, ["Open it. Open it.\nOpen it."], limit, source_prefix="to German: ")
    assert [text for _, text, _ in rows] == ["to German: Open it."] * 3


def test_examples():
    results = doctest.testmod(long_texts)
    assert results.attempted
    assert not results.failed


def test_training_and_prediction_read_the_same_prefix(writer, bpe):
    rows = [{"source": "the cat", "target": "a"}, {"source": "tea", "target": "b"}]
    options = TaskOptions(source_prefix="put simply: ", max_new_tokens=8)
    for task in (TASKS["translation"], TASKS["summarization"]):
        features = task.encode(rows, bpe, writer, options)
        for row, feature in zip(rows, features, strict=True):
            assert feature["input_ids"] == bpe(f"put simply: {row['source']}")["input_ids"]
        found = task.predict(rows, writer, bpe, options, show_progress=False)
        function = translate if task.name == "translation" else summarize
        texts = [f"put simply: {row['source']}" for row in rows]
        same(found, function(texts, writer, bpe, return_scores=True, **LIMITS))
