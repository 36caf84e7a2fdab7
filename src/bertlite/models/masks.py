"""Who may attend to whom, over a padded batch.

Shapes: `B` batch, `T` queries, `S` keys, `E` hidden size. A mask that is made here is boolean,
`True` where attention is allowed, `(B, 1, T, S)`; those of the library are as the implementation
wants them.
"""

import copy
from typing import Any

import torch
from torch import nn
from transformers import EncoderDecoderCache, PreTrainedConfig
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    create_causal_mask,
)

from .inputs import is_traced


def segment_ids(
    position_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    packed: bool | None,
    batch_size: int,
) -> torch.Tensor | None:
    """Number the sequences that are packed in each row, `(B, T)`; None where each row holds one.

    A sequence begins where `position_ids` `(1 or B, T)` stop rising. That means packing where no
    mask is given, which is the library's own convention (`DataCollatorWithFlattening` makes such
    batches), or where `packed=True` says so. With a mask, positions may start again for other
    reasons, and BERT lets every real token see every other.
    """
    if packed is None:
        packed = attention_mask is None
    if not packed or position_ids is None or position_ids.shape[-1] < 2:
        return None
    restarts = position_ids[:, 1:] <= position_ids[:, :-1]  # (B, T - 1)
    if not is_traced() and not restarts.any():
        return None
    numbers = nn.functional.pad(restarts.long().cumsum(-1), (1, 0))
    return numbers.expand(batch_size, -1)  # (B, T)


def packed_mask(
    query_segments: Any,
    key_segments: Any,
    key_mask: torch.Tensor | None,
    causal: bool = False,
) -> torch.Tensor:
    """Allow attention within a segment only, `(B, 1, T, S)`.

    A query that would see no key sees all of them, so that softmax stays finite.

    Args:
        query_segments: `(B, T)`.
        key_segments: `(B, S)`, numbered alike.
        key_mask: `(B, S)`, non-zero at real keys, or None.
        causal: no query sees a later key; `T` is `S`.
    """
    allowed = query_segments[:, :, None] == key_segments[:, None, :]  # (B, T, S)
    if key_mask is not None:
        allowed = allowed & key_mask[:, None, :].bool()
    if causal:
        allowed = allowed.tril()
    allowed = allowed | ~allowed.any(-1, keepdim=True)
    return allowed.unsqueeze(1)


def encoder_mask(
    config: PreTrainedConfig,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    segments: torch.Tensor | None,
    output_attentions: bool = False,
    window: int | None = None,
):
    """The mask of an encoder's self-attention: everyone sees every real token of their segment.

    Args:
        config: whose attention implementation it is for.
        hidden_states: `(B, T, E)`.
        attention_mask: `(B, T)`, or a prepared 4D mask, which passes through.
        segments: `(B, T)` from `segment_ids`, or None.
        output_attentions: whether weights are asked for, which `eager_attention` then gives.
        window: the largest distance of two tokens that see each other, the config's own, or None.

    Raises:
        ValueError: a prepared mask or packed rows, for an implementation that cannot have them.
    """
    config = mask_config(config, output_attentions)
    is_packed = check_kind(config, attention_mask, segments is not None)
    if is_packed and config._attn_implementation != "flex_attention":
        mask = packed_mask(segments, segments, attention_mask)
        return mask if window is None else mask & is_near(mask.shape[-1], window, mask.device)
    if window is not None and attention_mask is not None and attention_mask.shape[1:-1] == (1, 1):
        # A prepared mask that says no more than which keys are padding.
        near = is_near(attention_mask.shape[-1], window, attention_mask.device)
        if attention_mask.dtype == torch.bool:
            return attention_mask & near
        return attention_mask.masked_fill(~near, torch.finfo(attention_mask.dtype).min)
    make_mask = create_bidirectional_mask
    if window is not None:
        make_mask = create_bidirectional_sliding_window_mask
    return make_mask(
        config=config,
        inputs_embeds=hidden_states,
        attention_mask=attention_mask,
        **segment_rule(segments, segments if is_packed else None),
    )


def is_near(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Which of `length` tokens see each other, being at most `window` apart, `(length, length)`."""
    places = torch.arange(length, device=device)
    return (places[:, None] - places[None]).abs() <= window


def decoder_mask(
    config: PreTrainedConfig,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    segments: torch.Tensor | None,
    past_key_values=None,
    output_attentions: bool = False,
):
    """The mask of a decoder's self-attention: as `encoder_mask`, and nobody sees later tokens.

    `past_key_values` is the cache, whose tokens are seen too; rows are not packed then.
    """
    config = mask_config(config, output_attentions)
    is_packed = segments is not None and past_key_values is None
    is_packed = check_kind(config, attention_mask, is_packed)
    if is_packed and config._attn_implementation != "flex_attention":
        return packed_mask(segments, segments, attention_mask, causal=True)
    if isinstance(past_key_values, EncoderDecoderCache):
        past_key_values = past_key_values.self_attention_cache
    return create_causal_mask(
        config=config,
        inputs_embeds=hidden_states,
        attention_mask=attention_mask,
        past_key_values=past_key_values,
        **segment_rule(segments, segments if is_packed else None),
    )


def source_mask(
    config: PreTrainedConfig,
    hidden_states: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None,
    segments: torch.Tensor | None,
    source_segments: torch.Tensor | None,
    output_attentions: bool = False,
):
    """The mask of a decoder's look at the encoder: everyone sees every real source token.

    In packed rows target k sees source k only: `segments` `(B, T)`, `source_segments` `(B, S)`.
    """
    config = mask_config(config, output_attentions)
    is_packed = segments is not None and source_segments is not None
    is_packed = check_kind(config, attention_mask, is_packed)
    if is_packed and config._attn_implementation != "flex_attention":
        return packed_mask(segments, source_segments, attention_mask)
    return create_bidirectional_mask(
        config=config,
        inputs_embeds=hidden_states,
        attention_mask=attention_mask,
        encoder_hidden_states=encoder_hidden_states,
        **segment_rule(segments, source_segments if is_packed else None),
    )


def biased_mask(mask: Any, bias: torch.Tensor | None) -> Any:
    """A mask, as the library's or ours, with a bias `(1, H, T, S)` of the scores added to it."""
    if bias is None or mask is None:
        return mask if bias is None else bias
    if mask.dtype == torch.bool:
        return bias.masked_fill(~mask, torch.finfo(bias.dtype).min)
    return mask + bias


def mask_config(config: PreTrainedConfig, output_attentions: bool) -> PreTrainedConfig:
    """The config that the library's masks are to be made for.

    Eager's masks where weights are asked for. A function that a user registered without a mask gets
    those of sdpa: the library would build none, and padding would be seen.
    """
    name = config._attn_implementation
    wanted = name
    if output_attentions:
        wanted = "eager"
    elif name is None or not (
        name in ALL_MASK_ATTENTION_FUNCTIONS._global_mapping or name.startswith("paged|")
    ):
        wanted = "sdpa"
    if wanted != name:
        config = copy.copy(config)
        config._attn_implementation = wanted
    return config


def check_kind(
    config: PreTrainedConfig, attention_mask: torch.Tensor | None, is_packed: bool
) -> bool:
    """Whether rows are packed, which a prepared mask overrules; a ValueError where it can't be."""
    is_prepared = attention_mask is not None and attention_mask.ndim != 2
    is_packed = is_packed and not is_prepared
    name = config._attn_implementation
    refused = (is_prepared or is_packed) and "flash" in name
    refused = refused or (is_prepared and name == "flex_attention")
    if refused:
        came = "a 4D attention_mask" if is_prepared else "packed position_ids"
        raise ValueError(
            f"{came} must come with attn_implementation 'eager' or 'sdpa', got {name!r}"
        )
    return is_packed


def segment_rule(segments: torch.Tensor | None, key_segments: torch.Tensor | None) -> dict:
    """Packed rows for flex_attention, which takes a rule where others take a tensor."""
    if segments is None or key_segments is None:
        return {}
    return {
        "and_mask_function": lambda row, head, query, key: (
            segments[row, query] == key_segments[row, key]
        )
    }
