"""DeiT (Touvron et al. 2020, https://arxiv.org/abs/2012.12877): ViT with a second token before the
patches, that learns from a teacher.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from transformers.models.deit import configuration_deit as original
from transformers.models.deit import modeling_deit as their
from transformers.utils import can_return_tuple

from .family_configuration import PatchConfig
from .modeling_patches import (
    Images,
    PatchClassification,
    PatchModel,
    PatchPreTrainedModel,
    PatchReconstruction,
    linear_head,
)
from .patches import PatchEmbeddings


@strict
class DeiTConfig(original.DeiTConfig, PatchConfig):
    """Configuration of a DeiT."""


class DeiTEmbeddings(PatchEmbeddings):
    """DeiT's `embeddings`."""

    parts = ("cls_token", "mask_token", "position_embeddings", "distillation_token")
    starts_at_zero = True


class DeiTPreTrainedModel(PatchPreTrainedModel):
    """Base of the family."""

    config: DeiTConfig
    base_model_prefix = "deit"
    embeddings_class = DeiTEmbeddings


class DeiTModel(DeiTPreTrainedModel, PatchModel):
    """DeiT without a head."""


DeiTPreTrainedModel.base_class = DeiTModel


class DeiTForImageClassification(DeiTPreTrainedModel, PatchClassification):
    """Classes or scores of an image, by the class token."""


class DeiTForMaskedImageModeling(DeiTPreTrainedModel, PatchReconstruction):
    """Pixels of hidden patches."""


class DeiTForImageClassificationWithTeacher(DeiTPreTrainedModel):
    """Classes of an image, by the class token and by the one that learned from a teacher."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base(config, add_pooling_layer=False)
        self.cls_classifier = linear_head(config)
        self.distillation_classifier = linear_head(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: Images | None = None, **kwargs
    ) -> their.DeiTForImageClassificationWithTeacherOutput:
        """`cls_logits` and `distillation_logits` `(B, L)`, and their mean, `logits`.

        Arguments as of `PatchClassification`, but for the labels: it is for inference.
        """
        vectors, outputs = self.first_vectors(pixel_values, 2, **kwargs)
        own: torch.Tensor = self.cls_classifier(vectors[:, 0])
        taught = self.distillation_classifier(vectors[:, 1])
        return their.DeiTForImageClassificationWithTeacherOutput(
            logits=(own + taught) / 2,
            cls_logits=own,
            distillation_logits=taught,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
