"""A decoder on a GPU: the source end to end, and in training the targets too.

Shapes: `B` batch, `T` targets, `S` source length, `N` tokens that are kept, `E` hidden size.
"""

from typing import Any

import torch
from torch import nn

from ...models.encoder import FLAT_INPUTS
from ...models.inputs import BatchLengths, TextBatch, assert_in_range, places_of
from ...models.masks import decoder_mask
from ..flat_backend import FlatBackend
from .kernels import Choice, Ends
from .memory import explained_memory
from .reading import (
    BatchFacts,
    DeviceLayout,
    Questions,
    ask_tokens,
    assert_count,
    check_known_ranges,
    known_facts,
    lay_out,
    real_tokens,
    row_ends,
    sizes_of,
    told_facts,
)
from .varlen import VarlenAttention


class CudaDecoding(FlatBackend):
    """What `CudaBackend` does for a decoder; what it knows of masks and kernels is asked there."""

    def against_attention(self, model: Any) -> list[str]:
        """As of `CudaBackend`, and so are the next three."""
        raise NotImplementedError

    def choice_of(self, model: Any) -> Choice:
        raise NotImplementedError

    def recall(
        self, mask: torch.Tensor | None, segments: torch.Tensor | None, lengths: BatchLengths | None
    ) -> BatchFacts | None:
        raise NotImplementedError

    def remember(
        self, mask: torch.Tensor | None, segments: torch.Tensor | None, facts: BatchFacts
    ) -> None:
        raise NotImplementedError

    def against_decoding(
        self,
        decoder: Any,
        ids: dict[str, torch.Tensor | None],
        encoder_hidden_states: torch.Tensor | None,
        encoder_attention_mask: torch.Tensor | None,
        lengths: BatchLengths | None,
        is_packed: bool,
        past_key_values: Any,
        attention_mask: torch.Tensor | None = None,
        target_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Reasons not to lay the source end to end for a decoder."""
        self.check_targets(decoder, ids, lengths, past_key_values)
        if past_key_values is not None or encoder_hidden_states is None:
            return ["a cache holds the keys of the source"]
        if is_packed:
            return ["rows are packed"]
        if encoder_attention_mask is None or encoder_attention_mask.ndim != 2:
            return ["no mask (B, S) is given"]
        if kwargs.get("output_attentions") or decoder.config.output_attentions:
            return ["output_attentions was asked for"]
        if decoder.config._attn_implementation != "sdpa":
            return ["attention has another implementation"]
        if reasons := self.against_watching(decoder) or self.against_attention(decoder):
            return reasons
        facts = self.facts_of_source(encoder_attention_mask, lengths)
        return [] if facts.shortest else ["a source has no token"]

    def check_targets(
        self,
        decoder: Any,
        ids: dict[str, torch.Tensor | None],
        lengths: BatchLengths | None,
        past_key_values: Any,
    ) -> None:
        """Refuse ids of targets out of range, without waiting.

        A step of generation reads what the model itself has written: that is let be.
        """
        given = ids["decoder_input_ids"]
        if past_key_values is not None and given is not None and given.shape[1] == 1:
            return
        tables = {
            "decoder_input_ids": (decoder.word_embeddings, "(decoder_vocab_size)"),
            "decoder_position_ids": (decoder.position_embeddings, "(max_position_embeddings)"),
        }
        limits = [
            (name, each, tables[name][0].num_embeddings, tables[name][1])
            for name, each in ids.items()
            if each is not None and isinstance(tables[name][0], nn.Embedding)
        ]
        for limit in check_known_ranges(limits, {} if lengths is None else lengths.ranges):
            assert_in_range(*limit)

    def facts_of_source(self, mask: torch.Tensor, lengths: BatchLengths | None) -> BatchFacts:
        """What is known of a source, by the encoder's question where it was asked."""
        shape = (mask.shape[0], mask.shape[1])
        facts = known_facts(mask, None, shape, lengths) or self.recall(mask, None, lengths)
        if facts is None:
            questions, sizes = Questions(), sizes_of(real_tokens(mask, shape, mask.device), None)
            ask_tokens(questions, sizes, is_packed=False)
            facts = told_facts(shape, sizes, False, questions.answers())
            self.remember(mask, None, facts)
        return facts

    def decode(
        self,
        decoder: Any,
        targets: TextBatch,
        source: tuple[torch.Tensor, torch.Tensor | None],
        target_mask: torch.Tensor | None,
        lengths: BatchLengths | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        with explained_memory():
            kwargs = {name: each for name, each in kwargs.items() if name not in FLAT_INPUTS}
            flat, keys, longest = self.flat_source(source, lengths)
            layout = self.layout_of_targets(targets, target_mask, lengths)
            shape, choice, mask = targets.shape, self.choice_of(decoder), None
            if layout is None:
                queries = row_ends(shape, targets.device)
                hidden_states = embed(decoder, targets)  # (B, T, E)
                given = targets.attention_mask
                mask = decoder_mask(decoder.config, hidden_states, given, None, None, False)
            else:
                assert target_mask is not None
                ends = target_mask.sum(-1).cumsum(0)
                queries = nn.functional.pad(ends, (1, 0)).to(torch.int32)
                hidden_states = embed(decoder, layout.take_batch(targets))  # (1, N, E)
                own = Ends(queries, queries, shape[1], shape[1])
                kwargs["attention_interface"] = VarlenAttention(own, choice)
            attend = VarlenAttention(Ends(queries, keys, shape[1], longest), choice)
            hidden_states = decoder.run_layers(
                hidden_states, mask, flat, cross_attention_interface=attend, **kwargs
            )
            hidden_states = decoder.finish(hidden_states)
            return hidden_states if layout is None else layout.put_back(hidden_states)

    def layout_of_targets(
        self, targets: TextBatch, target_mask: torch.Tensor | None, lengths: BatchLengths | None
    ) -> DeviceLayout | None:
        """Where the targets that are kept stand; None: rows stay as they are."""
        if target_mask is None or targets.attention_mask is not None:
            return None
        count = None if lengths is None else lengths.targets
        if count is not None:
            assert_count("lengths", target_mask, count)
        else:
            count = self.count_of(target_mask)
        count = int(target_mask.sum()) if count is None else count
        if count in (0, target_mask.numel()):
            return None
        return DeviceLayout(places_of(target_mask, count), count, targets.shape)

    def flat_source(
        self, source: tuple[torch.Tensor, torch.Tensor | None], lengths: BatchLengths | None
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Real vectors of the source `(1, N, E)`, their ends, and the longest sequence."""
        states, mask = source
        assert mask is not None  # else `against_decoding` had something against it
        facts = self.facts_of_source(mask, lengths)
        layout, keys = lay_out(mask != 0, facts, lengths, mask.device)
        flat = states.flatten(0, 1)  # (B * S, E)
        if layout is not None:
            flat = flat.index_select(0, layout.indices.to(flat.device))  # (N, E)
        return flat[None], keys, facts.longest


def embed(decoder: Any, targets: TextBatch) -> torch.Tensor:
    """The targets as vectors."""
    return decoder.embed(targets.input_ids, None, targets.position_ids, targets.inputs_embeds)
