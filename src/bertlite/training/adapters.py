"""Low-rank adapters (LoRA, Hu et al. 2021), over the library peft.

The adapters of a run sit at every linear layer inside the encoder's and decoder's layers; the head
and the pooler are trained whole, since they are new or small. What is saved at the end is the model
with the adapters merged into its weights, which loads everywhere; the folder `adapter` beside it
holds the adapters alone, for `peft.PeftModel.from_pretrained`.
"""

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from .optimizers import LAYER

FOLDER = "adapter"


def add_adapters(model: Any, rank: int) -> Any:
    """The model with new adapters; all that is neither adapter, pooler nor head is frozen.

    Args:
        model: of either family, or another of the library's.
        rank: of the adapters; their products are scaled by 2, whatever it is.

    Returns:
        A `peft.PeftModel` around `model`, whose layers it has changed.

    Raises:
        ValueError: peft is not installed, or the model has no linear layers to adapt.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ValueError("lora needs the package peft: pip install peft") from error
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and LAYER.match(name + ".")
    ]
    if not linear:
        raise ValueError(
            f"lora needs linear layers inside encoder.layer.N or the like, {type(model).__name__} "
            "has none"
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.05,
        target_modules=linear,
        modules_to_save=trained_whole(model) or None,
    )
    with warnings.catch_warnings():  # it asks by an older name whether activations are kept
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)


def trained_whole(model: Any) -> list[str]:
    """The modules beside the layers that are trained: pooler and head.

    Not a head that is tied to the embeddings, which stay as they are.
    """
    table = model.get_input_embeddings()
    tied = set() if table is None else {id(table.weight)}
    found = []
    for name, module in model.named_modules():
        inside = name.split(".")
        head = inside[0] != model.base_model_prefix
        own = [id(parameter) for parameter in module.parameters(recurse=False)]
        if own and (head or "pooler" in inside) and not tied & set(own):
            found.append(name)
    return found


def is_adapted(model: Any) -> bool:
    """Whether `add_adapters` made it."""
    return hasattr(model, "peft_config") and hasattr(model, "merge_and_unload")


def plain_model(model: Any) -> Any:
    """The model itself, whose layers run with its adapters where it has any."""
    return model.get_base_model() if is_adapted(model) else model


def merge_adapters(model: Any, folder: Path | None) -> Any:
    """The model with its adapters merged into the weights; one without adapters as it is.

    Args:
        model: as `add_adapters` gave it.
        folder: where the adapters alone are saved, in the sub-folder `adapter`; None: nowhere.
    """
    if not is_adapted(model):
        return model
    if folder is not None:
        model.save_pretrained(folder / FOLDER)
    return model.merge_and_unload()
