"""The words that each encoder-decoder family writes: transformers' class, our core, our loop."""

import copy
import random

import pytest
import torch
from seq2seq_cases import NAMES, batch_of, pair

import bertlite
from bertlite.backends.cpu import generation as fast

pytestmark = [pytest.mark.processor, pytest.mark.slow]

# How each family is told the language, or what else it begins with.
BEGINS = {"mbart": {"decoder_start_token_id": 7}, "m2m_100": {"forced_bos_token_id": 7}}
# No pair of words twice: weights drawn at random would else repeat one, and prove little.
VARIED = {"max_new_tokens": 14, "num_beams": 1, "no_repeat_ngram_size": 2}
SETTINGS = {
    "greedy": {},
    "a least length": {"min_new_tokens": 5, "repetition_penalty": 1.2},
    "beams": {"num_beams": 4, "length_penalty": 0.6},
    "several beams": {"num_beams": 3, "num_return_sequences": 3, "early_stopping": True},
    "forced ends": {"forced_eos_token_id": 9, "forced_bos_token_id": 8, "num_beams": 2},
}


@pytest.fixture(scope="module", params=NAMES)
def models(request, tmp_path_factory):
    """Theirs and ours; texts are short and vary little, and padding is written too."""
    folder = tmp_path_factory.mktemp(request.param)
    theirs, _ = pair(request.param, folder, std=0.3)
    theirs.generation_config.bad_words_ids = None
    theirs.save_pretrained(folder)
    ours = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(folder).eval()
    return request.param, theirs, ours


@pytest.mark.parametrize("side", ["left", None])
@pytest.mark.parametrize("settings", SETTINGS)
def test_words_are_theirs(models, settings, side, monkeypatch):
    """Token for token, and decoded by the loop, which says so."""
    family, theirs, ours = models
    batch = batch_of(theirs.config, side)
    batch = {name: each for name, each in batch.items() if not name.startswith("decoder")}
    options = {**VARIED, **BEGINS.get(family, {}), **SETTINGS[settings]}
    reasons: list = []
    why = fast.why_library
    monkeypatch.setattr(
        fast, "why_library", lambda *given: reasons.append(why(*given)) or reasons[-1]
    )
    expected = theirs.generate(**batch, **options)
    plain = bertlite.use_backend(copy.deepcopy(ours), "plain")
    assert torch.equal(plain.generate(**batch, **options), expected)
    assert torch.equal(ours.generate(**batch, **options), expected)
    assert reasons == [None]
    assert expected.unique().numel() > 5


@pytest.mark.parametrize("beams", [1, 3])
def test_padding_that_is_written_has_no_position_in_m2m100(tmp_path, beams):
    """The model may write the padding token as a word; a prompt with one is the library's."""
    theirs, ours = pair("m2m_100", tmp_path, std=0.4)
    ids = batch_of(theirs.config)["input_ids"]
    options = {**VARIED, "num_beams": beams, "eos_token_id": None}
    options["suppress_tokens"] = [0, 3, 4, 5, *range(8, 61)]
    expected = theirs.generate(ids, **options)
    assert (expected[:, 1:-1] == 1).any()
    assert torch.equal(ours.generate(ids, **options), expected)
    prompt = torch.tensor([[2, 1, 5, 1, 6]]).expand(len(ids), -1)
    expected = theirs.generate(ids, decoder_input_ids=prompt, **options)
    assert torch.equal(ours.generate(ids, decoder_input_ids=prompt, **options), expected)


def test_a_start_that_nobody_names_is_the_librarys(models):
    """MBART has none of its own: generation then begins with the first token, as theirs does."""
    _, theirs, ours = models
    ids = batch_of(theirs.config)["input_ids"]
    options = {"max_new_tokens": 6, "num_beams": 1}
    assert torch.equal(ours.generate(ids, **options), theirs.generate(ids, **options))


def test_int8_writes_what_fp32_writes_mostly(models):
    family, _, ours = models
    ids = batch_of(ours.config)["input_ids"]
    options = {"max_new_tokens": 10, "num_beams": 2, **BEGINS.get(family, {})}
    expected = bertlite.generate(ours, input_ids=ids, **options)
    found = bertlite.generate(ours, input_ids=ids, dtype="int8", **options)
    width = min(expected.shape[1], found.shape[1])
    same = (expected[:, :width] == found[:, :width]).float().mean()
    assert same > 0.5, same


def some_settings(chance: random.Random, start: dict) -> dict:
    """Settings as generation configs have them, in any mixture."""
    choices = {
        "min_length": (1, 3, 6),
        "min_new_tokens": (1, 3, 20),
        "no_repeat_ngram_size": (1, 2, 3),
        "repetition_penalty": (0.7, 1.2, 2.0),
        "forced_eos_token_id": (2, 7, None, [7, 8]),
        "bad_words_ids": ([[4], [7]], [[4, 5], [9]], [[2], [6]]),
        "suppress_tokens": ([3, 4, 5],),
        "renormalize_logits": (True,),
        "eos_token_id": ([2, 11, 12],),
        "encoder_no_repeat_ngram_size": (2,),
        "sequence_bias": ([[[5], 2.0], [[6, 7], -3.0]],),
    }
    found = {"max_new_tokens": chance.choice((1, 2, 5, 14)), "num_beams": chance.choice((1, 2, 5))}
    found |= start or ({"forced_bos_token_id": 9} if chance.random() < 0.3 else {})
    for name, values in choices.items():
        if chance.random() < 0.25:
            found[name] = chance.choice(values)
    if found["num_beams"] > 1:
        found["length_penalty"] = chance.choice((0.0, 0.6, 2.0, -1.0))
        found["early_stopping"] = chance.choice((False, True, "never"))
        found["num_return_sequences"] = chance.randint(1, found["num_beams"])
    return found


def test_any_settings_write_theirs(models):
    """Mixtures drawn by chance, for models that end their texts at times."""
    family, theirs, ours = copy.deepcopy(models)  # they get a bias that others do not want
    bias = theirs.final_logits_bias if hasattr(theirs, "final_logits_bias") else None
    chance = random.Random(family)
    written = []
    for _ in range(15):
        batch = batch_of(theirs.config, chance.choice(("left", "right", None)))
        batch = {name: each for name, each in batch.items() if not name.startswith("decoder")}
        options = some_settings(chance, BEGINS.get(family, {}))
        for model in (theirs, ours):
            if bias is not None:
                model.final_logits_bias[:, 2] = 2.5
        expected, found = (model.generate(**batch, **options) for model in (theirs, ours))
        assert torch.equal(found, expected), options
        written.append(expected.shape[1])
    assert len(set(written)) > 2
