"""The int8 product of a decoding step, where a batch has few rows and each call counts.

Shapes: `N` rows, `I` inputs, `O` outputs.
"""

import torch
from torch import nn

from .packed_linear import has_fast_int8, joined


class FewRowsInt8Linear:
    """x Wᵀ + b in int8 by FBGEMM, which quantises the inputs, multiplies and scales back in one
    call.

    `bertlite.backends.cpu.packed_linear.Int8Linear` does that in ten calls, which cost more than
    the product at one row. As there, each row and each output has a scale of its own: rows are
    brought to the same range first, so that one step for all of them fits each, and what is written
    for a text does not depend on its neighbours.

    Args:
        linears: layers that read the same input; their outputs come side by side.
        lowest: a bound below which no input lies, such as 0 after ReLU and -0.17 after GELU: all
            steps then lie above it. None: inputs of any sign.
    """

    def __init__(self, *linears: nn.Linear, lowest: float | None = None):
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            raise ValueError(
                "dtype 'int8' must have FBGEMM's products, which this torch was built without"
            )
        weight, self.bias = joined(list(linears))  # (O, I), (O,)
        levels = (
            255 if has_fast_int8() else 127
        )  # products of 8 and 8 bits overflow where pairs are added in 16
        self.lowest = lowest
        self.step, self.zero = (
            (1 / (levels // 2), levels // 2) if lowest is None else (1 / levels, 0)
        )
        scales = (
            (weight.abs().amax(1) / 127).clamp_(min=torch.finfo(torch.float32).tiny).double()
        )  # (O,)
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        engine = torch.backends.quantized.engine
        try:  # the engine in force when weights are packed is the one that multiplies them
            torch.backends.quantized.engine = "fbgemm"
            with torch.inference_mode(False), torch.no_grad():
                quantized = torch.quantize_per_channel(
                    weight.contiguous(), scales, zeros, 0, torch.qint8
                )
                self.packed = torch.ops.quantized.linear_prepack(quantized, None)
        finally:
            torch.backends.quantized.engine = engine
        if lowest is not None:  # what an input of `lowest` alone would give
            self.bias = self.bias + lowest * quantized.dequantize().sum(1)

    def __call__(self, inputs: torch.Tensor, add: torch.Tensor | None = None) -> torch.Tensor:
        """`(N, I)` to `(N, O)`; `add` `(N, O)` is added."""
        above = inputs if self.lowest is None else inputs - self.lowest
        sizes = inputs.abs() if self.lowest is None else above
        largest = sizes.amax(-1, keepdim=True).clamp_(min=1e-30)  # (N, 1)
        product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            above / largest, self.step, self.zero, self.packed
        )
        outputs = torch.addcmul(self.bias, product, largest, out=product)
        return outputs if add is None else outputs.add_(add)
