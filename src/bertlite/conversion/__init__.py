"""Google's original TensorFlow checkpoints, read and written.

>>> from bertlite.conversion import load_tensorflow_checkpoint, save_tensorflow_checkpoint

TensorFlow (`pip install "bertlite[tensorflow]"`) is imported only where such a file is read or
written.
"""

from .reading import load_tensorflow_checkpoint
from .writing import save_tensorflow_checkpoint

__all__ = ["load_tensorflow_checkpoint", "save_tensorflow_checkpoint"]
