"""What every model does around its layers: initialising, loading, saving.

Files hold the standard tensor names of BERT and Marian, and so do the modules: nothing is renamed.
"""

import importlib
import math
import re
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import HfApi
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.dynamic_module_utils import get_relative_import_files

from .configuration import LiteConfig
from .embeddings import BertEmbeddings, PaddedSinusoidalEmbedding, SinusoidalEmbedding
from .files import check_files, check_index, explain_failure, finish_config, whole_folder
from .inputs import check_labels, label_error
from .losses import Count, cross_entropy
from .seam import Seam, installed_backends


class WrongSizes(ValueError, RuntimeError):
    """A file's tensors have other sizes than the config says; the library has a RuntimeError."""


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
    # Whether code is saved beside weights that transformers' own classes can use.
    code_travels = False

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
                limit: Any = linear.out_features
                raise label_error("labels", labels, limit) or error from error
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
        check_index(source, **kwargs)
        try:
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        except Exception:  # a damaged pickle fails in any way
            explain_failure(source, **kwargs)  # where no list of files came to be checked
            raise
        for module in model.modules():
            if isinstance(module, SinusoidalEmbedding):
                module.requires_grad_(False)  # the loader makes every parameter anew
        if want_info:
            return model, info
        missing = sorted(key for key in info["missing_keys"] if model.is_essential(key))
        if missing and pretrained_model_name_or_path is not None:
            wanted = (
                " or ".join(cls.config_class.accepted_model_types) or cls.config_class.model_type
            )
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

    @staticmethod
    def _finalize_model_loading(model, load_config, loading_info):
        """As the library's, whose error names no tensor of another size."""
        try:
            return PreTrainedModel._finalize_model_loading(model, load_config, loading_info)
        except RuntimeError as error:
            found = sorted(loading_info.mismatched_keys)
            if not found or load_config.ignore_mismatched_sizes:
                raise
            name, file_size, config_size = found[0]
            more = f", and {len(found) - 1} more differ" if len(found) > 1 else ""
            raise WrongSizes(
                f"{load_config.pretrained_model_name_or_path}: config and weights must have the "
                f"same sizes, got {name} of {tuple(file_size)} in the file and of "
                f"{tuple(config_size)} by the config{more} (in Python, "
                "ignore_mismatched_sizes=True makes these anew)"
            ) from error

    @classmethod
    def is_remote_code(cls) -> bool:
        """Whether saving copies the class's own code: a user's subclass has not inherited that."""
        return vars(cls).get("_auto_class") is not None

    @staticmethod
    def is_essential(key: str) -> bool:
        """Whether a model without this tensor would compute noise: one of a layer or of words."""
        parts = key.split(".")
        words = ["word_embeddings", "embed_tokens", "tok_embeddings", "shared"]
        words += ["relative_attention_bias"]
        words += ["patch_embeddings", "cls_token", "distillation_token"]
        layers = ("layer", "layers", "albert_layers")
        return any(part in parts for part in layers) or any(word in parts for word in words)

    def is_of_bertlite(self) -> bool:
        """Whether the class is ours, here or as a copy that travelled, and not a user's subclass.

        A subclass may have a `forward` of its own.
        """
        return type(self).__module__.rpartition(".")[0] == __name__.rpartition(".")[0]

    def plain_names(self) -> tuple[str, str] | None:
        """Model type and class of transformers that compute the same; None where none do."""
        family = self.config.plain_model_type()
        if family is None or not self.is_of_bertlite():
            return None
        for auto_class, path in self.auto_map.items():
            if path.rpartition(".")[2] == type(self).__name__:
                classes = getattr(transformers, auto_class)._model_mapping._model_mapping
                return (family, classes[family]) if family in classes else None
        return None

    def save_pretrained(
        self,
        save_directory,
        is_main_process: bool = True,
        push_to_hub: bool = False,
        with_code: bool | None = None,
        **kwargs,
    ):
        """Save weights (safetensors) and config, all or nothing: a reader never sees half a folder.

        The config names transformers' own class wherever that computes the same. Where none does
        (pre-norm, a sinusoidal BERT, a subclass), the code travels with the weights, for machines
        without bertlite.

        Args:
            save_directory: the folder.
            is_main_process: False in all processes but one, which write nothing.
            push_to_hub: whether what was written is uploaded too.
            with_code: whether the code travels where it need not; None: as `code_travels` says.
            kwargs: as of the library's `save_pretrained`.
        """
        plain = self.plain_names()
        travels = self.code_travels if with_code is None else with_code
        travels = bool(self.auto_map) and (travels or plain is None or self.is_remote_code())
        if not getattr(self, "_hf_peft_config_loaded", False):
            vars(self.config).pop("auto_map", None)
            if travels:
                self.config.auto_map = dict(self.auto_map)
        target = Path(save_directory)
        if not is_main_process or kwargs.get("distributed_checkpoint") or target.is_file():
            # No whole folder is made here: the library shares the work, or refuses.
            super().save_pretrained(
                save_directory, is_main_process, push_to_hub=push_to_hub, **kwargs
            )
            if is_main_process and target.is_dir() and is_first_process():
                self.finish_folder(target, plain, travels)
            return
        named = ("repo_id", "private", "commit_message", "create_pr", "revision")
        hub = {name: kwargs.pop(name) for name in named if name in kwargs}
        with whole_folder(target) as written:
            super().save_pretrained(written, is_main_process, **kwargs)
            self.finish_folder(written, plain, travels)
            names = {path.name for path in written.iterdir()}
        if push_to_hub:
            self.upload(target, names, token=kwargs.get("token"), **hub)

    def finish_folder(self, folder: Path, plain: tuple[str, str] | None, travels: bool) -> None:
        """Give a folder that the library has written its names, and the code that travels.

        An adapter's folder has no config, and gets neither.
        """
        if not (folder / "config.json").exists():
            return
        if travels:
            copy_code(folder, self.code_files())
        named = self.auto_map if travels and self.is_of_bertlite() else None
        finish_config(folder, plain, named)

    def code_files(self) -> set[Path]:
        """The files of this package that model and config are made of, and what they import."""
        package = __name__.rpartition(".")[0]
        parts = [type(part).__module__.rpartition(".") for part in (self, self.config)]
        names = {name for place, _, name in parts if place == package}
        if self.is_of_bertlite():  # a class may stand in another file than the one to find it in
            names |= {path.partition(".")[0] for path in self.auto_map.values()}
        modules = [importlib.import_module(f"{package}.{name}") for name in names]
        files = {Path(str(module.__file__)) for module in modules}
        return files | {Path(each) for file in files for each in get_relative_import_files(file)}

    def upload(
        self,
        folder: Path,
        names: set[str],
        repo_id: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        **kwargs,
    ) -> None:
        """Send the files of these names to the hub, and no others that the folder holds."""
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id or folder.name, private=private, exist_ok=True).repo_id
        others = {path.name: math.inf for path in folder.iterdir() if path.name not in names}
        self._upload_modified_files(folder, repo_id, others, token=token, **kwargs)

    def push_to_hub(self, *args, with_code: bool | None = None, **kwargs):
        """As the library's; `with_code` as of `save_pretrained`."""
        before = self.code_travels
        self.code_travels = before if with_code is None else with_code
        try:
            return super().push_to_hub(*args, **kwargs)
        finally:
            self.code_travels = before


def copy_code(folder: Path, files: set[Path]) -> None:
    """Put code beside the weights."""
    for file in files:
        shutil.copy(file, folder / file.name)


def is_first_process() -> bool:
    """Whether this process is the only one, or the first of several that share the work."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or (
        distributed.get_rank() == 0
    )
