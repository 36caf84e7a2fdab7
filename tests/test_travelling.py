"""A saved folder in other hands.

Without bertlite, with it, in pipelines, on the hub, and after a kill.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import transformers
from cases import bert_config, randomize, transformer_config
from transformers import AutoTokenizer, BertTokenizer, pipeline

import bertlite

SCRIPTS = Path(__file__).parent / "scripts"
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "dull",
    "film",
    "good",
    "the",
    "was",
    ".",
    "##s",
]
PRE_NORM = {"norm_first": True}


def families() -> dict:
    """One model of each family that no class of transformers computes."""
    return {
        "bert": bertlite.BertLiteForMaskedLM(bert_config(**PRE_NORM, vocab_size=len(WORDS))),
        "transformer": bertlite.TransformerLiteForConditionalGeneration(
            transformer_config(**PRE_NORM)
        ),
    }


def run(script: str, *arguments, **environment) -> subprocess.CompletedProcess:
    """A fresh Python process; a failure shows its output."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


@pytest.fixture(params=["bert", "transformer"])
def saved(request, tmp_path) -> Path:
    """A folder with a model, and for BERT a tokenizer."""
    model = families()[request.param]
    randomize(model).save_pretrained(tmp_path / "saved")
    if request.param == "bert":
        make_tokenizer(tmp_path).save_pretrained(tmp_path / "saved")
    auto_map = json.loads((tmp_path / "saved/config.json").read_text())["auto_map"]
    assert auto_map == model.auto_map
    return tmp_path / "saved"


def make_tokenizer(folder: Path) -> BertTokenizer:
    """A BERT tokenizer of a few words."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    return BertTokenizer(vocab=vocabulary)


@pytest.mark.slow
def test_every_auto_class_loads_it_without_bertlite(saved, tmp_path):
    config = json.loads((saved / "config.json").read_text())
    modules = {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    run(
        "load_without_bertlite.py",
        saved,
        tmp_path / "again",
        json.dumps(sorted(config["auto_map"])),
        **modules,
    )
    again = json.loads((tmp_path / "again/config.json").read_text())
    assert again["auto_map"] == config["auto_map"]
    # What came back from there loads here, and is the same.
    auto_class = (
        "AutoModelForMaskedLM"
        if "AutoModelForMaskedLM" in config["auto_map"]
        else "AutoModelForSeq2SeqLM"
    )
    models = [
        getattr(transformers, auto_class).from_pretrained(folder)
        for folder in (saved, tmp_path / "again")
    ]
    assert all(type(model).__module__.startswith("bertlite.") for model in models)
    pairs = zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)


def test_every_auto_class_loads_it_with_bertlite(saved):
    for auto_class in json.loads((saved / "config.json").read_text())["auto_map"]:
        loaded = getattr(transformers, auto_class).from_pretrained(saved)
        assert type(loaded).__module__.startswith("bertlite.models."), auto_class


def test_a_folder_without_tokenizer_files_of_its_own_class(tmp_path):
    bertlite.BertLiteModel(bert_config()).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("a good film.")["input_ids"] == [2, 5, 8, 7, 11, 3]


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("text-classification", "ForSequenceClassification"),
        ("token-classification", "ForTokenClassification"),
        ("fill-mask", "ForMaskedLM"),
        ("feature-extraction", "Model"),
    ],
)
def test_pipelines_give_what_berts_give(task, head, tmp_path):
    model = randomize(getattr(bertlite, f"BertLite{head}")(bert_config(vocab_size=len(WORDS))))
    model.save_pretrained(tmp_path)
    make_tokenizer(tmp_path).save_pretrained(tmp_path)
    theirs = getattr(transformers, f"Bert{head}").from_pretrained(tmp_path)
    text = ["the film was [MASK] .", "a dull [MASK]"]
    answers = [
        pipeline(task, model=each, tokenizer=AutoTokenizer.from_pretrained(tmp_path))(text)
        for each in (model, theirs)
    ]
    flat = [torch.tensor(list(numbers(answer))) for answer in answers]
    assert len(flat[0]) > 1
    torch.testing.assert_close(flat[0], flat[1], atol=1e-5, rtol=0)


def numbers(answer):
    """Every number in a nested answer, in order."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list):
        for part in answer:
            yield from numbers(part)
    elif not isinstance(answer, str) and answer is not None:
        yield float(answer)


@pytest.mark.parametrize("with_code", [False, True])
@pytest.mark.parametrize("by_saving", [False, True])
def test_push_to_hub_uploads_config_weights_and_code_on_request(
    by_saving, with_code, tmp_path, monkeypatch
):
    uploaded = {}

    def create_commit(self, *args, operations=(), **kwargs):
        uploaded.update(
            {operation.path_in_repo: operation.path_or_fileobj for operation in operations}
        )
        uploaded["config"] = json.loads(Path(uploaded["config.json"]).read_text())

    class Repository:
        repo_id = "someone/model"

    monkeypatch.setattr(
        "huggingface_hub.HfApi.create_repo", lambda self, *args, **kwargs: Repository()
    )
    monkeypatch.setattr("huggingface_hub.HfApi.create_branch", lambda self, *args, **kwargs: None)
    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", create_commit)
    monkeypatch.setattr(
        "transformers.utils.hub.create_and_tag_model_card", lambda *args, **kwargs: _NoCard()
    )
    model = bertlite.BertLiteModel(bert_config())
    if by_saving:
        (tmp_path / "notes.txt").write_text("mine")
        model.save_pretrained(
            tmp_path, push_to_hub=True, repo_id="someone/model", with_code=with_code
        )
        assert "notes.txt" not in uploaded
    else:
        model.push_to_hub("someone/model", with_code=with_code)
    code = {"modeling_bertlite.py", "attention.py", "masks.py"}
    assert {"model.safetensors", "config.json", *(code if with_code else ())} <= uploaded.keys()
    assert with_code or not code & uploaded.keys()
    assert len(uploaded["config"].get("auto_map", ())) == (9 if with_code else 0)
    assert uploaded["config"]["model_type"] == "bert"


class _NoCard:
    def save(self, path):
        Path(path).write_text("")


@pytest.mark.slow
def test_a_kill_while_saving_leaves_a_folder_that_loads(tmp_path):
    folder = tmp_path / "model"
    for delay in (0.0, 0.05, 0.15, 0.4):
        command = [sys.executable, str(SCRIPTS / "save_for_ever.py"), str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline().strip() == "saved once"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        model = bertlite.BertLiteModel.from_pretrained(folder)
        values = {float(parameter.detach().flatten()[0]) for parameter in model.parameters()}
        assert len(values) == 1, "weights of two saves are mixed"
        assert sorted(path.name for path in folder.glob("*.safetensors*")) == ["model.safetensors"]
