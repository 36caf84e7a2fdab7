"""Tasks of an encoder-decoder, which reads a text and writes another."""

from collections.abc import Mapping
from typing import Any

from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainingArguments

from ..data.rows import TaskRows, text_feature, text_of
from ..inference.language_codes import Languages, generation_settings
from ..inference.loading import SEQ2SEQ, position_limit, roomy_limit
from ..inference.long_texts import find_leads
from ..models.transformer_families import FAMILIES
from .base import Task, TaskOptions


class PairRows(TaskRows):
    """`source`, `target`: a text, and the one that is to be written."""

    required = ("source",)
    target = "target"
    inputs = ("source",)
    parallel = True
    line_column = "source"

    def features(self) -> dict[str, Any]:
        """See `TaskRows`."""
        return {role: text_feature() for role in self.needed(self.require_labels)}

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskRows`."""
        return {
            role: text_of(row, self.columns[role], role)
            for role in self.needed(self.require_labels)
        }


class Writing(Task):
    """Rows have `source` and `target`."""

    head = SEQ2SEQ
    arguments_class = Seq2SeqTrainingArguments
    reads = (("source",),)
    words = ("text",)
    max_target_length = 256
    function: Any

    def source_limit(self, model: Any, tokenizer: Any, options: TaskOptions) -> int:
        """Tokens of a source, end token included.

        A ValueError where special tokens would take them all.
        """
        return roomy_limit("max_source_length", model, tokenizer, options.max_source_length or 512)

    def encode(self, rows, tokenizer, model, options):
        leads = find_leads(tokenizer, [row["source"] for row in rows], options.source_prefix)
        sources = tokenizer(
            [lead + words for lead, words in leads],
            truncation=True,
            max_length=self.source_limit(model, tokenizer, options),
        )
        longest = position_limit(
            model, tokenizer, options.max_target_length or self.max_target_length
        )
        targets = tokenizer(
            text_target=[row["target"] for row in rows], truncation=True, max_length=longest + 1
        )
        labels = [as_labels(ids, tokenizer, model.config, longest) for ids in targets["input_ids"]]
        names = [name for name in ("input_ids", "attention_mask") if name in sources]
        return [
            {**{name: sources[name][place] for name in names}, "labels": label}
            for place, label in enumerate(labels)
        ]

    def tell_languages(self, model, tokenizer, options):
        """See `Task`; whoever loads what is saved writes the target's language."""
        languages = Languages(options.source_code, options.target_code)
        languages.check("finetune", tokenizer, ending="code")
        settings = generation_settings(model, tokenizer, languages.target)
        model.generation_config.update(**settings)
        for name, code in (("tgt_lang", languages.target), ("src_lang", languages.source)):
            if code is not None:
                setattr(tokenizer, name, code)

    def collator(self, tokenizer, model):
        return DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)

    def predict(self, rows, model, tokenizer, options, *, show_progress=True, device=None):
        names = ("num_beams", "length_penalty", "max_new_tokens")
        given = {
            name: getattr(options, name) for name in names if getattr(options, name) is not None
        }
        return type(self).function(
            [row["source"] for row in rows],
            model,
            tokenizer,
            return_scores=True,
            max_source_length=self.source_limit(model, tokenizer, options),
            source_prefix=options.source_prefix,
            source_language=options.source_code,
            target_language=options.target_code,
            batch_size=options.prediction_batch_size,
            device=device,
            show_progress=show_progress,
            **given,
        )

    def arguments(self):
        return {
            **super().arguments(),
            "predict_with_generate": True,
            "train_sampling_strategy": "group_by_length",
        }


def as_labels(ids: list[int], tokenizer: Any, config: Any, longest: int) -> list[int]:
    """What the decoder learns to write.

    Without a start token, and with the end token, at most `longest` ids.

    BERT's tokenizers put [CLS] first, which the decoder is given and need not write; some
    tokenizers end nothing. BART's writes its <s>, and mBART's labels end with their language, to
    which the model looks for what it begins with.
    """
    family = getattr(config, "family", config.model_type)
    if family in FAMILIES and FAMILIES[family].starts_with_last_label:
        return ids if len(ids) <= longest else [*ids[: longest - 2], *ids[-2:]]
    starts = {config.decoder_start_token_id}
    if family not in FAMILIES or family == "marian":
        starts.add(tokenizer.cls_token_id)
    eos = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    ids = ids[1:] if ids and ids[0] in starts and ids[0] != eos else ids
    ids = ids[:-1] if ids and ids[-1] == eos else ids
    return [*ids[: longest - 1], eos]
