"""The text of `bertlite pretrain`: its documents, its tokenizer, its tokens, and a report on it."""

import argparse
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .pretrain_checks import stream_options
from .pretrain_folder import is_main_process, note_text

logger = logging.getLogger(__name__)
MOST_UNKNOWN = 0.5  # share of the tokens, above which what would be learned is no language
MEASURED_SENTENCES = 20_000  # of the held-out text, to report on a tokenizer


def documents_of(
    arguments: argparse.Namespace, held_out: bool, counts: Counter[str] | None = None
) -> Iterator[list[str]]:
    """Documents to train on, or those that are held out; what is passed over goes into `counts`."""
    from ..pretraining.documents import read_documents
    from ..pretraining.token_store import is_held_out

    apart = arguments.held_out_inputs
    documents = read_documents(
        apart if apart and held_out else arguments.inputs,
        field=arguments.field,
        lines=arguments.lines,
        counts=counts,
    )
    if apart:
        return documents
    return (each for each in documents if is_held_out(each, arguments.held_out_share) == held_out)


def load_given_tokenizer(arguments: argparse.Namespace):
    """The tokenizer of `--tokenizer` or `--model`; None where one is to be trained.

    Raises:
        ValueError: there is none, it lacks a special token, or it is not that of the model.
    """
    name = arguments.tokenizer or arguments.model
    if name is None:
        return None
    tokenizer = load_tokenizer(name, "--tokenizer" if arguments.tokenizer else "--model")
    if arguments.model:
        from ..pretraining.starting import check_tokenizer, read_start

        own = None
        if arguments.tokenizer:
            own = load_tokenizer(arguments.model, "--model")
        try:
            check_tokenizer(tokenizer, read_start(arguments.model), own)
        except ValueError as error:
            raise ValueError(
                f"--{error}" if arguments.tokenizer else f"--model: {error}"
            ) from error
    return tokenizer


def load_tokenizer(name: str, option: str):
    """The tokenizer of a folder or hub name, which `option` gave.

    Raises:
        ValueError: there is none, or it lacks a special token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # the `tokenizers` library raises that very class
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"{option} must be a folder or hub name of a tokenizer, got {name!r} ({reason})"
        ) from error
    missing = [
        kind
        for kind in ("cls", "sep", "pad", "mask")
        if getattr(tokenizer, f"{kind}_token_id") is None
    ]
    if missing:
        raise ValueError(
            f"{option} must have the tokens cls, sep, pad and mask, got {name!r} without {missing}"
        )
    # A folder without tokenizer files loads as one that knows the special tokens only.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(f"{option} must be a tokenizer with a vocabulary, got {name!r} without")
    return tokenizer


def get_tokenizer(arguments: argparse.Namespace, output: Path):
    """The tokenizer that the run has; or one trained on the training text, and measured."""
    from bertlite.tokenization import measure, train_wordpiece

    if (output / "tokenizer.json").exists():
        return load_tokenizer(str(output), "--output-dir")
    logger.info("Training a WordPiece tokenizer on the training text")
    texts = (sentence for document in documents_of(arguments, False) for sentence in document)
    tokenizer = train_wordpiece(
        texts,
        vocab_size=arguments.vocab_size,
        lowercase=not arguments.cased,
        strip_accents=arguments.strip_accents,
        show_progress=True,
    )
    held_out = (sentence for document in documents_of(arguments, True) for sentence in document)
    report = measure(tokenizer, islice(held_out, MEASURED_SENTENCES))
    logger.info("On the held-out text: %s", report)
    (output / "tokenizer_report.txt").write_text(f"{report}\n")
    with tempfile.TemporaryDirectory(prefix=".tokenizer-", dir=output) as scratch:
        tokenizer.save_pretrained(scratch)
        # Last what tells a resumed run that the tokenizer is whole.
        names = sorted(os.listdir(scratch), key=lambda name: name == "tokenizer.json")
        for name in names:
            os.replace(Path(scratch, name), output / name)
    return tokenizer


def get_stores(arguments: argparse.Namespace, tokenizer, output: Path) -> dict[str, Any]:
    """The token stores of both kinds of text, written where they are not there yet."""
    from ..pretraining.token_store import DESCRIPTION as STORE
    from ..pretraining.token_store import TokenStore, write_token_store

    stores = {}
    for name, held_out in (("train", False), ("held_out", True)):
        folder = output / "tokens" / name
        if (folder / STORE).exists():
            stores[name] = TokenStore(folder)
        else:
            counts: Counter[str] = Counter()
            stores[name] = write_token_store(
                documents_of(arguments, held_out, counts),
                tokenizer,
                folder,
                description=f"tokenizing {name}",
            )
            # Without inputs of their own, held-out documents are read from the same files again.
            for kind, count in (
                counts.items() if name == "train" or arguments.held_out_inputs else ()
            ):
                logger.warning("%s: %d %s", "inputs" if name == "train" else name, count, kind)
        found = stores[name].description
        unknown = f"{found['unknown'] / found['tokens']:.4%} unknown"
        if found["unknown"] > MOST_UNKNOWN * found["tokens"]:
            given = "--tokenizer" if arguments.tokenizer else "--vocab-size"
            option = "--model" if arguments.model and not arguments.tokenizer else given
            raise ValueError(f"{option} must serve the text, got {unknown} of the tokens of {name}")
        counted = "{documents:,} documents, {sentences:,} sentences, {tokens:,} tokens".format(
            **found
        )
        logger.info("%s: %s, %s", name, counted, unknown)
    return stores


def report_text(
    arguments: argparse.Namespace, tokenizer, stores: dict[str, Any], output: Path
) -> dict[str, Any]:
    """Say what of the text will be shown and what cannot be learned from it, before training."""
    from ..pretraining.survey import doubts, survey_text

    options = stream_options(arguments)
    found = survey_text(stores["train"], tokenizer, options)
    if is_main_process():
        logger.info("%s", found)
        for doubt in doubts(found, options):
            logger.warning("Warning: %s", doubt)
        note_text(output, found.to_dict())
    return found.to_dict()
