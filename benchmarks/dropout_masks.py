"""Do trainings with bertlite's cheaper dropout masks come out as well as with torch's own? Paired
runs, many seeds.

    python benchmarks/dropout_masks.py --data FOLDER --seeds 16

On a CPU `backends.cpu.linear.drop` takes 16 random bits an element, where torch draws 53. Each seed
trains the address labeller of fine_tuning.py twice, from the same weights and in the same order of
rows, once with each kind of mask, and measures F1 on rows that no training saw. Printed: the mean
difference, its standard error, and the ratio of processor time. The data are those of
fine_tuning.py (usaddress).
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import fine_tuning
import torch
from common import print_environment, processor
from transformers import AutoTokenizer

from bertlite.backends.cpu import attention, dropout_attention, linear

MASKS = {"ours": linear.drop, "torch": torch.nn.functional.dropout}


def take(mask: str) -> None:
    """Let every dropout of a model, attention's too, draw this kind of mask."""
    linear.drop = attention.drop = dropout_attention.drop = MASKS[mask]


def run_seed(seed: int, given: argparse.Namespace, data, tokenizer) -> dict[str, dict[str, float]]:
    """F1 and seconds of one training with each kind of mask, the first of them in turn."""
    start, found = fine_tuning.prepared("addresses", seed, given, data, tokenizer), {}
    with tempfile.TemporaryDirectory() as folder:
        start.model.save_pretrained(folder)
        for mask in MASKS if seed % 2 == 0 else reversed(MASKS):
            take(mask)
            fixed = (start.features, data, tokenizer, start.task, start.options, start.arguments)
            made = fine_tuning.train("ours", folder, *fixed)
            found[mask] = {"f1": made["figures"]["overall_f1"], "seconds": made["seconds"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder that holds addresses_usaddress")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.set_defaults(
        batch_size=32, learning_rate=3e-4, max_length=None, max_steps=None, cpu=True
    )
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {given.seeds}")
    print_environment(given.threads)
    data = fine_tuning.load_data("addresses", given.data)
    tokenizer = AutoTokenizer.from_pretrained(fine_tuning.weights())
    seeds = []
    for seed in range(given.seeds):
        seeds.append(run_seed(seed, given, data, tokenizer))
        print(
            f"seed {seed}: "
            + ", ".join(f"{mask} {each['f1']:.4f}" for mask, each in seeds[-1].items()),
            flush=True,
        )
    differences = [seed["ours"]["f1"] - seed["torch"]["f1"] for seed in seeds]
    about = {
        "mean_difference": statistics.mean(differences),
        "standard_error": statistics.stdev(differences) / len(differences) ** 0.5,
        "time_ours_to_torch": statistics.median(
            seed["ours"]["seconds"] / seed["torch"]["seconds"] for seed in seeds
        ),
    }
    print(", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in about.items()))
    about |= {
        "processor": processor(),
        "epochs": given.epochs,
        "torch": torch.__version__,
        "seeds": seeds,
    }
    path = Path(__file__).with_name("results") / "dropout_masks.json"
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
