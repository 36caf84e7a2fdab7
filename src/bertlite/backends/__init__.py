"""Ways to run the core faster, each behind the seam of `models.seam`; the core knows none of them.

`use_backend(model, "plain")` runs the core alone; "auto", the default, takes the best backend that
can do what is asked. `model.backend_report()` says which was taken, and why others were not.
"""

from typing import Any

import torch

SEAM_VERSION = 2  # of `models.seam`, for which these are written


def available(version: int) -> tuple[Any, ...]:
    """The backends for a core with a seam of this version, best first."""
    if version != SEAM_VERSION:
        return ()
    from .cpu.backend import CpuBackend

    found: tuple[Any, ...] = (CpuBackend(),)
    if torch.cuda.is_available():
        from .cuda.backend import CudaBackend

        found = (CudaBackend(), *found)
    return found
