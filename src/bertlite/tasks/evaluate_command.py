"""The command `bertlite evaluate`."""

from .measure_command import evaluate_main as main

__all__ = ["main"]
