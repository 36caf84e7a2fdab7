"""What the library and the house ask of classes and sizes, beyond what a forward pass shows."""

import ast
import inspect
import subprocess
import sys

import pytest
import torch
import transformers
from cases import bert_config, transformer_config
from transformers import GenerationMixin, PreTrainedModel
from transformers.utils.generic import find_labels

import bertlite
from bertlite.models.attention import Attention
from bertlite.models.auto import CONFIGS, MODELS

CLASSES = {
    name: value
    for name, value in ((name, getattr(bertlite, name)) for name in bertlite.__all__)
    if inspect.isclass(value) and issubclass(value, PreTrainedModel)
}
EVERY_CLASS = pytest.mark.parametrize("name", CLASSES)
LABELS = {
    "BertLiteModel": [],
    "BertLiteForPreTraining": ["labels", "next_sentence_label"],
    "BertLiteForQuestionAnswering": ["start_positions", "end_positions"],
    "TransformerLiteModel": [],
    "TransformerLiteForQuestionAnswering": ["start_positions", "end_positions"],
}


def config_of(name: str, **overrides):
    return (transformer_config if name.startswith("Transformer") else bert_config)(**overrides)


@EVERY_CLASS
def test_label_names(name):
    """Those that `Trainer` looks for, by signature and by class name."""
    assert find_labels(CLASSES[name]) == LABELS.get(name, ["labels"])


@EVERY_CLASS
def test_class_attributes(name):
    model_class = CLASSES[name]
    model = model_class(config_of(name))
    assert model_class.main_input_name == "input_ids"
    assert model_class.base_model_prefix == ("model" if name.startswith("Transformer") else "bert")
    assert model.base_model is (
        model if name.endswith("Model") else getattr(model, model_class.base_model_prefix)
    )
    assert type(model_class._tied_weights_keys) in (dict, type(None))
    assert model_class.supports_gradient_checkpointing
    assert model_class._can_compile_fullgraph
    assert model_class._supports_sdpa
    assert model_class._supports_flash_attn
    assert model_class._supports_flex_attn
    assert model_class._supports_attention_backend


def test_generation_is_inherited_directly():
    generates = [
        name for name, model_class in CLASSES.items() if GenerationMixin in model_class.__bases__
    ]
    assert generates == ["TransformerLiteForConditionalGeneration"]
    assert [
        name for name, model_class in CLASSES.items() if model_class.can_generate()
    ] == generates


def test_the_library_finds_the_attention_interface_in_the_source():
    module = inspect.getsource(inspect.getmodule(Attention))
    assert "ALL_ATTENTION_FUNCTIONS.get_interface(" in module


@EVERY_CLASS
def test_every_attention_says_whether_it_is_causal(name):
    """Sdpa takes a module without `is_causal` as causal; only the decoder's look at itself is."""
    model = CLASSES[name](config_of(name))
    found = {
        path: module.is_causal
        for path, module in model.named_modules()
        if isinstance(module, Attention)
    }
    assert found
    assert found == {path: "decoder" in path and path.endswith("self_attn") for path in found}


@EVERY_CLASS
def test_every_tensor_is_a_parameter_or_a_buffer(name):
    for path, module in CLASSES[name](config_of(name)).named_modules():
        loose = [key for key, value in vars(module).items() if isinstance(value, torch.Tensor)]
        assert not loose, f"{path}: {loose}"


@EVERY_CLASS
def test_initial_weights(name):
    """N(0, 0.02) for matrices and embeddings, 0 for biases and padding, 1 for a norm's scale."""
    model = CLASSES[name](config_of(name, vocab_size=997))
    for path, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert path.endswith("embed_positions.weight")  # computed: see the next test
        elif path.endswith("bias"):
            assert not parameter.any(), path
        elif "norm" in path.lower():
            assert (parameter == 1).all(), path
        elif parameter.numel() > 500:
            assert abs(parameter.std() - 0.02) < 0.003, path
            assert abs(parameter.mean()) < 0.005, path
    words = model.get_input_embeddings()
    assert not words.weight[words.padding_idx].any()


@EVERY_CLASS
def test_weights_missing_from_a_file_are_initialised(name, tmp_path):
    """As from the meta device: a head that the file lacks, and the tables that no file holds."""
    family = "TransformerLite" if name.startswith("Transformer") else "BertLite"
    CLASSES[f"{family}Model"](config_of(name)).save_pretrained(tmp_path)
    model = CLASSES[name].from_pretrained(tmp_path)
    for path, tensor in [*model.named_parameters(), *model.named_buffers()]:
        assert not tensor.is_meta, path
        assert tensor.isfinite().all(), path
        if path.endswith("position_ids"):
            assert torch.equal(tensor, torch.arange(40)[None])
        else:
            assert tensor.abs().max() < 2, path
    if family == "TransformerLite":
        expected = transformers.models.marian.modeling_marian.MarianSinusoidalPositionalEmbedding(
            40, 32
        )
        for stack in (model.get_encoder(), model.get_decoder()):
            torch.testing.assert_close(stack.embed_positions.weight, expected.create_weight())


@pytest.mark.parametrize("make", [bert_config, transformer_config])
def test_config_survives_json(make, tmp_path):
    config = make(num_labels=4, id2label={i: f"label {i}" for i in range(4)}, norm_first=True)
    config.save_pretrained(tmp_path)
    loaded = type(config).from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert loaded.num_labels == 4
    assert loaded.id2label[3] == "label 3"
    loaded._attn_implementation = "eager"
    assert loaded._attn_implementation == "eager"


@EVERY_CLASS
def test_auto_classes_know_the_class(name):
    family = (
        bertlite.TransformerLiteConfig
        if name.startswith("Transformer")
        else bertlite.BertLiteConfig
    )
    task = {"ForConditionalGeneration": "ForSeq2SeqLM", "Model": ""}
    suffix = name.removeprefix("TransformerLite").removeprefix("BertLite")
    auto = getattr(transformers, f"AutoModel{task.get(suffix, suffix)}")
    assert type(auto.from_config(config_of(name))) is CLASSES[name]
    assert isinstance(transformers.AutoConfig.for_model(family.model_type), family)


@pytest.mark.parametrize(
    ("name", "published", "rounding"),
    [
        ("transformer-base", 65e6, 1e6),
        ("transformer-big", 213e6, 1e6),
        ("bert-base", 110e6, 10e6),
        ("bert-large", 340e6, 10e6),
        ("bert-medium", 41.4e6, 0.1e6),
        ("bert-small", 28.8e6, 0.1e6),
        ("bert-mini", 11.2e6, 0.1e6),
        ("bert-tiny", 4.4e6, 0.1e6),
    ],
)
def test_parameters_of_the_presets(name, published, rounding):
    """As published (Vaswani et al.

    table 3; Devlin et al. section 3; Turc et al. table 1 for the small ones).
    """
    config = bertlite.preset(name)
    generates = config.is_encoder_decoder
    with torch.device("meta"):
        model = (
            bertlite.TransformerLiteForConditionalGeneration
            if generates
            else bertlite.BertLiteModel
        )(config)
        model.tie_weights()
    count = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert round(count / rounding) == round(published / rounding), f"{count:,}"


def test_unknown_presets_are_refused():
    with pytest.raises(ValueError, match="bert-base.*'bert-huge'"):
        bertlite.preset("bert-huge")


def test_auto_lists_what_the_saved_config_lists():
    """The names of the Auto classes, once here for `import bertlite` and once in a saved
    `auto_map`.
    """
    for model_type, classes in MODELS.items():
        config_class = getattr(bertlite, CONFIGS[model_type])
        saved = next(
            model.auto_map for model in CLASSES.values() if model.config_class is config_class
        )
        saved = {auto_class: path.split(".")[1] for auto_class, path in saved.items()}
        assert saved.pop("AutoConfig") == CONFIGS[model_type]
        assert {
            name: model for name, model in classes.items() if name != "AutoModelForTextEncoding"
        } == saved
        for auto_class, name in classes.items():
            mapping = getattr(transformers, auto_class)._model_mapping
            assert mapping[config_class] is getattr(bertlite, name)
            assert config_class in mapping
        assert transformers.AutoConfig.for_model(model_type).__class__ is config_class


def test_public_names():
    assert sorted(bertlite.__all__) == sorted(bertlite.MODULES)
    assert set(bertlite.__all__) <= set(dir(bertlite))
    with pytest.raises(AttributeError, match="no attribute 'Bert'"):
        _ = bertlite.Bert


LOADED = """
import sys
import torch, transformers
before = set(sys.modules)
import bertlite
print(sorted(set(sys.modules) - before))
bertlite.BertLiteConfig, transformers.AutoModelForMaskedLM
"""


@pytest.mark.slow
def test_import_adds_little():
    """Nothing but four small files: the rest is imported when it is used, as in transformers."""
    run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert ast.literal_eval(run.stdout) == [
        "bertlite",
        "bertlite.models",
        "bertlite.models.auto",
        "bertlite.version",
    ]
