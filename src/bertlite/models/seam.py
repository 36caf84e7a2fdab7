"""The seam between the plain core and what makes it fast.

The core computes padded `(B, T, E)` with plain modules. A backend may do the same work another way,
at four places: how an encoder turns a batch into vectors ("encode"), how a decoder does
("decode"), how the loss over a vocabulary is computed ("vocabulary_loss"), and by what loop tokens
are generated ("generate"). Everything else about backends stands in `bertlite.backends`, which this
file looks up by name: it also travels with checkpoints, and where bertlite is not installed the
core runs plainly.

A backend is asked at each call whether it can do what is wanted, and says why not. `backend_report`
of a model lists those reasons.
"""

import functools
import importlib
import importlib.util
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as global_hooks

from .inputs import is_traced

VERSION = 2  # raised when what core and backends ask of each other changes
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
# The library's recorder of outputs, which is idle unless outputs are asked for.
RECORDER = "transformers.utils.output_capturing"
# Hooks that look at no values: besides the recorder, the one that gradient checkpointing puts on
# the embeddings, to have them require gradients, and the gathering of sharded weights.
BLIND_HOOKS = (RECORDER, "transformers.modeling_utils", "torch.distributed.")


@functools.cache
def installed_backends() -> tuple[Any, ...]:
    """The backends of the bertlite that is installed, best first; none where there is none.

    A bertlite whose side of the seam has another version has none for this core.
    """
    try:
        found = importlib.util.find_spec("bertlite")
    except (ImportError, ValueError):  # as of an import that somebody has barred
        return ()
    if found is None:
        return ()
    backends = importlib.import_module("bertlite.backends")
    return backends.available(VERSION)


def hooked_module(model: nn.Module) -> str | None:
    """The class name of a module in `model` that a hook watches; None where none is watched.

    Whoever watches is shown the tensors of the plain core.
    """
    if any(getattr(global_hooks, name) for name in GLOBAL_HOOKS):
        return "every module"
    for module in walk(model):
        own = module.__dict__
        if (
            own["_forward_hooks"]
            or own["_forward_pre_hooks"]
            or own["_backward_hooks"]
            or own["_backward_pre_hooks"]
        ):
            hooks = [hook for name in HOOKS for hook in own[name].values()]
            if not all(is_blind(hook) for hook in hooks):
                return type(module).__name__
    return None


def is_blind(hook: Any, owners: str | tuple[str, ...] = BLIND_HOOKS) -> bool:
    """Whether a hook looks at no values, as those of these modules do."""
    owner = getattr(hook, "__module__", None) or type(hook).__module__
    return owner.startswith(owners)


def walk(model: nn.Module) -> list[nn.Module]:
    """All modules of a model.

    They are looked at in each call: `modules()`, with its bookkeeping, costs more than the look.
    """
    found = [model]
    for module in found:  # which grows on the way
        if module._modules:
            children: Any = module._modules.values()
            if None in children:
                children = [child for child in children if child is not None]
            found.extend(children)
    return found


class Seam:
    """What every model knows of backends: which was chosen, which was taken, and why not others."""

    config: Any
    device: Any

    # "auto": the best of those that can do the work; else the name of one, or a backend itself.
    backend_choice: Any = "auto"
    # Found when the first model is built, so that a compiler meets a constant.
    installed: tuple[Any, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module; before its first forward, a model is prepared by its backend."""
        if "_prepared" not in self.__dict__ and not is_traced():
            self.prepare()
        return super().__call__(*args, **kwargs)  # type: ignore[misc]

    def prepare(self) -> None:
        """Let the backend of the model's device prepare its layers."""
        self.__dict__["_prepared"] = True
        for backend in self.backends():
            if backend.serves(self.device):
                backend.prepare(self)
                break

    def backends(self) -> tuple[Any, ...]:
        """The backends to ask, best first; none leaves everything to the plain core."""
        choice, known = self.backend_choice, self.installed
        if choice == "plain" or not self.config.unpad_inputs:
            return ()
        if not isinstance(choice, str):
            return (choice, *known)
        return known if choice == "auto" else tuple(each for each in known if each.name == choice)

    def take_backend(self, work: str, **wanted: Any) -> Any:
        """The first backend that can do `work`, with nothing against it; None: the plain core.

        Args:
            work: "encode", "decode", "vocabulary_loss" or "generate".
            wanted: what the backend has to know to judge.
        """
        reasons: dict[str, list[str]] = {}
        taken = None
        for backend in self.backends():
            reasons[backend.name] = backend.unsupported(work, self, **wanted)
            if not reasons[backend.name]:
                taken = backend
                break
        if not is_traced():
            report = self.__dict__.setdefault("_backend_report", {})
            report[work] = (taken.name if taken is not None else "plain", reasons)
        return taken

    def sees_a_part(self) -> bool:
        """Whether this is a copy that `nn.DataParallel` has made, for some rows of a batch."""
        return self.__dict__.get("_is_replica", False)

    def count_of(self, positions: torch.Tensor) -> int | None:
        """How many `positions` are True, where a backend was told to count them and has done so."""
        for backend in self.backends():
            if backend.serves(self.device):
                return backend.count_of(positions)
        return None

    def is_watched(self, **kwargs: Any) -> bool:
        """Whether the caller or a hook sees more than the result: nothing may be left out then."""
        asked = any(
            kwargs[name] if kwargs.get(name) is not None else getattr(self.config, name)
            for name in ("output_hidden_states", "output_attentions")
        )
        return asked or hooked_module(self) is not None  # type: ignore[arg-type]

    def skips_unread(self, **kwargs: Any) -> bool:
        """Whether vectors that the head does not read may be left out: by a backend, unwatched."""
        return bool(self.backends()) and not is_traced() and not self.is_watched(**kwargs)

    def backend_report(self) -> list[str]:
        """What was taken in the last forward, and why others were not, a line for each work.

        >>> model.backend_report()  # doctest: +SKIP
        ["BertLiteModel, encode: plain; not cpu: a hook watches BertPooler"]
        """
        lines = []
        for module in self.modules():  # type: ignore[attr-defined]
            for work, (taken, reasons) in module.__dict__.get("_backend_report", {}).items():
                against = [f"not {name}: {', '.join(why)}" for name, why in reasons.items() if why]
                lines.append(f"{type(module).__name__}, {work}: {'; '.join([taken, *against])}")
        return lines
