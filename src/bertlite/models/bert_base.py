"""BERT without a head (Devlin et al. 2018): embeddings, the Transformer's encoder, a pooler.

Shapes: `B` batch, `T` length, `M` vectors that are read, `E` hidden size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention import Attention
from .checkpoint import LitePreTrainedModel
from .configuration import BertLiteConfig
from .embeddings import BertEmbeddings
from .encoder import BertEncoder, LayerStack, TextEncoder, make_final_norm
from .heads import BertPooler
from .inputs import IGNORED, BatchLengths, check_labels
from .layers import EncoderLayer

TASKS = (
    "PreTraining",
    "MaskedLM",
    "NextSentencePrediction",
    "SequenceClassification",
    "TokenClassification",
    "QuestionAnswering",
    "MultipleChoice",
)


class BertLitePreTrainedModel(LitePreTrainedModel):
    """Base of the BERT family."""

    config: BertLiteConfig
    base_model_prefix = "bert"
    _can_record_outputs = {"hidden_states": EncoderLayer, "attentions": Attention}
    # What a family of BERT's kind says else (docs/families.md).
    embeddings_class: type = BertEmbeddings
    encoder_class: type = BertEncoder
    encoder_name = "encoder"
    pooler_class: type | None = BertPooler
    base_class: Any = None  # its model without a head, which heads build
    auto_map = {
        "AutoConfig": "configuration.BertLiteConfig",
        "AutoModel": "modeling_bertlite.BertLiteModel",
        **{f"AutoModelFor{task}": f"modeling_bertlite.BertLiteFor{task}" for task in TASKS},
    }

    def add_base(
        self, config: BertLiteConfig, add_pooling_layer: bool, reads_first: bool = False
    ) -> None:
        """Hang in the model below a head, which may read the first vector of each row itself."""
        base = self.base_class(config, add_pooling_layer=add_pooling_layer)
        base.reads_first_position = base.reads_first_position or reads_first
        setattr(self, self.base_model_prefix, base)

    def vectors_read(
        self,
        labels: torch.Tensor | None,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        **kwargs,
    ) -> torch.Tensor | None:
        """Which of the `(B, T)` vectors the loss reads, where the others may be left out.

        That is in training with labels `(B, T)`, unless somebody looks at more than the loss.

        Raises:
            ValueError: labels that do not fit.
        """
        if labels is None or not self.training or self.config.loss_chunk_size == 0:
            return None
        if not self.skips_unread(**kwargs):
            return None
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is not None:  # else BERT will say what is wrong
            check_labels("labels", labels, tuple(given.shape[:2]))
        return labels != IGNORED

    def first_vectors(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        **kwargs,
    ) -> torch.Tensor | None:
        """The first position of each row, `(B, T)` boolean, where a head reads nothing else.

        None where the pooler is not BERT's own, or somebody watches: all are read then.
        """
        pooler = self.base_model.pooler
        own = (self.pooler_class, type(None))
        if type(pooler) not in own or not self.skips_unread(**kwargs):
            return None
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None or given.ndim < 2:  # BERT will say what is wrong
            return None
        read = torch.zeros(given.shape[:2], dtype=torch.bool, device=given.device)
        read[:, :1] = True
        return read


class BertLiteModel(BertLitePreTrainedModel, TextEncoder):
    """BERT without a head: embeddings, the Transformer's encoder and, unless told else, the pooler.

    In evaluation the vectors of padding are zero where a backend has left them out.
    """

    def __init__(self, config: BertLiteConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.num_heads = config.num_attention_heads
        self.embeddings = self.embeddings_class(config)
        self.add_projection(config)
        setattr(self, self.encoder_name, self.encoder_class(config))
        self.final_norm = make_final_norm(config)
        has_pooler = add_pooling_layer and self.pooler_class is not None
        self.pooler = self.make_pooler(config) if has_pooler else None
        self.reads_first_position = has_pooler
        self.post_init()

    def make_pooler(self, config: BertLiteConfig) -> nn.Module:
        """A module that `pool` runs."""
        return self.pooler_class(config)  # type: ignore[misc]

    def pool(self, vectors: torch.Tensor) -> torch.Tensor:
        """The summary of each row, `(B, T, E)` to `(B, E)`."""
        return self.pooler(vectors)  # type: ignore[misc]

    def add_projection(self, config: BertLiteConfig) -> None:
        """What brings narrower embeddings to the hidden size; BERT's are as wide."""

    @property
    def stack(self) -> LayerStack:
        return getattr(self, self.encoder_name)

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.place(self.embeddings.paths["word_embeddings"], value)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        zero_padding: bool | None = None,
        packed: bool | None = None,
        num_positions: int | None = None,
        lengths: BatchLengths | Sequence[int] | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """Encode `(B, T)` ids.

        Args:
            input_ids: `(B, T)`.
            attention_mask: `(B, T)`, non-zero at real tokens, or a prepared 4D mask.
            token_type_ids: `(B, T)`, the segment of each token.
            position_ids: `(B, T)`. Where they start again in a row and no mask is given, another
                sequence begins, hidden from the first.
            inputs_embeds: `(B, T, E)`, instead of `input_ids`.
            positions: `(B, T)` boolean, True where a vector is read; None: everywhere. With it
                `last_hidden_state` holds those vectors alone, `(M, E)`, row by row.
            zero_padding: whether the vectors of padding may come back as zeros; None: in
                evaluation they may, in training they are BERT's.
            packed: whether rows hold several sequences, with positions that start again at each;
                None: where no mask is given and they do.
            num_positions: how many `positions` are True, where the caller knows: a GPU need not be
                waited for then.
            lengths: of the sequences, each at the start of its row; for the same reason.
            past_key_values: keys and values that every token sees before those of the batch, as
                prefix tuning learns them; `attention_mask` then holds them too.
            kwargs: `output_attentions`, `output_hidden_states`, `return_dict`, and what the
                attention function takes, such as `cu_seq_lens_q`.

        Returns:
            `last_hidden_state` `(B, T, E)` and `pooler_output` `(B, E)`.

        Raises:
            ValueError: inputs that do not fit, as `inputs.py` says.
        """
        batch = self.make_batch(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            packed,
            kwargs.get("cu_seq_lens_q"),
            lengths,
            past_length=0 if past_key_values is None else past_key_values.get_seq_length(),
        )
        if past_key_values is not None:
            kwargs["past_key_values"] = past_key_values
        if positions is None or self.pooler is None:
            vectors = self.encode(batch, positions, zero_padding, num_positions, **kwargs)
            pooled = None if self.pooler is None else self.pool(vectors)
        else:
            vectors, first = self.encode_with_first(batch, positions, num_positions, **kwargs)
            # The pooler reads position 0 of each row: rows of one vector are enough for it.
            pooled = self.pool(first[:, None])
        return BaseModelOutputWithPooling(last_hidden_state=vectors, pooler_output=pooled)


BertLitePreTrainedModel.base_class = BertLiteModel
