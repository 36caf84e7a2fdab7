"""Attributions by one gradient: gradient × input, and attention × gradient.

Shapes: `T` tokens, `E` hidden size, `H` heads.
"""

import torch

from .loading import eager
from .subjects import Subject


def gradient_times_input(subject: Subject) -> torch.Tensor:
    """∂f/∂x · x of each token's vector x, `(T,)` (Shrikumar et al. 2016).

    A first-order guess of what setting the vector to zero would change.
    """
    vectors = subject.embed(subject.ids())[None].requires_grad_()  # (1, T, E)
    (gradients,) = torch.autograd.grad(subject(vectors).sum(), vectors)
    return (gradients * vectors.detach()).sum(-1)[0]


def attention_times_gradient(subject: Subject) -> torch.Tensor:
    """Σ A ∂f/∂A of all attention to each token, `(T,)`: over layers, heads and who attends.

    A first-order guess of what looking away from the token everywhere would change. (Barkan et al.
    2021 and Chefer et al. 2021 take the same product, and keep what is positive.)
    """
    vectors = subject.embed(subject.ids())[None].requires_grad_()
    with eager(subject.model):
        value, layers = subject.attentions(vectors)
    weights = [each for each, _ in layers]
    gradients = torch.autograd.grad(value.sum(), weights, allow_unused=True)
    scores = torch.zeros(len(subject.tokens), device=vectors.device)
    for (each, places), gradient in zip(layers, gradients, strict=True):
        if gradient is not None:  # of the last layer, what nobody reads has none
            part = slice(places.start, places.stop)
            scores[part] += (each * gradient).detach().float().sum((0, 1, 2))
    return scores
