"""The model and tokenizer that a run starts from, and how a Transformer is told to write.

Checked first, built when the data are known to be good.
"""

import copy
import os
from dataclasses import dataclass, field
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig, set_seed

from ..inference.loading import SEQ2SEQ, check_head, load_tokenizer, model_class, read_config
from ..models import modeling_bertlite
from ..models.configuration import TransformerLiteConfig
from ..models.modeling_transformerlite import TransformerLiteForConditionalGeneration
from ..models.presets import PRESETS, preset
from ..models.warm_start import warm_start_from_bert
from ..tasks.base import Task
from .options import ModelOptions, parse_overrides

# Fields of a config that say which weights a file holds, beside the sizes of the presets.
SIZES = {
    "vocab_size",
    "decoder_vocab_size",
    "type_vocab_size",
    "max_position_embeddings",
    "num_hidden_layers",
    "share_encoder_decoder_embeddings",
}
NOT_SIZES = {"dropout", "activation_function", "label_smoothing", "scale_embedding"}


@dataclass
class Start:
    """What a run starts from.

    `config` is the folder's, None where a model was given or starts from scratch. `new_weights` are
    the names of those that the folder does not hold, known once the model is built.
    """

    task: Task
    model: Any
    tokenizer: Any
    options: ModelOptions
    config: dict[str, Any] | None = None
    new_weights: list[str] = field(default_factory=list)

    @classmethod
    def check(cls, task: Task, model: Any, tokenizer: Any, options: ModelOptions) -> "Start":
        """Look at names and configs without loading weights.

        Raises:
            ValueError: no such model, one of another kind, no tokenizer, or sizes that are not the
                model's.
        """
        tokenizer = options.tokenizer if tokenizer is None else tokenizer
        fast = task.head != SEQ2SEQ
        if options.from_scratch:
            check_scratch(task, model, tokenizer, options)
            found = load_tokenizer("finetune", None, tokenizer, fast=fast)
            return cls(task, None, found, options)
        if model is None:
            raise ValueError(
                "model must be a folder, a hub name or a model, got none (see also from_scratch)"
            )
        overrides = parse_overrides(options.config_overrides)
        if not isinstance(model, str | os.PathLike):
            check_head("finetune", model, task.head)
            if overrides:
                raise ValueError(
                    "config_overrides must come with a folder or hub name, got a loaded model: "
                    "change its config"
                )
            found = load_tokenizer("finetune", model, tokenizer, fast=fast)
            return cls(task, model, found, options)
        source = os.fspath(model)
        config = read_config("finetune", source)
        if options.warm_start:
            if task.head != SEQ2SEQ:
                raise ValueError(
                    f"warm_start is for translation and summarization, got task {task.name}"
                )
        else:
            model_class("finetune", source, config, task.head)
            check_sizes(source, config, overrides)
        source_of = source if tokenizer is None else tokenizer
        found = load_tokenizer("finetune", None, source_of, fast=fast)
        return cls(task, source, found, options, config)

    def again(self) -> "Start":
        """The same start for another run: a model that was given is copied before it is trained."""
        loaded = self.config is None and self.model is not None
        model = copy.deepcopy(self.model) if loaded else self.model
        return Start(self.task, model, self.tokenizer, self.options, self.config)

    def known_labels(self) -> list[str] | None:
        """The labels of the head that the model already has, which the data must then use.

        None where it is new.
        """
        if not self.task.labelled or self.options.new_head or self.options.from_scratch:
            return None
        if self.config is None:
            names = self.model.config.id2label
        elif any(name.endswith(self.task.head) for name in self.config.get("architectures") or []):
            names = self.config.get("id2label") or {}
        else:
            return None
        labels = [names[key] for key in sorted(names, key=int)]
        generic = labels == [f"LABEL_{number}" for number in range(len(labels))]
        return None if generic or not labels else labels

    def build(self, labels: list[str] | None, problem_type: str | None, seed: int) -> Any:
        """The model, with a head for these labels.

        Raises:
            ValueError: the model has a head for another number of labels.
        """
        set_seed(seed)  # of the new head
        fields = self.task.head_fields(labels, problem_type)
        overrides = parse_overrides(self.options.config_overrides)
        if self.options.from_scratch:
            return self.scratch({**fields, **overrides})
        if self.options.warm_start:
            own = {
                "decoder_start_token_id": self.tokenizer.cls_token_id,
                "eos_token_id": self.tokenizer.sep_token_id,
            }
            return warm_start_from_bert(self.model, **{**own, **overrides}).model
        if self.config is None:
            return self.headed(fields)
        return self.loaded({**fields, **overrides})

    def headed(self, fields: dict[str, Any]) -> Any:
        """The model that was given, told what its head's outputs mean."""
        count = fields.get("num_labels", len(fields.get("id2label", {})))
        if fields and self.model.config.num_labels != count:
            raise ValueError(
                f"model must have {count} labels as the data, got {self.model.config.num_labels}"
            )
        self.model.config.update(
            {name: value for name, value in fields.items() if name != "num_labels"}
        )
        return self.model

    def loaded(self, fields: dict[str, Any]) -> Any:
        """The model of the folder."""
        found = model_class("finetune", self.model, self.config or {}, self.task.head)
        try:
            model, info = found.from_pretrained(
                self.model,
                ignore_mismatched_sizes=self.options.new_head,
                output_loading_info=True,
                **fields,
            )
        except RuntimeError as error:
            came = f"the head of {self.model} has another number of labels than the data"
            raise ValueError(
                f"model: {came}; give new_head to learn a new one ({str(error)[:200]})"
            ) from error
        mismatched = [entry[0] for entry in info.get("mismatched_keys", ())]
        self.new_weights = sorted({*info["missing_keys"], *mismatched})
        return model

    def scratch(self, fields: dict[str, Any]) -> Any:
        """A model with random weights, of a published size, for this tokenizer's vocabulary."""
        own: dict[str, Any] = {"pad_token_id": self.tokenizer.pad_token_id}
        if self.task.head == SEQ2SEQ:
            eos = self.tokenizer.eos_token_id
            own["eos_token_id"] = self.tokenizer.sep_token_id if eos is None else eos
            own["decoder_start_token_id"] = self.tokenizer.pad_token_id
            own.update(vocabularies(self.tokenizer))
        else:
            own["vocab_size"] = vocabulary_size(self.tokenizer)
        lacking = [name for name, value in own.items() if value is None]
        if lacking:
            raise ValueError(f"tokenizer must have tokens for {', '.join(lacking)}, got none")
        config: Any = preset(str(self.options.config_preset), **{**own, **fields})
        if self.task.head == SEQ2SEQ:
            return TransformerLiteForConditionalGeneration(config)
        return getattr(modeling_bertlite, f"BertLite{self.task.head}")(config)


def check_scratch(task: Task, model: Any, tokenizer: Any, options: ModelOptions) -> None:
    """Refuse, with a ValueError, what does not go with random weights."""
    if model is not None or tokenizer is None:
        raise ValueError(
            "from_scratch takes a tokenizer and no model; give tokenizer, and leave model out"
        )
    writes = PRESETS[str(options.config_preset)][0] is TransformerLiteConfig
    if writes != (task.head == SEQ2SEQ):
        raise ValueError(
            f"config_preset must be a size for {task.name}, got {options.config_preset!r}"
        )


def check_sizes(source: str, config: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Refuse, with a ValueError, other sizes than those of the weights in a folder."""
    sizes = SIZES.union(*(fields for _, fields in PRESETS.values())) - NOT_SIZES
    for name, value in overrides.items():
        if name in sizes and name in config and value != config[name]:
            raise ValueError(
                f"config_overrides: {name} must be that of the weights in {source}, "
                f"{config[name]!r}, got {value!r}"
            )


def vocabulary_size(tokenizer: Any, table: dict[str, int] | None = None) -> int:
    """Rows of an embedding table for a tokenizer.

    A vocabulary with gaps, or with lines that stand twice, has ids beyond its number of tokens.
    """
    ids = (tokenizer.get_vocab() if table is None else table).values()
    return max([len(tokenizer) if table is None else 0, *(number + 1 for number in ids)])


def vocabularies(tokenizer: Any) -> dict[str, Any]:
    """The sizes of an encoder-decoder's tables: one for both sides, or two vocabularies apart.

    Raises:
        ValueError: two vocabularies in which padding or the end token have other ids.
    """
    if not getattr(tokenizer, "separate_vocabs", False):
        return {"vocab_size": vocabulary_size(tokenizer)}
    sides = (tokenizer.encoder, tokenizer.target_encoder)
    for token in (tokenizer.pad_token, tokenizer.eos_token):
        ids = [side.get(token) for side in sides]
        if ids[0] != ids[1]:
            raise ValueError(
                f"tokenizer must have one id for {token!r} in both of its vocabularies, got "
                f"{ids[0]} and {ids[1]}"
            )
    source, target = (vocabulary_size(tokenizer, side) for side in sides)
    return {
        "vocab_size": source,
        "decoder_vocab_size": target,
        "share_encoder_decoder_embeddings": False,
    }


def paper_generation_config(
    config: PreTrainedConfig | None = None, *, max_new_tokens: int = 256, **overrides
) -> GenerationConfig:
    """Beam 4 with length penalty 0.6 (Vaswani et al.

    2017, section 6.1), for `model.generate(generation_config=...)`.

    Deviation: the paper ranks a hypothesis of T tokens by its log-probability divided by ((5 + T) /
    6)^0.6 (Wu et al. 2016, equation 14); transformers divides by T^0.6. Both reward length,
    transformers' the more so for short texts: from 5 to 10 tokens its divisor grows by 52%, the
    paper's by 28%; from 50 to 100 by 52% and 47%. A hypothesis of another length can win.
    `length_penalty` between 0.3 and 0.5 comes closer for short texts.

    Deviation: the paper stops at the source's length + 50; `generate` takes one limit for all rows,
    `max_new_tokens`.

    Args:
        config: of the model, whose special tokens are taken; None leaves them to
            `model.generation_config`.
        max_new_tokens: the longest output in tokens, the end token included.
        overrides: other fields of `GenerationConfig`.

    Raises:
        ValueError: `max_new_tokens` below 1, or what `GenerationConfig` refuses.

    >>> paper_generation_config().num_beams
    4
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    names = (
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "decoder_start_token_id",
        "forced_eos_token_id",
    )
    special = (
        {}
        if config is None
        else {name: getattr(config, name) for name in names if hasattr(config, name)}
    )
    fields = {
        "num_beams": 4,
        "length_penalty": 0.6,
        "do_sample": False,
        "max_new_tokens": max_new_tokens,
    }
    return GenerationConfig(**{**special, **fields, **overrides})
