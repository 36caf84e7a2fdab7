"""Attention of sequences laid end to end on a GPU: the choice of a kernel, and what is around it.

The kernels are stand-ins, registered as the CPU's implementation of torch's own operators: the
calls, their schemas and their autograd formulas are the real ones. Nothing here runs on a GPU.
"""

from types import SimpleNamespace

import pytest
import torch
from cuda_stand_ins import forget_trials, stand_in_kernels

from bertlite.backends.cuda import kernels
from bertlite.backends.cuda.kernels import Ends, candidates
from bertlite.backends.cuda.varlen import VarlenAttention
from bertlite.models.attention import eager_attention

LENGTHS = [5, 1, 9, 3]


@pytest.fixture
def stand_ins():
    with stand_in_kernels() as found:
        yield found


def module(is_causal: bool = False, training: bool = False):
    return SimpleNamespace(is_causal=is_causal, training=training)


def cumulated(lengths) -> torch.Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def heads(count: int, size: int, dtype=torch.float32, number: int = 2) -> torch.Tensor:
    """`(1, H, N, D)`."""
    return torch.randn(1, number, count, size, dtype=torch.float32).to(dtype).requires_grad_()


def one_by_one(query, key, value, lengths, key_lengths, is_causal, scaling):
    """The formula for each sequence by itself."""
    pieces = (
        query.split(lengths, 2),
        key.split(key_lengths, 2),
        value.split(key_lengths, 2),
    )
    made = [
        eager_attention(module(is_causal), *piece, None, scaling=scaling)[0]
        for piece in zip(*pieces, strict=True)
    ]
    return torch.cat(made, dim=1)  # (1, N, H, D)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("size", [5, 12, 32, 64])
@pytest.mark.parametrize(
    ("dtype", "kernel"), [(torch.float32, "efficient"), (torch.bfloat16, "flash")], ids=str
)
def test_values_and_gradients_are_those_of_each_sequence_alone(
    stand_ins, dtype, kernel, size, is_causal
):
    """Also of head sizes that the kernels do not take: filled up, cut, and scaled as they are."""
    query, key, value = (heads(sum(LENGTHS), size, dtype) for _ in range(3))
    ends = cumulated(LENGTHS)
    attend = VarlenAttention(Ends(ends, ends, max(LENGTHS), max(LENGTHS)))
    scaling = size**-0.5
    found, weights = attend(module(is_causal), query, key, value, None, scaling=scaling)
    assert weights is None
    assert stand_ins.calls[kernel] > 1
    inputs = [each.detach().float().requires_grad_() for each in (query, key, value)]
    expected = one_by_one(*inputs, LENGTHS, LENGTHS, is_causal, scaling)
    assert found.shape == expected.shape
    assert found.dtype == dtype
    gradient = torch.randn(expected.shape)
    found_gradients = torch.autograd.grad(found, (query, key, value), gradient.to(dtype))
    expected_gradients = torch.autograd.grad(expected, inputs, gradient)
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.06}
    tolerance.setdefault("rtol", 0.02)
    pairs = zip((found, *found_gradients), (expected.detach(), *expected_gradients), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one.float(), other, **tolerance)


def test_padded_targets_look_at_a_source_laid_end_to_end(stand_ins):
    """Queries `(B, H, T, D)` of full rows, keys `(1, H, N, D)`: other ends for each."""
    size, targets = 16, 4
    query = torch.randn(len(LENGTHS), 2, targets, size)
    key, value = heads(sum(LENGTHS), size), heads(sum(LENGTHS), size)
    queries = cumulated([targets] * len(LENGTHS))
    attend = VarlenAttention(Ends(queries, cumulated(LENGTHS), targets, max(LENGTHS)))
    found, _ = attend(module(), query, key, value, None, scaling=0.25)
    rows = query.transpose(0, 1).flatten(1, 2)[None]  # (1, H, B * T, D)
    expected = one_by_one(rows, key, value, [targets] * len(LENGTHS), LENGTHS, False, 0.25)
    torch.testing.assert_close(found.flatten(0, 1), expected[0])
    assert found.shape == (len(LENGTHS), targets, 2, size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_reaches_the_kernel_and_its_gradient(stand_ins, dtype):
    """The mean of many draws is the result without dropout; a gradient belongs to its own draw."""
    query, key, value = (heads(sum(LENGTHS), 8, dtype) for _ in range(3))
    ends = cumulated(LENGTHS)
    attend = VarlenAttention(Ends(ends, ends, max(LENGTHS), max(LENGTHS)))
    plain, _ = attend(module(), query, key, value, None, scaling=0.3)
    draws = torch.stack(
        [
            attend(module(), query, key, value, None, scaling=0.3, dropout=0.25)[0].float()
            for _ in range(32)
        ]
    )
    assert (draws[0] != draws[1]).any()
    error = draws.std(0) / 32**0.5  # of their mean
    assert ((draws.mean(0) - plain.float()).abs() <= 5 * error + 0.02).all()
    # Linear in the values: with the same draw, the derivative along them is the result itself.
    dropped, _ = attend(module(), query, key, value, None, scaling=0.3, dropout=0.25)
    (of_value,) = torch.autograd.grad(dropped.float().square().sum() / 2, value)
    found = (of_value.float() * value.float()).sum()
    expected = dropped.float().square().sum()
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-3)


def test_autocast_multiplies_in_its_precision(stand_ins):
    query, key, value = (heads(sum(LENGTHS), 8) for _ in range(3))
    ends = cumulated(LENGTHS)
    attend = VarlenAttention(Ends(ends, ends, max(LENGTHS), max(LENGTHS)))
    with torch.autocast("cpu", torch.bfloat16):
        made, _ = attend(module(), query, key, value, None, scaling=0.3)
        expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    assert made.dtype == expected.dtype == torch.bfloat16
    assert stand_ins.calls["flash"]
    made.float().sum().backward()
    assert query.grad.dtype == torch.float32


HALF, BF16, FP32 = torch.float16, torch.bfloat16, torch.float32
V100, T4, A100, H100 = (7, 0), (7, 5), (8, 0), (9, 0)


@pytest.mark.parametrize(
    ("dtype", "card", "head_size", "dropout", "expected"),
    [
        (BF16, H100, 64, 0.0, ["varlen", "flash", "efficient"]),
        (BF16, H100, 64, 0.1, ["flash", "efficient"]),
        (HALF, A100, 128, 0.1, ["flash", "efficient"]),
        (HALF, A100, 256, 0.1, ["efficient"]),
        (HALF, A100, 512, 0.0, ["efficient"]),
        (FP32, H100, 64, 0.1, ["efficient"]),
        (FP32, V100, 64, 0.0, ["efficient"]),
        (HALF, T4, 64, 0.1, ["efficient"]),
        (HALF, V100, 64, 0.0, ["efficient"]),
        (BF16, T4, 64, 0.0, []),
        (torch.float64, H100, 64, 0.0, []),
    ],
)
def test_which_kernels_take_a_call(dtype, card, head_size, dropout, expected):
    assert candidates(dtype, card, head_size, dropout) == expected


@pytest.mark.parametrize(
    ("dtype", "card", "plain", "dropping"),
    [
        (BF16, H100, "varlen", "flash"),
        (HALF, T4, "efficient", "efficient"),
        (FP32, A100, "efficient", "efficient"),
        (torch.float64, A100, None, None),
    ],
)
def test_the_choice_on_a_card(dtype, card, plain, dropping):
    with stand_in_kernels(card):
        choice = kernels.choose(torch.device("cpu"), dtype, 64)
    assert (choice.plain, choice.dropping) == (plain, dropping)
    assert choice.kernel(0.0) == plain
    assert choice.kernel(0.5) == dropping


@pytest.mark.parametrize("name", ["varlen", "flash", "efficient"])
def test_the_installed_torch_has_the_calls_as_they_are_made(name):
    """Against the real schemas: a torch that changes them fails here, and falls back elsewhere."""
    assert kernels.has_schema(name)


def test_a_changed_schema_is_not_called(monkeypatch):
    monkeypatch.setattr(kernels, "FLASH_ARGUMENTS", [*kernels.FLASH_ARGUMENTS, "something_new"])
    assert not kernels.has_schema("flash")
    monkeypatch.setattr(kernels, "varlen_arguments", tuple)
    assert not kernels.has_schema("varlen")
    with stand_in_kernels():
        assert kernels.choose(torch.device("cpu"), BF16, 64).plain == "efficient"


def test_a_kernel_that_does_not_run_is_passed_over():
    """Without the stand-ins this processor has none of them."""
    forget_trials()
    assert not kernels.passes_trial("flash", torch.device("cpu"), BF16)
    assert not kernels.passes_trial("efficient", torch.device("cpu"), FP32)
    forget_trials()


def test_a_kernel_with_other_values_is_passed_over(stand_ins, monkeypatch):
    def wrong(query, key, value, ends, scaling, dropout, causal):
        return kernels.attend_by_flash(query, key, value, ends, scaling * 2, dropout, causal)

    monkeypatch.setitem(kernels.KERNELS, "varlen", wrong)
    choice = kernels.choose(torch.device("cpu"), BF16, 64)
    assert choice.plain == "flash"


def test_a_trial_draws_no_random_numbers(stand_ins):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    kernels.choose(torch.device("cpu"), BF16, 64)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("names", "is_causal", "options", "left"),
    [
        (("scale", "window_size"), True, {"scale": 0.5, "window_size": (-1, 0)}, None),
        (("scale", "window_size"), False, {"scale": 0.5}, None),
        (("is_causal", "scale"), True, {"scale": 0.5, "is_causal": True}, None),
        (("is_causal", "return_aux"), True, {"is_causal": True}, 0.5),
    ],
)
def test_varlen_attn_of_other_torches(monkeypatch, names, is_causal, options, left):
    monkeypatch.setattr(kernels, "varlen_arguments", lambda: names)
    assert kernels.varlen_options(0.5, is_causal) == (options, left)


def test_tensors_that_no_kernel_takes_are_refused(stand_ins):
    query = torch.randn(1, 2, 6, 8, dtype=torch.float64)
    ends = cumulated([6])
    with pytest.raises(ValueError, match=r"fp32, fp16 or bf16 .* got torch\.float64 on cpu"):
        VarlenAttention(Ends(ends, ends, 6, 6))(module(), query, query, query, None, scaling=1.0)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_shapes_by_torchs_own_registrations(size):
    """On the meta device, which knows shapes only, by what torch registers for its operators."""
    on = {"device": "meta", "requires_grad": True}
    query, key, value = (torch.empty(17, 4, size, dtype=BF16, **on) for _ in range(3))
    places = torch.empty(4, dtype=torch.int32, device="meta")
    ends = Ends(places, places, 9, 9)
    for name in ("varlen", "flash", "efficient"):
        made = kernels.KERNELS[name](query, key, value, ends, 0.1, 0.0, False)
        assert made.shape == (17, 4, size)
        assert made.dtype == BF16
        if name == "efficient":  # torch 2.13 registers no shapes of its gradient that can be called
            continue
        for gradient in torch.autograd.grad(made, (query, key, value), torch.empty_like(made)):
            assert gradient.shape == (17, 4, size)
