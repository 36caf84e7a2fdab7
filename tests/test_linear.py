"""The product of every linear layer, against torch's in double precision: values, gradients, where it steps aside."""

import pytest
import torch
from torch import nn

from bertlite.models.linear import Linear, linear

SHAPES = [(7, 6), (2, 7, 6), (1, 6), (1, 300, 6), (2, 0, 6), (0, 6), (6,)]
LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "every other": lambda x: torch.stack([x, x], dim=-1).flatten(-2)[..., ::2],
    "expanded": lambda x: x[..., :1].expand(x.shape),
}
LOSSES = {
    "sum": lambda y: y.sum(),  # its gradient is one number, expanded
    "squares": lambda y: (y**2).sum(),
    "one column": lambda y: y[..., 1].sum(),
}


def parameters(dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in ((5, 6), (5,))
    )  # weight, bias


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_equal_those_of_torch(shape, layout, loss):
    weight, bias = parameters()
    x = LAYOUTS[layout](torch.randn(shape, generator=torch.Generator().manual_seed(1))).detach().requires_grad_()
    exact = [each.detach().double().requires_grad_() for each in (x, weight, bias)]
    found, expected = linear(x, weight, bias), nn.functional.linear(*exact)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(LOSSES[loss](found), (x, weight, bias))
    wanted = torch.autograd.grad(LOSSES[loss](expected), exact)
    for gradient, right in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient.double(), right, atol=1e-4, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias).double(), expected, atol=1e-5, rtol=1e-5)


def test_gradients_are_computed_by_the_same_product():
    """The gain of training: no product of the backward pass is torch's own."""
    weight, bias = parameters()
    x = torch.randn(7, 6, requires_grad=True)
    with torch.profiler.profile() as profile:
        linear(x, weight, bias).sum().backward()
    called = {event.key: event.count for event in profile.key_averages()}
    assert called["mkldnn::_linear_pointwise"] == 3
    assert not {"aten::mm", "aten::addmm", "aten::linear"} & called.keys()


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_no_gradient_is_computed_for_what_is_frozen(frozen):
    weight, bias = parameters()
    given = {"x": torch.randn(7, 6, requires_grad=True), "weight": weight, "bias": bias}
    given[frozen].requires_grad_(False)
    linear(**given).sum().backward()
    assert [name for name, tensor in given.items() if tensor.grad is None] == [frozen]


def test_gradients_can_be_derived_again():
    """As a penalty on gradients does."""
    weight, bias = parameters()
    x = torch.randn(4, 6, requires_grad=True)
    exact = [each.detach().double().requires_grad_() for each in (x, weight, bias)]
    second = []
    for product, given in ((linear, (x, weight, bias)), (nn.functional.linear, exact)):
        (slope,) = torch.autograd.grad((product(*given) ** 3).sum(), given[0], create_graph=True)
        second.append(torch.autograd.grad((slope**2).sum(), given))
    for found, expected in zip(*second, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)


def test_other_ways_to_derive():
    """torch.func and forward mode take torch's own product, which knows them."""
    weight, bias = parameters()
    x, along = torch.randn(3, 2, 6), torch.randn(3, 2, 6)
    torch.testing.assert_close(torch.func.vmap(lambda row: linear(row, weight, bias))(x), linear(x, weight, bias))
    _, slope = torch.func.jvp(lambda rows: linear(rows, weight, bias), (x,), (along,))
    torch.testing.assert_close(slope, along @ weight.T)
    with torch.autograd.forward_ad.dual_level():
        dual = linear(torch.autograd.forward_ad.make_dual(x, along), weight, bias)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, along @ weight.T)


@pytest.mark.parametrize("gradient", [True, False])
def test_other_precisions_and_autocast_stay_torchs_own(gradient):
    layer, given = Linear(6, 5), torch.randn(2, 7, 6)
    with torch.set_grad_enabled(gradient):
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(given).dtype == torch.bfloat16
        expected = given.double() @ layer.weight.double().T + layer.bias.double()
        torch.testing.assert_close(layer.double()(given.double()), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("gradient", [True, False])
def test_a_wrong_width_is_torchs_error(gradient):
    with torch.set_grad_enabled(gradient), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Linear(6, 5)(torch.randn(7, 4))
