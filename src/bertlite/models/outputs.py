"""Outputs that compute some of their fields when somebody asks for them.

In training with labels most logits are read by nobody, so they are left out. Whoever touches them
all the same gets them.
"""

import functools
from collections.abc import Callable
from typing import Any

from transformers.utils import ModelOutput


def deferred(
    output_class: type[ModelOutput], fields: dict[str, Callable[[], Any]], **known: Any
) -> Any:
    """An output of `known` fields, and of `fields`, each computed when it is first asked for.

    `outputs.logits`, `outputs["logits"]` and `to_tuple()` compute; `keys()` and `items()` list a
    field once it has been computed. Where somebody has copied the output field by field, as
    mixed precision does, the way to compute is lost: touching the field is an AttributeError then,
    which says how to have it always.
    """
    if not fields:
        return output_class(**known)
    outputs = deferring_class(output_class, tuple(fields))(**known)
    outputs.__dict__["_deferred"] = dict(fields)
    return outputs


def compute_field(output: Any, name: str) -> None:
    """Compute a deferred field of an output, once."""
    if output.__dict__.get(name) is not None:
        return
    compute = output.__dict__.get("_deferred", {}).get(name)
    if compute is None:
        raise AttributeError(
            f"{name} was not computed: in training with labels only what the loss reads is."
            " Set model.config.loss_chunk_size = 0 to have it in every output"
        )
    output[name] = compute()


@functools.cache
def deferring_class(output_class: type[ModelOutput], names: tuple[str, ...]) -> type[ModelOutput]:
    """A subclass of an output class that computes the fields in `names` on demand."""

    class Deferring(output_class):  # type: ignore[valid-type, misc]
        def __post_init__(self) -> None:
            super().__post_init__()
            self.__dict__["_complete"] = True  # from here on, whoever reads a field wants it

        def __getattribute__(self, name: str) -> Any:
            if name in names and "_complete" in super().__getattribute__("__dict__"):
                compute_field(self, name)
            return super().__getattribute__(name)

        def __getitem__(self, key: Any) -> Any:
            return getattr(self, key) if key in names else super().__getitem__(key)

        def to_tuple(self) -> tuple:
            values = (getattr(self, name) for name in self.__dataclass_fields__)
            return tuple(value for value in values if value is not None)

        def __reduce__(self) -> tuple:
            return output_class, tuple(getattr(self, name) for name in self.__dataclass_fields__)

    Deferring.__name__ = Deferring.__qualname__ = output_class.__name__
    return Deferring
