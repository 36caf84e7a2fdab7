"""Attention functions for sequences laid end to end on a GPU: one call a layer, without a mask.

They are made once a batch and serve all layers, forward and backward.

Shapes: `N` tokens, `B` batch, `H` heads, `T` targets, `D` head size.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .kernels import KERNELS, MULTIPLE, Choice, Ends, choose


def working_dtype(tensor_dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """In which precision torch's own attention would multiply here: autocast's, where it is on."""
    autocast = torch.is_autocast_enabled(device.type)
    if autocast and tensor_dtype in (torch.float32, torch.float16, torch.bfloat16):
        return torch.get_autocast_dtype(device.type)
    return tensor_dtype


@dataclass(frozen=True)
class VarlenAttention:
    """An attention function for `Attention`, for a batch whose sequences are laid end to end.

    Args:
        ends: of the sequences.
        choice: the kernels for the precision that is expected; another is looked up.
    """

    ends: Ends
    choice: Choice | None = None

    def __call__(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float,
        dropout: float = 0.0,
        **kwargs,
    ) -> tuple[torch.Tensor, None]:
        """`(B, H, T, D)` each to the context `(B, T, H, D)`; the weights are not given.

        Rows stand end to end: `B · T` is the number of tokens that the ends speak of.

        Raises:
            ValueError: no kernel of this torch and card takes the tensors.
        """
        rows = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value)]  # (N, H, D)
        dtype = working_dtype(query.dtype, query.device)
        choice = self.choice
        if choice is None or choice.dtype != dtype:
            choice = choose(query.device, dtype, query.shape[-1])
        name = choice.kernel(dropout)
        if name is None:
            raise ValueError(
                "attention of sequences laid end to end must have fp32, fp16 or bf16 tensors that "
                f"a kernel of this torch takes, got {dtype} on {query.device}; "
                "bertlite.use_backend(model, 'plain') computes padded rows"
            )
        size = query.shape[-1]
        rows = [filled_up(tensor.to(dtype)) for tensor in rows]
        ends = self.ends_on(query.device)
        context = KERNELS[name](*rows, ends, scaling, float(dropout), bool(module.is_causal))
        context = context[..., :size]
        return context.unflatten(0, (query.shape[0], query.shape[2])), None

    def ends_on(self, device: torch.device) -> Ends:
        """The ends, on the device of a layer: layers may lie on several."""
        ends = self.ends
        if ends.queries.device == device:
            return ends
        queries = ends.queries.to(device, non_blocking=True)
        keys = queries if ends.keys is ends.queries else ends.keys.to(device, non_blocking=True)
        return Ends(queries, keys, ends.longest_query, ends.longest_key)


def filled_up(heads: torch.Tensor) -> torch.Tensor:
    """`(N, H, D)` with D filled up by zeros to the next size that the kernels take.

    Zeros change neither the products of queries and keys nor, cut off again, the result; the
    scaling stays that of the real size.
    """
    missing = -heads.shape[-1] % MULTIPLE
    return nn.functional.pad(heads, (0, missing)) if missing else heads
