"""`bertlite.optimize(model, backend="auto")`: for each batch the engine that was fastest here.

Our packed layers leave padding out; ONNX Runtime and OpenVINO have less to do around a small
product. Which is faster depends on processor, threads and sizes, so it is measured once, on this
machine, for rows of equal length. A batch with padding costs us less in proportion, and others not.
"""

import importlib.util
import itertools
import math
import threading
import time
from typing import Any

import torch
from torch import nn

from ...models.inputs import TextBatch
from ..base import Backend
from ..cpu.packed_backend import PackedBackend, optimize_on_cpu
from ..frozen import FrozenEncoder
from .backend import ENGINES, EngineBackend, check_engine

ROWS, LENGTHS = (1, 8, 32), (16, 128, 512)
SECONDS = 8.0  # that an encoder is measured for, at most
TURNS = 20  # of each size, alternated; at least two, of which the first is not quick yet
AHEAD = 0.95  # of our time that another engine may take to be chosen
Size = tuple[int, int]


class MeasuredBackend(FrozenEncoder, Backend):
    """One frozen encoder, by whichever backend was fastest at the size of the batch.

    Args:
        encoder: of the core, optimised by us.
        ours: the packed backend.
        engines: the others.
    """

    def __init__(self, encoder: Any, ours: PackedBackend, engines: list[EngineBackend]):
        self.freeze(encoder)
        self.ours, self.engines = ours, engines
        self.table: dict[Size, dict[str, float]] = {}  # seconds by rows and length, and by name
        self.chosen = threading.local()  # by the thread that asked, until it computes

    def __getstate__(self) -> dict:
        return {name: each for name, each in vars(self).items() if name != "chosen"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state, chosen=threading.local())

    @property
    def taken(self) -> Any:
        """The backend that was chosen last in this thread."""
        return getattr(self.chosen, "backend", self.ours)

    @taken.setter
    def taken(self, backend: Any) -> None:
        self.chosen.backend = backend

    @property
    def name(self) -> str:
        """That of the backend that was chosen last."""
        return f"auto ({self.taken.name})"

    def serves(self, device: torch.device) -> bool:
        return self.ours.serves(device)

    def prepare(self, model: nn.Module) -> None:
        self.ours.prepare(model)

    def restore(self, model: nn.Module) -> None:
        self.ours.restore(model)

    def unsupported(self, work: str, model: nn.Module, **wanted: Any) -> list[str]:
        self.taken = self.ours
        if work == "encode":
            chosen = self.fastest(wanted["batch"])
            if chosen is not self.ours and not chosen.unsupported(work, model, **wanted):
                self.taken = chosen
                return []
        return self.ours.unsupported(work, model, **wanted)

    def encode(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        return self.taken.encode(encoder, batch, positions, **kwargs)

    def encode_with_first(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.taken.encode_with_first(encoder, batch, positions, **kwargs)

    def decoding_method(self):
        return self.ours.decoding_method()

    def count_of(self, positions: torch.Tensor) -> int | None:
        return self.ours.count_of(positions)

    def fastest(self, batch: TextBatch) -> Any:
        """The backend for a batch."""
        if not self.table:
            return self.ours
        rows, length = batch.shape
        found = self.table[nearest(self.table, rows, length)]
        mask = batch.attention_mask
        real = 1.0 if mask is None else float(mask.ne(0).sum()) / mask.numel()
        best = min(self.engines, key=lambda each: found[each.name])
        return best if found[best.name] < AHEAD * real * found[self.ours.name] else self.ours

    def measure(self, seconds: float = SECONDS) -> None:
        """Fill the table, from the smallest size on, as far as `seconds` allow.

        What is larger is done by us, who are ahead there.
        """
        backends, end, spent = [self.ours, *self.engines], time.perf_counter() + seconds, 0.0
        sizes = sorted(itertools.product(ROWS, LENGTHS), key=math.prod)
        limit, earlier = self.encoder.config.max_position_embeddings, 1
        for rows, length in sizes:
            expected = spent * rows * length / earlier  # seconds of a turn of each
            if length > limit or time.perf_counter() + expected > end:
                continue
            self.table[rows, length] = self.times(backends, rows, length, seconds / len(sizes))
            spent, earlier = sum(self.table[rows, length].values()), rows * length

    def times(
        self, backends: list[Any], rows: int, length: int, seconds: float
    ) -> dict[str, float]:
        """The shortest time of each, in seconds, of as many turns as fit into `seconds`."""
        ids = torch.arange(rows * length).view(rows, length) % self.encoder.config.vocab_size
        batch = self.encoder.make_batch(ids, None, None, None, None, None, None)
        found, end = {each.name: math.inf for each in backends}, time.perf_counter() + seconds
        with torch.inference_mode():
            for turn in range(TURNS):
                for each in backends:
                    begin = time.perf_counter()
                    each.encode(self.encoder, batch, None)
                    found[each.name] = min(found[each.name], time.perf_counter() - begin)
                if turn and time.perf_counter() > end:
                    break
        return found


def nearest(table: dict[Size, Any], rows: int, length: int) -> Size:
    """The size in a table that is nearest to another, in factors."""
    return min(
        table,
        key=lambda size: abs(math.log(size[0] / rows)) + abs(math.log(size[1] / length)),
    )


def optimize_by_measuring(model: nn.Module, dtype: str | None) -> nn.Module:
    """As `backends.frozen.optimize`, by whichever is fastest of ours and what is installed."""
    encoders = check_engine(model, dtype)
    optimize_on_cpu(model, dtype)
    installed = [
        kind
        for name, kind in ENGINES.items()
        if importlib.util.find_spec(name) and importlib.util.find_spec("onnx")
    ]
    for encoder in encoders:
        engines = [kind(encoder, spinning=False) for kind in installed]
        engines = [each for each in engines if not each.against_graph()]
        chosen = MeasuredBackend(encoder, encoder.backend_choice, engines)
        chosen.trainable = encoder.backend_choice.trainable
        if engines and list(encoder.stack.layers):
            chosen.measure()
        encoder.backend_choice = chosen
    return model
