"""BERT and its heads (Devlin et al. 2018) on the shared encoder.

Each head's `forward` is written out: run BERT, compute logits, compute the loss. In training with
labels most of the logits are read by nobody; `positions` then names the vectors that the loss
reads, a backend leaves out the others, and the output computes `logits` if somebody asks for them.

Shapes: `B` batch, `T` length, `C` choices, `M` vectors that are read, `E` hidden size, `V`
vocabulary, `L` labels.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import Cache
from transformers import initialization as init
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention import Attention
from .checkpoint import LitePreTrainedModel
from .configuration import BertLiteConfig
from .embeddings import BertEmbeddings
from .encoder import BertEncoder, LayerStack, TextEncoder, make_final_norm
from .heads import (
    BertMaskedLMHead,
    BertNextSentenceHead,
    BertPooler,
    BertPredictions,
    BertPreTrainingHeads,
    head_dropout,
)
from .inputs import IGNORED, BatchLengths, check_labels, labelled_count, select
from .layers import EncoderLayer
from .losses import Count, cross_entropy, problem_type, sequence_loss, span_loss
from .outputs import deferred

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
        self.embeddings.word_embeddings = value

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
        **kwargs,
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


class VocabularyModel(BertLitePreTrainedModel):
    """What the two models with a vocabulary head share: the tie of its weight, and its loss."""

    cls: Any
    output_name = "cls.predictions.decoder"  # of the layer that gives the scores
    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, BertPredictions):
            init.zeros_(module.bias)

    def get_output_embeddings(self) -> nn.Module:
        return self.get_submodule(self.output_name)

    def set_output_embeddings(self, value: nn.Linear) -> None:
        above, _, name = self.output_name.rpartition(".")
        parent = self.get_submodule(above)
        setattr(parent, name, value)
        if "bias" in parent._parameters:
            parent.bias = value.bias

    def transform(self, vectors: torch.Tensor) -> torch.Tensor:
        """What comes before the vocabulary: `(M, E)` to `(M, E)`."""
        return self.cls.predictions.transform(vectors)

    def score_transformed(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(..., E)` to `(..., V)`, where the head is no module."""
        return self.get_output_embeddings()(self.transform(vectors))

    def loss_of_read(
        self, vectors: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Count
    ) -> torch.Tensor:
        """Masked-LM loss of the vectors `(M, E)` that carry a label `(M,)`."""
        return self.vocabulary_loss(
            self.transform(vectors),
            self.get_output_embeddings(),
            labels,
            num_items_in_batch=num_items_in_batch,
        )


class BertLiteForMaskedLM(VocabularyModel):
    """Masked language model."""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.add_base(config, add_pooling_layer=False)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """What stands on the base; a family may have another, and its `score` goes with it."""
        self.cls = BertMaskedLMHead(config)

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to `(B, T, V)`."""
        return self.cls(vectors) if "cls" in self._modules else self.score_transformed(vectors)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs,
    ) -> MaskedLMOutput:
        """Scores of the words at each position.

        Args:
            input_ids: as in `BertLiteModel`, and so are the next four.
            attention_mask: `(B, T)`.
            token_type_ids: `(B, T)`.
            position_ids: `(B, T)`.
            inputs_embeds: `(B, T, E)`.
            labels: `(B, T)`, the words that are masked, -100 where nothing is predicted.
            num_items_in_batch: labels in all the pieces whose gradients are accumulated, which
                `Trainer` gives.
            kwargs: as in `BertLiteModel`.

        Returns:
            `logits` `(B, T, V)`, and `loss` where labels are given. In training with labels, only
            labelled positions meet the vocabulary, and `logits` are computed when they are asked
            for, by a second pass with dropout masks of its own.

        Raises:
            ValueError: inputs or labels that do not fit.
        """
        read = self.vectors_read(labels, input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            positions=read,
            num_positions=labelled_count(kwargs.get("lengths")),
            return_dict=True,
            **kwargs,
        )
        if read is not None:
            vectors = outputs.last_hidden_state  # (M, E)
            targets = select(labels, read, len(vectors))
            word_loss = self.loss_of_read(vectors, targets, num_items_in_batch)

            def logits() -> torch.Tensor:
                return self(
                    input_ids,
                    attention_mask=attention_mask,
                    token_type_ids=token_type_ids,
                    position_ids=position_ids,
                    inputs_embeds=inputs_embeds,
                    return_dict=True,
                    **kwargs,
                ).logits

            return deferred(MaskedLMOutput, {"logits": logits}, loss=word_loss)
        prediction_scores = self.score(outputs.last_hidden_state)  # (B, T, V)
        loss: torch.Tensor | None = None
        if labels is not None:
            loss = cross_entropy("labels", prediction_scores, labels, num_items_in_batch)
        return MaskedLMOutput(
            loss=loss,
            logits=prediction_scores,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForPreTraining(VocabularyModel):
    """Both pretraining tasks (section 3.1): the loss is the sum of their means."""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.add_base(config, add_pooling_layer=True)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.cls = BertPreTrainingHeads(config)

    def score(
        self, vectors: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, T, E)` and `(B, E)` to `(B, T, V)` and `(B, 2)`."""
        return self.cls(vectors, pooled)

    def relate(self, pooled: torch.Tensor) -> torch.Tensor:
        """`(B, E)` to `(B, 2)`."""
        return self.cls.seq_relationship(pooled)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        next_sentence_label: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        num_sequences_in_batch: Count = None,
        **kwargs,
    ) -> BertForPreTrainingOutput:
        """Scores of the words at each position, and of the second sentence following the first.

        Args:
            input_ids: as in `BertLiteModel`, and so are the next four.
            attention_mask: `(B, T)`.
            token_type_ids: `(B, T)`.
            position_ids: `(B, T)`.
            inputs_embeds: `(B, T, E)`.
            labels: `(B, T)`, as for masked LM.
            next_sentence_label: `(B,)`: 0 it follows, 1 it is a random one.
            num_items_in_batch: as for masked LM.
            num_sequences_in_batch: sentence pairs in all the accumulated pieces. `Trainer` counts
                masked words only: without this, a piece weighs by its share of them, which is exact
                where every row has as many.
            kwargs: as in `BertLiteModel`.

        Returns:
            `prediction_logits` `(B, T, V)`, `seq_relationship_logits` `(B, 2)`, and `loss` of
            whichever labels are given; `prediction_logits` as `logits` of `BertLiteForMaskedLM`.

        Raises:
            ValueError: inputs or labels that do not fit.
        """
        read = self.vectors_read(labels, input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            positions=read,
            num_positions=labelled_count(kwargs.get("lengths")),
            return_dict=True,
            **kwargs,
        )
        if read is None:
            scores, relationship = self.score(outputs.last_hidden_state, outputs.pooler_output)
        else:
            relationship = self.relate(outputs.pooler_output)  # (B, 2)
        loss: torch.Tensor | None = None
        if next_sentence_label is not None:
            count = num_sequences_in_batch
            if count is None and num_items_in_batch is not None and labels is not None:
                count = sequences_by_share(labels, next_sentence_label, num_items_in_batch)
            loss = cross_entropy("next_sentence_label", relationship, next_sentence_label, count)
        if read is not None:
            vectors = outputs.last_hidden_state  # (M, E)
            targets = select(labels, read, len(vectors))
            word_loss = self.loss_of_read(vectors, targets, num_items_in_batch)

            def prediction_logits() -> torch.Tensor:
                return self(
                    input_ids,
                    attention_mask=attention_mask,
                    token_type_ids=token_type_ids,
                    position_ids=position_ids,
                    inputs_embeds=inputs_embeds,
                    return_dict=True,
                    **kwargs,
                ).prediction_logits

            return deferred(
                BertForPreTrainingOutput,
                {"prediction_logits": prediction_logits},
                loss=word_loss if loss is None else word_loss + loss,
                seq_relationship_logits=relationship,
            )
        if labels is not None:
            word_loss = cross_entropy("labels", scores, labels, num_items_in_batch)
            loss = word_loss if loss is None else word_loss + loss
        return BertForPreTrainingOutput(
            loss=loss,
            prediction_logits=scores,
            seq_relationship_logits=relationship,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def sequences_by_share(
    labels: torch.Tensor, next_sentence_label: torch.Tensor, num_items_in_batch: Count
) -> torch.Tensor:
    """Sentence pairs of the full batch, as the words of this piece are a share of all words."""
    all_words = torch.as_tensor(num_items_in_batch, device=labels.device).clamp(min=1)
    share = (labels != IGNORED).sum() / all_words
    return (next_sentence_label != IGNORED).sum() / share.clamp(min=1e-9)


class BertLiteForNextSentencePrediction(BertLitePreTrainedModel):
    """Does sentence B follow sentence A?"""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.add_base(config, add_pooling_layer=True)
        self.cls = BertNextSentenceHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs,
    ) -> NextSentencePredictorOutput:
        """Scores `(B, 2)`; `labels` `(B,)`: 0 it follows, 1 it is a random one.

        The other arguments are those of `BertLiteModel`; `num_items_in_batch`: labelled rows in all
        the pieces whose gradients are accumulated.
        """
        first = self.first_vectors(input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            positions=first,
            num_positions=None if first is None else len(first),
            return_dict=True,
            **kwargs,
        )
        scores = self.cls(outputs.pooler_output)  # (B, 2)
        loss: torch.Tensor | None = None
        if labels is not None:
            loss = cross_entropy("labels", scores, labels, num_items_in_batch)
        return NextSentencePredictorOutput(
            loss=loss,
            logits=scores,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForSequenceClassification(BertLitePreTrainedModel):
    """Classes or scores of a sequence, or of a pair."""

    classifier: Any
    reads_pooler = True  # else the first vector of each row

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base(config, add_pooling_layer=self.reads_pooler, reads_first=True)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.dropout = head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 2)

    def score(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        """What the base gives to `(B, L)`."""
        return self.classifier(self.dropout(outputs.pooler_output))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Scores `(B, L)`; `labels` as in `sequence_loss`, by `config.problem_type`.

        The other arguments are those of `BertLiteModel`; `num_items_in_batch`: labelled rows in all
        the pieces whose gradients are accumulated.
        """
        first = self.first_vectors(input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            positions=first,
            num_positions=None if first is None else len(first),
            return_dict=True,
            **kwargs,
        )
        logits = self.score(outputs)  # (B, L)
        loss: torch.Tensor | None = None
        if labels is not None:
            kind = problem_type(self.config, labels)
            loss = sequence_loss(kind, logits, labels, num_items_in_batch)
            self.config.problem_type = kind  # as in transformers: the first labels decide
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForTokenClassification(BertLitePreTrainedModel):
    """A class for each token."""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base(config, add_pooling_layer=False)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.dropout = head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 2)

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(..., E)` to `(..., L)`."""
        return self.classifier(self.dropout(vectors))

    def token_loss(self, scores: torch.Tensor, labels: torch.Tensor, count: Count) -> torch.Tensor:
        """Of `(..., L)` against `(...)`; `count` is `num_items_in_batch`."""
        return cross_entropy("labels", scores, labels, count)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs,
    ) -> TokenClassifierOutput:
        """Scores `(B, T, L)`; `labels` `(B, T)`, -100 for tokens without one.

        In training with labels, only labelled tokens meet the classifier, and `logits` are computed
        when they are asked for, by a second pass with dropout masks of its own. The other arguments
        are those of `BertLiteModel`; `num_items_in_batch`: labelled tokens in all the pieces whose
        gradients are accumulated.
        """
        read = self.vectors_read(labels, input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            positions=read,
            num_positions=labelled_count(kwargs.get("lengths")),
            return_dict=True,
            **kwargs,
        )
        scores = self.score(outputs.last_hidden_state)  # (B, T, L) or (M, L)
        if read is not None:
            targets = select(labels, read, len(scores))
            token_loss = self.token_loss(scores, targets, num_items_in_batch)

            def logits() -> torch.Tensor:
                return self(
                    input_ids,
                    attention_mask=attention_mask,
                    token_type_ids=token_type_ids,
                    position_ids=position_ids,
                    inputs_embeds=inputs_embeds,
                    return_dict=True,
                    **kwargs,
                ).logits

            return deferred(TokenClassifierOutput, {"logits": logits}, loss=token_loss)
        loss: torch.Tensor | None = None
        if labels is not None:
            loss = self.token_loss(scores, labels, num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss,
            logits=scores,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForQuestionAnswering(BertLitePreTrainedModel):
    """Where the answer begins and ends in the row."""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base(config, add_pooling_layer=False)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.qa_outputs = nn.Linear(config.hidden_size, 2)

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to `(B, T, 2)`."""
        return self.qa_outputs(vectors)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs,
    ) -> QuestionAnsweringModelOutput:
        """Scores `(B, T)` of the answer's start and of its end.

        The labels are `start_positions` and `end_positions`, `(B,)` each, as in `span_loss`; the
        loss is given where both are. The other arguments are those of `BertLiteModel`;
        `num_items_in_batch`: labelled rows in all the pieces whose gradients are accumulated.
        """
        has_labels = start_positions is not None and end_positions is not None
        # The loss leaves padding out.
        masks_padding = attention_mask is not None and attention_mask.ndim == 2
        leaves_out = has_labels and self.training and masks_padding and self.skips_unread(**kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            zero_padding=leaves_out or None,
            return_dict=True,
            **kwargs,
        )
        logits = self.score(outputs.last_hidden_state)  # (B, T, 2)
        start_logits, end_logits = (each.contiguous() for each in logits.unbind(-1))  # (B, T)
        loss = None
        if has_labels:
            loss = span_loss(
                start_logits,
                end_logits,
                start_positions,  # type: ignore[arg-type]
                end_positions,  # type: ignore[arg-type]
                attention_mask,
                num_items_in_batch,
            )
        if leaves_out:

            @functools.cache
            def second_pass() -> QuestionAnsweringModelOutput:
                return self(
                    input_ids,
                    attention_mask=attention_mask,
                    token_type_ids=token_type_ids,
                    position_ids=position_ids,
                    inputs_embeds=inputs_embeds,
                    return_dict=True,
                    **kwargs,
                )

            fields = {
                "start_logits": lambda: second_pass().start_logits,
                "end_logits": lambda: second_pass().end_logits,
            }
            return deferred(QuestionAnsweringModelOutput, fields, loss=loss)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForMultipleChoice(BertLitePreTrainedModel):
    """Scores of C choices, which are encoded as rows of their own."""

    reads_pooler = True  # else the first vector of each row

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.add_base(config, add_pooling_layer=self.reads_pooler, reads_first=True)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.dropout = head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, 1)

    def score(self, outputs: BaseModelOutputWithPooling) -> torch.Tensor:
        """What the base gives to `(B * C, 1)`."""
        return self.classifier(self.dropout(outputs.pooler_output))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs,
    ) -> MultipleChoiceModelOutput:
        """Scores `(B, C)` of inputs `(B, C, T)`; `labels` `(B,)` in `[0, C)`.

        The other arguments are those of `BertLiteModel` with C after B; `num_items_in_batch`:
        labelled rows in all the pieces whose gradients are accumulated.

        Raises:
            ValueError: inputs that are not `(B, C, T)`, or that do not fit.
        """
        choices = count_choices(input_ids, inputs_embeds)
        input_ids, inputs_embeds = join_choices(input_ids), join_choices(inputs_embeds)
        first = self.first_vectors(input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=join_choices(attention_mask),
            token_type_ids=join_choices(token_type_ids),
            position_ids=join_choices(position_ids),
            inputs_embeds=inputs_embeds,
            positions=first,
            num_positions=None if first is None else len(first),
            return_dict=True,
            **kwargs,
        )
        scores = self.score(outputs).view(-1, choices)  # (B, C)
        loss: torch.Tensor | None = None
        if labels is not None:
            loss = cross_entropy("labels", scores, labels, num_items_in_batch)
        return MultipleChoiceModelOutput(
            loss=loss,
            logits=scores,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def count_choices(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> int:
    """C of inputs `(B, C, T)`; a ValueError where they are not."""
    given, sides = (input_ids, 3) if inputs_embeds is None else (inputs_embeds, 4)
    if given is None or given.ndim != sides or 0 in given.shape:
        came = None if given is None else tuple(given.shape)
        raise ValueError(
            f"input_ids must have shape (batch, choices, length) with no empty side, got {came}"
        )
    return given.shape[1]


def join_choices(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """`(B, C, ...)` to `(B * C, ...)`."""
    return None if tensor is None else tensor.flatten(0, 1)
