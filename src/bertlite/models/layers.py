"""The layers of the Transformer, once: BERT's encoder is the Transformer's encoder.

One layer, as in figure 1 of Vaswani et al. 2017 (post-norm, as in both papers):

    hidden_states (B, T, E)
        │
        ├──────────────┐
        │         self-attention
        └──── + ── dropout
              │
          LayerNorm                          attention_sublayer
              ├──────────────┐
              │         feed-forward
              └──── + ── dropout
                    │
                LayerNorm                    feed_forward_sublayer
                    │
    hidden_states (B, T, E)

With `norm_first` (pre-norm) each norm stands before its sub-layer instead. A decoder layer has a
third sub-layer between the two, which attends to the encoder.

Shapes: `B` batch, `T` target length, `S` source length, `E` hidden size.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import Attention
from .parts import Names, Part, Tree


class LayerSteps(Tree):
    """The steps of a layer, on parts that are found by role.

    A layer has all the parts. A node of BERT's tree, such as `attention.output`, has those of the
    one step that it computes.
    """

    self_attention, attention_projection = Part(), Part()
    attention_norm, attention_dropout = Part(), Part()
    inner, activation, activation_dropout, outer = Part(), Part(), Part(), Part()
    feed_forward_norm, feed_forward_dropout = Part(), Part()
    paths: dict[str, tuple[str, ...]]

    def __init__(self, names: Names, *, norm_first: bool, gated: bool = False):
        super().__init__(names)
        self.norm_first, self.gated = norm_first, gated

    def make_node(self, role: str, names: Names) -> nn.Module | None:
        """A node of the tree that computes the step `role`."""
        if not hasattr(LayerSteps, role) or isinstance(getattr(LayerSteps, role), Part):
            return None
        return LayerNode(role, names, norm_first=self.norm_first, gated=self.gated)

    def attention_sublayer(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """LayerNorm(x + dropout(SelfAttention(x))), `(B, T, E)`, and the attention weights."""
        inputs = self.attention_norm(hidden_states) if self.norm_first else hidden_states
        context, weights = self.self_attention(inputs, attention_mask=attention_mask, **kwargs)
        return self.step("end_attention", context, hidden_states), weights

    def end_attention(self, context: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """From heads side by side, `(B, T, H * D)`, to the end of the sub-layer."""
        if self.attention_projection is not None:
            context = self.attention_projection(context)
        return self.add(residual, context, self.attention_dropout, self.attention_norm)

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """LayerNorm(x + dropout(FFN(x))), with FFN(x) = act(x W₁ + b₁) W₂ + b₂ (section 3.3)."""
        inputs = self.feed_forward_norm(hidden_states) if self.norm_first else hidden_states
        if "transform" in self.paths:  # a node that ends before the residual
            update = self.step("transform", inputs)
            dropout = None if self.drops_within("transform") else self.feed_forward_dropout
            return self.add(hidden_states, update, dropout, self.feed_forward_norm)
        inner = self.step("expand", inputs)
        return self.step("end_feed_forward", inner, hidden_states)

    def transform(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """FFN(x), `(B, T, E)`: a step of its own in DistilBERT, with dropout, and in ViT."""
        update = self.outer(self.expand(hidden_states))
        return update if self.feed_forward_dropout is None else self.feed_forward_dropout(update)

    def drops_within(self, role: str) -> bool:
        """Whether the dropout of the feed-forward stands in the node of `role`."""
        path = self.paths[role]
        return self.paths.get("feed_forward_dropout", ())[: len(path)] == path

    def expand(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """act(x W₁ + b₁), from `(B, T, E)` to the inner size.

        A gated one is act(x W₁ + b₁) · (x W₂ + b₂), with both products in one (Shazeer 2020,
        https://arxiv.org/abs/2002.05202).
        """
        inner = self.inner(hidden_states)
        if self.gated:
            inner, gate = inner.chunk(2, dim=-1)
            inner = self.activation(inner) * gate
        else:
            inner = self.activation(inner)
        return inner if self.activation_dropout is None else self.activation_dropout(inner)

    def end_feed_forward(self, inner: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Back to `(B, T, E)`, and to the end of the sub-layer."""
        update = self.outer(inner)
        return self.add(residual, update, self.feed_forward_dropout, self.feed_forward_norm)

    def add(
        self,
        residual: torch.Tensor,
        update: torch.Tensor,
        dropout: nn.Module | None,
        norm: nn.Module,
    ) -> torch.Tensor:
        """X + dropout(update), normalised unless that was done before the sub-layer."""
        hidden_states = (update if dropout is None else dropout(update)) + residual
        return hidden_states if self.norm_first else norm(hidden_states)


class LayerNode(LayerSteps):
    """A node of a family's tree that computes one step with the parts below it."""

    def __init__(self, role: str, names: Names, *, norm_first: bool, gated: bool):
        super().__init__(names, norm_first=norm_first, gated=gated)
        self.role = role

    def forward(self, *args, **kwargs):
        """The step's arguments and result."""
        return getattr(self, self.role)(*args, **kwargs)


class EncoderLayer(GradientCheckpointingLayer, LayerSteps):
    """Self-attention, then feed-forward (section 3.1): the layer of BERT and of the Transformer."""

    is_decoder = False

    def __init__(
        self,
        config: PreTrainedConfig,
        names: Names,
        attention_names: Names,
        *,
        num_heads: int,
        intermediate_size: int,
        layer_idx: int,
        head_size: int | None = None,
        cross_heads: int | None = None,
        window: int | None = None,
    ):
        """`names` and `attention_names` are tables of `names.py`; the sizes are the layer's own.

        Args:
            config: of the model.
            names: of the layer's parts.
            attention_names: of the attention's.
            num_heads: of the attention of the layer to itself.
            intermediate_size: of the feed-forward.
            layer_idx: the layer's place.
            head_size: None: hidden size / `num_heads`; to be given where heads were pruned.
            cross_heads: of a decoder layer's attention to the encoder; None: `num_heads`.
            window: of the attention of the layer to itself, as `Attention` says.
        """
        super().__init__(names, norm_first=config.norm_first, gated=config.gated_feed_forward)
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        hidden_size, eps = config.hidden_size, config.layer_norm_eps
        head_size = hidden_size // num_heads if head_size is None else head_size
        cross_heads = num_heads if cross_heads is None else cross_heads
        inner_size = intermediate_size * (2 if config.gated_feed_forward else 1)
        self.grow(
            {
                "self_attention": Attention(
                    config,
                    attention_names,
                    num_heads=num_heads,
                    head_size=head_size,
                    is_causal=self.is_decoder,
                    layer_idx=layer_idx,
                    window=window,
                ),
                "attention_projection": nn.Linear(num_heads * head_size, hidden_size),
                "attention_norm": nn.LayerNorm(hidden_size, eps, bias=config.norm_bias),
                "attention_dropout": nn.Dropout(config.hidden_dropout_prob),
                "inner": nn.Linear(hidden_size, inner_size, bias=config.mlp_bias),
                "activation": ACT2FN[config.hidden_act],
                "activation_dropout": nn.Dropout(config.activation_dropout),
                "outer": nn.Linear(intermediate_size, hidden_size, bias=config.mlp_bias),
                "feed_forward_norm": nn.LayerNorm(hidden_size, eps, bias=config.norm_bias),
                "feed_forward_dropout": nn.Dropout(config.hidden_dropout_prob),
                **self.cross_attention_parts(
                    config, attention_names, cross_heads, head_size, layer_idx
                ),
            }
        )

    def cross_attention_parts(
        self,
        config: PreTrainedConfig,
        names: Names,
        num_heads: int,
        head_size: int,
        layer_idx: int,
    ) -> dict[str, nn.Module]:
        """A decoder's further parts; an encoder has none."""
        return {}

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
    ) -> torch.Tensor:
        """`(B, T, E)` to `(B, T, E)`.

        Args:
            hidden_states: `(B, T, E)`, or `(1, N, E)` where sequences are laid end to end.
            attention_mask: as the attention function takes it.
            kwargs: for the attention.
        """
        hidden_states, _ = self.step("attention_sublayer", hidden_states, attention_mask, **kwargs)
        return self.feed_forward_sublayer(hidden_states)

    def feed_forward_sublayer(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The second half of the layer; `chunk_size_feed_forward` positions at a time if set."""
        if not self.chunk_size_feed_forward:
            return self.feed_forward(hidden_states)
        chunks = hidden_states.split(self.chunk_size_feed_forward, dim=1)
        return torch.cat([self.feed_forward(chunk) for chunk in chunks], dim=1)


class DecoderLayer(EncoderLayer):
    """Causal self-attention, attention to the encoder, feed-forward (section 3.1)."""

    is_decoder = True
    cross_attention, cross_attention_norm = Part(), Part()

    def cross_attention_parts(
        self,
        config: PreTrainedConfig,
        names: Names,
        num_heads: int,
        head_size: int,
        layer_idx: int,
    ) -> dict[str, nn.Module]:
        """Attention to the encoder, and its norm."""
        attention = Attention(
            config,
            names,
            num_heads=num_heads,
            head_size=head_size,
            is_cross_attention=True,
            layer_idx=layer_idx,
        )
        norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        return {"cross_attention": attention, "cross_attention_norm": norm}

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        cross_attention_interface: Callable | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """`(B, T, E)` targets and `(B, S, E)` encoder states to `(B, T, E)`.

        Args:
            hidden_states: `(B, T, E)`.
            attention_mask: of the targets.
            encoder_hidden_states: `(B, S, E)`; None after the first step of generation, when the
                cache holds what is needed of them.
            encoder_attention_mask: of the source.
            cross_attention_interface: as `attention_interface` of `Attention`, for the source.
            kwargs: `past_key_values`, and what the attention function takes.
        """
        hidden_states, _ = self.step("attention_sublayer", hidden_states, attention_mask, **kwargs)
        if cross_attention_interface is not None:
            kwargs["attention_interface"] = cross_attention_interface
        hidden_states = self.cross_attention_sublayer(
            hidden_states, encoder_hidden_states, encoder_attention_mask, **kwargs
        )
        return self.feed_forward_sublayer(hidden_states)

    def cross_attention_sublayer(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        encoder_attention_mask: torch.Tensor | None,
        **kwargs,
    ) -> torch.Tensor:
        """LayerNorm(x + dropout(Attention(x, source)))."""
        inputs = self.cross_attention_norm(hidden_states) if self.norm_first else hidden_states
        context, _ = self.cross_attention(
            inputs,
            key_value_states=encoder_hidden_states,
            attention_mask=encoder_attention_mask,
            **kwargs,
        )
        return self.add(hidden_states, context, self.attention_dropout, self.cross_attention_norm)
