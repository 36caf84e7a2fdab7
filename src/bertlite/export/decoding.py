"""How an encoder-decoder's folder writes: its rules for decoding, and its tokenizer.

What its generation config asks for beyond those rules is refused by name.
"""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from ..inference.sequence_to_sequence import Decoding
from ..training.evaluation import infer_task
from .sources import Source

# Fields of a generation config that change what is written, with the values that change nothing.
UNUSUAL: dict[str, tuple] = {
    "do_sample": (None, False),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "repetition_penalty": (None, 1.0),
    "encoder_repetition_penalty": (None, 1.0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "sequence_bias": (None,),
    "begin_suppress_tokens": (None, []),
    "exponential_decay_length_penalty": (None,),
    "penalty_alpha": (None, 0),
    "num_beam_groups": (None, 1),
    "diversity_penalty": (None, 0.0),
    "constraints": (None,),
    "force_words_ids": (None,),
    "prompt_lookup_num_tokens": (None,),
    "remove_invalid_values": (None, False),
}
SAMPLES = ("The file could not be opened.", "Größe & naïve café – 中文, 12.5%…", "  two  spaces ")


def decoding_rules(source: Source) -> dict[str, Any]:
    """What `run_translate.py` must know.

    Raises:
        ValueError: the generation config asks for something that it does not do.
    """
    model = source.model
    config, decoding = model.generation_config, Decoding.of(model, {})
    for name, usual in UNUSUAL.items():
        if getattr(config, name, None) not in usual:
            raise ValueError(
                f"export: generation_config.{name} must be one of {list(usual)}, got "
                f"{getattr(config, name)!r} in {source.folder}"
            )
    banned = [*(config.suppress_tokens or []), *single_words(config.bad_words_ids, source)]
    positions = getattr(model.config, "max_position_embeddings", None)
    highest = 10**6 if positions is None else max(positions - 1, 1)
    summarizes = infer_task(source.folder) == "summarization"
    limit = 128 if summarizes else None
    if not decoding.limit_is_ours:
        limit = config.max_new_tokens or config.max_length - 1
    early = config.early_stopping
    return {
        "num_beams": decoding.settings.get("num_beams", config.num_beams),
        "length_penalty": decoding.length_penalty,
        "early_stopping": False if early is None else early,
        "start": model.config.decoder_start_token_id,
        "eos_token_ids": decoding.eos_token_ids,
        "forced_eos_token_id": one_token(config.forced_eos_token_id, source),
        "forced_bos_token_id": config.forced_bos_token_id,
        "forced_at": limit if limit is not None else highest,
        "banned": banned,
        "max_new_tokens": limit,
        "beyond_source": 50,
        "highest": highest,
        "by_line": not summarizes,
        "prefix": "",
    }


def one_token(forced: Any, source: Source) -> int | None:
    """The token that ends a text at its longest; a ValueError for several."""
    if isinstance(forced, list) and len(forced) != 1:
        raise ValueError(
            f"export: generation_config.forced_eos_token_id must be one token, got {forced} in "
            f"{source.folder}"
        )
    return forced[0] if isinstance(forced, list) else forced


def single_words(words: Any, source: Source) -> list[int]:
    """The tokens of `bad_words_ids`; a ValueError for a word of several tokens."""
    for word in words or []:
        if len(word) != 1:
            raise ValueError(
                f"export: generation_config.bad_words_ids must hold single tokens, got {word} in "
                f"{source.folder}"
            )
    return [word[0] for word in words or []]


def write_subwords(source: Source, folder: Path, runs: Path, rules: dict[str, Any]) -> None:
    """The tokenizer's files, and `subwords.py`, which reads them.

    Raises:
        ValueError: a tokenizer that the `tokenizers` library alone cannot be.
    """
    tokenizer: Any = source.tokenizer
    tokenizer.save_pretrained(folder)
    if tokenizer.is_fast:
        shutil.copyfile(runs / "subwords_fast.py", folder / "subwords.py")
        return
    if not hasattr(tokenizer, "spm_source"):
        raise ValueError(
            f"export: tokenizer must be one of the tokenizers library or Marian's, got "
            f"{type(tokenizer).__name__} in {source.folder}"
        )
    shutil.copyfile(runs / "subwords_marian.py", folder / "subwords.py")
    cutter = unigram_of(folder / "source.spm")
    for text in SAMPLES:
        expected = tokenizer.spm_source.encode(text, out_type=str)
        found = cutter.encode(text, add_special_tokens=False).tokens
        if found != expected:
            raise ValueError(
                f"export: source.spm of {source.folder} must cut {text!r} into {expected} without "
                f"sentencepiece, got {found}"
            )
    cutter.save(str(folder / "tokenizer.json"))
    separate = getattr(tokenizer, "separate_vocabs", False)
    rules["target_vocab"] = "target_vocab.json" if separate else "vocab.json"
    rules["unknown"], rules["end"] = tokenizer.unk_token, tokenizer.eos_token
    rules["special"] = list(tokenizer.all_special_tokens)
    vocabulary = json.loads((folder / rules["target_vocab"]).read_text(encoding="utf-8"))
    if rules["end"] not in vocabulary:
        raise ValueError(f"export: {rules['target_vocab']} must hold {rules['end']!r}")


def unigram_of(path: Path) -> Tokenizer:
    """A SentencePiece file as a tokenizer of the `tokenizers` library.

    Raises:
        ValueError: sentencepiece is not installed, or the file holds another model than Unigram.
    """
    try:
        messages: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    except ImportError as error:
        raise ValueError(
            'sentencepiece must be installed; install it with: pip install "bertlite[tokenizers]"'
        ) from error
    proto = messages.ModelProto()
    proto.ParseFromString(path.read_bytes())
    if proto.trainer_spec.model_type != proto.trainer_spec.UNIGRAM:
        raise ValueError(f"export: {path.name} must be a Unigram model")
    pieces = [(each.piece, each.score) for each in proto.pieces]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=proto.trainer_spec.unk_id))
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
