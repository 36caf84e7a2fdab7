"""MPNet (Song et al. 2020, https://arxiv.org/abs/2004.09297): RoBERTa without segments, whose
attention scores have a bias by the distance of two tokens, shared by all layers.
"""

import math
from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.models.mpnet import configuration_mpnet as original

from .encoder import BertEncoder
from .family_configuration import FamilyConfig
from .family_heads import FamilyModel, FirstVectorClassification, LMHeadForMaskedLM
from .modeling_bertlite import (
    BertLiteForMultipleChoice,
    BertLiteForQuestionAnswering,
    BertLiteForTokenClassification,
    BertLiteModel,
    BertLitePreTrainedModel,
)
from .names import MPNET_ATTENTION, MPNET_LAYER

BUCKETS, FARTHEST = 32, 128  # of distances, and the one from which all are alike


@strict
class MPNetConfig(original.MPNetConfig, FamilyConfig):
    """Configuration of an MPNet."""

    position_padding: ClassVar[int] = 1  # whatever the id of padding


def distance_buckets(length: int, device: torch.device) -> torch.Tensor:
    """The bucket of each key's distance from each query, `(length, length)`.

    Half of them are for keys that come later; of each half one half is for single distances, and
    the rest grows by powers. Source: Raffel et al. 2019, section 2.1.
    """
    places = torch.arange(length, device=device)
    distance = places[None] - places[:, None]  # (T, S)
    half, single = BUCKETS // 2, BUCKETS // 4
    near = distance.abs()
    share = (near.float() / single).log() / math.log(FARTHEST / single)
    far = (single + (share * (half - single)).long()).clamp(max=half - 1)
    return (distance > 0) * half + torch.where(near < single, near, far)


class MPNetEncoder(BertEncoder):
    """MPNet's `encoder`."""

    layer_names, attention_names = MPNET_LAYER, MPNET_ATTENTION

    def __init__(self, config: MPNetConfig):
        super().__init__(config)
        heads = config.num_attention_heads
        self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, heads)


class MPNetPreTrainedModel(FamilyModel, BertLitePreTrainedModel):
    """Base of the family."""

    config: MPNetConfig  # type: ignore[assignment]
    base_model_prefix = "mpnet"
    encoder_class = MPNetEncoder
    _supports_flash_attn = _supports_flex_attn = False  # they know no such bias


class MPNetModel(MPNetPreTrainedModel, BertLiteModel):
    """MPNet without a head."""

    special_attention = ("a position bias",)

    def position_bias(self, length: int) -> torch.Tensor:
        buckets = distance_buckets(length, self.device)
        return self.encoder.relative_attention_bias(buckets).permute(2, 0, 1)[None]


MPNetPreTrainedModel.base_class = MPNetModel


class MPNetForMaskedLM(MPNetPreTrainedModel, LMHeadForMaskedLM):
    """Masked language model."""

    _tied_weights_keys = {
        "lm_head.decoder.weight": "mpnet.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }


class MPNetForSequenceClassification(MPNetPreTrainedModel, FirstVectorClassification):
    """Classes or scores of a sequence, or of a pair."""


class MPNetForTokenClassification(MPNetPreTrainedModel, BertLiteForTokenClassification):
    """A class for each token."""


class MPNetForQuestionAnswering(MPNetPreTrainedModel, BertLiteForQuestionAnswering):
    """Where the answer begins and ends in the row."""


class MPNetForMultipleChoice(MPNetPreTrainedModel, BertLiteForMultipleChoice):
    """Scores of C choices."""
