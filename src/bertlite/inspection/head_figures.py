"""What kind of head each one is, in figures.

Source: Clark et al. 2019, 'What Does BERT Look At?', sections 3 and 4.

Shapes: `H` heads of a layer, `T` tokens that attend, `S` tokens that are attended to.
"""

from typing import Any

import torch

from .attention import AttentionMaps


def head_statistics(maps: AttentionMaps, *, kind: str = "encoder") -> list[dict[str, Any]]:
    """Figures of every head, means over the tokens that attend: one dict a head, as a table takes.

    Args:
        maps: from `attention_maps`.
        kind: "encoder", "decoder" or "cross".

    Returns:
        `layer` and `head`, from 0; `entropy` of a token's weights in nats: 0 looks at one token
        alone, ln S at all alike; `separators`, the share of attention on tokens that were added,
        such as [CLS] and [SEP] (of a decoder on its start); and, but for "cross", `distance`, how
        many tokens off attention lies in the mean, and its shares on the token `itself`, on the
        `next` and on the `previous` one.

    Raises:
        ValueError: another kind, or one that the model does not have.
    """
    layers = maps.maps(kind)
    if kind == "decoder":
        separators = torch.arange(len(maps.read)) == 0
    else:
        separators = torch.tensor(maps.source.special)
    rows = []
    for layer, weights in enumerate(layers):
        figures = layer_figures(weights, separators, ordered=kind != "cross")
        for head in range(len(weights)):
            rows.append(
                {"layer": layer, "head": head}
                | {name: float(values[head]) for name, values in figures.items()}
            )
    return rows


def layer_figures(
    weights: torch.Tensor, separators: torch.Tensor, *, ordered: bool
) -> dict[str, torch.Tensor]:
    """The figures of a layer's weights `(H, T, S)`, `(H,)` each; `separators` is `(S,)`."""
    figures = {
        "entropy": torch.special.entr(weights).sum(-1).mean(-1),
        "separators": weights[..., separators].sum(-1).mean(-1),
    }
    if not ordered:
        return figures
    places = torch.arange(weights.shape[-1], dtype=weights.dtype)
    distances = (places[:, None] - places).abs()  # (T, S)
    length = weights.shape[1]
    return figures | {
        "distance": (weights * distances).sum(-1).mean(-1),
        "itself": weights.diagonal(0, 1, 2).sum(-1) / length,
        # The last token has no next one, the first no previous one: they count as not looking.
        "next": weights.diagonal(1, 1, 2).sum(-1) / length,
        "previous": weights.diagonal(-1, 1, 2).sum(-1) / length,
    }
