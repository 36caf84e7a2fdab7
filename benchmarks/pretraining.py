"""Pretraining.

Bertlite against transformers' BertForPreTraining with padded rows and its plain Trainer's step.

    python benchmarks/pretraining.py throughput            real tokens a second, full rows of 128
    and natural lengths python benchmarks/pretraining.py memory                peak resident memory
    of a step python benchmarks/pretraining.py loss --data FILE      loss at equal processor time,
    same data and hyper-parameters python benchmarks/pretraining.py report                what was
    measured, as a table

Both sides have the same weights and the same rows with the same masks; theirs uses the optimizer of
the plain Trainer (its default `optim`), ours `recipes.bert_optimizer`. `loss` trains both with the
library's `Trainer` and the same hyper-parameters. Results go to
benchmarks/results/pretraining_*.json.

Most of the gain is the vocabulary projection, which bertlite does for predicted
tokens only, and padding: it shrinks with a wider model, a smaller vocabulary or less padding.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import Race, natural_lengths, positions_a_token, print_environment
from transformers import BertConfig, BertForPreTraining, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from bertlite import BertLiteForPreTraining
from bertlite.training import bert_optimizer

RESULTS = Path(__file__).parent / "results"
VOCABULARY = 30_522
SIZES = {"bert-mini": (4, 256), "bert-small": (4, 512)}


def make_batches(
    lengths: np.ndarray, batch_size: int, seed: int = 0
) -> list[dict[str, torch.Tensor]]:
    """Padded batches of random ids with both kinds of labels.

    15 % of a row's tokens are predicted.
    """
    generator, batches = torch.Generator().manual_seed(seed), []
    for start in range(0, len(lengths), batch_size):
        part = torch.as_tensor(lengths[start : start + batch_size])
        shape = (len(part), int(part.max()))
        real = torch.arange(shape[1]) < part[:, None]
        ids = torch.randint(1000, VOCABULARY, shape, generator=generator) * real
        ranks = torch.rand(shape, generator=generator).masked_fill(~real, 2).argsort(-1).argsort(-1)
        chosen = ranks < (part * 0.15).round().clamp(min=1)[:, None]
        batches.append(
            {
                "input_ids": ids.masked_fill(chosen, 103),
                "attention_mask": real.long(),
                "token_type_ids": (torch.arange(shape[1]) >= part[:, None] // 2).long() * real,
                "labels": ids.masked_fill(~chosen, -100),
                "next_sentence_label": torch.randint(0, 2, (len(part),), generator=generator),
            }
        )
    return batches


def make_models(size: str, vocab_size: int = VOCABULARY):
    """Theirs and ours with the same random weights."""
    layers, width = SIZES[size]
    config = BertConfig(
        vocab_size=vocab_size,
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )
    torch.manual_seed(0)
    theirs = BertForPreTraining(config)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, BertLiteForPreTraining.from_pretrained(folder)


class Training:
    """A model with the step that its Trainer does: forward, backward, clip, update."""

    def __init__(self, model, batches, *, ours: bool):
        self.model, self.batches, self.number = model.train(), batches, 0
        if ours:
            self.optimizer = bert_optimizer(model, learning_rate=1e-4)
        else:
            arguments = TrainingArguments(
                "unused", use_cpu=True, report_to=[], learning_rate=1e-4, weight_decay=0.01
            )
            self.optimizer = Trainer(model, arguments).create_optimizer()

    def step(self) -> None:
        """One update on the next batch."""
        batch = self.batches[self.number % len(self.batches)]
        self.number += 1
        self.model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def throughput(arguments) -> None:
    """Real tokens a second of a whole update."""
    found = {"environment": environment(arguments.threads), "cases": []}
    for size in arguments.sizes:
        kinds = {
            "full rows of 128": np.full(64, 128),
            "natural lengths": natural_lengths(256, longest=128),
        }
        for kind, lengths in kinds.items():
            batches = make_batches(lengths, 16 if kind.startswith("full") else 32)
            theirs, ours = make_models(size)
            with torch.no_grad():
                losses = [float(model.eval()(**batches[0]).loss) for model in (theirs, ours)]
            runs = {
                "transformers": Training(theirs, batches, ours=False),
                "bertlite": Training(ours, batches, ours=True),
            }
            race = Race({name: run.step for name, run in runs.items()}).run(arguments.rounds)
            tokens = sum(int(batch["attention_mask"].sum()) for batch in batches) / len(batches)
            medians = {
                name: float(np.median([times[i] for i in race.kept]))
                for name, times in race.times.items()
            }
            case = {"size": size, "rows": kind, "ratio": race.ratio("bertlite"), "losses": losses}
            case |= {"tokens_a_second": {name: tokens / each for name, each in medians.items()}}
            found["cases"].append(
                {**case, "positions_a_token": positions_a_token(batches), "rounds": len(race.kept)}
            )
            race.print(
                f"{size}, vocabulary {VOCABULARY}, {kind}: {positions_a_token(batches):.2f} "
                "positions a token"
            )
    save("throughput", found)


MEMORY = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
import torch
import pretraining
torch.set_num_threads(1)
pretraining.logging.set_verbosity_error()
pretraining.logging.disable_progress_bar()
which, size = sys.argv[2:4]
pair = pretraining.make_models(size)
model = pair[which == "bertlite"]
del pair
batches = pretraining.make_batches(pretraining.np.full(32, 128), 32)
run = pretraining.Training(model, batches, ours=which == "bertlite")
run.step()  # makes the optimizer's state
clear = open("/proc/self/clear_refs", "w"); clear.write("5"); clear.close()  # peak starts here
before = [line for line in open("/proc/self/status") if line.startswith("VmRSS")][0].split()[1]
run.step()
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
print(json.dumps({"before_kib": int(before), "peak_kib": int(peak)}))
"""


def memory(arguments) -> None:
    """Peak resident memory of an update on 32 rows of 128, each side in a process of its own."""
    found = {"environment": environment(1), "rows": "32 rows of 128", "cases": []}
    for size in arguments.sizes:
        case = {"size": size}
        for which in ("transformers", "bertlite"):
            command = [sys.executable, "-c", MEMORY, str(Path(__file__).parent), which, size]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            case[which] = {
                name.removesuffix("_kib"): round(kib / 1024) for name, kib in figures.items()
            }
        theirs, ours = case["transformers"], case["bertlite"]
        case["peak_ratio"] = theirs["peak"] / ours["peak"]
        case["step_ratio"] = (theirs["peak"] - theirs["before"]) / max(
            ours["peak"] - ours["before"], 1
        )
        found["cases"].append(case)
        print(json.dumps(case))
    save("memory", found)


def loss(arguments) -> None:
    """Train both on the same stream for the same processor time.

    Held-out masked-LM loss along the way.
    """
    from dataclasses import replace
    from itertools import islice

    from bertlite.pretraining import (
        BatchStream,
        MaskingOptions,
        Phase,
        StreamOptions,
        read_documents,
    )
    from bertlite.pretraining.token_store import is_held_out, write_token_store
    from bertlite.tokenization import train_wordpiece

    torch.set_num_threads(arguments.threads)
    documents = list(islice(read_documents([arguments.data]), arguments.documents))
    parts = [
        [each for each in documents if is_held_out(each, 0.05) == kept] for kept in (False, True)
    ]
    tokenizer = train_wordpiece(
        (text for each in parts[0] for text in each), vocab_size=arguments.vocab_size
    )
    with tempfile.TemporaryDirectory() as folder:
        train, held_out = (
            write_token_store(part, tokenizer, f"{folder}/{at}") for at, part in enumerate(parts)
        )
        options = StreamOptions(
            (Phase(128, 10**6),), tokens_per_batch=2048, masking=MaskingOptions()
        )
        measured = list(islice(BatchStream(held_out, tokenizer, replace(options, seed=1)), 6))
        found = {
            "environment": environment(arguments.threads),
            "vocab_size": len(tokenizer),
            "curves": {},
        }
        for model, name in zip(
            make_models("bert-mini", len(tokenizer)), ("transformers", "bertlite"), strict=True
        ):
            stream = BatchStream(train, tokenizer, options)
            found["curves"][name] = curve(
                model, stream, measured, arguments, ours=name == "bertlite"
            )
            save("loss", found)
    draw(found)


class Clock(TrainerCallback):
    """Held-out loss against processor time of training.

    Measuring does not count. Stops when the time is up.
    """

    def __init__(self, measured: list, seconds: float):
        self.measured, self.seconds = measured, seconds
        self.points: list[dict[str, float]] = []
        self.spent = self.mark = 0.0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.measure(model, state)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.spent += time.process_time() - self.mark
        self.mark = time.process_time()
        control.should_training_stop = self.spent >= self.seconds
        if control.should_training_stop or self.spent >= len(self.points) * self.seconds / 12:
            self.measure(model, state)

    def measure(self, model, state) -> None:
        loss = held_out_loss(model, self.measured)
        self.points.append({"seconds": self.spent, "updates": state.global_step, "loss": loss})
        print(self.points[-1], flush=True)
        self.mark = time.process_time()


def curve(model, stream, measured, arguments, *, ours: bool) -> list[dict[str, float]]:
    """A training by the library's `Trainer`.

    Warm-up over 50 updates, then a constant rate, for both the same.
    """
    clock = Clock(measured, arguments.seconds)
    optimizers = (
        (bert_optimizer(model, learning_rate=arguments.learning_rate), None)
        if ours
        else (None, None)
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            use_cpu=True,
            max_steps=10**6,
            per_device_train_batch_size=1,
            weight_decay=0.01,
            warmup_steps=50,
            learning_rate=arguments.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        Trainer(
            model,
            settings,
            data_collator=lambda batches: batches[0],
            train_dataset=stream,
            optimizers=optimizers,
            callbacks=[clock],
        ).train()
    return clock.points


def held_out_loss(model, measured) -> float:
    """Mean masked-LM loss of predicted tokens, from full logits, the same way for both."""
    model.eval()
    total = count = 0.0
    with torch.inference_mode():
        for batch in measured:
            inputs = {
                name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")
            }
            logits, labels = (
                model(**inputs).prediction_logits.flatten(0, 1),
                batch["labels"].flatten(),
            )
            total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            count += int((labels != -100).sum())
    model.train()
    return total / count


def draw(found) -> None:
    """The two curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in found["curves"].items():
        axes.plot(
            [each["seconds"] for each in points],
            [each["loss"] for each in points],
            marker=".",
            label=name,
        )
    axes.set(
        xlabel="processor seconds of training",
        ylabel="held-out masked-LM loss",
        title="bert-mini, same data",
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(RESULTS / "pretraining_loss.png", dpi=110)


def environment(threads: int) -> str:
    """Versions and processor."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as text:
        print_environment(threads)
    return text.getvalue().strip()


def save(name: str, found: dict) -> None:
    """Write results where `report` finds them."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"pretraining_{name}.json").write_text(json.dumps(found, indent=2) + "\n")


def report(arguments) -> None:
    """Print what was measured as Markdown tables."""
    read = {
        path.stem: json.loads(path.read_text())
        for path in sorted(RESULTS.glob("pretraining_*.json"))
    }
    if not read:
        sys.exit("nothing measured yet: run throughput, memory or loss first")
    for name, found in read.items():
        print(f"\n{name}: {found['environment']}\n")
        for case in found.get("cases", []):
            print("| " + " | ".join(f"{key}: {value}" for key, value in case.items()) + " |")
        for model, points in found.get("curves", {}).items():
            print(
                f"| {model} | "
                + ", ".join(f"{each['seconds']:.0f} s: {each['loss']:.3f}" for each in points)
                + " |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("throughput", "memory", "loss", "report"))
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=sorted(SIZES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", help="text for `loss`, as for bertlite pretrain")
    parser.add_argument("--documents", type=int, default=6000, help="of it, at most")
    parser.add_argument("--vocab-size", type=int, default=VOCABULARY)
    parser.add_argument(
        "--seconds", type=float, default=90, help="of processor time for each model"
    )
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    arguments = parser.parse_args()
    if arguments.what == "loss" and not arguments.data:
        parser.error("loss needs --data")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    {"throughput": throughput, "memory": memory, "loss": loss, "report": report}[arguments.what](
        arguments
    )


if __name__ == "__main__":
    main()
