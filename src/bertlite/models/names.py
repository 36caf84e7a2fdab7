"""Where each family's checkpoints keep the parts of a layer: a table from role to dotted name.

A new family whose layers are those of BERT or of the Transformer needs a table here, its
embeddings and its configuration; attention and layers stay as they are. Names stand in the order of
the family's own files. How the shared code uses them: `parts.py`.
"""

from .parts import Names

BERT_ATTENTION: Names = {"query": "query", "key": "key", "value": "value", "dropout": "dropout"}
BERT_LAYER: Names = {
    "attention_sublayer": "attention",
    "self_attention": "attention.self",
    "end_attention": "attention.output",
    "attention_projection": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "attention_dropout": "attention.output.dropout",
    "expand": "intermediate",
    "inner": "intermediate.dense",
    "activation": "intermediate.intermediate_act_fn",
    "end_feed_forward": "output",
    "outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
    "feed_forward_dropout": "output.dropout",
}

MARIAN_ATTENTION: Names = {
    "key": "k_proj",
    "value": "v_proj",
    "query": "q_proj",
    "projection": "out_proj",
    "dropout": "attention_dropout",
}
MARIAN_LAYER: Names = {
    "self_attention": "self_attn",
    "attention_norm": "self_attn_layer_norm",
    "attention_dropout": "dropout",
    "activation": "activation_fn",
    "activation_dropout": "activation_dropout",
    "cross_attention": "encoder_attn",
    "cross_attention_norm": "encoder_attn_layer_norm",
    "inner": "fc1",
    "outer": "fc2",
    "feed_forward_norm": "final_layer_norm",
    "feed_forward_dropout": "dropout",
}

DISTILBERT_ATTENTION: Names = {
    "dropout": "dropout",
    "query": "q_lin",
    "key": "k_lin",
    "value": "v_lin",
    "projection": "out_lin",
}
DISTILBERT_LAYER: Names = {
    "self_attention": "attention",
    "attention_norm": "sa_layer_norm",
    "transform": "ffn",
    "feed_forward_dropout": "ffn.dropout",
    "inner": "ffn.lin1",
    "outer": "ffn.lin2",
    "activation": "ffn.activation",
    "feed_forward_norm": "output_layer_norm",
}

MPNET_ATTENTION: Names = {
    "query": "q",
    "key": "k",
    "value": "v",
    "projection": "o",
    "dropout": "dropout",
}
MPNET_LAYER: Names = {
    "attention_sublayer": "attention",
    "self_attention": "attention.attn",
    "attention_norm": "attention.LayerNorm",
    "attention_dropout": "attention.dropout",
    "expand": "intermediate",
    "inner": "intermediate.dense",
    "activation": "intermediate.intermediate_act_fn",
    "end_feed_forward": "output",
    "outer": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
    "feed_forward_dropout": "output.dropout",
}

ALBERT_ATTENTION: Names = {
    "dropout": "attention_dropout",
    "query": "query",
    "key": "key",
    "value": "value",
}
ALBERT_LAYER: Names = {
    "feed_forward_norm": "full_layer_layer_norm",
    "self_attention": "attention",
    "attention_dropout": "attention.output_dropout",
    "attention_projection": "attention.dense",
    "attention_norm": "attention.LayerNorm",
    "inner": "ffn",
    "outer": "ffn_output",
    "activation": "activation",
}

VIT_ATTENTION: Names = {
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "projection": "o_proj",
    "dropout": "dropout",
}
VIT_LAYER: Names = {
    "self_attention": "attention",
    "attention_norm": "layernorm_before",
    "feed_forward_norm": "layernorm_after",
    "transform": "mlp",
    "activation": "mlp.activation_fn",
    "inner": "mlp.fc1",
    "outer": "mlp.fc2",
    "attention_dropout": "dropout",
    "feed_forward_dropout": "dropout",
}

MODERNBERT_ATTENTION: Names = {
    "query_key_value": "Wqkv",
    "projection": "Wo",
    "dropout": "out_drop",
}
MODERNBERT_LAYER: Names = {
    "attention_norm": "attn_norm",
    "self_attention": "attn",
    "attention_dropout": "attn.out_drop",
    "feed_forward_norm": "mlp_norm",
    "transform": "mlp",
    "inner": "mlp.Wi",
    "activation": "mlp.act",
    "activation_dropout": "mlp.drop",
    "outer": "mlp.Wo",
}


def weights_of_layer(layer: Names, attention: Names) -> Names:
    """Where the modules with weights of a layer's self-attention and feed-forward stand.

    From role to dotted name below the layer. The output projection stands in the attention or
    after it, as the family has it.

    >>> weights_of_layer(BERT_LAYER, BERT_ATTENTION)["query"]
    'attention.self.query'
    >>> weights_of_layer(MARIAN_LAYER, MARIAN_ATTENTION)["projection"]
    'self_attn.out_proj'
    """
    start = layer["self_attention"]
    names = {role: f"{start}.{attention[role]}" for role in ("query", "key", "value")}
    if "projection" in attention:
        names["projection"] = f"{start}.{attention['projection']}"
    else:
        names["projection"] = layer["attention_projection"]
    others = ("attention_norm", "inner", "outer", "feed_forward_norm")
    return {**names, **{role: layer[role] for role in others}}
