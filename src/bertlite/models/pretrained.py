"""What every model does around its layers: tensor names, loading, saving, initialising.

Files keep the standard BERT and Marian tensor names; the mappings below turn them into those of the
shared layers on loading and back on saving, so that transformers' own classes read what we write.
"""

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
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
from .files import check_files, explain_failure, whole_folder


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
        kwargs["output_loading_info"] = True
        try:
            model, info = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except (OSError, SafetensorError, UnpicklingError):
            explain_failure(source, **kwargs)  # where no list of files came to be checked
            raise
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

    @staticmethod
    def _load_pretrained_model(model, state_dict, checkpoint_files, *args, **kwargs):
        """Check the very files that the library has chosen, from a folder, the hub or an adapter,
        and load them.
        """
        check_files(checkpoint_files or [])
        return PreTrainedModel._load_pretrained_model(
            model, state_dict, checkpoint_files, *args, **kwargs
        )

    @classmethod
    def is_remote_code(cls) -> bool:
        """Whether saving copies the class's own code: a user's subclass has not inherited that."""
        return vars(cls).get("_auto_class") is not None

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
            self.config.auto_map = dict(self.auto_map) if self.is_remote_code() else {}
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
        with whole_folder(target) as written:
            super().save_pretrained(written, is_main_process, **kwargs)
