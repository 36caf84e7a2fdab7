"""BERT and its heads (Devlin et al. 2018) on the shared encoder.

Shapes: `B` batch, `T` length, `C` choices, `E` hidden size, `V` vocabulary, `L` labels.
"""

from typing import Any

import torch
from torch import nn
from transformers import modeling_outputs
from transformers.activations import ACT2FN
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput
from transformers.utils import can_return_tuple

from .configuration import BertLiteConfig
from .layers import Encoder
from .linear import Linear
from .losses import class_loss, cross_entropy, sequence_loss, span_loss, vocabulary_loss
from .masking import IGNORED, Count, Ids, Vectors, check_integers, is_traced
from .pretrained import LitePreTrainedModel

TASKS = [
    "PreTraining",
    "MaskedLM",
    "NextSentencePrediction",
    "SequenceClassification",
    "TokenClassification",
]
TASKS += ["QuestionAnswering", "MultipleChoice"]


class BertLitePreTrainedModel(LitePreTrainedModel):
    """Base of the BERT family."""

    config: BertLiteConfig
    base_model_prefix = "bert"
    auto_map = {
        "AutoConfig": "configuration.BertLiteConfig",
        "AutoModel": "modeling_bertlite.BertLiteModel",
        **{f"AutoModelFor{task}": f"modeling_bertlite.BertLiteFor{task}" for task in TASKS},
    }


class BertLiteModel(BertLitePreTrainedModel, Encoder):
    """BERT without a head: the Transformer's encoder and, unless told otherwise, the pooler.

    Returns `last_hidden_state` `(B, T, E)`, zero at padding, and `pooler_output` `(B, E)`: tanh(W h
    + b) of the first token's vector, BERT's summary of a sequence.
    """

    def __init__(self, config: BertLiteConfig, add_pooling_layer: bool = True):
        super().__init__(
            config,
            vocab_size=config.vocab_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            type_vocab_size=config.type_vocab_size,
        )
        size = config.hidden_size
        self.pooler = nn.ModuleDict({"dense": Linear(size, size)}) if add_pooling_layer else None
        self.reads_first_position = add_pooling_layer
        self.post_init()

    def make_output(
        self, hidden_states: torch.Tensor
    ) -> modeling_outputs.BaseModelOutputWithPooling:
        pooled = (
            None if self.pooler is None else self.pooler["dense"](hidden_states[:, 0]).tanh()
        )  # (B, E)
        return modeling_outputs.BaseModelOutputWithPooling(
            last_hidden_state=hidden_states, pooler_output=pooled
        )


class BertLiteHead(BertLitePreTrainedModel):
    """What every head does: run BERT, then `predict` its own fields of the output."""

    # whether the head reads the pooler, and, unless `needed` says otherwise, nothing else
    pooled = False
    num_outputs: int | None = None  # of the linear layer; None: num_labels
    output_class: Any

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.bert = BertLiteModel(config, add_pooling_layer=self.pooled)
        self.build(config)
        self.post_init()

    def build(self, config: BertLiteConfig) -> None:
        """The usual head: dropout, then one linear layer to `num_labels` classes."""
        given = config.classifier_dropout
        self.dropout = nn.Dropout(config.hidden_dropout_prob if given is None else given)
        self.classifier = Linear(config.hidden_size, self.num_outputs or config.num_labels or 2)

    def needed(self, labels, num_items_in_batch) -> Ids:
        """Which of the `(B, T)` vectors `predict` reads, as `Encoder.forward` takes it.

        None: all.
        """
        return torch.ones(1, 1, dtype=torch.bool, device=self.device) if self.pooled else None

    def classify(self, vectors):
        return self.classifier(self.dropout(vectors))

    def predict(self, outputs, labels, num_items_in_batch, attention_mask) -> dict:
        """The head's fields of the output: `loss` (None without labels) and logits."""
        logits = self.classify(outputs.pooler_output if self.pooled else outputs.last_hidden_state)
        return {"loss": class_loss("labels", logits, labels, num_items_in_batch), "logits": logits}

    def run_bert(self, *inputs, **kwargs):
        return self.bert(*inputs, **{**kwargs, "return_dict": True})

    @can_return_tuple
    def forward(
        self,
        input_ids: Ids = None,
        attention_mask: Ids = None,
        token_type_ids: Ids = None,
        position_ids: Ids = None,
        inputs_embeds: Vectors = None,
        labels: Ids = None,
        num_items_in_batch: Count = None,
        **kwargs,
    ):
        """As `BertLiteModel`, with `labels` as the class says; a ValueError where they do not fit.

        `num_items_in_batch`: labelled items in all the pieces whose gradients are accumulated;
            `Trainer` gives it.
        """
        rows = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        outputs = self.run_bert(*rows, needed=self.needed(labels, num_items_in_batch), **kwargs)
        made = self.predict(outputs, labels, num_items_in_batch, attention_mask)
        return self.output_class(
            **made, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class VocabularyHead(nn.Module):
    """The masked-LM head.

    Dense, activation, norm, then the transposed word embedding and a bias.
    """

    def __init__(self, config: BertLiteConfig):
        super().__init__()
        norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.transform = nn.ModuleDict(
            {"dense": Linear(config.hidden_size, config.hidden_size), "LayerNorm": norm}
        )
        self.activation = ACT2FN[config.hidden_act]
        self.decoder = Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))  # the file's name for decoder.bias
        self.chunk_size = config.loss_chunk_size

    def is_chunked(self, labels: Ids) -> bool:
        """Whether only labelled positions are projected, and no logits given.

        In training with labels.
        """
        return labels is not None and self.training and self.chunk_size > 0 and not is_traced()

    def forward(self, hidden_states, labels=None, num_items_in_batch=None):
        """Loss and logits `(B, T, V)`, or None for these, see `is_chunked`."""
        check_integers("labels", labels, self.decoder.out_features, tuple(hidden_states.shape[:2]))
        if chunked := self.is_chunked(labels):
            hidden_states = hidden_states[labels != IGNORED]  # (labelled, E)
        hidden_states = self.transform["LayerNorm"](
            self.activation(self.transform["dense"](hidden_states))
        )
        if chunked:
            output = (self.decoder.weight, self.decoder.bias, num_items_in_batch, self.chunk_size)
            return vocabulary_loss(hidden_states, labels[labels != IGNORED], *output), None
        logits = self.decoder(hidden_states)  # (B, T, V)
        return None if labels is None else cross_entropy(logits, labels, num_items_in_batch), logits


class BertLiteForMaskedLM(BertLiteHead):
    """Masked language model; `labels` `(B, T)`, -100 where nothing is predicted.

    In training with labels, `logits` is None: only labelled positions meet the vocabulary,
    `config.loss_chunk_size` at a time. Set that to 0, or call `eval()`, for full logits.
    """

    output_class: Any = modeling_outputs.MaskedLMOutput
    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def get_output_embeddings(self):
        return self.cls["predictions"].decoder

    def set_output_embeddings(self, value: nn.Linear) -> None:
        self.cls["predictions"].decoder, self.cls["predictions"].bias = value, value.bias

    def build(self, config: BertLiteConfig) -> None:
        self.cls = nn.ModuleDict({"predictions": VocabularyHead(config)})

    def needed(self, labels, num_items_in_batch):
        labels = labels[0] if isinstance(labels, tuple) else labels
        if not self.cls["predictions"].is_chunked(labels):
            return None
        needed = labels != IGNORED
        needed[..., :1] |= self.pooled
        return needed

    def predict(self, outputs, labels, num_items_in_batch, attention_mask):
        loss, logits = self.cls["predictions"](
            outputs.last_hidden_state, labels, num_items_in_batch
        )
        return {"loss": loss, "logits": logits}


class BertLiteForNextSentencePrediction(BertLiteHead):
    """Does sentence B follow sentence A? `labels` `(B,)`: 0 it does, 1 it is a random one."""

    pooled = True
    output_class = modeling_outputs.NextSentencePredictorOutput

    def build(self, config: BertLiteConfig) -> None:
        self.cls = nn.ModuleDict({"seq_relationship": Linear(config.hidden_size, 2)})

    def classify(self, vectors):
        return self.cls["seq_relationship"](vectors)


class BertLiteForSequenceClassification(BertLiteHead):
    """Classes or scores of a sequence; `labels` as in `sequence_loss`."""

    pooled = True
    output_class = modeling_outputs.SequenceClassifierOutput

    def predict(self, outputs, labels, num_items_in_batch, attention_mask):
        logits = self.classify(outputs.pooler_output)  # (B, L)
        loss = (
            None
            if labels is None
            else sequence_loss(logits, labels, self.config, num_items_in_batch)
        )
        return {"loss": loss, "logits": logits}


class BertLiteForTokenClassification(BertLiteHead):
    """A class for each token; `labels` `(B, T)`, -100 for tokens without one.

    Where only the loss is wanted (training, labels, `num_items_in_batch`, as in `Trainer`), their
    `logits` are NaN.
    """

    output_class = modeling_outputs.TokenClassifierOutput

    def needed(self, labels, num_items_in_batch):
        loss_only = (
            self.training
            and labels is not None
            and num_items_in_batch is not None
            and not is_traced()
        )
        return labels != IGNORED if loss_only else None

    def predict(self, outputs, labels, num_items_in_batch, attention_mask):
        needed = self.needed(labels, num_items_in_batch)
        made = super().predict(outputs, labels, num_items_in_batch, attention_mask)
        return (
            made
            if needed is None
            else {**made, "logits": made["logits"].masked_fill(~needed[..., None], torch.nan)}
        )


class BertLiteForMultipleChoice(BertLiteHead):
    """Scores of C choices.

    Inputs `(B, C, T)`, `labels` `(B,)` in `[0, C)`. The choices are encoded as rows.
    """

    pooled = True
    num_outputs = 1
    output_class = modeling_outputs.MultipleChoiceModelOutput

    def run_bert(
        self, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs
    ):
        given, sides = (inputs_embeds, 4) if input_ids is None else (input_ids, 3)
        if given is None or given.ndim != sides or 0 in given.shape:
            came = f"got {None if given is None else tuple(given.shape)}"
            raise ValueError(
                f"input_ids must have shape (batch, choices, length) with no empty side, {came}"
            )
        rows = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        rows = tuple(
            None if tensor is None else tensor.flatten(0, 1) for tensor in rows
        )  # (B * C, T, ...)
        outputs = super().run_bert(*rows, **kwargs)
        outputs.pooler_output = outputs.pooler_output.unflatten(0, given.shape[:2])  # (B, C, E)
        return outputs

    def classify(self, vectors):
        return super().classify(vectors).squeeze(-1)  # (B, C)


class BertLiteForQuestionAnswering(BertLiteHead):
    """Where the answer begins and ends in the row.

    `(B, T)` logits each, and `span_loss` given both positions.
    """

    output_class = modeling_outputs.QuestionAnsweringModelOutput

    def build(self, config: BertLiteConfig) -> None:
        self.qa_outputs = Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Ids = None,
        attention_mask: Ids = None,
        token_type_ids: Ids = None,
        position_ids: Ids = None,
        inputs_embeds: Vectors = None,
        start_positions: Ids = None,
        end_positions: Ids = None,
        **kwargs,
    ) -> modeling_outputs.QuestionAnsweringModelOutput:
        """As the other heads; the labels are `start_positions` and `end_positions`, `(B,)`."""
        rows = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        return super().forward(*rows, labels=(start_positions, end_positions), **kwargs)

    def predict(self, outputs, labels, num_items_in_batch, attention_mask):
        start, end = (
            each.contiguous() for each in self.qa_outputs(outputs.last_hidden_state).unbind(-1)
        )  # (B, T)
        given = labels[0] is not None and labels[1] is not None
        loss = span_loss(start, end, *labels, attention_mask, num_items_in_batch) if given else None
        return {"loss": loss, "start_logits": start, "end_logits": end}


class BertLiteForPreTraining(BertLiteForMaskedLM):
    """Both pretraining tasks (section 3.1).

    The loss is the sum of their means, for whichever labels are given.
    """

    pooled = True
    output_class = BertForPreTrainingOutput

    def build(self, config: BertLiteConfig) -> None:
        super().build(config)
        self.cls["seq_relationship"] = Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Ids = None,
        attention_mask: Ids = None,
        token_type_ids: Ids = None,
        position_ids: Ids = None,
        inputs_embeds: Vectors = None,
        labels: Ids = None,
        next_sentence_label: Ids = None,
        num_sequences_in_batch: Count = None,
        **kwargs,
    ) -> BertForPreTrainingOutput:
        """As the other heads.

        `labels` as for masked LM, `next_sentence_label` `(B,)`: 0 follows, 1 random.

        `num_sequences_in_batch`: sentence pairs in all accumulated pieces. `Trainer` counts masked
            words only: without this, a piece weighs by its share of them, which is exact where
            every row has as many.
        """
        rows = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        return super().forward(
            *rows, labels=(labels, next_sentence_label, num_sequences_in_batch), **kwargs
        )

    def predict(self, outputs, labels, num_items_in_batch, attention_mask):
        labels, next_sentence_label, count = labels
        relationship = self.cls["seq_relationship"](outputs.pooler_output)  # (B, 2)
        loss, logits = self.cls["predictions"](
            outputs.last_hidden_state, labels, num_items_in_batch
        )
        if next_sentence_label is not None:
            if count is None and num_items_in_batch is not None and labels is not None:
                share = (labels != IGNORED).sum() / torch.as_tensor(num_items_in_batch).clamp(min=1)
                count = (next_sentence_label != IGNORED).sum() / share.clamp(min=1e-9)
            sentence_loss = class_loss(
                "next_sentence_label", relationship, next_sentence_label, count
            )
            loss = sentence_loss if loss is None else loss + sentence_loss
        return {"loss": loss, "prediction_logits": logits, "seq_relationship_logits": relationship}


for _auto_class, _path in BertLitePreTrainedModel.auto_map.items():
    globals()[_path.split(".")[1]].register_for_auto_class(_auto_class)
