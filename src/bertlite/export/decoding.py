"""How an encoder-decoder's folder writes: its rules for decoding.

What its generation config asks for beyond those rules is refused by name.
"""

from typing import Any

from ..inference.language_codes import (
    Languages,
    generation_settings,
    language_tokens,
    starts_with_language,
)
from ..inference.sequence_to_sequence import Decoding
from ..training.evaluation import infer_task
from .sources import Source

WRITING = ("translation", "summarization")
# Fields of a generation config that change what is written, with the values that change nothing.
UNUSUAL: dict[str, tuple] = {
    "do_sample": (None, False),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
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


def tell_writing(source: Source, task: str | None, languages: Languages) -> None:
    """Settle whether an encoder-decoder translates or summarises, and by which languages.

    Raises:
        ValueError: no such task or language, or a model that writes nothing.
    """
    if source.task.name != "translate":
        if task is not None or languages != Languages():
            raise ValueError(
                "task, source_language and target_language must come with an encoder-decoder that "
                f"writes, got a ...{source.head} in {source.folder}"
            )
        return
    if task not in (None, *WRITING):
        raise ValueError(f"task must be one of {', '.join(WRITING)}, got {task!r}")
    source.writes = task or infer_task(source.folder)
    languages.check("export", source.tokenizer)
    if languages.source is not None:
        source.tokenizer.src_lang = languages.source
    settings = generation_settings(source.model, source.tokenizer, languages.target)
    for name, token in settings.items():
        setattr(source.model.generation_config, name, token)


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
    words = single_words(config.bad_words_ids, source)
    words = [word for word in words if word not in decoding.eos_token_ids]  # as transformers does
    banned = [*(config.suppress_tokens or []), *words]
    early = config.early_stopping
    return {
        "num_beams": decoding.settings.get("num_beams", config.num_beams),
        "length_penalty": decoding.length_penalty,
        "early_stopping": False if early is None else early,
        "languages": language_tokens(source.tokenizer),
        "starts_with_language": starts_with_language(model, source.tokenizer),
        "start": start_token(model),
        "eos_token_ids": decoding.eos_token_ids,
        "forced_eos_token_id": one_token(config.forced_eos_token_id, source),
        "forced_bos_token_id": config.forced_bos_token_id,
        "banned": banned,
        "least": max((config.min_length or 0) - 1, config.min_new_tokens or 0, 0),
        "no_repeat_ngram_size": config.no_repeat_ngram_size or 0,
        "repetition_penalty": config.repetition_penalty or 1.0,
        "renormalize_logits": bool(config.renormalize_logits),
        "by_line": source.writes == "translation",
        "prefix": "",
        **length_rules(source, decoding),
    }


def length_rules(source: Source, decoding: Decoding) -> dict[str, int | None]:
    """How long a text may become, and at which length it is made to end."""
    config = source.model.generation_config
    positions = getattr(source.model.config, "max_position_embeddings", None)
    highest = 10**6 if positions is None else max(positions - 1, 1)
    limit = 128 if source.writes == "summarization" else None
    if not decoding.limit_is_ours:
        limit = config.max_new_tokens or config.max_length - 1
    return {
        "max_new_tokens": limit,
        "beyond_source": 50,
        "highest": highest,
        "forced_at": highest if limit is None else min(limit, highest),
    }


def start_token(model: Any) -> int | None:
    """The token that the target begins with and that is not written; None: the language's."""
    start = model.generation_config.decoder_start_token_id
    return model.config.decoder_start_token_id if start is None else start


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
