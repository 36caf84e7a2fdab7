"""Attributions: hand-worked cases, captum and transformers' classes as outside oracles."""

import math
from dataclasses import dataclass

import pytest
import torch
import transformers
from inference_cases import wordpiece
from inspection_cases import tiny_bert, tiny_tokenizer, tiny_translator
from pairs import bert_pair

import bertlite
from bertlite.inspection import METHODS, attribute
from bertlite.inspection.asking import bare
from bertlite.inspection.attribution import explain_subject
from bertlite.inspection.integrated_gradients import integrated_gradients
from bertlite.inspection.subjects import Subject
from bertlite.inspection.targets import Target
from bertlite.inspection.tokens import read_text

TOKENIZER = tiny_tokenizer()
WEIGHTS = torch.tensor([3.0, -2.0])


@dataclass(frozen=True)
class LinearSubject(Subject):
    """Each token has a vector of two numbers, and adds its product with `WEIGHTS` to the score."""

    def __call__(self, vectors):
        return (vectors @ WEIGHTS).sum(-1)

    def embed(self, ids):
        table = torch.arange(2.0 * len(TOKENIZER)).reshape(-1, 2) / 10
        return table[ids]


@pytest.fixture
def linear() -> Subject:
    model = tiny_bert()
    tokens = read_text(TOKENIZER, model, "abc film")
    return LinearSubject(model, TOKENIZER, tokens, Target("sum", "score", lambda outputs: outputs))


def products(subject: Subject) -> torch.Tensor:
    """Weights × input of each token."""
    return subject.embed(subject.ids()) @ WEIGHTS


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input"])
def test_a_linear_models_attribution_is_weights_times_input(linear, method):
    options = {"baseline": "zero", "steps": 3} if method == "integrated_gradients" else {}
    found = torch.tensor(explain_subject(linear, method, **options).scores)
    expected = products(linear)
    if method == "integrated_gradients":  # the added tokens stay in the baseline
        expected = expected * torch.tensor([0, 1, 1, 1, 1, 0.0])
    torch.testing.assert_close(found, expected)


def test_occlusion_of_a_linear_model_is_the_difference_to_the_mask(linear):
    """Of words, whose tokens go together; of tokens; of two words at a time."""
    mask = linear.embed(torch.tensor(TOKENIZER.mask_token_id)) @ WEIGHTS
    gone = products(linear) - mask
    word = float(gone[1:4].sum())  # a, ##b, ##c
    expected = torch.tensor([0, word / 3, word / 3, word / 3, gone[4], 0])
    found = torch.tensor(explain_subject(linear, "occlusion").scores)
    torch.testing.assert_close(found, expected)
    found = torch.tensor(explain_subject(linear, "occlusion", unit="token").scores)
    torch.testing.assert_close(found, gone * torch.tensor([0, 1, 1, 1, 1, 0.0]))
    both = explain_subject(linear, "occlusion", span=2)
    assert both.words()[0].score == pytest.approx(float(gone[1:5].sum()) / 2)


def test_surrogates_of_a_linear_model_find_its_words(linear):
    """KernelSHAP to the number, LIME with its shrinking near it; the caller's chance stays."""
    occluded = [word.score for word in explain_subject(linear, "occlusion").words()]
    state = torch.random.get_rng_state()
    shap = explain_subject(linear, "kernel_shap", samples=60)
    lime = explain_subject(linear, "lime", samples=60)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [word.score for word in shap.words()] == pytest.approx(occluded, abs=1e-2)
    assert [word.score for word in lime.words()] == pytest.approx(occluded, abs=0.2)
    assert explain_subject(linear, "lime", samples=60).scores == lime.scores


def test_the_integral_of_a_square_is_exact_at_one_point_and_of_a_wave_takes_more():
    """∫₀¹ 2ax · a dx = a² by the midpoint; for sin(20x) steps are doubled until it is near."""
    x, zero = torch.tensor([[3.0], [-1.0]]), torch.zeros(2, 1)
    square = integrated_gradients(lambda v: v.square().sum((1, 2)), x, zero, steps=1)
    assert square.scores.tolist() == [9, 1]
    assert (square.steps, square.delta) == (1, 0)
    wave = integrated_gradients(lambda v: (20 * v).sin().sum((1, 2)), x[:1], zero[:1], steps=1)
    assert wave.steps > 8
    assert wave.relative_delta <= 0.01
    assert float(wave.scores[0]) == pytest.approx(math.sin(60), rel=0.01)
    once = integrated_gradients(
        lambda v: (20 * v).sin().sum((1, 2)), x[:1], zero[:1], steps=1, tolerance=None
    )
    assert once.steps == 1
    assert once.relative_delta > 0.5


@pytest.mark.parametrize("backend", ["auto", "plain"])
def test_integrated_gradients_are_captums_on_transformers_class(backend, tmp_path):
    from captum.attr import LayerIntegratedGradients

    theirs, ours = bert_pair("ForSequenceClassification", tmp_path, "sdpa")
    bertlite.use_backend(ours, backend)
    tokens = read_text(TOKENIZER, ours, "abc film . bad")
    ids = torch.tensor([tokens.inputs["input_ids"]])
    silent = ids.where(torch.tensor(tokens.special), TOKENIZER.mask_token_id)

    def score(input_ids):
        logits = theirs(input_ids, attention_mask=torch.ones_like(input_ids)).logits
        others = torch.stack([logits[:, 0], logits[:, 2]]).logsumexp(0)
        return logits[:, 1] - others

    expected = LayerIntegratedGradients(score, theirs.bert.embeddings.word_embeddings).attribute(
        ids, silent, n_steps=20
    )
    found = attribute(
        "abc film . bad", ours, TOKENIZER, target=1, steps=20, tolerance=None, batch_tokens=24
    )
    torch.testing.assert_close(
        torch.tensor(found.scores), expected.sum(-1)[0], atol=1e-4, rtol=1e-4
    )
    assert all(parameter.requires_grad for parameter in ours.parameters())


def test_attention_times_gradient_by_transformers_class(tmp_path):
    theirs, ours = bert_pair("ForSequenceClassification", tmp_path, "eager")
    theirs.set_attn_implementation("eager")
    inputs = TOKENIZER("abc film", return_tensors="pt")
    outputs = theirs(**inputs, output_attentions=True)
    value = outputs.logits[0, 0] - outputs.logits[0, 1:].logsumexp(0)
    gradients = torch.autograd.grad(value, outputs.attentions)
    layers = zip(outputs.attentions, gradients, strict=True)
    expected = sum((weights * gradient).sum((0, 1, 2)) for weights, gradient in layers)
    found = attribute("abc film", ours, TOKENIZER, target=0, method="attention_x_gradient")
    torch.testing.assert_close(torch.tensor(found.scores), expected.detach(), atol=1e-4, rtol=1e-4)


def gradients_of_a_padded_batch(model):
    """By the vectors of three rows of unequal length, of each row's first logit."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 9, 32, generator=generator).requires_grad_()
    mask = torch.arange(9)[None] < torch.tensor([9, 4, 6])[:, None]
    logits = model(inputs_embeds=vectors, attention_mask=mask.long()).logits
    (gradients,) = torch.autograd.grad(logits[:, 0].sum(), vectors)
    return gradients, mask


def test_gradients_are_equal_with_padding_removed_and_not():
    plain, mask = gradients_of_a_padded_batch(bertlite.use_backend(tiny_bert(), "plain"))
    removed, _ = gradients_of_a_padded_batch(bertlite.use_backend(tiny_bert(), "cpu"))
    torch.testing.assert_close(removed, plain, atol=1e-5, rtol=1e-4)
    assert not plain[~mask].any()
    assert plain[mask].any(-1).all()


def log_odds(logits, index):
    chance = logits.double().softmax(-1)[index]
    return float((chance / (1 - chance)).log())


def outputs_of(model, *texts):
    with torch.no_grad():
        return model(**TOKENIZER(*texts, return_tensors="pt"))


def class_case():
    model = tiny_bert()
    logits = outputs_of(model, "abc film").logits[0]
    best = int(logits.argmax())
    return model, {}, f"LABEL_{best}", log_odds(logits, best)


def pair_case():
    model = tiny_bert()
    logits = outputs_of(model, "abc film", "bad .").logits[0]
    return model, {"text_pair": "bad .", "target": "LABEL_2"}, "LABEL_2", log_odds(logits, 2)


def multi_label_case():
    model = tiny_bert(problem_type="multi_label_classification")
    logits = outputs_of(model, "abc film").logits[0]
    return model, {"target": "LABEL_1"}, "LABEL_1", float(logits[1])


def score_case():
    model = tiny_bert(num_labels=1)
    return model, {}, "LABEL_0", float(outputs_of(model, "abc film").logits[0, 0])


def entity_case():
    model = tiny_bert("TokenClassification")
    value = log_odds(outputs_of(model, "abc film").logits[0, 4], 2)
    return model, {"word": "film", "target": 2}, "film: LABEL_2", value


def answer_case():
    model = tiny_bert("QuestionAnswering")
    value = log_odds(outputs_of(model, "abc film", "bad good .").end_logits[0], 7)
    options = {"text_pair": "bad good .", "target": "end", "word": "good"}
    return model, options, "answer ends at 'good'", value


def masked_case():
    model = tiny_bert("MaskedLM")
    text = "abc [MASK]"
    value = log_odds(outputs_of(model, text).logits[0, 4], TOKENIZER.vocab["good"])
    return model, {"text": text, "target": "good"}, "good", value


def similarity_case():
    model = tiny_bert("")
    first, second = bertlite.encode(["abc film", "bad ."], model, TOKENIZER)
    name = "similarity of the two texts"
    return model, {"text_pair": "bad ."}, name, float(first @ second)


def writing_case():
    model = tiny_translator()
    ids = TOKENIZER("abc film", return_tensors="pt")["input_ids"]
    read = torch.tensor([[0, *TOKENIZER("d e")["input_ids"]]])  # the start, [CLS], d, e, [SEP]
    with torch.no_grad():
        logits = model(input_ids=ids, decoder_input_ids=read[:, :3]).logits[0, -1]
    return model, {"written": "d e", "word": "e"}, "e", log_odds(logits, TOKENIZER.vocab["e"])


CASES = [class_case, pair_case, multi_label_case, score_case, entity_case, answer_case]
CASES += [masked_case, similarity_case, writing_case]


@pytest.mark.parametrize("case", CASES)
def test_every_prediction_is_explained_completely(case):
    """The value is the model's own, and scores sum to its difference to the baseline's."""
    model, options, name, value = case()
    found = attribute(**{"text": "abc film", "model": model, "tokenizer": TOKENIZER, **options})
    assert found.target == name
    assert found.value == pytest.approx(value, abs=1e-3)
    assert found.is_complete, (found.delta, found.steps)
    assert sum(found.scores) == pytest.approx(found.value - found.baseline_value, rel=0.011)
    assert f"{found.target}" in str(found)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"integrated_gradients", "lime"}))
def test_every_method_explains_every_prediction(case, method):
    model, options, name, value = case()
    samples = {"samples": 40} if method == "kernel_shap" else {}
    found = attribute(
        **{"text": "abc film", "model": model, "tokenizer": TOKENIZER, **options, **samples},
        method=method,
    )
    assert found.value == pytest.approx(value, abs=1e-3)
    assert any(found.scores)
    assert all(math.isfinite(score) for score in found.scores)


def test_sub_words_are_summed_and_characters_kept():
    found = attribute("abc  film", tiny_bert(), TOKENIZER)
    first, second = found.words()
    assert (first.word, first.start, first.end) == ("abc", 0, 3)
    assert (second.word, second.start, second.end, second.text) == ("film", 5, 9, 0)
    assert first.score == pytest.approx(sum(found.scores[1:4]))


def test_a_source_and_what_was_written_are_both_explained():
    """Nothing that comes later is: the token at step 2 has seen the start and one more."""
    found = attribute("abc film", tiny_translator(), TOKENIZER, written="d e", word=2)
    assert found.target == "e"
    assert found.tokens.tokens == (
        *TOKENIZER.convert_ids_to_tokens(TOKENIZER("abc film")["input_ids"]),
        "[PAD]",
        "[CLS]",
        "d",
    )
    assert [word.text for word in found.words()] == [0, 0, 1]
    assert found.words()[2].word == "d"


def test_a_span_of_the_models_own_is_found():
    model = tiny_bert("QuestionAnswering")
    outputs = outputs_of(model, "abc film", "bad good .")
    scores = outputs.start_logits[0][:, None] + outputs.end_logits[0][None]
    spans = [(start, end) for start in (6, 7, 8) for end in (6, 7, 8) if start <= end]
    best = max(spans, key=lambda span: scores[span])
    words = dict(zip((6, 7, 8), ("bad", "good", "."), strict=True))
    options = {"text_pair": "bad good .", "method": "gradient_x_input"}
    start = attribute("abc film", model, TOKENIZER, **options)
    assert start.target == f"answer starts at {words[best[0]]!r}"
    end = attribute("abc film", model, TOKENIZER, target="end", **options)
    assert end.target == f"answer ends at {words[best[1]]!r}"


def test_the_calibrated_probability_is_explained():
    model = tiny_bert(calibration_temperature=2.0)
    expected = bertlite.classify("abc film", model, TOKENIZER)
    value = attribute("abc film", model, TOKENIZER, method="gradient_x_input").value
    assert 1 / (1 + math.exp(-value)) == pytest.approx(expected["score"], abs=1e-4)


def test_transformers_own_class_is_explained(tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path).eval()
    for method in ("integrated_gradients", "attention_x_gradient"):
        expected = attribute("abc film", tiny_bert(), TOKENIZER, method=method).scores
        found = attribute("abc film", theirs, TOKENIZER, method=method).scores
        assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.processor
@pytest.mark.parametrize("method", ["integrated_gradients", "attention_x_gradient", "occlusion"])
def test_a_packed_model_is_explained_as_itself(method):
    expected = attribute("abc film", tiny_bert(), TOKENIZER, target=1, method=method)
    packed = bertlite.optimize(tiny_bert())
    choice = packed.bert.backend_choice
    found = attribute("abc film", packed, TOKENIZER, target=1, method=method)
    assert packed.bert.backend_choice is choice
    assert found.scores == pytest.approx(expected.scores, abs=1e-3)


def test_a_model_in_half_precision_is_explained():
    expected = attribute("abc film", tiny_bert(), TOKENIZER, target=1)
    options = {"target": 1, "tolerance": 0.1}
    found = attribute("abc film", tiny_bert().to(torch.bfloat16), TOKENIZER, **options)
    assert found.scores == pytest.approx(expected.scores, abs=0.1 * max(map(abs, expected.scores)))


def test_an_encoder_decoder_that_writes_nothing_is_refused():
    model = tiny_translator().model
    with pytest.raises(ValueError, match="model must be an encoder, or one that writes text, got"):
        attribute("abc", model, TOKENIZER)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "shapley"}, "method must be one of integrated_gradients, .*, got 'shapley'"),
        ({"span": 2}, "integrated_gradients takes the options baseline, steps, .*, got span"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"baseline": "none"}, "baseline must be one of .*, got 'none'"),
        ({"target": "happy"}, "target must be one of LABEL_0, LABEL_1, LABEL_2, got 'happy'"),
        ({"word": "film"}, "word must be None for labels of whole texts, got 'film'"),
        ({"model": "TokenClassification", "word": "x"}, "word must be one of abc, film, .*'x'"),
        ({"model": "QuestionAnswering"}, "text_pair must be given: the context"),
        ({"model": "MaskedLM"}, r"text must hold \[MASK\], got 'abc film'"),
        ({"model": ""}, "text_pair must be given: BertLiteModel is explained by the similarity"),
        ({"model": "MaskedLM", "text": "[MASK]", "target": 10**7}, "target must be an id below"),
        ({"model": "MaskedLM", "text": "[MASK]", "target": -1}, "target must be an id below"),
        ({"written": "a"}, "written must be None for BertLiteForSequenceClassification"),
    ],
)
def test_what_cannot_be_explained_is_refused(options, words):
    options = dict(options)
    model = tiny_bert(options.pop("model", "SequenceClassification"))
    with pytest.raises(ValueError, match=words):
        attribute(options.pop("text", "abc film"), model, TOKENIZER, **options)


def test_a_text_of_which_the_tokenizer_sees_nothing_is_refused():
    """Control characters, which it takes away: no word of them could be explained."""
    model, tokenizer = tiny_bert(), wordpiece()
    with pytest.raises(ValueError, match=r"text must hold .* the tokenizer sees none in '\\x07'"):
        read_text(tokenizer, model, "\x07")
    with pytest.raises(ValueError, match="text_pair must hold some text, the tokenizer sees none"):
        read_text(tokenizer, model, "the cat", "\u200b")


def test_a_token_that_was_written_is_named_without_its_mark():
    """Marks of WordPiece, SentencePiece and byte pairs, at the start of a piece."""
    assert [bare(piece) for piece in ("##ing", "▁the", "Ġthe", "a#b", "the")] == [
        "ing",
        "the",
        "the",
        "a#b",
        "the",
    ]
