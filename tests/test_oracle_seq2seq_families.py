"""BART, mBART, M2M100, Pegasus and BlenderBot-small against transformers' own classes."""

import json

import pytest
import torch
import transformers
from contracts import assert_equal
from seq2seq_cases import NAMES, SIZES, STILL, batch_of, labels_of, pair, their_config, their_model

import bertlite
from bertlite import TransformerLiteConfig
from bertlite.models.transformer_families import FAMILIES

EVERY_FAMILY = pytest.mark.parametrize("family", NAMES)
HEADS = ["Model", "ForConditionalGeneration"]
GRID = [
    {"encoder_layers": 1, "decoder_attention_heads": 4, "scale_embedding": True},
    {"decoder_layers": 1, "encoder_attention_heads": 4, "scale_embedding": False},
    {"activation_function": "swish", "pad_token_id": 3},
]


def real(outputs, batch: dict) -> dict:
    """What stands at real tokens."""
    kept = {}
    for name, mask in (
        ("encoder_last_hidden_state", "attention_mask"),
        ("last_hidden_state", "decoder_attention_mask"),
        ("logits", "decoder_attention_mask"),
    ):
        if name in outputs:
            value = outputs[name].detach()
            kept[name] = value[batch[mask].bool()] if mask in batch else value
    return kept


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("fields", GRID, ids=["1", "2", "3"])
@EVERY_FAMILY
def test_outputs(tmp_path, family, fields, head):
    """Ragged batches padded on either side, and without masks; sdpa and eager."""
    theirs, ours = pair(family, tmp_path, head, **fields)
    for implementation in ("sdpa", "eager"):
        ours.set_attn_implementation(implementation)
        for side in ("right", "left", None):
            batch = batch_of(theirs.config, side)
            with torch.no_grad():
                assert_equal(real(ours(**batch), batch), real(theirs(**batch), batch))


@EVERY_FAMILY
def test_names_of_tensors_and_what_is_saved(tmp_path, family):
    """Theirs, in their order; what we save loads in theirs with nothing missing, to the bit."""
    theirs, ours = pair(family, tmp_path / "theirs")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.save_pretrained(tmp_path / "ours")
    auto = transformers.AutoModelForSeq2SeqLM
    again, report = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert type(again) is type(theirs)
    assert not any(report.values()), report
    for name, value in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert written["architectures"] == [type(theirs).__name__]
    batch = batch_of(theirs.config)
    with torch.no_grad():
        assert torch.equal(again.eval()(**batch).logits, theirs(**batch).logits)


def assert_same_fields(ours: TransformerLiteConfig, theirs) -> None:
    said = theirs.to_dict()
    for name in ("transformers_version", "model_type", "architectures", "dtype", "_name_or_path"):
        said.pop(name, None)
    known = ours.to_dict()
    assert {name: known.get(name) for name in said} == said


@EVERY_FAMILY
def test_defaults_are_theirs(tmp_path, family):
    """What a folder leaves out, in both directions, and where it equals Marian's default."""
    theirs = getattr(transformers, f"{FAMILIES[family].prefix}Config")()
    assert_same_fields(TransformerLiteConfig.of_family(family), theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = TransformerLiteConfig.from_pretrained(tmp_path / "theirs")
    assert_same_fields(ours, theirs)
    marian = TransformerLiteConfig().to_dict()
    # One of each field that both have, as Marian has it by default.
    fields = {
        name: value
        for name, value in marian.items()
        if name in theirs.to_dict() and name not in ("architectures", "model_type", "id2label")
    }
    for config in (TransformerLiteConfig.of_family(family, **fields), ours):
        config.save_pretrained(tmp_path / "ours")
        assert_same_fields(config, type(theirs).from_pretrained(tmp_path / "ours"))
        again = TransformerLiteConfig.from_pretrained(tmp_path / "ours")
        assert again.to_dict() == config.to_dict()


@EVERY_FAMILY
def test_losses_and_gradients(tmp_path, family):
    """In training, where only labelled positions meet the vocabulary, and in evaluation."""
    theirs, ours = pair(family, tmp_path)
    for side in ("right", "left"):
        batch = batch_of(theirs.config, side)
        labels = labels_of(batch)
        batch = {name: each for name, each in batch.items() if not name.startswith("decoder")}
        expected, gradients = loss_and_gradients(theirs.train(), batch, labels)
        found, own = loss_and_gradients(ours.train(), batch, labels)
        torch.testing.assert_close(found, expected)
        assert_equal(own, gradients)
        torch.testing.assert_close(ours.eval()(**batch, labels=labels).loss, expected)


def loss_and_gradients(model, batch: dict, labels: torch.Tensor):
    model.zero_grad()
    loss = model(**batch, labels=labels).loss
    loss.backward()
    named = {name: each.grad for name, each in model.named_parameters() if each.requires_grad}
    return loss, named


@EVERY_FAMILY
def test_what_a_decoder_reads_for_labels(tmp_path, family):
    theirs, ours = pair(family, tmp_path)
    labels = torch.tensor([[7, 8, 9, 2], [5, 2, -100, -100], [6, 2, 12, -100]])
    module = __import__(type(theirs).__module__, fromlist=["shift_tokens_right"])
    config = theirs.config
    start = () if family == "mbart" else (config.decoder_start_token_id,)
    expected = module.shift_tokens_right(labels.clone(), config.pad_token_id, *start)
    assert torch.equal(ours.prepare_decoder_input_ids_from_labels(labels), expected)


@EVERY_FAMILY
def test_cached_steps(tmp_path, family):
    """A word or two at a time, of which one is padding, against theirs."""
    theirs, ours = pair(family, tmp_path)
    batch = batch_of(theirs.config, "left")
    target, _ = batch.pop("decoder_input_ids"), batch.pop("decoder_attention_mask")
    caches: list = [None, None]
    for words in target.split([1, 2, 1, 1, 1], dim=1):
        logits = []
        for index, model in enumerate((theirs, ours)):
            given = {"decoder_input_ids": words, "past_key_values": caches[index]}
            with torch.no_grad():
                outputs = model(**batch, **given, use_cache=True)
            caches[index] = outputs.past_key_values
            logits.append(outputs.logits)
        assert_equal({"logits": logits[1]}, {"logits": logits[0]})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@EVERY_FAMILY
def test_half_precision(tmp_path, family, dtype):
    """|ours16 - theirs32| < 3 · |theirs16 - theirs32|."""
    theirs, ours = pair(family, tmp_path)
    batch = batch_of(theirs.config, "right")
    with torch.no_grad():
        exact = real(theirs(**batch), batch)
        halves = [
            {name: each.float() for name, each in real(model.to(dtype)(**batch), batch).items()}
            for model in (theirs, ours)
        ]
    for name, value in exact.items():
        their_error, our_error = ((half[name] - value).abs() for half in halves)
        assert our_error.mean() < 3 * their_error.mean(), name


@pytest.mark.parametrize("family", ["bart", "mbart"])
def test_a_decoder_that_is_given_nothing_reads_the_source(tmp_path, family):
    theirs, ours = pair(family, tmp_path, "Model")
    batch = batch_of(theirs.config)
    batch = {name: each for name, each in batch.items() if not name.startswith("decoder")}
    with torch.no_grad():
        expected, found = theirs(**batch), ours(**batch)
    assert_equal(real(found, batch), real(expected, batch))


def test_padding_has_no_position_in_m2m100(tmp_path):
    """Wherever it stands, with a mask or without one, on both sides."""
    theirs, ours = pair("m2m_100", tmp_path)
    ids = torch.tensor([[1, 5, 1, 6, 7, 1], [8, 9, 10, 11, 12, 13]])
    for mask in (None, (ids != 1).long()):
        batch = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids.flip(1)}
        with torch.no_grad():
            expected, found = theirs(**batch).logits, ours(**batch).logits
        assert_equal({"logits": found}, {"logits": expected})


def test_positions_of_m2m100_are_theirs_to_the_bit():
    theirs = their_model("m2m_100", "Model", max_position_embeddings=1024, d_model=62)
    fields = {**SIZES, **STILL, "max_position_embeddings": 1024, "d_model": 62}
    ours = bertlite.TransformerLiteModel(TransformerLiteConfig.of_family("m2m_100", **fields))
    expected = theirs.encoder.embed_positions.weights
    assert torch.equal(ours.encoder.embed_positions.weights, expected)


@EVERY_FAMILY
def test_positions_out_of_range_are_refused(tmp_path, family):
    """BART's two unused rows are no positions."""
    ours = bertlite.TransformerLiteModel(
        TransformerLiteConfig.of_family(family, **{**SIZES, **STILL})
    )
    ids = torch.tensor([[5, 6, 7]])
    for position in (-2, 40):
        positions = torch.tensor([[0, 1, position]])
        with pytest.raises(ValueError, match=rf"position_ids must lie in \[0, 40\).*{position}"):
            ours.encoder(ids, position_ids=positions)
    with pytest.raises(ValueError, match="at most 40 tokens"):
        ours.encoder(ids.repeat(1, 14))


def test_families_that_are_not_there_are_refused(tmp_path):
    """By name, with the list of what is."""
    transformers.T5Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'t5'.*marian and bart and mbart and m2m_100 and pegasus"):
        TransformerLiteConfig.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="family must be one of marian, bart.*'t5'"):
        TransformerLiteConfig(family="t5")
    with pytest.raises(ValueError, match="family must be one of marian, bart.*'t5'"):
        TransformerLiteConfig.of_family("t5")
    assert their_config("bart").model_type == "bart"


def rows_with_ends(config, ends=(6, 3, 8)) -> dict[str, torch.Tensor]:
    """Sources that hold an end token, the last one at `ends`."""
    ids = torch.randint(4, 60, (3, 9), generator=torch.Generator().manual_seed(4))
    places, last = torch.arange(9)[None], torch.tensor(ends)[:, None]
    ids = ids.masked_fill(places == last, config.eos_token_id)
    mask = (places <= last).long()
    return {"input_ids": ids.masked_fill(mask == 0, config.pad_token_id), "attention_mask": mask}


@pytest.mark.parametrize("kind", ["single", "several", "score"])
@pytest.mark.parametrize("family", ["bart", "mbart"])
def test_classification(tmp_path, family, kind):
    fields = {"classifier_dropout": 0.0, "num_labels": 1 if kind == "score" else 4}
    theirs, ours = pair(family, tmp_path / "theirs", "ForSequenceClassification", **fields)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    labels = {"single": torch.tensor([2, 0, 3]), "score": torch.tensor([0.5, -1.0, 2.0])}
    labels["several"] = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]])
    batch = rows_with_ends(theirs.config)
    expected, gradients = loss_and_gradients(theirs.train(), batch, labels[kind])
    found, own = loss_and_gradients(ours.train(), batch, labels[kind])
    torch.testing.assert_close(found, expected)
    assert_equal(own, gradients)
    assert_equal({"": ours(**batch).logits}, {"": theirs(**batch).logits})
    assert_read_back(ours, theirs, "SequenceClassification", tmp_path / "ours")


def assert_read_back(ours, theirs, task: str, folder) -> None:
    ours.save_pretrained(folder)
    auto = getattr(transformers, f"AutoModelFor{task}")
    again, report = auto.from_pretrained(folder, output_loading_info=True)
    assert type(again) is type(theirs)
    assert not any(report.values()), report
    for name, value in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("labels", [1, 2, 3, 4])
def test_a_saved_classifier_keeps_its_labels(tmp_path, labels):
    """Two of them, too, which are Marian's default and not BART's."""
    config = TransformerLiteConfig.of_family("bart", **SIZES, num_labels=labels)
    bertlite.TransformerLiteForSequenceClassification(config).save_pretrained(tmp_path)
    assert bertlite.load(tmp_path).config.num_labels == labels
    theirs = transformers.BartForSequenceClassification.from_pretrained(tmp_path)
    assert theirs.config.id2label == config.id2label


def test_rows_may_differ_in_end_tokens_and_need_one(tmp_path):
    """Deviation: theirs refuses rows with differing numbers of end tokens."""
    theirs, ours = pair("bart", tmp_path, "ForSequenceClassification")
    batch = rows_with_ends(theirs.config)
    expected = theirs(**batch).logits
    first = {name: each[:1].clone() for name, each in batch.items()}
    first["input_ids"][0, 2] = theirs.config.eos_token_id
    alone = theirs(**first).logits
    batch["input_ids"][0, 2] = theirs.config.eos_token_id
    assert_equal({"": ours(**batch).logits}, {"": torch.cat([alone, expected[1:]])})
    batch["input_ids"][1, 3] = 7
    with pytest.raises(ValueError, match="end token"):
        ours(**batch)


@pytest.mark.parametrize("family", ["bart", "mbart"])
def test_question_answering(tmp_path, family):
    theirs, ours = pair(family, tmp_path / "theirs", "ForQuestionAnswering")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    batch = rows_with_ends(theirs.config)
    expected, found = theirs(**batch), ours(**batch)
    for name in ("start_logits", "end_logits"):
        assert_equal({name: found[name]}, {name: expected[name]})
    # Without padding: with it, theirs lets padding compete for the answer.
    batch = rows_with_ends(theirs.config, ends=(8, 8, 8))
    spans = {"start_positions": torch.tensor([1, 4, 9]), "end_positions": torch.tensor([2, 8, 9])}
    expected, found = (model(**batch, **spans).loss for model in (theirs, ours))
    torch.testing.assert_close(found, expected)
    assert_read_back(ours, theirs, "QuestionAnswering", tmp_path / "ours")
