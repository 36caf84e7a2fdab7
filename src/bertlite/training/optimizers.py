"""Optimizers and schedules of both papers, to be passed to `Trainer(optimizers=...)`.

Sources: Vaswani et al. 2017, section 5.3 (Adam, β2 = 0.98, ε = 1e-9, inverse square root with
warm-up); Devlin et al. 2018, appendix A.2, and optimization.py of github.com/google-research/bert
(no decay on biases and norms).
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

# Names as BERT's and Marian's files have them: `encoder.layer.3.`, `decoder.layers.3.`, and
# `embeddings.`, `shared.`, `embed_tokens.`, `embed_positions.`, `layernorm_embedding.`
LAYER = re.compile(r"^(?P<stack>.*?)layers?\.(?P<number>\d+)\.")
EMBEDDINGS = re.compile(r"(^|\.)(embeddings|embed_\w+|layernorm_embedding|shared)\.")
FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


@dataclass(frozen=True)
class NoamRate:
    """lrate = d_model^-0.5 · min(step^-0.5, step · warmup_steps^-1.5), equation 3 of Vaswani et al.

    2017.

    It rises linearly for `warmup_steps` steps and then falls with the inverse square root of the
    step. An object, not a function, so that a scheduler's state carries the two numbers into a
    checkpoint.

    Args:
        d_model: hidden size of the model.
        warmup_steps: the step with the highest rate.

    Raises:
        ValueError: one of them is below 1.

    >>> round(NoamRate(d_model=512, warmup_steps=4000)(3999), 6)
    0.000699
    """

    d_model: int
    warmup_steps: int = 4000

    def __post_init__(self):
        for name in ("d_model", "warmup_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def __call__(self, updates: int) -> float:
        """The rate of the next update, after so many `updates`.

        The paper's step is `updates` + 1.
        """
        step = updates + 1
        return self.d_model**-0.5 * min(step**-0.5, step * self.warmup_steps**-1.5)


def noam_schedule(
    optimizer: torch.optim.Optimizer,
    *,
    d_model: int,
    warmup_steps: int = 4000,
    last_epoch: int = -1,
) -> LambdaLR:
    """The schedule of 'Attention Is All You Need', section 5.3, as a scheduler that steps after
    every update.

    The rate of update k (1, 2, ...) is lr · d_model^-0.5 · min(k^-0.5, k · warmup_steps^-1.5),
    where lr is the optimizer's own: 1.0 gives the paper's rates, another number scales them.

        optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
        Trainer(..., optimizers=(optimizer, noam_schedule(optimizer, d_model=512)))

    Args:
        optimizer: whose rates are set, each group's relative to its own `lr`.
        d_model: hidden size of the model.
        warmup_steps: the step with the highest rate, (d_model · warmup_steps)^-0.5.
        last_epoch: number of the last update when going on without a scheduler state; -1: from the
            start.

    Raises:
        ValueError: `d_model` or `warmup_steps` below 1.
    """
    return LambdaLR(optimizer, NoamRate(d_model, warmup_steps), last_epoch)


def parameter_groups(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float = 0.01,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimizer: no decay on biases and norms, and a rate for each layer if wanted.

    Every trainable parameter is in exactly one group, a tied one under its first name. With
    `layer_decay`, the rate of a head, pooler or last norm is `learning_rate`, of the top layer
    `learning_rate · layer_decay`, of each layer below `layer_decay` times that of the one above,
    and embeddings come below the first layer. Encoder and decoder each count from their own top;
    embeddings that they share lie below the deeper one.

    Deviation: ELECTRA (Clark et al. 2020), whose rates these are, skips a factor between head and
    top layer.

    Args:
        model: of either family, with or without a head.
        learning_rate: of the groups, or of the topmost ones.
        weight_decay: of weights and embeddings.
        layer_decay: factor in (0, 1]; None: one rate for all.

    Returns:
        Dicts with `params` (pairs of name and parameter), `lr` and `weight_decay`, bottom layers
        first.

    Raises:
        ValueError: a number out of its range, or nothing to train.
    """
    _check_rates(learning_rate, weight_decay, layer_decay)
    trained = [
        (name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad
    ]
    if not trained:
        raise ValueError(
            f"model must have trainable parameters, got {type(model).__name__} with none"
        )
    undecayed = _undecayed(model)
    below = {name: 0 for name, _ in trained} if layer_decay is None else layers_from_top(model)
    groups: dict[tuple[int, bool], list] = {}
    for name, parameter in trained:
        groups.setdefault((-below[name], name not in undecayed), []).append((name, parameter))
    made = []
    for depth, decayed in sorted(groups):
        rates = {
            "lr": learning_rate * (layer_decay or 1.0) ** -depth,
            "weight_decay": weight_decay * decayed,
        }
        made.append({"params": groups[depth, decayed], **rates})
    return made


def _check_rates(learning_rate: float, weight_decay: float, layer_decay: float | None) -> None:
    """Refuse, with a ValueError, a number out of its range."""
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be above 0 and at most 1, or None, got {layer_decay}")


def _undecayed(model: nn.Module) -> set[str]:
    """Names of biases and of the weights of norms."""
    names = set()
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(prefix, recurse=False):
            if name.endswith("bias") or isinstance(module, nn.LayerNorm | nn.RMSNorm):
                names.add(name)
    return names


def layers_from_top(model: nn.Module) -> dict[str, int]:
    """How far below the head each parameter lies.

    0 a head, 1 the top layer, one more for each layer below.

    Args:
        model: whose layers are called `layers.0` or `layer.0` and so on, and whose embeddings
            `embeddings`, `shared` or `embed_tokens` and the like.
    """
    names = [name for name, _ in model.named_parameters()]
    found = {name: match for name in names if (match := LAYER.match(name))}
    depths: dict[str, int] = {}
    for match in found.values():
        depths[match["stack"]] = max(depths.get(match["stack"], 0), int(match["number"]) + 1)
    deepest = max(depths.values(), default=0)
    below = {}
    for name in names:
        if name in found:
            below[name] = depths[found[name]["stack"]] - int(found[name]["number"])
        elif EMBEDDINGS.search(name):
            own = [depth for stack, depth in depths.items() if name.startswith(stack)] or [deepest]
            below[name] = max(own) + 1
        else:
            below[name] = 0
    return below


def can_fuse(model: nn.Module) -> bool:
    """Whether torch's fused Adam, one kernel for all parameters, takes the trainable parameters of
    `model`.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return all(each.is_floating_point() and each.device.type in FUSED_DEVICES for each in trained)


def bert_optimizer(
    model: nn.Module,
    *,
    learning_rate: float = 2e-5,
    weight_decay: float = 0.01,
    layer_decay: float | None = None,
    adam_epsilon: float = 1e-6,
) -> torch.optim.AdamW:
    """BERT's AdamW.

    Β = (0.9, 0.999), ε = 1e-6, decay 0.01 but on biases and norms; fused where it can be.

    `Trainer(args, ..., optimizers=(bert_optimizer(model), None))` makes the schedule itself:
    `lr_scheduler_type` "linear" (the default) with `warmup_steps=0.1`, a share of all steps, is
    BERT's.

    Deviation: BERT's Adam leaves out the bias correction; Mosbach et al. 2020
    (https://arxiv.org/abs/2006.04884) show that fine-tuning is steadier with it.

    Args:
        model: whose trainable parameters are optimized.
        learning_rate: the paper tries 5e-5, 3e-5 and 2e-5 in fine-tuning, and pretrains with 1e-4.
        weight_decay: as in `parameter_groups`.
        layer_decay: as in `parameter_groups`.
        adam_epsilon: ε.

    Raises:
        ValueError: as `parameter_groups`.
    """
    rates = {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "layer_decay": layer_decay,
    }
    groups = parameter_groups(model, **rates)  # type: ignore[arg-type]
    return torch.optim.AdamW(
        groups, lr=learning_rate, betas=(0.9, 0.999), eps=adam_epsilon, fused=can_fuse(model)
    )


def transformer_optimizers(
    model: nn.Module, *, warmup_steps: int = 4000, factor: float = 1.0
) -> tuple[torch.optim.Adam, LambdaLR]:
    """The Transformer's Adam (β = (0.9, 0.98), ε = 1e-9, no decay) with the Noam schedule, for
    `Trainer(optimizers=)`.

    Args:
        model: with a `config.hidden_size`, the schedule's d_model.
        warmup_steps: the paper's 4,000; small data wants fewer.
        factor: by which the paper's rates are multiplied.

    Raises:
        ValueError: a number out of its range, or nothing to train.
    """
    if not factor > 0:
        raise ValueError(f"factor must be above 0, got {factor}")
    groups = parameter_groups(model, learning_rate=factor, weight_decay=0.0)
    parameters = [pair for group in groups for pair in group["params"]]
    optimizer = torch.optim.Adam(
        parameters, lr=factor, betas=(0.9, 0.98), eps=1e-9, fused=can_fuse(model)
    )
    config: Any = model.config
    return optimizer, noam_schedule(
        optimizer, d_model=config.hidden_size, warmup_steps=warmup_steps
    )
