"""Damaged and hostile files: each reader gives a named error or right values, and never runs code.

Hypothesis makes the damage. A few inputs each run with the other tests; `make fuzz` runs thousands.
"""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from google_bert import CONFIG, VOCABULARY
from hostile_cases import (  # noqa: F401
    bert_folder,
    copy_of,
    scratch_folder,
    silent_library,
)
from huggingface_hub.errors import StrictDataclassError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

import bertlite
from bertlite.cli.main import main
from bertlite.conversion import load_tensorflow_checkpoint, save_tensorflow_checkpoint
from bertlite.data import prepare

# Errors that a user can act on: a library's own words, one line on the command line.
NAMED = (ValueError, OSError, StrictDataclassError)
FEW = settings(
    max_examples=int(os.environ.get("BERTLITE_FUZZ", "25")),
    deadline=None,
    derandomize="BERTLITE_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],  # to explain is to trace, which is slow
)

FIELDS = sorted(BertConfig().to_dict())
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["gelu", "eager", "../x", "float16", "bert", 1e308, -1, 0, 1]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def damage(draw):
    """A function of bytes: cuts, flips, insertions, repetitions at places between 0 and 1."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["cut", "flip", "put", "drop", "twice"]),
                st.floats(0, 1),
                st.binary(min_size=1, max_size=8),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def apply(content: bytes) -> bytes:
        for kind, share, extra in steps:
            place = int(share * len(content))
            before, after = content[:place], content[place:]
            content = {
                "cut": before,
                "flip": before + bytes(each ^ extra[0] for each in after[:4]) + after[4:],
                "put": before + extra + after,
                "drop": before + after[len(extra) :],
                "twice": before + after[:40] + after,
            }[kind]
        return content

    return apply


@FEW
@given(changes=st.dictionaries(st.sampled_from(FIELDS), json_values, min_size=1))
def test_a_config_is_refused_or_right(bert, scratch, changes):
    folder = copy_of(bert, scratch)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    try:
        bertlite.BertLiteModel.from_pretrained(folder)
    except NAMED:
        return


@FEW
@given(harm=damage())
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_model_is_refused_or_read_as_it_is(bert, scratch, name, harm):
    folder = copy_of(bert, scratch)
    (folder / name).write_bytes(harm((folder / name).read_bytes()))
    try:
        bertlite.BertLiteModel.from_pretrained(folder)
    except NAMED:
        return


class Touch:
    """What a pickle does that runs code: it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@FEW
@given(harm=damage(), protocol=st.integers(0, 5), nested=st.booleans())
def test_a_pickle_never_runs_code(bert, scratch, harm, protocol, nested):
    folder = copy_of(bert, scratch)
    mark = scratch / "mark"
    (folder / "model.safetensors").unlink()
    value = Touch(mark)
    raw = pickle.dumps({"embeddings.weight": [value] if nested else value}, protocol=protocol)
    for content in (raw, harm(raw)):
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(NAMED):
            bertlite.BertLiteModel.from_pretrained(folder)
        assert not mark.exists()


@FEW
@given(harm=damage())
def test_a_damaged_torch_file_is_refused_or_read_as_it_is(bert, scratch, harm):
    folder = copy_of(bert, scratch)
    state = BertModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    path = folder / "pytorch_model.bin"
    path.write_bytes(harm(path.read_bytes()))
    try:
        bertlite.BertLiteModel.from_pretrained(folder)
    except NAMED:
        return


@FEW
@given(
    name=st.sampled_from(["../outside.safetensors", "/etc/passwd", "..", "", "a/../../x"])
    | st.text(max_size=20),
    values=json_values,
)
def test_an_index_leads_nowhere_else(bert, scratch, name, values):
    folder = copy_of(bert, scratch)
    shutil.copy(folder / "model.safetensors", scratch / "outside.safetensors")
    names = list(BertModel.from_pretrained(folder).state_dict())
    (folder / "model.safetensors").unlink()
    for index in ({"metadata": {}, "weight_map": dict.fromkeys(names, name)}, values):
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(NAMED):
            bertlite.BertLiteModel.from_pretrained(folder)


ROWS = {
    "rows.csv": (
        "sequence-classification",
        b'text,label\na film,good\n"a, b",bad\nlong,good\nx,bad\n',
    ),
    "rows.tsv": (
        "sequence-classification",
        b"text\tlabel\na film\tgood\nb\tbad\nc\tgood\nd\tbad\n",
    ),
    "rows.jsonl": (
        "sequence-classification",
        b'{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n{"text": "c", "label": "x"}\n',
    ),
    "rows.conll": ("token-classification", b"Ada B-PER\nlives O\n\nin O\nLondon B-LOC\n\n"),
    "squad.json": (
        "question-answering",
        json.dumps(
            {
                "data": [
                    {
                        "title": "t",
                        "paragraphs": [
                            {
                                "context": "Ada lived in London.",
                                "qas": [
                                    {
                                        "id": "1",
                                        "question": "Where?",
                                        "answers": [{"text": "London", "answer_start": 13}],
                                    }
                                ],
                            }
                        ],
                    }
                ]
            }
        ).encode(),
    ),
    "pairs.jsonl": ("translation", b'{"translation": {"en": "a", "de": "b"}}\n' * 3),
    "choices.jsonl": (
        "multiple-choice",
        b'{"question": "q", "choices": ["a", "b"], "label": 0}\n' * 3,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_an_undamaged_data_file_is_read(scratch, name):
    task, content = ROWS[name]
    (scratch / name).write_bytes(content)
    assert len(prepare(task, train=str(scratch / name)).train)


@FEW
@given(harm=damage())
@pytest.mark.parametrize("name", ROWS)
def test_a_damaged_data_file_is_refused_or_read(scratch, name, harm):
    task, content = ROWS[name]
    path = scratch / name
    path.write_bytes(harm(content))
    try:
        prepare(task, train=str(path), on_bad_row="skip")
    except NAMED:
        return


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    """A checkpoint of TensorFlow's format."""
    pytest.importorskip("tensorflow", reason="TensorFlow reads its own files")
    folder = tmp_path_factory.mktemp("google")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    model = bertlite.BertLiteForPreTraining(bertlite.BertLiteConfig(**CONFIG))
    save_tensorflow_checkpoint(model, folder / "bert_model.ckpt")
    assert load_tensorflow_checkpoint(folder / "bert_model.ckpt")
    return folder


@pytest.mark.slow
@FEW
@given(harm=damage(), which=st.integers(0, 20))
def test_a_damaged_tensorflow_checkpoint_is_refused_or_read(google, scratch, harm, which):
    folder = copy_of(google, scratch)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    path = files[which % len(files)]
    path.write_bytes(harm(path.read_bytes()))
    try:
        load_tensorflow_checkpoint(folder / "bert_model.ckpt")
    except NAMED:
        return


@pytest.mark.slow
@FEW
@given(words=st.lists(st.text(min_size=1, max_size=12), max_size=4))
@pytest.mark.parametrize("command", ["finetune", "predict", "evaluate", "pretrain", "convert"])
def test_a_command_line_of_any_words_is_refused_in_words(command, words, capsys, tmp_path_factory):
    here = Path.cwd()
    os.chdir(tmp_path_factory.getbasetemp())
    try:
        status = main([command, *(word.replace("\0", " ") for word in words)])
    except SystemExit as stop:
        status = stop.code
    finally:
        os.chdir(here)
    assert status in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
