"""Decoding with nothing wasted, for a frozen encoder-decoder on the CPU.

`generate(model, ...)` is `model.generate(...)` by a faster loop, with the same tokens; `fast_generate` is that loop for
`model.generate(..., custom_generate=fast_generate)`.
"""

from .fast import fast_generate, generate

__all__ = ["fast_generate", "generate"]
