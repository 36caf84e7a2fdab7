"""Families beside BERT: transformers' own classes hold the numbers, both ways."""

import json
import pickle

import backend_contracts  # noqa: F401, enters its checks
import contracts
import pytest
import torch
import transformers
from cases import BERT
from contracts import assert_equal
from family_cases import DISTINCT, SETTINGS, batch_of, cases, pair

import bertlite
from bertlite.models.families import FAMILIES

EVERY_HEAD = [(family, head) for family in SETTINGS for head in FAMILIES[family].heads]
EVERY_SETTING = [
    (family, head, setting)
    for family, head in EVERY_HEAD
    for setting in range(len(SETTINGS[family]))
]


def case_of(family: str, head: str, setting: int = 0):
    (case,) = (each for each in cases(family) if each.model_class.__name__.endswith(head))
    return case.on(config={**case.config, **SETTINGS[family][setting]})


@pytest.mark.processor
@pytest.mark.parametrize(("family", "head", "setting"), EVERY_SETTING)
def test_outputs_are_theirs(tmp_path, family, head, setting):
    """Padding right, left and none; both implementations; the plain core and the backend."""
    theirs, ours = pair(family, head, tmp_path, setting)
    case = case_of(family, head, setting)
    with torch.no_grad():
        for side in ("right", "left", None):
            batch = batch_of(case, side)
            expected = case.real(theirs(**batch), batch)
            for attention in ("eager", "sdpa"):
                ours.set_attn_implementation(attention)
                assert_equal(case.real(ours(**batch), batch), expected)
                for backend in ("plain", "auto"):
                    bertlite.use_backend(ours, backend)
                    assert_equal(case.real(ours(**batch), batch), expected)


@pytest.mark.processor
@pytest.mark.parametrize(("family", "head"), [each for each in EVERY_HEAD if each[1] != "Model"])
def test_losses_are_theirs(tmp_path, family, head):
    case = case_of(family, head)
    theirs, ours = pair(family, head, tmp_path)
    batch = batch_of(case, None if head == "ForQuestionAnswering" else "right")
    mask = torch.ones_like(batch["input_ids"])
    labels = case.make_labels({"attention_mask": mask, **batch})
    if "replaced" in case.labels.values():  # their discriminator takes a label for every token
        labels = {name: each.clamp(min=0) for name, each in labels.items()}
    expected = theirs(**batch, **labels).loss
    for model in (ours.eval(), ours.train()):  # the config has no dropout
        torch.testing.assert_close(model(**batch, **labels).loss, expected)


@pytest.mark.parametrize(("family", "head"), EVERY_HEAD)
def test_what_is_saved_is_theirs(tmp_path, family, head):
    """Their class reads it with nothing missing, nothing left over and not a bit changed."""
    case = case_of(family, head)
    ours = case.model()
    ours.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == family
    assert config["architectures"] == [FAMILIES[family].stem + head]
    theirs, report = getattr(transformers, FAMILIES[family].stem + head).from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(report.values()), report
    found, expected = theirs.state_dict(), ours.state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert type(bertlite.load(tmp_path)) is type(ours)


@pytest.mark.parametrize("family", SETTINGS)
def test_what_a_folder_lacks_is_initialised(family):
    """Of every head, to numbers: memory that nobody has written to is NaN here."""
    torch.use_deterministic_algorithms(True)
    try:
        for head in FAMILIES[family].heads:
            case = case_of(family, head)
            config = case.model_class.config_class(**{**BERT, **case.config})
            model = case.model_class.from_pretrained(
                None, config=config, state_dict={}, output_loading_info=True
            )[0]
            tensors = [*model.named_parameters(), *model.named_buffers()]
            assert not [name for name, each in tensors if not each.isfinite().all()], head
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("family", SETTINGS)
def test_one_training_step_is_theirs(tmp_path, family):
    """The gradient of every weight."""
    theirs, ours = pair(family, "ForMaskedLM", tmp_path)
    case = case_of(family, "ForMaskedLM")
    batch = batch_of(case, "right")
    labels = case.make_labels(batch)
    gradients = []
    for model in (ours, theirs):
        model.train()(**batch, **labels).loss.backward()
        named = model.named_parameters(remove_duplicate=False)  # a tie has the name that is first
        gradients.append({name: each.grad for name, each in named})
    assert_equal(*gradients)


def contracts_of(family: str, heads: tuple[str, ...]) -> list:
    """The contracts of some heads, in fp32, but those that its page says it does not keep."""
    wanted = [case for case in cases(family) if case.model_class.__name__.endswith(heads)]
    found = [each for each in contracts.matrix(wanted) if each.id.endswith("float32")]
    return [each for each in found if not any(name in each.id for name in KEPT_NOT.get(family, ()))]


# ALBERT's layers are one module in several turns, whose attention ends where theirs does not.
# ModernBERT's attention has one dropout, not two: test_modernbert.py looks at each.
KEPT_NOT = {"albert": ("hooks", "gradient_checkpointing"), "modernbert": ("determinism",)}
# Of other heads they were run once: they share all of this but the last lines.
HEADS = ("Model", "ForMaskedLM")


@pytest.mark.slow
@pytest.mark.processor
@pytest.mark.parametrize(
    ("case", "check"), [each for family in DISTINCT for each in contracts_of(family, HEADS)]
)
def test_contract(case, check, device):
    check(case.on(device=device))


TASKS = {
    "base": "Model",
    "masked-lm": "ForMaskedLM",
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
}


@pytest.mark.parametrize("task", TASKS)
def test_load_finds_the_class_of_a_task(tmp_path, task):
    cases("roberta")[1].model().save_pretrained(tmp_path)
    model = bertlite.load(tmp_path, task, num_labels=5)
    assert type(model).__name__ == f"Roberta{TASKS[task]}"
    assert type(model).__module__ == "bertlite.models.roberta"
    assert model.config.num_labels == 5
    assert not model.training


def test_load_knows_the_first_two_families(tmp_path):
    for source in (
        transformers.BertForTokenClassification,
        bertlite.BertLiteForTokenClassification,
    ):
        source(source.config_class(**BERT)).save_pretrained(tmp_path / source.__name__)
        model = bertlite.load(tmp_path / source.__name__)
        assert type(model) is bertlite.BertLiteForTokenClassification
    config = {"vocab_size": 61, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    config |= {"pad_token_id": 0, "decoder_start_token_id": 0}
    transformers.MarianMTModel(transformers.MarianConfig(**config)).save_pretrained(tmp_path / "m")
    for task in (None, "translation", "summarization"):
        model = bertlite.load(tmp_path / "m", task)
        assert type(model) is bertlite.TransformerLiteForConditionalGeneration


def test_load_refuses(tmp_path):
    with pytest.raises(ValueError, match=r"task must be one of base, .*, got 'sorting'"):
        bertlite.load(tmp_path, "sorting")
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"model_type must be one of .*roberta.*, got 'gpt2'"):
        bertlite.load(tmp_path)
    config = {"model_type": "roberta", "architectures": ["RobertaForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="RobertaForMaskedLM.*got RobertaForCausalLM"):
        bertlite.load(tmp_path)
    with pytest.raises(ValueError, match="a roberta can do, base, masked-lm.*got 'translation'"):
        bertlite.load(tmp_path, "translation")


@pytest.mark.parametrize("family", ["camembert", "xlm-roberta"])
def test_a_renamed_class_is_found_by_its_name(family):
    """Where a pickle and `inspect` look for it, and with its own base below a head."""
    for case in cases(family):
        model = case.model()
        copied = pickle.loads(pickle.dumps(model))
        assert type(copied) is type(model)
        assert type(copied).__name__.startswith(FAMILIES[family].stem)
        assert type(model.base_model).__name__ == FAMILIES[family].stem + "Model"
        assert type(model).config_class is FAMILIES[family].get(FAMILIES[family].stem + "Config")


def test_no_code_travels_with_a_family(tmp_path):
    cases("camembert")[0].model().save_pretrained(tmp_path, with_code=True)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_a_family_reads_no_other(tmp_path):
    cases("camembert")[0].model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type 'camembert'; RobertaConfig reads only"):
        FAMILIES["roberta"].model("Model").from_pretrained(tmp_path)


@pytest.mark.parametrize("fields", [{"norm_first": True}, {"is_decoder": True}])
def test_what_a_family_has_not_is_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"RobertaConfig: {name} must be False"):
        FAMILIES["roberta"].get("RobertaConfig")(**fields)


def test_rows_are_as_long_as_positions_allow():
    """Two of RoBERTa's 40 positions stand before the first token."""
    model = cases("roberta")[0].model()
    ids = torch.full((1, 39), 7)
    assert model(ids[:, :38]).last_hidden_state.shape == (1, 38, 32)
    with pytest.raises(ValueError, match="at most 38 tokens a row"):
        model(ids)
