"""Images and spectrograms as sequences: a vector for each patch (Dosovitskiy et al. 2020).

An image is cut into patches, each patch is one linear map away from a vector, and each place of
the grid has a position vector that is learned. Before the patches stand tokens that belong to the
whole: the class token, and the distillation token of Touvron et al. 2020.

Images of one size make a batch `(B, T, E)`. Images of several sizes are laid end to end,
`(1, N, E)`: none is resized, and there is no padding.

Shapes: `B` batch, `C` channels, `T` tokens of an image, `N` tokens of all, `E` hidden size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from .inputs import is_traced

TOKENS = ("cls_token", "distillation_token")  # in the order in which they stand before patches


class PatchProjection(nn.Module):
    """Patches to vectors: a convolution whose steps are as wide as the patches lie apart."""

    def __init__(self, config: Any, channels: int):
        super().__init__()
        self.projection = nn.Conv2d(
            channels, config.hidden_size, config.patch_sides, config.patch_strides
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`(B, C, height, width)` to `(B, patches, E)`, row by row of the image."""
        return self.projection(pixel_values).flatten(2).transpose(1, 2)


class PatchEmbeddings(nn.Module):
    """Patch (+ mask) after the whole's own tokens, + position, then dropout: ViT's embedding."""

    # The parameters that the family has, in the order of its files.
    parts: tuple[str, ...] = ("cls_token", "mask_token", "position_embeddings")
    starts_at_zero = False  # else a truncated normal distribution
    argument = "pixel_values"
    position_embeddings: torch.Tensor
    mask_token: nn.Parameter | None

    def __init__(self, config: Any, use_mask_token: bool = False):
        super().__init__()
        self.config, self.grid = config, config.grid_of(*config.whole_sides)
        self.tokens = [name for name in TOKENS if name in self.parts]
        count = len(self.tokens) + self.grid[0] * self.grid[1]
        for name in self.parts:
            length = count if name == "position_embeddings" else 1
            vectors = nn.Parameter(torch.zeros(1, length, config.hidden_size))
            self.register_parameter(name, vectors)
        if not use_mask_token:
            self.mask_token = None
        self.patch_embeddings = PatchProjection(config, self.channels)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    @property
    def channels(self) -> int:
        """C."""
        return self.config.num_channels

    def fill(self, std: float) -> None:
        """Weights as at the start of training."""
        for name in self.parts:
            weight = getattr(self, name)
            if weight is not None and (self.starts_at_zero or name == "mask_token"):
                init.zeros_(weight)
            elif weight is not None and name != "distillation_token":
                init.trunc_normal_(weight, mean=0.0, std=std)

    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
    ) -> torch.Tensor:
        """Images of one size `(B, C, height, width)` to `(B, T, E)`.

        Args:
            pixel_values: `(B, C, height, width)`.
            bool_masked_pos: `(B, patches)`, true where a patch is replaced by the mask token.
            interpolate_pos_encoding: whether images may have another size than the model's own.

        Raises:
            ValueError: images of another shape or size.
        """
        pixel_values = self.as_images(
            pixel_values.to(self.patch_embeddings.projection.weight.dtype)
        )
        grid = self.check_images(pixel_values, interpolate_pos_encoding)
        hidden_states = self.patch_embeddings(pixel_values)  # (B, patches, E)
        if bool_masked_pos is not None:
            hidden_states = self.mask(hidden_states, bool_masked_pos)
        tokens = [getattr(self, name).expand(len(pixel_values), -1, -1) for name in self.tokens]
        hidden_states = torch.cat([*tokens, hidden_states], dim=1)  # (B, T, E)
        return self.dropout(hidden_states + self.positions_of(grid))

    def lay_out(self, images: Sequence[Any]) -> tuple[torch.Tensor, list[int]]:
        """Images of any sizes, `(C, height, width)` each, end to end: `(1, N, E)`.

        Also the tokens of each. Those with the same patches are embedded together.
        """
        weight = self.patch_embeddings.projection.weight
        tensors = [torch.as_tensor(image).to(weight.device, weight.dtype) for image in images]
        by_size: dict[torch.Size, list[int]] = {}
        for index, image in enumerate(tensors):
            grid = self.check_images(self.as_images(image[None]), True)
            tensors[index] = self.cut(image, *self.config.sides_of(*grid))
            by_size.setdefault(tensors[index].shape, []).append(index)
        embedded: list[Any] = [None] * len(tensors)
        for indices in by_size.values():
            together = torch.stack([tensors[index] for index in indices])
            vectors = self(together, interpolate_pos_encoding=True)
            for index, each in zip(indices, vectors, strict=True):
                embedded[index] = each  # (T, E)
        return torch.cat(embedded)[None], [len(each) for each in embedded]

    def cut(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """An image without what lies beyond its last whole patch."""
        return image[..., :height, :width]

    def as_images(self, values: torch.Tensor) -> torch.Tensor:
        """What the caller gives as `(B, C, height, width)`."""
        return values

    def check_images(self, images: torch.Tensor, any_size: bool | None) -> tuple[int, int]:
        """How many patches lie down and across.

        Raises:
            ValueError: images of another shape or size.
        """
        if images.ndim != 4 or images.shape[1] != self.channels or not len(images):
            raise ValueError(
                f"{self.argument} must have shape (batch, {self.channels}, height, width), or be a "
                f"list of tensors ({self.channels}, height, width), got {tuple(images.shape)}"
            )
        height, width = images.shape[2:]
        grid, own = self.config.grid_of(height, width), self.config.whole_sides
        if 0 in grid and not is_traced():
            raise ValueError(
                f"{self.argument} must be as large as a patch, {self.config.patch_sides}, got an "
                f"image of {(height, width)}"
            )
        if not any_size and (height, width) != own:
            raise ValueError(
                f"{self.argument} must be images of {own}, the model's size, unless "
                "interpolate_pos_encoding is true or they come as a list, got images of "
                f"{(height, width)}"
            )
        return grid

    def mask(self, hidden_states: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Patches `(B, patches, E)`, of which those that are `masked` `(B, patches)` are hidden."""
        if self.mask_token is None:
            raise ValueError(
                "bool_masked_pos must come to a model with a mask token, a "
                "...ForMaskedImageModeling or one that was made with use_mask_token=True"
            )
        if tuple(masked.shape) != tuple(hidden_states.shape[:2]):
            raise ValueError(
                f"bool_masked_pos must have shape {tuple(hidden_states.shape[:2])}, a place for "
                f"each patch, got {tuple(masked.shape)}"
            )
        return torch.where(masked.bool()[..., None], self.mask_token, hidden_states)

    def positions_of(self, grid: tuple[int, int]) -> torch.Tensor:
        """Position vectors of an image with this grid of patches, `(1, T, E)`.

        The learned grid is stretched to it by bicubic interpolation, as in the original code.

        Deviation: the learned grid may have any sides, where transformers takes it as a square.
        """
        table = self.position_embeddings
        if grid == self.grid:
            return table
        whole, patches = table[:, : len(self.tokens)], table[:, len(self.tokens) :]
        planes = patches.unflatten(1, self.grid).permute(0, 3, 1, 2)  # (1, E, down, across)
        planes = nn.functional.interpolate(planes, grid, mode="bicubic", align_corners=False)
        return torch.cat([whole, planes.flatten(2).transpose(1, 2)], dim=1)
