"""Sets of labels that hold the right one in a share of rows that was asked for.

Split conformal prediction (Vovk et al. 2005; Sadinle et al. 2019, https://arxiv.org/abs/1609.00451):
a label is in the set where its probability reaches a threshold, which fine-tuning fitted on the
validation rows and kept in the config. The share holds for rows of the kind that the validation
rows were, on average over them: not for each class by itself, nor for texts of another kind.
"""

import math
from typing import Any

THRESHOLDS = "conformal_thresholds"  # of a config: coverage, in two digits, to probability
LOWEST, HIGHEST = 0.5, 0.99


def coverage_key(hundredths: int) -> str:
    """The name of a coverage in the config's table.

    >>> coverage_key(90)
    '0.90'
    """
    return f"{hundredths / 100:.2f}"


def threshold_for(config: Any, coverage: Any) -> float:
    """The probability from which a label is in a set that is to hold the right one so often.

    Args:
        config: of a model that was fine-tuned with validation rows.
        coverage: the share of rows, from 0.5 to 0.99; between two hundredths the higher one counts.

    Raises:
        ValueError: no such number, a model without thresholds, or one whose validation rows were
            too few to vouch for so large a share.
    """
    number = isinstance(coverage, int | float) and not isinstance(coverage, bool)
    if not number or not LOWEST <= coverage <= HIGHEST:
        raise ValueError(
            f"coverage must be a share of rows from {LOWEST} to {HIGHEST}, got {coverage!r}"
        )
    table = getattr(config, THRESHOLDS, None)
    if not table:
        raise ValueError(
            "coverage must come with a classifier of texts that was fine-tuned with validation "
            f"rows, which fit its thresholds ({THRESHOLDS}); this model's config has none"
        )
    key = coverage_key(math.ceil(coverage * 100 - 1e-9))
    if key not in table:
        raise ValueError(
            f"coverage must be at most {max(table)}: this model's validation rows were too few to "
            f"vouch for {coverage}"
        )
    return float(table[key])
