"""What every model and head must keep, one check a convention.

`test_contracts.py` runs them over every `Case` and, where a backend or a precision could break the
convention, over each of those; `backend_contracts.py` holds the backends equal to the plain core.

A check raises AssertionError where the convention is broken; `test_breakages.py` breaks some on
purpose to see that.
"""

import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from cases import VOCABULARY, Case, pick, singles
from torch import nn
from transformers import AttentionInterface, DynamicCache, EncoderDecoderCache, StaticCache

from bertlite.models.attention import Attention, eager_attention
from bertlite.models.layers import EncoderLayer

DEVICES = {"plain": None, "auto": None, "cpu": "cpu", "packed": "cpu"}  # None: every device
EVERY_BACKEND, TRAINING_BACKENDS = ("plain", "cpu", "packed"), ("plain", "cpu")
FULL, HALVES = (torch.float32,), (torch.bfloat16, torch.float16)
OUTPUT_KINDS = {False: [("hidden_states", "attentions", "attention_mask")]}
OUTPUT_KINDS[True] = [("encoder_hidden_states", "encoder_attentions", "attention_mask")]
OUTPUT_KINDS[True] += [("decoder_hidden_states", "decoder_attentions", "decoder_attention_mask")]
OUTPUT_KINDS[True] += [(None, "cross_attentions", "attention_mask")]


@dataclass(frozen=True)
class Contract:
    """A check, and what it is to be run over."""

    check: Callable[[Case], None]
    backends: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    concerns: Callable[[Case], bool]


CONTRACTS: list[Contract] = []


def contract(
    backends: tuple[str, ...] = ("auto",),
    dtypes: tuple[torch.dtype, ...] = FULL,
    concerns: Callable[[Case], bool] = lambda case: True,
) -> Callable:
    """Enter a check: by default once a case, in fp32 and by the backend that a user would get."""

    def enter(check: Callable[[Case], None]) -> Callable[[Case], None]:
        CONTRACTS.append(Contract(check, backends, dtypes, concerns))
        return check

    return enter


def settings(each: Contract, is_variant: bool) -> list[tuple[str, torch.dtype]]:
    """Backends with precisions.

    Packed weights are those of a model in fp32; variants of a class run in fp32 alone.
    """
    return [
        (backend, dtype)
        for backend in each.backends
        for dtype in (FULL if is_variant or backend == "packed" else each.dtypes)
    ]


def matrix(cases: list[Case]) -> list:
    """Every case with every check that concerns it, for `pytest.mark.parametrize`."""
    made, classes = [], set()
    for case in cases:
        is_variant = case.model_class in classes
        classes.add(case.model_class)
        for each in CONTRACTS:
            for backend, dtype in settings(each, is_variant) if each.concerns(case) else ():
                name = f"{case}-{each.check.__name__}-{backend}-{str(dtype).split('.')[1]}"
                chosen = case.on(backend=backend, dtype=dtype)
                made.append(pytest.param(chosen, each.check, id=name))
    return made


def assert_equal(found: dict, expected: dict, atol: float = 1e-5) -> None:
    """Same names, and values within `atol` of the largest expected value (or of 1 where that is
    smaller).
    """
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape, f"{name}: {found[name].shape} is not {value.shape}"
        assert torch.isfinite(found[name]).all(), f"{name} is not finite"
        scale = max(1.0, value.abs().max().item()) if value.numel() else 1.0
        difference = (
            (found[name].double() - value.double()).abs().max().item() if value.numel() else 0.0
        )
        assert difference <= atol * scale, f"{name} differs by {difference:.2e}, scale {scale:.2g}"


@contextmanager
def sdpa_calls():
    """Count the calls of torch's fused attention."""
    real = nn.functional.scaled_dot_product_attention
    with mock.patch.object(nn.functional, "scaled_dot_product_attention", wraps=real) as counter:
        yield counter


@contract()
def check_tuple_equals_dict(case: Case) -> None:
    model, batch = case.model(), case.batch()
    options = {"output_hidden_states": True, "output_attentions": True}
    if case.is_seq2seq:
        options["use_cache"] = False
    with torch.no_grad():
        named, plain = model(**batch, **options), model(**batch, **options, return_dict=False)
    assert isinstance(plain, tuple)
    assert len(plain) == len(named.to_tuple())
    for found, expected in zip(plain, named.to_tuple(), strict=True):
        for one, other in zip(
            *(((x,) if isinstance(x, torch.Tensor) else x) for x in (found, expected)), strict=True
        ):
            assert torch.equal(one, other)


@contract(TRAINING_BACKENDS)
def check_training(case: Case) -> None:
    """A loss, and a gradient on every parameter.

    None, but for rounding, where softmax cancels a bias.
    """
    model, batch = case.model(), case.batch()
    gradients = case.gradients(model, batch, case.make_labels(batch))
    cancelled = ("key.bias", "k_proj.bias", "k_lin.bias", "attn.k.bias", "qa_outputs.bias") + (
        (".classifier.bias",) if "Choice" in type(model).__name__ else ()
    )
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name
        size = gradient.abs().max()
        assert size < 1e-5 if f".{name}".endswith(cancelled) else size > 0, (
            f"{name} has a gradient of {size}"
        )


@contract(TRAINING_BACKENDS, concerns=lambda case: bool(case.labels))
def check_accumulation(case: Case) -> None:
    """Uneven pieces, each trimmed to its own longest row, give the gradient of the full batch."""
    model, batch = case.model().double(), case.batch()
    labels = case.make_labels(batch)
    first = next(iter(labels.values()))
    count = {"num_items_in_batch": (first != -100).sum()}
    if "next_sentence_label" in labels or "sentence_order_label" in labels:
        count["num_sequences_in_batch"] = len(first)
    expected = case.gradients(model, batch, labels)
    total = {name: torch.zeros_like(gradient) for name, gradient in expected.items()}
    for rows in (slice(0, 1), slice(1, None)):
        piece = pick({**batch, **labels}, rows)
        chosen = {name: piece.pop(name) for name in labels}
        for name, gradient in case.gradients(model, piece, chosen, **count).items():
            total[name] += gradient
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-3
    assert_equal(total, expected, atol=1e-6)


@contract(EVERY_BACKEND)
def check_padding(case: Case) -> None:
    """A row alone, without padding, equals the row in a ragged batch."""
    model, batch = case.model(), case.batch()
    with torch.no_grad():
        alone = [case.real(model(**row), row) for row in singles(batch)]
        expected = {name: torch.cat([row[name] for row in alone]) for name in alone[0]}
        for implementation in ("eager", "sdpa"):
            model.set_attn_implementation(implementation)
            assert_equal(case.real(model(**batch), batch), expected)


@contract()
def check_attention_weights(case: Case) -> None:
    """Under every implementation.

    One entry a layer, rows that sum to 1, nothing on padding, the same outputs.
    """
    batch = case.batch()
    rows = batch["attention_mask"].flatten(0, -2)
    target = batch.get("decoder_attention_mask", rows)
    for implementation in ("eager", "sdpa"):
        model = case.model(implementation)
        with torch.no_grad():
            outputs, plain = model(**batch, output_attentions=True), model(**batch)
        assert_equal(case.real(outputs, batch), case.real(plain, batch))
        for _, name, keys in OUTPUT_KINDS[case.is_seq2seq]:
            key_mask = rows if keys == "attention_mask" else target
            queries = rows if name in ("attentions", "encoder_attentions") else target
            assert len(outputs[name]) == 2, f"{name}: {len(outputs[name])} layers"
            field = name.removesuffix("attentions") + "heads_per_layer"
            heads_of_layers = case.config.get(field, [2 if case.is_seq2seq else 4] * 2)
            for weights, heads in zip(outputs[name], heads_of_layers, strict=True):
                assert weights.shape == (len(rows), heads, queries.shape[1], key_mask.shape[1])
                weights = weights.transpose(1, 2)[queries.bool()]  # (real queries, H, S)
                torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
                hidden = key_mask.repeat_interleave(queries.sum(-1), dim=0)[:, None] == 0
                assert not (weights * hidden).any(), f"{name} looks at padding"


@contract(TRAINING_BACKENDS)
def check_hidden_states(case: Case) -> None:
    """The embeddings and the output of every layer, by argument or by config, with gradients that
    can be kept.
    """
    model, batch = case.model(), case.batch()
    options = {"output_hidden_states": True, "output_attentions": True}
    outputs = model(**batch, **options)
    for states, attentions, _ in OUTPUT_KINDS[case.is_seq2seq]:
        if states is not None:
            assert len(outputs[states]) == 3
            sides = (
                batch["decoder_input_ids" if "decoder" in states else "input_ids"]
                .flatten(0, -2)
                .shape
            )
            assert all(state.shape == (*sides, 32) for state in outputs[states])
        kept = [outputs[name][0] for name in (states, attentions) if name is not None]
        for tensor in kept:
            tensor.retain_grad()
        sum(outputs[name].square().mean() for name in case.outputs).backward(retain_graph=True)
        assert all(tensor.grad is not None and tensor.grad.any() for tensor in kept)
    model.config.output_hidden_states = True
    configured = model(**batch)
    for states, _, _ in OUTPUT_KINDS[case.is_seq2seq]:
        if states is not None:
            assert_equal(dict(enumerate(configured[states])), dict(enumerate(outputs[states])))


@contract(TRAINING_BACKENDS)
def check_gradient_checkpointing(case: Case) -> None:
    """Both kinds give the same gradients, and compute each layer a second time.

    The last one need not be, where a backend ends it at the vectors that are read.
    """
    batch = case.batch()
    labels = case.make_labels(batch)
    expected = case.gradients(case.model(), batch, labels)
    right = EncoderLayer.feed_forward_sublayer
    for reentrant in (False, True):
        model = case.model()
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        layers = sum(isinstance(module, EncoderLayer) for module in model.modules())
        with mock.patch.object(EncoderLayer, "feed_forward_sublayer", autospec=True) as calls:
            calls.side_effect = right
            assert_equal(case.gradients(model, batch, labels), expected)
        wanted = 2 * layers - (case.backend == "cpu")
        assert wanted <= calls.call_count <= 2 * layers, (
            f"{calls.call_count} calls, {layers} layers"
        )


@contract(TRAINING_BACKENDS)
def check_determinism(case: Case) -> None:
    """Evaluation repeats to the bit.

    Training repeats with its seed and, as dropout is on, with no other.
    """
    dropout = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    names = {"hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout"}
    batch = case.batch()
    for name in dropout:
        model = case.model(**{names[name] if case.is_seq2seq else name: 0.5})
        with torch.no_grad():
            first, second = (case.real(model(**batch), batch) for _ in range(2))
            assert all(torch.equal(first[name], second[name]) for name in first)
            runs = []
            for seed in (1, 1, 2):
                torch.manual_seed(seed)
                runs.append(case.real(model.train()(**batch), batch))
        for key in first:
            assert torch.equal(runs[0][key], runs[1][key])
            assert not torch.equal(runs[0][key], runs[2][key]), f"{name} does nothing"
            assert not torch.equal(runs[0][key], first[key])


@contract(EVERY_BACKEND)
def check_inputs_embeds(case: Case) -> None:
    """Word vectors in place of ids, on both sides of an encoder-decoder."""
    model, batch = case.model(), case.batch()
    vectors = dict(batch)
    for name in ("input_ids", "decoder_input_ids"):
        if name in batch:
            ids = vectors.pop(name)
            vectors[name.replace("input_ids", "inputs_embeds")] = model.get_input_embeddings()(ids)
    with torch.no_grad():
        assert_equal(
            case.real(model(**vectors), batch), case.real(model(**batch), batch), atol=1e-6
        )


@contract()
def check_resizing(case: Case) -> None:
    """More and fewer words, tied and untied.

    Old words keep their outputs, and a tie stays a tie.
    """
    batch = case.batch()
    ties = [{"tie_word_embeddings": tied} for tied in (True, False)]
    if case.is_seq2seq:
        shared = "share_encoder_decoder_embeddings"
        ties = [{**ties[0], shared: True}, {**ties[0], shared: False}, {**ties[1], shared: False}]
    for tie in ties:
        model = case.model(**tie)
        for size in (VOCABULARY + 7, VOCABULARY):
            with torch.no_grad():
                before = case.real(model(**batch), batch)
                model.resize_token_embeddings(size, mean_resizing=False)
                after = case.real(model(**batch), batch)
            assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == size
            if (output := model.get_output_embeddings()) is not None:
                words = getattr(model.config, "decoder_vocab_size", size)
                name = next(iter(case.outputs))
                assert output.out_features == after[name].shape[-1] == words, tie
                assert words == size or not tie.get("share_encoder_decoder_embeddings", True)
                before[name], after[name] = (
                    values[name][:, :VOCABULARY] for values in (before, after)
                )
                stack = model.model.decoder if case.is_seq2seq else model
                assert (output.weight is stack.get_input_embeddings().weight) == tie[
                    "tie_word_embeddings"
                ], tie
            assert_equal(after, before, atol=1e-6)
            case.gradients(model, batch, case.make_labels(batch))
            model.eval()


@contract(TRAINING_BACKENDS)
def check_feed_forward_chunking(case: Case) -> None:
    batch = case.batch()
    with torch.no_grad():
        expected = case.real(case.model()(**batch), batch)
        model = case.model(chunk_size_feed_forward=2)
        assert_equal(case.real(model(**batch), batch), expected)


@contract(EVERY_BACKEND, FULL + HALVES)
def check_round_trip(case: Case) -> None:
    """What was saved loads with nothing missing, nothing left over, and the same outputs to the
    bit.
    """
    model, batch = case.model(), case.batch()
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        expected = case.real(model(**batch), batch)
        model.save_pretrained(folder)
        options = {"output_loading_info": True, "dtype": "auto"}
        loaded, report = case.model_class.from_pretrained(folder, **options)
    assert not any(report.values()), report
    assert loaded.dtype == case.dtype
    plain = model.plain_names()  # the class that the folder names: transformers' where it may
    assert loaded.config.architectures == [plain[1] if plain else type(model).__name__]
    configs = [
        {**each.config.to_dict(), "_name_or_path": None, "architectures": None}
        for each in (loaded, model)
    ]
    assert configs[0] == configs[1]
    with torch.no_grad():
        found = case.real(case.place(loaded.eval())(**batch), batch)
    assert_equal(found, expected, atol=0)


@contract(TRAINING_BACKENDS)
def check_switching(case: Case) -> None:
    """The implementation is switched on a live model, and sdpa is called exactly where it is
    chosen.
    """
    model, batch = case.model("eager"), case.batch()
    with torch.no_grad(), sdpa_calls() as calls:
        expected = case.real(model(**batch), batch)
        assert calls.call_count == 0, "eager calls sdpa"
        model.set_attn_implementation("sdpa")
        found = case.real(model(**batch), batch)
        assert calls.call_count >= sum(
            isinstance(module, Attention) for module in model.modules()
        ), "sdpa not called"
        count = calls.call_count
        model.set_attn_implementation("eager")
        model(**batch)
        assert calls.call_count == count, "eager calls sdpa after the switch"
    assert_equal(found, expected)


@contract(TRAINING_BACKENDS)
def check_custom_attention(case: Case) -> None:
    """A function that a user registers is called by every attention module, and sees no padding."""
    modules = []

    def recorded(module, *args, **kwargs):
        modules.append(module)
        return eager_attention(module, *args, **kwargs)

    AttentionInterface.register("recorded", recorded)
    batch = case.batch()
    with torch.no_grad():
        expected = case.real(case.model("eager")(**batch), batch)
        model = case.model("recorded")
        assert_equal(case.real(model(**batch), batch), expected)
    wanted = {module for module in model.modules() if isinstance(module, Attention)}
    assert wanted == set(modules), "not every module calls it"


def has_vocabulary(case: Case) -> bool:
    """Whether it writes words, with an output layer."""
    return case.model().get_output_embeddings() is not None


@contract(concerns=has_vocabulary)
def check_tied(case: Case) -> None:
    """The output layer's weight is the embedding's.

    The same parameter, not an equal one, after loading too.
    """

    def check(model: nn.Module) -> None:
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight, (
            "not tied"
        )
        if case.is_seq2seq:
            encoder, decoder = (
                side.get_input_embeddings() for side in (model.model.encoder, model.model.decoder)
            )
            assert encoder.weight is decoder.weight, "sides not tied"

    model = case.model()
    check(model)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        check(case.model_class.from_pretrained(folder))


@contract(TRAINING_BACKENDS, concerns=lambda case: case.is_seq2seq)
def check_cache(case: Case) -> None:
    """Targets decoded a piece at a time equal those decoded at once, on every kind of cache."""
    model, batch = case.model(), case.batch("left")
    name = next(name for name, place in case.outputs.items() if place == "target")
    target, mask = (
        batch.pop("decoder_input_ids"),
        torch.ones_like(batch.pop("decoder_attention_mask")),
    )
    with torch.no_grad():
        whole = model(**batch, decoder_input_ids=target, use_cache=False)
        assert whole.past_key_values is None
        static = (
            StaticCache(config=model.config, max_cache_len=12),
            StaticCache(config=model.config, max_cache_len=9),
        )
        for cache in (
            None,
            EncoderDecoderCache(DynamicCache(), DynamicCache()),
            EncoderDecoderCache(*static),
        ):
            start, states = 0, []
            for size in (1, 2, 1, 1, 1):
                piece = {
                    "decoder_input_ids": target[:, start : start + size],
                    "past_key_values": cache,
                }
                outputs = model(
                    **batch, **piece, decoder_attention_mask=mask[:, : start + size], use_cache=True
                )
                cache, start = outputs.past_key_values, start + size
                states.append(outputs[name])
            assert_equal({name: torch.cat(states, dim=1)}, {name: whole[name]})
            assert cache.get_seq_length() == start
