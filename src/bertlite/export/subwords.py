"""How an encoder-decoder's folder cuts texts into ids without transformers, and joins them again.

A row is what stands before a text, its pieces, and what stands behind it; where the tokenizer marks
languages, the first and the last depend on the source's.
"""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import generate_merges

from ..inference.language_codes import Languages, language_tokens, marking
from .sources import Source

SAMPLES = ("The file could not be opened.", "Größe & naïve café – 中文, 12.5%…", "  two  spaces ")
# What transformers' `clean_up_tokenization` replaces, in its order.
SPACED = [" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"]
NO_LANGUAGE = ""  # the name of the one row of a tokenizer that marks none


def write_subwords(source: Source, folder: Path, runs: Path, rules: dict[str, Any]) -> None:
    """The tokenizer's files, and `subwords.py`, which reads them.

    Raises:
        ValueError: a tokenizer that the `tokenizers` library alone cannot be.
    """
    tokenizer: Any = source.tokenizer
    rules["rows"] = special_tokens_of_rows(source)
    rules["source_language"] = source_language(source, rules["rows"])
    rules["cleaned"] = SPACED if cleans_up(tokenizer) else []
    tokenizer.save_pretrained(folder)
    if tokenizer.is_fast:
        shutil.copyfile(runs / "subwords_fast.py", folder / "subwords.py")
        return
    processor = getattr(tokenizer, "spm_source", getattr(tokenizer, "sp_model", None))
    names = getattr(tokenizer, "vocab_files_names", {})
    file = folder / names.get("source_spm", names.get("spm_file", "none"))
    if processor is None or not file.is_file():
        raise ValueError(
            f"export: tokenizer must be one of the tokenizers library, Marian's or M2M100's, got "
            f"{type(tokenizer).__name__} in {source.folder}"
        )
    shutil.copyfile(runs / "subwords_pieces.py", folder / "subwords.py")
    separate = getattr(tokenizer, "separate_vocabs", False)
    rules["target_vocab"] = "target_vocab.json" if separate else "vocab.json"
    rules["unknown"] = tokenizer.unk_token
    rules["reads_codes"] = hasattr(tokenizer, "spm_source")
    written = json.loads((folder / rules["target_vocab"]).read_text("utf-8"))
    special = [written[token] for token in tokenizer.all_special_tokens if token in written]
    rules["special"] = [*special, *language_tokens(tokenizer).values()]
    cutter = pieces_of(file)
    check_pieces(cutter, processor, source, json.loads((folder / "vocab.json").read_text("utf-8")))
    cutter.save(str(folder / "tokenizer.json"))


def source_language(source: Source, rows: dict[str, Any]) -> str:
    """The language of a text where nobody says it; a ValueError for one that is not known."""
    if NO_LANGUAGE in rows:
        return NO_LANGUAGE
    code = source.tokenizer.src_lang
    if code not in rows:
        raise ValueError(
            f"export: src_lang of the tokenizer of {source.folder} must be one of its "
            f"{len(rows)} languages, got {code!r}"
        )
    return code


def cleans_up(tokenizer: Any) -> bool:
    """Whether a tokenizer's `decode` takes the spaces before marks away.

    That of the tokenizers library does not with BPE, whatever its config says.
    """
    inner = getattr(tokenizer, "backend_tokenizer", None)
    is_bpe = inner is not None and isinstance(inner.model, models.BPE)
    name = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    return tokenizer.clean_up_tokenization_spaces and (not is_bpe or getattr(tokenizer, name))


def special_tokens_of_rows(source: Source) -> dict[str, list[list[int]]]:
    """The ids before and behind a text, by the language of the source.

    Raises:
        ValueError: a tokenizer that puts others among the pieces.
    """
    tokenizer: Any = source.tokenizer
    rows: dict[str, list[list[int]]] = {}
    for code in language_tokens(tokenizer) or (None,):
        with marking(tokenizer, Languages(source=code)):
            row = tokenizer(SAMPLES[0])["input_ids"]
        pieces = tokenizer(SAMPLES[0], add_special_tokens=False)["input_ids"]
        starts = range(len(row) - len(pieces) + 1)
        start = next((n for n in starts if row[n : n + len(pieces)] == pieces), None)
        if start is None:
            raise ValueError(
                f"export: the tokenizer of {source.folder} must put its special tokens before and "
                f"behind the text, got {tokenizer.convert_ids_to_tokens(row)}"
            )
        rows[code or NO_LANGUAGE] = [row[:start], row[start + len(pieces) :]]
    return rows


def check_pieces(
    cutter: Tokenizer, processor: Any, source: Source, vocabulary: dict[str, int]
) -> None:
    """Refuse, with a ValueError, a cutter that cuts otherwise than sentencepiece."""
    unknown = vocabulary.get(source.tokenizer.unk_token)
    for text in SAMPLES:
        expected = processor.encode(text, out_type=str)
        found = cutter.encode(text, add_special_tokens=False).tokens
        if [vocabulary.get(each, unknown) for each in found] != [
            vocabulary.get(each, unknown) for each in expected
        ]:
            raise ValueError(
                f"export: the pieces of {source.folder} must cut {text!r} into {expected} without "
                f"sentencepiece, got {found}"
            )


def pieces_of(path: Path) -> Tokenizer:
    """A SentencePiece file as a tokenizer of the `tokenizers` library.

    Raises:
        ValueError: sentencepiece is not installed, or the file holds another model than Unigram or
            BPE.
    """
    try:
        messages: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    except ImportError as error:
        raise ValueError(
            'sentencepiece must be installed; install it with: pip install "bertlite[tokenizers]"'
        ) from error
    proto = messages.ModelProto()
    proto.ParseFromString(path.read_bytes())
    tokenizer = Tokenizer(model_of(proto, path))
    steps: list[Any] = []
    if proto.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap))
    if proto.normalizer_spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    scheme = "always" if proto.normalizer_spec.add_dummy_prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return tokenizer


def model_of(proto: Any, path: Path) -> models.Model:
    """The pieces of a SentencePiece file, and how they are chosen."""
    trained = proto.trainer_spec
    scores = [(each.piece, each.score) for each in proto.pieces]
    if trained.model_type == trained.UNIGRAM:
        return models.Unigram(scores, unk_id=trained.unk_id)
    if trained.model_type == trained.BPE:
        numbers = {piece: number for number, (piece, _) in enumerate(scores)}
        merges = generate_merges(numbers, scores)
        unknown = proto.pieces[trained.unk_id].piece
        return models.BPE(numbers, merges, unk_token=unknown, fuse_unk=True)
    raise ValueError(f"export: {path.name} must be a Unigram or a BPE model")
