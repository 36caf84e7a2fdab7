"""Google's original TensorFlow checkpoints, read and written.

>>> from bertlite.conversion import load_tensorflow_checkpoint, save_tensorflow_checkpoint

TensorFlow (`pip install "bertlite[tensorflow]"`) is imported only where such a file is read or
written; and torch where a name of this package is used, so that `bertlite convert` can refuse a
wrong option at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .reading import load_tensorflow_checkpoint
    from .writing import save_tensorflow_checkpoint

MODULES = {"load_tensorflow_checkpoint": "reading", "save_tensorflow_checkpoint": "writing"}
__all__ = ["load_tensorflow_checkpoint", "save_tensorflow_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
