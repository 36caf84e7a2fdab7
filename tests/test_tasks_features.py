"""Rows to features, and answers to figures, against numbers worked by hand."""

import numpy as np
import pytest
import torch
from inference_cases import WORDS, bert, byte_pairs, tiny_writer, wordpiece
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as entity_f1
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from tasks_cases import LABELS

from bertlite.inference import tag
from bertlite.inference.choices import cut_choices
from bertlite.tasks import TASKS, TaskOptions
from bertlite.tasks.multiple_choice import GroupedChoices
from bertlite.tasks.sequence_classification import (
    multi_label_figures,
    regression_figures,
    single_label_figures,
    texts_of,
)
from bertlite.tasks.writing import as_labels


@pytest.fixture(scope="module")
def tokenizer():
    return wordpiece()


def encode(name, rows, model, tokenizer, **options):
    return TASKS[name].encode(rows, tokenizer, model, TaskOptions(**options))


def test_a_words_label_stands_at_its_first_piece(tokenizer):
    model = bert("TokenClassification", tokenizer, labels=LABELS)
    (row,) = encode(
        "token-classification",
        [{"tokens": ["anna", "zoo", "cat"], "tags": [1, 3, 0]}],
        model,
        tokenizer,
    )
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == [
        "[CLS]",
        "anna",
        "z",
        "##o",
        "##o",
        "cat",
        "[SEP]",
    ]
    assert row["labels"] == [-100, 1, 3, -100, -100, 0, -100]


def test_no_label_of_a_long_sentence_is_lost_or_doubled(tokenizer):
    """Windows of 6 words (8 with [CLS] and [SEP]) that share 2: words 0-5, 4-9, 8-11 of 12."""
    model = bert("TokenClassification", tokenizer, labels=[str(number) for number in range(12)])
    rows = [{"tokens": WORDS[:12], "tags": list(range(12))}]
    found = encode("token-classification", rows, model, tokenizer, max_length=8, doc_stride=2)
    # Word 4 is next to the end of the first window and first of the second; word 5 is the other way
    # round.
    assert [[label for label in row["labels"] if label != -100] for row in found] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10, 11],
    ]


def test_answers_point_to_their_tokens_and_outside_a_window_to_cls(tokenizer):
    """The question and three special tokens take 5 of 9 places.

    Windows of 4 context words that share 2.
    """
    model = bert("QuestionAnswering", tokenizer)
    context = "the cat sat on a mat"
    answers = {"text": ["a mat"], "answer_start": [context.index("a mat")]}
    rows = [{"question": "who went", "context": context, "answers": answers}]
    found = encode("question-answering", rows, model, tokenizer, max_length=9, doc_stride=2)
    assert [(row["start_positions"], row["end_positions"]) for row in found] == [(0, 0), (6, 7)]
    assert tokenizer.decode(found[1]["input_ids"][6:8]) == "a mat"
    rows[0]["answers"] = {"text": [], "answer_start": []}
    found = encode("question-answering", rows, model, tokenizer, max_length=9, doc_stride=2)
    assert [(row["start_positions"], row["end_positions"]) for row in found] == [(0, 0), (0, 0)]


def test_an_answer_within_a_word_takes_all_pieces_that_it_touches(tokenizer):
    model = bert("QuestionAnswering", tokenizer)
    rows = [
        {"question": "who", "context": "the zoo", "answers": {"text": ["oo"], "answer_start": [5]}}
    ]
    (row,) = encode("question-answering", rows, model, tokenizer)
    # [CLS] who [SEP] the z ##o ##o [SEP]
    assert (row["start_positions"], row["end_positions"]) == (5, 6)


class Planned(torch.nn.Module):
    """Start and end logits that favour one word, and [CLS] by `null`."""

    def __init__(self, tokenizer, word, null):
        super().__init__()
        self.config = type("Config", (), {"max_position_embeddings": 64})()
        self.word, self.null, self.cls = (
            tokenizer.convert_tokens_to_ids(word),
            null,
            tokenizer.cls_token_id,
        )

    def forward(self, input_ids, **kwargs):
        logits = 2.0 * (input_ids == self.word) + self.null * (input_ids == self.cls)
        return {"start_logits": logits, "end_logits": logits}


class PlannedForQuestionAnswering(Planned):
    pass


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(-2.5, ["", ""]), (-1.5, ["", "paris"]), (2.5, ["the cat", "paris"])],
)
def test_no_answer_wins_by_its_threshold(tokenizer, threshold, expected):
    """[CLS] has 1 + 1.

    Paris 2 + 2, so that "no answer" is 2 behind; other words 0 + 0, so that it is 2 ahead.
    """
    model = PlannedForQuestionAnswering(tokenizer, "paris", 1.0)
    rows = [
        {
            "id": "1",
            "question": "who",
            "context": "the cat",
            "answers": {"text": [], "answer_start": []},
        },
        {
            "id": "2",
            "question": "who",
            "context": "to paris",
            "answers": {"text": ["paris"], "answer_start": [3]},
        },
    ]
    found = TASKS["question-answering"].predict(
        rows, model, tokenizer, TaskOptions(null_score_diff_threshold=threshold)
    )
    assert found[1]["answer"] == expected[1]
    assert (found[0]["answer"] == "") == (expected[0] == "")
    right = (expected[0] == "") + (expected[1] == "paris")
    assert TASKS["question-answering"].score(rows, found, model)["exact"] == 50 * right


def test_windows_of_a_long_text_share_its_label(tokenizer):
    model = bert("SequenceClassification", tokenizer, labels=["bad", "good"])
    model.config.problem_type = "single_label_classification"
    rows = [{"text": " ".join(WORDS[:9]), "label": 1}, {"text": "the cat", "label": 0}]
    cut = encode("sequence-classification", rows, model, tokenizer, max_length=7)
    assert [(len(row["input_ids"]), row["labels"]) for row in cut] == [(7, 1), (4, 0)]
    options = {"max_length": 7, "doc_stride": 1, "long_texts": "windows"}
    found = encode("sequence-classification", rows, model, tokenizer, **options)
    assert [(len(row["input_ids"]), row["labels"]) for row in found] == [(7, 1), (7, 1), (4, 0)]


def test_targets_end_with_the_end_token_and_have_no_start_token(tokenizer):
    writer, bpe = tiny_writer(byte_pairs()), byte_pairs()
    (row,) = encode("translation", [{"source": "the cat", "target": "the mat"}], writer, bpe)
    assert row["labels"] == bpe("the mat")["input_ids"]
    assert row["labels"][-1] == bpe.eos_token_id
    (row,) = encode(
        "translation",
        [{"source": "the cat", "target": "the mat sat"}],
        writer,
        bpe,
        max_target_length=3,
    )
    assert row["labels"] == [*bpe("the mat sat")["input_ids"][:2], bpe.eos_token_id]
    writer.config.eos_token_id = tokenizer.sep_token_id
    expected = tokenizer("the mat", add_special_tokens=False)["input_ids"]
    found = as_labels(tokenizer("the mat")["input_ids"], tokenizer, writer.config, 10)
    assert found == [*expected, tokenizer.sep_token_id]


def test_labels_are_padded_with_ignored_ones():
    writer, bpe = tiny_writer(byte_pairs()), byte_pairs()
    rows = [{"source": "cat", "target": "cat"}, {"source": "cat", "target": "the mat in london"}]
    batch = TASKS["translation"].collator(bpe, writer)(encode("translation", rows, writer, bpe))
    short = len(bpe("cat")["input_ids"])
    assert (batch["labels"][0, short:] == -100).all()
    assert (batch["labels"][0, :short] != -100).all()


def test_choices_of_different_numbers_are_predicted_but_not_batched(tokenizer):
    model = bert("MultipleChoice", tokenizer)
    rows = [
        {"question": "who", "choices": ["anna", "bob"]},
        {"question": "who", "choices": ["a", "cat", "mat"]},
    ]
    found = TASKS["multiple-choice"].predict(
        rows, model, tokenizer, TaskOptions(prediction_batch_size=1)
    )
    for row, each in zip(rows, found, strict=True):
        inputs = tokenizer(
            ["who"] * len(row["choices"]), row["choices"], padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            logits = model(**{name: value[None] for name, value in inputs.items()}).logits[0]
        assert each["scores"] == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)
        assert each["label"] == int(logits.argmax())
    features = encode("multiple-choice", [{**row, "label": 0} for row in rows], model, tokenizer)
    with pytest.raises(ValueError, match=r"one number in every training row, got \[2, 3\]"):
        GroupedChoices(None)(features)


def test_figures_are_the_reference_libraries():
    chosen, labels = [0, 1, 1, 0, 1], [0, 1, 0, 0, 0]
    found = single_label_figures(chosen, labels)
    assert found["accuracy"] == accuracy_score(labels, chosen) == 0.6
    assert found["f1"] == pytest.approx(f1_score(labels, chosen))
    assert found["matthews_correlation"] == pytest.approx(matthews_corrcoef(labels, chosen))
    assert "f1" not in single_label_figures([0, 2], [0, 1])
    marks, truth = np.array([[1, 0, 1], [0, 1, 0]]), np.array([[1, 0, 0], [0, 1, 0]])
    found = multi_label_figures(marks, truth)
    assert found["f1_micro"] == pytest.approx(f1_score(truth, marks, average="micro"))
    assert found["accuracy"] == 0.5
    scores, numbers = np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [3.5]])
    found = regression_figures(scores, numbers)
    assert found["mse"] == pytest.approx((0 + 1 + 0.25) / 3)
    assert found["pearsonr"] == pytest.approx(pearsonr(scores[:, 0], numbers[:, 0]).statistic)
    assert found["spearmanr"] == pytest.approx(spearmanr(scores[:, 0], numbers[:, 0]).statistic)
    assert regression_figures(np.ones((3, 1)), numbers)["pearsonr"] == 0


def test_entities_are_scored_as_seqeval_does(tokenizer):
    model = bert("TokenClassification", tokenizer, labels=LABELS)
    rows = [
        {"tokens": WORDS[:12], "tags": [1, 2, 0, 3, 4, 0] * 2},
        {"tokens": ["cat"], "tags": [0]},
    ]
    figures = TASKS["token-classification"].measure(rows, model, tokenizer, TaskOptions())
    options = {"is_split_into_words": True, "aggregate": False}
    words = [
        [word["entity"] for word in tag(row["tokens"], model, tokenizer, **options)] for row in rows
    ]
    truth = [[LABELS[number] for number in row["tags"]] for row in rows]
    assert figures["overall_f1"] == pytest.approx(entity_f1(truth, words, zero_division=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "max_length must be a whole number of at least 1, got 0"),
        ({"threshold": 2}, "threshold must be a number from 0 to 1, got 2"),
        ({"long_texts": "keep"}, "long_texts must be one of"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TaskOptions(**options)


def test_rows_are_all_pairs_or_none():
    """A second text of a later row is not passed over."""
    pair, single = {"text": "a", "text_pair": "b"}, {"text": "c"}
    assert texts_of([pair, pair]) == (["a", "a"], ["b", "b"])
    assert texts_of([single, {**single, "text_pair": None}]) == (["c", "c"], None)
    for rows in ([single, pair], [pair, single]):
        with pytest.raises(ValueError, match="all have a text_pair, or none.*without: 'c'"):
            texts_of(rows)
    with pytest.raises(ValueError, match="rows must be dicts.*got 'a' in row 3"):
        TASKS["sequence-classification"].check_row("a", 3)


def test_the_longer_of_a_question_and_its_choices_is_cut(tokenizer):
    """Ids by hand; the whole question and the rest of the choice are in each row."""
    row = {"question": "who went", "choices": ["the cat sat on a mat", "tea"], "label": 0}
    (found,) = cut_choices([row], tokenizer, 8, 1)
    words = [
        [tokenizer.decode(each.inputs["input_ids"]) for each in text.windows] for text in found
    ]
    start = "[CLS] who went [SEP]"
    assert words == [
        [f"{start} the cat sat [SEP]", f"{start} sat on a [SEP]", f"{start} a mat [SEP]"],
        [f"{start} tea [SEP]"],
    ]
    (feature,) = encode("multiple-choice", [row], bert("MultipleChoice", tokenizer), tokenizer)
    assert [tokenizer.decode(ids) for ids in feature["input_ids"]] == [
        f"{start} the cat sat on a mat [SEP]",
        f"{start} tea [SEP]",
    ]
    model = bert("MultipleChoice", tokenizer, positions=8)
    (feature,) = encode("multiple-choice", [row], model, tokenizer)
    assert [tokenizer.decode(ids) for ids in feature["input_ids"]] == [text[0] for text in words]
    with pytest.raises(
        ValueError, match="row 0 must leave room for each other in rows of 8 tokens"
    ):
        cut_choices([{**row, "question": "the cat sat on a mat"}], tokenizer, 8, 1)


def test_training_keeps_the_question_of_a_long_context(tokenizer):
    row = {"context": "anna drank tea with bob", "question": "who", "choices": ["a", "bob"]}
    model = bert("MultipleChoice", tokenizer, positions=8)
    (feature,) = encode("multiple-choice", [{**row, "label": 1}], model, tokenizer)
    assert [tokenizer.decode(ids) for ids in feature["input_ids"]] == [
        "[CLS] anna drank tea who [SEP] a [SEP]",
        "[CLS] anna drank tea who [SEP] bob [SEP]",
    ]
    assert feature["token_type_ids"] == [[0] * 6 + [1] * 2] * 2
