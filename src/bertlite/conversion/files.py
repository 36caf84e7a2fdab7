"""The files around a TensorFlow checkpoint.

Its prefix, `bert_config.json`, `vocab.txt`; and TensorFlow itself.
"""

import importlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import BertTokenizer

from ..models.configuration import BertLiteConfig

CHECKPOINT = "bert_model.ckpt"  # as in the release
SIZES = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
]
SIZES += ["max_position_embeddings", "type_vocab_size"]
FIELDS = [
    *SIZES,
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
]
ACTIVATIONS = ("gelu", "linear", "relu", "tanh")  # that Google's code knows
LINE_SEPARATOR = "\u2028"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def import_tensorflow() -> Any:
    """TensorFlow, with a hint where it is missing.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module("tensorflow")
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        hint = 'pip install "bertlite[tensorflow]" (or: pip install tensorflow-cpu)'
        raise ImportError(
            "TensorFlow reads and writes these checkpoints, and is missing; install it with: "
            f"{hint}"
        ) from error


def is_tensorflow(source: str | os.PathLike) -> bool:
    """Whether a path is a TensorFlow prefix, one of its files, or a folder that holds such a
    checkpoint.
    """
    path = Path(source)
    if path.is_dir():
        return bool(list(path.glob("*.index")))
    return (
        bool(re.search(r"\.(index|meta|data-\d+-of-\d+)$", path.name))
        or Path(f"{path}.index").exists()
    )


def find_prefix(source: str | os.PathLike) -> Path:
    """The prefix that TensorFlow wants.

    `folder/bert_model.ckpt` for that folder, for itself and for its files.

    Raises:
        ValueError: nothing is there, several checkpoints are, or one has not all its files.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(entry.with_suffix("") for entry in path.glob("*.index"))
        named = [entry for entry in found if entry.name == CHECKPOINT]
        if len(named or found) != 1:
            came = f"several: {', '.join(entry.name for entry in found)}" if found else "none"
            raise ValueError(
                f"{source}: expected one checkpoint ({CHECKPOINT}.index), got {came}; name one by "
                "prefix"
            )
        path = (named or found)[0]
    else:
        path = path.with_name(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name))
    if not Path(f"{path}.index").is_file():
        old = " (a single file, of the format before 2017, is not read)" if path.is_file() else ""
        raise ValueError(f"{source}: no checkpoint, {path.name}.index is missing{old}")
    shards = {
        entry.name.removeprefix(f"{path.name}.data-")
        for entry in path.parent.glob(f"{path.name}.data-*")
    }
    counts = {
        int(shard.split("-of-")[1]) for shard in shards if re.fullmatch(r"\d+-of-\d+", shard)
    } or {1}
    lacking = [
        [s for n in range(count) if (s := f"{n:05d}-of-{count:05d}") not in shards]
        for count in counts
    ]
    if all(lacking):
        raise ValueError(
            f"{source}: not all of the checkpoint is there, {path.name}.data-{lacking[0][0]} is "
            "missing"
        )
    return path


def read_config(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The fields of `bert_config.json` that are BERT's, and the names of those that Google's code
    never reads.

    Raises:
        ValueError: no such file, no JSON object, or a size missing.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: expected Google's bert_config.json, got {error}; give its path as config"
        ) from error
    missing = [name for name in SIZES if not isinstance(found, dict) or name not in found]
    if missing:
        raise ValueError(
            f"{path}: expected Google's bert_config.json, got none of {', '.join(missing)}"
        )
    return {name: found[name] for name in FIELDS if name in found}, sorted(set(found) - set(FIELDS))


def read_vocabulary(path: Path, vocab_size: int) -> tuple[dict[str, int], list[int]]:
    """Token to id, a line a token, with the ids that Google's `load_vocab` gives.

    Only line feeds and carriage returns end a line: Google's Chinese vocabulary has one that is
    U+2028. A blank line takes up an id all the same, and of two equal lines the later one is the
    token's, as in Google's code; the id that is then no token's gets the name `[unusedN]`, so that
    the tokenizer counts as many tokens as the file has lines. Blank lines at the end are none.

    Returns:
        The vocabulary, and the numbers of the lines that are no token, from 1.

    Raises:
        ValueError: no such file, more tokens than the model knows, or one of the special tokens
            missing.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            tokens = [line.strip() or line.rstrip("\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: expected Google's vocab.txt, got {error}; give its path as vocab"
        ) from error
    while tokens and not tokens[-1].strip(" \t"):
        tokens.pop()
    missing = [token for token in SPECIAL if token not in tokens]
    if missing:
        raise ValueError(
            f"{path}: a BERT vocabulary must hold {', '.join(SPECIAL)}, got none of "
            f"{', '.join(missing)}"
        )
    if len(tokens) > vocab_size:
        limit = f"vocab_size = {vocab_size} lines (bert_config.json)"
        raise ValueError(f"{path}: must hold at most {limit}, got {len(tokens)}")
    vocabulary = {token: number for number, token in enumerate(tokens) if token}
    named = name_every_id(vocabulary, len(tokens))
    return named, [number + 1 for number, token in enumerate(named) if token not in vocabulary]


def name_every_id(vocabulary: dict[str, int], count: int) -> dict[str, int]:
    """A vocabulary with a token for each id below `count`, in their order.

    `[unusedN]` where there is none.
    """
    tokens = {number: token for token, number in vocabulary.items()}
    for number in set(range(count)) - set(tokens):
        free = itertools.count(number, count)  # no two places share any of these numbers
        names = (f"[unused{place}]" for place in free)
        tokens[number] = next(name for name in names if name not in vocabulary)
    return {tokens[number]: number for number in range(count)}


def decide_case(
    vocabulary: dict[str, int], folder: Path, do_lower_case: bool | None = None
) -> tuple[bool, str]:
    """Whether text is put in lower case, and why.

    As told, or by the vocabulary and the folder's name.

    A vocabulary with capital letters needs text as it is. One without is for lower-case text,
    unless the folder's name says `cased`: the release keeps the answer nowhere else.

    Raises:
        ValueError: the folder is named `uncased`, but the vocabulary has capital letters.
    """
    if do_lower_case is not None:
        return do_lower_case, "as told"
    capital = next(
        (t for t in vocabulary if t.lower() != t and not re.fullmatch(r"\[.*\]", t)), None
    )
    said = re.search(r"(?:^|[^a-z])(un)?cased", folder.resolve().name.lower())
    if capital is not None and said and said[1]:
        came = f"a folder named {folder.resolve().name} with {capital!r} in its vocabulary"
        raise ValueError(f"do_lower_case must be given (--cased or --uncased), got {came}")
    if capital is not None:
        return False, f"the vocabulary has capital letters, such as {capital!r}"
    if said and not said[1]:
        return False, f"the folder is named {folder.resolve().name}"
    return True, "the vocabulary has no capital letters"


def make_tokenizer(
    vocabulary: dict[str, int],
    do_lower_case: bool,
    max_length: int,
    *,
    strip_accents: bool | None = None,
) -> BertTokenizer:
    """The library's BERT tokenizer over the vocabulary.

    Lower case takes the accents away too, as in Google's code, unless `strip_accents` says.
    """
    return BertTokenizer(
        vocab=vocabulary,
        do_lower_case=do_lower_case,
        strip_accents=strip_accents,
        model_max_length=max_length,
    )


def vocabulary_lines(tokenizer: Any) -> list[str]:
    """The lines of `vocab.txt`, in the order of the ids.

    Raises:
        ValueError: a tokenizer that Google's code cannot be: no WordPiece, or a token that a line
            cannot hold, since Google's reader takes white space away around it.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    kind = type(getattr(backend, "model", tokenizer)).__name__
    if kind not in ("WordPiece", "BertTokenizer", "BertTokenizerLegacy"):
        raise ValueError(
            f"tokenizer: vocab.txt is for WordPiece, got {kind} ({type(tokenizer).__name__})"
        )
    vocabulary = tokenizer.get_vocab()
    # What `tokenizers` reads from the line U+2028 of Google's Chinese vocabulary, and from blank
    # lines. Google's reader makes the same of that line.
    blank = vocabulary.pop("", None)
    count = 1 + max(vocabulary.values())
    if blank is not None and blank < count:
        vocabulary.setdefault(LINE_SEPARATOR, blank)
    bad: Sequence[str] = [
        token
        for token in vocabulary
        if token != token.strip() and (token.strip() or not token.strip("\r\n"))
    ]
    if bad:
        raise ValueError(
            f"tokenizer: vocab.txt cannot hold tokens with white space around them, got {bad[0]!r}"
        )
    return list(name_every_id(vocabulary, count))


def google_config(config: BertLiteConfig) -> dict[str, Any]:
    """The fields of `bert_config.json`.

    Raises:
        ValueError: the model is one that Google's code cannot be.
    """
    expected: dict[str, tuple] = {"norm_first": (False,), "position_embedding_type": ("absolute",)}
    expected |= {"layer_norm_eps": (1e-12,), "hidden_act": ACTIVATIONS}
    expected |= dict.fromkeys(config.by_layer, (None,))  # all layers of a size: none was pruned
    for name, values in expected.items():
        if getattr(config, name) not in values:
            wanted = " or ".join(map(str, values))
            raise ValueError(
                f"{name} must be {wanted} for Google's code, got {getattr(config, name)!r}"
            )
    if config.type_vocab_size < 1:
        raise ValueError(
            f"type_vocab_size must be at least 1 for Google's code, got {config.type_vocab_size}"
        )
    return {name: getattr(config, name) for name in sorted(FIELDS)}
