"""CUDA graphs over a few sizes: the launches of all layers recorded once, replayed by one call.

A batch of few tokens is bound by launches: a forward of a twelve-layer encoder is some two hundred
of them. A graph replays them together, over memory that stays where it is, so the number of tokens,
of sequences and the longest one are rounded up to a few values. The spare tokens are a sequence of
their own, which nobody reads.

Shapes: `N` tokens, `S` sequences, `E` hidden size.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from .kernels import Ends

SMALLEST = 16  # tokens and sequences that a graph has at least
MOST_TOKENS = 16_384  # above, launches take less time than their work
MOST_GRAPHS = 64  # kept; the one that was not used for longest is forgotten
WARM_UPS = 3  # runs before a recording, in which libraries choose their kernels


def rounded(tokens: int) -> int:
    """The size of the graph for so many tokens: at most an eighth more.

    >>> [rounded(each) for each in (3, 16, 17, 100, 129)]
    [16, 16, 18, 104, 144]
    """
    tokens = max(tokens, SMALLEST)
    step = 1 << max(tokens.bit_length() - 4, 0)
    return -(-tokens // step) * step


def power_of_two(number: int) -> int:
    """The next power of two from `number` on."""
    return 1 << max(number - 1, 0).bit_length()


@dataclass(frozen=True)
class Size:
    """The sizes of a graph."""

    tokens: int
    sequences: int
    longest: int

    @classmethod
    def of(cls, tokens: int, sequences: int, longest: int) -> "Size":
        """The graph for a batch; the spare tokens are one sequence more."""
        room = rounded(tokens)
        most = power_of_two(max(longest, room - tokens, SMALLEST))
        return cls(room, power_of_two(max(sequences + 1, SMALLEST)), most)


class CudaRecorder:
    """Records work on a GPU, to be replayed."""

    def __init__(self):
        # Graphs of one stream run one after the other, and share the memory of what is in between.
        self.pools: dict[int, Any] = {}

    def on(self, device: torch.device) -> AbstractContextManager:
        """Streams and graphs are those of this device, whichever is the process's current one."""
        return torch.cuda.device(device)

    def where(self) -> int:
        """What a recording belongs to: a stream, whose work comes in order."""
        return torch.cuda.current_stream().cuda_stream

    def record(self, work: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        """Record `work`: how to replay it, and where its result will lie."""
        here, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                work()
        here.wait_stream(side)
        graph, pool = torch.cuda.CUDAGraph(), self.pools.get(here.cuda_stream)
        # Other threads may go on using the GPU meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = work()
        self.pools.setdefault(here.cuda_stream, graph.pool())
        return graph.replay, result


@dataclass
class Recording:
    """A graph with its inputs and its result."""

    hidden_states: torch.Tensor  # (N, E)
    ends: torch.Tensor  # (S + 1,)
    replay: Callable[[], None]
    result: torch.Tensor  # (N, E)


class Graphs:
    """Runs layers by graphs, made when a size is met for the first time.

    Args:
        run: the layers: vectors `(N, E)` and `Ends` to vectors.
        recorder: records and replays.
    """

    def __init__(self, run: Callable[[torch.Tensor, Ends], torch.Tensor], recorder: Any = None):
        self.run = run
        self.recorder = CudaRecorder() if recorder is None else recorder
        self.kept: OrderedDict[tuple, Recording] = OrderedDict()
        self.recorded = 0  # how often one was made
        self.lock = threading.Lock()

    def __call__(self, hidden_states: torch.Tensor, ends: torch.Tensor, longest: int):
        """`(N, E)` to `(N, E)`; `ends` `(S + 1,)`."""
        tokens = len(hidden_states)
        if tokens > MOST_TOKENS:
            return self.run(hidden_states, Ends(ends, ends, longest, longest))
        size = Size.of(tokens, len(ends) - 1, longest)
        with self.lock, self.recorder.on(hidden_states.device):
            recording = self.recording(size, hidden_states)
            recording.hidden_states[:tokens].copy_(hidden_states)
            # Sequences that are not there end where the spare tokens end: they are empty.
            recording.ends.fill_(size.tokens)
            recording.ends[: len(ends)].copy_(ends)
            recording.replay()
            return recording.result[:tokens].clone()  # the next replay writes there

    def recording(self, size: Size, like: torch.Tensor) -> Recording:
        """The graph of a size on the current stream, made if need be."""
        key = (size, self.recorder.where())
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        # Tensors of inference mode could not be written to outside of it.
        with torch.inference_mode(False), torch.no_grad():
            hidden_states = torch.zeros(
                size.tokens, like.shape[1], dtype=like.dtype, device=like.device
            )
            ends = torch.full((size.sequences + 1,), size.tokens, dtype=torch.int32)
            # Before there is a batch, one sequence: no longer than the graph allows.
            ends[1:] = min(size.tokens, size.longest)
            ends[0] = 0
            ends = ends.to(like.device)
            places = Ends(ends, ends, size.longest, size.longest)
            replay, result = self.recorder.record(lambda: self.run(hidden_states, places))
        self.recorded += 1
        self.kept[key] = Recording(hidden_states, ends, replay, result)
        while len(self.kept) > MOST_GRAPHS:
            self.kept.popitem(last=False)
        return self.kept[key]
