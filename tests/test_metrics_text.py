"""SQuAD, BLEU, chrF and ROUGE against the libraries that they wrap and hand-worked numbers."""

import doctest
import math

import numpy as np
import pytest

from bertlite import metrics
from bertlite.metrics import languages, squad
from bertlite.metrics.languages import UnicodeTokenizer, bleu_tokenizer
from bertlite.metrics.squad import normalize_answer

SQUAD_PREDICTION = {"id": "a", "prediction_text": "x"}
SQUAD_REFERENCE = {"id": "a", "answers": {"text": ["x"], "answer_start": [0]}}


def compute(name, predictions, references, config_name=None, **options):
    return metrics.load(name, config_name).compute(
        predictions=predictions, references=references, **options
    )


# SQuAD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat", "cat"),
        ("a an the", ""),
        ("an apple a day, the theme", "apple day theme"),
        ("U.S.A.  \n 1,000", "usa 1000"),
        ("the-cat", "thecat"),  # punctuation goes first, and takes the article's border with it
        ("Café «x»", "café «x»"),  # ASCII punctuation only
        ("...", ""),
    ],
)
def test_normalisation_is_the_official_one(text, expected):
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("predicted", "answers", "exact", "f1"),
    [
        ("the Denver Broncos!", ["Denver Broncos"], 100, 100),
        ("Denver", ["Denver Broncos"], 0, 200 / 3),  # precision 1, recall 1/2
        ("Carolina Panthers", ["Denver Broncos"], 0, 0),
        (
            "big big cat",
            ["big cat cat"],
            0,
            200 / 3,
        ),  # repeated words count as often as both have them: 2 of 3
        ("in 2016", ["February 2016", "2016"], 0, 200 / 3),  # the best of several answers
        ("2016", ["February 2016", "2016"], 100, 100),
        ("", ["2016"], 0, 0),
        ("the", ["a"], 100, 0),  # v1.1: equal once normalised, but no word is shared
    ],
)
def test_squad_by_hand(predicted, answers, exact, f1):
    made = compute(
        "squad",
        [{"id": "1", "prediction_text": predicted}],
        [{"id": "1", "answers": {"text": answers}}],
    )
    assert made == {"exact_match": exact, "f1": pytest.approx(f1)}


def test_squad_pairs_by_id_and_averages():
    predictions = [
        {"id": "2", "prediction_text": "wrong"},
        {"id": "1", "prediction_text": "blue sky"},
    ]
    references = [
        {"id": "1", "answers": [{"text": "sky", "answer_start": 3}]},
        {"id": "2", "answers": {"text": ["x"]}},
    ]
    assert compute("squad", predictions, references) == {
        "exact_match": 0.0,
        "f1": pytest.approx(100 * (2 / 3) / 2),
    }


def no_answer_rows():
    texts = {
        "1": ("sky", 0.1),
        "2": ("", 0.9),
        "3": ("guess", 0.6),
        "4": ("cat", 0.7),
        "5": ("", 0.2),
    }
    predictions = [
        {"id": key, "prediction_text": text, "no_answer_probability": score}
        for key, (text, score) in texts.items()
    ]
    answers = {"1": ["sky", "the blue sky"], "2": [], "3": [], "4": ["the big cat"], "5": ["x"]}
    return predictions, [
        {"id": key, "answers": {"text": each, "answer_start": []}} for key, each in answers.items()
    ]


def test_squad_v2_by_hand():
    # Right without a threshold: 1 (an answer), 2 (no answer). F1: those and 2 · 1 · ½ / (1 + ½) of
    # question 4.
    made = compute("squad_v2", *no_answer_rows())
    assert made["exact"] == pytest.approx(100 * 2 / 5)
    assert made["f1"] == pytest.approx(100 * (2 + 2 / 3) / 5)
    assert made["total"] == 5
    assert made["HasAns_exact"] == pytest.approx(100 / 3)
    assert made["HasAns_f1"] == pytest.approx(100 * (1 + 2 / 3) / 3)
    assert made["NoAns_exact"] == made["NoAns_f1"] == 50
    assert (made["HasAns_total"], made["NoAns_total"]) == (3, 2)


def test_squad_v2_thresholds_by_hand():
    # Above 0.5, questions 2, 3 and 4 count as unanswered: 1, 2 and 3 are right.
    made = compute("squad_v2", *no_answer_rows(), no_answer_threshold=0.5)
    assert made["exact"] == made["f1"] == pytest.approx(60)
    # From nothing answered (2 right), passing 0.1 gains question 1, 0.2 nothing, 0.6 loses 3, 0.7
    # gains 2/3 in F1.
    assert (made["best_exact"], made["best_exact_thresh"]) == (pytest.approx(60), 0.1)
    assert (made["best_f1"], made["best_f1_thresh"]) == (pytest.approx(60), 0.1)
    applied = compute("squad_v2", *no_answer_rows(), no_answer_threshold=made["best_f1_thresh"])
    assert applied["f1"] == made["best_f1"]


def test_squad_v2_best_threshold_is_one_that_can_be_applied():
    # Both have probability 0.5: no threshold answers the first without the second.
    predictions = [
        {"id": key, "prediction_text": "x", "no_answer_probability": 0.5}
        for key in ("has answer", "has none")
    ]
    references = [
        {"id": "has answer", "answers": {"text": ["x"]}},
        {"id": "has none", "answers": {"text": []}},
    ]
    assert compute("squad_v2", predictions, references)["best_exact"] == 50


def test_squad_v2_no_answer_and_empty_words():
    # The official v2: both without words is 1, one without words 0.
    def scores(text, answers):
        made = compute(
            "squad_v2",
            [{"id": "1", "prediction_text": text}],
            [{"id": "1", "answers": {"text": answers}}],
        )
        return made["exact"], made["f1"]

    assert scores("", []) == (100, 100)
    assert scores("the", []) == (100, 100)
    assert scores("cat", []) == (0, 0)
    assert scores("", ["cat"]) == (0, 0)


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        ({"id": "b", "prediction_text": "x"}, SQUAD_REFERENCE, "none for 'a'"),
        ({"id": "a"}, SQUAD_REFERENCE, "prediction_text None in row 0"),
        ("x", SQUAD_REFERENCE, "predictions must be dicts"),
        (SQUAD_PREDICTION, {"id": "a"}, "references must be dicts"),
        (SQUAD_PREDICTION, {"id": 1, "answers": {"text": ["x"]}}, "string as id, got 1"),
        (
            SQUAD_PREDICTION,
            {"id": "a", "answers": {"text": []}},
            "an answer each, got none in row 0",
        ),
    ],
)
def test_squad_refuses_bad_rows(prediction, reference, message):
    with pytest.raises(ValueError, match=message):
        compute("squad", [prediction], [reference])
    with pytest.raises(ValueError, match="each id once, got 'a' twice"):
        compute("squad", [SQUAD_PREDICTION] * 2, [SQUAD_REFERENCE] * 2)


# Text

HYPOTHESES = [
    "The cat sat on the mat today.",
    "There is a dog in the garden",
    "Completely different",
]
REFERENCES = ["The cat sat on a mat today.", "A dog is in the garden", "Nothing in common here"]


def test_bleu_by_hand():
    # n-grams of "a b c d e" in "a b c d f": 4 of 5, 3 of 4, 2 of 3, 1 of 2; equal lengths, so no
    # brevity penalty.
    made = compute("sacre_bleu", ["a b c d e"], ["a b c d f"])
    assert (made["counts"], made["totals"], made["bp"]) == ([4, 3, 2, 1], [5, 4, 3, 2], 1.0)
    assert made["score"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))
    short = compute("sacre_bleu", ["a b c d"], ["a b c d e"])
    assert short["score"] == pytest.approx(100 * math.exp(1 - 5 / 4))


def test_chrf_by_hand():
    # One character of two is right: precision 1/2, recall 1/2 (order 1 only).
    assert compute("chrf", ["ab"], ["ac"], char_order=1)["score"] == pytest.approx(50)
    # Precision 1, recall 1/2, beta 2: 5 · 1 · ½ / (4 · 1 + ½).
    assert compute("chrf", ["a"], ["ab"], char_order=1)["score"] == pytest.approx(100 * 2.5 / 4.5)


@pytest.mark.parametrize(
    "options", [{}, {"lowercase": True, "tokenize": "char"}, {"smooth_method": "none"}]
)
def test_bleu_agrees_with_sacrebleu(options):
    import sacrebleu

    made = compute("sacre_bleu", HYPOTHESES, REFERENCES, **options)
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES], **options)
    assert made["score"] == pytest.approx(expected.score)
    assert (made["sys_len"], made["ref_len"]) == (expected.sys_len, expected.ref_len)
    assert sacrebleu.__version__ in made["signature"]


@pytest.mark.parametrize("options", [{}, {"word_order": 2}, {"lowercase": True, "beta": 1}])
def test_chrf_agrees_with_sacrebleu(options):
    from sacrebleu.metrics import CHRF

    expected = CHRF(**options).corpus_score(HYPOTHESES, [REFERENCES]).score
    assert compute("chrf", HYPOTHESES, REFERENCES, **options)["score"] == pytest.approx(expected)


def test_several_references_of_unequal_number():
    import sacrebleu

    references = [[REFERENCES[0], HYPOTHESES[0]], [REFERENCES[1]], [REFERENCES[2]]]
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES, [HYPOTHESES[0], None, None]]).score
    assert compute("sacre_bleu", HYPOTHESES, references)["score"] == pytest.approx(expected)
    assert expected > compute("sacre_bleu", HYPOTHESES, REFERENCES)["score"]
    assert compute("rouge", ["a b"], [["c d", "a b"]])["rouge1"] == 1.0


def test_rouge_by_hand():
    made = compute("rouge", ["the cat sat"], ["the black cat sat down"])
    assert made["rouge1"] == pytest.approx(2 * 3 / (3 + 5))
    assert made["rouge2"] == pytest.approx(2 * 1 / (2 + 4))  # "cat sat"
    assert made["rougeL"] == pytest.approx(2 * 3 / (3 + 5))  # the cat sat
    assert compute("rouge", ["sat cat"], ["cat sat"])["rougeL"] == pytest.approx(0.5)


def test_rouge_agrees_with_rouge_score():
    from rouge_score.rouge_scorer import RougeScorer

    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = RougeScorer(names, use_stemmer=True)
    rows = [
        scorer.score(reference, text)
        for reference, text in zip(REFERENCES, HYPOTHESES, strict=True)
    ]
    made = compute("rouge", HYPOTHESES, REFERENCES, use_stemmer=True)
    each = compute("rouge", HYPOTHESES, REFERENCES, use_stemmer=True, use_aggregator=False)
    for name in names:
        assert each[name] == pytest.approx([row[name].fmeasure for row in rows])
        assert made[name] == pytest.approx(np.mean([row[name].fmeasure for row in rows]))
    with pytest.raises(ValueError, match="rouge_types"):
        compute("rouge", ["a"], ["a"], rouge_types=["rouge"])


@pytest.mark.parametrize(
    ("hypothesis", "reference", "rouge1", "rouge_l"),
    [
        # Words between spaces: 2 of 3 and 2 of 3 are shared, in one order.
        ("кот видит дом", "кот ест дом", 2 / 3, 2 / 3),
        ("القطة على السجادة", "القطة تحت السجادة", 2 / 3, 2 / 3),
        ("η γάτα κάθεται", "Η γάτα τρέχει", 2 / 3, 2 / 3),
        # Vowel signs belong to their letters: "बिल्ली" is one word. 2 of 4, 2 of 3.
        ("बिल्ली चटाई पर है", "बिल्ली है यहाँ", 4 / 7, 4 / 7),
        # A letter each where no spaces stand between words: 3 shared of 4 and of 4; in order, 2.
        ("猫坐垫上", "猫上垫下", 3 / 4, 2 / 4),
        # แ ม ว นั่ ง against แ ม ว ยื น: 3 of 5.
        ("แมวนั่ง", "แมวยืน", 3 / 5, 3 / 5),
        # One composed, one of a letter and a combining mark: the same word.
        ("cafe\u0301 Bär", "Café BÄR", 1, 1),
    ],
)
def test_rouge_of_other_scripts_by_hand(hypothesis, reference, rouge1, rouge_l):
    made = compute("rouge", [hypothesis], [reference])
    assert (made["rouge1"], made["rougeL"]) == pytest.approx((rouge1, rouge_l))
    assert made["tokenizer"] == "unicode"


@pytest.mark.parametrize("stemmed", [False, True])
def test_ascii_text_has_the_tokens_of_rouge_score(stemmed):
    from nltk.stem.porter import PorterStemmer
    from rouge_score.tokenize import tokenize

    text = "The dogs' running_shoes: 3.5 m/s, e.g. WEREN'T bought -- (again)\n  or\tso."
    expected = tokenize(text, PorterStemmer() if stemmed else None)
    assert UnicodeTokenizer(use_stemmer=stemmed).tokenize(text) == expected


def test_the_tokenizer_of_rouge_can_be_chosen():
    text = ["привет мир"]
    published = compute("rouge", text, text, tokenizer="rouge_score")
    assert (published["rouge1"], published["tokenizer"]) == (0.0, "rouge_score")
    assert compute("rouge", text, text, tokenizer=str.split)["tokenizer"] == "split"
    with pytest.raises(ValueError, match="tokenizer must be one of .*got 'words'"):
        compute("rouge", text, text, tokenizer="words")


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("zh-CN", "", ["zh"]),
        ("cmn_Hans", "", ["zh"]),
        ("Japanese", "", ["ja-mecab", "flores200", "char"]),
        (None, "猫が好きです", ["ja-mecab", "flores200", "char"]),
        (None, "猫坐在垫子上", ["zh"]),
        (None, "用 Windows 打开文件", ["zh"]),
        ("target", "고양이가 매트 위에", ["ko-mecab", "flores200", "char"]),
        (None, "แมวนั่งบนเสื่อ", ["flores200", "char"]),
        ("de", "Die Katze sitzt.", ["13a"]),
        (None, "кот сидит", ["13a"]),
        (None, "The sign for cat is 猫, as every learner of the language knows.", ["13a"]),
        (None, "", ["13a"]),
    ],
)
def test_the_language_chooses_the_tokenizer_of_bleu(language, text, expected):
    """The first of sacrebleu's that is installed, which no test may ask to be."""
    assert bleu_tokenizer(language, [text]) in expected


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [
        ("猫坐在红色垫子上", "猫坐在蓝色垫子上"),
        ("แมวนั่งบนเสื่อ", "แมวนอนบนเสื่อ"),
        ("猫が好きです", "犬が好きです"),
    ],
)
def test_bleu_sees_text_without_spaces(hypothesis, reference):
    import sacrebleu

    made = compute("sacre_bleu", [hypothesis], [reference])
    expected = sacrebleu.corpus_bleu([hypothesis], [[reference]], tokenize=made["tokenize"])
    assert made["score"] == pytest.approx(expected.score)
    assert made["score"] > 20
    assert f"tok:{made['tokenize']}" in made["signature"]
    blind = compute("sacre_bleu", [hypothesis], [reference], tokenize="13a", smooth_method="none")
    assert blind["score"] == 0
    with pytest.raises(ValueError, match="tokenize must be one of .*got 'moses'"):
        compute("sacre_bleu", ["a"], ["a"], tokenize="moses")


def test_chinese_bleu_by_hand():
    """Of "猫坐垫上" in "猫坐床上": 3 of 4 letters, 1 of 3 pairs, no longer run: add 1 to each."""
    made = compute("sacre_bleu", ["猫坐垫上"], ["猫坐床上"], smooth_method="add-k", smooth_value=1)
    assert (made["counts"], made["totals"]) == ([3, 1 + 1, 1, 1], [4, 3 + 1, 2 + 1, 1 + 1])
    expected = 100 * (3 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** (1 / 4)
    assert made["score"] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["sacre_bleu", "chrf", "rouge"])
def test_text_metrics_refuse_what_is_no_text(name):
    with pytest.raises(ValueError, match="predictions must be strings, got int in row 1"):
        compute(name, ["a", 1], ["a", "b"])
    with pytest.raises(ValueError, match="predictions must be strings, got list in row 0"):
        compute(name, [["a"]], ["a"])
    with pytest.raises(ValueError, match="references must be lists of at least one string"):
        compute(name, ["a"], [[]])


# Examples


@pytest.mark.parametrize("module", [languages, metrics, squad])
def test_examples(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
