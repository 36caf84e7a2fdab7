"""A decoder in training leaves out the targets that nobody reads, and changes no loss by it."""

import copy

import pytest
import torch
from cases import randomize, transformer_config
from cuda_stand_ins import WaitCounter, stand_in_kernels, use_stand_in
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import bertlite
from bertlite.backends.cpu import attention
from bertlite.backends.cpu.flat_targets import PaddedAttention, places_in
from bertlite.data.collators import lengths_of
from bertlite.models.inputs import IGNORED, up_to_last

SOURCES, TARGETS = (9, 3, 6, 1), (2, 8, 5, 1)
KINDS = {
    "post-norm": {},
    "pre-norm": {"norm_first": True},
    "eager": {"attn_implementation": "eager"},
    "own-tables": {"share_encoder_decoder_embeddings": False},
}


def model_of(**fields):
    name = fields.pop("attn_implementation", "sdpa")
    model = bertlite.TransformerLiteForConditionalGeneration(transformer_config(**fields))
    model.set_attn_implementation(name)
    return randomize(model).train()


def batch_of(side: str = "right") -> dict[str, torch.Tensor]:
    """Ragged sources and targets; one label within a row is unknown too."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(max(SOURCES)) < torch.tensor(SOURCES)[:, None]).long()
    mask = mask.flip(1) if side == "left" else mask
    ids = torch.randint(4, 60, mask.shape, generator=generator)
    shape = (len(TARGETS), max(TARGETS) + 2)  # two columns that no row needs
    labels = torch.randint(4, 60, shape, generator=generator)
    labels[torch.arange(shape[1]) >= torch.tensor(TARGETS)[:, None]] = IGNORED
    labels[1, 3] = IGNORED
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def plainly(model):
    """The same model by the plain core."""
    return bertlite.use_backend(copy.deepcopy(model), "plain")


def agree(model, other, batch) -> None:
    """Equal losses and gradients."""
    losses = [each(**batch).loss for each in (model, other)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    expected = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected[name].grad, atol=2e-5, rtol=1e-3, msg=lambda m, n=name: n + m
        )


def decoded_by(model) -> str:
    (line,) = [each for each in model.backend_report() if "Decoder, decode" in each]
    return line


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_losses_and_gradients_are_those_of_padded_targets(fields, side):
    model = model_of(**fields)
    agree(model, plainly(model), batch_of(side))
    assert "decode: cpu" in decoded_by(model)


def test_gradient_checkpointing():
    model = model_of()
    other = plainly(model)
    model.gradient_checkpointing_enable()
    agree(model, other, batch_of())
    assert "decode: cpu" in decoded_by(model)


@pytest.mark.parametrize("lengths", [False, True])
def test_on_a_gpus_kernels(lengths):
    """One wait a forward, and none with lengths."""
    with stand_in_kernels():
        model = model_of()
        other, batch = plainly(model), batch_of()
        use_stand_in(model)
        model(**batch)  # the kernels are tried at the first call of a process
        more = {"lengths": lengths_of(batch)} if lengths else {}
        given = {name: tensor.clone() for name, tensor in batch.items()}
        with WaitCounter() as counter:
            model(**given, **more)
        assert len(counter.waits) == (0 if lengths else 1), counter.waits
        agree(model, other, batch | more)
        assert "decode: cuda" in decoded_by(model)


def test_padding_is_not_computed():
    """A batch costs what its rows cost one by one, but for attention to padded rows."""
    model, batch = model_of(encoder_layers=1), batch_of()
    counts = {}
    for name, each in (("flat", model), ("padded", plainly(model))):
        with FlopCounterMode(display=False) as counter:
            each.model(
                batch["input_ids"],
                attention_mask=batch["attention_mask"],
                decoder_input_ids=batch["labels"].clamp(min=1),
                target_mask=up_to_last(batch["labels"] != IGNORED),
                zero_padding=True,
            )
        counts[name] = counter.get_total_flops()
    real = (sum(SOURCES) + sum(TARGETS)) / (batch["input_ids"].numel() + batch["labels"].numel())
    assert counts["flat"] < counts["padded"] * (real + 0.15)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_to_padded_rows(dropout, is_causal, monkeypatch):
    """By hand: each row on its own; dropout that drops nothing changes nothing."""
    monkeypatch.setattr(attention, "drop", lambda weights, probability, training: weights)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    places = places_in(mask)
    heads = torch.randn(3, 1, 2, len(places.indices), 4)
    module = nn.Module()
    module.is_causal, module.config = is_causal, model_of().config
    attend = PaddedAttention(places, places, None if is_causal else mask[:, None, None])
    found, _ = attend(module, *heads, None, scaling=0.5, dropout=dropout)
    for row, rows in enumerate((slice(0, 2), slice(2, 5))):
        q, k, v = heads[:, 0, :, rows]
        scores = q @ k.mT * 0.5
        if is_causal:
            scores = scores.masked_fill(~torch.ones(scores.shape[-2:]).tril().bool(), -torch.inf)
        expected = (scores.softmax(-1) @ v).transpose(0, 1)
        torch.testing.assert_close(found[0, rows], expected, msg=f"row {row}")


def test_logits_are_there_when_they_are_asked_for():
    """Those of all targets, the ones that were left out among them."""
    model, batch = model_of(), batch_of()
    outputs = model(**batch)
    expected = plainly(model).eval()(**batch)
    torch.testing.assert_close(outputs.logits, expected.logits, atol=1e-4, rtol=1e-4)
    states = outputs.encoder_last_hidden_state
    torch.testing.assert_close(states, expected.encoder_last_hidden_state, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": torch.full((4, 6), 7), "attention_mask": None}, "nothing is padding"),
        ({"decoder_attention_mask": torch.ones(4, 10)}, "a mask of the targets is given"),
        ({"output_attentions": True}, "every target is read"),
    ],
)
def test_what_is_left_to_the_core(change, reason):
    model = model_of()
    batch = {key: value for key, value in (batch_of() | change).items() if value is not None}
    losses = [each(**batch).loss for each in (model, plainly(model).eval())]
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-5)
    assert reason in decoded_by(model)
    assert "decode: plain" in decoded_by(model)


def test_rows_without_a_label_cost_nothing_and_break_nothing():
    model, batch = model_of(), batch_of()
    batch["labels"][2] = IGNORED
    agree(model, plainly(model), batch)
    assert "decode: cpu" in decoded_by(model)
    batch["labels"][:] = IGNORED
    assert model(**batch).loss.item() == 0
    assert "no target is read" in decoded_by(model)
