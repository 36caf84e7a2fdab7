"""The logit lens: what each layer would answer if the model ended there.

The states of every layer go through the head that was trained on the last one (nostalgebraist 2020,
"interpreting GPT: the logit lens"). Early layers were never asked to speak that language: what they
say is a hint where an answer comes about, and no proof of what they hold.

Shapes: `L` layers, `P` positions, `V` vocabulary, `E` hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..inference.language_codes import Languages
from ..inference.loading import check_counts, check_text, position_limit
from .importance import evaluating
from .loading import open_model


@dataclass(frozen=True)
class Lens:
    """The answers of every layer at some positions; entry 0 is of the embeddings.

    Attributes:
        tokens: the token at each position: the mask, or what was generated there.
        final: the model's own first answer at each position.
        best: by layer and position the likeliest tokens with their probabilities.
        ranks: by layer and position the place of `final` among all words, from 1.
        probabilities: by layer and position that of `final`.
    """

    tokens: list[str]
    final: list[str]
    best: list[list[list[tuple[str, float]]]]
    ranks: list[list[int]]
    probabilities: list[list[float]]

    def decided(self) -> list[int]:
        """For each position the layer from which on the first answer is the model's own."""
        found = []
        for place in range(len(self.tokens)):
            layer = len(self.ranks) - 1
            while layer > 0 and self.ranks[layer - 1][place] == 1:
                layer -= 1
            found.append(layer)
        return found

    def __str__(self) -> str:
        lines = []
        for place, (token, final) in enumerate(zip(self.tokens, self.final, strict=True)):
            lines.append(f"{token}: {final}, from layer {self.decided()[place]} on")
            for layer, answers in enumerate(self.best):
                words = ", ".join(f"{word} {share:.3f}" for word, share in answers[place])
                lines.append(f"  {layer:3d}  rank {self.ranks[layer][place]:6d}  {words}")
        return "\n".join(lines)


def logit_lens(
    model: Any,
    text: str,
    target: str | None = None,
    *,
    tokenizer: Any = None,
    top_k: int = 3,
    max_new_tokens: int = 50,
    device: Any = None,
) -> Lens:
    """What each layer would answer.

    Args:
        model: a masked language model or an encoder-decoder: a folder, a hub name or a loaded one.
        text: for a masked language model a text with its mask token in one or several places; else
            the source.
        target: of an encoder-decoder the text whose tokens are predicted one after the other; None:
            the one that it generates.
        tokenizer: a tokenizer or its folder; None: the model's.
        top_k: answers a layer.
        max_new_tokens: of what is generated.
        device: where to run a model that is loaded here.

    Returns:
        The layers' answers.

    Raises:
        ValueError: another kind of model, a text that is too long or without a mask, or a target
            without a decoder.

    >>> import bertlite
    >>> from bertlite.inspection import logit_lens
    >>> lens = logit_lens("FOLDER", "The film was [MASK].")  # doctest: +SKIP
    """
    check_counts(1, top_k=top_k, max_new_tokens=max_new_tokens)
    check_text("text", text)
    model, tokenizer = open_model("logit_lens", model, tokenizer, device)
    with torch.no_grad(), evaluating(model):
        if model.config.is_encoder_decoder:
            logits, ids = generated(model, tokenizer, text, target, max_new_tokens)
        elif target is not None:
            raise ValueError("target must be left out for a model without a decoder")
        else:
            logits, ids = masked(model, tokenizer, text)
        return read_lens(logits.float().cpu(), ids, tokenizer, top_k)


def masked(model: Any, tokenizer: Any, text: str) -> tuple[torch.Tensor, list[int]]:
    """Logits `(L + 1, P, V)` at the masks, and the masks' ids."""
    if not hasattr(model, "score") or model.get_output_embeddings() is None:
        raise ValueError(
            f"model must be a masked language model or an encoder-decoder, got a "
            f"{type(model).__name__}"
        )
    inputs = whole_text(model, tokenizer, text)
    places = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
    if not len(places):
        raise ValueError(f"text must hold {tokenizer.mask_token} where to look, got {text!r:.80}")
    outputs = model(**inputs, output_hidden_states=True)
    finish = model.base_model.finish
    states = [finish(each[0, places]) for each in outputs.hidden_states[:-1]]  # (P, E) each
    layers = [model.score(each[None])[0] for each in states]
    return torch.stack([*layers, outputs.logits[0, places]]), inputs["input_ids"][
        0, places
    ].tolist()


def whole_text(model: Any, tokenizer: Any, text: str) -> Any:
    """A text as a batch, `(1, T)` each; a ValueError where it is too long for the model."""
    inputs = tokenizer(text, return_tensors="pt", verbose=False)
    limit, length = position_limit(model, tokenizer), inputs["input_ids"].shape[1]
    if length > limit:
        raise ValueError(f"text must have at most {limit} tokens, got {length}")
    return inputs.to(model.device)


def generated(
    model: Any, tokenizer: Any, text: str, target: str | None, max_new_tokens: int
) -> tuple[torch.Tensor, list[int]]:
    """Logits `(L + 1, P, V)` before each token of the target, and the target's ids."""
    inputs = whole_text(model, tokenizer, text)
    if target is None:
        Languages().check_target("logit_lens", model, tokenizer, {}, name="target")
        labels = model.generate(**inputs, max_new_tokens=max_new_tokens)[:, 1:]
    else:
        encoded = tokenizer(text_target=target, truncation=True, return_tensors="pt")
        labels = encoded["input_ids"].to(model.device)
    outputs = model(**inputs, labels=labels, output_hidden_states=True)
    norm = model.get_decoder().final_norm
    states = outputs.decoder_hidden_states[:-1]
    states = states if norm is None else [norm(each) for each in states]
    layers = [(model.lm_head(each) + model.final_logits_bias)[0] for each in states]
    return torch.stack([*layers, outputs.logits[0]]), labels[0].tolist()


def read_lens(logits: torch.Tensor, ids: Sequence[int], tokenizer: Any, top_k: int) -> Lens:
    """What `(L + 1, P, V)` logits say."""
    shares = logits.softmax(-1)
    chosen = logits[-1].argmax(-1)  # (P,)
    own = logits.gather(-1, chosen[None, :, None].expand(len(logits), -1, 1))  # (L + 1, P, 1)
    ranks = (logits > own).sum(-1) + 1
    values, words = shares.topk(min(top_k, shares.shape[-1]), dim=-1)
    best = [
        [
            list(zip(tokenizer.convert_ids_to_tokens(place.tolist()), each.tolist(), strict=True))
            for place, each in zip(layer, layer_values, strict=True)
        ]
        for layer, layer_values in zip(words, values, strict=True)
    ]
    probabilities = shares.gather(-1, chosen[None, :, None].expand(len(logits), -1, 1))[..., 0]
    return Lens(
        tokens=tokenizer.convert_ids_to_tokens(list(ids)),
        final=tokenizer.convert_ids_to_tokens(chosen.tolist()),
        best=best,
        ranks=ranks.tolist(),
        probabilities=probabilities.tolist(),
    )
