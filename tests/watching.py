"""The library's own class with the weights of one of ours, and what hooks see on both.

Shapes: `B` batch, `T` length, `E` hidden size.
"""

from collections.abc import Collection
from typing import Any
from unittest import mock

import torch
import transformers
from cases import BERT, TRANSFORMER, Case
from torch import nn
from torch.nn.modules import module as global_hooks

from bertlite import BertLiteConfig, TransformerLiteConfig
from bertlite.models.layers import DecoderLayer, LayerSteps
from bertlite.models.transformer_families import FAMILIES

# Parts of theirs that compute what is no module's work here, by the class that holds them: MPNet's
# dropout of attention weights, which in all other families is a function, and DistilBERT's loss.
UNSEEN = {"MPNetSelfAttention": "dropout", "DistilBertForMaskedLM": "mlm_loss_fct"}


def has_counterpart(case: Case) -> bool:
    """Whether transformers has a class that computes the same."""
    extensions = ("norm_first", "position_embedding_type")
    extensions += (*BertLiteConfig.by_layer, *TransformerLiteConfig.by_layer)
    return not any(name in case.config for name in extensions)


def counterpart(case: Case, model: nn.Module) -> nn.Module:
    """The library's class with the weights of `model`, under the same names, in `eval` mode."""
    name = type(model).__name__
    if case.is_seq2seq:
        fields = {**TRANSFORMER, **case.config}
        prefix = FAMILIES[fields.pop("family", "marian")].prefix
        theirs = name.replace("TransformerLite", prefix).replace(
            "MarianForConditionalGeneration", "MarianMTModel"
        )
        config = getattr(transformers, f"{prefix}Config")(**fields)
    else:
        theirs = name.replace("BertLite", "Bert")
        of_config = case.model_class.config_class.__name__.replace("BertLite", "Bert")
        config = getattr(transformers, of_config)(**{**BERT, **case.config})
    config._attn_implementation = model.config._attn_implementation
    made = getattr(transformers, theirs)(config)
    made.load_state_dict(model.state_dict())
    return made.to(model.device, model.dtype).eval()


def unseen_of(theirs: nn.Module) -> set[str]:
    """The names of the modules of `UNSEEN` in a model of theirs, and of no other."""
    found = {name: UNSEEN.get(type(module).__name__) for name, module in theirs.named_modules()}
    return {f"{name}.{part}".removeprefix(".") for name, part in found.items() if part}


def first_tensor(value: Any) -> torch.Tensor | None:
    """What a module gives, or the first of several."""
    while not isinstance(value, torch.Tensor):
        if value is None or len(value) == 0:
            return None
        value = value[0]
    return value.detach()


class Watch:
    """Notes what each named module gives forward, or gets backward, in the order of the calls.

    Args:
        model: to watch.
        names: the modules to watch; None: every one.
        kind: "forward", "backward", or "global" for torch's hook on all modules there are.
    """

    def __init__(self, model: nn.Module, names: list[str] | None = None, kind: str = "forward"):
        self.seen: dict[str, list[torch.Tensor]] = {}
        self.names = {module: name for name, module in model.named_modules()}
        if kind == "global":
            self.handles = [global_hooks.register_module_forward_hook(self.note)]
            return
        register = {
            "forward": nn.Module.register_forward_hook,
            "backward": nn.Module.register_full_backward_pre_hook,
        }[kind]
        note = self.note if kind == "forward" else self.note_gradient
        watched = [module for module, name in self.names.items() if names is None or name in names]
        self.handles = [register(module, note) for module in watched]

    def note(self, module: nn.Module, inputs: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and module in self.names:
            self.seen.setdefault(self.names[module], []).append(tensor)

    def note_gradient(self, module: nn.Module, gradients: Any) -> None:
        self.note(module, None, gradients)

    def __enter__(self) -> dict[str, list[torch.Tensor]]:
        return self.seen

    def __exit__(self, *_: Any) -> None:
        for handle in self.handles:
            handle.remove()


def assert_same_view(
    found: dict[str, list[torch.Tensor]],
    expected: dict[str, list[torch.Tensor]],
    atol: float,
    *,
    unseen: Collection[str] = (),
    gradients: bool = False,
    real: torch.Tensor | None = None,
) -> None:
    """Every module of theirs that was seen was seen on ours, with the same tensors.

    Args:
        found: what was seen on ours.
        expected: what was seen on theirs.
        atol: by which tensors may differ, in units of the largest number or of 1.
        unseen: modules that ours do not have.
        gradients: whether these are gradients.
        real: `(B, T)`, at which positions alone tensors are compared; None: at all.
    """
    assert expected, "nothing was seen"
    assert not set(unseen) & set(found), "ours have these modules too"
    for name in [name for name in expected if name not in unseen]:
        tensors = expected[name]
        assert name in found, f"{name} was not seen"
        assert len(found[name]) == len(tensors), f"{name} was seen {len(found[name])} times"
        for ours, theirs in zip(found[name], tensors, strict=True):
            if name.endswith("embed_positions"):
                ours, theirs = positions_alike(ours, theirs, gradients)
            assert ours.shape == theirs.shape, f"{name} shows {ours.shape}, not {theirs.shape}"
            if real is not None:
                ours, theirs = ours[real.bool()], theirs[real.bool()]
            difference = (ours.double() - theirs.double()).abs().max().item()
            scale = max(1.0, theirs.abs().max().item())
            assert difference <= atol * scale, f"{name} differs by {difference:.2e}"


def positions_alike(
    ours: torch.Tensor, theirs: torch.Tensor, gradients: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of positions, which ours has once for a batch, `(1, T, E)`.

    Marian's class has them without a batch, BART's for each text: equal ones, whose gradients ours
    adds up.
    """
    if theirs.ndim == 2:
        return ours.squeeze(0), theirs
    return (ours, theirs.sum(0, keepdim=True)) if gradients else (ours.expand_as(theirs), theirs)


def tokens_seen(model, part: str = "expand", **batch) -> list[int]:
    """How many tokens reach each step of this name in the encoder, layer by layer.

    By no hook, since whoever hooks sees everything.
    """
    seen, right = [], getattr(LayerSteps, part)

    def count(self, hidden_states, *args, **kwargs):
        if not isinstance(self, DecoderLayer):
            seen.append(hidden_states[..., 0].numel())
        return right(self, hidden_states, *args, **kwargs)

    with mock.patch.object(LayerSteps, part, count):
        model(**batch)
    return seen
