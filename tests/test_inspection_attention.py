"""Maps of attention against transformers' own, by every backend, and figures worked by hand."""

import math

import networkx
import pytest
import torch
import transformers
from inspection_cases import tiny_bert, tiny_tokenizer, tiny_translator

import bertlite
from bertlite.inspection import (
    AttentionMaps,
    TextTokens,
    attention_flow,
    attention_maps,
    attention_rollout,
    head_statistics,
    value_weighted_norms,
)
from bertlite.inspection.tokens import by_search

TOKENIZER = tiny_tokenizer()


def by_hand(*layers: list[list[list[float]]], special=(True, False)) -> AttentionMaps:
    """Maps of two tokens, of which the first was added."""
    texts_of = tuple(None if each else 0 for each in special)
    tokens = TextTokens(("b",), {}, ("[CLS]", "b"), (None, (0, 1)), (None, 0), texts_of)
    return AttentionMaps(tokens, tuple(torch.tensor(layer) for layer in layers))


def save(model, folder):
    model.save_pretrained(folder)
    return model, folder


def test_maps_are_those_of_transformers(tmp_path):
    model, folder = save(tiny_bert(), tmp_path)
    theirs = transformers.BertForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()
    maps = attention_maps("abc film .", model, TOKENIZER, text_pair="bad film")
    inputs = TOKENIZER("abc film .", "bad film", return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**inputs, output_attentions=True).attentions
    for found, layer in zip(maps.encoder, expected, strict=True):
        torch.testing.assert_close(found, layer[0], atol=1e-5, rtol=1e-5)
    assert maps.source.tokens[1:4] == ("a", "##b", "##c")
    assert maps.source.words_as_text() == ["abc", "film", ".", "bad", "film"]


def test_transformers_own_class_is_taken_as_it_is(tmp_path):
    """And has the attention implementation that it had, afterwards."""
    model, folder = save(tiny_bert(), tmp_path)
    theirs = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    before = theirs.config._attn_implementation
    found = attention_maps("a b", theirs, TOKENIZER)
    assert theirs.config._attn_implementation == before != "eager"
    torch.testing.assert_close(found.encoder, attention_maps("a b", model, TOKENIZER).encoder)


@pytest.mark.parametrize("backend", ["plain", "cpu", "auto", "packed"])
def test_every_backend_gives_the_same(backend):
    expected = attention_maps("a b c", bertlite.use_backend(tiny_bert(), "plain"), TOKENIZER)
    model = tiny_bert()
    if backend == "packed":
        model = bertlite.optimize(model)
    else:
        bertlite.use_backend(model, backend)
    found = attention_maps("a b c", model, TOKENIZER)
    torch.testing.assert_close(found.encoder, expected.encoder, atol=1e-5, rtol=1e-5)


def test_a_translation(tmp_path):
    """What is generated, and what is given as if it had been, against Marian's own weights."""
    model, folder = save(tiny_translator(), tmp_path)
    theirs = transformers.MarianMTModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = TOKENIZER("a b c", return_tensors="pt")["input_ids"]
    written = model.generate(ids, num_beams=1)
    maps = attention_maps("a b c", model, TOKENIZER)
    assert list(maps.written) == TOKENIZER.convert_ids_to_tokens(written[0, 1:].tolist())
    with torch.no_grad():
        expected = theirs(input_ids=ids, decoder_input_ids=written[:, :-1], output_attentions=True)
    for kind, name in (
        ("encoder", "encoder_attentions"),
        ("decoder", "decoder_attentions"),
        ("cross", "cross_attentions"),
    ):
        for found, layer in zip(maps.maps(kind), expected[name], strict=True):
            torch.testing.assert_close(found, layer[0], atol=1e-5, rtol=1e-5)
    given = attention_maps("a b c", model, TOKENIZER, written="d e")
    assert given.tokens("cross")[0] == ("[PAD]", "[CLS]", "d", "e")
    assert given.written == ("[CLS]", "d", "e", "[SEP]")
    assert given.cross[0].shape == (2, 4, 5)


def test_rollout_by_hand():
    """Two layers: half of [[1, 0], [1, 0]] and half the identity, then two heads with mean 1/2."""
    maps = by_hand([[[1.0, 0.0], [1.0, 0.0]]], [[[1.0, 0], [1, 0]], [[0, 1], [0, 1.0]]])
    first, second = attention_rollout(maps)
    assert first.tolist() == [[1, 0], [0.5, 0.5]]
    # [[.75, .25], [.25, .75]] times the first
    assert second.tolist() == [[0.875, 0.125], [0.625, 0.375]]


def test_flow_is_networkx_maximum_flow():
    maps = attention_maps("a b", tiny_bert(), TOKENIZER)
    network, length = networkx.DiGraph(), 4
    for number, layer in enumerate(maps.encoder):
        mixed = layer.mean(0) / 2 + torch.eye(length) / 2
        for row in range(length):
            for column in range(length):
                capacity = float(mixed[row, column])
                network.add_edge((number, column), (number + 1, row), capacity=capacity)
    found = attention_flow(maps)
    for place in range(length):
        for token in range(length):
            expected = networkx.maximum_flow_value(network, (0, token), (2, place))
            assert found[place, token] == pytest.approx(expected, abs=1e-5)
    assert torch.equal(attention_flow(maps, positions=[2])[0], found[2])


def test_statistics_by_hand():
    (row,) = head_statistics(by_hand([[[0.5, 0.5], [0.25, 0.75]]]))
    assert row["layer"] == row["head"] == 0
    half, quarter = math.log(2), -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert row["entropy"] == pytest.approx((half + quarter) / 2)
    assert row["separators"] == pytest.approx((0.5 + 0.25) / 2)
    assert row["distance"] == pytest.approx((0.5 + 0.25) / 2)
    assert row["itself"] == pytest.approx((0.5 + 0.75) / 2)
    assert row["next"] == pytest.approx(0.5 / 2)
    assert row["previous"] == pytest.approx(0.25 / 2)


def test_statistics_of_cross_attention_know_no_distance():
    maps = attention_maps("a b c", tiny_translator(), TOKENIZER)
    assert set(head_statistics(maps, kind="cross")[0]) == {
        "layer",
        "head",
        "entropy",
        "separators",
    }
    assert len(head_statistics(maps, kind="decoder")) == 4


@pytest.mark.parametrize("make", [tiny_bert, tiny_translator], ids=["bert", "transformer"])
def test_value_weighted_norms_are_those_of_the_formula(make):
    """‖α (x W_V + b_V) W_O‖ with x from the hidden states, a head and a pair at a time."""
    model = make()
    maps, norms = value_weighted_norms("a b c", model, TOKENIZER)
    ids = TOKENIZER("a b c", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        encoder = model.get_encoder() if make is tiny_translator else model.bert
        states = encoder(input_ids=ids, output_hidden_states=True).hidden_states
    if make is tiny_bert:
        layer = model.bert.encoder.layer[1].attention
        value, projection = layer.self.value, layer.output.dense
    else:
        layer = encoder.layers[1].self_attn
        value, projection = layer.v_proj, layer.out_proj
    size = 32 // len(maps.encoder[1])
    for head in range(len(maps.encoder[1])):
        part = slice(head * size, (head + 1) * size)
        carried = value(states[1][0])[:, part] @ projection.weight[:, part].T  # (S, E)
        expected = (maps.encoder[1][head][..., None] * carried).norm(dim=-1)
        torch.testing.assert_close(norms.encoder[1][head], expected, atol=1e-4, rtol=1e-4)
    assert [len(layer) for layer in norms.cross] == [len(layer) for layer in maps.cross]


def test_bertviz_takes_them():
    shapes = attention_maps("a b", tiny_bert(), TOKENIZER, text_pair="c").to_bertviz()
    assert shapes["sentence_b_start"] == 4
    translated = attention_maps("a b", tiny_translator(), TOKENIZER).to_bertviz()
    bertviz = pytest.importorskip("bertviz", reason="bertviz is not installed; it needs boto3")
    for given in (shapes, translated):
        page = bertviz.head_view(**given, html_action="return").data
        assert all(token.strip("[]#") in page for token in given.get("tokens", []))
        assert bertviz.model_view(**given, html_action="return").data


def test_offsets_are_looked_up_where_the_tokenizer_knows_none():
    pieces = ("▁Un", "belie", "vably", "▁good", ".", "</s>")
    special = [False] * 5 + [True]
    found = by_search(("Unbelievably  good.",), {}, pieces, special)
    assert found.offsets == ((0, 2), (2, 7), (7, 12), (14, 18), (18, 19), None)
    assert found.words == (0, 0, 0, 1, 1, None)
    assert found.words_as_text() == ["Unbelievably", "good."]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"text": " "}, "text must hold some text"),
        ({"text": "a " * 60}, "text must have at most 40 tokens, got 62"),
        (
            {"text": "a", "written": "b"},
            "written must be None for BertLiteForSequenceClassification",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        attention_maps(model=tiny_bert(), tokenizer=TOKENIZER, **arguments)


def test_kinds_and_positions_are_checked():
    maps = attention_maps("a", tiny_bert(), TOKENIZER)
    with pytest.raises(ValueError, match="kind must be 'encoder' for a model without a decoder"):
        head_statistics(maps, kind="cross")
    with pytest.raises(ValueError, match="kind must be one of.*'self'"):
        attention_rollout(maps, kind="self")
    with pytest.raises(ValueError, match="positions must be from 0 to 2, got 3"):
        attention_flow(maps, positions=[3])
    assert len(attention_maps("a " * 60, tiny_bert(), TOKENIZER, max_length=7).source) == 7
