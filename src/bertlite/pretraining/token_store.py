"""The corpus as token ids on disk.

Written once in a stream, read through memory maps: nothing need fit in memory.

Four flat files: the ids, whether each continues a word, where each sentence ends in the ids, and
where each document ends in the sentences. So any stretch of text is found by two numbers, and every
process and worker shares one copy in the page cache. A token takes 3 bytes (5 where the vocabulary
has 65,536 entries or more).
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..tokenization import vocabulary_size

DESCRIPTION = "store.json"
DOCUMENTS_AT_ONCE = 256  # tokenized in one call


class TokenStore:
    """A folder that `write_token_store` made, open for reading.

    Args:
        folder: of the store.

    Attributes:
        ids: `(tokens,)` ids of all sentences, end to end, without special tokens.
        continues: `(tokens,)` 1 where a token goes on with the word of the one before it.
        sentence_ends: `(sentences,)` positions in `ids`.
        document_ends: `(documents,)` positions in `sentence_ends`.

    Raises:
        ValueError: no whole store there.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            self.description = json.loads((self.folder / DESCRIPTION).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(
                f"folder must hold a token store ({DESCRIPTION}), got {folder} ({error})"
            ) from error
        kinds = {"ids": self.description["dtype"], "continues": "uint8"}
        for name in ("ids", "continues", "sentence_ends", "document_ends"):
            array = np.memmap(self.folder / f"{name}.bin", dtype=kinds.get(name, "int64"), mode="r")
            setattr(self, name, array)
        if len(self.ids) != self.description["tokens"]:
            raise ValueError(
                f"{folder}: must hold {self.description['tokens']} tokens, got {len(self.ids)}"
            )

    ids: np.ndarray
    continues: np.ndarray
    sentence_ends: np.ndarray
    document_ends: np.ndarray

    def __len__(self) -> int:
        return len(self.document_ends)

    def __reduce__(self):
        return TokenStore, (self.folder,)  # workers open the maps anew instead of copying them

    def bounds(self, document: int) -> list[int]:
        """Where the sentences of a document begin in `ids`, and, last, where it ends."""
        first = int(self.document_ends[document - 1]) if document else 0
        last = int(self.document_ends[document])
        start = int(self.sentence_ends[first - 1]) if first else 0
        return [start, *self.sentence_ends[first:last].tolist()]


def is_held_out(sentences: list[str], share: float) -> bool:
    """Whether a document is held out.

    A hash of its text decides, so that equal texts are never on both sides.
    """
    digest = hashlib.sha256("\n".join(sentences).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def write_token_store(
    documents: Iterable[list[str]],
    tokenizer,
    folder: str | Path,
    *,
    description: str = "tokenizing",
    show_progress: bool = True,
) -> TokenStore:
    """Tokenize documents into a new store, beside its place first.

    A killed run leaves nothing half done there.

    Args:
        documents: lists of sentences. Those without tokens are left out.
        tokenizer: any; a fast one tells which tokens make a word, of a slow one `##` marks what
            continues a word.
        folder: of the store; an older one there is replaced.
        description: of the progress bar; show_progress: whether there is one.

    Returns:
        The store, open.

    Raises:
        ValueError: no documents with tokens.
    """
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    dtype = "uint16" if vocabulary_size(tokenizer) <= 2**16 else "uint32"
    counts = {"tokens": 0, "sentences": 0, "documents": 0, "unknown": 0}
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        written = Path(scratch, "store")
        written.mkdir()
        bar = tqdm(desc=description, unit=" documents", smoothing=0.05, disable=not show_progress)
        with ExitStack() as stack, bar:
            files = {
                name: stack.enter_context((written / f"{name}.bin").open("wb")) for name in _NAMES
            }
            for batch in _batches(documents):
                _append(files, _encode(batch, tokenizer), counts, dtype, tokenizer.unk_token_id)
                bar.update(len(batch))
        if not counts["documents"]:
            raise ValueError("documents must hold at least one with text, got none")
        (written / DESCRIPTION).write_text(json.dumps({**counts, "dtype": dtype}, indent=2) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(written, target)
    return TokenStore(target)


_NAMES = ("ids", "continues", "sentence_ends", "document_ends")


def _batches(documents: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    iterator = iter(documents)
    while batch := list(islice(iterator, DOCUMENTS_AT_ONCE)):
        yield batch


def _encode(documents: list[list[str]], tokenizer) -> list[list[tuple[list[int], list[bool]]]]:
    """Ids of each sentence of each document, and whether each continues a word.

    Empty sentences are left out.
    """
    sentences = [sentence for document in documents for sentence in document]
    encoded = tokenizer(
        sentences,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    found = iter(
        [
            (ids, _continuations(encoded, number, ids, tokenizer))
            for number, ids in enumerate(encoded["input_ids"])
        ]
    )
    split = [[next(found) for _ in document] for document in documents]
    return [
        kept for document in split if (kept := [sentence for sentence in document if sentence[0]])
    ]


def _continuations(encoded, number: int, ids: list[int], tokenizer) -> list[bool]:
    if tokenizer.is_fast:
        words = encoded.word_ids(number)
        return [
            place > 0 and word is not None and word == words[place - 1]
            for place, word in enumerate(words)
        ]
    return [token.startswith("##") for token in tokenizer.convert_ids_to_tokens(ids)]


def _append(files, documents, counts: dict[str, int], dtype: str, unknown: int | None) -> None:
    """Write some encoded documents, and count."""
    for document in documents:
        ids = np.concatenate([np.asarray(ids, dtype) for ids, _ in document])
        ends = counts["tokens"] + np.cumsum([len(ids) for ids, _ in document])
        files["ids"].write(ids.tobytes())
        files["continues"].write(
            np.concatenate([np.asarray(flags, "uint8") for _, flags in document]).tobytes()
        )
        files["sentence_ends"].write(ends.astype("int64").tobytes())
        counts["tokens"] += len(ids)
        counts["sentences"] += len(document)
        counts["documents"] += 1
        counts["unknown"] += 0 if unknown is None else int((ids == unknown).sum())
        files["document_ends"].write(np.int64(counts["sentences"]).tobytes())
