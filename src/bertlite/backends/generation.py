"""`generate`: `model.generate` by the fastest loop for the device where a model lies."""

from typing import Any

from .cpu import generation as on_cpu


def generate(model: Any, *args: Any, dtype: str = "fp32", **kwargs: Any) -> Any:
    """`model.generate`, faster where that is possible, with the same tokens.

    Args:
        model: an encoder-decoder.
        args: for `model.generate`.
        dtype: "fp32", or on a CPU "int8", with other results. On a GPU the model's own precision is
            used, and "fp32" is no more than the default's name.
        kwargs: for `model.generate`, whatever it takes.

    Returns:
        What `model.generate` returns.

    Raises:
        ValueError: a dtype that there is not, or that this model or these arguments cannot have.
    """
    if getattr(getattr(model, "device", None), "type", None) != "cuda":
        return on_cpu.generate(model, *args, dtype=dtype, **kwargs)
    on_cpu.check_dtype(dtype)
    on_cpu.only_fp32(dtype, "the model lies on a GPU")
    from .cuda import generation as on_gpu

    return on_gpu.generate(model, *args, **kwargs)
