"""The command `bertlite predict`."""

from .measure import predict_main as main

__all__ = ["main"]
