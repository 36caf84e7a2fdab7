"""A classifier of BERT's own class that reads the mean of a text's vectors.

BERT's classifier reads the first token's vector, through the pooler. Models of sentence vectors
were taught by the mean over all tokens, and know much less in the first one. One layer more, of
BERT's own kind, brings the mean there:

- its queries and keys are zero, so that every token attends to all tokens alike, and its values are
  the vectors themselves: what comes out of attention is their mean, many times as large as the
  token's own vector that is added to it, of which the norm leaves next to nothing;
- its feed-forward part adds nothing;
- the pooler hands the first vector on, at length 1, where its tanh is all but straight.

Zero queries and keys have zero gradients, as has the feed-forward part, so that the mean stays one
in training, and only how it is scaled and turned is learnt.

Deviation: the model has a layer that the one it started from has not.
"""

from typing import Any

import torch
from torch import nn

from ..models.encoder import BertEncoder
from ..models.heads import BertPooler

WEIGHT = 100.0  # of the mean, beside the token's own vector


def reads_mean(model: Any) -> bool:
    """Whether the last layer of a BERT averages already."""
    attention = model.base_model.stack.layers[-1].self_attention
    return not bool(attention.query.weight.any() or attention.key.weight.any())


def can_read_mean(model: Any) -> bool:
    """Whether a classifier is BERT's own: post-norm layers, then the pooler."""
    base: Any = getattr(model, "base_model", None)
    is_bert = isinstance(getattr(base, "stack", None), BertEncoder)
    return is_bert and type(base.pooler) is BertPooler and not model.config.norm_first


def hand_on_first(model: Any) -> None:
    """Have BERT's pooler hand the first token's vector on, at a length of about 1."""
    dense, size = model.base_model.pooler.dense, model.config.hidden_size
    with torch.no_grad():
        dense.weight.copy_(torch.eye(size) / size**0.5)
        dense.bias.zero_()


def read_mean(model: Any) -> None:
    """Put a layer that averages on a BERT with a classifier; see above."""
    if reads_mean(model):
        return
    config, stack = model.config, model.base_model.stack
    for name, (size, _) in config.by_layer.items():  # of a pruned model
        if getattr(config, name) is not None:
            setattr(config, name, [*getattr(config, name), getattr(config, size)])
    config.num_hidden_layers += 1
    last = stack.layers[-1]
    layer = stack.make_layer(config, len(stack.layers)).to(last.attention_norm.weight)
    identity = torch.eye(config.hidden_size)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.self_attention.value.weight.copy_(identity)
        layer.attention_projection.weight.copy_(WEIGHT * identity)
        for norm in (layer.attention_norm, layer.feed_forward_norm):
            nn.init.ones_(norm.weight)
    layer.requires_grad_(last.attention_norm.weight.requires_grad)
    stack.layers.append(layer.train(model.training))
    hand_on_first(model)
