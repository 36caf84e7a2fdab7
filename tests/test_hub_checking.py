"""What `bertlite check` and a push look at: Auto classes in fresh processes, probe and versions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from cases import bert_config, randomize, transformer_config
from safetensors.torch import load_file, save_file

import bertlite
from bertlite.cli.main import main
from bertlite.hub.checking import check_folder
from bertlite.hub.probe import check_probe, probe_inputs, write_probe
from bertlite.models.versions import TESTED_TRANSFORMERS, check_transformers

HEADS = {
    "BertLiteModel": {},
    "BertLiteForPreTraining": {"norm_first": True},
    "BertLiteForMultipleChoice": {},
    "BertLiteForTokenClassification": {"vocab_size": 5, "max_position_embeddings": 4},
    "TransformerLiteForConditionalGeneration": {},
    "TransformerLiteModel": {"norm_first": True},
}


def saved(name: str, folder: Path, **fields) -> torch.nn.Module:
    make = transformer_config if name.startswith("Transformer") else bert_config
    model = randomize(getattr(bertlite, name)(make(**{**HEADS.get(name, {}), **fields})))
    model.save_pretrained(folder)
    return model


def change_weights(folder: Path, ending: str) -> None:
    """Another value in every tensor of that name, as a wrong conversion would leave it."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    changed = {
        name: value + 0.1 if name.endswith(ending) else value for name, value in tensors.items()
    }
    assert any(not torch.equal(changed[name], value) for name, value in tensors.items())
    save_file(changed, file, metadata={"format": "pt"})


@pytest.mark.parametrize("name", HEADS)
def test_a_probe_holds_and_notices_other_weights(name, tmp_path):
    model = saved(name, tmp_path)
    probe = json.loads(write_probe(tmp_path, model).read_text())
    assert probe["outputs"]
    assert (tmp_path / "probe.json").stat().st_size < 20_000
    assert check_probe(tmp_path) == []
    assert check_probe(tmp_path, model) == []
    layer = "fc1.bias" if name.startswith("Transformer") else "intermediate.dense.bias"
    change_weights(tmp_path, layer)
    lines = check_probe(tmp_path)
    assert lines
    assert all("differs from the probe by" in line for line in lines)


def test_a_probe_notices_a_mask_that_is_not_read(tmp_path):
    """The second row has padding, and words after it would show."""
    model = saved("BertLiteForSequenceClassification", tmp_path)
    write_probe(tmp_path, model)
    blind = type(model).from_pretrained(tmp_path)
    forward = blind.forward
    blind.forward = lambda **batch: forward(**{**batch, "attention_mask": None})
    assert check_probe(tmp_path, blind)


def test_a_probe_is_of_the_weights_in_fp32(tmp_path):
    model = saved("BertLiteModel", tmp_path)
    model.half().save_pretrained(tmp_path)
    write_probe(tmp_path, model)
    assert check_probe(tmp_path) == []


def test_inputs_fit_any_sizes():
    for length in (1, 4, 512):
        config = bert_config(vocab_size=3, max_position_embeddings=length)
        inputs = probe_inputs(config)
        ids = torch.tensor(inputs["input_ids"])
        assert ids.shape == (2, min(8, length))
        assert int(ids.max()) < 3
        assert (ids[torch.tensor(inputs["attention_mask"]).bool()] != config.pad_token_id).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "must hold a probe.json"), ("{}", "must be a probe"), ("[", "must be a probe")],
)
def test_a_folder_without_a_probe_that_can_be_read(content, message, tmp_path):
    saved("BertLiteModel", tmp_path)
    if content is not None:
        (tmp_path / "probe.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        check_probe(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("BertLiteForTokenClassification", "transformers.models.bert"),
        ("BertLiteForPreTraining", "transformers_modules."),
        ("TransformerLiteForConditionalGeneration", "transformers.models.marian"),
        ("TransformerLiteModel", "transformers_modules."),
    ],
)
def test_every_auto_class_with_and_without_bertlite(name, module, tmp_path):
    write_probe(tmp_path, saved(name, tmp_path))
    report = check_folder(tmp_path, tolerance=1e-6)
    assert report.problems == []
    facts = "\n".join(report.facts)
    assert f"without bertlite, transformers {transformers.__version__}: {module}" in facts
    assert "Auto classes with bertlite: the same" in facts
    assert "Auto classes without bertlite: the same" in facts
    assert "probe.json: computes what it did" in facts


@pytest.mark.slow
def test_what_is_wrong_is_named(tmp_path, capsys):
    """Code that computes something else, weights that are not those of the probe."""
    write_probe(tmp_path, saved("BertLiteForPreTraining", tmp_path))
    file = tmp_path / "layers.py"
    text = file.read_text()
    assert "return hidden_states" in text
    file.write_text(text.replace("return hidden_states", "return 1.01 * hidden_states"))
    change_weights(tmp_path, "intermediate.dense.bias")
    assert main(["check", str(tmp_path)]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("PROBLEM")]
    assert any("AutoModelForPreTraining without bertlite: differs" in line for line in lines)
    assert any("probe.json: prediction_logits: differs" in line for line in lines)
    assert not any("with bertlite: differs" in line for line in lines)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="must be one of a saved model, with a config.json"):
        check_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="model_type must be one of .*bert.*got 'gpt2'"):
        check_folder(tmp_path)


# Versions.


@pytest.mark.parametrize("version", ["4.57.1", "5.20.2", "5.25.0", "6.0.0"])
def test_a_version_that_was_not_tested_is_refused_by_name(version):
    with pytest.raises(ImportError, match="tested with transformers 5.21 to 5.24") as caught:
        check_transformers(version)
    assert version in str(caught.value)
    assert "'transformers>=5.21,<5.25'" in str(caught.value)


def test_versions_that_were_tested_pass():
    for version in TESTED_TRANSFORMERS:
        check_transformers(f"{version}.0")


OTHER = """
import sys
import transformers
transformers.__version__ = "5.99.0"
try:
    transformers.AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
except ImportError as error:
    print("REFUSED", error)
"""


@pytest.mark.slow
def test_code_that_travelled_refuses_a_version_before_anything_is_computed(tmp_path):
    saved("TransformerLiteModel", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("REFUSED")]
    assert "5.99.0 is installed" in line
    assert "pip install" in line


TABLES = """
import sys
import transformers
from transformers.models.auto import configuration_auto, modeling_auto
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers import activations, conversion_mapping
def tables():
    mapping = modeling_auto.MODEL_MAPPING
    return [
        dict(configuration_auto.CONFIG_MAPPING._extra_content),  # of models: the library's own note
        dict(configuration_auto.CONFIG_MAPPING._mapping), dict(mapping._model_mapping),
        sorted(ALL_ATTENTION_FUNCTIONS.keys()), sorted(activations.ACT2FN),
        sorted(map(str, vars(conversion_mapping))), sorted(sys.meta_path, key=str).__len__(),
    ]
transformers.AutoModel.from_pretrained(sys.argv[2])
before = tables()
model = transformers.AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules."), type(model)
after = tables()
changed = [place for place, each in enumerate(after) if each != before[place]]
assert not changed, changed
"""


@pytest.mark.slow
def test_code_that_travelled_writes_to_no_table_of_the_process(tmp_path):
    saved("TransformerLiteModel", tmp_path / "code")
    saved("TransformerLiteModel", tmp_path / "plain", norm_first=False)
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    environment.pop("PYTHONPATH", None)
    block = "import sys; sys.modules['bertlite'] = None\n"
    script = block + TABLES
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "code"), str(tmp_path / "plain")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
