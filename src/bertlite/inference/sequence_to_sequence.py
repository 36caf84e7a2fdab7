"""Translation and summarisation: texts written by an encoder-decoder, by beam search.

Shapes: `B` batch, `S` source length, `T` target length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ..backends.cpu.generation_rules import RowLimits
from .batching import RunOptions, collate, evaluating, length_batches
from .language_codes import Languages, generation_settings, marking, texts_of
from .loading import SEQ2SEQ, as_texts, check_counts, load, position_limit
from .long_texts import Source, TooLong, encode_sources

# Arguments of `generate` that are given here, or that would change what it returns.
TAKEN = [
    "inputs",
    "input_ids",
    "attention_mask",
    "decoder_input_ids",
    "stopping_criteria",
    "streamer",
]
TAKEN += ["return_dict_in_generate", "output_scores"]
WITHOUT_BEAMS = ("do_sample", "assistant_model", "prompt_lookup_num_tokens")


def translate(
    texts: str | Iterable[str],
    model: Any,
    tokenizer: Any = None,
    *,
    source_language: str | None = None,
    target_language: str | None = None,
    on_too_long: str = "truncate",
    max_source_length: int | None = None,
    source_prefix: str = "",
    keep_lines: bool = True,
    return_scores: bool = False,
    batch_size: int = 16,
    device: torch.device | str | int | None = None,
    show_progress: bool = True,
    **generate_kwargs,
) -> Any:
    """Translate texts.

    As in Vaswani et al. 2017 (section 6.1): beam search with 4 beams and length penalty 0.6, and at
    most 50 tokens more than the source has. What the model's generation config or `generate_kwargs`
    say comes first.

    Args:
        texts: one text, or a list.
        model: a folder, a hub name or a loaded encoder-decoder.
        tokenizer: a tokenizer, or where to load one; None: that of the model's folder.
        source_language: the language of the texts, by the code of a tokenizer that marks it, such
            as "en" (M2M100), "en_XX" (mBART) or "eng_Latn" (NLLB); None: as the tokenizer is set.
        target_language: likewise the language to write; None: as the model's generation config
            says.
        on_too_long: what happens to a text with more tokens than the model can read: "truncate"
            cuts it and warns, naming the text; "error" refuses it; "split" translates it in parts,
            by sentences, and joins them.
        max_source_length: tokens of a source; None: as many as model and tokenizer can take.
        source_prefix: put before each text, and before each part of one that is split, such as
            "translate English to German: " or ">>deu<<".
        keep_lines: whether each line of a text is translated by itself, so that the translation has
            the same lines; False: a text is one whole, whose lines are space to most tokenizers.
        return_scores: whether to return dicts with scores.
        batch_size: texts a forward pass.
        device: where to run; None: where the model is.
        show_progress: a progress bar where the work takes more than three seconds.
        generate_kwargs: for `model.generate`, such as `num_beams`, `length_penalty`,
            `max_new_tokens`.

    Returns:
        For each text its translation; with `return_scores` a dict of `text` and `score`: the
        log-probability that the model gives the translation, divided by its length in tokens to the
        power `length_penalty` (the mean over the lines of a text, and the parts of one that was
        split). With
        `num_return_sequences` above 1, a list of them, best first under beam search. For one
        string, its result alone.

    Raises:
        ValueError: an empty text, a text that is too long where that is an error, a code such as
            >>deu<< or a language that the tokenizer does not know, no target_language where nobody
            says it, a model that is no encoder-decoder, numbers out of range.
    """
    options = RunOptions(batch_size, device, show_progress)
    too_long = TooLong("translate", on_too_long, ("truncate", "error", "split"))
    request = Request(
        too_long,
        max_source_length,
        return_scores,
        generate_kwargs,
        source_prefix=source_prefix,
        languages=Languages(source_language, target_language),
        keep_lines=keep_lines,
        beyond_source=50,
    )
    return write(texts, model, tokenizer, request, options)


def summarize(
    texts: str | Iterable[str],
    model: Any,
    tokenizer: Any = None,
    *,
    source_language: str | None = None,
    target_language: str | None = None,
    on_too_long: str = "truncate",
    max_source_length: int | None = None,
    source_prefix: str = "",
    return_scores: bool = False,
    batch_size: int = 16,
    device: torch.device | str | int | None = None,
    show_progress: bool = True,
    **generate_kwargs,
) -> Any:
    """Summarise texts: as `translate`, but a summary has at most 128 tokens, and no text is split.

    Args:
        texts: one text, or a list.
        model: a folder, a hub name or a loaded encoder-decoder.
        tokenizer: a tokenizer, or where to load one; None: that of the model's folder.
        source_language: the language of the texts, by the code of a tokenizer that marks it, such
            as "en" (M2M100), "en_XX" (mBART) or "eng_Latn" (NLLB); None: as the tokenizer is set.
        target_language: likewise the language to write; None: as the model's generation config
            says.
        on_too_long: "truncate" cuts a text that is too long and warns, naming it; "error" refuses
            it.
        max_source_length: tokens of a source; None: as many as model and tokenizer can take.
        source_prefix: put before each text, such as "summarize: ".
        return_scores: whether to return dicts with scores.
        batch_size: texts a forward pass.
        device: where to run; None: where the model is.
        show_progress: a progress bar where the work takes more than three seconds.
        generate_kwargs: for `model.generate`, such as `num_beams`, `length_penalty`,
            `max_new_tokens`.

    Returns:
        As `translate`.

    Raises:
        ValueError: as `translate`.
    """
    options = RunOptions(batch_size, device, show_progress)
    too_long = TooLong("summarize", on_too_long, ("truncate", "error"))
    request = Request(
        too_long,
        max_source_length,
        return_scores,
        generate_kwargs,
        source_prefix=source_prefix,
        languages=Languages(source_language, target_language),
        at_most=128,
    )
    return write(texts, model, tokenizer, request, options)


@dataclass(frozen=True)
class Request:
    """What `translate` and `summarize` were asked for, and where they differ."""

    too_long: TooLong
    max_source_length: int | None
    return_scores: bool
    generate_kwargs: dict[str, Any]
    source_prefix: str = ""
    languages: Languages = Languages()
    keep_lines: bool = False
    beyond_source: int | None = None  # tokens that the text may have more than its source
    at_most: int | None = None  # tokens that the text may have

    def __post_init__(self):
        names = ("num_beams", "max_new_tokens", "num_return_sequences")
        counts = {
            name: self.generate_kwargs[name] for name in names if name in self.generate_kwargs
        }
        check_counts(1, max_source_length=self.max_source_length, **counts)
        if not isinstance(self.source_prefix, str):
            raise ValueError(f"source_prefix must be a string, got {self.source_prefix!r}")
        taken = sorted(set(TAKEN) & set(self.generate_kwargs))
        if taken:
            raise ValueError(
                f"{self.too_long.function} sets {', '.join(taken)} of generate itself; leave it out"
            )


@dataclass(frozen=True)
class Decoding:
    """The arguments of `generate`, and what they mean for limits and scores."""

    settings: dict[str, Any]
    length_penalty: float
    num_return_sequences: int
    eos_token_ids: list[int]
    limit_is_ours: bool  # whether neither the caller nor the model says how long a text may become
    first_is_forced: bool  # whether the first token is not the model's choice, such as a language

    @classmethod
    def of(cls, model: Any, given: dict[str, Any]) -> "Decoding":
        """The caller's arguments, then the model's generation config, then the paper's beams and
        length penalty.
        """
        config = given.get("generation_config") or model.generation_config
        settings = dict(given)

        def value(name: str) -> Any:
            return settings[name] if name in settings else getattr(config, name, None)

        if value("num_beams") is None:
            settings["num_beams"] = 1 if any(value(name) for name in WITHOUT_BEAMS) else 4
        if value("length_penalty") is None and value("num_beams") > 1:
            settings["length_penalty"] = 0.6
        penalty = value("length_penalty")
        eos = value("eos_token_id")
        return cls(
            settings=settings,
            length_penalty=0.6 if penalty is None else penalty,
            num_return_sequences=value("num_return_sequences") or 1,
            eos_token_ids=[] if eos is None else [eos] if isinstance(eos, int) else list(eos),
            limit_is_ours=value("max_length") is None and value("max_new_tokens") is None,
            first_is_forced=value("forced_bos_token_id") is not None,
        )


def write(texts: Any, model: Any, tokenizer: Any, request: Request, options: RunOptions) -> Any:
    """Check, load, encode, generate, and put the parts of each text together."""
    sources, single = as_texts("texts", texts)
    model, tokenizer = load(request.too_long.function, model, tokenizer, SEQ2SEQ, options.device)
    rows, decoding = prepare(sources, model, tokenizer, request)
    written = generate_rows(model, tokenizer, rows, request, decoding, options)
    results = join_parts(rows, written, len(sources), request, decoding)
    return results[0] if single else results


def prepare(
    sources: list[str], model: Any, tokenizer: PreTrainedTokenizerBase, request: Request
) -> tuple[list[Source], Decoding]:
    """The rows that the model reads, and how it is to write.

    Raises:
        ValueError: see `translate`.
    """
    function = request.too_long.function
    request.languages.check(function, tokenizer)
    if request.beyond_source is not None:  # a summary is in the language of its text
        request.languages.check_target(function, model, tokenizer, request.generate_kwargs)
    asked = generation_settings(model, tokenizer, request.languages.target)
    decoding = Decoding.of(model, {**asked, **request.generate_kwargs})
    if decoding.num_return_sequences > 1 and request.too_long.action == "split":
        raise ValueError(
            "num_return_sequences must be 1 with on_too_long='split', got "
            f"{decoding.num_return_sequences}"
        )
    limit = position_limit(model, tokenizer, request.max_source_length)
    with marking(tokenizer, request.languages):
        rows = encode_sources(
            tokenizer,
            sources,
            limit,
            request.too_long,
            source_prefix=request.source_prefix,
            by_line=request.keep_lines,
        )
    if decoding.num_return_sequences > 1 and len(rows) > len(sources):
        raise ValueError(
            "num_return_sequences must be 1 where texts have several lines and keep_lines is "
            f"True, got {decoding.num_return_sequences}"
        )
    return rows, decoding


def join_parts(
    rows: list[Any], written: list[Any], count: int, request: Request, decoding: Decoding
) -> list[Any]:
    """What was written for each of `count` texts, its parts put together."""
    parts: list[list[int]] = [[] for _ in range(count)]
    for number, row in enumerate(rows):
        parts[row.text].append(number)
    results: list[Any] = []
    for numbers in parts:
        if len(numbers) == 1:
            found = written[numbers[0]]
        else:
            joined = "".join(
                written[number][0]["text"] + rows[number].separator for number in numbers
            )
            score = sum(written[number][0]["score"] for number in numbers) / len(numbers)
            found = [{"text": joined, "score": score}]
        given = found if request.return_scores else [each["text"] for each in found]
        results.append(given[0] if decoding.num_return_sequences == 1 else given)
    return results


def generate_rows(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Source],
    request: Request,
    decoding: Decoding,
    options: RunOptions,
) -> list[list[dict]]:
    """For each row its texts with scores (0 where nobody asked), best first under beam search."""
    inputs = [
        {"input_ids": row.input_ids, "attention_mask": [1] * len(row.input_ids)} for row in rows
    ]
    written: list[list[dict]] = [[] for _ in rows]
    with evaluating(model, options.device) as device:
        for batch in length_batches(
            inputs, options, "Translating" if request.beyond_source else "Summarizing"
        ):
            tensors = collate([inputs[index] for index in batch], tokenizer, device)
            limits, settings = row_limits(
                model, [len(rows[index].input_ids) for index in batch], request, decoding
            )
            given = {**tensors, **decoding.settings, **settings}
            sequences = model.generate(**given)  # (B * returned, 1 + T)
            scores = [0.0] * len(sequences)
            if request.return_scores:
                scores = sequence_scores(model, tensors, sequences, limits, decoding)
            texts = texts_of(tokenizer, sequences)
            each = [
                {"text": text, "score": score} for text, score in zip(texts, scores, strict=True)
            ]
            for place, index in enumerate(batch):
                first = place * decoding.num_return_sequences
                written[index] = each[first : first + decoding.num_return_sequences]
    return written


def row_limits(
    model: Any, lengths: Sequence[int], request: Request, decoding: Decoding
) -> tuple[list[int] | None, dict[str, Any]]:
    """Tokens that each row may have and the arguments of `generate` that say so.

    None where they are not ours to say.

    Args:
        lengths: tokens of each source.
    """
    if not decoding.limit_is_ours:
        return None, {}
    positions = getattr(model.config, "max_position_embeddings", None)
    highest = 10**6 if positions is None else max(positions - 1, 1)
    if request.beyond_source is None:
        limits = [min(request.at_most or highest, highest)] * len(lengths)
        return limits, {"max_new_tokens": limits[0]}
    limits = [min(length + request.beyond_source, highest) for length in lengths]
    # One token more than any row takes: at this limit some models are made to end, which would be
    # the longest row's.
    return limits, {
        "max_new_tokens": min(max(limits) + 1, highest),
        "stopping_criteria": [RowLimits(limits)],
    }


def sequence_scores(
    model: Any,
    inputs: dict[str, torch.Tensor],
    sequences: torch.Tensor,
    limits: list[int] | None,
    decoding: Decoding,
) -> list[float]:
    """Log-probability of each sequence over its length to the power of the length penalty.

    The score that beam search ranks by, computed anew in one pass: keeping every step's scores
    would need memory for steps x beams x vocabulary.

    Args:
        sequences: `(B * returned, 1 + T)`: the start token, then what was written, the end token
            included.
        limits: after how many tokens each of the B rows was stopped.
    """
    repeat = len(sequences) // len(inputs["input_ids"])
    inputs = {name: tensor.repeat_interleave(repeat, 0) for name, tensor in inputs.items()}
    logits = model(**inputs, decoder_input_ids=sequences[:, :-1]).logits  # (B * returned, T, V)
    targets = sequences[:, 1:]
    ends = torch.isin(
        targets, torch.tensor(decoding.eos_token_ids, device=targets.device, dtype=targets.dtype)
    )
    counted = ends.cumsum(-1) - ends.long() == 0  # up to and with the first end token
    counted[:, 0] &= not decoding.first_is_forced
    if limits is not None:
        allowed = torch.tensor(limits, device=targets.device).repeat_interleave(repeat)
        counted &= torch.arange(targets.shape[1], device=targets.device) < allowed[:, None]
    scores = []
    for row, target, kept in zip(
        logits, targets, counted, strict=True
    ):  # a row at a time: V is large
        chosen = row.float().log_softmax(-1).gather(-1, target[:, None])[:, 0]  # (T,)
        scores.append(float(chosen[kept].sum() / kept.sum() ** decoding.length_penalty))
    return scores
