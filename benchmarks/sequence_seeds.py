"""Bertlite's recipe against transformers' class and recipe, over several seeds.

    run="python -m benchmarks sequence-seeds --task translation --data FOLDER --work runs/seeds"
    $run train --minutes 3                  # both, each seed in a fresh process, and measures them
    $run report                               # mean and spread, also to benchmarks/results/

Each run is one of sequence_to_sequence.py, which says what is the same in both and what is not; a
seed draws the first weights, the order of the rows and dropout. `--start FOLDER` takes the first
weights from a trained model instead, the same for every seed and for both (summaries start from a
model that has learnt to copy, see model_cards/summarization.md). Models are small, so that six runs
fit into an hour of one core.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WEIGHTS = {"ours": "averaged", "transformers": "last"}
FIGURES = {"translation": ("bleu", "chrf"), "summarization": ("rouge1", "rouge2", "rougeL")}


def train(arguments: argparse.Namespace, rest: list[str]) -> None:
    """Train and measure both with every seed."""
    shared = ["--task", arguments.task, "--data", str(arguments.data), *rest]
    tokenizer = arguments.work / "tokenizer"
    if not tokenizer.is_dir():
        call("tokenizer", "--work", str(arguments.work), *shared)
    for seed in arguments.seeds:
        folder = arguments.work / f"seed-{seed}"
        shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)
        if arguments.start is not None:
            shutil.copytree(arguments.start, folder / "initial", dirs_exist_ok=True)
        for (which, weights), warmup in zip(WEIGHTS.items(), arguments.warmup, strict=True):
            own = [
                "--warmup",
                str(warmup),
                "--work",
                str(folder),
                "--results",
                str(folder),
                "--seed",
                str(seed),
                *shared,
            ]
            own += ["--which", which, "--weights", weights, "--rows", str(arguments.rows)]
            call("train", "--minutes", str(arguments.minutes), *own)
            call("evaluate", *own)


def call(*words: str) -> None:
    """One command of sequence_to_sequence.py."""
    subprocess.run([sys.executable, str(HERE / "sequence_to_sequence.py"), *words], check=True)


def report(arguments: argparse.Namespace) -> None:
    """A table of mean, standard deviation and single figures."""
    names = FIGURES[arguments.task]
    lines = [
        f"| model | minutes | updates | {' | '.join(names)} |",
        "| --- " * (3 + len(names)) + "|",
    ]
    found = {which: read(arguments, which) for which in WEIGHTS}
    for which, runs in found.items():
        cells = [f"{statistics.mean(run['minutes'] for run in runs):.1f}"]
        cells += [", ".join(str(run["steps"]) for run in runs)]
        cells += [spread([run[name] for run in runs], name) for name in names]
        lines.append(f"| {which} | {' | '.join(cells)} |")
    leads = [run["lead_10"] for run in found["ours"] if "lead_10" in run]
    if leads:
        cells = [f"{leads[0][name]:.3f}" for name in names]
        lines.append(f"| first 10 words | | | {' | '.join(cells)} |")
    one = found["ours"][0]
    settings = {k: one["settings"][k] for k in ("width", "layers", "max_tokens", "precision")}
    said = ", ".join(f"{name} {value}" for name, value in settings.items())
    lines.append(
        f"\nSeeds {', '.join(map(str, arguments.seeds))}; {one['rows']} validation rows, beam "
        f"{one['beams']}; {said}; {one['parameters']:,} parameters; one thread of "
        f"{one['processor']}; "
        + ", ".join(f"{name} {version}" for name, version in one["versions"].items())
    )
    text = "\n".join(lines)
    (arguments.results / f"{arguments.task}_seeds.md").write_text(text + "\n")
    print(text)


def read(arguments: argparse.Namespace, which: str) -> list[dict]:
    """What was trained and measured of one of the two, a dict a seed."""
    runs = []
    for seed in arguments.seeds:
        folder, start = arguments.work / f"seed-{seed}", f"{arguments.task}_{which}_"
        trained = json.loads((folder / f"{start}training.json").read_text())
        (measured,) = folder.glob(f"{start}{WEIGHTS[which]}_beam*.json")
        runs.append({**trained, **json.loads(measured.read_text())})
    return runs


def spread(values: list[float], name: str) -> str:
    """Mean ± standard deviation, and each.

    >>> spread([10.0, 12.0], "bleu")
    '11.0 ± 1.4 (10.0, 12.0)'
    """
    digits = 3 if "rouge" in name else 1
    each = ", ".join(f"{value:.{digits}f}" for value in values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f} ({each})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("train", "report"))
    parser.add_argument("--task", choices=sorted(FIGURES), default="translation")
    parser.add_argument("--data", type=Path, help="see seq2seq_data.py")
    parser.add_argument("--work", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--start", type=Path, help="folder of first weights")
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="processor time of each training"
    )
    parser.add_argument(
        "--warmup", type=int, nargs=2, default=[200, 50], help="updates: ours, transformers'"
    )
    parser.add_argument("--rows", type=int, default=500, help="of the validation set; 0: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments, rest = parser.parse_known_args()  # the rest is for sequence_to_sequence.py
    if arguments.command == "report":
        report(arguments)
    else:
        train(arguments, rest)


if __name__ == "__main__":
    main()
