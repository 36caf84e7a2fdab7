"""Bad input.

A clear ValueError that names the argument, or the right answer. Each kind over one case of a
family, once over every head.
"""

import pytest
import torch
from cases import IGNORED, VOCABULARY, bert_config, transformer_config
from contracts import assert_equal
from test_bertlite_heads import CASES as BERT_CASES
from test_transformerlite import CASES as TRANSFORMER_CASES

from bertlite import BertLiteConfig, TransformerLiteConfig

MODEL, MASKED_LM, SEQ2SEQ = BERT_CASES[0], BERT_CASES[2], TRANSFORMER_CASES[1]
CHOICES = BERT_CASES[9]  # whose inputs have a side more
HEADS = [*BERT_CASES[:10], *TRANSFORMER_CASES[:2]]
SHAPES = pytest.mark.parametrize("case", [MODEL, CHOICES, SEQ2SEQ], ids=str)
BACKENDS = pytest.mark.parametrize("backend", ["cpu", "plain"])
FAMILIES = pytest.mark.parametrize("case", [MODEL, SEQ2SEQ], ids=str)
LABELLED = [case for case in (*BERT_CASES[:10], SEQ2SEQ) if case.labels]


def refused(model, batch: dict, *words: str, **changes) -> None:
    """A ValueError whose text holds every one of `words`, in training and in evaluation."""
    given = {name: value for name, value in {**batch, **changes}.items() if value is not None}
    for training in (False, True):
        with pytest.raises(ValueError) as caught:
            model.train(training)(**given)
        assert all(word in str(caught.value) for word in words), caught.value


def changed(tensor: torch.Tensor, value) -> torch.Tensor:
    """A copy with one entry replaced."""
    tensor = tensor.clone()
    tensor.view(-1)[1] = value
    return tensor


@pytest.mark.parametrize("case", HEADS, ids=str)
def test_every_head_refuses(case):
    """The checks below, of those inputs that every head takes, once a head."""
    model, batch = case.model(), case.batch()
    ids = batch["input_ids"]
    refused(model, batch, "input_ids", str(VOCABULARY), input_ids=changed(ids, VOCABULARY))
    refused(model, batch, "input_ids", "float32", input_ids=ids.float())
    refused(model, {**batch, "input_ids": ids[..., :0]}, "input_ids")
    refused(model, batch, "input_ids", input_ids=None)
    refused(model, batch, "attention_mask", attention_mask=batch["attention_mask"][..., 1:])


@SHAPES
@BACKENDS
@pytest.mark.parametrize("wrong", [VOCABULARY, -1, 10**9])
def test_ids_out_of_range(case, wrong, backend):
    """The look-up fails, and its error is explained."""
    model, batch = case.on(backend=backend).model(), case.batch()
    refused(
        model,
        batch,
        "input_ids",
        str(wrong),
        str(VOCABULARY),
        input_ids=changed(batch["input_ids"], wrong),
    )


@pytest.mark.parametrize("wrong", [VOCABULARY, -100])
def test_target_ids_out_of_range(wrong):
    """The decoder's arguments are called by their names."""
    model, batch = SEQ2SEQ.model(), SEQ2SEQ.batch()
    ids = changed(batch["decoder_input_ids"], wrong)
    words = (f"decoder_input_ids must lie in [0, {VOCABULARY}) (vocab_size)", str(wrong))
    refused(model, batch, *words, decoder_input_ids=ids)
    positions = changed(torch.arange(6).expand(4, 6), wrong)
    words = ("decoder_position_ids must lie in [0, 40) (max_position_embeddings)", str(wrong))
    refused(model, batch, *words, decoder_position_ids=positions)


@SHAPES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_ids_that_are_no_integers(case, dtype):
    model, batch = case.model(), case.batch()
    refused(model, batch, "input_ids", str(dtype), input_ids=batch["input_ids"].to(dtype))


@FAMILIES
def test_ids_of_32_bits_are_right(case):
    model, batch = case.model(), case.batch()
    short = {name: tensor.int() for name, tensor in batch.items()}
    with torch.no_grad():
        assert_equal(case.real(model(**short), batch), case.real(model(**batch), batch), atol=0)


@SHAPES
def test_too_many_tokens(case):
    """The error says how many the model takes, how many came and how to truncate."""
    model, batch = case.model(), case.batch()
    longer = batch["input_ids"].repeat_interleave(5, dim=-1)
    given = {name: tensor for name, tensor in batch.items() if name.startswith("decoder")}
    refused(model, given, "input_ids", "40", "45", "truncation", input_ids=longer)


def test_as_many_tokens_as_positions_are_right():
    model = MODEL.model()
    assert model(torch.randint(3, VOCABULARY, (2, 40))).last_hidden_state.shape == (2, 40, 32)


def test_too_many_target_tokens():
    model, batch = SEQ2SEQ.model(), SEQ2SEQ.batch()
    del batch["decoder_attention_mask"]
    refused(model, batch, "40", "42", decoder_input_ids=batch["decoder_input_ids"].repeat(1, 7))


def test_cache_that_is_full():
    model, batch = SEQ2SEQ.model(), SEQ2SEQ.batch()
    del batch["decoder_attention_mask"]
    first = model(**dict(batch, decoder_input_ids=torch.full((4, 40), 5)), use_cache=True)
    one = torch.full((4, 1), 5)
    refused(model, batch, "40", "41", decoder_input_ids=one, past_key_values=first.past_key_values)


@FAMILIES
@pytest.mark.parametrize("wrong", [40, -1])
def test_positions_out_of_range(case, wrong):
    model, batch = case.model(), case.batch()
    positions = changed(torch.arange(9).expand(4, 9), wrong)
    refused(model, batch, "position_ids", str(wrong), position_ids=positions)


@FAMILIES
@pytest.mark.parametrize("shape", [(4, 8), (4, 10), (3, 9)])
def test_positions_of_another_shape(case, shape):
    positions = torch.arange(shape[1]).expand(shape)
    refused(case.model(), case.batch(), "position_ids", str(shape), position_ids=positions)


@FAMILIES
@pytest.mark.parametrize(
    "shape", [(4, 8), (4, 10), (3, 9), (9,), (4, 9, 9), (3, 1, 9, 9), (4, 1, 9, 8)]
)
def test_masks_of_the_wrong_shape(case, shape):
    model, mask = case.model(), torch.ones(shape, dtype=torch.bool)
    refused(model, case.batch(), "attention_mask", str(shape), attention_mask=mask)


@FAMILIES
@pytest.mark.parametrize("shape", [(4, 1, 8, 9), (4, 3, 9, 9), (4, 1, 9, 12)])
def test_prepared_masks_of_the_wrong_shape(case, shape):
    """Too few queries, heads that are nobody's, too many keys."""
    model, mask = case.model(), torch.ones(shape, dtype=torch.bool)
    refused(model, case.batch(), "attention_mask", str(shape), attention_mask=mask)


@pytest.mark.parametrize("shape", [(2, 2, 8), (2, 9), (2, 3, 9)])
def test_masks_of_the_wrong_shape_over_choices(shape):
    case = CHOICES
    refused(case.model(), case.batch(), "attention_mask", attention_mask=torch.ones(shape))


@pytest.mark.parametrize("shape", [(4, 5), (4, 7), (3, 6), (6,), (4, 1, 6, 5), (4, 1, 5, 6)])
def test_target_masks_of_the_wrong_shape(shape):
    mask = torch.ones(shape, dtype=torch.bool)
    refused(SEQ2SEQ.model(), SEQ2SEQ.batch(), "attention_mask", decoder_attention_mask=mask)


def with_padding_rows(case, rows) -> dict:
    batch = case.batch()
    batch["attention_mask"] = batch["attention_mask"].clone()
    batch["attention_mask"][rows] = 0
    return batch


PADDING = pytest.mark.parametrize("rows", [[1], slice(None)], ids=["one-row", "every-row"])


@pytest.mark.parametrize("case", HEADS, ids=str)
@PADDING
def test_rows_of_padding_only(case, rows):
    """No NaN in outputs, loss or gradients.

    And the other rows are what they are without such a row.
    """
    check_padding_rows(case, rows, "sdpa")


@FAMILIES
@PADDING
@pytest.mark.parametrize("backend", ["cpu", "plain"])
def test_rows_of_padding_only_by_every_way(case, rows, backend, attention):
    check_padding_rows(case.on(backend=backend), rows, attention)


def check_padding_rows(case, rows, attention) -> None:
    model, batch = case.model(attention), with_padding_rows(case, rows)
    labels = case.make_labels(case.batch())
    with torch.no_grad():
        outputs = model(**batch)
        normal = case.real(model(**case.batch()), batch)
        found = case.real(outputs, batch)
        rest = [row for row in range(len(batch["input_ids"])) if row != 1]
        for name, place in case.outputs.items():
            assert outputs[name].isfinite().all(), name
            if rows == [1] and place == "row":
                assert_equal({name: found[name][rest]}, {name: normal[name][rest]})
            elif rows == [1] and place == "source":
                assert_equal({name: found[name]}, {name: normal[name]})
    if case.labels:
        case.loss(model.train(), batch, labels).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), name


@FAMILIES
def test_hidden_states_and_weights_of_a_padding_row_are_finite(case):
    options = {"output_hidden_states": True, "output_attentions": True}
    outputs = case.model()(**with_padding_rows(case, [1]), **options)
    for value in outputs.to_tuple():
        for tensor in value if isinstance(value, tuple) else [value]:
            assert not isinstance(tensor, torch.Tensor) or tensor.isfinite().all()


@pytest.mark.parametrize("case", LABELLED, ids=str)
def test_labels_outside_the_classes(case):
    model, batch = case.model(), case.batch()
    labels = case.make_labels(batch)
    for name, kind in case.labels.items():
        if kind == "score":  # any number is a score
            continue
        for wrong in (
            (-1, -7) if kind == "span" else (VOCABULARY, -1, 7e5 if kind == "marks" else -7)
        ):
            refused(model, batch, name, **{**labels, name: changed(labels[name], wrong)})


@pytest.mark.parametrize("case", LABELLED, ids=str)
def test_labels_of_the_wrong_shape(case):
    model, batch = case.model(), case.batch()
    labels = case.make_labels(batch)
    for name, tensor in labels.items():
        longer = torch.cat([tensor, tensor], dim=-1)
        refused(model, batch, name, **{**labels, name: longer})


@pytest.mark.parametrize("case", LABELLED, ids=str)
def test_float_labels(case):
    model, batch = case.model(), case.batch()
    labels = case.make_labels(batch)
    for name, kind in case.labels.items():
        if kind not in ("score", "marks"):
            refused(model, batch, name, **{**labels, name: labels[name].float()})


def test_refused_labels_leave_the_model_as_it_was():
    """The kind of problem is not settled by a batch that does not fit."""
    case = BERT_CASES[4]
    model, batch = case.model(), case.batch()
    labels = case.make_labels(batch)["labels"]
    refused(model, batch, "labels", labels=labels.float())
    assert model.config.problem_type is None
    assert model(**batch, labels=labels).loss.isfinite()


WITH_IGNORED = [case for case in LABELLED if not {"score", "marks"} & set(case.labels.values())]


@pytest.mark.parametrize("case", WITH_IGNORED, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_nothing_labelled(case, training):
    """All labels -100: loss 0 and gradients of 0."""
    model, batch = case.model(), case.batch()
    labels = {
        name: torch.full_like(tensor, IGNORED) for name, tensor in case.make_labels(batch).items()
    }
    loss = model.train(training)(**batch, **labels).loss
    loss.backward()
    assert loss == 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


@pytest.mark.parametrize("case", WITH_IGNORED, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_nothing_labelled_in_all_accumulated_pieces(case, training):
    """The trainer then counts 0 items.

    Still loss 0, where 0 / 0 would put NaN into every weight.
    """
    model, batch = case.model().train(training), case.batch()
    labels = {
        name: torch.full_like(tensor, IGNORED) for name, tensor in case.make_labels(batch).items()
    }
    for none in (0, torch.tensor(0)):
        assert model(**batch, **labels, num_items_in_batch=none).loss == 0


@SHAPES
@pytest.mark.parametrize("empty", ["rows", "columns"])
def test_empty_batches(case, empty):
    model, batch = case.model(), case.batch()
    cut = {
        name: tensor[:0] if empty == "rows" else tensor[..., :0] for name, tensor in batch.items()
    }
    refused(model, cut, "input_ids")


@SHAPES
def test_ids_and_vectors(case):
    """Exactly one of the two."""
    model, batch = case.model(), case.batch()
    vectors = model.get_input_embeddings()(batch["input_ids"]).detach()
    refused(model, batch, "input_ids", "inputs_embeds", inputs_embeds=vectors)


def test_target_ids_and_vectors():
    model, batch = SEQ2SEQ.model(), SEQ2SEQ.batch()
    vectors = model.get_input_embeddings()(batch["decoder_input_ids"]).detach()
    refused(model, batch, "inputs_embeds", decoder_inputs_embeds=vectors)
    refused(model, batch, "input_ids", decoder_input_ids=None)


def test_vectors_of_another_width():
    for shape in ((4, 9, 31), (4, 32), (4, 9, 32, 1)):
        refused(MODEL.model(), {"inputs_embeds": torch.randn(shape)}, "inputs_embeds", str(shape))


def test_vectors_that_hold_no_number():
    """NaN comes out as NaN at its own row, and nowhere else."""
    model, batch = MODEL.model(), MODEL.batch()
    vectors = model.get_input_embeddings()(batch.pop("input_ids")).detach()
    vectors[1, 0] = float("nan")
    states = model(inputs_embeds=vectors, **batch).last_hidden_state
    assert states[1, :5].isnan().any()
    assert states[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("wrong", [2, -1])
def test_segments_out_of_range(wrong):
    model, batch = MODEL.model(), MODEL.batch()
    refused(
        model,
        batch,
        "token_type_ids",
        str(wrong),
        token_type_ids=changed(batch["token_type_ids"], wrong),
    )


@pytest.mark.parametrize("shape", [(4, 8), (4, 10), (3, 9), (9, 4)])
def test_segments_of_another_shape(shape):
    zeros = torch.zeros(shape, dtype=torch.long)
    refused(MODEL.model(), MODEL.batch(), "token_type_ids", token_type_ids=zeros)


def test_segments_that_are_no_integers():
    refused(
        MODEL.model(), MODEL.batch(), "token_type_ids", "float32", token_type_ids=torch.zeros(4, 9)
    )


def test_choices_without_their_side():
    case = CHOICES
    flat = {name: tensor.flatten(0, 1) for name, tensor in case.batch().items()}
    refused(case.model(), flat, "input_ids", "(4, 9)", "choices")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_act": "glue"}, ("hidden_act", "glue", "gelu")),
        ({"hidden_dropout_prob": 1.5}, ("hidden_dropout_prob", "1.5")),
        ({"attention_probs_dropout_prob": -0.1}, ("attention_probs_dropout_prob", "-0.1")),
        ({"classifier_dropout": 1.5}, ("classifier_dropout", "1.5")),
        (
            {"position_embedding_type": "relative_key"},
            ("position_embedding_type", "relative_key", "sinusoidal"),
        ),
        ({"is_decoder": True}, ("is_decoder", "True", "TransformerLite")),
        ({"vocab_size": 0}, ("vocab_size", "0")),
        ({"max_position_embeddings": 0}, ("max_position_embeddings", "0")),
        ({"num_hidden_layers": -1}, ("num_hidden_layers", "-1")),
        ({"intermediate_size": 0}, ("intermediate_size", "0")),
        ({"loss_chunk_size": -1}, ("loss_chunk_size", "-1")),
        ({"layer_norm_eps": -1.0}, ("layer_norm_eps", "-1.0")),
    ],
)
def test_config_values_refused(fields, words):
    with pytest.raises(ValueError) as caught:
        bert_config(**fields)
    assert all(word in str(caught.value) for word in ("BertLiteConfig", *words)), caught.value


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"activation_function": "rely"}, ("hidden_act", "rely", "relu")),
        ({"dropout": 1.5}, ("dropout", "1.5")),
        ({"encoder_layerdrop": 1.5}, ("encoder_layerdrop", "1.5")),
        ({"label_smoothing": 1.0}, ("label_smoothing", "1.0")),
        ({"label_smoothing": -0.1}, ("label_smoothing", "-0.1")),
        ({"decoder_vocab_size": 70}, ("decoder_vocab_size", "70", "61")),
        ({"position_embedding_type": "relative_key"}, ("position_embedding_type", "relative_key")),
        ({"decoder_layers": -1}, ("decoder_layers", "-1")),
        ({"encoder_ffn_dim": 0}, ("encoder_ffn_dim", "0")),
    ],
)
def test_transformer_config_values_refused(fields, words):
    with pytest.raises(ValueError) as caught:
        transformer_config(**fields)
    assert all(word in str(caught.value) for word in ("TransformerLiteConfig", *words)), (
        caught.value
    )


@pytest.mark.parametrize(
    ("case", "fields", "words"),
    [
        (MODEL, {"hidden_size": 30}, ("30", "4")),
        (MODEL, {"num_attention_heads": 0}, ("32", "0")),
        (MODEL, {"num_attention_heads": -2}, ("-2",)),
        (SEQ2SEQ, {"d_model": 33}, ("33", "2")),
        (SEQ2SEQ, {"decoder_attention_heads": 5}, ("32", "5")),
        (SEQ2SEQ, {"encoder_attention_heads": 3}, ("32", "3")),
    ],
)
def test_heads_that_do_not_divide_the_size_are_refused_when_a_model_is_built(case, fields, words):
    """Not before: the library makes configs whose other fields it sets afterwards."""
    with pytest.raises(ValueError) as caught:
        case.model(**fields)
    assert all(word in str(caught.value) for word in ("hidden_size", *words)), caught.value


@pytest.mark.parametrize("fields", [{"hidden_size": "32"}, {"vocab_size": 61.5}, {"hidden_act": 3}])
def test_config_values_of_another_type(fields):
    with pytest.raises(Exception, match=next(iter(fields))):
        BertLiteConfig(**fields)


def test_default_configs_are_valid():
    assert BertLiteConfig().hidden_size == 768
    assert TransformerLiteConfig().d_model == 1024
