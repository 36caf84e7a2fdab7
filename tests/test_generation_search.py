"""The CPU's loop against `generate` of transformers' Marian and of our class, token for token."""

import copy

import pytest
import torch
from cases import TRANSFORMER, padded, randomize
from transformers import MarianConfig, MarianMTModel

import bertlite
from bertlite import TransformerLiteForConditionalGeneration
from bertlite.backends.cpu import generation as fast
from bertlite.backends.cpu import search
from bertlite.backends.cpu.decoding import largest
from bertlite.backends.cpu.generation import fast_generate, generate

pytestmark = pytest.mark.processor

LENGTHS = (9, 5, 7, 2, 6)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Marian with large random weights, and ours from its folder.

    Its texts are short and vary little.
    """
    folder = tmp_path_factory.mktemp("marian")
    marian = randomize(MarianMTModel(MarianConfig(**TRANSFORMER)), std=0.3, seed=5)
    with torch.no_grad():
        for stack in (marian.model.encoder, marian.model.decoder):
            stack.embed_positions.weight.copy_(stack.embed_positions.create_weight())
        marian.final_logits_bias[:, 1] = 1.0  # the end token: it comes now and then
    marian.generation_config.bad_words_ids = None
    marian.save_pretrained(folder)
    return marian, TransformerLiteForConditionalGeneration.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def batch():
    ids, mask = padded(LENGTHS, "right", torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(autouse=True)
def handed_over(monkeypatch):
    """Why the library's loop decoded, call by call; None where it did not."""
    reasons: list = []
    why = fast.why_library
    monkeypatch.setattr(
        fast, "why_library", lambda *given: reasons.append(why(*given)) or reasons[-1]
    )
    return reasons


def assert_same(models, batch, **settings):
    """By transformers' Marian, by our class with the library's loop, by ours in both its ways."""
    marian, ours = models
    expected = marian.generate(**batch, **settings)
    plain = bertlite.use_backend(copy.deepcopy(ours), "plain")
    assert torch.equal(plain.generate(**batch, **settings), expected)
    assert torch.equal(ours.generate(**batch, **settings), expected)
    found = ours.generate(**batch, custom_generate=fast_generate, **settings)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    return found


@pytest.mark.parametrize("side", ["left", None])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"min_new_tokens": 5},
        {"min_length": 4, "max_length": 9},
        {"forced_eos_token_id": 1, "forced_bos_token_id": 7},
        {"eos_token_id": [1, 5, 9]},
        {"eos_token_id": None, "pad_token_id": 3},
        {"suppress_tokens": [4, 8], "begin_suppress_tokens": [1, 12]},
        {"no_repeat_ngram_size": 2},
        {"repetition_penalty": 1.7},
        {
            "bad_words_ids": [[4], [7, 8]],
            "exponential_decay_length_penalty": (3, 1.2),
            "remove_invalid_values": True,
        },
        {"pad_token_id": 6},
    ],
    ids=lambda settings: "-".join(settings) or "defaults",
)
def test_greedy(models, batch, settings, side, handed_over):
    ids, mask = padded(LENGTHS, side or "right", torch.Generator().manual_seed(1))
    batch = {"input_ids": ids} if side is None else {"input_ids": ids, "attention_mask": mask}
    assert_same(models, batch, **{"num_beams": 1, "max_new_tokens": 14} | settings)
    assert handed_over == [None, None]


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.6, 2.0])
@pytest.mark.parametrize("beams", [2, 5])
def test_beams(models, batch, beams, length_penalty, early_stopping, handed_over):
    settings = {
        "num_beams": beams,
        "length_penalty": length_penalty,
        "early_stopping": early_stopping,
    }
    assert_same(models, batch, max_new_tokens=14, num_return_sequences=beams // 2 + 1, **settings)
    assert handed_over == [None, None]


def test_beams_in_int8_look_for_their_candidates_once(models, batch, monkeypatch):
    """Among the words that were scored in fp32.

    With a processor in the way among all words. Both find the same.
    """
    _, ours = models
    settings = {**batch, "dtype": "int8", "num_beams": 3, "max_new_tokens": 14}
    looked = []
    monkeypatch.setattr(search, "largest", lambda *given: looked.append(given) or largest(*given))
    found = generate(ours, **settings)
    assert not looked
    unused = next(word for word in range(3, 61) if word not in found)
    assert torch.equal(generate(ours, **settings, suppress_tokens=[unused]), found)
    assert looked
