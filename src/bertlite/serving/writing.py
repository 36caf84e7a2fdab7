"""Translations, summaries, and words for masks, as works.

Shapes: `M` masks of a row, `E` hidden size, `V` vocabulary.
"""

import warnings
from typing import Any

import torch

from ..inference.batching import Row, RunOptions, collate
from ..inference.language_codes import Languages
from ..inference.loading import as_texts, position_limit
from ..inference.long_texts import TooLong
from ..inference.sequence_to_sequence import Request, generate_rows, join_parts, prepare
from .catalog import ServedModel
from .requests import FillMaskRequest, SummarizeRequest, TranslateRequest, WriteRequest
from .works import Pass, Work

MOST_ROWS = 16  # that are written at a time, as in `bertlite.translate`
OF_GENERATE = ("num_beams", "max_new_tokens", "length_penalty")


def prepare_translate(served: ServedModel, asked: TranslateRequest) -> Work:
    """Translations, as of `bertlite.translate`."""
    too_long = TooLong("translate", asked.on_too_long, ("truncate", "error", "split"))
    return prepare_writing(served, asked, too_long, keep_lines=asked.keep_lines, beyond_source=50)


def prepare_summarize(served: ServedModel, asked: SummarizeRequest) -> Work:
    """Summaries, as of `bertlite.summarize`."""
    too_long = TooLong("summarize", asked.on_too_long, ("truncate", "error"))
    return prepare_writing(served, asked, too_long, at_most=128)


def prepare_writing(
    served: ServedModel, asked: WriteRequest, too_long: TooLong, **kind: Any
) -> Work:
    """Texts that an encoder-decoder writes; `kind` are fields of `Request`."""
    texts, _ = as_texts("texts", asked.texts)
    given = {name: getattr(asked, name) for name in OF_GENERATE}
    given = {name: value for name, value in given.items() if value is not None}
    request = Request(
        too_long,
        asked.max_source_length,
        asked.return_scores,
        given,
        source_prefix=asked.source_prefix,
        languages=Languages(asked.source_language, asked.target_language),
        **kind,
    )
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        sources, decoding = prepare(texts, served.model, served.tokenizer, request)
    rows: list[Any] = [{"input_ids": each.input_ids, "source": each} for each in sources]

    def run(rows: list[Any]) -> list[list[dict]]:
        options = RunOptions(batch_size=len(rows), device=None, show_progress=False)
        sources = [row["source"] for row in rows]
        return generate_rows(served.model, served.reader, sources, request, decoding, options)

    def finish(written: list[Any]) -> list[Any]:
        return join_parts(sources, written, len(texts), request, decoding)

    way = (too_long.function, asked.return_scores, asked.target_language)
    key = (served.name, *way, *sorted(given.items()))
    notes = [str(each.message) for each in found if "texts[" in str(each.message)]
    return Work(Pass(key, run, MOST_ROWS), rows, finish, notes)


def prepare_fill_mask(served: ServedModel, asked: FillMaskRequest) -> Work:
    """The likeliest words for each mask, as the library's pipeline "fill-mask" gives them.

    Raises:
        ValueError: a text without a mask, or with one beyond what the model reads.
    """
    texts, _ = as_texts("texts", asked.texts)
    tokenizer = served.tokenizer
    limit = position_limit(served.model, tokenizer)
    columns = tokenizer(texts, truncation=True, max_length=limit) if texts else {}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    mask = tokenizer.mask_token_id
    for index, (text, row) in enumerate(zip(texts, rows, strict=True)):
        seen, held = row["input_ids"].count(mask), text.count(tokenizer.mask_token)
        if not seen or seen < held:
            came = f"one beyond its first {limit} tokens" if held else f"{text[:80]!r}"
            raise ValueError(f"texts[{index}] must hold {tokenizer.mask_token}, got {came}")

    def finish(outputs: list[torch.Tensor]) -> list[Any]:
        return [
            filled(served.reader, row["input_ids"], scores, asked.top_k)
            for row, scores in zip(rows, outputs, strict=True)
        ]

    return Work(mask_pass(served), rows, finish)


def mask_pass(served: ServedModel) -> Pass:
    """Rows to the logits of their masks, `(M, V)` each; of other words none are computed."""

    def run(rows: list[Row]) -> list[torch.Tensor]:
        batch = collate(rows, served.reader, served.model.device, served.model)
        masked = batch["input_ids"] == served.reader.mask_token_id  # (B, T)
        with torch.inference_mode():
            if hasattr(served.model, "cls"):
                states = served.encoder(**batch).last_hidden_state[masked]  # (M of all rows, E)
                logits = served.model.cls(states)
            else:
                logits = served.model(**batch).logits[masked]
        return list(logits.float().cpu().split(masked.sum(1).tolist()))

    return Pass((served.name, "fill-mask"), run)


def filled(tokenizer: Any, ids: list[int], logits: torch.Tensor, top_k: int) -> Any:
    """The words of one row: a list of them, or of lists where the row has several masks."""
    places = [place for place, each in enumerate(ids) if each == tokenizer.mask_token_id]
    best = logits.softmax(-1).topk(min(top_k, logits.shape[-1]))
    found = []
    for place, scores, tokens in zip(
        places, best.values.tolist(), best.indices.tolist(), strict=True
    ):
        words = []
        for score, token in zip(scores, tokens, strict=True):
            sequence = [*ids[:place], token, *ids[place + 1 :]]
            words.append(
                {
                    "score": score,
                    "token": token,
                    "token_str": tokenizer.decode([token]),
                    "sequence": tokenizer.decode(sequence, skip_special_tokens=len(places) == 1),
                }
            )
        found.append(words)
    return found[0] if len(found) == 1 else found
