"""Models that write several languages: how the tokenizer and `generate` are told which.

mBART, mBART-50, M2M100 and NLLB mark a text with its language, by a token of their tokenizer's.
Marian's models into several languages read a word such as >>deu<< instead (`long_texts.py`).
"""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

CODE = re.compile(r"[a-z]{2,3}_[A-Z]\w+")  # such as de_DE of mBART, and deu_Latn of NLLB


def language_tokens(tokenizer: Any) -> dict[str, int]:
    """The ids of the languages that a tokenizer marks texts with, by code; {} where it does not."""
    if not isinstance(getattr(type(tokenizer), "src_lang", None), property):
        return {}
    if hasattr(tokenizer, "lang_code_to_token"):  # M2M100
        return {code: tokenizer.get_lang_id(code) for code in tokenizer.lang_code_to_token}
    special = [token for token in tokenizer.all_special_tokens if CODE.fullmatch(token)]
    return {token: tokenizer.convert_tokens_to_ids(token) for token in special}


def texts_of(tokenizer: Any, sequences: Any) -> list[str]:
    """The texts of rows of ids `(B, T)`, without special tokens and the languages' own.

    Deviation: not every tokenizer of M2M100 counts the languages among its special tokens, and
    `batch_decode(..., skip_special_tokens=True)` of such a one begins a text with `__fr__`.
    """
    languages = {*language_tokens(tokenizer).values()}
    rows = [[token for token in row if token not in languages] for row in sequences.tolist()]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]


@dataclass(frozen=True)
class Languages:
    """The codes of the languages of source and target; None: as tokenizer and model have them."""

    source: str | None = None
    target: str | None = None

    def check(self, function: str, tokenizer: Any, *, ending: str = "language") -> None:
        """Refuse, with a ValueError, codes that a tokenizer does not know.

        `ending` is that of the arguments' names.
        """
        known = language_tokens(tokenizer)
        for side, code in (("source", self.source), ("target", self.target)):
            if code is not None and code not in known:
                raise unknown_language(function, f"{side}_{ending}", code, tokenizer, known)

    def check_target(
        self,
        function: str,
        model: Any,
        tokenizer: Any,
        given: dict[str, Any],
        *,
        name: str = "target_language",
    ) -> None:
        """Refuse to let chance choose the language that is written; `name` is what settles it.

        Raises:
            ValueError: the tokenizer has several, and neither the caller, by the target or by the
                arguments of `generate` that are `given`, nor the model names one.
        """
        known = language_tokens(tokenizer)
        if self.target is not None or not known:
            return
        config = given.get("generation_config") or model.generation_config
        fields = ("forced_bos_token_id", "decoder_start_token_id")
        said = {given.get(field, getattr(config, field, None)) for field in fields}
        if not said & {*known.values()}:
            raise ValueError(
                f"{function}: {name} must be given, since the model writes {len(known)} "
                f"languages ({', '.join(sorted(known)[:3])}, ...) and its generation config names "
                "none"
            )


def unknown_language(
    function: str, name: str, code: str, tokenizer: Any, known: dict[str, int]
) -> ValueError:
    """What is said of a code that is not `known`."""
    if not known:
        return ValueError(
            f"{function}: {name} must be left out, since {type(tokenizer).__name__} marks no "
            f"languages, got {code!r} (a Marian model into several languages takes "
            "source_prefix='>>deu<<')"
        )
    near = difflib.get_close_matches(str(code), known, 3, cutoff=0.3) or sorted(known)[:3]
    return ValueError(
        f"{function}: {name} must be one of the tokenizer's {len(known)} codes, such as "
        f"{', '.join(near)}, got {code!r}"
    )


@contextmanager
def marking(tokenizer: Any, languages: Languages) -> Iterator[None]:
    """Have a tokenizer mark sources and targets with these languages, and then as before."""
    if languages == Languages():
        yield
        return
    before = tokenizer.src_lang, tokenizer.tgt_lang
    tokenizer.tgt_lang = languages.target or before[1]
    tokenizer.src_lang = languages.source or before[0]
    try:
        yield
    finally:
        tokenizer.tgt_lang = before[1]
        tokenizer.src_lang = before[0]


def starts_with_language(model: Any, tokenizer: Any) -> bool:
    """Whether the decoder begins with the language, as mBART's, and does not write it first."""
    config = model.config
    is_mbart = getattr(config, "family", config.model_type) == "mbart"
    ends_with_it = [*getattr(tokenizer, "suffix_tokens", [])][-1:] != [tokenizer.eos_token_id]
    return is_mbart and ends_with_it and bool(language_tokens(tokenizer))


def generation_settings(model: Any, tokenizer: Any, target: str | None) -> dict[str, int]:
    """The arguments of `generate` that have the model write the language `target`."""
    if target is None:
        return {}
    token = language_tokens(tokenizer)[target]
    name = "forced_bos_token_id"
    return {"decoder_start_token_id" if starts_with_language(model, tokenizer) else name: token}
