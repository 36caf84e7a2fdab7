"""Greedy and beam search over `DecodingState`.

The library's rules, on sources that are still in work.

Shapes: `B` sources, `K` beams a source, `C` candidates a source, `L` longest text, `N` sources
still in work, `V` vocabulary.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch

from .decoding import DecodingState, first_largest, largest, packed_order
from .generation_rules import Processors, Stops

NEVER = -1.0e9  # the library's score of what cannot be chosen
# scores above -MARGIN are safe from NEVER over a length below MARGIN to the length penalty
MARGIN = 1.0e4


def start(state: DecodingState, prompt: torch.Tensor) -> None:
    """Decode `prompt` `(B * K, length)` up to its last token, which the search begins with."""
    for position in range(prompt.shape[1] - 1):
        state.hidden_states(prompt[:, position])


def greedy_search(
    state: DecodingState,
    prompt: torch.Tensor,
    processors: Processors,
    stops: Stops,
    pad: int | None,
) -> torch.Tensor:
    """The most probable token at each step.

    Args:
        state: with one beam a source.
        prompt: `(B, length)`, what each text begins with.
        processors: applied to logits.
        stops: when a text has ended.
        pad: what an ended text is filled with; None: it goes on until all have ended, as the
            library's does where no token ends it.

    Returns:
        `(B, L)`.
    """
    count, length = prompt.shape
    written = prompt.new_full((count, stops.max_length), 0 if pad is None else pad)  # (B, L)
    written[:, :length] = prompt
    rows, unfinished = torch.arange(count), torch.ones(count, dtype=torch.bool)  # (N,)
    start(state, prompt)
    while True:
        logits = state.logits(state.hidden_states(written[rows, length - 1]))  # (N, V or more)
        logits, anew = processors(written[rows, :length], logits)
        tokens = logits.argmax(-1) if anew else first_largest(logits)  # (N,)
        written[rows, length] = tokens
        length += 1
        unfinished &= ~stops(tokens, length, rows)
        if not unfinished.any():
            return written[:, :length]
        if pad is not None and not unfinished.all():
            order = packed_order((~unfinished).tolist())
            state.keep(order)
            rows = rows[order]
            unfinished = unfinished[order]


@dataclass(frozen=True)
class BeamOptions:
    """What the library's generation config says about beams.

    Args:
        num_beams: K.
        candidates: C, so many that K of them do not end.
        fill: what stands behind the end of a text.
    """

    num_beams: int
    candidates: int
    length_penalty: float
    early_stopping: bool | str
    num_return_sequences: int
    fill: int


@dataclass(frozen=True)
class Beams:
    """Texts in work and texts that have ended: first dimension the N sources in work."""

    rows: torch.Tensor  # (N,), which of the B sources
    running: torch.Tensor  # (N, K, L)
    running_scores: torch.Tensor  # (N, K)
    running_indices: torch.Tensor  # (N, K, L - prompt)
    sequences: torch.Tensor  # (N, K, L), ended, best first
    scores: torch.Tensor  # (N, K)
    indices: torch.Tensor  # (N, K, L - prompt)
    finished: torch.Tensor  # (N, K), whether a place holds a text that ended
    improvable: (
        torch.Tensor
    )  # (N, 1), whether a text in work may still become better than one that ended

    @classmethod
    def of(cls, prompt: torch.Tensor, max_length: int, options: BeamOptions) -> "Beams":
        """Before the first step; only the first of K equal beams may be continued."""
        beams = options.num_beams
        count, length = len(prompt) // beams, prompt.shape[1]
        running = prompt.new_full((count, beams, max_length), options.fill)
        running[:, :, :length] = prompt.view(count, beams, length)
        indices = torch.full((count, beams, max_length - length), -1, dtype=torch.int32)
        scores = torch.full((count, beams), NEVER)
        first = scores.clone()
        first[:, 0] = 0.0
        finished, improvable = torch.zeros(count, beams).bool(), torch.ones(count, 1).bool()
        rows = torch.arange(count)
        return cls(
            rows,
            running,
            first,
            indices,
            running.clone(),
            scores,
            indices.clone(),
            finished,
            improvable,
        )

    def take(self, places: list[int]) -> "Beams":
        """Some of the sources, in the order of `places`."""
        return Beams(*(getattr(self, field.name)[places] for field in fields(self)))


class BeamSearch:
    """The library's beam search; the book-keeping of what has ended is the library's own functions.

    Args:
        library: the model, whose `GenerationMixin` keeps the books.
        state: with K beams a source.
        processors: applied to log-probabilities.
        stops: when a text has ended.
        options: of the beams.
    """

    def __init__(
        self,
        library: Any,
        state: DecodingState,
        processors: Processors,
        stops: Stops,
        options: BeamOptions,
    ):
        self.library, self.state, self.options = library, state, options
        self.processors, self.stops = processors, stops
        # A row leaves when nothing can take the place of its texts: what cannot be chosen has NEVER
        # over this.
        self.may_leave = stops.max_length ** max(options.length_penalty, 0.0) < MARGIN
        self.in_front = torch.arange(options.candidates) < options.num_beams  # (C,)

    def __call__(self, prompt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Search from `prompt` `(B * K, length)`.

        Returns:
            For `R` texts a source: sequences `(B * R, L)` and beam indices `(B * R, steps)`.
        """
        beams, begin = Beams.of(prompt, self.stops.max_length, self.options), prompt.shape[1]
        sequences, indices = beams.sequences.clone(), beams.indices.clone()
        start(self.state, prompt)
        for length in range(begin, self.stops.max_length):
            beams, hits = self.step(beams, length, begin)
            goes_on = self.library._beam_search_has_unfinished_sequences(
                beams.improvable, beams.finished, hits, self.options.early_stopping
            )
            leaving = self.leaving(beams) if goes_on else [True] * len(beams.rows)
            if any(leaving):
                sequences[beams.rows], indices[beams.rows] = beams.sequences, beams.indices
            if all(leaving):
                break
            parents = (
                beams.running_indices[:, :, length - begin]
                - beams.rows[:, None] * self.options.num_beams
            )
            self.state.reorder(parents.long())
            if any(leaving):
                order = packed_order(leaving)
                self.state.keep(order)
                beams = beams.take(order)
        kept = self.options.num_return_sequences
        sequences, indices = sequences[:, :kept].flatten(0, 1), indices[:, :kept].flatten(0, 1)
        steps = int((indices + 1).bool().sum(1).max())
        return sequences[:, : begin + steps], indices[:, :steps]

    def step(self, beams: Beams, length: int, begin: int) -> tuple[Beams, torch.Tensor]:
        """One token more; the beams, and which candidates `(N, C)` ended."""
        options, library = self.options, self.library
        scores, parents, tokens = self.candidates(beams, length, begin)  # (N, C)
        running = library._gather_beams(beams.running, parents)  # (N, C, L)
        running[:, :, length] = tokens
        indices = library._gather_beams(beams.running_indices, parents)  # (N, C, L - prompt)
        indices[:, :, length - begin] = parents + beams.rows[:, None] * options.num_beams
        hits = self.stops(tokens, length + 1, beams.rows)
        shared: dict = {
            "topk_log_probs": scores,
            "topk_running_sequences": running,
            "topk_running_beam_indices": indices,
        }
        shared |= {"next_token_hits_stopping_criteria": hits, "num_beams": options.num_beams}
        kept, kept_scores, kept_indices = library._get_running_beams_for_next_iteration(**shared)
        penalty: dict = {
            "length_penalty": options.length_penalty,
            "early_stopping": options.early_stopping,
        }
        penalty |= {
            "decoder_prompt_len": begin,
            "is_early_stop_heuristic_unsatisfied": beams.improvable,
        }
        sequences, best, best_indices, finished = library._update_finished_beams(
            sequences=beams.sequences,
            beam_scores=beams.scores,
            beam_indices=beams.indices,
            is_sent_finished=beams.finished,
            top_num_beam_mask=self.in_front,
            cur_len=length,
            **shared,
            **penalty,
        )
        improvable = library._check_early_stop_heuristic(
            running_beam_scores=kept_scores,
            beam_scores=best,
            is_sent_finished=finished,
            cur_len=length + 1,
            max_length=self.stops.max_length,
            **penalty,
        )
        after = (
            kept,
            kept_scores,
            kept_indices,
            sequences,
            best,
            best_indices,
            finished,
            improvable,
        )
        return Beams(beams.rows, *after), hits

    def candidates(
        self, beams: Beams, length: int, begin: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The C best continuations of each source.

        Scores, which beam each goes on from, and tokens, `(N, C)` each.
        """
        count, options = len(beams.rows), self.options
        hidden = self.state.hidden_states(beams.running[:, :, length - 1].flatten())  # (N * K, E)
        scores = self.state.logits(hidden).log_softmax(-1)  # (N * K, V or more)
        scores, anew = self.processors(beams.running[:, :, :length].flatten(0, 1), scores)
        if anew or length == begin:
            # As the library selects, so that equal scores, of which beams not yet begun are full,
            # fall alike.
            scores = scores[:, : self.processors.vocab_size].view(count, options.num_beams, -1)
            flat = (scores + beams.running_scores[:, :, None]).flatten(1)  # (N, K * V)
            values, places = flat.topk(options.candidates)
            return values, places // scores.shape[-1], places % scores.shape[-1]
        known = self.state.likeliest
        if known is None or known.shape[1] < options.candidates or self.processors.active(length):
            values, tokens = largest(scores, options.candidates)  # (N * K, C)
        else:  # in int8 they have been looked for already
            values, places = scores.gather(1, known).topk(options.candidates)
            tokens = known.gather(1, places)
        values = (
            values.view(count, options.num_beams, -1) + beams.running_scores[:, :, None]
        )  # (N, K, C)
        values, places = values.flatten(1).topk(options.candidates)  # (N, C)
        return values, places // options.candidates, tokens.view(count, -1).gather(1, places)

    def leaving(self, beams: Beams) -> list[bool]:
        """Which sources may leave.

        Their K texts have ended, and no text in work can take the place of one.
        """
        if not self.may_leave:
            return [False] * len(beams.rows)
        settled = ~beams.improvable[:, 0]
        if self.options.early_stopping is True:
            settled = torch.ones_like(settled)
        full = beams.finished.all(1) & (beams.scores.amin(1) > -MARGIN)
        return (settled & full).tolist()
