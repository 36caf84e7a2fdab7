"""Is an attribution true to the model? Measured by taking words away.

Source: DeYoung et al. 2020, 'ERASER', section 4: comprehensiveness is what the prediction loses
without the words that an explanation ranks highest, sufficiency what it loses with those; both
as the mean over the best 1, 5, 10, 20 and 50 % of the words. A faithful explanation has a high
comprehensiveness and a low sufficiency. What random rankings reach stands beside.

Deviation: a word that is taken away leaves a mask, where ERASER closes the gap; positions stay what
they were, and a text without words is still one.

Shapes: `W` words, `N` rankings.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..inference.loading import check_counts
from .attribution import Attribution
from .occlusion import units_of, values_without
from .subjects import Subject, frozen
from .targets import LOG_ODDS

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Faithfulness:
    """Figures of one attribution, of probabilities where the target has one, else of its value.

    Attributes:
        comprehensiveness: the higher the better.
        sufficiency: the lower the better.
        random_comprehensiveness: the mean over random rankings, and so is `random_sufficiency`.
        random_sufficiency: see there.
    """

    comprehensiveness: float
    sufficiency: float
    random_comprehensiveness: float
    random_sufficiency: float

    @property
    def beats_chance(self) -> bool:
        """Whether both figures are better than those of random rankings."""
        return (
            self.comprehensiveness > self.random_comprehensiveness
            and self.sufficiency < self.random_sufficiency
        )


def faithfulness(
    found: Attribution, *, rankings: int = 10, seed: int = 0, device: Any = None
) -> Faithfulness:
    """Comprehensiveness and sufficiency of an attribution, and of random rankings.

    Args:
        found: from `attribute`.
        rankings: random ones.
        seed: of those.
        device: where to run; None: where the model is.

    Raises:
        ValueError: an attribution that was not made here, and has no model; no ranking.
    """
    check_counts(1, rankings=rankings)
    if found.subject is None:
        raise ValueError("found must be an attribution as `attribute` makes it, got one without")
    words = [word.score for word in found.words()]
    best = sorted(range(len(words)), key=lambda number: -words[number])
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(len(words), generator=generator).tolist() for _ in range(rankings)]
    comprehensive, sufficient = ranking_figures(found.subject, [best, *drawn], device)
    return Faithfulness(
        comprehensive[0],
        sufficient[0],
        sum(comprehensive[1:]) / rankings,
        sum(sufficient[1:]) / rankings,
    )


def ranking_figures(
    subject: Subject, rankings: Sequence[Sequence[int]], device: Any = None
) -> tuple[list[float], list[float]]:
    """Comprehensiveness and sufficiency of rankings of a subject's words, best word first."""
    units = units_of(subject)
    count = len(units)
    rows = [torch.ones(count, dtype=torch.bool)]
    for ranking in rankings:
        for share in SHARES:
            top = torch.zeros(count, dtype=torch.bool)
            top[list(ranking[: math.ceil(share * count)])] = True
            rows += [~top, top]
    # Short texts and rankings that agree have many rows in common.
    distinct, places = torch.stack(rows).unique(dim=0, return_inverse=True)
    with frozen(subject.model, device):
        values = values_without(subject, units, distinct)[places]
    if subject.target.unit == LOG_ODDS:
        values = values.sigmoid()
    losses = (values[0] - values[1:]).view(len(rankings), len(SHARES), 2).mean(1)  # (N, 2)
    return losses[:, 0].tolist(), losses[:, 1].tolist()


def randomised(model: Any, seed: int = 0) -> Any:
    """A copy of a model with the weights of each tensor shuffled: what it had learned is gone.

    An explanation that stays what it was does not depend on what the model has learned (Adebayo et
    al. 2018, 'Sanity Checks for Saliency Maps'). Their distribution stays, so that the copy
    computes with numbers of the same size.
    """
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return other
