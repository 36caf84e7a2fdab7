"""Pushing and loading with the real client, against a stand-in of the hub on the loopback."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from cases import bert_config, randomize
from huggingface_hub import constants
from stand_in_hub import STRANGER, TOKEN, Fault, Hub, serve
from transformers import BertTokenizer

import bertlite
from bertlite.hub import push as pushing
from bertlite.hub.checking import FolderReport
from bertlite.hub.probe import write_probe

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dull", "film", "good", "the", "."]
NAME = "me/model"
CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-classification
model-index:
- name: model
  results:
  - task: {type: text-classification}
    dataset: {type: local, name: rows}
    metrics: [{type: accuracy, value: 0.5}]
---
# A model

## Use

load("FOLDER OR HUB NAME")

## Figures

0.5

## Data

Rows.

## Recipe

Steps.

## Limits

Many.

## Licences

Apache-2.0.
"""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The client's settings lead to the stand-in; it waits for nothing."""
    with serve() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(
            huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)
        huggingface_hub.close_session()
        yield running
    huggingface_hub.close_session()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A classifier with all that belongs to it, and some of what does not."""
    folder = tmp_path_factory.mktemp("models") / "model"
    config = bert_config(vocab_size=len(WORDS))
    model = randomize(bertlite.BertLiteForSequenceClassification(config))
    model.save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    write_probe(folder, model)
    (folder / "README.md").write_text(CARD)
    (folder / "metrics.json").write_text("{}")
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "notes.txt", ".env"):
        (folder / name).write_text("no")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5/config.json").write_text("{}")
    (folder / "checkpoint-5/optimizer.pt").write_text("no")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch) -> Path:
    """A copy to change; what the fresh processes find is tested in test_hub_checking.py."""
    import shutil

    shutil.copytree(made, tmp_path / "model")
    monkeypatch.setattr(pushing, "check_folder", lambda path: FolderReport())
    return tmp_path / "model"


def load(name: str = NAME, **kwargs) -> dict[str, torch.Tensor]:
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(name, **kwargs)
    return model.state_dict()


def assert_is(found: dict[str, torch.Tensor], folder: Path) -> None:
    wanted = load(str(folder))
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def change(folder: Path, value: float) -> None:
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias.fill_(value)
    model.save_pretrained(folder)


def test_push_and_load_by_name(hub, folder, tmp_path, monkeypatch):
    result = pushing.push(folder, NAME)
    sent = hub.files(NAME)
    assert set(sent) == {
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "probe.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert set(result.left_out) >= {"training_args.bin", "optimizer.pt", "checkpoint-5/", ".env"}
    assert result.url.startswith(f"{hub.url}/{NAME}/commit/")
    assert f'load("{NAME}")' in sent["README.md"].decode()
    assert_is(load(), folder)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(NAME)
    assert type(theirs) is transformers.BertForSequenceClassification
    assert_is(theirs.state_dict(), folder)
    # And once more from the cache alone.
    hub.repositories.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_is(load(), folder)


def test_a_branch_and_a_private_repository(hub, folder):
    pushing.push(folder, NAME, private=True)
    change(folder, 2.0)
    pushing.push(folder, NAME, revision="v2")
    assert hub.repositories[NAME].private
    assert float(load(revision="v2")["classifier.bias"][0]) == 2
    assert float(load()["classifier.bias"][0]) != 2
    oid = hub.repositories[NAME].branches["v2"].oid
    assert float(load(revision=oid)["classifier.bias"][0]) == 2
    with pytest.raises(OSError, match="v3"):
        load(revision="v3")


def test_an_earlier_commits_weights_do_not_stay_beside_new_ones(hub, folder):
    """A reader would open them first."""
    pushing.push(folder, NAME)
    change(folder, 3.0)
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    pushing.push(folder, NAME)
    weights = {name for name in hub.files(NAME) if ".safetensors" in name}
    assert "model.safetensors" not in weights
    assert len(weights) > 2
    assert float(load()["classifier.bias"][0]) == 3


def test_code_goes_where_the_architecture_needs_it(hub, folder):
    config = bert_config(vocab_size=len(WORDS), norm_first=True)
    model = randomize(bertlite.BertLiteForSequenceClassification(config))
    model.save_pretrained(folder)
    write_probe(folder, model)
    pushing.push(folder, NAME)
    assert {"modeling_bertlite.py", "configuration.py", "versions.py"} <= set(hub.files(NAME))
    assert_is(load(), folder)


@pytest.mark.parametrize(
    ("token", "message"),
    [(None, "hf auth login"), (STRANGER, "may not write there")],
)
def test_who_may_not_write_is_told_so(token, message, hub, folder, monkeypatch):
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.utils._auth._get_token_from_file", lambda: None)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError, match=f"{NAME}: .*{message}") as caught:
        pushing.push(folder, NAME)
    assert TOKEN not in str(caught.value)
    assert STRANGER not in str(caught.value)
    assert NAME not in hub.repositories


@pytest.mark.parametrize(
    ("private", "gated", "token", "expected"),
    [
        (True, False, STRANGER, OSError),
        (True, False, None, OSError),
        (False, True, STRANGER, OSError),
        (False, True, None, OSError),
        (False, True, TOKEN, None),
    ],
)
def test_private_and_gated_repositories(private, gated, token, expected, hub, folder, monkeypatch):
    pushing.push(folder, NAME)
    hub.repositories[NAME].private, hub.repositories[NAME].gated = private, gated
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.utils._auth._get_token_from_file", lambda: None)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    if expected is None:
        assert_is(load(), folder)
    else:
        with pytest.raises(expected, match=r"gated|private|not a valid model"):
            load()


STEPS = [
    ("POST", "/api/repos/create"),
    ("POST", "/preupload/"),
    ("POST", "/objects/batch"),
    ("PUT", "/large/"),
    ("POST", "/commit/"),
]


FAULTS = [(step, status) for step in STEPS for status in (0, 503)]
FAULTS += [(STEPS[-1], status) for status in (403, 404, 409, 429, 500)]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "status"), FAULTS)
def test_a_push_that_fails_leaves_the_old_revision_whole(step, status, hub, folder):
    method, path = step
    pushing.push(folder, NAME)
    before = dict(hub.files(NAME))
    change(folder, 4.0)
    hub.faults.append(Fault(method, path, status, times=100))
    with pytest.raises(ValueError, match=f"^nothing was changed in {NAME}: ") as caught:
        pushing.push(folder, NAME)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert hub.files(NAME) == before
    hub.faults.clear()
    assert float(load()["classifier.bias"][0]) != 4
    pushing.push(folder, NAME)  # and the command again
    assert hub.files(NAME) != before


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), [*STEPS[1:4], ("GET", "/tree/")])
@pytest.mark.parametrize("status", [429, 503])
def test_a_fault_that_passes_is_waited_for(method, path, status, hub, folder):
    hub.faults.append(Fault(method, path, status, times=2))
    pushing.push(folder, NAME)
    assert_is(load(), folder)


def test_a_download_that_breaks_goes_on_where_it_stopped(hub, folder, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    pushing.push(folder, NAME)
    whole = len(hub.files(NAME)["model.safetensors"])
    hub.faults.append(Fault("GET", "model.safetensors", 0, after=whole // 2))
    hub.requests.clear()
    assert_is(load(), folder)
    ranges = [
        headers["range"]
        for method, path, headers in hub.requests
        if method == "GET" and path.endswith("model.safetensors") and "range" in headers
    ]
    assert ranges
    assert int(ranges[-1].removeprefix("bytes=").rstrip("-")) > 0


def test_a_damaged_file_in_the_cache_is_named(hub, folder, tmp_path):
    pushing.push(folder, NAME)
    load()
    (cached,) = (tmp_path / "cache").glob("models--me--model/snapshots/*/model.safetensors")
    data = bytearray(cached.read_bytes())
    data[-7] ^= 1
    cached.resolve().write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged .*checksum"):
        load()


def test_the_libraries_own_ways_to_push(hub, tmp_path):
    """`push_to_hub` of a model, and `save_pretrained(push_to_hub=True)`."""
    model = randomize(bertlite.BertLiteForSequenceClassification(bert_config()))
    model.push_to_hub("me/first")
    model.save_pretrained(tmp_path / "second", push_to_hub=True, repo_id="me/second", private=True)
    for name in ("me/first", "me/second"):
        fields = json.loads(hub.files(name)["config.json"])
        assert (fields["model_type"], "auto_map" in fields) == ("bert", False)
        assert torch.equal(load(name)["classifier.weight"], model.classifier.weight)
    assert hub.repositories["me/second"].private


# What is refused before anything is sent.


def test_a_dry_run_sends_nothing(hub, folder):
    result = pushing.push(folder, NAME, dry_run=True)
    assert result.url is None
    assert "model.safetensors" in result.files
    assert not hub.requests
    assert "would be sent" in pushing.describe(result, folder)


@pytest.mark.parametrize("file", ["metrics.json", "README.md", "tokenizer_config.json"])
def test_a_token_in_a_file_is_refused(file, hub, folder):
    with (folder / file).open("a") as opened:
        opened.write(f"\n{TOKEN}")
    with pytest.raises(ValueError, match=f"{file} must hold no token") as caught:
        pushing.push(folder, NAME)
    assert TOKEN not in str(caught.value)
    assert not hub.requests


def test_a_token_goes_into_headers_alone(hub, folder, caplog, capfd):
    caplog.set_level("DEBUG")
    pushing.push(folder, NAME)
    said = caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in said
    assert not any(TOKEN.encode() in content for content in hub.files(NAME).values())
    assert not any(TOKEN in path for _, path, _ in hub.requests)
    assert any(TOKEN in str(headers) for *_, headers in hub.requests)


def test_a_name_that_is_none(hub, folder):
    with pytest.raises(ValueError, match="name must be that of a repository"):
        pushing.push(folder, "me/my/model")
    assert not hub.requests


def test_a_shard_that_is_not_there(hub, folder):
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    sorted(folder.glob("model-*.safetensors"))[0].unlink()
    with pytest.raises(ValueError, match="index.json names model-0000.*, which is not there"):
        pushing.push(folder, NAME)


def test_faults_of_folder_and_card_come_together(hub, folder, monkeypatch):
    (folder / "README.md").write_text(CARD.replace("license: apache-2.0\n", ""))
    report = FolderReport(problems=["AutoModel without bertlite: refused"])
    monkeypatch.setattr(pushing, "check_folder", lambda path: report)
    with pytest.raises(ValueError, match=r"license is missing[\s\S]*refused"):
        pushing.push(folder, NAME)
    assert not hub.requests


def test_the_type_of_the_stand_in(hub):
    assert isinstance(hub, Hub)
