"""What has to be right before anything is timed: outputs, gradients and dropout."""

from typing import Any

import torch
from gpu_models import Setting, batches, load, on_device

EXACT = 1e-5
HALF_TIMES = 3  # how many times transformers' own distance from fp32 ours may be
SEEDS = 64
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def check(setting: Setting) -> list[dict[str, Any]]:
    """All comparisons: what was compared, the figure, the limit, and whether it was kept."""
    return [*outputs(setting), gradients(setting), dropout(setting)]


def outputs(setting: Setting) -> list[dict[str, Any]]:
    """Last hidden states at real tokens, against transformers' eager attention in float64."""
    batch = on_device(setting, batches(setting, "skewed", 16, 16)[0])
    real = batch["attention_mask"].bool()

    def states(ours: bool, dtype: torch.dtype) -> torch.Tensor:
        with torch.no_grad():
            model = load(setting, "base", ours=ours, dtype=dtype).eval()
            return model(**batch).last_hidden_state[real].double()

    exact, rows = states(False, torch.float64), []
    fp32 = float((states(True, torch.float32) - exact).abs().max())
    rows.append(row("outputs, fp32, largest difference", fp32, 10 * EXACT))
    for dtype in (torch.bfloat16, torch.float16):
        mine = float((states(True, dtype) - exact).abs().mean())
        theirs = float((states(False, dtype) - exact).abs().mean())
        name = f"outputs, {str(dtype).removeprefix('torch.')}, times transformers' distance"
        rows.append(row(name, mine / theirs, HALF_TIMES))
    return rows


def gradients(setting: Setting) -> dict[str, Any]:
    """Of the word embeddings, by a masked-LM step in fp32 without dropout; relative."""
    batch = on_device(setting, batches(setting, "skewed", 16, 16, "words")[0])
    found = {}
    for ours in (False, True):
        model = load(setting, "masked-lm", ours=ours, **NO_DROPOUT).train()
        model(**batch).loss.backward()
        found[ours] = model.get_input_embeddings().weight.grad.double()
    far = float((found[True] - found[False]).norm() / found[False].norm())
    return row("gradients, fp32, relative", far, EXACT)


def dropout(setting: Setting) -> dict[str, Any]:
    """The mean loss of many draws, in standard errors from transformers'."""
    batch = on_device(setting, batches(setting, "skewed", 4, 4, "words")[0])
    drawn = {}
    for ours in (False, True):
        model = load(setting, "masked-lm", ours=ours, attention_probs_dropout_prob=0.3).train()
        losses = []
        for seed in range(8 if setting.quick else SEEDS):
            torch.manual_seed(seed + 1000 * ours)
            with torch.no_grad():
                losses.append(float(model(**batch).loss))
        drawn[ours] = torch.tensor(losses, dtype=torch.float64)
    error = sum(each.var() / len(each) for each in drawn.values()) ** 0.5
    far = float((drawn[True].mean() - drawn[False].mean()).abs() / error)
    return row("dropout, mean loss, standard errors", far, 5)


def row(name: str, value: float, limit: float) -> dict[str, Any]:
    return {"name": name, "value": value, "limit": limit, "right": bool(value <= limit)}
