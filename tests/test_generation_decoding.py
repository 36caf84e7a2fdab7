"""The packed decoder and its steps against the model's own forward pass over whole targets."""

import pytest
import torch
from cases import Case

from bertlite import TransformerLiteForConditionalGeneration
from bertlite.backends.cpu.decoder_engine import DecoderEngine, engine_of, sum_of_bits
from bertlite.backends.cpu.decoding import (
    EXACT,
    DecodingState,
    first_largest,
    largest,
    packed_order,
)
from bertlite.backends.cpu.few_rows_linear import FewRowsInt8Linear

pytestmark = pytest.mark.processor

CASE = Case(TransformerLiteForConditionalGeneration, {"logits": "target"})


def started(model, batch, num_beams=1, dtype="fp32"):
    source = model.get_encoder()(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    return DecodingState(
        engine_of(model, dtype), source, batch["attention_mask"], num_beams, steps=6
    )


def expected(model, batch, targets):
    return model(batch["input_ids"], batch["attention_mask"], decoder_input_ids=targets).logits[
        :, -1
    ]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "overrides",
    [{}, {"norm_first": True, "activation_function": "relu"}, {"normalize_embedding": True}],
)
@torch.no_grad()
def test_steps_give_the_logits_of_the_whole_pass(side, overrides):
    model, batch = CASE.model(**overrides), CASE.batch(side)
    state, targets = started(model, batch), batch["decoder_input_ids"]
    for step in range(targets.shape[1]):
        logits = state.logits(state.hidden_states(targets[:, step]))
        torch.testing.assert_close(
            logits[:, :61], expected(model, batch, targets[:, : step + 1]), atol=2e-5, rtol=1e-5
        )
        assert (logits[:, 61:] == -torch.inf).all()


@torch.no_grad()
def test_beams_follow_their_parents_and_sources_leave():
    model, batch = CASE.model(), CASE.batch()
    state, rows = started(model, batch, num_beams=3), [0, 1, 2, 3]
    generator = torch.Generator().manual_seed(0)
    targets = torch.empty(4, 3, 0, dtype=torch.long)
    for step in range(5):
        targets = torch.cat(
            [targets, torch.randint(3, 61, (len(rows), 3, 1), generator=generator)], -1
        )
        logits = state.logits(state.hidden_states(targets[:, :, -1].flatten()))[:, :61]
        whole = {name: tensor[rows].repeat_interleave(3, 0) for name, tensor in batch.items()}
        torch.testing.assert_close(
            logits, expected(model, whole, targets.flatten(0, 1)), atol=2e-5, rtol=1e-5
        )
        parents = torch.randint(0, 3, (len(rows), 3), generator=generator)
        state.reorder(parents)
        targets = targets.gather(1, parents[:, :, None].expand_as(targets))
        if step in (1, 3):
            order = packed_order([row == 1 for row in range(len(rows))])
            state.keep(order)
            rows, targets = [rows[place] for place in order], targets[order]


@torch.no_grad()
def test_int8_is_close_and_a_row_does_not_see_its_neighbours():
    model, batch = CASE.model(), CASE.batch()
    tokens = batch["decoder_input_ids"][:, 0]
    state, plain = started(model, batch, dtype="int8"), expected(model, batch, tokens[:, None])
    logits = state.logits(state.hidden_states(tokens))[:, :61]
    assert torch.cosine_similarity(logits, plain, dim=-1).min() > 0.995
    layer = DecoderEngine(model, "int8").layers[0].cross_query
    for seed in range(5):
        inputs = torch.randn(5, 32, generator=torch.Generator().manual_seed(seed))
        inputs[3] *= 100
        assert all(
            torch.equal(layer(inputs)[row : row + 2], layer(inputs[row : row + 2]))
            for row in range(5)
        )


@pytest.mark.parametrize("vnni", [True, False])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_int8_inputs_above_a_bound(scale, vnni, monkeypatch):
    """After GELU all steps are spent above -0.17.

    Within the rounding of inputs (half a step) and of weights.
    """
    monkeypatch.setattr("bertlite.backends.cpu.few_rows_linear.has_fast_int8", lambda: vnni)
    generator = torch.Generator().manual_seed(0)
    linear, inputs = torch.nn.Linear(64, 32), scale * torch.randn(5, 64, generator=generator)
    inputs, weight = torch.nn.functional.gelu(inputs), linear.weight.detach()
    layer = FewRowsInt8Linear(linear, lowest=-0.17)
    half = (inputs.amax(-1, keepdim=True) + 0.17) / (255 if vnni else 127) / 2  # (5, 1)
    bound = (
        half * weight.abs().sum(1)
        + inputs.abs().sum(-1, keepdim=True) * weight.abs().amax(1) / 127 / 2
    )
    error = (layer(inputs) - (inputs @ weight.T + linear.bias)).detach().abs()
    assert (error <= 1.01 * bound + 1e-5).all()
    assert all(torch.equal(layer(inputs)[row], layer(inputs[row : row + 1])[0]) for row in range(5))


@torch.no_grad()
def test_in_int8_the_words_that_decide_are_scored_in_fp32():
    """The largest scores are those of the plain product to the last bits.

    The first of all is the same.
    """
    model, batch = CASE.model(), CASE.batch()
    state = started(model, batch, dtype="int8")
    hidden = state.hidden_states(batch["decoder_input_ids"][:, 0])
    found, exact = state.logits(hidden)[:, :61], model.lm_head(hidden) + model.final_logits_bias
    best = state.engine.vocabulary(hidden)[:, :61].topk(EXACT).indices
    torch.testing.assert_close(found.gather(1, best), exact.gather(1, best))
    assert not torch.allclose(found, exact, atol=1e-4)  # the others are still those of 8 bits
    assert torch.equal(found.argmax(-1), exact.argmax(-1))


def test_an_engine_knows_whether_weights_were_written_to():
    model = CASE.model()
    engine = engine_of(model)
    assert engine_of(model) is engine
    with torch.no_grad():
        model.lm_head.weight.mul_(1.5)
    assert not engine.is_current(model)
    assert engine_of(model) is not engine


@pytest.mark.parametrize("fused", [False, True])
def test_an_engine_knows_whether_an_optimizer_stepped(fused):
    """Torch's fused optimizers leave a tensor's version as it was."""
    model = CASE.model()
    engine = engine_of(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=fused)
    model.lm_head.weight.sum().backward()
    optimizer.step()
    assert not engine.is_current(model)
    assert engine_of(model) is not engine


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(ValueError, match="training mode"):
        DecoderEngine(CASE.model().train())
    with pytest.raises(ValueError, match="dtype must be one of fp32, int8, got 'int4'"):
        DecoderEngine(CASE.model(), "int4")


@pytest.mark.parametrize("size", [256, 4096])
def test_largest_agrees_with_topk_and_argmax(size):
    scores = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    values, places = largest(scores, 8)
    assert torch.equal(values, scores.topk(8).values)
    assert torch.equal(scores.gather(1, places), values)
    assert torch.equal(first_largest(scores), scores.argmax(-1))


def test_gaps_are_filled_by_the_last():
    assert packed_order([False, True, False, False]) == [0, 3, 2]
    assert packed_order([True, True, False]) == [2]


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_every_bit_of_a_weight_counts(size):
    """As integers of 64 bits, by hand: pairs are low and high halves."""
    numbers = torch.arange(1, size + 1, dtype=torch.int32)
    pairs = [
        int(low) + (int(high) << 32) for low, high in zip(numbers[::2], numbers[1::2], strict=False)
    ]
    expected = (sum(pairs), size if size % 2 else 0)
    assert sum_of_bits(numbers.view(torch.float32)) == expected
    assert (
        sum_of_bits(torch.cat([numbers[:1], numbers]).view(torch.float32)[1:]) == expected
    )  # not on 8 bytes
    for place in range(size):
        changed = numbers.clone()
        changed[place] ^= 1
        assert sum_of_bits(changed.view(torch.float32)) != expected
