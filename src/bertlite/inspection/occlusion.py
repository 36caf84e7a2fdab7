"""What changes when words are taken away: occlusion, LIME and KernelSHAP.

A word that is taken away leaves a mask in its place, so that positions stay what they were.

Shapes: `R` rows, `T` tokens, `W` words.
"""

from typing import Any

import torch

from .subjects import Subject


def units_of(subject: Subject, unit: str = "word") -> list[list[int]]:
    """The places of the tokens that are taken away together, of each word or each token."""
    if unit == "token":
        return [[place] for place, fixed in enumerate(subject.tokens.special) if not fixed]
    return subject.tokens.word_places()


def values_without(
    subject: Subject, units: list[list[int]], kept: torch.Tensor, batch_tokens: int = 4096
) -> torch.Tensor:
    """The target's value `(R,)` of rows that keep some units and lose the others.

    Args:
        subject: whose text it is.
        units: W of them, from `units_of`.
        kept: `(R, W)` boolean.
        batch_tokens: tokens computed at a time.
    """
    places = torch.zeros(len(units), len(subject.tokens), dtype=torch.bool)  # (W, T)
    for number, unit in enumerate(units):
        places[number, unit] = True
    taken = (~kept).float() @ places.float() > 0  # (R, T)
    at_once = max(1, batch_tokens // len(subject.tokens))
    values = []
    with torch.no_grad():
        for rows in taken.to(subject.model.device).split(at_once):
            values.append(subject(subject.embed(subject.without(rows))).float().cpu())
    return torch.cat(values)


def occlusion(
    subject: Subject, *, unit: str = "word", span: int = 1, batch_tokens: int = 4096
) -> torch.Tensor:
    """f(x) − f(x without it) of each word, shared among its tokens: `(T,)`.

    Args:
        subject: what is explained.
        unit: "word" or "token".
        span: neighbouring units that are taken away together; a unit has the mean over the spans
            that it is in, each shared among its units.
        batch_tokens: tokens computed at a time.
    """
    units = units_of(subject, unit)
    span = min(span, len(units))
    starts = len(units) - span + 1
    taken = torch.zeros(starts, len(units), dtype=torch.bool)
    for start in range(starts):
        taken[start, start : start + span] = True
    whole = torch.ones(1, len(units), dtype=torch.bool)
    values = values_without(subject, units, torch.cat([whole, ~taken]), batch_tokens)
    changes = (values[0] - values[1:])[:, None] * taken / span  # (starts, W)
    return spread(subject, units, changes.sum(0) / taken.sum(0))


def surrogate(
    subject: Subject, method: str, *, samples: int = 256, seed: int = 0, batch_tokens: int = 4096
) -> torch.Tensor:
    """Weights of a linear model of which words are there, by captum, shared among tokens: `(T,)`.

    Args:
        subject: what is explained.
        method: "lime" (Ribeiro et al. 2016) or "kernel_shap" (Lundberg and Lee 2017).
        samples: texts with words taken away by chance.
        seed: of that chance, which leaves the caller's own as it was.
        batch_tokens: tokens computed at a time.

    Raises:
        ImportError: captum is not installed.
    """
    methods = captum_methods()
    units = units_of(subject)

    def values(kept: torch.Tensor) -> torch.Tensor:
        return values_without(subject, units, kept.bool().cpu(), batch_tokens)

    ones = torch.ones(1, len(units))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        found = methods[method](values).attribute(
            ones,
            baselines=torch.zeros_like(ones),
            n_samples=samples,
            perturbations_per_eval=max(1, batch_tokens // len(subject.tokens)),
        )
    return spread(subject, units, found[0])


def captum_methods() -> dict[str, Any]:
    """The classes of captum, by our names."""
    try:
        from captum.attr import KernelShap, Lime
    except ImportError as error:
        raise ImportError(
            'LIME and KernelSHAP need captum: pip install "bertlite[inspection]"'
        ) from error
    return {"lime": Lime, "kernel_shap": KernelShap}


def spread(subject: Subject, units: list[list[int]], scores: torch.Tensor) -> torch.Tensor:
    """Scores of units `(W,)`, shared alike among their tokens: `(T,)`."""
    found = torch.zeros(len(subject.tokens))
    for unit, score in zip(units, scores.tolist(), strict=True):
        found[unit] = score / len(unit)
    return found
