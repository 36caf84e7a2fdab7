"""Send a saved folder to the hub: chosen files in one commit, after everything was checked.

What is sent is listed by kind. Optimizer states, pickles, checkpoints, logs and whatever else lies
in a run's folder stay where they are.
"""

import fnmatch
import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..models.files import WEIGHTS, shards_of
from .card_check import card_problems
from .checking import FolderReport, check_folder
from .classes import read_config
from .probe import PROBE_FILE, write_probe

CARD = "README.md"
PLACEHOLDER = "FOLDER OR HUB NAME"  # of cards, which is known now
# What belongs to a published model: patterns of paths below its folder.
SENT = (
    "config.json",
    "generation_config.json",
    "*.spm",
    "sentencepiece*.model",
    "spiece.model",
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.txt",
    "vocab.json",
    "target_vocab.json",
    "merges.txt",
    "README.md",
    "LICENSE*",
    "*.png",
    "metrics.json",
    "run_arguments.json",
    "pretraining.json",
    PROBE_FILE,
    ".eval_results/*.yaml",
    # sentence-transformers' description of a model that embeds
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "?_*/config.json",
    "?_*/model.safetensors",
)
SECRET = re.compile(r"\bhf_[A-Za-z0-9]{20,}\b")
STATUS = {
    401: "the hub does not know who you are: run hf auth login, or set HF_TOKEN",
    403: "your token may not write there: make one that may, or give a name of your own",
    404: "there is no such repository, or your token may not see it",
    409: "somebody else changed it at the same moment: run the command again",
    429: "the hub asks to wait: run the command again in a few minutes",
}


@dataclass
class Pushed:
    """What was sent, or with `dry_run` would have been.

    Attributes:
        files: paths in the repository.
        left_out: files of the folder that stay where they are.
        report: what the checks found.
        url: of the commit; None with `dry_run`.
    """

    files: list[str]
    left_out: list[str]
    report: FolderReport = field(default_factory=FolderReport)
    url: str | None = None


def push(
    folder: str | os.PathLike,
    name: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    message: str = "Upload model",
    dry_run: bool = False,
    token: str | None = None,
    say: Callable[[str], Any] | None = None,
) -> Pushed:
    """Check a folder and send it to the hub in one commit: all of it arrives, or nothing.

    Args:
        folder: where a model is saved.
        name: of the repository, as `me/model`; it is made where there is none.
        revision: the branch, which is made where there is none; None: main.
        private: whether a new repository is private; None: as the account has it.
        message: of the commit.
        dry_run: whether to stop before anything is sent.
        token: of the account; None: that of `hf auth login` or `HF_TOKEN`.
        say: what is told on the way goes here.

    Returns:
        What was sent.

    Raises:
        ValueError: the folder, its card or a file is not fit to be sent; the hub refused.
    """
    path, say = Path(folder), say or (lambda line: None)
    check_name(name)
    config = read_config(path)
    sent = files_to_send(path, config)
    check_secrets(path, sent, token)
    problems = card_problems(path)
    if not (path / PROBE_FILE).is_file() and not dry_run:
        write_probe(path)
        sent = files_to_send(path, config)
    report = check_folder(path)
    problems += report.problems
    for line in report.facts:
        say(line)
    if problems:
        listed = "".join(f"\n  - {line}" for line in problems)
        raise ValueError(f"{path} must be without faults before it is sent, got:{listed}")
    result = Pushed(sent, left_out(path, sent), report)
    if not dry_run:
        result.url = send(path, name, sent, revision, private, message, token)
    return result


def check_name(name: str) -> None:
    """Refuse, with a ValueError, a name that no repository can have."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"name must be that of a repository, such as me/model: {error}") from error


def files_to_send(folder: Path, config: dict[str, Any]) -> list[str]:
    """The paths of what belongs to the model, below its folder, in order.

    Raises:
        ValueError: a shard that the index names is not there.
    """
    there = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    chosen = {name for name in there if any(matches(name, pattern) for pattern in SENT)}
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        chosen.add("model.safetensors")
    elif index.is_file():
        chosen |= {index.name, *shards_of(index)}
    if config.get("auto_map"):
        chosen |= {name for name in there if name.endswith(".py") and "/" not in name}
    missing = sorted(chosen - set(there))
    if missing:
        raise ValueError(f"{folder}: {index.name} names {missing[0]}, which is not there")
    return sorted(chosen)


def matches(name: str, pattern: str) -> bool:
    """Whether a path fits a pattern, folder by folder.

    >>> matches("checkpoint-5/config.json", "config.json")
    False
    """
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def left_out(folder: Path, sent: Iterable[str]) -> list[str]:
    """What stays: files of the folder, and folders with nothing that is sent, with a slash."""
    sent = set(sent)
    kept = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not any(name.startswith(f"{path.name}/") for name in sent):
                kept.append(f"{path.name}/")
        elif path.name not in sent:
            kept.append(path.name)
    return kept


def check_secrets(folder: Path, names: Iterable[str], token: str | None) -> None:
    """Refuse, with a ValueError, a text file that holds a token."""
    from huggingface_hub import get_token

    known = [each for each in (token, get_token()) if each]
    for name in names:
        if not name.endswith((".json", ".md", ".py", ".txt", ".yaml", ".jinja")):
            continue
        text = (folder / name).read_text(encoding="utf-8", errors="replace")
        if SECRET.search(text) or any(each in text for each in known):
            raise ValueError(f"{folder / name} must hold no token of the hub, got one: take it out")


def send(
    folder: Path,
    name: str,
    files: list[str],
    revision: str | None,
    private: bool | None,
    message: str,
    token: str | None,
) -> str:
    """Make the repository and the branch where there are none, and commit; the commit's address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError

    api = HfApi(token=token)
    contents: list[Any] = [
        CommitOperationAdd(path_in_repo=each, path_or_fileobj=content_of(folder, each, name))
        for each in files
    ]
    try:
        name = api.create_repo(name, private=private, exist_ok=True).repo_id
        if revision not in (None, "main"):
            api.create_branch(name, branch=str(revision), exist_ok=True)
        remote = api.list_repo_files(name, revision=revision)
        contents += [CommitOperationDelete(each) for each in outdated(remote, files)]
        return api.create_commit(
            name, contents, commit_message=message, revision=revision
        ).commit_url
    except (LocalTokenNotFoundError, HTTPError, OSError, RuntimeError) as error:
        raise ValueError(f"nothing was changed in {name}: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Why the hub did not take a folder, and what helps, in one line."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    cause: BaseException = error
    while isinstance(cause, RuntimeError) and cause.__cause__ is not None:
        cause = cause.__cause__  # the client wraps what happened to a large file
    said = " ".join(str(cause).split())[:300]
    if isinstance(cause, LocalTokenNotFoundError):
        return STATUS[401]
    if isinstance(cause, HfHubHTTPError) and cause.response is not None:
        code = cause.response.status_code
        found = STATUS.get(code, "the hub has a fault of its own: run the command again later")
        return f"{found} (status {code}: {said})"
    return f"the connection broke, run the command again ({type(cause).__name__}: {said})"


def content_of(folder: Path, file: str, name: str) -> str | bytes:
    """What is sent of a file: its path; of the card its text, with the name that it now has."""
    if file != CARD:
        return str(folder / file)
    text = (folder / file).read_text(encoding="utf-8")
    return text.replace(PLACEHOLDER, name).encode()


def outdated(remote: Iterable[str], sent: Iterable[str]) -> list[str]:
    """Weights of an earlier commit that a reader might take for these.

    >>> outdated(["model.safetensors", "README.md"], ["model.safetensors.index.json"])
    ['model.safetensors']
    """
    sent = set(sent)
    return [
        name
        for name in remote
        if name not in sent and (match := WEIGHTS.fullmatch(name)) and match["name"] == "model"
    ]


def describe(result: Pushed, folder: str | os.PathLike) -> str:
    """What was or would be sent, for the command line."""
    path = Path(folder)
    sizes = {name: (path / name).stat().st_size for name in result.files}
    lines = [f"  {name}  ({size:,} bytes)" for name, size in sizes.items()]
    if result.left_out:
        lines.append(f"stays here: {', '.join(result.left_out)}")
    head = "sent" if result.url else "would be sent"
    return "\n".join([f"{head}: {len(sizes)} files, {sum(sizes.values()):,} bytes", *lines])


def as_json(result: Pushed) -> str:
    """The same for programs."""
    fields = {"files": result.files, "left_out": result.left_out, "url": result.url}
    return json.dumps({**fields, "checks": result.report.facts}, indent=2)
