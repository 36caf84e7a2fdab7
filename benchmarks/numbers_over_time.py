"""Numbers over time by the same encoder, against what statisticians would use.

A series is an image of height one: a window of numbers is a patch, its embedding is linear, and the
class token's vector gives the next numbers at once. Three real sets that statsmodels ships (carbon
dioxide at Mauna Loa by month, sunspots by year, the sea's temperature at El Nino by month); the
last part of each is held out, and from each of its points the next ones are foretold. Beside it
stand the last value, the value a season ago, that with the mean yearly change, and an
autoregression whose order the AIC chooses on the training part. The model's size and number of
steps are the same for all sets, fixed beforehand.

`pip install "bertlite[bench]"`, then `python -m benchmarks numbers-over-time`.
"""

import argparse
import statistics
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from common import print_environment
from torch import nn

from bertlite.models.vit import ViTConfig, ViTForImageClassification

HELD_OUT = 0.2  # the last part of a series


@dataclass(frozen=True)
class Series:
    """A series and what is asked of it.

    Args:
        name: for the table.
        values: `(length,)`.
        season: how many values make a season.
        window: how many numbers make a patch.
        context: how many numbers are seen.
        horizon: how many are foretold.
    """

    name: str
    values: np.ndarray
    season: int
    window: int
    context: int
    horizon: int

    @property
    def end(self) -> int:
        """Where the training part ends."""
        return int(len(self.values) * (1 - HELD_OUT))

    def origins(self) -> range:
        """The points of the held-out part from which the next `horizon` are known."""
        return range(self.end, len(self.values) - self.horizon + 1)


def series() -> list[Series]:
    """The three sets."""
    from statsmodels import datasets

    weeks = datasets.co2.load_pandas().data["co2"]
    months = weeks.resample("MS").mean().interpolate().to_numpy()
    years = datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()
    sea = datasets.elnino.load_pandas().data.iloc[:, 1:].to_numpy().flatten()
    return [
        Series("carbon dioxide, by month", months, 12, 12, 120, 12),
        Series("sunspots, by year", years, 11, 11, 66, 5),
        Series("El Nino, by month", sea, 12, 12, 120, 6),
    ]


def prepared(data: Series) -> tuple[nn.Module, torch.Tensor, torch.Tensor, float]:
    """A model from nothing, the windows of the training part, and the scale of their numbers.

    Numbers are taken from the last one seen, in units of the usual change over a horizon. Windows
    are `(windows, 1, 1, context)`, and what follows them `(windows, horizon)`.
    """
    config = ViTConfig(
        image_size=[1, data.context],
        patch_size=[1, data.window],
        num_channels=1,
        num_labels=data.horizon,
        problem_type="regression",
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        hidden_dropout_prob=0.1,
        initializer_range=0.1,
    )
    model = ViTForImageClassification(config).train()
    known = torch.tensor(data.values[: data.end], dtype=torch.float32)
    scale = float((known[data.horizon :] - known[: -data.horizon]).std())
    rows = known.unfold(0, data.context + data.horizon, 1)  # (windows, context + horizon)
    rows = (rows - rows[:, data.context - 1 : data.context]) / scale
    return model, rows[:, None, None, : data.context], rows[:, data.context :], scale


def train(data: Series, steps: int, seed: int) -> tuple[nn.Module, float]:
    """A model that has learned the training part, and the scale of its numbers."""
    torch.manual_seed(seed)
    model, seen, next_ones, scale = prepared(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(0, len(seen), (32,))
        model(seen[chosen], labels=next_ones[chosen]).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval(), scale


def by_model(model: nn.Module, scale: float, data: Series) -> np.ndarray:
    """What the model foretells from each origin, `(origins, horizon)`."""
    rows = np.stack([data.values[at - data.context : at] for at in data.origins()])
    last = rows[:, -1:]
    seen = torch.tensor((rows - last) / scale, dtype=torch.float32)[:, None, None]
    with torch.no_grad():
        return model(seen).logits.numpy() * scale + last


def by_autoregression(data: Series) -> np.ndarray:
    """The same by an autoregression that was fitted to the training part."""
    from statsmodels.tsa.ar_model import AutoReg, ar_select_order

    known = data.values[: data.end]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lags = ar_select_order(known, maxlag=2 * data.season + 2, ic="aic").ar_lags
        constant, *weights = AutoReg(known, lags=lags).fit().params
    made = []
    for at in data.origins():
        row = list(data.values[:at])
        for _ in range(data.horizon):
            past = sum(w * row[-lag] for w, lag in zip(weights, lags, strict=True))
            row.append(constant + past)
        made.append(row[at:])
    return np.array(made)


def by_rules(data: Series) -> dict[str, np.ndarray]:
    """The same by the last value, by the last season, and by that with the usual yearly change."""
    known, ahead = data.values[: data.end], np.arange(data.horizon)
    change = float(np.mean(known[data.season :] - known[: -data.season]))
    last = np.stack([np.repeat(data.values[at - 1], data.horizon) for at in data.origins()])
    season = np.stack([data.values[at - data.season + ahead] for at in data.origins()])
    return {"last value": last, "last season": season, "last season + change": season + change}


def main() -> None:
    """A table a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print_environment(options.threads)
    print("mean absolute error over all origins and horizons; of the encoder, seed by seed")
    for data in series():
        truth = np.stack([data.values[at : at + data.horizon] for at in data.origins()])
        print(
            f"\n{data.name}: {data.end} to train on, {len(truth)} origins, "
            f"{data.horizon} ahead from {data.context}"
        )
        found = {**by_rules(data), "autoregression (AIC)": by_autoregression(data)}
        for name, each in found.items():
            print(f"  {name:24s} {np.abs(each - truth).mean():8.3f}", flush=True)
        errors = []
        for seed in range(options.seeds):
            made = by_model(*train(data, options.steps, seed), data)
            errors.append(float(np.abs(made - truth).mean()))
        each = ", ".join(f"{error:.3f}" for error in errors)
        print(f"  {'encoder':24s} {statistics.mean(errors):8.3f}   ({each})", flush=True)


if __name__ == "__main__":
    main()
