"""What the benchmarks share: inputs, alternated timing with a check of the machine, and printing.

Every competitor runs in the same process, in turn, on the same inputs and weights. Times mean
little on a shared machine, ratios of neighbouring runs mean more, and rounds in which plain matrix
products ran far below their usual rate are thrown away.
"""

import platform
import statistics
import time
from dataclasses import dataclass, field

import numpy as np
import torch


def natural_lengths(
    count: int, longest: int, mean: float = 35.0, spread: float = 0.5, seed: int = 0
) -> np.ndarray:
    """Log-normal sentence lengths in tokens, with the given mean before they are cut to [3,
    longest].
    """
    generator = np.random.default_rng(seed)
    lengths = generator.lognormal(np.log(mean) - spread**2 / 2, spread, count)
    return np.clip(lengths, 3, longest).astype(int)


def padded_batches(
    lengths: np.ndarray, vocab_size: int, batch_size: int = 32, seed: int = 0
) -> list[dict]:
    """Batches of random ids in the order given, padded on the right to the longest of each."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for start in range(0, len(lengths), batch_size):
        part = torch.as_tensor(lengths[start : start + batch_size])
        ids = torch.randint(1000, vocab_size, (len(part), int(part.max())), generator=generator)
        mask = (torch.arange(ids.shape[1]) < part[:, None]).long()
        batches.append({"input_ids": ids * mask, "attention_mask": mask})
    return batches


def positions_a_token(batches: list[dict]) -> float:
    """Padded positions for each real token: what a model that computes padding pays."""
    masks = [batch["attention_mask"] for batch in batches]
    return sum(mask.numel() for mask in masks) / sum(int(mask.sum()) for mask in masks)


def product_rate() -> float:
    """Speed of a plain matrix product now, in GFLOP/s: how quiet the machine is."""
    left, right = torch.randn(1024, 512), torch.randn(512, 1536)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        torch.mm(left, right)
        times.append(time.perf_counter() - start)
    return 2 * 1024 * 512 * 1536 / statistics.median(times) / 1e9


@dataclass
class Race:
    """Run competitors in turn for some rounds; the first one named is the one to compare with.

    `pause`: seconds of rest before each, in which the threads of the one before stop waiting for
    work.
    """

    competitors: dict
    times: dict = field(default_factory=dict)
    kept: list = field(default_factory=list)
    pause: float = 0.0

    def run(self, rounds: int) -> "Race":
        """`rounds` rounds after one to warm up; the order turns from round to round."""
        self.times = {name: [] for name in self.competitors}
        rates = []
        for number in range(rounds + 1):
            names = list(self.competitors)
            names = names[number % len(names) :] + names[: number % len(names)]
            rates.append(product_rate())
            for name in names:
                time.sleep(self.pause)
                start = time.perf_counter()
                self.competitors[name]()
                self.times[name].append(time.perf_counter() - start)
        usual = statistics.median(rates)
        self.kept = [i for i in range(1, rounds + 1) if rates[i] > 0.6 * usual]
        return self

    def ratio(self, name: str, to: str | None = None) -> float:
        """How many times faster than `to` (None.

        The first competitor), as the median over the rounds kept.
        """
        first = to or next(iter(self.competitors))
        return statistics.median(self.times[first][i] / self.times[name][i] for i in self.kept)

    def print(self, title: str) -> None:
        """A table of medians and ratios."""
        rounds = len(next(iter(self.times.values()))) - 1
        print(f"\n{title}\n  ({len(self.kept)} of {rounds} rounds kept)")
        for name, times in self.times.items():
            median = statistics.median(times[i] for i in self.kept)
            print(f"  {name:38s} {median * 1000:9.1f} ms   {self.ratio(name):5.2f} x")


def print_environment(threads: int) -> None:
    """Versions and processor, without which a ratio cannot be judged."""
    import transformers

    import bertlite

    torch.set_num_threads(threads)
    versions = {
        "bertlite": bertlite.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(
        "  ".join(f"{name} {version}" for name, version in versions.items()),
        f" python {platform.python_version()}",
    )
    print(f"{torch.backends.cpu.get_cpu_capability()}, {threads} threads, {processor()}")


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown processor"
