"""When a text ends and which tokens it may have.

Stopping criteria and processors, as the fast loop needs them.

Shapes: `B` sources, `N` rows in work, `V` vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria
from transformers.generation import logits_process as processors
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria


class RowLimits(StoppingCriteria):
    """Each row ends at its own number of tokens, so that a text does not depend on its neighbours
    in the batch.
    """

    def __init__(self, limits: Sequence[int]):
        self.limits = torch.tensor(limits)  # (B,)

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        limits = self.limits.to(input_ids.device).repeat_interleave(
            input_ids.shape[0] // len(self.limits)
        )
        return input_ids.shape[1] - 1 >= limits  # the first token is the start token


class Stops:
    """Stopping criteria that look at the last token, the length and the source only, so that rows
    may leave.

    Args:
        criteria: of types in `Stops.TYPES`.
        count: B.
    """

    TYPES = (MaxLengthCriteria, EosTokenCriteria, RowLimits)

    def __init__(self, criteria: Sequence[Any], count: int):
        self.max_length = min(
            each.max_length for each in criteria if type(each) is MaxLengthCriteria
        )
        eos = [each.eos_token_id for each in criteria if type(each) is EosTokenCriteria]
        self.eos = torch.cat(eos) if eos else None
        self.limits = torch.full((count,), self.max_length)  # (B,)
        for each in criteria:
            if type(each) is RowLimits:
                self.limits = torch.minimum(self.limits, each.limits + 1)

    def __call__(self, tokens: torch.Tensor, length: int, rows: torch.Tensor) -> torch.Tensor:
        """Whether rows of `length` tokens that end in `tokens` `(N, ...)` have ended.

        Args:
            rows: `(N,)`, which of the B sources each belongs to.
        """
        ended = (length >= self.limits[rows]).view(-1, *[1] * (tokens.dim() - 1)).expand_as(tokens)
        return ended if self.eos is None else ended | torch.isin(tokens, self.eos)


def always(processor: Any, length: int) -> bool:
    """For a processor that acts at every length."""
    return True


# Those that look at each row by itself: type to whether it acts on rows of so many tokens.
ACTS: dict[type, Callable[[Any, int], bool]] = {
    processors.ForcedBOSTokenLogitsProcessor: lambda each, length: length == 1,
    processors.ForcedEOSTokenLogitsProcessor: lambda each, length: length == each.max_length - 1,
    processors.MinLengthLogitsProcessor: lambda each, length: length < each.min_length,
    processors.MinNewTokensLengthLogitsProcessor: lambda each, length: (
        length - each.prompt_length_to_skip < each.min_new_tokens
    ),
    processors.SuppressTokensLogitsProcessor: always,
    processors.SuppressTokensAtBeginLogitsProcessor: lambda each, length: (
        length == each.begin_index
    ),
    processors.NoRepeatNGramLogitsProcessor: always,
    processors.NoBadWordsLogitsProcessor: always,
    processors.SequenceBiasLogitsProcessor: always,
    processors.RepetitionPenaltyLogitsProcessor: always,
    processors.ExponentialDecayLengthPenalty: always,
    processors.InfNanRemoveLogitsProcessor: always,
}
# Those that do nothing but ban tokens: type to the attribute that names them.
BANNED: dict[type, str] = {
    processors.MinLengthLogitsProcessor: "eos_token_id",
    processors.MinNewTokensLengthLogitsProcessor: "eos_token_id",
    processors.SuppressTokensLogitsProcessor: "suppress_tokens",
    processors.SuppressTokensAtBeginLogitsProcessor: "begin_suppress_tokens",
}


class Processors:
    """The library's processors, applied only where they act.

    Args:
        given: of types in `ACTS`.
        vocab_size: V; scores come with more columns, of -inf.
    """

    def __init__(self, given: Sequence[Any], vocab_size: int):
        self.given, self.vocab_size = list(given), vocab_size

    def active(self, length: int) -> list[Any]:
        """Those that act on rows of `length` tokens."""
        return [each for each in self.given if ACTS[type(each)](each, length)]

    def __call__(self, sequences: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Scores `(N, V or more)` of what follows `sequences` `(N, length)`, and whether they are
        new, `(N, V)`.
        """
        active = self.active(sequences.shape[1])
        if any(type(each) not in BANNED for each in active):
            scores = scores[:, : self.vocab_size]
            for each in active:
                scores = each(sequences, scores)
            return scores, True
        for each in active:
            tokens = torch.as_tensor(getattr(each, BANNED[type(each)]))
            scores[:, tokens[tokens < self.vocab_size]] = -torch.inf
        return scores, False
