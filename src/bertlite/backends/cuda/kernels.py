"""The ways in which torch attends to sequences laid end to end on a GPU, and the choice among them.

Three calls give the same. `varlen_attn` is public, and knows half precision without dropout. The
other two are the operators that torch's own attention of jagged tensors calls: flash attention with
dropout, and the memory-efficient one, which takes fp32 and older cards too. They are underscored,
so each is believed only after a look at its schema and a trial on three tokens, once a process.

Shapes: `N` tokens, `S` sequences, `H` heads, `D` head size.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from transformers.utils import logging

logger = logging.get_logger(__name__)

HALF = (torch.float16, torch.bfloat16)
AMPERE = (8, 0)  # the first capability with flash attention, and with bf16
MULTIPLE = 8  # of which a head's size must be one; others are filled up with zeros
LARGEST_HEAD = 256  # of flash attention
LARGEST_DROPPED_HEAD = 192  # above it, the gradient with dropout needs the largest cards
CAUSAL_FROM_TOP_LEFT = 1  # `custom_mask_type` of the efficient operator: 0 is no mask

# What the operators must look like, up to the last argument that is given here.
FLASH_ARGUMENTS = [
    *("query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k"),
    *("dropout_p", "is_causal", "return_debug_mask"),
]
EFFICIENT_ARGUMENTS = [
    *("query", "key", "value", "bias", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q"),
    *("max_seqlen_k", "dropout_p", "custom_mask_type", "compute_log_sumexp"),
]


@dataclass(frozen=True)
class Ends:
    """Where sequences begin and end, for queries and for keys.

    Args:
        queries: `(S + 1,)` int32, from 0 to the number of queries.
        keys: `(S + 1,)` int32, the same tensor where a sequence attends to itself.
        longest_query: of a sequence, known on the host.
        longest_key: likewise.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    longest_query: int
    longest_key: int


Kernel = Callable[..., torch.Tensor]  # (query, key, value, ends, scaling, dropout, causal)


def attend_by_varlen(query, key, value, ends: Ends, scaling: float, dropout: float, causal: bool):
    """By the public function; half precision, no dropout."""
    from torch.nn.attention.varlen import varlen_attn

    options, left = varlen_options(scaling, causal)
    if left is not None:  # a torch whose function has a scale of its own only
        query = query * (left * query.shape[-1] ** 0.5)
    longest = (ends.longest_query, ends.longest_key)
    return varlen_attn(query, key, value, ends.queries, ends.keys, *longest, **options)


def varlen_options(scaling: float, causal: bool) -> tuple[dict, float | None]:
    """What `varlen_attn` of the torch at hand is told by name, and the scaling if it takes none."""
    known = varlen_arguments()
    options: dict = {}
    if "scale" in known:
        options["scale"] = scaling
    if causal and "window_size" in known:
        options["window_size"] = (-1, 0)
    elif causal:
        options["is_causal"] = True
    return options, None if "scale" in known else scaling


@torch.compiler.assume_constant_result
def varlen_arguments() -> tuple[str, ...]:
    """The arguments of this torch's `varlen_attn`; none where there is no such function."""
    return read_varlen_arguments()


@functools.cache
def read_varlen_arguments() -> tuple[str, ...]:
    """As `varlen_arguments`, which a compiler takes for a constant."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return ()
    return tuple(inspect.signature(varlen_attn).parameters)


def attend_by_flash(query, key, value, ends: Ends, scaling: float, dropout: float, causal: bool):
    """By flash attention's operator; half precision."""
    return torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        ends.queries,
        ends.keys,
        ends.longest_query,
        ends.longest_key,
        dropout,
        causal,
        False,
        scale=scaling,
    )[0]


def attend_by_efficient(
    query, key, value, ends: Ends, scaling: float, dropout: float, causal: bool
):
    """By the memory-efficient operator; any precision up to fp32."""
    inputs = [tensor.unsqueeze(0) for tensor in (query, key, value)]  # (1, N, H, D)
    needs_gradient = torch.is_grad_enabled() and any(each.requires_grad for each in inputs)
    return torch.ops.aten._efficient_attention_forward(
        *inputs,
        None,
        ends.queries,
        ends.keys,
        ends.longest_query,
        ends.longest_key,
        dropout,
        CAUSAL_FROM_TOP_LEFT if causal else 0,
        needs_gradient,
        scale=scaling,
    )[0].squeeze(0)


KERNELS: dict[str, Kernel] = {
    "varlen": attend_by_varlen,
    "flash": attend_by_flash,
    "efficient": attend_by_efficient,
}


def candidates(
    dtype: torch.dtype, capability: tuple[int, int], head_size: int, dropout: float
) -> list[str]:
    """The kernels that take such a call, best first.

    >>> candidates(torch.bfloat16, (9, 0), 64, 0.1)
    ['flash', 'efficient']
    >>> candidates(torch.float32, (7, 5), 64, 0.0)
    ['efficient']
    """
    modern = capability >= AMPERE
    if dtype not in (*HALF, torch.float32) or (dtype == torch.bfloat16 and not modern):
        return []
    names = ["efficient"]
    if dtype in HALF and modern and head_size <= LARGEST_HEAD:
        if dropout == 0:
            names = ["varlen", "flash", "efficient"]
        elif head_size <= LARGEST_DROPPED_HEAD:
            names = ["flash", "efficient"]
    return names


def has_schema(name: str) -> bool:
    """Whether this torch has the call of kernel `name`, in the form in which it is made."""
    if name == "varlen":
        known, wanted = list(varlen_arguments()), ["query", "key", "value", "cu_seq_q", "cu_seq_k"]
        return known[: len(wanted)] == wanted and not {"window_size", "is_causal"}.isdisjoint(known)
    operator, wanted = {
        "flash": ("_flash_attention_forward", FLASH_ARGUMENTS),
        "efficient": ("_efficient_attention_forward", EFFICIENT_ARGUMENTS),
    }[name]
    if not hasattr(torch.ops.aten, operator):
        return False
    arguments = getattr(torch.ops.aten, operator).default._schema.arguments
    positional = [each.name for each in arguments if not each.kwarg_only]
    named = [each.name for each in arguments if each.kwarg_only]
    return positional == wanted and "scale" in named


@dataclass(frozen=True)
class Choice:
    """The kernels for tensors of one precision, by name; None: none fits."""

    dtype: torch.dtype
    plain: str | None
    dropping: str | None

    def kernel(self, dropout: float) -> str | None:
        """The one for a dropout of attention weights."""
        return self.dropping if dropout > 0 else self.plain


@functools.cache
def choose(device: torch.device, dtype: torch.dtype, head_size: int) -> Choice:
    """The kernels that this torch and this card have, tried.

    Args:
        device: of the tensors.
        dtype: in which they will be multiplied, autocast considered.
        head_size: D.
    """
    head_size += -head_size % MULTIPLE
    found = []
    for dropout in (0.0, 0.1):
        names = candidates(dtype, capability_of(device), head_size, dropout)
        usable = (each for each in names if has_schema(each) and passes_trial(each, device, dtype))
        found.append(next(usable, None))
    return Choice(dtype, *found)


@functools.cache
def capability_of(device: torch.device) -> tuple[int, int]:
    """The compute capability of a GPU."""
    return torch.cuda.get_device_capability(device)


@functools.cache
def passes_trial(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kernel gives the formula's values and gradients for sequences of two and one."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            found = trial(KERNELS[name], device, dtype)
            expected = trial(attend_by_formula, device, torch.float32)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        logger.info(f"attention kernel {name} does not run in {dtype} on {device}: {error}")
        return False
    allowed = 1e-4 if dtype == torch.float32 else 3e-2
    far = max(float((a.float() - b).abs().max()) for a, b in zip(found, expected, strict=True))
    if not far <= allowed:
        logger.warning(
            f"attention kernel {name} of torch {torch.__version__} gives other values than the "
            f"formula in {dtype} on {device} (by {far:.1e}): it is not used"
        )
        return False
    return True


def trial(kernel: Kernel, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    """Values and gradients of a kernel on three tokens; no random numbers are drawn."""
    count, heads, size = 3, 2, 16
    numbers = torch.arange(3 * count * heads * size, device=device, dtype=torch.float32)
    inputs = numbers.mul(0.7).cos().to(dtype).view(3, count, heads, size)
    query, key, value = (each.clone().requires_grad_() for each in inputs)
    places = torch.tensor([0, 2, 3], dtype=torch.int32, device=device)
    with torch.autocast(device.type, enabled=False):
        made = kernel(query, key, value, Ends(places, places, 2, 2), 0.3, 0.0, False)
        gradients = torch.autograd.grad(made, (query, key, value), made.detach())
    return [made.detach(), *gradients]


def attend_by_formula(
    query, key, value, ends: Ends, scaling: float, dropout: float, causal: bool
) -> torch.Tensor:
    """The reference: `models.attention.eager_attention`, sequence by sequence."""
    from ...models.attention import eager_attention

    module: Any = SimpleNamespace(is_causal=causal, training=False)
    pieces = zip(
        query.split(ends.queries.diff().tolist()),
        key.split(ends.keys.diff().tolist()),
        value.split(ends.keys.diff().tolist()),
        strict=True,
    )
    made = []
    for piece in pieces:
        q, k, v = (tensor.transpose(0, 1)[None] for tensor in piece)  # (1, H, length, D)
        context, _ = eager_attention(module, q, k, v, None, scaling=scaling, dropout=dropout)
        made.append(context[0])
    return torch.cat(made)
