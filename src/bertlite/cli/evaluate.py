"""The command `bertlite evaluate`."""

from .measure import evaluate_main as main

__all__ = ["main"]
