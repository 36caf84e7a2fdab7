"""The formula of attention and its module, against hand-worked numbers and torch's own; and the
same over sequences laid end to end.
"""

import math

import pytest
import torch
from cases import bert_config, transformer_config
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache

from bertlite.backends.cpu.attention import FlatAttention, attend_by_products
from bertlite.backends.unpadding import equal_length_groups
from bertlite.models.attention import Attention, eager_attention
from bertlite.models.names import BERT_ATTENTION, MARIAN_ATTENTION


class Caller(nn.Module):
    """Stands for the module that attends."""

    def __init__(self, is_causal: bool = False, implementation: str = "eager"):
        super().__init__()
        self.is_causal, self.config = is_causal, bert_config()
        self.config._attn_implementation = implementation


def random_heads(batch: int = 2, heads: int = 3, queries: int = 4, keys: int = 5, size: int = 8):
    return (
        torch.randn(batch, heads, length, size, dtype=torch.float64)
        for length in (queries, keys, keys)
    )


def test_hand_worked_example():
    """Two keys with scores ln 3 and 0: weights 3/4 and 1/4."""
    query, key = torch.tensor([[[[math.log(3.0)]]]]), torch.tensor([[[[1.0], [0.0]]]])
    value = torch.tensor([[[[8.0], [4.0]]]])
    context, weights = eager_attention(Caller(), query, key, value)
    torch.testing.assert_close(weights, torch.tensor([[[[0.75, 0.25]]]]))
    torch.testing.assert_close(context, torch.tensor([[[[7.0]]]]))


def test_formula_one_query_at_a_time():
    query, key, value = random_heads()
    context, weights = eager_attention(Caller(), query, key, value)
    for batch, head, place in ((0, 0, 0), (1, 2, 3)):
        scores = [
            float(query[batch, head, place] @ each) / math.sqrt(8) for each in key[batch, head]
        ]
        total = sum(map(math.exp, scores))
        expected = torch.tensor([math.exp(score) / total for score in scores], dtype=torch.float64)
        torch.testing.assert_close(weights[batch, head, place], expected)
        torch.testing.assert_close(context[batch, place, head], expected @ value[batch, head])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_equals_torch(causal, kind, scaling):
    query, key, value = random_heads(queries=5)
    allowed = (torch.rand(2, 1, 5, 5) < 0.6) | torch.eye(5, dtype=torch.bool)
    mask = {"none": None, "boolean": allowed}.get(
        kind, torch.zeros(allowed.shape).double().masked_fill(~allowed, -1e30)
    )
    context, weights = eager_attention(Caller(causal), query, key, value, mask, scaling)
    own = causal and mask is None  # a mask that is given says all, also to a causal module
    expected = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=own, scale=scaling
    )
    torch.testing.assert_close(context, expected.transpose(1, 2))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))


def test_one_query_of_a_causal_module_sees_the_whole_cache():
    query, key, value = random_heads(queries=1)
    found, _ = eager_attention(Caller(True), query, key, value)
    expected, _ = eager_attention(Caller(False), query, key, value)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_query_that_may_see_nothing_stays_finite(dtype):
    query, key, value = (tensor.to(dtype).requires_grad_() for tensor in random_heads())
    mask = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    mask[0] = False
    context, _ = eager_attention(Caller(), query, key, value, mask)
    context.float().sum().backward()
    assert all(tensor.isfinite().all() for tensor in (context, query.grad, key.grad, value.grad))


def test_dropout_in_training_only():
    query, key, value = random_heads(keys=1000)
    _, weights = eager_attention(Caller().eval(), query, key, value, dropout=0.25)
    _, dropped = eager_attention(Caller().train(), query, key, value, dropout=0.25)
    kept = dropped != 0
    assert abs(kept.double().mean() - 0.75) < 0.02
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.75)


@pytest.mark.parametrize("lengths", [(3,), (2, 2, 2), (1, 2, 2, 4), (5, 1, 5), (0, 3)])
def test_sequences_end_to_end_equal_each_alone(lengths, attention):
    query, key, value = random_heads(batch=1, queries=sum(lengths), keys=sum(lengths))
    flat = FlatAttention(equal_length_groups(list(lengths)))
    caller = Caller(implementation=attention)
    found, weights = flat(caller, query, key, value, None, scaling=0.3)
    assert weights is None
    pieces = zip(*(each.split(lengths, dim=2) for each in (query, key, value)), strict=True)
    alone = [eager_attention(caller, *piece, scaling=0.3)[0] for piece in pieces]
    torch.testing.assert_close(found, torch.cat(alone, dim=1))


def test_no_sequence_at_all(attention):
    query, key, value = random_heads(batch=1, queries=0, keys=0)
    flat = FlatAttention([])
    context, _ = flat(Caller(implementation=attention), query, key, value, None, scaling=1.0)
    assert context.shape == (1, 0, 3, 8)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_by_products_is_the_formula(masked):
    query, key, value = random_heads()
    mask = torch.randn(2, 1, 4, 5, dtype=torch.float64) if masked else None
    expected, _ = eager_attention(Caller(), query, key, value, mask, 0.3)
    found = attend_by_products(query, key, value, 0.3, mask)
    torch.testing.assert_close(found.transpose(1, 2), expected)


def copied(attention: Attention, heads: int) -> nn.MultiheadAttention:
    """Torch's module with the same weights."""
    theirs = nn.MultiheadAttention(attention.query.in_features, heads, batch_first=True)
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    if attention.projection is None:  # BERT keeps it elsewhere
        nn.init.eye_(theirs.out_proj.weight)
    else:
        theirs.out_proj.load_state_dict(attention.projection.state_dict())
    return theirs.eval()


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["self", "causal", "cross"])
@pytest.mark.parametrize("names", [BERT_ATTENTION, MARIAN_ATTENTION], ids=["bert", "marian"])
def test_module_equals_torchs(names, heads, kind, attention):
    config = bert_config(num_attention_heads=heads)
    config._attn_implementation = attention
    options = {"is_causal": kind == "causal", "is_cross_attention": kind == "cross"}
    module = Attention(config, names, num_heads=heads, **options).eval()
    states, source = torch.randn(2, 5, 32), torch.randn(2, 7, 32)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1) if kind == "causal" else None
    keys = source if kind == "cross" else states
    expected, weights = copied(module, heads)(
        states, keys, keys, attn_mask=hidden, average_attn_weights=False
    )
    found, found_weights = module(states, key_value_states=source if kind == "cross" else None)
    torch.testing.assert_close(found, expected)
    if attention == "eager":
        torch.testing.assert_close(found_weights, weights)


def test_source_is_projected_once_for_all_steps():
    config = transformer_config()
    config._attn_implementation = "eager"
    module = Attention(config, MARIAN_ATTENTION, num_heads=2, is_cross_attention=True, layer_idx=0)
    projected = []
    module.key.register_forward_hook(lambda *_: projected.append(1))
    cache, source = EncoderDecoderCache(DynamicCache(), DynamicCache()), torch.randn(1, 4, 32)
    outputs = [module(torch.ones(1, 1, 32), None, source, cache)[0] for _ in range(3)]
    assert len(projected) == 1
    assert torch.equal(outputs[0], outputs[2])
