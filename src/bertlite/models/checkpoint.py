"""What every model does around its layers: initialising, loading, saving.

Files hold the standard tensor names of BERT and Marian, and so do the modules: nothing is renamed.
"""

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init

from .configuration import LiteConfig
from .embeddings import BertEmbeddings, PaddedSinusoidalEmbedding, SinusoidalEmbedding
from .files import check_files, explain_failure, whole_folder
from .inputs import check_labels, label_error
from .losses import Count, cross_entropy
from .seam import Seam, installed_backends


class LitePreTrainedModel(Seam, PreTrainedModel):
    """Base of every model. A family sets `config`, `base_model_prefix` and `auto_map`."""

    supports_gradient_checkpointing = True
    _can_compile_fullgraph = True
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["BertEmbeddings", "EncoderLayer", "DecoderLayer"]
    # Old files hold position numbers.
    _keys_to_ignore_on_load_unexpected = [r"position_ids$"]
    auto_map: dict[str, str] = {}

    def __init__(self, config: PreTrainedConfig, *args, **kwargs):
        # By its type's name: a copy of the code that travelled with a checkpoint has another class.
        wanted: Any = self.config_class
        known = getattr(type(config), "model_type", None) == wanted.model_type
        if not known or not hasattr(config, "check_heads"):
            raise ValueError(
                f"{type(self).__name__}: config must be one of bertlite's, a "
                f"{wanted.__name__}, got {type(config).__name__}"
            )
        config.check_heads()
        Seam.installed = installed_backends()
        super().__init__(config, *args, **kwargs)

    def post_init(self) -> None:
        """As the library's; and files need hold no table that is computed, at whatever depth."""
        computed = [
            f"{name}.weight"
            for name, module in self.named_modules()
            if isinstance(module, SinusoidalEmbedding)
        ]
        if computed:
            known = self._keys_to_ignore_on_load_missing or ()
            self._keys_to_ignore_on_save = set() if self.config.saves_positions else set(computed)
            self._keys_to_ignore_on_load_missing = {*known, *map(re.escape, computed)}
        super().post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SinusoidalEmbedding | PaddedSinusoidalEmbedding):
            module.fill()
        elif isinstance(module, BertEmbeddings):
            length = module.position_ids.shape[-1]
            init.copy_(module.position_ids, torch.arange(length)[None])
            init.zeros_(module.token_type_ids)

    def vocabulary_loss(
        self,
        hidden_states: torch.Tensor,
        linear: nn.Module,
        labels: torch.Tensor,
        bias: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        label_smoothing: float = 0.0,
    ) -> torch.Tensor:
        """Cross-entropy over the vocabulary of vectors that all carry a label.

        Args:
            hidden_states: `(M, E)`.
            linear: the layer that gives the logits `(M, V)`.
            labels: `(M,)`.
            bias: `(V,)`, added to the logits.
            num_items_in_batch: as in `cross_entropy`, and so is `label_smoothing`.

        Raises:
            ValueError: a label that is no word.
        """
        check_labels("labels", labels, tuple(hidden_states.shape[:-1]))
        backend = self.take_backend("vocabulary_loss", hidden_states=hidden_states, linear=linear)
        if backend is not None:
            try:
                return backend.vocabulary_loss(
                    hidden_states,
                    linear,
                    labels,
                    bias=bias,
                    num_items_in_batch=num_items_in_batch,
                    chunk_size=self.config.loss_chunk_size,
                    label_smoothing=label_smoothing,
                )
            except (IndexError, RuntimeError) as error:
                limit = linear.out_features
                raise label_error("labels", labels, limit) or error from error  # type: ignore[arg-type]
        logits = linear(hidden_states)
        if bias is not None:
            logits = logits + bias
        return cross_entropy("labels", logits, labels, num_items_in_batch, label_smoothing)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """Load a folder or hub name: ours, BERT's (for BertLite) or Marian's (for TransformerLite).

        Raises:
            ValueError: another architecture; a damaged file; weights of the layers missing. Only
                those of a head or of the pooler may be, and the library's load report names them.
                With `output_loading_info=True` missing weights are reported, not refused.
        """
        want_info, config = kwargs.pop("output_loading_info", False), kwargs.get("config")
        if isinstance(config, PreTrainedConfig) and not isinstance(config, LiteConfig):
            adopted = cls.config_class.adopt(config.to_dict())
            kwargs["config"] = cls.config_class.from_dict(adopted)
        source = str(pretrained_model_name_or_path)
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except (OSError, SafetensorError, UnpicklingError):
            explain_failure(source, **kwargs)  # where no list of files came to be checked
            raise
        for module in model.modules():
            if isinstance(module, SinusoidalEmbedding):
                module.requires_grad_(False)  # the loader makes every parameter anew
        if want_info:
            return model, info
        missing = sorted(key for key in info["missing_keys"] if model.is_essential(key))
        if missing and pretrained_model_name_or_path is not None:
            wanted = " or ".join(cls.config_class.accepted_model_types)
            raise ValueError(
                f"{source}: not the weights of a {wanted}: {len(missing)} tensors of it, such as "
                f"{missing[0]}, would have stayed random"
            )
        return model

    @staticmethod
    def _load_pretrained_model(model, state_dict, checkpoint_files, *args, **kwargs):
        """Check the very files that the library has chosen, and load them.

        They come from a folder, the hub or an adapter.
        """
        check_files(checkpoint_files or [])
        return PreTrainedModel._load_pretrained_model(
            model, state_dict, checkpoint_files, *args, **kwargs
        )

    @classmethod
    def is_remote_code(cls) -> bool:
        """Whether saving copies the class's own code: a user's subclass has not inherited that."""
        return vars(cls).get("_auto_class") is not None

    @staticmethod
    def is_essential(key: str) -> bool:
        """Whether a model without this tensor would compute noise: one of a layer or of words."""
        parts = key.split(".")
        words = ("word_embeddings", "embed_tokens", "shared")
        return "layer" in parts or "layers" in parts or any(word in parts for word in words)

    def save_pretrained(
        self,
        save_directory,
        is_main_process: bool = True,
        push_to_hub: bool = False,
        **kwargs,
    ):
        """Save weights (safetensors), config and the code that a machine without bertlite needs.

        All or nothing: a reader never sees half a folder.
        """
        if not getattr(self, "_hf_peft_config_loaded", False):
            self.config.auto_map = dict(self.auto_map) if self.is_remote_code() else {}
        target = Path(save_directory)
        shared_work = not is_main_process or kwargs.get("distributed_checkpoint")
        if push_to_hub or shared_work or target.is_file():
            # No whole folder is made here: the library uploads, shares the work, or refuses.
            super().save_pretrained(
                save_directory, is_main_process, push_to_hub=push_to_hub, **kwargs
            )
            return
        with whole_folder(target) as written:
            super().save_pretrained(written, is_main_process, **kwargs)
