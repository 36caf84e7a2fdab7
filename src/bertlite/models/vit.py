"""ViT (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929): the encoder over patches of an
image.
"""

from huggingface_hub.dataclasses import strict
from transformers.models.vit import configuration_vit as original

from .family_configuration import PatchConfig
from .modeling_patches import (
    PatchClassification,
    PatchModel,
    PatchPreTrainedModel,
    PatchReconstruction,
)


@strict
class ViTConfig(original.ViTConfig, PatchConfig):
    """Configuration of a ViT."""


class ViTPreTrainedModel(PatchPreTrainedModel):
    """Base of the family."""

    config: ViTConfig
    base_model_prefix = "vit"


class ViTModel(ViTPreTrainedModel, PatchModel):
    """ViT without a head."""


ViTPreTrainedModel.base_class = ViTModel


class ViTForImageClassification(ViTPreTrainedModel, PatchClassification):
    """Classes or scores of an image."""


class ViTForMaskedImageModeling(ViTPreTrainedModel, PatchReconstruction):
    """Pixels of hidden patches."""
