"""Our Transformer against transformers' Marian.

Their folder loaded by ours, outputs, losses and words equal.
"""

import pytest
import torch
from cases import IGNORED, padded
from contracts import assert_equal
from pairs import SEPARATE, marian_pair

STATES = {
    "encoder_last_hidden_state": "attention_mask",
    "last_hidden_state": "decoder_attention_mask",
}
LOGITS = {"encoder_last_hidden_state": "attention_mask", "logits": "decoder_attention_mask"}


def batch_of(lengths, targets, side: str | None, words: int = 61) -> dict:
    """Sources and targets; without masks where `side` is None."""
    generator = torch.Generator().manual_seed(len(lengths))
    batch = {}
    for prefix, sizes, where in (("", lengths, side), ("decoder_", targets, "right")):
        ids, mask = padded(sizes, where or "right", generator)
        batch[f"{prefix}input_ids"] = ids.clamp(max=words - 1) if prefix else ids
        if side is not None:
            batch[f"{prefix}attention_mask"] = mask
    return batch


def real(outputs, batch, names) -> dict:
    kept = {}
    for name, mask in names.items():
        value = outputs[name].detach().float()
        kept[name] = value[batch[mask].bool()] if mask in batch else value
    return kept


@pytest.mark.parametrize(
    "fields", [{}, {"scale_embedding": False}, SEPARATE], ids=["scaled", "unscaled", "separate"]
)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("heads", [2, 4])
def test_outputs_and_losses(tmp_path, layers, heads, fields, attention):
    """Lengths 1, 5 and 17 on both sides; padding on the right, on the left, and no mask."""
    sizes = {f"{side}_layers": layers for side in ("encoder", "decoder")}
    sizes |= {f"{side}_attention_heads": heads for side in ("encoder", "decoder")}
    theirs, ours = marian_pair(tmp_path, attention, **sizes, **fields)
    words = theirs.config.decoder_vocab_size
    with torch.no_grad():
        for lengths, targets in (
            ((1, 1), (5, 2)),
            ((5, 5, 3), (1, 1, 1)),
            ((17, 4, 9), (17, 12, 1)),
        ):
            for side in ("right", "left", None):
                batch = batch_of(lengths, targets, side, words)
                expected = theirs(**batch)
                assert_equal(real(ours(**batch), batch, LOGITS), real(expected, batch, LOGITS))
                batch.pop("decoder_input_ids")
                mask = batch.pop("decoder_attention_mask", None)
                labels = torch.randint(3, words, (len(lengths), max(targets)))
                labels = labels if mask is None else labels.masked_fill(mask == 0, IGNORED)
                for model in (ours, ours.train()):
                    torch.testing.assert_close(
                        model(**batch, labels=labels).loss, theirs(**batch, labels=labels).loss
                    )
                ours.eval()


@pytest.mark.parametrize("act", ["gelu", "relu", "swish"])
def test_base_model_and_activations(tmp_path, act, attention):
    theirs, ours = marian_pair(tmp_path, attention, base=True, activation_function=act)
    batch = batch_of((17, 4, 9), (6, 3, 1), "right")
    with torch.no_grad():
        assert_equal(real(ours(**batch), batch, STATES), real(theirs(**batch), batch, STATES))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("side", ["right", "left", None])
def test_half_precision(tmp_path, dtype, side, attention):
    """|ours16 - theirs32| < 3 · |theirs16 - theirs32|, on the mean and on the largest."""
    theirs, ours = marian_pair(tmp_path, attention)
    theirs.set_attn_implementation(attention)
    batch = batch_of((17, 4, 9), (17, 12, 1), side)
    with torch.no_grad():
        exact = real(theirs(**batch), batch, LOGITS)
        halves = [real(model.to(dtype)(**batch), batch, LOGITS) for model in (theirs, ours)]
    for name, value in exact.items():
        their_error, our_error = ((half[name] - value).abs() for half in halves)
        assert our_error.mean() < 3 * their_error.mean(), name
        assert our_error.max() < 3 * their_error.max(), name


def test_prepared_masks(tmp_path, attention):
    """4D masks of the source and of the target, which here have one length."""
    theirs, ours = marian_pair(tmp_path, attention)
    batch = batch_of((7, 7, 7), (7, 7, 7), None)
    allowed = (torch.rand(2, 3, 1, 7, 7) < 0.6) | torch.eye(7, dtype=torch.bool)
    allowed[1] = allowed[1].tril()
    additive = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    with torch.no_grad():
        expected = theirs(**batch, attention_mask=additive[0], decoder_attention_mask=additive[1])
        for masks in (allowed, additive):
            found = ours(**batch, attention_mask=masks[0], decoder_attention_mask=masks[1])
            assert_equal(real(found, batch, LOGITS), real(expected, batch, LOGITS))


def test_what_is_recorded(tmp_path, attention):
    theirs, ours = marian_pair(tmp_path, attention)
    theirs.set_attn_implementation("eager")  # their sdpa records no weights
    batch = batch_of((9, 4, 7), (6, 3, 1), None)
    options = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        found, expected = ours(**batch, **options), theirs(**batch, **options)
    for name in (
        "encoder_hidden_states",
        "decoder_hidden_states",
        "encoder_attentions",
        "decoder_attentions",
    ):
        assert_equal(dict(enumerate(found[name])), dict(enumerate(expected[name])))
    assert_equal(
        dict(enumerate(found.cross_attentions)), dict(enumerate(expected.cross_attentions))
    )


def test_cached_steps(tmp_path, attention):
    """One word at a time, ours against their uncached pass."""
    theirs, ours = marian_pair(tmp_path, attention)
    batch = batch_of((9, 4, 7), (6, 6, 6), "left")
    target, _ = batch.pop("decoder_input_ids"), batch.pop("decoder_attention_mask")
    with torch.no_grad():
        expected = theirs(**batch, decoder_input_ids=target, use_cache=False).logits
        cache, logits = None, []
        for word in target.split(1, dim=1):
            outputs = ours(**batch, decoder_input_ids=word, past_key_values=cache, use_cache=True)
            cache = outputs.past_key_values
            logits.append(outputs.logits)
    assert_equal({"logits": torch.cat(logits, dim=1)}, {"logits": expected})


# No word twice: weights drawn at random would else repeat two or three words, and prove little.
NEW = {"max_new_tokens": 12, "no_repeat_ngram_size": 1}
MODES = {
    "greedy": {},
    "beams": {"num_beams": 4},
    "beams, several": {
        "num_beams": 4,
        "num_return_sequences": 3,
        "length_penalty": 0.6,
        "early_stopping": True,
    },
    "sampling": {"do_sample": True, "top_k": 0},
    "sampling, top-p": {
        "do_sample": True,
        "top_p": 0.8,
        "temperature": 0.7,
        "num_return_sequences": 2,
    },
    "beam sampling": {"do_sample": True, "num_beams": 3},
    "no cache": {"use_cache": False},
    "beams without cache": {"num_beams": 3, "use_cache": False},
    "dynamic cache": {"cache_implementation": "dynamic"},
    "static cache": {"cache_implementation": "static"},
    "penalties": {"repetition_penalty": 1.3, "min_new_tokens": 6},
    "bad words": {"bad_words_ids": [[5], [7]]},
    "forced end": {"forced_eos_token_id": 1},
}


def generated(theirs, ours, same: dict, **options):
    """Both models' answers, drawn with the same seed."""
    answers = []
    for model in (theirs, ours):
        torch.manual_seed(7)
        extra = {"return_dict_in_generate": True, "output_scores": True}
        answers.append(model.generate(**same, **{**NEW, **options}, **extra))
    return answers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("fields", [{}, SEPARATE], ids=["shared", "separate"])
def test_generates_the_same_words(tmp_path, mode, side, fields):
    theirs, ours = marian_pair(tmp_path, "sdpa", **fields)
    ids, mask = padded((9, 4, 7), side, torch.Generator().manual_seed(3))
    expected, found = generated(
        theirs, ours, {"input_ids": ids, "attention_mask": mask}, **MODES[mode]
    )
    assert found.sequences.unique().numel() > 7
    assert torch.equal(found.sequences, expected.sequences)
    if "sequences_scores" in expected:
        torch.testing.assert_close(
            found.sequences_scores, expected.sequences_scores, rtol=0, atol=1e-5
        )
    for ours_now, theirs_now in zip(found.scores, expected.scores, strict=True):
        torch.testing.assert_close(ours_now, theirs_now, rtol=0, atol=1e-4)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_generates_the_same_words_from_vectors(tmp_path, implementation):
    """Deviation.

    Our encoder scales given vectors as it scales its own, theirs leaves that to the caller.
    """
    theirs, ours = marian_pair(tmp_path, implementation)
    ids, mask = padded((9, 4, 7), "left", torch.Generator().manual_seed(3))
    vectors = theirs.get_input_embeddings()(ids).detach()
    same = {"attention_mask": mask, **NEW}
    from_ids = theirs.generate(input_ids=ids, **same)
    assert torch.equal(theirs.generate(inputs_embeds=vectors * 32**0.5, **same), from_ids)
    assert torch.equal(ours.generate(inputs_embeds=vectors, **same), from_ids)


@pytest.mark.parametrize("shared", [True, False])
def test_generates_the_same_words_from_vectors_that_nobody_scales(tmp_path, shared):
    theirs, ours = marian_pair(
        tmp_path, "sdpa", scale_embedding=False, share_encoder_decoder_embeddings=shared
    )
    vectors = theirs.get_input_embeddings()(torch.randint(3, 61, (2, 7))).detach()
    expected, found = generated(theirs, ours, {"inputs_embeds": vectors})
    assert torch.equal(found.sequences, expected.sequences)


@pytest.mark.parametrize("drafts", ["same", "other", "prompt"])
def test_drafts_change_no_word(tmp_path, drafts):
    """Assisted decoding and prompt lookup give greedy search's words, theirs and ours."""
    theirs, ours = marian_pair(tmp_path / "model", "sdpa")
    other = marian_pair(tmp_path / "other", "sdpa", encoder_layers=1, decoder_layers=1)
    for length in (4, 9):
        ids = torch.randint(3, 61, (1, length))
        expected = theirs.generate(input_ids=ids, **NEW)
        for model, assistant in zip((theirs, ours), other, strict=True):
            helper = {"same": model, "other": assistant}.get(drafts)
            options = (
                {"prompt_lookup_num_tokens": 3}
                if drafts == "prompt"
                else {"assistant_model": helper}
            )
            assert torch.equal(model.generate(input_ids=ids, **NEW, **options), expected)
        assert torch.equal(ours.generate(input_ids=ids, **NEW), expected)


def test_drafted_samples(tmp_path):
    theirs, ours = marian_pair(tmp_path / "model", "sdpa")
    helpers = marian_pair(tmp_path / "other", "sdpa", encoder_layers=1, decoder_layers=1)
    ids, words = torch.randint(3, 61, (1, 9)), []
    for model, helper in zip((theirs, ours), helpers, strict=True):
        torch.manual_seed(5)
        words.append(model.generate(input_ids=ids, **NEW, do_sample=True, assistant_model=helper))
    assert torch.equal(*words)


def test_what_generation_records(tmp_path):
    theirs, ours = marian_pair(tmp_path, "eager")
    theirs.set_attn_implementation("eager")
    watched = {"output_attentions": True, "output_hidden_states": True}
    expected, found = generated(
        theirs, ours, {"input_ids": torch.randint(3, 61, (2, 7))}, **watched
    )
    for name in ("decoder_attentions", "cross_attentions", "decoder_hidden_states"):
        for ours_now, theirs_now in zip(found[name], expected[name], strict=True):
            assert_equal(dict(enumerate(ours_now)), dict(enumerate(theirs_now)))
    for name in ("encoder_attentions", "encoder_hidden_states"):
        assert_equal(dict(enumerate(found[name])), dict(enumerate(expected[name])))


def test_going_on_from_given_words(tmp_path):
    """A beginning of the target, and the cache of an earlier call."""
    theirs, ours = marian_pair(tmp_path, "sdpa")
    ids, begun = torch.randint(3, 61, (2, 7)), torch.tensor([[2, 8, 9], [2, 10, 11]])
    expected, found = generated(theirs, ours, {"input_ids": ids, "decoder_input_ids": begun})
    assert torch.equal(found.sequences, expected.sequences)
    again = []
    for model, earlier in ((theirs, expected), (ours, found)):
        options = {
            "decoder_input_ids": earlier.sequences,
            "past_key_values": earlier.past_key_values,
        }
        again.append(model.generate(input_ids=ids, **options, **NEW))
    assert torch.equal(*again)
