"""The families of `bertlite.load`: what transformers calls them, and a tiny `Case` of each head."""

from pathlib import Path

import torch
import transformers
from cases import BERT, Case, randomize

from bertlite.models.families import FAMILIES

SPANS = {"start_logits": "source", "end_logits": "source"}
# What a head gives, and its labels: arguments of `Case`.
HEADS = {
    "Model": ({"last_hidden_state": "source"}, {}),
    "ForMaskedLM": ({"logits": "source"}, {"labels": "word"}),
    "ForSequenceClassification": ({"logits": "row"}, {"labels": "class"}),
    "ForTokenClassification": ({"logits": "source"}, {"labels": "token"}),
    "ForQuestionAnswering": (SPANS, {"start_positions": "span", "end_positions": "span"}),
    "ForMultipleChoice": ({"logits": "row"}, {"labels": "class"}),
    "ForPreTraining": ({"logits": "source"}, {"labels": "replaced"}),
}
OWN = {
    ("albert", "ForPreTraining"): (
        {"prediction_logits": "source", "sop_logits": "row"},
        {"labels": "word", "sentence_order_label": "class"},
    ),
}
# Its own names of what BERT's config says, without dropout.
DISTILBERT = {"hidden_dim": 48, "dropout": 0.0, "attention_dropout": 0.0}
DISTILBERT |= {"qa_dropout": 0.0, "seq_classif_dropout": 0.0}
# Seven tokens to each side: with fewer, padding may see none, which eager and sdpa do otherwise.
MODERNBERT = {"local_attention": 14, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODERNBERT |= {"cls_token_id": 1, "sep_token_id": 2}
# Settings of each family's config beyond those of a tiny BERT; the first is its usual form.
SETTINGS: dict[str, list[dict]] = {
    "roberta": [{}, {"type_vocab_size": 1, "hidden_act": "relu", "layer_norm_eps": 1e-5}],
    "xlm-roberta": [{"type_vocab_size": 1}],
    "camembert": [{"type_vocab_size": 1}],
    "distilbert": [DISTILBERT, {**DISTILBERT, "activation": "relu", "n_layers": 3}],
    "electra": [
        {"embedding_size": 20, "summary_last_dropout": 0.0},
        {"embedding_size": 32, "hidden_act": "relu", "summary_last_dropout": 0.0},
    ],
    "albert": [
        {"embedding_size": 20, "classifier_dropout_prob": 0.0},
        {
            "embedding_size": 32,
            "num_hidden_layers": 4,
            "num_hidden_groups": 2,
            "inner_group_num": 2,
            "hidden_act": "gelu_new",
        },
    ],
    "mpnet": [{}, {"hidden_act": "relu"}],
    "modernbert": [
        MODERNBERT,
        {
            **MODERNBERT,
            "local_attention": 4,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "hidden_activation": "silu",
            "classifier_pooling": "mean",
            "decoder_bias": False,
            **dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True),
        },
    ],
}
# Families with code of their own, beyond a name.
DISTINCT = ("roberta", "distilbert", "electra", "mpnet", "albert", "modernbert")
POOLED = ("roberta", "xlm-roberta", "camembert", "mpnet", "albert")


def fields_of(family: str, head: str, setting: int = 0) -> dict:
    """The fields of a tiny config."""
    fields = {**BERT, **SETTINGS[family][setting]}
    if head == "ForQuestionAnswering" or (family, head) in OWN:
        fields["num_labels"] = 2
    return fields


def pair(family: str, head: str, folder: Path, setting: int = 0, attention: str = "sdpa"):
    """Transformers' class with large random weights, and ours with what it has saved."""
    ours = FAMILIES[family].model(head)
    config = getattr(transformers, FAMILIES[family].stem + "Config")
    fields = fields_of(family, head, setting)
    theirs = randomize(getattr(transformers, ours.__name__)(config(**fields)), std=0.25)
    theirs.save_pretrained(folder)
    return theirs, ours.from_pretrained(folder, attn_implementation=attention).eval()


def cases(family: str) -> list[Case]:
    """A case of each head."""
    made = []
    for head in FAMILIES[family].heads:
        outputs, labels = OWN.get((family, head), HEADS[head])
        if head == "Model" and family in POOLED:
            outputs = {**outputs, "pooler_output": "row"}
        config = {**SETTINGS[family][0]}
        if head == "ForQuestionAnswering" or (family, head) in OWN:
            config["num_labels"] = 2
        choices = 2 if head == "ForMultipleChoice" else 0
        made.append(Case(FAMILIES[family].model(head), outputs, labels, config, choices))
    return made


def batch_of(case: Case, side: str | None) -> dict[str, torch.Tensor]:
    """A ragged batch, whose padding holds the padding id; None: one without a mask."""
    batch = case.batch(side or "right", masked=side is not None)
    config = case.model_class.config_class(**{**BERT, **case.config})
    ids, padding = batch["input_ids"], config.pad_token_id
    words = ids.masked_fill(ids == padding, 7)
    if side is not None:
        words = words.masked_fill(batch["attention_mask"] == 0, padding)
    batch["input_ids"] = words
    if case.choices and case.config.get("classifier_pooling") == "mean":  # theirs needs a mask
        batch.setdefault("attention_mask", torch.ones_like(words))
    batch["token_type_ids"] = batch["token_type_ids"] % max(1, config.type_vocab_size)
    return batch
