"""How attention adds up over layers: rollout and flow.

Source: Abnar and Zuidema 2020, 'Quantifying Attention Flow in Transformers', section 3. Each layer
is taken as half its attention, the mean over heads, and half the residual connection.

Shapes: `L` layers, `H` heads, `T` tokens.
"""

from collections.abc import Sequence

import torch

from .attention import AttentionMaps

SCALE = 10**6  # capacities of the flow are whole millionths


def attention_rollout(maps: AttentionMaps, *, kind: str = "encoder") -> torch.Tensor:
    """The product of all layers up to each one, `(L, T, T)`.

    Row i of the last says how much of each input token arrives at token i, if values simply added
    up; rows sum to 1.

    Args:
        maps: from `attention_maps`.
        kind: "encoder" or "decoder".

    Raises:
        ValueError: another kind.
    """
    rolled: list[torch.Tensor] = []
    for layer in with_residual(maps, kind):
        rolled.append(layer if not rolled else layer @ rolled[-1])
    return torch.stack(rolled)


def attention_flow(
    maps: AttentionMaps, *, kind: str = "encoder", positions: Sequence[int] | None = None
) -> torch.Tensor:
    """The greatest flow from each input token to tokens of the last layer, `(positions, T)`.

    Layers are a network of pipes, as wide as their weights; no more flows through a way than
    its narrowest pipe lets.

    Args:
        maps: from `attention_maps`.
        kind: "encoder" or "decoder".
        positions: the tokens of the last layer to look at; None: all. The work grows with the
            cube of the length: a few positions of a long text are quick, all of them are not.

    Raises:
        ValueError: another kind, or a position that is not in the text.
    """
    layers = with_residual(maps, kind)
    length = len(layers[0])
    places = range(length) if positions is None else positions
    for place in places:
        if not 0 <= place < length:
            raise ValueError(f"positions must be from 0 to {length - 1}, got {place}")
    network = flow_network(layers)
    return torch.tensor(
        [[flow(network, layers, place, token) for token in range(length)] for place in places]
    )


def with_residual(maps: AttentionMaps, kind: str) -> list[torch.Tensor]:
    """Half the mean over heads, and half the residual connection: `(T, T)` of each layer."""
    if kind == "cross":
        raise ValueError("kind must be 'encoder' or 'decoder', got 'cross', which has no residual")
    found = maps.maps(kind)
    return [0.5 * layer.mean(0) + 0.5 * torch.eye(layer.shape[-1]) for layer in found]


def flow_network(layers: list[torch.Tensor]):
    """The layers as one sparse matrix of capacities.

    Node l · T + j is token j before layer l; the last T nodes come after the last layer.
    """
    from scipy.sparse import lil_array  # scikit-learn brings it

    length, count = len(layers[0]), len(layers)
    network = lil_array((length * (count + 1), length * (count + 1)), dtype="int32")
    for number, layer in enumerate(layers):
        rows = slice(number * length, (number + 1) * length)
        columns = slice((number + 1) * length, (number + 2) * length)
        network[rows, columns] = (layer.T * SCALE).round().int().numpy()
    return network.tocsr()


def flow(network, layers: list[torch.Tensor], place: int, token: int) -> float:
    """The flow from input `token` to `place` after the last layer."""
    from scipy.sparse.csgraph import maximum_flow

    end = len(layers) * len(layers[0]) + place
    return maximum_flow(network, token, end).flow_value / SCALE
