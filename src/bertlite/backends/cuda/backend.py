"""The backend for NVIDIA GPUs: real tokens end to end, one attention call a layer, no waiting.

Shapes: `B` batch, `T` targets, `S` source length, `N` real tokens, `K` vectors that are read, `E`
hidden size.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers.utils import logging

from ...models.encoder import FLAT_INPUTS
from ...models.inputs import (
    BatchLengths,
    TextBatch,
    assert_in_range,
    is_traced,
    places_of,
)
from ..base import is_plain_linear
from ..linear_cross_entropy import linear_cross_entropy
from .decoding import CudaDecoding
from .generation import against_static, static_generate
from .kernels import Choice, choose
from .memory import explained_memory
from .reading import (
    BatchFacts,
    DeviceLayout,
    Questions,
    assert_values,
    ends_of,
    lay_out,
    read_batch,
)
from .varlen import VarlenAttention, working_dtype

logger = logging.get_logger(__name__)


class CudaBackend(CudaDecoding):
    """Training and inference on a GPU, in fp32, fp16, bf16 and under autocast.

    It holds nothing of a batch but what it has found out of masks that are still in use, so that a
    decoder does not ask again what the encoder has asked.
    """

    name = "cuda"
    device_type = "cuda"

    def __init__(self):
        self.forget()

    def forget(self) -> None:
        """Know nothing of any batch."""
        self.seen: Any = WeakTensorKeyDictionary()  # mask → (its writes, facts)
        self.counts: Any = WeakTensorKeyDictionary()  # boolean tensor → its True ones

    def __getstate__(self) -> dict:
        """Copies and pickles know nothing of batches."""
        return {key: value for key, value in vars(self).items() if key not in ("seen", "counts")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self.forget()

    def serves(self, device: torch.device) -> bool:
        return device.type == self.device_type and torch.version.hip is None

    def unsupported(self, work: str, model: nn.Module, **wanted: Any) -> list[str]:
        if not self.serves(model.device):  # type: ignore[arg-type]
            return [f"the weights are on {model.device.type}"]  # type: ignore[union-attr]
        if is_traced():
            return ["a graph is recorded"]
        if work == "vocabulary_loss":
            plain = is_plain_linear(wanted["linear"])
            return [] if plain else ["the output layer has been exchanged"]
        if work == "encode":
            return self.against_encoding(model, **wanted)
        if work == "generate":
            reason = against_static(model, wanted["arguments"])
            return [] if reason is None else [reason]
        return self.against_decoding(model, **wanted)

    def decoding_method(self) -> Callable:
        return static_generate

    def against_encoding(
        self,
        encoder: Any,
        batch: TextBatch,
        positions: torch.Tensor | None,
        zero_padding: bool,
        num_positions: int | None = None,
        with_first: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Reasons not to lay this batch end to end; those that need its values come last."""
        reasons = self.against_flat(encoder, batch, **kwargs)
        reasons = reasons or self.against_watching(encoder) or self.against_attention(encoder)
        if reasons:
            assert_values(encoder, batch)
            return reasons
        if kwargs.get("cu_seq_lens_q") is not None:  # the caller has laid them end to end
            batch.facts = self.facts_of_ends(batch, positions, num_positions, **kwargs)
            assert_values(encoder, batch)
            return []
        reads_first = encoder.reads_first_position if positions is None else with_first
        facts = self.recall(batch.attention_mask, batch.segments, batch.lengths)
        if batch.facts is not None:  # another backend has asked and declined
            facts = batch.facts
        elif facts is None or positions is not None or reads_first:
            facts = read_batch(encoder, batch, positions, num_positions, reads_first)
            self.remember(batch.attention_mask, batch.segments, facts)
        else:
            assert_values(encoder, batch)
        batch.facts = facts
        # Where nothing was asked, nothing was counted.
        for each, count in zip(batch.counted, facts.counted, strict=False):
            self.counts[each] = count
        if not facts.tokens:
            return ["no token is real"]
        if facts.is_padded and not zero_padding:
            return ["in training the vectors of padding are asked for"]
        return ["a vector of padding is read"] if facts.reads_padding else []

    def against_attention(self, model: Any) -> list[str]:
        """The reason that attention cannot be had end to end, where there is one."""
        name = model.config._attn_implementation
        if "flash" in name:
            return []
        if name != "sdpa":
            return [f"attention {name!r} takes padded batches"]
        dropout = model.config.attention_probs_dropout_prob if model.training else 0.0
        choice = self.choice_of(model)
        if choice.kernel(dropout) is None:
            said = f"no kernel attends end to end in {choice.dtype} on {model.device}"
            logger.warning_once(f"{said}: bertlite computes padded rows there")
            return [said]
        return []

    def choice_of(self, model: Any) -> Choice:
        """The attention kernels for a model."""
        dtype = working_dtype(model.dtype, model.device)
        return choose(model.device, dtype, model.config.hidden_size // model.num_heads)

    def facts_of_ends(
        self,
        batch: TextBatch,
        positions: torch.Tensor | None,
        num_positions: int | None,
        cu_seq_lens_q: torch.Tensor,
        max_length_q: int | None = None,
        **kwargs: Any,
    ) -> BatchFacts:
        """Of sequences that the caller has laid end to end; asked is what was not given."""
        questions = Questions()
        if max_length_q is None:
            questions.ask("longest", cu_seq_lens_q.diff().max())
        if positions is not None and num_positions is None:
            questions.ask("read", positions.sum())
        answers = questions.answers()
        longest = int(answers.get("longest", max_length_q or 0))
        tokens = batch.shape[0] * batch.shape[1]
        read = answers.get("read", num_positions)
        return BatchFacts(batch.shape, tokens, len(cu_seq_lens_q) - 1, longest, 1, None, read)

    def recall(
        self, mask: torch.Tensor | None, segments: torch.Tensor | None, lengths: BatchLengths | None
    ) -> BatchFacts | None:
        """What is known of the tokens under a mask without asking the device."""
        if mask is None or segments is not None or lengths is not None or mask.is_inference():
            return None
        writes, facts = self.seen.get(mask, (None, None))
        return facts if writes == mask._version else None

    def count_of(self, positions: torch.Tensor) -> int | None:
        return self.counts.get(positions)

    def remember(
        self, mask: torch.Tensor | None, segments: torch.Tensor | None, facts: BatchFacts
    ) -> None:
        """Keep what was found out of a mask, as long as it lives and is not written to."""
        if mask is not None and segments is None and not mask.is_inference():
            known = BatchFacts(
                facts.shape,
                facts.tokens,
                facts.sequences,
                facts.longest,
                facts.shortest,
                facts.sizes,
            )
            self.seen[mask] = (mask._version, known)

    def encode(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        with explained_memory():
            layout, hidden_states, kwargs = self.flat_input(encoder, batch, **kwargs)
            if positions is not None:
                places = self.places_read(layout, positions, batch.facts.read)
                return self.run_to(encoder, hidden_states, places, **kwargs)
            hidden_states = encoder.finish(encoder.run_layers(hidden_states, None, **kwargs))
            if layout is not None:
                return layout.put_back(hidden_states)
            return hidden_states.view(*batch.shape, -1)

    def encode_with_first(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """First vectors come after the others; one that is among those too is computed twice."""
        with explained_memory():
            layout, hidden_states, kwargs = self.flat_input(encoder, batch, **kwargs)
            places = self.places_read(layout, positions, batch.facts.read)
            first = torch.zeros_like(positions)
            first[:, 0] = True
            first_places = self.places_read(layout, first, batch.shape[0])
            every = torch.cat([places, first_places])
            vectors = self.run_to(encoder, hidden_states, every, **kwargs)
            return vectors[: len(places)], vectors[len(places) :]

    def flat_input(
        self, encoder: Any, batch: TextBatch, **kwargs: Any
    ) -> tuple[DeviceLayout | None, torch.Tensor, dict[str, Any]]:
        """Lay a batch out: the layout, embedded tokens `(1, N, E)`, and what layers are told."""
        layout, hidden_states, ends = self.embed_flat(encoder, batch, kwargs.get("cu_seq_lens_q"))
        kwargs = {name: each for name, each in kwargs.items() if name not in FLAT_INPUTS}
        told = self.attention_arguments(encoder, ends, batch.facts)
        return layout, hidden_states, kwargs | told

    def embed_flat(
        self, encoder: Any, batch: TextBatch, given_ends: torch.Tensor | None = None
    ) -> tuple[DeviceLayout | None, torch.Tensor, torch.Tensor]:
        """The layout, embedded tokens `(1, N, E)`, and the ends of sequences `(S + 1,)`."""
        if given_ends is not None:
            layout, ends = None, given_ends.to(torch.int32)
        else:
            mask = batch.attention_mask
            real = None if mask is None else mask != 0
            layout, ends = lay_out(real, batch.facts, batch.lengths, batch.device)
        flat = batch if layout is None else layout.take_batch(batch)
        return layout, encoder.embed_batch(flat).flatten(0, 1)[None], ends

    def attention_arguments(
        self, encoder: Any, ends: torch.Tensor, facts: BatchFacts
    ) -> dict[str, Any]:
        """What each layer's attention is told of the sequences."""
        if "flash" in encoder.config._attn_implementation:
            return {  # the library's own kernels, which the user has chosen
                "cu_seq_lens_q": ends,
                "cu_seq_lens_k": ends,
                "max_length_q": facts.longest,
                "max_length_k": facts.longest,
            }
        attend = VarlenAttention(ends_of(ends, facts.longest), self.choice_of(encoder))
        return {"attention_interface": attend}

    def places_read(
        self, layout: DeviceLayout | None, positions: torch.Tensor, count: int
    ) -> torch.Tensor:
        """Where the vectors at `count` True `positions` stand."""
        if layout is not None:
            return layout.places_at(positions, count)
        return places_of(positions, count)

    def vocabulary_loss(self, hidden_states, linear, labels, **options: Any) -> torch.Tensor:
        assert_in_range("labels", labels, linear.out_features, "or be -100")
        with explained_memory():
            product = nn.functional.linear
            return linear_cross_entropy(hidden_states, linear, labels, product=product, **options)
