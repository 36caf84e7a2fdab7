"""The model and tokenizer that a run starts from.

Checked first, built when the data are known to be good.
"""

import os
from dataclasses import dataclass
from typing import Any

from transformers import set_seed

from ..inference.loading import SEQ2SEQ, check_head, load_tokenizer, model_class, read_config
from ..models import modeling_bertlite
from ..models.configuration import TransformerLiteConfig
from ..models.modeling_transformerlite import TransformerLiteForConditionalGeneration
from ..models.presets import PRESETS, preset
from ..models.warm_start import warm_start_from_bert
from ..tasks.base import Task
from .options import ModelOptions, parse_overrides


@dataclass
class Start:
    """What a run starts from.

    `config` is the folder's, None where a model was given or starts from scratch.
    """

    task: Task
    model: Any
    tokenizer: Any
    options: ModelOptions
    config: dict[str, Any] | None = None

    @classmethod
    def check(cls, task: Task, model: Any, tokenizer: Any, options: ModelOptions) -> "Start":
        """Look at names and configs without loading weights.

        Raises:
            ValueError: no such model, one of another kind, or no tokenizer.
        """
        tokenizer = options.tokenizer if tokenizer is None else tokenizer
        if options.from_scratch:
            if model is not None or tokenizer is None:
                raise ValueError(
                    "from_scratch takes a tokenizer and no model; give tokenizer, and leave model "
                    "out"
                )
            writes = PRESETS[str(options.config_preset)][0] is TransformerLiteConfig
            if writes != (task.head == SEQ2SEQ):
                raise ValueError(
                    f"config_preset must be a size for {task.name}, got {options.config_preset!r}"
                )
            return cls(
                task, None, load_tokenizer("finetune", None, tokenizer, fast=not writes), options
            )
        if model is None:
            raise ValueError(
                "model must be a folder, a hub name or a model, got none (see also from_scratch)"
            )
        if not isinstance(model, str | os.PathLike):
            check_head("finetune", model, task.head)
            return cls(
                task,
                model,
                load_tokenizer("finetune", model, tokenizer, fast=task.head != SEQ2SEQ),
                options,
            )
        source = os.fspath(model)
        config = read_config("finetune", source)
        if not options.warm_start:
            model_class("finetune", source, config, task.head)
        elif task.head != SEQ2SEQ:
            raise ValueError(
                f"warm_start is for translation and summarization, got task {task.name}"
            )
        found = load_tokenizer(
            "finetune", None, source if tokenizer is None else tokenizer, fast=task.head != SEQ2SEQ
        )
        return cls(task, source, found, options, config)

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
        if self.options.from_scratch:
            return self.scratch(fields)
        if self.options.warm_start:
            own = {
                "decoder_start_token_id": self.tokenizer.cls_token_id,
                "eos_token_id": self.tokenizer.sep_token_id,
            }
            overrides = {**own, **parse_overrides(self.options.config_overrides)}
            return warm_start_from_bert(self.model, **overrides).model
        if self.config is None:
            count = fields.get("num_labels", len(fields.get("id2label", {})))
            if fields and self.model.config.num_labels != count:
                raise ValueError(
                    f"model must have {count} labels as the data, got "
                    f"{self.model.config.num_labels}"
                )
            self.model.config.update(
                {name: value for name, value in fields.items() if name != "num_labels"}
            )
            return self.model
        found = model_class("finetune", self.model, self.config, self.task.head)
        fields["ignore_mismatched_sizes"] = self.options.new_head
        try:
            return found.from_pretrained(self.model, **fields)
        except RuntimeError as error:
            came = f"the head of {self.model} has another number of labels than the data"
            raise ValueError(
                f"model: {came}; give new_head to learn a new one ({str(error)[:200]})"
            ) from error

    def scratch(self, fields: dict[str, Any]) -> Any:
        """A model with random weights, of a published size, for this tokenizer's vocabulary."""
        own = {"vocab_size": len(self.tokenizer), "pad_token_id": self.tokenizer.pad_token_id}
        if self.task.head == SEQ2SEQ:
            eos = self.tokenizer.eos_token_id
            own["eos_token_id"] = self.tokenizer.sep_token_id if eos is None else eos
            own["decoder_start_token_id"] = self.tokenizer.pad_token_id
        lacking = [name for name, value in own.items() if value is None]
        if lacking:
            raise ValueError(f"tokenizer must have tokens for {', '.join(lacking)}, got none")
        overrides = parse_overrides(self.options.config_overrides)
        config: Any = preset(str(self.options.config_preset), **{**own, **fields, **overrides})
        if self.task.head == SEQ2SEQ:
            return TransformerLiteForConditionalGeneration(config)
        return getattr(modeling_bertlite, f"BertLite{self.task.head}")(config)
