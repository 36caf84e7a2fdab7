"""What every model does around its layers: tensor names, loading, saving, initialising.

Files keep the standard BERT and Marian tensor names; the mappings below turn them into those of the
shared layers on loading and back on saving, so that transformers' own classes read what we write.
"""

import os
import tempfile
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.conversion_mapping import (
    get_model_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.core_model_loading import WeightRenaming, apply_renamings

from .configuration import LiteConfig
from .embeddings import SinusoidalPositions, sinusoidal_table


class LoadOnlyRenaming(WeightRenaming):
    """A rename for names that old files use and new ones do not.

    Saving does not bring them back.
    """

    def reverse_transform(self) -> WeightRenaming:
        return WeightRenaming("(?!)", "")  # a pattern that matches nothing


# In this order on loading, in the opposite order on saving.
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
BERT_NAMES = {
    r"encoder\.layer\.": "layers.",
    r"attention\.self\.": "self_attention.",
    "attention.output.dense": "self_attention.output",
    "attention.output.LayerNorm": "self_attention_norm",
    "intermediate.dense": "feed_forward.fc1",
    "output.dense": "feed_forward.fc2",
    "output.LayerNorm": "feed_forward_norm",
}
MARIAN_NAMES = {
    "embed_tokens": "embeddings.word_embeddings",
    "embed_positions": "embeddings.position_embeddings",
    "self_attn_layer_norm": "self_attention_norm",
    "encoder_attn_layer_norm": "cross_attention_norm",
    "final_layer_norm": "feed_forward_norm",
    "self_attn": "self_attention",
    "encoder_attn": "cross_attention",
    r"(?<!feed_forward)\.fc1": ".feed_forward.fc1",
    r"(?<!feed_forward)\.fc2": ".feed_forward.fc2",
    "q_proj": "query",
    "k_proj": "key",
    "v_proj": "value",
    "out_proj": "output",
}

for _type, _names in (("bertlite", BERT_NAMES), ("transformerlite", MARIAN_NAMES)):
    _renamings: list = [LoadOnlyRenaming(*n) for n in OLD_NAMES.items()] + [
        WeightRenaming(*n) for n in _names.items()
    ]
    register_checkpoint_conversion_mapping(
        _type, _renamings, overwrite=True
    )  # a travelled copy does it once more


class LitePreTrainedModel(PreTrainedModel):
    """Base of every model. A family sets `config`, `base_model_prefix` and `auto_map`."""

    supports_gradient_checkpointing = _can_compile_fullgraph = True
    _supports_flash_attn = _supports_sdpa = _supports_flex_attn = _supports_attention_backend = True
    _input_embed_layer = "word_embeddings"
    _no_split_modules = ["Embeddings", "EncoderLayer", "DecoderLayer"]
    # Old files hold position numbers, and tables that are computed here.
    _keys_to_ignore_on_load_unexpected = [r"position_ids$", r"position_embeddings\.weight$"]
    auto_map: dict[str, str] = {}

    def __init__(self, config: PreTrainedConfig, *args, **kwargs):
        if not isinstance(config, LiteConfig):
            raise ValueError(
                f"{type(self).__name__}: config must be one of bertlite's, got "
                f"{type(config).__name__}"
            )
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SinusoidalPositions):
            init.copy_(
                module.weight, sinusoidal_table(*module.weight.shape).to(module.weight.dtype)
            )
        for bias in (module._parameters.get("bias"), module._buffers.get("final_logits_bias")):
            if bias is not None:
                init.zeros_(bias)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a folder or hub name: ours, BERT's (for BertLite) or Marian's (for TransformerLite).

        Raises:
            ValueError: another architecture; a damaged file; weights of the layers missing. Only
                those of a head or of the pooler may be, and the library's load report names them.
        """
        want_info, config = kwargs.pop("output_loading_info", False), kwargs.get("config")
        if isinstance(config, PreTrainedConfig) and not isinstance(config, LiteConfig):
            kwargs["config"] = cls.config_class.from_dict(cls.config_class.adopt(config.to_dict()))
        source = str(pretrained_model_name_or_path)
        for path in sorted(
            Path(source, kwargs.get("subfolder") or "").glob("*.safetensors")
        ):  # none for a hub name
            check_file(path)
        kwargs["output_loading_info"] = True
        model, info = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        missing = sorted(
            key
            for key in info["missing_keys"]
            if ".layers." in f".{key}" or "word_embeddings" in key
        )
        if missing and pretrained_model_name_or_path is not None:
            wanted = f"{source}: not the weights of a {' or '.join(cls.config_class.accepted_model_types)}"
            raise ValueError(
                f"{wanted}: {len(missing)} tensors of it, such as {missing[0]}, would have stayed "
                "random"
            )
        return (model, info) if want_info else model

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Also understands a file's tensor names, which `Trainer` hands over when it resumes or
        reloads the best.
        """
        own = self.state_dict()
        renamings: list = get_model_conversion_mapping(self, add_legacy=False)
        named = {
            n if n in own else apply_renamings(n, renamings): tensor
            for n, tensor in state_dict.items()
        }
        ties = self.all_tied_weights_keys.items()  # a file holds a tied tensor once
        named |= {
            target: named[source]
            for target, source in ties
            if source in named and target not in named
        }
        return super().load_state_dict(named, strict, assign)

    def save_pretrained(
        self, save_directory, is_main_process: bool = True, push_to_hub: bool = False, **kwargs
    ):
        """Save weights (safetensors), config and the code that a machine without bertlite needs,
        all or nothing.
        """
        if not getattr(self, "_hf_peft_config_loaded", False):
            self.config.auto_map = dict(self.auto_map)
        target = Path(save_directory)
        if (
            push_to_hub
            or not is_main_process
            or target.is_file()
            or kwargs.get("distributed_checkpoint")
        ):
            # No whole folder is made here: the library uploads, shares the work, or refuses.
            super().save_pretrained(
                save_directory, is_main_process, push_to_hub=push_to_hub, **kwargs
            )
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            written = Path(scratch, "folder")
            super().save_pretrained(written, is_main_process, **kwargs)
            for path in written.glob("*.safetensors"):
                add_checksum(path)
            move_into_place(written, target)


def file_checksum(path: Path, tensors_only: bool = False) -> str:
    """CRC-32 of a file, or of the tensor bytes of a safetensors file, which follow its header."""
    checksum = 0
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little") if tensors_only else 0)
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return str(checksum)


def add_checksum(path: Path) -> None:
    """Note the checksum of the tensors in the file's own metadata.

    A flipped bit then shows on loading.
    """
    save_file(
        load_file(path),
        path.with_suffix(".part"),
        metadata={"format": "pt", "crc32": file_checksum(path, True)},
    )
    os.replace(path.with_suffix(".part"), path)


def check_file(path: Path) -> None:
    """Refuse a damaged safetensors file with a ValueError.

    Files of other writers carry no checksum to compare.
    """
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get("crc32")
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or no safetensors file ({error})") from error
    if expected is not None and expected != file_checksum(path, tensors_only=True):
        raise ValueError(
            f"{path}: damaged safetensors file, its tensors do not match the checksum {expected}"
        )


def move_into_place(written: Path, target: Path) -> None:
    """Move a complete folder to where it belongs.

    At once where nothing stood there, else file by file.
    """
    if not target.exists():
        os.replace(written, target)
        return
    new = sorted(path.name for path in written.iterdir())
    for name in new:
        os.replace(written / name, target / name)
    for path in target.glob(
        "model*.safetensors*"
    ):  # shards of an earlier save that this one does not replace
        if path.name not in new and any(name.startswith("model") for name in new):
            path.unlink()
