"""Our BERT against transformers' own.

Their folder loaded by ours, outputs and losses equal over a grid.
"""

import pytest
import torch
from cases import IGNORED, padded
from contracts import assert_equal
from pairs import bert_pair

HEADS = {
    "Model": (("last_hidden_state", "pooler_output"), {}),
    "ForPreTraining": (
        ("prediction_logits", "seq_relationship_logits"),
        {"labels": "word", "next_sentence_label": "pair"},
    ),
    "ForMaskedLM": (("logits",), {"labels": "word"}),
    "ForNextSentencePrediction": (("logits",), {"labels": "pair"}),
    "ForSequenceClassification": (("logits",), {"labels": "row"}),
    "ForTokenClassification": (("logits",), {"labels": "token"}),
    "ForQuestionAnswering": (
        ("start_logits", "end_logits"),
        {"start_positions": "place", "end_positions": "place"},
    ),
    "ForMultipleChoice": (("logits",), {"labels": "pair"}),
}
EVERY_HEAD = pytest.mark.parametrize("head", HEADS)
BY_TOKEN = ("last_hidden_state", "prediction_logits", "start_logits", "end_logits")


def batch_of(head: str, lengths, side: str | None) -> dict:
    """Ids with segments.

    No mask where `side` is None. Multiple choice takes the rows as two choices each.
    """
    generator = torch.Generator().manual_seed(len(lengths))
    ids, mask = padded(lengths, side or "right", generator)
    batch = {
        "input_ids": ids,
        "token_type_ids": torch.randint(0, 2, ids.shape, generator=generator),
    }
    if side is not None:
        batch["attention_mask"] = mask
    if head == "ForMultipleChoice":
        batch = {name: tensor.unflatten(0, (-1, 2)) for name, tensor in batch.items()}
    return batch


def real(head: str, outputs, batch) -> dict:
    """The outputs, those by token without padding."""
    kept, mask = {}, batch.get("attention_mask")
    for name in HEADS[head][0]:
        by_token = name in BY_TOKEN or head in ("ForMaskedLM", "ForTokenClassification")
        kept[name] = outputs[name].detach().float()
        if by_token and mask is not None and mask.ndim == 2:
            kept[name] = kept[name][mask.bool()]
    return kept


def labels_of(head: str, batch) -> dict:
    ids, made = batch["input_ids"], {}
    mask = batch.get("attention_mask", torch.ones_like(ids)).bool()
    for name, kind in HEADS[head][1].items():
        if kind in ("word", "token"):
            drawn = torch.randint(0, 61 if kind == "word" else 3, ids.shape)
            made[name] = torch.where(mask & (torch.rand(ids.shape) < 0.7), drawn, IGNORED)
            made[name][mask.nonzero()[0][0], mask.nonzero()[0][1]] = 1  # at least one
        else:
            made[name] = torch.randint(
                0, {"pair": 2, "row": 3, "place": ids.shape[-1]}[kind], (len(ids),)
            )
    return made


@EVERY_HEAD
@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("layers", [1, 2])
def test_outputs_and_losses(tmp_path, head, layers, heads, attention):
    """Lengths 1, 5 and 17; padding on the right, on the left, and no mask."""
    theirs, ours = bert_pair(
        head, tmp_path, attention, num_hidden_layers=layers, num_attention_heads=heads
    )
    with torch.no_grad():
        for lengths in ((1, 1), (5, 5, 3, 1), (17, 4, 9, 12)):
            for side in ("right", "left", None):
                batch = batch_of(head, lengths, side)
                expected = theirs(**batch)
                assert_equal(real(head, ours(**batch), batch), real(head, expected, batch))
                if head == "ForQuestionAnswering" and side is not None:
                    continue  # our span loss leaves padding out: see test_span_loss_of_padded_rows
                labels = labels_of(head, batch)
                if labels:
                    torch.testing.assert_close(
                        ours(**batch, **labels).loss, theirs(**batch, **labels).loss
                    )


@pytest.mark.parametrize("head", [head for head in HEADS if head != "ForMultipleChoice"])
@pytest.mark.parametrize("form", ["rows", "heads", "one for all"])
def test_prepared_masks(tmp_path, head, form, attention):
    """4D masks pass through: additive to theirs, boolean and additive to ours."""
    theirs, ours = bert_pair(head, tmp_path, attention)
    batch = batch_of(head, (7, 7, 7), None)
    shape = {"rows": (3, 1, 7, 7), "heads": (3, 4, 7, 7), "one for all": (1, 1, 7, 7)}[form]
    allowed = (torch.rand(shape) < 0.5) | torch.eye(7, dtype=torch.bool)
    additive = torch.zeros(shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    with torch.no_grad():
        theirs.set_attn_implementation("eager")
        expected = real(head, theirs(**batch, attention_mask=additive), batch)
        for mask in (allowed, additive):
            assert_equal(real(head, ours(**batch, attention_mask=mask), batch), expected)


@EVERY_HEAD
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(tmp_path, head, dtype, attention):
    """|ours16 - theirs32| < 3 · |theirs16 - theirs32|, on the mean and on the largest."""
    theirs, ours = bert_pair(head, tmp_path, attention)
    theirs.set_attn_implementation(attention)
    for side in ("right", "left", None):
        batch = batch_of(head, (17, 4, 9, 12), side)
        with torch.no_grad():
            exact = real(head, theirs.float()(**batch), batch)
            their_half = real(head, theirs.to(dtype)(**batch), batch)
            our_half = real(head, ours.to(dtype)(**batch), batch)
            theirs.load_state_dict(type(theirs).from_pretrained(tmp_path).state_dict())
        for name, value in exact.items():
            their_error, our_error = (
                ((half[name] - value).abs()) for half in (their_half, our_half)
            )
            assert our_error.mean() < 3 * their_error.mean(), (name, side)
            assert our_error.max() < 3 * their_error.max(), (name, side)


@pytest.mark.parametrize("act", ["gelu", "relu", "gelu_new", "silu"])
@pytest.mark.parametrize("head", ["Model", "ForMaskedLM"])
def test_activations(tmp_path, head, act, attention):
    theirs, ours = bert_pair(head, tmp_path, attention, hidden_act=act)
    batch = batch_of(head, (17, 4, 9, 12), "right")
    with torch.no_grad():
        assert_equal(real(head, ours(**batch), batch), real(head, theirs(**batch), batch))
    found = real(
        head, ours(**batch), batch
    )  # with gradients: GELU in place is then out of the question
    assert_equal(found, real(head, theirs(**batch), batch))


@pytest.mark.parametrize("head", [head for head, (_, labels) in HEADS.items() if labels])
def test_gradients(tmp_path, head):
    """The gradient of every weight, for rows of equal length and for padded ones."""
    theirs, ours = bert_pair(head, tmp_path, "sdpa")
    for lengths in ((9, 9, 9, 9), (9, 4, 7, 2)):
        if head == "ForQuestionAnswering" and lengths[1] == 4:
            continue  # our span loss leaves padding out: see test_span_loss_of_padded_rows
        batch = batch_of(head, lengths, "right")
        labels, gradients = labels_of(head, batch), []
        for model in (ours, theirs):
            model.zero_grad()
            model.train()(**batch, **labels).loss.backward()
            gradients.append({name: each.grad for name, each in model.named_parameters()})
        assert_equal(*gradients)


def test_span_loss_of_padded_rows(tmp_path):
    """The documented deviation: the mean of their losses of each row without its padding."""
    theirs, ours = bert_pair("ForQuestionAnswering", tmp_path)
    batch = batch_of("ForQuestionAnswering", (17, 4, 9, 12), "right")
    places = {
        "start_positions": torch.tensor([3, 0, 8, 5]),
        "end_positions": torch.tensor([16, 3, 8, 11]),
    }
    losses = []
    with torch.no_grad():
        for row, length in enumerate((17, 4, 9, 12)):
            alone = {name: tensor[row : row + 1, :length] for name, tensor in batch.items()}
            losses.append(
                theirs(
                    **alone, **{name: place[row : row + 1] for name, place in places.items()}
                ).loss
            )
        torch.testing.assert_close(ours(**batch, **places).loss, torch.stack(losses).mean())
        assert abs(theirs(**batch, **places).loss - torch.stack(losses).mean()) > 1e-3


@pytest.mark.parametrize(
    ("labels", "num_labels", "problem"),
    [
        (torch.tensor([0, 2, 1, 1]), 3, None),
        (torch.rand(4, 3).round(), 3, None),
        (torch.randn(4), 1, None),
        (torch.randn(4, 3), 3, "regression"),
    ],
)
def test_losses_of_the_kinds_of_problem(tmp_path, labels, num_labels, problem):
    theirs, ours = bert_pair(
        "ForSequenceClassification", tmp_path, num_labels=num_labels, problem_type=problem
    )
    batch = batch_of("ForSequenceClassification", (17, 4, 9, 12), "right")
    torch.testing.assert_close(
        ours(**batch, labels=labels).loss, theirs(**batch, labels=labels).loss
    )
    assert ours.config.problem_type == theirs.config.problem_type


@pytest.mark.parametrize("watched", ["hidden_states", "attentions"])
def test_what_is_recorded(tmp_path, watched, attention):
    """Hidden states and attention weights of each layer, at real tokens."""
    theirs, ours = bert_pair("Model", tmp_path, attention)
    theirs.set_attn_implementation("eager")
    batch = batch_of("Model", (17, 4, 9, 12), "right")
    with torch.no_grad():
        found, expected = (
            model(**batch, **{f"output_{watched}": True})[watched] for model in (ours, theirs)
        )
    mask = batch["attention_mask"].bool()
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        pair = [
            each if watched == "hidden_states" else each.transpose(1, 2) for each in (one, other)
        ]
        assert_equal({watched: pair[0][mask]}, {watched: pair[1][mask]})


@pytest.mark.parametrize("positions", [torch.arange(3, 20)[None], torch.arange(17).flip(0)[None]])
def test_positions_of_the_callers_choice(tmp_path, positions, attention):
    """Without a mask, positions that fall begin a sequence each here, as in the library's own
    packed batches; with a mask every real token sees every other, as in their class.
    """
    theirs, ours = bert_pair("Model", tmp_path, attention)
    batch = batch_of("Model", (17, 17), None)
    rising = bool((positions.diff() > 0).all())
    with torch.no_grad():
        for mask in (None, torch.ones_like(batch["input_ids"])):
            found, expected = (
                model(**batch, position_ids=positions, attention_mask=mask).last_hidden_state
                for model in (ours, theirs)
            )
            close = torch.allclose(found, expected, atol=1e-5)
            assert close == (rising or mask is not None)
