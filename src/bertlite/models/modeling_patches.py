"""The Transformer's encoder over patches, and its heads: what ViT and its relatives share.

The layers are BERT's, with the norm before each sub-layer. Where images come as a list, all patches
are one row, `(1, N, E)`, in which each image is a sequence of its own; so whatever leaves out
padding of texts serves them.

Shapes: `B` images, `T` tokens of an image, `N` tokens of all, `R` vectors that a head reads, `E`
hidden size, `L` labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    ImageClassifierOutput,
    MaskedImageModelingOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention import Attention
from .checkpoint import LitePreTrainedModel
from .encoder import LayerStack, TextEncoder, final_norm_part
from .family_heads import FamilyModel
from .inputs import BatchLengths, TextBatch, check_mask
from .layers import EncoderLayer
from .losses import Count, problem_type, sequence_loss
from .names import VIT_ATTENTION, VIT_LAYER
from .parts import Grown, Part
from .patches import PatchEmbeddings

Images = torch.Tensor | Sequence[Any]  # of one size (B, C, height, width), or a list of any sizes


@dataclass
class PatchOutput(BaseModelOutputWithPooling):
    """As of the library, and how many tokens each image has where they came as a list."""

    lengths: torch.Tensor | None = None


class PatchPreTrainedModel(FamilyModel, LitePreTrainedModel):
    """Base of the families that read patches."""

    main_input_name = "pixel_values"
    input_modalities = ["image"]
    _can_record_outputs = {"hidden_states": EncoderLayer, "attentions": Attention}
    _no_split_modules = ["PatchEmbeddings", "EncoderLayer"]
    embeddings_class: type[PatchEmbeddings] = PatchEmbeddings
    base_class: Any = None  # its model without a head, which heads build

    @classmethod
    def is_custom_code(cls) -> bool:
        """No, so that transformers' table from names in files to names of modules serves ours."""
        return cls.is_remote_code()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, PatchEmbeddings):
            module.fill(self.config.initializer_range)

    def add_base(self, config: Any, **options: Any) -> None:
        """Hang in the model below a head."""
        setattr(self, self.base_model_prefix, self.base_class(config, **options))

    def first_vectors(self, values: Any, count: int, **kwargs: Any) -> tuple[torch.Tensor, Any]:
        """The first `count` vectors of each image, `(B, count, E)`, and the base's outputs.

        Where nobody watches, what comes after the last layer's attention is computed for those
        alone.
        """
        read = count if self.skips_unread(**kwargs) else None
        outputs = self.base_model(values, first=read, return_dict=True, **kwargs)
        vectors = outputs.last_hidden_state
        if read is None:
            vectors = firsts(vectors, outputs.lengths, count)
        return vectors, outputs


class PatchPooler(nn.Module):
    """A summary of each image: activation(W h + b) of the class token's vector."""

    def __init__(self, config: Any):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.pooler_output_size)
        self.activation = ACT2FN[config.pooler_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to `(B, P)`."""
        return self.activation(self.dense(hidden_states[:, 0]))


class PatchModel(LayerStack, Grown, PatchPreTrainedModel, TextEncoder):
    """Patches, layers, a norm and, unless told else, the pooler."""

    final_norm = Part()
    layerdrop = 0.0

    def __init__(self, config: Any, add_pooling_layer: bool = True, use_mask_token: bool = False):
        super().__init__(config)
        self.num_heads = config.num_attention_heads
        self.embeddings = self.embeddings_class(config, use_mask_token)
        layers = [
            EncoderLayer(
                config,
                VIT_LAYER,
                VIT_ATTENTION,
                num_heads=config.num_attention_heads,
                intermediate_size=config.intermediate_size,
                layer_idx=index,
            )
            for index in range(config.num_hidden_layers)
        ]
        self.set_names({"layers": "layers", "final_norm": "layernorm"})
        self.grow({"layers": nn.ModuleList(layers), **final_norm_part(config)})
        self.pooler = PatchPooler(config) if add_pooling_layer else None
        self.reads_first_position = add_pooling_layer
        self.post_init()

    @property
    def stack(self) -> LayerStack:
        return self

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embeddings

    def embed_batch(self, batch: TextBatch) -> torch.Tensor:
        """`(B, T, E)`: the batch was made of vectors."""
        return batch.given

    def pool(self, vectors: torch.Tensor) -> torch.Tensor | None:
        """The summary of each image, of its first vectors `(B, R, E)`."""
        return None if self.pooler is None else self.pooler(vectors)

    def image_batch(
        self, values: Images | None, attention_mask: torch.Tensor | None, **options: Any
    ) -> TextBatch:
        """Images as a batch of vectors; those of a list are sequences packed in one row.

        Raises:
            ValueError: inputs that do not fit.
        """
        self.check_values(values, attention_mask, **options)
        lengths: list[int] | None = None
        if isinstance(values, torch.Tensor):
            vectors = self.embeddings(values, **options)
        else:
            vectors, lengths = self.embeddings.lay_out(values)
        rows, length = vectors.shape[:2]
        check_mask("attention_mask", attention_mask, rows, self.num_heads, length, length)
        segments = None
        if lengths is not None:
            counts = torch.tensor(lengths, device=vectors.device)
            numbers = torch.arange(len(lengths), device=vectors.device)
            segments = numbers.repeat_interleave(counts, output_size=length)[None]  # (1, N)
        return TextBatch(
            input_ids=None,
            token_type_ids=None,
            position_ids=torch.arange(length, device=vectors.device)[None],
            inputs_embeds=vectors,
            attention_mask=attention_mask,
            segments=segments,
            lengths=None if lengths is None else BatchLengths(tuple(lengths)),
        )

    def check_values(
        self, values: Any, attention_mask: torch.Tensor | None, **options: Any
    ) -> None:
        """Refuse, with a ValueError, what a list of images cannot come with, or no images."""
        name = self.main_input_name
        if values is None or len(values) == 0:
            came = "None" if values is None else "an empty one"
            raise ValueError(f"{name} must be given, a batch or a list of one at least, got {came}")
        if isinstance(values, torch.Tensor):
            return
        if attention_mask is not None:
            raise ValueError(
                f"attention_mask must be None where {name} is a list, which has no padding, got a "
                f"mask of shape {tuple(attention_mask.shape)}"
            )
        if options.get("bool_masked_pos") is not None:
            raise ValueError(f"bool_masked_pos must be None where {name} is a list, got a mask")

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Images | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        attention_mask: torch.Tensor | None = None,
        first: int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PatchOutput:
        """Encode images.

        Args:
            pixel_values: `(B, C, height, width)`; or a list of images `(C, height, width)`, tensors
                or arrays, each of its own size, for which positions are interpolated.
            bool_masked_pos: `(B, patches)`, true where a patch is replaced by the mask token.
            interpolate_pos_encoding: whether a batch may have another size than the model's own.
            attention_mask: `(B, T)`, non-zero at the tokens that others may see.
            first: how many vectors at the start of each image are read; None: all.
            kwargs: `output_attentions`, `output_hidden_states`, `return_dict`.

        Returns:
            `last_hidden_state` `(B, T, E)`, of a list `(1, N, E)`, image after image, with
            `lengths` `(B,)`; with `first`, `(B, first, E)` in both cases. `pooler_output` `(B, P)`.

        Raises:
            ValueError: images that do not fit.
        """
        batch = self.image_batch(
            pixel_values,
            attention_mask,
            bool_masked_pos=bool_masked_pos,
            interpolate_pos_encoding=interpolate_pos_encoding,
        )
        return self.encode_images(batch, first, **kwargs)

    def encode_images(self, batch: TextBatch, first: int | None, **kwargs: Any) -> PatchOutput:
        """What `forward` returns, of a batch of vectors."""
        lengths = None
        if batch.lengths is not None:
            lengths = torch.tensor(batch.lengths.sequences, device=batch.device)
        if first is None:
            vectors = self.encode(batch, **kwargs)
            starts = firsts(vectors, lengths, len(self.embeddings.tokens))
        else:
            most = max(first, len(self.embeddings.tokens))  # which the summary may read too
            read = start_places(batch.shape, lengths, most, batch.device)
            count = batch.shape[0] if lengths is None else len(lengths)
            found = self.encode(batch, read, num_positions=count * most, **kwargs)
            starts = found.view(count, most, -1)
            vectors = starts[:, :first]
        return PatchOutput(
            last_hidden_state=vectors, pooler_output=self.pool(starts), lengths=lengths
        )


PatchPreTrainedModel.base_class = PatchModel


def start_places(
    shape: tuple[int, int], lengths: torch.Tensor | None, count: int, device: torch.device
) -> torch.Tensor:
    """Where the first `count` tokens of each image stand, boolean `(B, T)`, of a list `(1, N)`."""
    read = torch.zeros(shape, dtype=torch.bool, device=device)
    if lengths is None:
        read[:, :count] = True
        return read
    begins = lengths.cumsum(0) - lengths  # (B,)
    places = begins[:, None] + torch.arange(count, device=device)  # (B, count)
    read[0, places.flatten()] = True
    return read


def firsts(vectors: torch.Tensor, lengths: torch.Tensor | None, count: int) -> torch.Tensor:
    """The first `count` vectors of each image, `(B, count, E)`."""
    if lengths is None:
        return vectors[:, :count]
    read = start_places((1, vectors.shape[1]), lengths, count, vectors.device)
    return vectors[read].view(len(lengths), count, -1)


def linear_head(config: Any) -> nn.Module:
    """Classes of a vector; without labels the vector itself."""
    count = config.num_labels
    return nn.Linear(config.hidden_size, count) if count > 0 else nn.Identity()


class PatchClassification(PatchPreTrainedModel):
    """Classes or scores of an image."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base(config, add_pooling_layer=False)
        self.classifier = linear_head(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Images | None = None,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        attention_mask: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        """Scores of the classes.

        Args:
            pixel_values: as in `PatchModel`, and so are the next but one and the last.
            labels: `(B,)` of a class or a number, or `(B, L)` of several.
            interpolate_pos_encoding: see there.
            attention_mask: see there.
            num_items_in_batch: labels in all the pieces whose gradients are accumulated.
            kwargs: see there.

        Returns:
            `logits` `(B, L)`, and `loss` where labels are given.

        Raises:
            ValueError: images or labels that do not fit.
        """
        options = {"interpolate_pos_encoding": interpolate_pos_encoding, **kwargs}
        options["attention_mask"] = attention_mask
        vectors, outputs = self.first_vectors(pixel_values, 1, **options)
        logits = self.classifier(vectors[:, 0])  # (B, L)
        loss: torch.Tensor | None = None
        if labels is not None:
            kind = problem_type(self.config, labels)
            loss = sequence_loss(kind, logits, labels, num_items_in_batch)
        return ImageClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class PatchReconstruction(PatchPreTrainedModel):
    """Pixels of the patches that were hidden (SimMIM, Xie et al. 2021)."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.add_base(config, add_pooling_layer=False, use_mask_token=True)
        pixels = config.encoder_stride**2 * config.num_channels
        self.decoder = nn.Sequential(
            nn.Conv2d(config.hidden_size, pixels, kernel_size=1),
            nn.PixelShuffle(config.encoder_stride),
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        bool_masked_pos: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedImageModelingOutput:
        """Images again.

        Args:
            pixel_values: `(B, C, height, width)`.
            bool_masked_pos: `(B, patches)`, true where a patch is hidden.
            interpolate_pos_encoding: as in `PatchModel`, and so are the other arguments.
            attention_mask: see there.
            kwargs: see there.

        Returns:
            `reconstruction` `(B, C, height, width)`, and, where `bool_masked_pos` is given, `loss`:
            the mean distance of pixels that were hidden.

        Raises:
            ValueError: images that do not fit, or come as a list.
        """
        if not isinstance(pixel_values, torch.Tensor):
            came = type(pixel_values).__name__
            raise ValueError(f"pixel_values must be a tensor, images of one size, got {came}")
        config, stride = self.config, self.config.encoder_stride
        if bool_masked_pos is not None and config.patch_sides != (stride, stride):
            raise ValueError(
                f"encoder_stride must be patch_size, {config.patch_size}, where bool_masked_pos is "
                f"given, so that pixels fall on pixels, got {stride}"
            )
        outputs = self.base_model(
            pixel_values,
            bool_masked_pos=bool_masked_pos,
            interpolate_pos_encoding=interpolate_pos_encoding,
            attention_mask=attention_mask,
            return_dict=True,
            **kwargs,
        )
        grid = config.grid_of(*pixel_values.shape[2:])
        embeddings: Any = self.base_model.embeddings
        patches = outputs.last_hidden_state[:, len(embeddings.tokens) :]
        planes = patches.transpose(1, 2).unflatten(2, grid)  # (B, E, down, across)
        made = self.decoder(planes)
        loss = None
        if bool_masked_pos is not None:
            loss = hidden_pixel_loss(made, pixel_values, bool_masked_pos, grid, stride)
        return MaskedImageModelingOutput(
            loss=loss,
            reconstruction=made,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def hidden_pixel_loss(
    made: torch.Tensor,
    pixels: torch.Tensor,
    hidden: torch.Tensor,
    grid: tuple[int, int],
    patch: int,
) -> torch.Tensor:
    """Mean absolute difference of `made` and `pixels` `(B, C, height, width)` in hidden patches.

    `hidden` is `(B, patches)`. Deviation: the mean is over exactly the hidden pixels, where
    transformers adds 1e-5 to their number.
    """
    mask = hidden.bool().unflatten(1, grid)[:, None]  # (B, 1, down, across)
    mask = mask.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    down, across = made.shape[2:]
    difference = (made - pixels[..., :down, :across]).abs() * mask
    return difference.sum() / (mask.sum() * pixels.shape[1]).clamp(min=1)
