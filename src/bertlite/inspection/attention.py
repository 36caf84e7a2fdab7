"""Maps of attention: how much each head of each layer has each token look at each other one.

Shapes: `H` heads of a layer, `T` tokens that attend, `S` tokens that are attended to.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..inference.batching import evaluating
from ..inference.language_codes import Languages
from ..inference.loading import check_text
from .loading import eager, open_model
from .tokens import TextTokens, pieces_of, read_text

Maps = tuple[torch.Tensor, ...]  # (H, T, S) of each layer; heads may have been pruned from one
KINDS = ("encoder", "decoder", "cross")


@dataclass(frozen=True)
class AttentionMaps:
    """The attention weights of every head for one text, a pair, or a source and what was written.

    Attributes:
        source: the tokens of the text, of the pair, or of the source.
        encoder: `(H, S, S)` of each layer; row i says what token i attends to, and sums to 1.
        read: the tokens that the decoder has read, the start first; empty without a decoder.
        written: what it wrote after each of them.
        decoder: `(H, T, T)` of each layer of the decoder; no token sees a later one.
        cross: `(H, T, S)` of each layer of the decoder: what each of `read` attends to in the
            source.
    """

    source: TextTokens
    encoder: Maps
    read: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    decoder: Maps = ()
    cross: Maps = ()

    def maps(self, kind: str) -> Maps:
        """Those of one kind: "encoder", "decoder" or "cross".

        Raises:
            ValueError: another kind, or one that the model does not have.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
        found = getattr(self, kind)
        if not found:
            raise ValueError(f"kind must be 'encoder' for a model without a decoder, got {kind!r}")
        return found

    def tokens(self, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The tokens that attend, and those that are attended to."""
        self.maps(kind)
        attending = self.source.tokens if kind == "encoder" else self.read
        return attending, self.read if kind == "decoder" else self.source.tokens

    def to_bertviz(self) -> dict[str, Any]:
        """The arguments of bertviz' `head_view` and `model_view`.

        >>> from bertviz import head_view  # doctest: +SKIP
        >>> head_view(**maps.to_bertviz())  # doctest: +SKIP

        Raises:
            ValueError: layers have unequal numbers of heads, which bertviz cannot draw.
        """
        if len({len(layer) for kind in KINDS for layer in getattr(self, kind)}) > 1:
            raise ValueError(
                "bertviz draws layers with equal numbers of heads, got "
                f"{[len(layer) for kind in KINDS for layer in getattr(self, kind)]}"
            )
        tokens = list(self.source.tokens)
        rows = {kind: [layer[None] for layer in getattr(self, kind)] for kind in KINDS}
        if not self.decoder:
            second = [place for place, text in enumerate(self.source.texts_of) if text == 1]
            start = {"sentence_b_start": second[0]} if second else {}
            return {"attention": rows["encoder"], "tokens": tokens, **start}
        return {
            **{f"{kind}_attention": rows[kind] for kind in KINDS},
            "encoder_tokens": tokens,
            "decoder_tokens": list(self.read),
        }


def attention_maps(
    text: str,
    model: Any,
    tokenizer: Any = None,
    *,
    text_pair: str | None = None,
    written: str | None = None,
    max_length: int | None = None,
    device: torch.device | str | int | None = None,
    **generate_kwargs: Any,
) -> AttentionMaps:
    """Every head's attention weights on one text, a pair, or a source with what was generated.

    The model may be computed by any backend, and packed or not: weights are asked of the plain
    core, which all backends equal.

    Args:
        text: the text, the first of a pair, or the source of an encoder-decoder.
        model: a folder, a hub name or a loaded model, with any head or none.
        tokenizer: a tokenizer, or where to load one; None: that of the model's folder.
        text_pair: the second of a pair.
        written: of an encoder-decoder, the text that it is to have written; None: what it
            generates.
        max_length: cut the text to so many tokens; None: one that is too long is refused.
        device: where to run; None: where the model is.
        generate_kwargs: for `generate`, such as `num_beams`.

    Raises:
        ValueError: no text, one that is too long, no such model, or a written text for a
            model that writes none.
    """
    model, tokenizer = open_model("attention_maps", model, tokenizer, device)
    writes = model.config.is_encoder_decoder
    check_arguments(model, text_pair, written)
    source = read_text(tokenizer, model, text, text_pair, max_length)
    with evaluating(model, device) as place, eager(model):
        inputs = as_batch(source, place)
        if not writes:
            found = model(**inputs, output_attentions=True)
            return AttentionMaps(source, on_cpu(found.attentions))
        ids = written_ids(model, tokenizer, inputs, written, generate_kwargs)  # (1, T + 1)
        found = model(
            **inputs, decoder_input_ids=ids[:, :-1], output_attentions=True, use_cache=False
        )
    pieces = pieces_of(tokenizer, ids[0].tolist())
    return AttentionMaps(
        source,
        on_cpu(found.encoder_attentions),
        read=tuple(pieces[:-1]),
        written=tuple(pieces[1:]),
        decoder=on_cpu(found.decoder_attentions),
        cross=on_cpu(found.cross_attentions),
    )


def check_arguments(model: Any, text_pair: str | None, written: str | None) -> None:
    """Refuse, with a ValueError, texts that the model neither reads nor writes."""
    writes, name = model.config.is_encoder_decoder, type(model).__name__
    if writes and not model.can_generate():
        raise ValueError(f"model must be an encoder, or one that writes text, got {name}")
    if written is not None and not writes:
        raise ValueError(f"written must be None for {name}, which writes no text")
    if text_pair is not None and writes:
        raise ValueError(f"text_pair must be None for {name}, which reads one text")


def as_batch(tokens: TextTokens, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch of the one text, `(1, S)` each."""
    return {name: torch.tensor([row], device=device) for name, row in tokens.inputs.items()}


def on_cpu(attentions: Sequence[torch.Tensor]) -> Maps:
    """`(1, H, T, S)` of each layer to `(H, T, S)` in fp32."""
    return tuple(layer[0].detach().float().cpu() for layer in attentions)


def written_ids(
    model: Any,
    tokenizer: Any,
    inputs: dict[str, torch.Tensor],
    written: str | None,
    generate_kwargs: dict[str, Any],
) -> torch.Tensor:
    """The start and what is written after it, `(1, T + 1)`.

    Raises:
        ValueError: `written` is no text; nobody says which language the model is to write.
    """
    if written is None:
        Languages().check_target("explain", model, tokenizer, generate_kwargs, name="written")
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
        return model.generate(**inputs, **{"num_beams": 1, "do_sample": False, **generate_kwargs})
    check_text("written", written)
    ids = tokenizer(text_target=written)["input_ids"]
    start = model.config.decoder_start_token_id
    return torch.tensor([[start, *ids]], device=inputs["input_ids"].device)
