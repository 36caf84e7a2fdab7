"""What a model of images looks at, and what its verdict leans on, as pictures of patches.

Shapes: `C` channels, `L` layers, `H` heads, `T` tokens, `P` patches.
"""

from typing import Any

import torch

from .attention import AttentionMaps
from .attention_graph import attention_rollout
from .tokens import TextTokens


def attention_over_patches(image: torch.Tensor, model: Any) -> torch.Tensor:
    """How much of each patch arrives at the class token, `(down, across)`.

    Attention is followed through all layers by rollout (`attention_rollout`). What the tokens that
    belong to no patch keep is left out, so that the picture sums to less than 1. It says where the
    model looks, not why: `occluded_patches` asks that.

    Args:
        image: `(C, height, width)`, of any size; for sound a spectrogram `(frames, mel bins)`.
        model: a ViT, a DeiT or an AST of bertlite, with or without a head.

    Raises:
        ValueError: a model that reads no patches.

    >>> from bertlite.models.vit import ViTConfig, ViTModel
    >>> model = ViTModel(ViTConfig(image_size=8, patch_size=4, hidden_size=24)).eval()
    >>> attention_over_patches(torch.zeros(3, 8, 8), model).shape
    torch.Size([2, 2])
    """
    embeddings = patch_embeddings_of(model)
    with torch.no_grad():
        outputs = quiet(model)([image], output_attentions=True)
    layers = tuple(layer[0].float().cpu() for layer in outputs.attentions)  # (H, T, T) each
    nothing = TextTokens((), {}, (), (), (), ())
    rolled = attention_rollout(AttentionMaps(source=nothing, encoder=layers))[-1]  # (T, T)
    return rolled[0, len(embeddings.tokens) :].view(grid_of(image, embeddings))


def occluded_patches(
    image: torch.Tensor, model: Any, target: int | None = None, fill: float = 0.0
) -> torch.Tensor:
    """How far the log-odds of a class fall when each patch is painted over, `(down, across)`.

    Args:
        image: `(C, height, width)`.
        model: one that classifies images.
        target: the class; None: the one that the model finds.
        fill: what a patch is painted with.

    Raises:
        ValueError: a model that reads no patches, patches that overlap, or no such class.
    """
    embeddings = patch_embeddings_of(model)
    config, grid = embeddings.config, grid_of(image, embeddings)
    if config.patch_strides != config.patch_sides or image.ndim != 3:
        raise ValueError(
            "image must have shape (channels, height, width) and patches that lie side by side, "
            f"got {tuple(image.shape)} and steps of {config.patch_strides}"
        )
    height, width = config.patch_sides
    painted = image.repeat(1 + grid[0] * grid[1], 1, 1, 1)  # the first stays whole
    for place in range(grid[0] * grid[1]):
        top, left = place // grid[1] * height, place % grid[1] * width
        painted[1 + place, :, top : top + height, left : left + width] = fill
    with torch.no_grad():
        scores = quiet(model)(painted, interpolate_pos_encoding=True).logits.float().cpu()
    if target is None:
        target = int(scores[0].argmax())
    if not 0 <= target < scores.shape[1] or scores.shape[1] < 2:
        raise ValueError(f"target must be one of {scores.shape[1]} classes, got {target}")
    others = [label for label in range(scores.shape[1]) if label != target]
    odds = scores[:, target] - scores[:, others].logsumexp(-1)
    return (odds[0] - odds[1:]).view(grid)


def patch_embeddings_of(model: Any) -> Any:
    """The embeddings of a model that reads patches; a ValueError for any other."""
    embeddings = getattr(getattr(model, "base_model", None), "embeddings", None)
    if not hasattr(embeddings, "patch_embeddings") or not hasattr(embeddings, "tokens"):
        raise ValueError(
            "model must be one of bertlite's that reads patches (ViT, DeiT, AST), got "
            f"{type(model).__name__}"
        )
    return embeddings


def grid_of(image: torch.Tensor, embeddings: Any) -> tuple[int, int]:
    """How many patches the image has, down and across."""
    return embeddings.config.grid_of(*embeddings.as_images(image[None]).shape[2:])


def quiet(model: Any) -> Any:
    """The model in evaluation mode.

    Raises:
        ValueError: it is in training mode, where dropout would be in the picture.
    """
    if model.training:
        raise ValueError("model must be in evaluation mode, got training mode; call model.eval()")
    return model
