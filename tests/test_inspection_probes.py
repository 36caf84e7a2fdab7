"""Probes, the logit lens and nearest examples, held to scikit-learn, transformers and cases worked
by hand.
"""

import numpy as np
import pytest
import torch
import transformers
from cases import bert_config, randomize, transformer_config
from pairs import bert_pair
from test_travelling import WORDS, make_tokenizer

import bertlite
from bertlite.inspection import Neighbourhood, logit_lens, probe
from bertlite.inspection.probes import control_labels, held_out, states_of

SIZES = {"vocab_size": len(WORDS)}
SENTENCES = [
    ["the", "film", "was", "good", "."],
    ["a", "dull", "film", "."],
    ["the", "good", "films", "was", "dull"],
    ["a", "good", "film"],
] * 6
TAGS = {"the": "D", "a": "D", "film": "N", "films": "N", "was": "V", ".": "P"}
LABELS = [[TAGS.get(word, "A") for word in words] for words in SENTENCES]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp("words"))


def encoder(**overrides):
    return randomize(bertlite.BertLiteModel(bert_config(**SIZES, **overrides)))


def test_a_probe_reads_what_the_word_itself_says(tokenizer):
    """The tag of a word follows from its type here, so that the embeddings hold it whole; so does
    the control's, which is the point: little is selective.
    """
    found = probe(encoder(), SENTENCES, LABELS, tokenizer=tokenizer)
    assert len(found.accuracy) == len(found.control) == 3
    assert found.accuracy[0] == 1.0
    assert found.control[0] > 0.8
    assert found.selectivity[0] == 1 - found.control[0]
    assert found.labels == 5
    assert found.train_size + found.test_size == sum(map(len, SENTENCES))
    assert found.majority < 0.5
    assert "layer  accuracy" in str(found)
    assert found.plot().axes[0].get_lines()


def test_a_probe_cannot_read_what_is_not_there(tokenizer):
    """Labels by chance, the same types with other ones each time."""
    generator = np.random.default_rng(0)
    noise = [[str(generator.integers(2)) for _ in words] for words in SENTENCES]
    found = probe(encoder(), SENTENCES, noise, tokenizer=tokenizer, control=False)
    assert max(found.accuracy) < 0.8
    assert not found.control
    assert not found.selectivity


def test_states_are_those_of_their_class(tokenizer, tmp_path):
    """Of a word the mean of its pieces: `films` is two."""
    theirs, ours = bert_pair("Model", tmp_path, "sdpa", **SIZES)
    words = SENTENCES[2]
    batch = tokenizer([words], is_split_into_words=True, return_tensors="pt")
    assert batch.word_ids(0) == [None, 0, 1, 2, 2, 3, 4, None]
    with torch.no_grad():
        states = torch.stack(theirs(**batch, output_hidden_states=True).hidden_states)[:, 0]
        found = {
            number: each for _, number, each in states_of([words], ours, tokenizer, "word", 40)
        }
        expected = states[:, [3, 4]].mean(1)
        np.testing.assert_allclose(found[2], expected.numpy(), atol=1e-5)
        np.testing.assert_allclose(found[4], states[:, 6].numpy(), atol=1e-5)
        texts = ["the film was good .", "dull"]
        pooled = tokenizer(texts, padding=True, return_tensors="pt")
        states = torch.stack(theirs(**pooled, output_hidden_states=True).hidden_states)
        for reads, row in (("mean", states[:, 1, :3].mean(1)), ("first", states[:, 1, 0])):
            made = [each for _, _, each in states_of(texts, ours, tokenizer, reads, 40)]
            np.testing.assert_allclose(made[1], row.numpy(), atol=1e-5)


def test_the_control_task_has_one_label_a_type_drawn_as_often_as_the_real_ones():
    targets = np.asarray(["N"] * 900 + ["V"] * 100)
    types = [f"word {number}" for number in range(1000)]
    drawn = control_labels(types * 2, targets, seed=0)
    assert drawn[:1000].tolist() == drawn[1000:].tolist()
    assert 0.86 < (drawn[:1000] == "N").mean() < 0.94
    assert drawn.tolist() != control_labels(types * 2, targets, seed=1).tolist()


def test_a_text_is_on_one_side():
    rows = np.repeat(np.arange(10), 3)
    tests = held_out(rows, 10, 0.3, seed=0)
    assert tests.sum() == 9
    assert all(len(set(tests[rows == row])) == 1 for row in range(10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reads": "last"}, "reads must be one of"),
        ({"labels": LABELS[1:]}, "as many, at least 2, got 24 and 23"),
        ({"labels": [["N"]] * 24}, "as many labels"),
        ({"reads": "mean"}, "texts must be strings, got list at 0"),
        ({"labels": [["N"] * len(words) for words in SENTENCES]}, "two different ones"),
        ({"test_share": 1.5}, "test_share"),
    ],
)
def test_what_cannot_be_probed_is_refused(changes, message, tokenizer):
    given = {"texts": SENTENCES, "labels": LABELS, **changes}
    with pytest.raises(ValueError, match=message):
        probe(encoder(), tokenizer=tokenizer, **given)


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_lens_is_their_head_on_each_layer(norm_first, tokenizer, tmp_path):
    """The last row is the model itself; pre-norm states pass the norm that only the last does."""
    if norm_first:
        config = bert_config(**SIZES, norm_first=True)
        ours = theirs = randomize(bertlite.BertLiteForMaskedLM(config))
    else:
        theirs, ours = bert_pair("ForMaskedLM", tmp_path, "sdpa", **SIZES)
    text = "the film was [MASK] ."
    batch = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        outputs = theirs(**batch, output_hidden_states=True)
        first = outputs.hidden_states[1][:, 4]
        first = ours.bert.finish(first) if norm_first else first
        expected = [theirs.cls(first)[0].softmax(-1), outputs.logits[0, 4].softmax(-1)]
    found = logit_lens(ours, text, tokenizer=tokenizer, top_k=2)
    assert found.tokens == ["[MASK]"]
    assert len(found.best) == 3
    for layer, shares in ((1, expected[0]), (2, expected[1])):
        values, places = shares.topk(2)
        words = tokenizer.convert_ids_to_tokens(places.tolist())
        assert [word for word, _ in found.best[layer][0]] == words
        shown = [share for _, share in found.best[layer][0]]
        np.testing.assert_allclose(shown, values.numpy(), atol=1e-5)
    assert found.final[0] == found.best[2][0][0][0]
    assert found.ranks[2] == [1]
    own = tokenizer.convert_tokens_to_ids(found.final[0])
    order = expected[0].argsort(descending=True).tolist()
    assert found.ranks[1] == [order.index(own) + 1]
    assert f"[MASK]: {found.final[0]}, from layer {found.decided()[0]} on" in str(found)


def test_the_lens_on_a_decoder(tokenizer):
    model = transformer_config(vocab_size=len(WORDS), eos_token_id=3, pad_token_id=0)
    model = randomize(bertlite.TransformerLiteForConditionalGeneration(model))
    found = logit_lens(model, "a dull film", "the good film", tokenizer=tokenizer, top_k=1)
    batch = tokenizer("a dull film", return_tensors="pt")
    labels = tokenizer("the good film", return_tensors="pt")["input_ids"]
    names = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        outputs = model(**names, labels=labels, output_hidden_states=True)
        middle = model.lm_head(outputs.decoder_hidden_states[1]) + model.final_logits_bias
    assert found.tokens == tokenizer.convert_ids_to_tokens(labels[0].tolist())
    for layer, logits in ((1, middle), (2, outputs.logits)):
        expected = tokenizer.convert_ids_to_tokens(logits[0].argmax(-1).tolist())
        assert [place[0][0] for place in found.best[layer]] == expected
    assert found.final == [place[0][0] for place in found.best[2]]
    written = logit_lens(model, "a dull film", tokenizer=tokenizer, max_new_tokens=4)
    assert written.tokens == written.final  # greedy or the best beam: what it says, it wrote


def test_what_has_no_lens_is_refused(tokenizer):
    model = randomize(bertlite.BertLiteForMaskedLM(bert_config(**SIZES)))
    with pytest.raises(ValueError, match=r"text must hold \[MASK\] where to look"):
        logit_lens(model, "a dull film", tokenizer=tokenizer)
    limit = model.config.max_position_embeddings
    with pytest.raises(ValueError, match=f"text must have at most {limit} tokens, got"):
        logit_lens(model, "a [MASK] film" + " dull" * limit, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="target must be left out"):
        logit_lens(model, "a [MASK] film", "a", tokenizer=tokenizer)
    classifier = bertlite.BertLiteForSequenceClassification(bert_config(**SIZES))
    with pytest.raises(ValueError, match="masked language model or an encoder-decoder"):
        logit_lens(classifier, "a [MASK] film", tokenizer=tokenizer)


def test_the_nearest_examples_are_those_of_scikit_learn(tokenizer, tmp_path):
    """Of vectors that transformers' class makes, by cosine; an example itself is the first."""
    from sklearn.neighbors import NearestNeighbors

    theirs, ours = bert_pair("Model", tmp_path, "sdpa", **SIZES)
    texts = ["a good film .", "a dull film", "the film was good", "dull dull .", "good"]

    def vectors(given):
        batch = tokenizer(given, padding=True, return_tensors="pt")
        with torch.no_grad():
            states = theirs(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        return ((states * mask).sum(1) / mask.sum(1)).numpy()

    labels = [1, 0, 1, 0, 1]
    seen = Neighbourhood(ours, texts, labels, tokenizer=tokenizer, pooling="mean")
    oracle = NearestNeighbors(metric="cosine").fit(vectors(texts))
    for query in ("the good film", "was dull"):
        distances, places = oracle.kneighbors(vectors([query]), 3)
        found = seen.nearest(query, 3)
        assert [each.place for each in found] == places[0].tolist()
        assert [each.label for each in found] == [labels[place] for place in places[0]]
        np.testing.assert_allclose([e.similarity for e in found], 1 - distances[0], atol=1e-5)
    itself = seen.nearest(texts[3], 1)[0]
    assert itself.text == texts[3]
    assert itself.similarity == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="labels must be as many as texts, 5, got 1"):
        Neighbourhood(ours, texts, [1], tokenizer=tokenizer)
    with pytest.raises(ValueError, match="at least one example"):
        Neighbourhood(ours, [], tokenizer=tokenizer)
    with pytest.raises(ValueError, match="count"):
        seen.nearest("good", 0)


def test_probes_run_on_a_model_with_a_head(tokenizer):
    """Whatever it was trained for; transformers' own class too."""
    ours = randomize(bertlite.BertLiteForTokenClassification(bert_config(**SIZES)))
    config = transformers.BertConfig(**bert_config(**SIZES).to_diff_dict())
    theirs = transformers.BertForTokenClassification(config)
    theirs.load_state_dict(ours.state_dict())
    texts, labels = ["good film", "dull film", "a good film", "the dull film"] * 4, [1, 0, 1, 0] * 4
    both = [
        probe(each, texts, labels, tokenizer=tokenizer, reads="mean") for each in (ours, theirs)
    ]
    assert both[0] == both[1]
    assert both[0].accuracy[0] == 1.0
