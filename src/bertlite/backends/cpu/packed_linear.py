"""Linear layers for frozen inference on a CPU.

Weights laid out once for the processor, in fp32, bf16 or int8.

They hold copies of the weights and know no gradient. The layer that they were made from stays as it
was.

Shapes: `N` rows, `I` inputs, `O` outputs.
"""

import os

import torch
from torch import nn

# oneDNN's instruction sets for x86: of AVX-512 each includes those before it.
BELOW_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")
ISA_ORDER = (
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
    "AVX512_CORE_BF16",
    "AVX512_CORE_FP16",
    "AVX512_CORE_AMX",
    "AVX512_CORE_AMX_FP16",
)
SMALLEST_GELU = 0.17  # gelu(x) > -0.17 for every x: shifted by it, the values of a row need no sign


def has_prepacked_products() -> bool:
    """Whether torch was built with oneDNN's prepacked products.

    Without them `PrepackedLinear` is a plain product.
    """
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def has_int8_products() -> bool:
    """Whether torch was built with oneDNN's int8 products."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")


def has_fast_int8() -> bool:
    """Whether int8 products are added up in 32 bits (VNNI or AMX), so that nothing saturates."""
    vnni = torch.cpu._is_vnni_supported() and isa_is_allowed("AVX512_CORE_VNNI")
    return vnni or (torch.cpu._is_amx_tile_supported() and isa_is_allowed("AVX512_CORE_AMX"))


def has_fast_bf16() -> bool:
    """Whether bfloat16 is multiplied by the processor itself (AVX-512 BF16 or AMX)."""
    bf16 = torch.cpu._is_avx512_bf16_supported() and isa_is_allowed("AVX512_CORE_BF16")
    return bf16 or (torch.cpu._is_amx_tile_supported() and isa_is_allowed("AVX512_CORE_AMX"))


def isa_is_allowed(name: str) -> bool:
    """Whether oneDNN may use an instruction set of AVX-512, which a user can hold it below.

    oneDNN reads `ONEDNN_MAX_CPU_ISA`, or `DNNL_MAX_CPU_ISA`, once a process:
    https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
    """
    most = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT"
    if most in BELOW_AVX512:
        return False
    # "ALL", "DEFAULT", or one that is newer than this list: no bound.
    return most not in ISA_ORDER or ISA_ORDER.index(name) <= ISA_ORDER.index(most)


def joined(linears: list[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight `(O, I)` and bias `(O,)` of layers that read the same input, side by side."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    missing = [linear.weight.new_zeros(linear.out_features) for linear in linears]
    biases = [
        none if linear.bias is None else linear.bias
        for none, linear in zip(missing, linears, strict=True)
    ]
    return weight, torch.cat([bias.detach() for bias in biases])


class PrepackedLinear:
    """x Wᵀ + b with the weight in oneDNN's blocked layout: no reordering on each call.

    Args:
        linears: layers that read the same input; their outputs come side by side.
        dtype: torch.float32, or torch.bfloat16, in which inputs then have to come and outputs are
            given.
        rows: for how many rows at a time the layout is chosen; every number works.
    """

    def __init__(self, *linears: nn.Linear, dtype: torch.dtype = torch.float32, rows: int = 512):
        weight, bias = joined(list(linears))
        self.weight, self.bias = weight.to(dtype), bias.to(dtype)
        self.prepacked = has_prepacked_products() and weight.device.type == "cpu"
        if dtype == torch.bfloat16 and not has_fast_bf16():
            self.prepacked = False  # oneDNN has no such product then, torch has
        if self.prepacked:
            with torch.inference_mode(False), torch.no_grad():
                self.weight = torch.ops.mkldnn._reorder_linear_weight(
                    self.weight.contiguous(), rows
                )

    def __call__(self, inputs: torch.Tensor, add: torch.Tensor | None = None) -> torch.Tensor:
        """`(..., I)` to `(..., O)`; `add` `(..., O)` is added in the same pass."""
        if not self.prepacked:
            outputs = nn.functional.linear(inputs, self.weight, self.bias)
            return outputs if add is None else outputs.add_(add)
        if add is None:
            return torch.ops.mkldnn._linear_pointwise.default(
                inputs, self.weight, self.bias, "none", [], ""
            )
        return torch.ops.mkldnn._linear_pointwise.binary(inputs, add, self.weight, self.bias, "add")


class Int8Linear:
    """x Wᵀ + b in int8.

    Each row of x and each output of W with a scale of its own, sums in 32 bits.

    One scale for all rows would be set by the largest value of the batch: in a BERT a single
    channel of a few tokens stands ten times above the rest, and everything else would be left with
    three or four bits. Three things more keep
    the bits for what matters: a row's 255 steps reach from its lowest to its highest value; after
    GELU or ReLU the lowest is known, and costs nothing; and where it is known how large the input's
    channels are, large ones are scaled down and their weights up (SmoothQuant, Xiao et al. 2023,
    https://arxiv.org/abs/2211.10438, equation 4, α = 1/2).

    Where the processor adds pairs of products up in 16 bits (AVX2, AVX-512 without VNNI), weights
    keep seven bits: 255 · 63 twice fits, 255 · 127 twice would be cut off.

    Args:
        linears: layers that read the same input; their outputs come side by side.
        lowest: a bound below which no input lies, such as 0 after ReLU and -0.17 after GELU; None:
            inputs of any sign.
        channel_sizes: `(I,)`, how large each channel of the input gets, on whatever scale; None:
            not known.
    """

    def __init__(
        self,
        *linears: nn.Linear,
        lowest: float | None = None,
        channel_sizes: torch.Tensor | None = None,
    ):
        if not has_int8_products():
            raise ValueError(
                "dtype 'int8' must have torch's oneDNN products, which this torch was built without"
            )
        weight, bias = joined(list(linears))
        weight, bias = weight.float(), bias.float()
        tiny = torch.finfo(torch.float32).tiny
        self.smoothing = None
        if channel_sizes is not None:
            scales = (
                (channel_sizes.float() / weight.abs().amax(0).clamp(min=1e-6))
                .clamp(min=1e-6)
                .sqrt()
            )  # (I,)
            scales /= scales.log().mean().exp()
            self.smoothing, weight = scales.reciprocal(), weight * scales
        levels = 127 if has_fast_int8() else 63
        self.scales = (weight.abs().amax(1) / levels).clamp_(min=tiny)  # (O,)
        rounded = (weight / self.scales[:, None]).round_()  # (O, I)
        self.lowest = lowest
        self.sums = self.scales * rounded.sum(1)  # (O,): what an input of ones would give
        self.bias = bias if lowest is None else bias + lowest * self.sums
        self.half = torch.full(
            (weight.shape[1],), 0.5
        )  # (I,): the conversion to whole steps cuts off
        self.zero_points = torch.zeros(len(weight), dtype=torch.int64)
        with torch.inference_mode(False), torch.no_grad():
            self.weight = torch.ops.onednn.qlinear_prepack(rounded.to(torch.int8), None)

    def quantize(
        self, inputs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """`(N, I)` to steps 0 to 254 `(N, I)`, the size of a step `(N, 1)`, and the lowest `(N, 1)`
        if not known.
        """
        inputs = inputs if self.smoothing is None else inputs * self.smoothing
        unknown = inputs.amin(-1, keepdim=True) if self.lowest is None else None  # (N, 1)
        lowest: torch.Tensor | float = unknown if unknown is not None else self.lowest or 0.0
        step = (inputs.amax(-1, keepdim=True) - lowest).clamp_(min=1e-30).div_(254)
        above = inputs - lowest
        torch.addcmul(self.half, above, step.reciprocal(), out=above)
        return (
            above.to(torch.int16).to(torch.uint8),
            step,
            unknown,
        )  # by way of int16: torch is four times as fast

    def __call__(self, inputs: torch.Tensor, add: torch.Tensor | None = None) -> torch.Tensor:
        """`(..., I)` to `(..., O)` in fp32; `add` `(..., O)` is added."""
        steps, step, lowest = self.quantize(inputs.reshape(-1, inputs.shape[-1]))
        options: tuple = (
            self.weight,
            self.scales,
            self.zero_points,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        product = torch.ops.onednn.qlinear_pointwise.default(steps, 1.0, 0, *options)  # (N, O)
        outputs = torch.addcmul(self.bias, product, step, out=product)
        if lowest is not None:
            outputs = outputs.addcmul_(self.sums, lowest)
        outputs = outputs.view(*inputs.shape[:-1], -1)
        return outputs if add is None else outputs.add_(add)


def pack(
    *linears: nn.Linear,
    dtype: str | None = None,
    lowest: float | None = None,
    channel_sizes: torch.Tensor | None = None,
) -> PrepackedLinear | Int8Linear:
    """The layers side by side as one product for frozen inference.

    Args:
        linears: `nn.Linear` layers that read the same input.
        dtype: None or "fp32", "bf16", or "int8" with activations quantised on the fly.
        lowest: as in `Int8Linear`, and so is `channel_sizes`; the other kinds do not need them.

    Raises:
        ValueError: another `dtype`, other layers, or int8 where torch has no such products.
    """
    wrong = [type(linear).__name__ for linear in linears if type(linear) is not nn.Linear]
    if wrong or not linears:
        raise ValueError(
            f"linears must be plain nn.Linear layers, at least one, got {wrong or 'none'}"
        )
    if dtype == "int8":
        return Int8Linear(*linears, lowest=lowest, channel_sizes=channel_sizes)
    if dtype not in (None, "fp32", "bf16"):
        raise ValueError(f"dtype must be None, 'fp32', 'bf16' or 'int8', got {dtype!r}")
    return PrepackedLinear(*linears, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32)


def inner_bound(activation: str) -> float | None:
    """A bound below the outputs of an activation function by its name; None: none is known."""
    return {"gelu": -SMALLEST_GELU, "relu": 0.0}.get(activation)


def normalized_sizes(norm: nn.Module | None) -> torch.Tensor | None:
    """How large each channel gets that comes out of a layer norm; None: it is none.

    Its shift and three times its scale.
    """
    if not isinstance(norm, nn.LayerNorm):
        return None
    sizes = 3 * norm.weight.detach().abs()
    return sizes if norm.bias is None else sizes + norm.bias.detach().abs()
