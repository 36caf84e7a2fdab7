"""Compare outputs first, then time those that are right, in turn, with the plain matrix products in
the same rounds.

Shapes: `B` batch, `T` length, `N` real tokens, `E` hidden size, `I` inner size of the feed-forward.
"""

import statistics
from functools import partial

import numpy as np
import torch
from common import Race
from encoder_inputs import CHECKED_ROWS, Scenario
from encoder_peers import BY_NAME, EAGER, OURS, SDPA, Peer, Runner

TOLERANCE = 1e-3  # largest difference of last hidden states that fp32 may show
LOWEST_COSINE = 0.95  # of mean-pooled embeddings that bf16 and int8 may show
FLOORS = ("products alone, torch mm", "products alone, oneDNN")
# seconds: the threads of Intel's OpenMP (in CTranslate2) spin for 0.2 s after their work, others
# for less
PAUSE = 0.3


def load_all(peers: list[Peer], files, threads: int) -> tuple[dict[str, Runner], dict[str, str]]:
    """Runners by name, and why each of the others is left out."""
    runners, left_out = {}, {}
    for peer in peers:
        if peer.missing():
            left_out[peer.name] = f"not installed: {', '.join(peer.missing())}"
            continue
        try:
            runners[peer.name] = peer.load(files, threads)
        except (
            Exception
        ) as error:  # a peer that does not load must not stop the rest; it is named in the report
            left_out[peer.name] = reason(error)
    return runners, left_out


def reason(error: Exception) -> str:
    """One line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def first_rows(batch: dict) -> dict:
    """The first rows of a batch, cut to the longest of them."""
    mask = batch["attention_mask"][:CHECKED_ROWS]
    longest = int(mask.sum(1).max())
    return {
        name: np.ascontiguousarray(array[:CHECKED_ROWS, :longest]) for name, array in batch.items()
    }


def pooled(hidden_states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`(B, T, E)` to the mean over real tokens `(B, E)`."""
    weights = mask[..., None].astype(np.float64)
    return np.where(weights > 0, hidden_states, 0).sum(1) / weights.sum(1)


def difference(found: np.ndarray, expected: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Largest difference on real tokens, and the lowest cosine of mean-pooled embeddings."""
    if found.shape != expected.shape:
        raise ValueError(f"last hidden states must be {expected.shape}, got {found.shape}")
    real = mask.astype(bool)
    left, right = pooled(found, mask), pooled(expected, mask)
    cosines = (left * right).sum(1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    return {
        "max_difference": float(np.abs(found - expected)[real].max()),
        "cosine": float(cosines.min()),
    }


def is_right(figures: dict[str, float], precision: str) -> bool:
    """Whether outputs are near enough to be timed; NaN is not."""
    if precision == "fp32":
        return figures["max_difference"] <= TOLERANCE
    return figures["cosine"] >= LOWEST_COSINE


def compare(
    runners: dict[str, Runner], reference: Runner, precisions: dict, batches: list[dict]
) -> dict[str, dict]:
    """Each runner's outputs against the reference's on the first rows of some batches, the worst
    figure of all.
    """
    rows: dict[str, dict] = {}
    for batch in map(first_rows, batches):
        expected = reference.array(reference.forward(reference.adapt(batch)))
        for name, runner in runners.items():
            if "failed" in rows.get(name, {}):
                continue
            try:
                found = runner.array(runner.forward(runner.adapt(batch)))
                new = difference(found, expected, batch["attention_mask"])
            except Exception as error:  # named in the report, and not timed
                rows[name] = {"failed": reason(error), "right": False}
                continue
            old = rows.get(name, new)
            worst = {"max_difference": np.fmax, "cosine": np.fmin}
            rows[name] = {key: float(pick(old[key], new[key])) for key, pick in worst.items()}
            nan = any(np.isnan(value) for value in (*old.values(), *new.values()))
            rows[name]["right"] = not nan and is_right(rows[name], precisions[name])
    return rows


class Products:
    """The products of all linear layers of an encoder on real tokens.

    What no exact fp32 encoder can do without.
    """

    def __init__(self, config, by_onednn: bool):
        width, inner = config.hidden_size, config.intermediate_size
        shapes = [
            (3 * width, width),
            (width, width),
            (inner, width),
            (width, inner),
        ] * config.num_hidden_layers
        self.weights = [torch.randn(shape) for shape in shapes]
        self.by_onednn = by_onednn
        if by_onednn:
            self.weights = [
                torch.ops.mkldnn._reorder_linear_weight(weight, 512) for weight in self.weights
            ]
        self.inputs = {size: torch.empty(0, size) for size in (width, inner)}
        self.sizes = [shape[1] for shape in shapes]

    def run(self, tokens: list[int]) -> None:
        """Batches of so many real tokens."""
        for count in tokens:
            for weight, size in zip(self.weights, self.sizes, strict=True):
                inputs = self.rows(size, count)
                if self.by_onednn:
                    torch.ops.mkldnn._linear_pointwise.default(inputs, weight, None, "none", [], "")
                else:
                    torch.mm(inputs, weight.T)

    def rows(self, size: int, count: int) -> torch.Tensor:
        """`count` rows `(N, E)` or `(N, I)` of noise."""
        if len(self.inputs[size]) < count:
            self.inputs[size] = torch.randn(count, size)
        return self.inputs[size][:count]


def floors(config) -> dict[str, Products]:
    """By torch's own product, and by oneDNN where torch has it.

    Some processors are slow with the first.
    """
    found = {FLOORS[0]: Products(config, by_onednn=False)}
    if torch.backends.mkldnn.is_available():
        found[FLOORS[1]] = Products(config, by_onednn=True)
    return found


def spread(race: Race, name: str) -> dict[str, float]:
    """Median and quartiles of the rounds kept, in seconds."""
    times = [race.times[name][number] for number in race.kept]
    low, _, high = (
        statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    )
    return {"seconds": statistics.median(times), "low": low, "high": high}


def ratios(race: Race, name: str) -> dict[str, float]:
    """Speed as a multiple of ours (optimised, fp32) and of transformers sdpa, where those take
    part.
    """
    references = {"to_ours": OURS, "to_sdpa": SDPA}
    return {key: race.ratio(name, to) for key, to in references.items() if to in race.times}


def measure(
    scenario: Scenario,
    runners: dict,
    reference: Runner,
    precisions: dict,
    products: dict,
    rounds: int,
) -> dict:
    """A scenario's rows: outputs compared, the right ones timed, the floor beside them."""
    batches = scenario.batches()
    rows = compare(runners, reference, precisions, batches[:2])
    right = {name: runner for name, runner in runners.items() if rows[name]["right"]}
    calls = {
        name: partial(runner.forward_all, list(map(runner.adapt, batches)))
        for name, runner in right.items()
    }
    tokens = [int(batch["attention_mask"].sum()) for batch in batches]
    calls.update({name: partial(each.run, tokens) for name, each in products.items()})
    with torch.inference_mode():
        race = Race(calls, pause=PAUSE).run(rounds)
    for name in right:
        rows[name] |= {**spread(race, name), **ratios(race, name)}
    return {
        "name": scenario.name,
        "title": scenario.title,
        "tokens": scenario.tokens(),
        "padded": scenario.padded(),
        "rounds": rounds,
        "rounds_kept": len(race.kept),
        "rows": rows,
        "floor": floor_of(race, products),
    }


def floor_of(race: Race, products: dict) -> dict:
    """The faster of the products, and the share of ours that it makes up."""
    if not products:
        return {}
    times = {name: spread(race, name) for name in products}
    name = min(times, key=lambda each: times[each]["seconds"])
    share = {"share_of_ours": 1 / race.ratio(name, OURS)} if OURS in race.times else {}
    return {
        "name": name,
        **times[name],
        **share,
        "each": {key: each["seconds"] for key, each in times.items()},
    }


def reference_of(runners: dict[str, Runner], files, threads: int) -> Runner:
    """The library's eager model, whether or not it takes part."""
    return runners.get(EAGER) or BY_NAME[EAGER].load(files, threads)
