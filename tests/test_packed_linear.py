"""The products of frozen inference against plain ones in double precision."""

import pytest
import torch
from torch import nn

from bertlite.backends.cpu.packed_linear import (
    Int8Linear,
    PrepackedLinear,
    has_fast_int8,
    inner_bound,
    pack,
)

pytestmark = pytest.mark.processor

ROWS = pytest.mark.parametrize("rows", [1, 2, 17, 300])


def layers(*outputs: int, bias: bool = True) -> list[nn.Linear]:
    return [nn.Linear(48, size, bias=bias) for size in outputs]


def exact(linears: list[nn.Linear], inputs: torch.Tensor) -> torch.Tensor:
    double = inputs.double()
    parts = [double @ linear.weight.double().T for linear in linears]
    parts = [
        part if linear.bias is None else part + linear.bias
        for part, linear in zip(parts, linears, strict=True)
    ]
    return torch.cat(parts, -1)


def error(outputs: torch.Tensor, expected: torch.Tensor) -> float:
    return float((outputs.double() - expected).norm() / expected.norm())


@ROWS
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_prepacked_is_exact(rows, bias):
    linears, inputs = layers(48, 20, bias=bias), torch.randn(2, rows, 48)
    add = torch.randn(2, rows, 68)
    packed = PrepackedLinear(*linears)
    torch.testing.assert_close(
        packed(inputs).double(), exact(linears, inputs), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(
        packed(inputs, add).double(), exact(linears, inputs) + add, atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_without_onednn_it_is_a_plain_product(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    linears, inputs, add = layers(30), torch.randn(5, 48), torch.randn(5, 30)
    packed = PrepackedLinear(*linears)
    assert not packed.prepacked
    torch.testing.assert_close(
        packed(inputs, add).double(), exact(linears, inputs) + add, atol=1e-5, rtol=1e-5
    )
    with pytest.raises(ValueError, match="int8"):
        Int8Linear(*linears)


@torch.no_grad()
def test_bf16_rounds_and_no_more():
    linears, inputs = layers(64), torch.randn(33, 48)
    assert (
        error(
            PrepackedLinear(*linears, dtype=torch.bfloat16)(inputs.bfloat16()),
            exact(linears, inputs),
        )
        < 0.01
    )


@ROWS
@pytest.mark.parametrize("vnni", [True, False] if has_fast_int8() else [False])
@torch.no_grad()
def test_int8_is_close_whatever_another_row_holds(rows, vnni, monkeypatch):
    """8 bits a side: about 0.7 % off.

    With the seven bits that a processor without VNNI can add up, 1.1 %; such a processor cannot
    show the first.
    """
    monkeypatch.setattr("bertlite.backends.cpu.packed_linear.has_fast_int8", lambda: vnni)
    linears, inputs = layers(40, 64), torch.randn(rows, 48)
    inputs[0] *= 1000  # an outlier that must not coarsen the other rows
    packed, add = Int8Linear(*linears), torch.randn(rows, 104)
    expected = exact(linears, inputs)
    for row in range(rows):
        assert error(packed(inputs)[row], expected[row]) < (0.015 if vnni else 0.02)
    torch.testing.assert_close(packed(inputs, add), packed(inputs) + add)


@torch.no_grad()
def test_int8_is_exact_where_every_value_is_a_step():
    """Whole weights up to 127 (63 of seven bits), whole inputs up to 127: nothing is rounded."""
    levels = 127 if has_fast_int8() else 63
    linear = nn.Linear(8, 3)
    linear.weight.copy_(torch.randint(-levels, levels + 1, (3, 8)))
    linear.weight[:, 0] = levels
    inputs = torch.randint(-127, 128, (6, 8)).float()
    inputs[:, 1], inputs[:, 2] = -127, 127
    torch.testing.assert_close(
        Int8Linear(linear)(inputs).double(), exact([linear], inputs), rtol=1e-5, atol=1e-3
    )


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@torch.no_grad()
def test_a_known_lower_bound_loses_nothing(activation):
    linears, inputs = layers(64), getattr(nn.functional, activation)(torch.randn(50, 48))
    bound = inner_bound(activation)
    assert float(inputs.min()) >= bound
    bounded, unbounded = Int8Linear(*linears, lowest=bound), Int8Linear(*linears)
    assert bounded.quantize(inputs)[2] is None  # nothing to look for, nothing to add afterwards
    # Measured: 0.5 to 0.6 % of eight bits, 0.8 to 0.9 % of seven.
    assert error(bounded(inputs), exact(linears, inputs)) < (0.007 if has_fast_int8() else 0.012)
    torch.testing.assert_close(bounded(inputs), unbounded(inputs), atol=0.03, rtol=0)


@torch.no_grad()
def test_known_large_channels_cost_the_others_less():
    linears, sizes = layers(64), torch.ones(48)
    sizes[5] = 50
    inputs = torch.randn(100, 48) * sizes
    linears[0].weight[:, 5] /= 50
    expected = exact(linears, inputs)
    plain, smooth = Int8Linear(*linears), Int8Linear(*linears, channel_sizes=sizes)
    assert error(smooth(inputs), expected) < error(plain(inputs), expected) / 3


@torch.no_grad()
def test_rows_of_zeros_give_the_bias():
    linears = layers(10)
    for bound in (None, 0.0, -0.17):
        outputs = Int8Linear(*linears, lowest=bound)(torch.zeros(3, 48))
        torch.testing.assert_close(outputs, linears[0].bias.expand(3, -1), atol=2e-3, rtol=0)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="dtype must be .*'fp4'"):
        pack(*layers(3), dtype="fp4")
    with pytest.raises(ValueError, match="nn.Linear.*Embedding"):
        pack(nn.Embedding(3, 3))
    with pytest.raises(ValueError, match="at least one"):
        pack()
