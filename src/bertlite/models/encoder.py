"""The encoder of both families: what BERT and the Transformer do with a batch of tokens.

The plain way is here, over the padded batch. Where a backend can do the same work with less, it
does (`seam.py`); a test holds every backend equal to this.

Shapes: `B` batch, `T` length, `M` vectors that are read, `E` hidden size.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput

from .attention import eager_attention
from .checkpoint import LitePreTrainedModel
from .embeddings import number_tokens
from .inputs import (
    TextBatch,
    check_ids,
    check_length,
    check_lengths,
    check_mask,
    check_positions,
    check_tokens,
)
from .layers import EncoderLayer
from .masks import biased_mask, encoder_mask, segment_ids
from .names import BERT_ATTENTION, BERT_LAYER
from .parts import Part, Tree

FLAT_INPUTS = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")


class LayerStack:
    """A pile of layers."""

    layers = Part()
    training: bool
    layerdrop: float

    def run_layers(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *states: torch.Tensor,
        **kwargs,
    ) -> torch.Tensor:
        """`(B, T, E)` through all layers; each left out in training with probability `layerdrop`.

        `states` are further inputs of a layer that have a gradient: checkpointing wants them by
        position. Source of layer dropout: Fan et al. 2019.
        """
        for layer in self.layers:
            if not self.drops_layer():
                hidden_states = layer(hidden_states, attention_mask, *states, **kwargs)
        return hidden_states

    def drops_layer(self) -> bool:
        """Whether chance leaves the next layer out."""
        return self.training and self.layerdrop > 0 and bool(torch.rand([]) < self.layerdrop)


class BertEncoder(LayerStack, Tree):
    """BERT's `encoder`, with its tensor names: the layers alone."""

    layerdrop = 0.0
    layer_names, attention_names = BERT_LAYER, BERT_ATTENTION

    def __init__(self, config: PreTrainedConfig):
        super().__init__({"layers": "layer"})
        layers = [self.make_layer(config, index) for index in range(config.num_hidden_layers)]
        self.grow({"layers": nn.ModuleList(layers)})

    def make_layer(self, config: Any, index: int) -> EncoderLayer:
        """The layer of this number."""
        return EncoderLayer(
            config,
            self.layer_names,
            self.attention_names,
            num_heads=config.sizes_of("heads_per_layer")[index],
            head_size=config.hidden_size // config.num_attention_heads,
            intermediate_size=config.sizes_of("intermediate_sizes")[index],
            layer_idx=index,
        )

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> BaseModelOutput:
        """`(B, T, E)` to `(B, T, E)`; `attention_mask` as the attention function takes it."""
        hidden_states = self.run_layers(hidden_states, attention_mask, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states)


class TextEncoder(LitePreTrainedModel):
    """An encoder of token ids; a family says how it embeds them and where its layers are."""

    num_heads: int
    embeddings: Any
    encoder: Any
    final_norm: nn.Module | None  # with pre-norm, since no layer ends with a norm then
    # Whether the output depends on position 0 even where the mask hides it.
    reads_first_position = False
    # Whether rows of more than `max_position_embeddings` have no positions.
    limits_rows = True
    # Whether a head stands on it that reads no vector of padding.
    ignores_padding = False
    # What attention does beyond the formula, in words: a backend has to know each.
    special_attention: tuple[str, ...] = ()

    @property
    def stack(self) -> LayerStack:
        """The module with the layers."""
        return self.encoder

    @property
    def window(self) -> int | None:
        """The largest distance of two tokens that see each other in layers that have a window."""
        return None

    def rotations(
        self, position_ids: torch.Tensor, hidden_states: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Arguments of each `Attention` by which positions `(1 or B, T)` are rotary.

        Nothing where the embeddings know them. `hidden_states` have the type that it works in.
        """
        return {}

    def position_bias(self, length: int) -> torch.Tensor | None:
        """What is added to the scores of `length` tokens, `(1, H, length, length)`; None: nothing.

        It depends on the distance alone, so that of fewer tokens is its corner.
        """
        return None

    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What comes after the last layer: `(..., E)` to `(..., E)`."""
        return hidden_states if self.final_norm is None else self.final_norm(hidden_states)

    def default_positions(
        self, input_ids: torch.Tensor | None, length: int, start: int, device: torch.device
    ) -> torch.Tensor:
        """Positions `(1, T)` or `(B, T)` where none are given, counted from `start`."""
        return number_tokens(input_ids, length, start, device, self.config.position_padding)

    def embed_batch(self, batch: TextBatch) -> torch.Tensor:
        """The batch as vectors `(B, T, E)`; BERT's `embeddings`, unless a family says else."""
        return self.embeddings(
            input_ids=batch.input_ids,
            token_type_ids=batch.token_type_ids,
            position_ids=batch.position_ids,
            inputs_embeds=batch.inputs_embeds,
        )

    def run_layers(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> torch.Tensor:
        """`(B, T, E)` through the layers; by BERT's `encoder`, unless a family says else."""
        stack: Any = self.stack
        return stack(hidden_states, attention_mask=attention_mask, **kwargs)[0]

    def make_batch(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        packed: bool | None,
        cu_seq_lens: torch.Tensor | None,
        lengths: Any = None,
        counted: tuple[torch.Tensor, ...] = (),
        past_length: int = 0,
    ) -> TextBatch:
        """Check what the caller gives; ValueErrors are those of `inputs.py`.

        `past_length` keys stand before the batch's own, at whose end positions begin.
        """
        shape = check_tokens(input_ids, inputs_embeds, self.config.embedding_width)
        name = "input_ids" if inputs_embeds is None else "inputs_embeds"
        if position_ids is None and self.limits_rows:
            check_length(name, shape[1], past_length, self.config.max_tokens)
        check_ids("input_ids", input_ids, shape)
        check_ids("position_ids", position_ids, shape)
        check_ids("token_type_ids", token_type_ids, shape)
        keys = past_length + shape[1]
        check_mask("attention_mask", attention_mask, shape[0], self.num_heads, shape[1], keys)
        given: Any = input_ids if inputs_embeds is None else inputs_embeds
        segments = segment_ids(position_ids, attention_mask, packed, shape[0])
        lengths = check_lengths(
            None if self.sees_a_part() else lengths,
            shape,
            is_masked=attention_mask is not None,
            is_packed=segments is not None,
        )
        if cu_seq_lens is not None:  # sequences that the caller has laid end to end
            positions = torch.arange(shape[1], device=given.device)
            segments = torch.searchsorted(cu_seq_lens[1:], positions.to(cu_seq_lens), right=True)
            segments = segments[None]  # (1, T)
        gives_positions = position_ids is not None
        if position_ids is None:
            position_ids = self.default_positions(input_ids, shape[1], past_length, given.device)
        return TextBatch(
            input_ids=input_ids,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            segments=segments,
            lengths=lengths,
            gives_positions=gives_positions,
            counted=counted,
        )

    def encode(
        self,
        batch: TextBatch,
        positions: torch.Tensor | None = None,
        zero_padding: bool | None = None,
        num_positions: int | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Encode a batch, by a backend where one can.

        Args:
            batch: from `make_batch`.
            positions: `(B, T)` boolean, True where a vector is read; None: everywhere.
            zero_padding: whether the vectors of padding may come back as zeros, because nobody
                reads them; None: in evaluation, or where `ignores_padding` says so.
            num_positions: how many `positions` are True, where the caller knows.
            kwargs: for the attention function.

        Returns:
            `(B, T, E)`; with `positions`, only the vectors there, `(M, E)`, row by row.
        """
        check_positions(positions, batch.shape)
        if zero_padding is None:
            zero_padding = positions is not None or not self.training or self.ignores_padding
        backend = self.take_backend(
            "encode",
            batch=batch,
            positions=positions,
            zero_padding=zero_padding,
            num_positions=num_positions,
            **kwargs,
        )
        if backend is not None:
            return backend.encode(self, batch, positions, **kwargs)
        hidden_states = self.encode_plainly(batch, **kwargs)
        return hidden_states if positions is None else hidden_states[positions]

    def encode_with_first(
        self, batch: TextBatch, positions: torch.Tensor, num_positions: int | None = None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors at `positions` `(M, E)`, and the first one of each row `(B, E)`.

        Arguments as of `encode`.
        """
        check_positions(positions, batch.shape)
        backend = self.take_backend(
            "encode",
            batch=batch,
            positions=positions,
            zero_padding=True,
            num_positions=num_positions,
            with_first=True,
            **kwargs,
        )
        if backend is not None:
            return backend.encode_with_first(self, batch, positions, **kwargs)
        hidden_states = self.encode_plainly(batch, **kwargs)
        return hidden_states[positions], hidden_states[:, 0]

    def encode_plainly(self, batch: TextBatch, **kwargs) -> torch.Tensor:
        """Embed, mask, run the layers: `(B, T, E)`."""
        hidden_states = self.embed_batch(batch)
        mask = None
        output_attentions = bool(kwargs.get("output_attentions"))
        if output_attentions:
            kwargs["attention_interface"] = eager_attention  # the others give no weights
        takes_ends = "flash" in self.config._attn_implementation and not output_attentions
        if not takes_ends:
            kwargs = {name: each for name, each in kwargs.items() if name not in FLAT_INPUTS}
        if kwargs.get("cu_seq_lens_q") is None:

            def make_mask(window: int | None) -> Any:
                return encoder_mask(
                    self.config,
                    hidden_states,
                    batch.attention_mask,
                    batch.segments,
                    output_attentions=output_attentions,
                    window=window,
                )

            mask = biased_mask(make_mask(None), self.position_bias(hidden_states.shape[1]))
            if self.window is not None:
                kwargs["local_mask"] = make_mask(self.window)
        kwargs |= self.rotations(batch.position_ids, hidden_states)
        return self.finish(self.run_layers(hidden_states, mask, **kwargs))


def final_norm_part(config: PreTrainedConfig) -> dict[str, nn.Module]:
    """The same by its role, where there is one."""
    norm = make_final_norm(config)
    return {} if norm is None else {"final_norm": norm}


def make_final_norm(config: PreTrainedConfig) -> nn.Module | None:
    """The norm after the last layer, which pre-norm needs."""
    if not config.norm_first:
        return None
    return nn.LayerNorm(config.hidden_size, config.layer_norm_eps, bias=config.norm_bias)
