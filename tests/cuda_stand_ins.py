"""A GPU's attention kernels, slow and exact, for tests of the CUDA backend on a CPU.

The two operators of torch that the backend calls get an implementation for the CPU, forward and
backward, by torch's own registration: the calls, their schemas, their autograd formulas and the
public `varlen_attn` above them are the real ones. `WaitCounter` counts what would make a program
wait for a GPU.

Shapes: `N` tokens, `H` heads, `D` head size.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bertlite.backends.cuda import kernels
from bertlite.backends.cuda.backend import CudaBackend
from bertlite.models import seam

HALF = (torch.float16, torch.bfloat16)


class StandInBackend(CudaBackend):
    """The CUDA backend for models on a CPU."""

    name = "cuda"
    device_type = "cpu"


def use_stand_in(model: torch.nn.Module, backend: CudaBackend | None = None) -> torch.nn.Module:
    """Let all models in `model` take the stand-in; they share one, as on a GPU."""
    backend = backend or StandInBackend()
    for module in model.modules():
        if hasattr(module, "backend_choice"):
            module.backend_choice = backend
            module.installed = ()  # nothing to fall back on but the plain core
    return model


def spans(cu_q: torch.Tensor, cu_k: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """The queries and the keys of each sequence."""
    queries, keys = cu_q.tolist(), cu_k.tolist()
    for number in range(len(queries) - 1):
        yield (
            slice(queries[number], queries[number + 1]),
            slice(keys[number], keys[number + 1]),
        )


def weights_of(q, k, dropout, causal, scale, generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention weights `(H, T, S)` before dropout, and what dropout multiplies them by."""
    scores = torch.einsum("thd,shd->hts", q, k) * scale
    if causal:
        after = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(after, float("-inf"))
    kept = torch.rand(scores.shape, generator=generator) >= dropout
    return scores.softmax(-1), kept / (1 - dropout)


def attend(query, key, value, cu_q, cu_k, dropout, causal, scale, seed) -> torch.Tensor:
    """The formula in fp32, sequence by sequence, `(N, H, D)`; the same seed drops the same."""
    generator = torch.Generator().manual_seed(int(seed))
    made = torch.full_like(query, float("nan"))  # where no sequence is, nobody may look
    for rows, seen in spans(cu_q, cu_k):
        q, k, v = query[rows].float(), key[seen].float(), value[seen].float()
        weights, kept = weights_of(q, k, dropout, causal, scale, generator)
        made[rows] = torch.einsum("hts,shd->thd", weights * kept, v).to(query.dtype)
    return made


def gradients(grad_out, query, key, value, cu_q, cu_k, dropout, causal, scale, seed):
    """The gradients of `attend`, written out: autograd is below the operators."""
    generator = torch.Generator().manual_seed(int(seed))
    made = tuple(torch.zeros_like(tensor) for tensor in (query, key, value))
    for rows, seen in spans(cu_q, cu_k):
        q, k, v = query[rows].float(), key[seen].float(), value[seen].float()
        weights, kept = weights_of(q, k, dropout, causal, scale, generator)
        g = grad_out[rows].float()
        of_weights = torch.einsum("thd,shd->hts", g, v) * kept
        of_scores = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True)) * scale
        made[0][rows] = torch.einsum("hts,shd->thd", of_scores, k).to(query.dtype)
        made[1][seen] = torch.einsum("hts,thd->shd", of_scores, q).to(query.dtype)
        made[2][seen] = torch.einsum("hts,thd->shd", weights * kept, g).to(query.dtype)
    return made


class Kernels:
    """The stand-ins, and how often each was called."""

    def __init__(self):
        self.calls = {"flash": 0, "efficient": 0}
        self.seed = 0

    def next_seed(self) -> torch.Tensor:
        self.seed += 1
        return torch.tensor(self.seed)

    def check(self, query, key, cu_q, cu_k, max_q, max_k) -> None:
        """What the real kernels ask for and do not always say."""
        assert cu_q.dtype == cu_k.dtype == torch.int32
        assert query.shape[-1] % 8 == 0
        assert query.stride(-1) == 1
        assert max_q >= int(cu_q.diff().max())
        assert max_k >= int(cu_k.diff().max())
        assert int(cu_q[-1]) <= query.shape[-3]
        assert int(cu_k[-1]) <= key.shape[-3]

    def flash(
        self,
        query,
        key,
        value,
        cu_q,
        cu_k,
        max_q,
        max_k,
        dropout,
        causal,
        debug,
        *,
        scale=None,
        **_,
    ):
        self.calls["flash"] += 1
        assert query.dtype in HALF
        self.check(query, key, cu_q, cu_k, max_q, max_k)
        seed = self.next_seed()
        made = attend(query, key, value, cu_q, cu_k, dropout, causal, scale, seed)
        lse = torch.zeros(query.shape[1], query.shape[0])
        return made, lse, seed, torch.zeros(()), torch.zeros(())

    def flash_backward(
        self,
        grad_out,
        query,
        key,
        value,
        out,
        logsumexp,
        cu_q,
        cu_k,
        max_q,
        max_k,
        dropout,
        causal,
        rng_state,
        unused,
        *,
        scale=None,
        **_,
    ):
        seed = rng_state if rng_state.ndim == 0 else 0  # `varlen_attn` has no dropout
        options = (cu_q, cu_k, dropout, causal, scale, seed)
        return gradients(grad_out, query, key, value, *options)

    def efficient(
        self,
        query,
        key,
        value,
        bias,
        cu_q,
        cu_k,
        max_q,
        max_k,
        dropout,
        mask_type,
        log_sumexp=False,
        *,
        scale=None,
        **_,
    ):
        self.calls["efficient"] += 1
        self.check(query, key, cu_q, cu_k, max_q, max_k)
        seed = self.next_seed()
        rows = (query[0], key[0], value[0])
        made = attend(*rows, cu_q, cu_k, dropout, mask_type == 1, scale, seed)[None]
        lse = torch.zeros(len(cu_q) - 1, query.shape[2], max_q if log_sumexp else 0)
        return made, lse, seed, torch.zeros((), dtype=torch.long), max_q, max_k

    def efficient_backward(
        self,
        grad_out,
        query,
        key,
        value,
        bias,
        out,
        cu_q,
        cu_k,
        max_q,
        max_k,
        logsumexp,
        dropout,
        seed,
        offset,
        mask_type,
        bias_grad,
        *,
        scale=None,
        **_,
    ):
        assert logsumexp.shape[-1], "the gradient needs what the forward was not asked to keep"
        rows = (query[0], key[0], value[0])
        options = (cu_q, cu_k, dropout, mask_type == 1, scale, seed)
        made = gradients(grad_out[0], *rows, *options)
        return *(each[None] for each in made), torch.zeros(())


@contextmanager
def stand_in_kernels(capability: tuple[int, int] = (9, 0)) -> Iterator[Kernels]:
    """Torch's operators run on a CPU, which is taken for a card of this capability."""
    library, stand_in = torch.library.Library("aten", "IMPL"), Kernels()
    for name, function in (
        ("_flash_attention_forward", stand_in.flash),
        ("_flash_attention_backward", stand_in.flash_backward),
        ("_efficient_attention_forward", stand_in.efficient),
        ("_efficient_attention_backward", stand_in.efficient_backward),
    ):
        library.impl(name, function, "CPU")
    real, kernels.capability_of = kernels.capability_of, lambda device: capability
    others, seam.installed_backends = seam.installed_backends, lambda: ()
    forget_trials()
    try:
        yield stand_in
    finally:
        kernels.capability_of = real
        seam.installed_backends = others
        library._destroy()
        forget_trials()


def forget_trials() -> None:
    """Let kernels be tried again."""
    kernels.choose.cache_clear()
    kernels.passes_trial.cache_clear()


# Operators after which a program has waited for the GPU to know a number or a size.
WAITING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "bincount",
    "_unique2",
    "unique_consecutive",
    "repeat_interleave",
}


class WaitCounter(TorchDispatchMode):
    """Counts what would wait for a GPU; the kernels themselves are not looked into."""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []
        self.inside = False

    def __enter__(self):
        self.tolist, self.numpy = torch.Tensor.tolist, torch.Tensor.numpy
        counter = self

        def tolist(tensor):
            counter.count("tolist")
            return counter.tolist(tensor)

        def numpy(tensor, **kwargs):
            counter.count("numpy")
            return counter.numpy(tensor, **kwargs)

        torch.Tensor.tolist, torch.Tensor.numpy = tolist, numpy
        return super().__enter__()

    def __exit__(self, *error):
        torch.Tensor.tolist, torch.Tensor.numpy = self.tolist, self.numpy
        return super().__exit__(*error)

    def count(self, what: str) -> None:
        if not self.inside:
            self.waits.append(what)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in WAITING:
            self.count(name)
        if name in ("index", "index_put", "index_put_"):
            indices = [each for each in args[1] if each is not None]
            if any(each.dtype in (torch.bool, torch.uint8) for each in indices):
                self.count(f"{name} by a mask")
        was, self.inside = self.inside, True
        try:
            return function(*args, **(kwargs or {}))
        finally:
            self.inside = was
