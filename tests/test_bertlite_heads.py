"""BERT's heads: every contract for every head, then what only one head has."""

import math

import contracts
import pytest
import torch
from cases import IGNORED, Case, bert_config, singles
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import bertlite
from bertlite import BertLiteForMaskedLM, BertLiteModel

TOKEN = {"logits": "source"}
ROW = {"logits": "row"}
WORDS = {"labels": "word"}
SEQUENCE = bertlite.BertLiteForSequenceClassification
CASES = [
    Case(bertlite.BertLiteModel, {"last_hidden_state": "source", "pooler_output": "row"}),
    Case(
        bertlite.BertLiteForPreTraining,
        {"prediction_logits": "source", "seq_relationship_logits": "row"},
        {**WORDS, "next_sentence_label": "class"},
    ),
    Case(bertlite.BertLiteForMaskedLM, TOKEN, WORDS),
    Case(bertlite.BertLiteForNextSentencePrediction, ROW, {"labels": "class"}),
    Case(SEQUENCE, ROW, {"labels": "class"}, name="single-label"),
    Case(SEQUENCE, ROW, {"labels": "score"}, {"num_labels": 1}, name="regression"),
    Case(SEQUENCE, ROW, {"labels": "marks"}, name="multi-label"),
    Case(bertlite.BertLiteForTokenClassification, TOKEN, {"labels": "token"}),
    Case(
        bertlite.BertLiteForQuestionAnswering,
        {"start_logits": "source", "end_logits": "source"},
        {"start_positions": "span", "end_positions": "span"},
        {"num_labels": 2},
    ),
    Case(bertlite.BertLiteForMultipleChoice, ROW, {"labels": "class"}, choices=2),
    Case(
        bertlite.BertLiteForMaskedLM,
        TOKEN,
        WORDS,
        {"norm_first": True, "hidden_act": "relu"},
        name="pre-norm",
    ),
    Case(
        bertlite.BertLiteForMaskedLM,
        TOKEN,
        WORDS,
        {"position_embedding_type": "sinusoidal"},
        name="sinusoidal",
    ),
]


@pytest.mark.parametrize(("case", "check"), contracts.matrix(CASES))
def test_contract(case, check):
    check(case)


class ShapesSeen(TorchDispatchMode):
    """Note the shape of every tensor that any operation makes, forward and backward."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.shapes.add(tuple(tensor.shape))
        return made


def words_batch(rows: int = 8, length: int = 16, words: int = 499):
    ids = torch.randint(3, words, (rows, length))
    labels = torch.where(torch.rand(ids.shape) < 0.5, ids, IGNORED)
    return {"input_ids": ids, "labels": labels}


def test_full_logits_are_never_made_in_masked_lm_training():
    """No tensor holds the vocabulary for more rows than a chunk, but for the embedding (E rows) and
    its gradient.
    """
    model = BertLiteForMaskedLM(bert_config(vocab_size=499, loss_chunk_size=5)).train()
    batch = words_batch()
    assert (batch["labels"] != IGNORED).sum() > 40
    with ShapesSeen() as seen:
        outputs = model(**batch)
        outputs.loss.backward()
    assert outputs.logits is None
    wide = {shape for shape in seen.shapes if 499 in shape}
    assert (5, 499) in wide
    for shape in wide:
        rest = math.prod(shape) // 499
        assert rest <= 5 or rest == 32, f"{shape} holds the vocabulary for {rest} rows"


@pytest.mark.parametrize("change", ["evaluation", "no chunks", "no labels"])
def test_full_logits_come_back(change):
    model = BertLiteForMaskedLM(
        bert_config(vocab_size=499, loss_chunk_size=0 if change == "no chunks" else 5)
    ).train()
    batch = words_batch()
    if change == "evaluation":
        model.eval()
    if change == "no labels":
        del batch["labels"]
    assert model(**batch).logits.shape == (8, 16, 499)


@pytest.mark.parametrize("case", [CASES[1], CASES[2]], ids=str)
def test_chunked_loss_and_gradients_equal_the_plain_ones(case):
    batch = case.batch()
    labels = case.make_labels(batch)
    plain = case.model(loss_chunk_size=0)
    expected, loss = case.gradients(plain, batch, labels), case.loss(plain, batch, labels)
    for chunk in (1, 3, 1000):
        model = case.model(loss_chunk_size=chunk)
        contracts.assert_equal(case.gradients(model, batch, labels), expected)
        torch.testing.assert_close(case.loss(model, batch, labels), loss)
        torch.testing.assert_close(case.loss(model.eval(), batch, labels), loss)


NEEDED = {  # of the rows of 9, 5, 7 and 2 tokens
    "BertLiteForSequenceClassification": 4,
    "BertLiteForNextSentencePrediction": 4,
    "BertLiteForMultipleChoice": 4,
    "BertLiteForTokenClassification": 23,
    "BertLiteForQuestionAnswering": 23,
}


def rows_of_last_feed_forward(model, **batch) -> int:
    seen = []
    hook = model.bert.layers[-1].feed_forward.register_forward_hook(
        lambda _, given, __: seen.append(given[0][..., 0])
    )
    model(**batch)
    hook.remove()
    return seen[0].numel()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.model_class.__name__ in NEEDED], ids=str
)
def test_the_last_feed_forward_runs_for_what_a_head_reads(case, training):
    """A head on the pooler reads the first position alone.

    Who looks at hidden states gets them all, and the same.
    """
    model, batch = case.model().train(training), case.batch()
    needed = NEEDED[case.model_class.__name__]
    assert rows_of_last_feed_forward(model, **batch) == needed
    assert rows_of_last_feed_forward(model, **batch, output_hidden_states=True) == 36
    contracts.assert_equal(
        *(case.real(model(**batch, output_hidden_states=all), batch) for all in (False, True))
    )


@pytest.mark.parametrize("case", [CASES[1], CASES[2]], ids=str)
def test_the_last_feed_forward_runs_for_predicted_words(case):
    """In pretraining for masked positions and, where there is a pooler, the first ones.

    In evaluation for all.
    """
    model, batch = case.model(), case.batch()
    labels = case.make_labels(batch)
    needed = (labels["labels"] != IGNORED) & batch["attention_mask"].bool()
    if "next_sentence_label" in labels:
        needed[:, 0] = True
    assert 0 < needed.sum() < 23
    assert rows_of_last_feed_forward(model.train(), **batch, **labels) == needed.sum()
    assert rows_of_last_feed_forward(model.eval(), **batch, **labels) == 23
    assert rows_of_last_feed_forward(model.train(), **batch) == 23


@pytest.mark.parametrize("unpad_inputs", [True, False])
def test_token_labels_as_the_trainer_wants_them(unpad_inputs):
    """With the count that `Trainer` gives, tokens without a label go no further.

    Same loss, same gradients.
    """
    case = next(
        case for case in CASES if case.model_class is bertlite.BertLiteForTokenClassification
    )
    model, batch = case.model(unpad_inputs=unpad_inputs).train(), case.batch()
    labels = case.make_labels(batch)
    labels["labels"][:, ::2] = IGNORED
    labelled = labels["labels"] != IGNORED
    count = {"num_items_in_batch": labelled.sum()}
    assert 0 < labelled.sum() < 23
    assert rows_of_last_feed_forward(model, **batch, **labels, **count) == labelled.sum()
    expected, found = model(**batch, **labels), model(**batch, **labels, **count)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.logits[labelled], expected.logits[labelled])
    assert found.logits[~labelled].isnan().all()
    contracts.assert_equal(
        case.gradients(model, batch, {**labels, **count}), case.gradients(model, batch, labels)
    )
    own = nn.functional.cross_entropy(
        found.logits.flatten(0, 1), labels["labels"].flatten()
    )  # leaves -100 out
    torch.testing.assert_close(own, expected.loss)
    own.backward()
    assert all(
        weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None
    )
    complete = [model(**batch, **labels), model(**batch), model.eval()(**batch, **labels, **count)]
    assert all(outputs.logits.isfinite().all() for outputs in complete)
    assert not model.train()(
        **batch, labels=torch.full_like(batch["input_ids"], IGNORED), **count
    ).loss


@pytest.mark.parametrize("lengths", [(9, 5, 7, 2), (9, 9, 9, 9)], ids=["ragged", "full"])
def test_only_needed_positions(lengths):
    """Asked of the model itself: these are the same, the others are zero."""
    model, batch = CASES[0].model(), {"input_ids": torch.randint(3, 60, (4, 9))}
    batch["attention_mask"] = (torch.arange(9) < torch.tensor(lengths)[:, None]).long()
    needed = (torch.arange(36).view(4, 9) % 5 == 0) & batch["attention_mask"].bool()
    expected = model(**batch).last_hidden_state
    found = model(**batch, needed=needed).last_hidden_state
    torch.testing.assert_close(found[needed], expected[needed])
    assert found.shape == expected.shape
    assert not found[~needed].any()
    first = model(**batch, needed=torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(first.last_hidden_state[:, 0], expected[:, 0])
    assert not first.last_hidden_state[:, 1:].any()


def test_pretraining_loss_is_the_sum_of_both_tasks():
    case = CASES[1]
    model, batch = case.model(), case.batch()
    labels = case.make_labels(batch)
    with torch.no_grad():
        outputs = model(**batch)
        words = nn.functional.cross_entropy(
            outputs.prediction_logits.flatten(0, 1), labels["labels"].flatten()
        )
        sentence = nn.functional.cross_entropy(
            outputs.seq_relationship_logits, labels["next_sentence_label"]
        )
        torch.testing.assert_close(model(**batch, **labels).loss, words + sentence)
        torch.testing.assert_close(model(**batch, labels=labels["labels"]).loss, words)
        only = model(**batch, next_sentence_label=labels["next_sentence_label"])
        torch.testing.assert_close(only.loss, sentence)
        assert outputs.loss is None


@pytest.mark.parametrize(
    ("labels", "num_labels", "problem", "loss"),
    [
        (torch.tensor([0, 2, 1, 1]), 3, "single_label_classification", nn.CrossEntropyLoss()),
        (torch.rand(4, 3).round(), 3, "multi_label_classification", nn.BCEWithLogitsLoss()),
        (torch.randn(4), 1, "regression", nn.MSELoss()),
    ],
)
def test_problem_type_is_inferred(labels, num_labels, problem, loss):
    case = CASES[4]
    model, batch = case.model(num_labels=num_labels), case.batch()
    outputs = model(**batch, labels=labels)
    assert model.config.problem_type == problem
    torch.testing.assert_close(outputs.loss, loss(outputs.logits.squeeze(-1), labels))


def test_regression_of_several_scores():
    case = CASES[4]
    model, batch, labels = case.model(problem_type="regression"), case.batch(), torch.randn(4, 3)
    outputs = model(**batch, labels=labels)
    torch.testing.assert_close(outputs.loss, nn.functional.mse_loss(outputs.logits, labels))


def test_span_loss_does_not_change_with_padding():
    """The documented deviation: a padded batch's loss is the mean of the rows' losses alone."""
    case = CASES[8]
    model, batch = case.model(), case.batch()
    labels = case.make_labels(batch)
    with torch.no_grad():
        whole = model(**batch, **labels).loss
        alone = [model(**row).loss for row in singles({**batch, **labels})]
    torch.testing.assert_close(whole, torch.stack(alone).mean())


def test_answers_cut_off_are_ignored():
    case = CASES[8]
    model, batch = case.model(), case.batch()
    kept = {
        "start_positions": torch.tensor([1, 2, 9, 50]),
        "end_positions": torch.tensor([3, 4, 9, -100]),
    }
    with torch.no_grad():
        found = model(**batch, **kept).loss
        first = model(**{name: tensor[:2] for name, tensor in {**batch, **kept}.items()}).loss
    torch.testing.assert_close(found, first)


def test_pooler_is_optional():
    model = BertLiteModel(bert_config(), add_pooling_layer=False)
    outputs = model(torch.tensor([[4, 5, 6]]))
    assert outputs.pooler_output is None
    assert not [name for name, _ in model.named_parameters() if "pooler" in name]


def test_multiple_choice_returns_a_score_a_choice():
    case = CASES[9]
    assert case.model()(**case.batch()).logits.shape == (2, 2)


def test_padding_comes_back_as_zeros():
    case = CASES[0]
    batch = case.batch()
    states = case.model()(**batch).last_hidden_state
    assert not states[batch["attention_mask"] == 0].any()
    assert states[batch["attention_mask"] == 1].any(-1).all()


@pytest.mark.parametrize("case", [CASES[2], CASES[5], CASES[7]], ids=str)
def test_two_optimiser_steps_lower_the_loss(case):
    model, batch = case.model().train(), case.batch()
    labels = case.make_labels(batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model(**batch, **labels).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]
