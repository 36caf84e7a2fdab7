"""The command `bertlite predict`."""

from .measure_command import predict_main as main

__all__ = ["main"]
