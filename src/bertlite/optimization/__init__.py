"""Frozen inference as fast as the processor allows: `optimize`, `undo_optimize`, `encode`."""

from .encode import encode
from .encoder import optimize, undo_optimize

__all__ = ["encode", "optimize", "undo_optimize"]
