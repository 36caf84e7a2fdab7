"""The product of every linear layer, against torch's in double precision.

Values, gradients, where it steps aside, how layers are given it.

And dropout: the share, the scale, the independence of what is dropped, by statistics.
"""

import copy
import pickle

import pytest
import torch
from torch import nn

from bertlite.backends.cpu.linear import attach, detach, drop, linear

pytestmark = pytest.mark.processor

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


def attached(layer: nn.Module) -> nn.Module:
    attach(layer)
    return layer


def parameters(dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(shape, generator=generator).to(dtype).requires_grad_()
        for shape in ((5, 6), (5,))
    )  # weight, bias


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_equal_those_of_torch(shape, layout, loss):
    weight, bias = parameters()
    x = (
        LAYOUTS[layout](torch.randn(shape, generator=torch.Generator().manual_seed(1)))
        .detach()
        .requires_grad_()
    )
    exact = [each.detach().double().requires_grad_() for each in (x, weight, bias)]
    found, expected = linear(x, weight, bias), nn.functional.linear(*exact)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(LOSSES[loss](found), (x, weight, bias))
    wanted = torch.autograd.grad(LOSSES[loss](expected), exact)
    for gradient, right in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient.double(), right, atol=1e-4, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias).double(), expected, atol=1e-5, rtol=1e-5)


def test_each_product_is_computed_where_it_is_fast():
    """By oneDNN, but for the weight's gradient, whose inputs oneDNN would turn round first."""
    weight, bias = parameters()
    x = torch.randn(7, 6, requires_grad=True)
    with torch.profiler.profile() as profile:
        linear(x, weight, bias).sum().backward()
    called = {event.key: event.count for event in profile.key_averages()}
    assert called["mkldnn::_linear_pointwise"] == 2
    assert called["aten::mm"] == 1
    assert not {"aten::addmm", "aten::linear"} & called.keys()


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
    torch.testing.assert_close(
        torch.func.vmap(lambda row: linear(row, weight, bias))(x), linear(x, weight, bias)
    )
    _, slope = torch.func.jvp(lambda rows: linear(rows, weight, bias), (x,), (along,))
    torch.testing.assert_close(slope, along @ weight.T)
    with torch.autograd.forward_ad.dual_level():
        dual = linear(torch.autograd.forward_ad.make_dual(x, along), weight, bias)
        torch.testing.assert_close(
            torch.autograd.forward_ad.unpack_dual(dual).tangent, along @ weight.T
        )


@pytest.mark.parametrize("gradient", [True, False])
def test_other_precisions_and_autocast_stay_torchs_own(gradient):
    layer, given = attached(nn.Linear(6, 5)), torch.randn(2, 7, 6)
    with torch.set_grad_enabled(gradient):
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(given).dtype == torch.bfloat16
        expected = given.double() @ layer.weight.double().T + layer.bias.double()
        torch.testing.assert_close(layer.double()(given.double()), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("gradient", [True, False])
def test_a_wrong_width_is_torchs_error(gradient):
    with (
        torch.set_grad_enabled(gradient),
        pytest.raises(RuntimeError, match="shapes cannot be multiplied"),
    ):
        attached(nn.Linear(6, 5))(torch.randn(7, 4))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.002])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dropout_drops_a_share_and_scales_the_rest(p, dtype):
    torch.manual_seed(0)
    x = torch.ones(1001, 1003, dtype=dtype)  # no multiple of four
    made = drop(x, p, training=True)
    assert made.shape == x.shape
    assert made.dtype == dtype
    kept = made != 0
    spread = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float(kept.double().mean()) - (1 - p)) < 5 * spread + 1 / 65536
    assert torch.equal(made[kept].unique(), made[kept][:1])  # one scale for all
    assert abs(float(made[kept][0]) * (1 - p) - 1) < (1e-4 if dtype != torch.bfloat16 else 5e-3)


def test_dropout_is_independent_in_neighbours_and_between_calls():
    """Chi-square over the 16 patterns of four neighbours, which share a random number, and of four
    calls.
    """
    torch.manual_seed(0)
    masks = torch.stack(
        [drop(torch.ones(1 << 16), 0.3, training=True) != 0 for _ in range(4)]
    ).long()  # (4, 65536)
    weights = torch.tensor([1, 2, 4, 8])
    ones = torch.tensor([bin(pattern).count("1") for pattern in range(16)])
    share = 0.7**ones * 0.3 ** (4 - ones)
    for patterns in (masks.view(-1, 4) @ weights, weights @ masks):
        expected = share * len(patterns)
        found = torch.bincount(patterns, minlength=16)
        assert (
            float(((found - expected) ** 2 / expected).sum()) < 37.7
        )  # 15 degrees of freedom: 1 in 1000


def test_dropout_repeats_with_its_seed_and_its_gradient_is_its_mask():
    x = torch.randn(50, 7, requires_grad=True)
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(attached(nn.Dropout(0.5))(x))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    (slope,) = torch.autograd.grad(made[0].sum(), x)
    torch.testing.assert_close(slope * x, made[0])


@pytest.mark.parametrize("p", [1e-6, 1e-3, 1 - 1e-3])
def test_dropout_of_almost_nothing_and_almost_all_is_torchs(p):
    """Where 1/65536 is too coarse a step."""
    x, made = torch.randn(1000, 1000), []
    for function in (drop, lambda x, p, training: nn.functional.dropout(x, p, training)):
        torch.manual_seed(0)
        made.append(function(x, p, training=True))
    torch.testing.assert_close(*made, rtol=0, atol=0)


def test_dropout_steps_aside():
    """No dropout in evaluation, and torch's own where only that is right."""
    x = torch.randn(4, 6)
    assert attached(nn.Dropout(0.5)).eval()(x) is x
    assert drop(x, 0.0, training=True).equal(x)
    assert not drop(x, 1.0, training=True).any()
    rows = torch.func.vmap(lambda row: drop(row, 0.5, training=True), randomness="different")(
        torch.ones(4, 100)
    )
    assert not torch.equal(rows[0], rows[1])
    assert drop(torch.ones(0, 3), 0.5, training=True).shape == (0, 3)


class OwnLinear(nn.Linear):
    """A user's subclass."""

    def forward(self, x):
        return super().forward(x) + 1


def test_layers_keep_their_type_and_parameters_and_can_have_their_own_forward_back():
    model = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), OwnLinear(5, 5)).eval()
    x, before = torch.randn(3, 6), dict(model.state_dict())
    expected = model(x)
    attach(attached(model))
    assert [type(layer) for layer in model] == [nn.Linear, nn.Dropout, OwnLinear]
    assert model.state_dict().keys() == before.keys()
    assert "forward" in vars(model[0])
    assert "forward" not in vars(model[2])
    torch.testing.assert_close(model(x), expected)
    detach(model)
    assert not any("forward" in vars(layer) for layer in model)
    assert torch.equal(model(x), expected)


def test_a_forward_that_somebody_else_has_put_there_stays():
    layer = nn.Linear(6, 5)
    layer.forward = own = lambda x: x
    detach(attached(layer))
    assert layer.forward is own


@pytest.mark.parametrize("way", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_multiplies_by_its_own_weight(way):
    layer, x = attached(nn.Linear(6, 5)), torch.randn(3, 6)
    before, copied = layer(x), way(layer)
    nn.init.zeros_(copied.weight)
    torch.testing.assert_close(copied(x), layer.bias.expand(3, -1))
    assert torch.equal(layer(x), before)


def test_exchanged_weights_are_the_ones_that_multiply():
    layer, x = attached(nn.Linear(6, 5)), torch.randn(3, 6)
    layer.weight, layer.bias = nn.Parameter(torch.ones(5, 6)), None
    torch.testing.assert_close(layer(x), x.sum(-1, keepdim=True).expand(-1, 5))


def test_dropout_in_place_stays_in_place():
    layer, x = attached(nn.Dropout(0.5, inplace=True)), torch.ones(1000)
    assert layer(x) is x
    assert 300 < (x == 0).sum() < 700
