"""An optimised model against the plain one and against transformers' BertModel with the same
weights.
"""

import copy
import logging
import pickle

import pytest
import torch
import transformers
from cases import BERT, Case, bert_config, packed, padded, randomize, sequences, transformer_config
from transformers import BertConfig

import bertlite
from bertlite import optimize, undo_optimize
from bertlite.backends.cpu.packed_encoder import BLOCK_TOKENS, SHORT, blocks

pytestmark = pytest.mark.processor

CASES = {
    "BertLiteModel": ({"last_hidden_state": "source", "pooler_output": "row"}, {}),
    "BertLiteForMaskedLM": ({"logits": "source"}, {}),
    "BertLiteForPreTraining": (
        {"prediction_logits": "source", "seq_relationship_logits": "row"},
        {},
    ),
    "BertLiteForNextSentencePrediction": ({"logits": "row"}, {}),
    "BertLiteForSequenceClassification": ({"logits": "row"}, {}),
    "BertLiteForTokenClassification": ({"logits": "source"}, {}),
    "BertLiteForQuestionAnswering": ({"start_logits": "source", "end_logits": "source"}, {}),
    "BertLiteForMultipleChoice": ({"logits": "row"}, {"choices": 2}),
    "TransformerLiteModel": (
        {"last_hidden_state": "target", "encoder_last_hidden_state": "source"},
        {},
    ),
    "TransformerLiteForConditionalGeneration": ({"logits": "target"}, {}),
}
CASES = {
    name: Case(getattr(bertlite, name), outputs, **more) for name, (outputs, more) in CASES.items()
}
LENGTHS = [(1,), (12,), (6, 6, 6), (9, 5, 7, 2), (1, 20, 1), (3, 3, 9, 9, 4)]


def close(left: dict, right: dict, atol: float = 1e-5) -> None:
    """Equal names, of which there are some, and tensors that are close."""
    assert left.keys() == right.keys() != set()
    for name, value in right.items():
        torch.testing.assert_close(left[name], value, atol=atol, rtol=1e-5)


def left_plain(model: torch.nn.Module) -> torch.nn.Module:
    """A model whose encoders no backend runs."""
    for module in model.modules():
        if hasattr(module, "backend_choice"):
            module.backend_choice = "plain"
    return model


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "change", [{}, {"norm_first": True}, {"hidden_act": "relu"}, {"unpad_inputs": False}], ids=str
)
@torch.no_grad()
def test_every_head_gives_what_the_plain_model_gives(name, change):
    case = CASES[name]
    if case.is_seq2seq and "hidden_act" in change:
        change = {"activation_function": change["hidden_act"]}
    plain, fast = left_plain(case.model(**change)), optimize(case.model(**change))
    assert type(fast) is case.model_class
    for side in ("right", "left"):
        batch = case.batch(side)
        close(case.real(fast(**batch), batch), case.real(plain(**batch), batch))
    batch = case.batch(masked=False)
    close(case.real(fast(**batch), batch), case.real(plain(**batch), batch))


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("side", ["right", "left", None])
@torch.no_grad()
def test_it_gives_what_transformers_gives(lengths, side, tmp_path):
    theirs = randomize(transformers.BertModel(BertConfig(**BERT)))
    theirs.save_pretrained(tmp_path)
    ours = optimize(bertlite.BertLiteModel.from_pretrained(tmp_path).eval())
    ids, mask = padded(lengths, side or "right", torch.Generator().manual_seed(len(lengths)))
    batch = {"input_ids": ids} if side is None else {"input_ids": ids, "attention_mask": mask}
    real = torch.ones_like(mask).bool() if side is None else mask.bool()
    theirs, ours = theirs(**batch), ours(**batch)
    torch.testing.assert_close(
        ours.last_hidden_state[real], theirs.last_hidden_state[real], atol=1e-5, rtol=1e-5
    )
    if side != "left":
        torch.testing.assert_close(ours.pooler_output, theirs.pooler_output, atol=1e-5, rtol=1e-5)


def test_sequences_are_cut_into_blocks():
    assert list(blocks([], 10)) == []
    assert list(blocks([(3, 4)], 12)) == [[(3, 4)]]
    assert list(blocks([(3, 4)], 10)) == [[(2, 4)], [(1, 4)]]
    assert list(blocks([(2, 3), (1, 4), (2, 11)], 10)) == [[(2, 3), (1, 4)], [(1, 11)], [(1, 11)]]
    assert list(blocks([(1, 6), (3, 4)], 10)) == [[(1, 6), (1, 4)], [(2, 4)]]


@pytest.mark.parametrize(
    "lengths", [(64,) * 20, (*range(10, 60), 180, 181, 181), (300, 300, 300, 299, SHORT, SHORT + 1)]
)
@torch.no_grad()
def test_many_tokens_and_long_rows_give_what_transformers_gives(lengths, tmp_path):
    """Several blocks, and both ways of attention."""
    assert sum(lengths) > BLOCK_TOKENS
    theirs = randomize(
        transformers.BertModel(BertConfig(**{**BERT, "max_position_embeddings": 300}))
    ).eval()
    theirs.save_pretrained(tmp_path)
    ours = optimize(bertlite.BertLiteModel.from_pretrained(tmp_path).eval())
    ids, mask = padded(lengths, "right", torch.Generator().manual_seed(len(lengths)))
    real = mask.bool()
    found = ours(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-5)
    assert not found[~real].any()


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
@pytest.mark.parametrize("lengths", [(64,) * 20, (*range(10, 60), 180, 181, 181), (9, 5, 7, 2)])
@torch.no_grad()
def test_the_last_layer_gives_what_is_asked_for(lengths, dtype):
    """First positions for a head on the pooler, or any, none in some block: those vectors alone."""
    model = optimize(
        randomize(bertlite.BertLiteModel(bert_config(max_position_embeddings=300))), dtype=dtype
    )
    ids, mask = padded(lengths, "right", torch.Generator().manual_seed(0))
    whole = model(input_ids=ids, attention_mask=mask)
    first, some = torch.zeros(2, *mask.shape, dtype=torch.bool)
    first[:, 0] = True
    some[0, 1:3] = some[-1, 1] = True
    for positions in (first, some, torch.zeros_like(some)):
        found = model(input_ids=ids, attention_mask=mask, positions=positions)
        assert model.backend_report() == ["BertLiteModel, encode: packed"]
        torch.testing.assert_close(found.pooler_output, whole.pooler_output)
        torch.testing.assert_close(found.last_hidden_state, whole.last_hidden_state[positions])


@torch.no_grad()
def test_packed_rows_stay_apart():
    """Where they are said to be packed; a mask alone does not say so."""
    case = CASES["BertLiteModel"]
    whole = sequences(case.batch())
    row = packed(case, whole, [(0, 1), (2, 3)])
    mask = row.pop("attention_mask")
    plain, fast = left_plain(case.model()), optimize(case.model())
    found = []
    for is_packed in (True, None):
        asked = {**row, "attention_mask": mask, "packed": is_packed}
        expected = plain(**asked).last_hidden_state[mask.bool()]
        found.append(fast(**asked).last_hidden_state[mask.bool()])
        torch.testing.assert_close(found[-1], expected)
    assert not torch.allclose(*found, atol=1e-3)
    alone = [
        plain(**{name: tensor[None] for name, tensor in each.items()}).last_hidden_state[0]
        for each in whole
    ]
    torch.testing.assert_close(found[0], torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "asked", [{"output_attentions": True}, {"output_hidden_states": True}, {"return_dict": False}]
)
@torch.no_grad()
def test_what_a_caller_looks_at_is_still_there(asked):
    case = CASES["BertLiteModel"]
    plain, fast = left_plain(case.model("eager")), optimize(case.model("eager"))
    batch = CASES["BertLiteModel"].batch()
    expected, found = plain(**batch, **asked), fast(**batch, **asked)
    assert len(found) == len(expected)
    assert type(found) is type(expected)
    if "return_dict" not in asked:
        name = next(iter(asked)).removeprefix("output_")
        for left, right in zip(found[name], expected[name], strict=True):
            torch.testing.assert_close(left, right)


@torch.no_grad()
def test_a_full_mask_passes_through():
    case = CASES["BertLiteModel"]
    plain, fast = left_plain(case.model()), optimize(case.model())
    ids = case.batch()["input_ids"]
    mask = torch.ones(len(ids), 1, ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    expected = plain(ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(fast(ids, attention_mask=mask).last_hidden_state, expected)


@torch.no_grad()
def test_who_watches_sees_every_position():
    """A hook anywhere below the base model gets what it gets from a plain one."""
    case, seen = CASES["BertLiteForSequenceClassification"], []
    plain, fast = left_plain(case.model()), optimize(case.model())
    for model in (plain, fast):
        watched = model.bert.encoder.layer[0].output.dense
        watched.register_forward_hook(lambda module, given, output: seen.append(output))
        model(**case.batch())
    assert seen[0].shape == (*case.batch()["input_ids"].shape, 32)
    torch.testing.assert_close(seen[1], seen[0])
    assert any("a hook watches Linear" in line for line in fast.backend_report())


def test_undoing_gives_the_trainable_model_back():
    case = CASES["BertLiteForSequenceClassification"]
    model, plain = case.model(), case.model()
    model.bert.embeddings.requires_grad_(False)  # what was frozen before stays frozen
    wanted = {name: weight.requires_grad for name, weight in model.named_parameters()}
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimize(model)
    with torch.no_grad():
        model(**case.batch())
    undo_optimize(model)
    assert model.bert.backend_choice == "auto"
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == wanted
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name
    model.requires_grad_(True)
    labels = {"labels": torch.tensor([0, 1, 2, 0])}
    for left, right in zip(
        case.gradients(model, case.batch(), labels).values(),
        case.gradients(plain, case.batch(), labels).values(),
        strict=True,
    ):
        torch.testing.assert_close(left, right)


def test_left_over_gradients_are_refused():
    """A fused optimizer could step on them, past all notice, while packed weights are in use."""
    case = CASES["BertLiteForSequenceClassification"]
    model = case.model()
    model(**case.batch())["logits"].sum().backward()
    with pytest.raises(ValueError, match=r"no gradients.*zero_grad"):
        optimize(model)
    assert all(weight.requires_grad for weight in model.parameters())
    model.zero_grad()
    before = [weight.clone() for weight in optimize(model).parameters()]
    torch.optim.AdamW(model.bert.parameters(), lr=0.1, fused=True).step()
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_training_is_refused():
    case = CASES["BertLiteForSequenceClassification"]
    with pytest.raises(ValueError, match="evaluation mode, got training mode"):
        optimize(case.model().train())
    model = optimize(case.model())
    model(**case.batch())["logits"].sum().backward()  # a head on the frozen encoder still learns
    assert model.classifier.weight.grad is not None
    with pytest.raises(ValueError, match="undo_optimize"):
        model.train()(**case.batch())
    model.eval().requires_grad_(True)
    with pytest.raises(ValueError, match="requires_grad=True"):
        model(**case.batch())
    words = torch.randn(1, 3, 32, requires_grad=True)
    with pytest.raises(ValueError, match="requires_grad=True"):
        model.requires_grad_(False)(inputs_embeds=words)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="dtype must be one of.*'int4'"):
        optimize(CASES["BertLiteModel"].model(), dtype="int4")
    for change in (optimize, undo_optimize):
        with pytest.raises(ValueError, match="must be a loaded model, as .*, got 'out/model'"):
            change("out/model")
    with pytest.raises(ValueError, match="encoder, got Linear"):
        optimize(torch.nn.Linear(2, 2).eval())
    model, batch = optimize(CASES["BertLiteModel"].model()), CASES["BertLiteModel"].batch()
    with pytest.raises(ValueError, match="attention_mask must have shape"):
        model(batch["input_ids"], attention_mask=batch["attention_mask"][:, :-1])
    with pytest.raises(ValueError, match="input_ids must lie in"):
        model(batch["input_ids"] + 100)


@torch.no_grad()
def test_saving_writes_the_standard_weights(tmp_path):
    theirs = randomize(transformers.BertModel(BertConfig(**BERT)))
    theirs.save_pretrained(tmp_path / "theirs")
    ours = optimize(
        bertlite.BertLiteModel.from_pretrained(tmp_path / "theirs").eval(), dtype="int8"
    )
    ours(**CASES["BertLiteModel"].batch())
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.BertModel.from_pretrained(tmp_path / "ours")
    for name, weight in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


@torch.no_grad()
def test_changed_weights_are_packed_again():
    case = CASES["BertLiteModel"]
    plain, fast = left_plain(case.model()), optimize(case.model())
    fast(**case.batch())
    for model in (plain, fast):
        model.encoder.layer[1].intermediate.dense.weight.mul_(1.5)
    close(
        case.real(fast(**case.batch()), case.batch()),
        case.real(plain(**case.batch()), case.batch()),
    )
    fast.double()
    plain.double()
    close(
        case.real(fast(**case.batch()), case.batch()),
        case.real(plain(**case.batch()), case.batch()),
    )


@torch.no_grad()
def test_copies_stand_on_their_own():
    case = CASES["BertLiteModel"]
    model = optimize(case.model())
    expected = case.real(model(**case.batch()), case.batch())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.backend_choice.encoder is copied
        close(case.real(copied(**case.batch()), case.batch()), expected)
        copied.encoder.layer[0].attention.self.query.weight.zero_()
        assert not torch.allclose(
            copied(**case.batch()).last_hidden_state, model(**case.batch()).last_hidden_state
        )


@pytest.mark.parametrize(("dtype", "least"), [("int8", 0.998), ("bf16", 0.9995)])
@pytest.mark.parametrize("make", [bert_config, transformer_config])
@torch.no_grad()
def test_cheaper_products_stay_close(dtype, least, make):
    """Cosine of each real token's vector to fp32, random weights of a trained model's size."""
    config = make(hidden_size=128) if make is bert_config else make(d_model=128)
    torch.manual_seed(1)
    family = bertlite.BertLiteModel if make is bert_config else bertlite.TransformerLiteModel
    plain = randomize(family(config), std=0.08)
    fast = optimize(copy.deepcopy(plain), dtype=dtype)
    ids, mask = padded((20, 9, 33, 1), "right", torch.Generator().manual_seed(3))
    encoders = [model if make is bert_config else model.get_encoder() for model in (plain, fast)]
    left, right = (
        encoder(ids, attention_mask=mask).last_hidden_state[mask.bool()] for encoder in encoders
    )
    assert not torch.equal(left, right)
    assert float(torch.cosine_similarity(left, right, dim=-1).min()) > least


def test_what_was_chosen_is_said(caplog, monkeypatch):
    transformers.utils.logging.get_logger("transformers")
    logger = logging.getLogger("bertlite.backends.cpu.packed_backend")
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level(logging.INFO, logger=logger.name):
        optimize(CASES["BertLiteModel"].model())
        monkeypatch.setattr("bertlite.backends.cpu.packed_backend.has_fast_bf16", lambda: False)
        optimize(CASES["BertLiteModel"].model(), dtype="bf16")
    assert [record.message.count("fp32 products") for record in caplog.records] == [1, 1]
