"""Audio Spectrogram Transformer (Gong et al. 2021, https://arxiv.org/abs/2104.01778): DeiT over the
spectrogram of a sound, with patches that overlap.

Shapes: `B` clips, `F` mel bins, `R` patches down a spectrogram, `T` tokens of a clip, `N` tokens of
all, `E` hidden size, `L` labels.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.audio_spectrogram_transformer import (
    configuration_audio_spectrogram_transformer as original,
)
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .family_configuration import PatchConfig
from .losses import Count, problem_type, sequence_loss
from .modeling_patches import Images, PatchModel, PatchOutput, PatchPreTrainedModel, linear_head
from .patches import PatchEmbeddings


@strict
class ASTConfig(original.ASTConfig, PatchConfig):
    """Configuration of an Audio Spectrogram Transformer."""

    sizes = (*PatchConfig.sizes, "frequency_stride", "time_stride")

    @property
    def patch_strides(self) -> tuple[int, int]:
        """As of `PatchConfig`: over mel bins and over frames."""
        return self.frequency_stride, self.time_stride

    @property
    def whole_sides(self) -> tuple[int, int]:
        """As of `PatchConfig`: mel bins and frames."""
        return self.num_mel_bins, self.max_length


class ASTEmbeddings(PatchEmbeddings):
    """AST's `embeddings`."""

    parts = ("cls_token", "distillation_token", "position_embeddings")
    starts_at_zero, channels = True, 1

    def as_images(self, values: torch.Tensor) -> torch.Tensor:
        """Spectrograms `(B, frames, F)` to `(B, 1, F, frames)`."""
        return values.transpose(-1, -2)[:, None]

    def cut(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """A clip `(frames, F)` without what lies beyond its last whole patch."""
        return image[:width]

    def check_images(self, images: torch.Tensor, any_size: bool | None) -> tuple[int, int]:
        """As of `PatchEmbeddings`; a batch may be shorter than `max_length` too."""
        bins, longest = self.config.whole_sides
        shortest = self.config.patch_sides[1]
        frames = images.shape[-1]
        if images.ndim != 4 or images.shape[2] != bins or not shortest <= frames <= longest:
            shape = tuple(images.squeeze(1).transpose(-1, -2).shape)
            raise ValueError(
                f"input_values must have shape (batch, frames, {bins}), or be a list of tensors "
                f"(frames, {bins}), with {shortest} to {longest} frames, got {shape}"
            )
        return self.config.grid_of(bins, frames)

    def positions_of(self, grid: tuple[int, int]) -> torch.Tensor:
        """As of `PatchEmbeddings`; a patch has the position of its time, however long the clip."""
        table, count = self.position_embeddings, len(self.tokens)
        if grid == self.grid:
            return table
        planes = table[:, count:].unflatten(1, self.grid)[:, :, : grid[1]]  # (1, R, columns, E)
        return torch.cat([table[:, :count], planes.flatten(1, 2)], dim=1)


class ASTPreTrainedModel(PatchPreTrainedModel):
    """Base of the family."""

    config: ASTConfig
    base_model_prefix = "audio_spectrogram_transformer"
    main_input_name = "input_values"
    input_modalities = ["audio"]
    embeddings_class = ASTEmbeddings


class ASTModel(ASTPreTrainedModel, PatchModel):
    """AST without a head."""

    def __init__(self, config: ASTConfig):
        super().__init__(config, add_pooling_layer=False)
        self.reads_first_position = True

    def pool(self, vectors: torch.Tensor) -> torch.Tensor:
        """The mean of the clip's own two vectors."""
        return (vectors[:, 0] + vectors[:, 1]) / 2

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: Images | None = None,
        attention_mask: torch.Tensor | None = None,
        first: int | None = None,
        **kwargs,
    ) -> PatchOutput:
        """Encode spectrograms.

        Args:
            input_values: `(B, frames, F)`; or a list of clips `(frames, F)`, each of its own length
                up to `max_length`.
            attention_mask: as in `PatchModel.forward`, and so is all else.
            first: see there.
            kwargs: see there.

        Raises:
            ValueError: spectrograms that do not fit.
        """
        batch = self.image_batch(input_values, attention_mask)
        return self.encode_images(batch, first, **kwargs)


ASTPreTrainedModel.base_class = ASTModel


class ASTMLPHead(nn.Module):
    """AST's `classifier`."""

    def __init__(self, config: ASTConfig):
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dense = linear_head(config)

    def forward(self, hidden_state: torch.Tensor) -> torch.Tensor:
        """`(B, E)` to `(B, L)`."""
        return self.dense(self.layernorm(hidden_state))


class ASTForAudioClassification(ASTPreTrainedModel):
    """Classes or scores of a clip."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base(config)
        self.classifier = ASTMLPHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: Images | None = None,
        labels: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """`logits` `(B, L)`; arguments as of `ASTModel` and, for labels, `PatchClassification`."""
        vectors, outputs = self.first_vectors(
            input_values, 2, attention_mask=attention_mask, **kwargs
        )
        logits = self.classifier(outputs.pooler_output)
        loss: torch.Tensor | None = None
        if labels is not None:
            kind = problem_type(self.config, labels)
            loss = sequence_loss(kind, logits, labels, num_items_in_batch)
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
