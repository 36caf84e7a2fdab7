"""A Transformer that starts from a BERT: its encoder whole, and the decoder where the shapes agree.

Rothe et al. 2019 (https://arxiv.org/abs/1907.12461) found encoders and decoders initialised so to
beat random ones.
"""

from dataclasses import dataclass

from .configuration import TransformerLiteConfig
from .embeddings import BERT_EMBEDDINGS, MARIAN_EMBEDDINGS
from .modeling_bertlite import BertLiteModel
from .modeling_transformerlite import TransformerLiteForConditionalGeneration
from .names import (
    BERT_ATTENTION,
    BERT_LAYER,
    MARIAN_ATTENTION,
    MARIAN_LAYER,
    weights_of_layer,
)


@dataclass(frozen=True)
class WarmStart:
    """A model that starts from a BERT, and the names of the weights that BERT does not have."""

    model: TransformerLiteForConditionalGeneration
    new_weights: list[str]


def warm_start_from_bert(
    pretrained_model_name_or_path, *, initialize_decoder: bool = True, **overrides
) -> WarmStart:
    """Build a `TransformerLiteForConditionalGeneration` from a BERT checkpoint.

    The encoder is the BERT's, and encodes as it does. The decoder's embeddings, self-attention and
    feed-forward start from the same layers; its attention to the encoder is new.

    Args:
        pretrained_model_name_or_path: a BERT or BertLite folder or hub name.
        initialize_decoder: False leaves the decoder's layers random (embeddings stay shared).
        overrides: fields of the `TransformerLiteConfig`, such as `decoder_layers=3` (the first
            layers are taken), `decoder_start_token_id` (default: the BERT's [CLS], 101) or
            `eos_token_id` ([SEP], 102).

    Returns:
        The model, and the sorted names of the weights that stayed freshly initialised.

    Raises:
        ValueError: as `BertLiteModel.from_pretrained`; an override that the BERT's weights do not
            fit.
    """
    bert = BertLiteModel.from_pretrained(pretrained_model_name_or_path, add_pooling_layer=False)
    config = _config_like(bert.config, overrides)
    model = TransformerLiteForConditionalGeneration(config)
    renamed = {transformer_name(name): value for name, value in bert.state_dict().items()}
    taken = {f"model.encoder.{name}": value for name, value in renamed.items()}
    taken["model.shared.weight"] = bert.get_input_embeddings().weight.data
    if initialize_decoder:
        for name, value in renamed.items():
            if "token_type" not in name:
                taken[f"model.decoder.{name}"] = value
    own = model.state_dict()
    # Word embeddings are one tensor under several names; BERT's layers beyond the decoder's depth
    # have no place.
    taken = {name: value for name, value in taken.items() if name in own}
    wrong = [name for name, value in taken.items() if own[name].shape != value.shape]
    if wrong:
        raise ValueError(
            f"warm_start_from_bert: the overrides {overrides} do not fit the BERT's weights: "
            f"{wrong[:5]}"
        )
    model.load_state_dict(taken, strict=False)
    model.tie_weights()
    tied = {own[name].data_ptr() for name in taken}
    new = sorted(
        name for name, value in own.items() if name not in taken and value.data_ptr() not in tied
    )
    return WarmStart(model=model, new_weights=[name for name in new if name != "final_logits_bias"])


def transformer_name(name: str) -> str:
    """A tensor of `BertLiteModel` by its name in the Transformer's encoder or decoder.

    >>> transformer_name("encoder.layer.3.attention.self.query.weight")
    'layers.3.self_attn.q_proj.weight'
    >>> transformer_name("embeddings.LayerNorm.bias")
    'embeddings.LayerNorm.bias'
    """
    module, _, tensor = name.rpartition(".")
    if name.startswith("encoder.layer."):
        _, _, number, part = module.split(".", 3)
        theirs = weights_of_layer(BERT_LAYER, BERT_ATTENTION)
        role = next(role for role, path in theirs.items() if path == part)
        part = weights_of_layer(MARIAN_LAYER, MARIAN_ATTENTION)[role]
        return f"layers.{number}.{part}.{tensor}"
    if name.startswith("embeddings."):
        part = module.removeprefix("embeddings.")
        role = next(role for role, path in BERT_EMBEDDINGS.items() if path == part)
        return f"{MARIAN_EMBEDDINGS[role]}.{tensor}"
    return name


def _config_like(bert, overrides: dict) -> TransformerLiteConfig:
    """A Transformer of the BERT's sizes and habits.

    Learned positions, segments, a norm after the embeddings.
    """
    fields = {
        "d_model": bert.hidden_size,
        "activation_function": bert.hidden_act,
        "dropout": bert.hidden_dropout_prob,
        "attention_dropout": bert.attention_probs_dropout_prob,
        "init_std": bert.initializer_range,
        "normalize_embedding": True,
        "decoder_start_token_id": 101,
        "eos_token_id": 102,
        "forced_eos_token_id": None,
    }
    same = (
        "vocab_size",
        "max_position_embeddings",
        "position_embedding_type",
        "type_vocab_size",
        "pad_token_id",
    )
    for name in (*same, "layer_norm_eps", "norm_first", "unpad_inputs", "loss_chunk_size"):
        fields[name] = getattr(bert, name)
    for side in ("encoder", "decoder"):
        fields[f"{side}_layers"] = bert.num_hidden_layers
        taken = slice(overrides.get(f"{side}_layers"))
        fields[f"{side}_attention_heads"] = bert.num_attention_heads
        fields[f"{side}_ffn_dim"] = bert.intermediate_size
        if bert.heads_per_layer is not None:
            fields[f"{side}_heads_per_layer"] = bert.heads_per_layer[taken]
        if bert.intermediate_sizes is not None:
            fields[f"{side}_ffn_dims"] = bert.intermediate_sizes[taken]
    return TransformerLiteConfig(**{**fields, **overrides})
