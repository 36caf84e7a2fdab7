"""What bertlite saves is transformers' own wherever that computes the same; else code travels."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import transformers
from cases import bert_config, randomize, transformer_config
from pairs import HEADS

import bertlite

IDS = torch.tensor([[2, 5, 9, 20, 7, 3], [2, 8, 4, 3, 0, 0]])
MASK = (IDS > 0).long()
AUTO = {"Model": "AutoModel", "ForConditionalGeneration": "AutoModelForSeq2SeqLM"}


def make(family: str, head: str, **fields) -> torch.nn.Module:
    if head == "ForQuestionAnswering":
        fields = {"num_labels": 2, **fields}
    config = (bert_config if family == "BertLite" else transformer_config)(**fields)
    return randomize(getattr(bertlite, f"{family}{head}")(config))


def fields_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_same(ours: torch.nn.Module, theirs: torch.nn.Module, head: str) -> None:
    """At real tokens: what stands at padding is nobody's."""
    batch = {"input_ids": IDS, "attention_mask": MASK}
    if head == "ForMultipleChoice":
        batch = {name: value[None] for name, value in batch.items()}
    if ours.config.is_encoder_decoder:
        batch |= {"decoder_input_ids": IDS, "use_cache": False}
    with torch.no_grad():
        found, expected = ours.eval()(**batch), theirs.eval()(**batch)
    compared = 0
    for name, value in expected.items():
        other = found[name]
        if value.shape[:2] == IDS.shape:
            value, other = value[MASK.bool()], other[MASK.bool()]
        torch.testing.assert_close(other, value, atol=1e-6, rtol=1e-6)
        compared += value.numel()
    assert compared


def assert_plain(ours: torch.nn.Module, folder: Path, head: str) -> None:
    """The library's Auto class loads its own class, without a word of ours, and it is the same."""
    ours.save_pretrained(folder)
    assert not {name for name in names_in(folder) if name.endswith(".py")}
    fields = fields_of(folder)
    assert fields["model_type"] == ("marian" if ours.config.is_encoder_decoder else "bert")
    assert "auto_map" not in fields
    loader = getattr(transformers, AUTO.get(head, f"AutoModel{head}"))
    theirs, info = loader.from_pretrained(folder, output_loading_info=True)
    assert type(theirs).__module__.startswith("transformers.models.")
    assert fields["architectures"] == [type(theirs).__name__]
    assert not [name for name in info["missing_keys"] if "embed_positions" not in name]
    assert not info["unexpected_keys"]
    assert_same(ours, theirs, head)
    again = type(ours).from_pretrained(folder)
    assert all(
        torch.equal(left, right)
        for left, right in zip(ours.state_dict().values(), again.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("head", HEADS)
def test_every_head_of_bert(head, tmp_path):
    assert_plain(make("BertLite", head), tmp_path, head)


@pytest.mark.parametrize("head", ["Model", "ForConditionalGeneration"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 53},
        {"tie_word_embeddings": False},
    ],
    ids=["shared", "separate", "untied"],
)
def test_every_class_of_the_transformer(head, fields, tmp_path):
    assert_plain(make("TransformerLite", head, **fields), tmp_path, head)


# Every field that may change what is computed, and a value that is not the default. A field that
# is new in a configuration belongs into one of these tables, or into `OF_TRAINING`.
BERT_FIELDS = {
    "vocab_size": 70,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "hidden_act": "relu",
    "max_position_embeddings": 12,
    "type_vocab_size": 3,
    "layer_norm_eps": 0.1,
    "pad_token_id": 4,
    "eos_token_id": 6,
    "bos_token_id": 6,
    "tie_word_embeddings": False,
    "norm_first": True,
    "position_embedding_type": "sinusoidal",
    "unpad_inputs": False,
    "heads_per_layer": [4, 2],
    "intermediate_sizes": [48, 20],
}
MARIAN_FIELDS = {
    "vocab_size": 70,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 20,
    "activation_function": "relu",
    "max_position_embeddings": 12,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "normalize_embedding": True,
    "layer_norm_eps": 0.1,
    "scale_embedding": False,
    "pad_token_id": 4,
    "eos_token_id": 6,
    "bos_token_id": 6,
    "decoder_start_token_id": 7,
    "forced_eos_token_id": 6,
    "tie_word_embeddings": False,
    "share_encoder_decoder_embeddings": False,
    "norm_first": True,
    "unpad_inputs": False,
    "use_cache": False,
    "encoder_heads_per_layer": [2, 1],
    "decoder_heads_per_layer": [2, 1],
    "cross_heads_per_layer": [2, 1],
    "encoder_ffn_dims": [48, 20],
    "decoder_ffn_dims": [48, 20],
}
OF_TRAINING = {
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "decoder_layerdrop",
    "dropout",
    "encoder_layerdrop",
    "hidden_dropout_prob",
    "init_std",
    "initializer_range",
    "label_smoothing",
    "loss_chunk_size",
}
# Families other than Marian: tests/test_oracle_seq2seq_families.py.
FIXED = {"is_decoder", "is_encoder_decoder", "decoder_vocab_size", "family"}
NOT_PLAIN = {
    "norm_first": "BertLite TransformerLite",
    "position_embedding_type": "BertLite TransformerLite",
    "type_vocab_size": "TransformerLite",
    "normalize_embedding": "TransformerLite",
    "layer_norm_eps": "TransformerLite",
    "heads_per_layer": "BertLite",
    "intermediate_sizes": "BertLite",
    "encoder_heads_per_layer": "TransformerLite",
    "decoder_heads_per_layer": "TransformerLite",
    "cross_heads_per_layer": "TransformerLite",
    "encoder_ffn_dims": "TransformerLite",
    "decoder_ffn_dims": "TransformerLite",
}
EVERY_FIELD = [("BertLite", each) for each in BERT_FIELDS]
EVERY_FIELD += [("TransformerLite", each) for each in MARIAN_FIELDS]


@pytest.mark.parametrize(("family", "field"), EVERY_FIELD)
def test_a_field_changes_nothing_that_a_plain_folder_does_not_say(family, field, tmp_path):
    """Either transformers computes the same with it, or the folder is not called plain."""
    table = BERT_FIELDS if family == "BertLite" else MARIAN_FIELDS
    head = "ForPreTraining" if family == "BertLite" else "ForConditionalGeneration"
    ours = make(family, head, **{field: table[field]})
    if family in NOT_PLAIN.get(field, ""):
        ours.save_pretrained(tmp_path)
        fields = fields_of(tmp_path)
        assert fields["model_type"] == family.lower()
        assert fields["auto_map"] == ours.auto_map
        assert {f"{path.split('.')[0]}.py" for path in ours.auto_map.values()} < names_in(tmp_path)
        return
    assert_plain(ours, tmp_path, head)


def test_no_field_is_forgotten():
    for config, table in [
        (bertlite.BertLiteConfig, BERT_FIELDS),
        (bertlite.TransformerLiteConfig, MARIAN_FIELDS),
    ]:
        library = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
        own = {field.name for field in dataclasses.fields(config)} - library
        forgotten = own - set(table) - OF_TRAINING - FIXED
        assert not forgotten, "a new field: say what a plain folder does with it"


@pytest.mark.parametrize("name", sorted(bertlite.PRESETS))
def test_transformers_reads_every_default(name, tmp_path):
    """A field that a file leaves out is read as the other side's default: they must be the same."""
    config = bertlite.preset(name)
    plain = config.plain_model_type()
    config.save_pretrained(tmp_path)
    if plain is None:
        return
    (tmp_path / "config.json").write_text(
        json.dumps({**fields_of(tmp_path), "model_type": plain}), encoding="utf-8"
    )
    theirs = transformers.AutoConfig.from_pretrained(tmp_path).to_dict()
    ours = config.to_dict()
    theirs_only = {"use_cache", "add_cross_attention", "model_type", "_name_or_path"}
    assert {name: ours.get(name) for name in theirs.keys() - theirs_only} == {
        name: value for name, value in theirs.items() if name not in theirs_only
    }


def test_generation_settings_go_with_it(tmp_path):
    ours = make("TransformerLite", "ForConditionalGeneration")
    ours.generation_config.num_beams = 3
    ours.generation_config.max_new_tokens = 7
    ours.save_pretrained(tmp_path)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(theirs) is transformers.MarianMTModel
    words = ours.generate(IDS, attention_mask=MASK)
    assert torch.equal(words, theirs.generate(IDS, attention_mask=MASK))


def test_what_only_bertlite_knows_stays_in_the_config(tmp_path):
    ours = make("BertLite", "ForSequenceClassification", loss_chunk_size=7, unpad_inputs=False)
    ours.config.calibration_temperature = 1.5
    ours.save_pretrained(tmp_path / "first")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "first")
    theirs.save_pretrained(tmp_path / "second")  # and on the way through transformers
    for folder in ("first", "second"):
        again = type(ours).from_pretrained(tmp_path / folder).config
        assert again.model_type == "bertlite"
        assert (again.loss_chunk_size, again.unpad_inputs) == (7, False)
        assert again.calibration_temperature == 1.5


def test_code_on_request(tmp_path):
    """The folder is still plain, and whoever trusts the code may have it."""
    ours = make("BertLite", "ForMaskedLM")
    ours.save_pretrained(tmp_path, with_code=True)
    fields = fields_of(tmp_path)
    assert (fields["model_type"], fields["architectures"]) == ("bert", ["BertForMaskedLM"])
    assert fields["auto_map"] == ours.auto_map
    loader = transformers.AutoModelForMaskedLM
    assert type(loader.from_pretrained(tmp_path)) is transformers.BertForMaskedLM
    # Where bertlite is imported, its class comes before that of the folder.
    trusted = loader.from_pretrained(tmp_path, trust_remote_code=True)
    assert type(trusted) is bertlite.BertLiteForMaskedLM
    assert_same(ours, trusted, "ForMaskedLM")
    ours.code_travels = True  # for Trainer, which hands on no argument
    ours.save_pretrained(tmp_path / "third")
    assert fields_of(tmp_path / "third") == fields
    ours.save_pretrained(tmp_path / "fourth", with_code=False)
    assert "auto_map" not in fields_of(tmp_path / "fourth")


def test_saving_plainly_over_a_folder_with_code(tmp_path):
    ours = make("BertLite", "Model")
    ours.save_pretrained(tmp_path, with_code=True)
    again = type(ours).from_pretrained(tmp_path)
    again.save_pretrained(tmp_path)
    assert "auto_map" not in fields_of(tmp_path)
    trusted = transformers.AutoModel.from_pretrained(tmp_path, trust_remote_code=True)
    assert type(trusted) is transformers.BertModel
