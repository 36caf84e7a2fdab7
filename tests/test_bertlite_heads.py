"""BERT's heads: what only one head has, and what is left out where nobody reads it."""

import math
import pickle
from unittest import mock

import contracts
import pytest
import torch
from cases import IGNORED, Case, bert_config, singles
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from watching import tokens_seen

import bertlite
from bertlite import BertLiteForMaskedLM, BertLiteModel
from bertlite.backends.unpadding import few_sizes

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
    Case(
        bertlite.BertLiteForTokenClassification,
        TOKEN,
        {"labels": "token"},
        {"heads_per_layer": [3, 1], "intermediate_sizes": [7, 33]},
        name="pruned",
    ),
]


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
        model(**batch).loss.backward()
    wide = {shape for shape in seen.shapes if 499 in shape}
    assert (5, 499) in wide
    for shape in wide:
        rest = math.prod(shape) // 499
        assert rest <= 5 or rest == 32, f"{shape} holds the vocabulary for {rest} rows"


@pytest.mark.parametrize("change", ["touched", "evaluation", "no chunks", "no labels"])
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
    return tokens_seen(model, "expand", **batch)[-1]


def rounded(count: int) -> int:
    """A few more at most, repeated, so that sizes are few."""
    return len(few_sizes(torch.arange(count)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.model_class.__name__ in NEEDED], ids=str
)
def test_the_last_feed_forward_runs_for_what_a_head_reads(case, training):
    """A head on the pooler reads the first position alone.

    In training a head on tokens may leave out padding where its loss is asked for. Who looks at
    hidden states gets them all, and the same.
    """
    model, batch = case.model().train(training), case.batch()
    needed = NEEDED[case.model_class.__name__]
    if training and needed == 23:
        assert rows_of_last_feed_forward(model, **batch) == 36
        labels = case.make_labels(batch)
        assert 4 <= rows_of_last_feed_forward(model, **batch, **labels) <= needed
    else:
        assert rows_of_last_feed_forward(model, **batch) == needed
    assert rows_of_last_feed_forward(model, **batch, output_hidden_states=True) == 36
    contracts.assert_equal(
        *(case.real(model(**batch, output_hidden_states=all), batch) for all in (False, True))
    )


@pytest.mark.parametrize("case", [CASES[1], CASES[2], CASES[7]], ids=str)
def test_the_last_feed_forward_runs_for_what_is_predicted(case):
    """For labelled positions and, where there is a pooler, the first ones.

    In evaluation for all that are real, in training without labels for every one.
    """
    model, batch = case.model(), case.batch()
    labels = case.make_labels(batch)
    needed = (labels["labels"] != IGNORED) & batch["attention_mask"].bool()
    if "next_sentence_label" in labels:
        needed[:, 0] = True
    assert 0 < needed.sum() < 23
    taken = rows_of_last_feed_forward(model.train(), **batch, **labels)
    assert taken == rounded(int(needed.sum()))
    assert rows_of_last_feed_forward(model.eval(), **batch, **labels) == 23
    assert rows_of_last_feed_forward(model.train(), **batch) == 36


LEFT_OUT = {  # what is computed only when it is touched, in training with labels
    "BertLiteForPreTraining": ["prediction_logits"],
    "BertLiteForMaskedLM": ["logits"],
    "BertLiteForTokenClassification": ["logits"],
    "BertLiteForQuestionAnswering": ["start_logits", "end_logits"],
}
WITH_DEFERRED = pytest.mark.parametrize(
    "case", [case for case in CASES[:10] if case.model_class.__name__ in LEFT_OUT], ids=str
)


@WITH_DEFERRED
def test_what_the_loss_does_not_read_is_computed_when_it_is_touched(case):
    """Once, by a second pass, whole and with a gradient; `to_tuple` touches it too."""
    names = LEFT_OUT[case.model_class.__name__]
    model, batch = case.model().train(), case.batch()
    labels = case.make_labels(batch)
    expected = case.model(loss_chunk_size=0).train()(**batch)
    forward = BertLiteModel.forward
    with mock.patch.object(BertLiteModel, "forward", autospec=True, side_effect=forward) as passes:
        outputs = model(**batch, **labels)
        assert passes.call_count == 1
        assert not set(names) & set(outputs.keys())
        for _ in range(2):
            for name in names:
                contracts.assert_equal({name: outputs[name]}, {name: expected[name]})
        assert passes.call_count == 2
        assert len(outputs.to_tuple()) == len(outputs.keys())
        assert passes.call_count == 2
    assert outputs[names[0]].requires_grad
    assert set(names) <= set(outputs.keys())
    by_tuple = model(**batch, **labels, return_dict=False)
    assert len(by_tuple) == len(outputs.to_tuple())


@WITH_DEFERRED
@pytest.mark.parametrize("copy", ["fields", "pickle"])
def test_a_copy_of_the_output_says_how_to_have_what_was_left_out(case, copy):
    """As mixed precision copies it, field by field: an AttributeError names `loss_chunk_size`.

    A pickle holds what was left out.
    """
    batch = case.batch()
    outputs = case.model().train()(**batch, **case.make_labels(batch))
    for name in LEFT_OUT[case.model_class.__name__]:
        if copy == "fields":
            copied = type(outputs)({key: value.float() for key, value in outputs.items()})
            with pytest.raises(AttributeError, match=f"{name}.*loss_chunk_size = 0"):
                getattr(copied, name)
            assert torch.equal(copied.loss, outputs.loss)
        else:
            outputs.loss, kept = outputs.loss.detach(), outputs[name].detach()
            outputs[name] = kept
            again = pickle.loads(pickle.dumps(outputs))
            assert torch.equal(again[name], kept)


@WITH_DEFERRED
def test_accelerates_mixed_precision_copy_keeps_the_loss(case):
    from accelerate.utils.operations import convert_outputs_to_fp32

    batch = case.batch()
    labels, model = case.make_labels(batch), case.model().train()
    expected = model(**batch, **labels).loss
    loss = convert_outputs_to_fp32(model.forward)(**batch, **labels)["loss"]
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("backend", ["cpu", "plain"])
def test_token_labels_as_the_trainer_wants_them(backend):
    """Tokens without a label go no further. Same loss, same gradients; logits at every position."""
    case = CASES[7].on(backend=backend)
    model, batch = case.model().train(), case.batch()
    labels = case.make_labels(batch)
    labels["labels"][:, ::2] = IGNORED
    labelled = labels["labels"] != IGNORED
    count = {"num_items_in_batch": labelled.sum()}
    assert 0 < labelled.sum() < 23
    taken = rows_of_last_feed_forward(model, **batch, **labels, **count)
    assert taken == (labelled.sum() if backend == "cpu" else 36)
    expected, found = model(**batch), model(**batch, **labels, **count)
    own = nn.functional.cross_entropy(expected.logits.flatten(0, 1), labels["labels"].flatten())
    torch.testing.assert_close(found.loss, own)
    torch.testing.assert_close(found.logits, expected.logits)
    nothing = torch.full_like(batch["input_ids"], IGNORED)
    assert not model(**batch, labels=nothing, **count).loss


@pytest.mark.parametrize("lengths", [(9, 5, 7, 2), (9, 9, 9, 9)], ids=["ragged", "full"])
@pytest.mark.parametrize("backend", ["plain", "cpu", "packed"])
@torch.no_grad()
def test_positions_that_are_read(lengths, backend):
    """Asked of the model itself: those vectors alone, row by row, whatever the backend."""
    case = CASES[0].on(backend=backend)
    model, batch = case.model(), {"input_ids": torch.randint(3, 60, (4, 9))}
    batch["attention_mask"] = (torch.arange(9) < torch.tensor(lengths)[:, None]).long()
    expected = model(**batch)
    some = (torch.arange(36).view(4, 9) % 5 == 0) & batch["attention_mask"].bool()
    for read in (some, torch.zeros_like(some), batch["attention_mask"].bool()):
        found = model(**batch, positions=read)
        assert found.last_hidden_state.shape == (read.sum(), 32)
        torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state[read])
        torch.testing.assert_close(found.pooler_output, expected.pooler_output)


@pytest.mark.parametrize("backend", ["plain", "cpu"])
@torch.no_grad()
def test_positions_of_padding_and_of_packed_rows(backend):
    """A vector of padding that is read is the plain core's; packed rows may be read anywhere."""
    case = CASES[0].on(backend=backend)
    model, batch = case.model(), case.batch()
    every = torch.ones(4, 9, dtype=torch.bool)
    plain = case.plainly().model()(**batch).last_hidden_state
    found = model(**batch, positions=every).last_hidden_state
    torch.testing.assert_close(found, plain.flatten(0, 1))
    row = {
        "input_ids": torch.arange(3, 10)[None],
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 0, 1]]),
    }
    expected = model(**row).last_hidden_state
    read = torch.tensor([[1, 0, 1, 1, 0, 0, 1]]).bool()
    found = model(**row, positions=read).last_hidden_state
    torch.testing.assert_close(found, expected[read])


@pytest.mark.parametrize("wrong", [torch.ones(1, 1), torch.ones(4, 8), torch.ones(4, 9).long()])
def test_positions_that_do_not_fit(wrong):
    """Of another shape or type."""
    model, batch = CASES[0].model(), CASES[0].batch()
    positions = wrong if wrong.shape == (4, 9) else wrong.bool()
    with pytest.raises(ValueError, match=r"positions must be boolean of shape \(4, 9\)"):
        model(**batch, positions=positions)


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
