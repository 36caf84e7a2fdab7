"""Where the time of bertlite's own passes goes.

Shares of torch's operations, by torch's profiler, and their sum.

    python benchmarks/shares.py                   # writes benchmarks/results/shares.md

Encoder: real MiniLM weights, optimised in fp32, 256 sentences of log-normal lengths, and one of 16
tokens at a time.
Generation: random weights, as in generation.py, by the fast loop. Training: steps on film reviews
(forward, backward, clipping, update), ours and transformers' own BERT class in turn, with the ratio
of the medians; and ours once more with attention by the plain formula.

Profiling slows small operations down: read shares, not times. Run it on a machine that does nothing
else.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import fine_tuning
import generation
import torch
import transformers
from common import natural_lengths, print_environment, processor
from transformers import DataCollatorWithPadding

import bertlite
from bertlite.backends.cpu import attention

RESULTS = Path(__file__).with_name("results")
SHOWN = 8


def shares(call: Callable[[], object]) -> tuple[float, list[tuple[str, float]]]:
    """Milliseconds of all operations of a call, and the largest shares of them."""
    call()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return total / 1000, [
        (event.key, event.self_cpu_time_total / total) for event in events[:SHOWN]
    ]


def encoder_calls() -> dict[str, Callable[[], object]]:
    """The optimised encoder on skewed lengths, and on single sequences."""
    model = bertlite.BertLiteModel.from_pretrained(fine_tuning.weights()).eval()
    bertlite.optimize(model)
    generator, batches = torch.Generator().manual_seed(0), []
    lengths = torch.as_tensor(natural_lengths(256, longest=256))
    for part in lengths.split(32):
        mask = (torch.arange(int(part.max())) < part[:, None]).long()
        ids = torch.randint(1000, 20000, mask.shape, generator=generator)
        batches.append({"input_ids": ids * mask, "attention_mask": mask})
    single = [{"input_ids": torch.randint(1000, 20000, (1, 16), generator=generator)}] * 64

    @torch.inference_mode()
    def encode(rows: list[dict]) -> None:
        for row in rows:
            model(**row)

    return {
        "encoder, skewed lengths": partial(encode, batches),
        "encoder, 64 x 1 of 16": partial(encode, single),
    }


def generation_calls(folder: str) -> dict[str, Callable[[], object]]:
    """The fast loop at the batches and beams of generation.py."""
    generation.saved_model(folder, 6, 512, 32000)
    model = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(folder).eval()
    found = {}
    for batch, beams, dtype in ((1, 1, "fp32"), (1, 4, "fp32"), (16, 4, "fp32"), (16, 4, "int8")):
        ids = torch.randint(
            3, 31999, (batch, generation.SOURCE), generator=torch.Generator().manual_seed(batch)
        )
        write = partial(generation.written, partial(generation.generate, model, dtype=dtype), 40)
        found[f"generation, batch {batch}, {beams} beams, {dtype}"] = partial(write, ids, beams)
    return found


def fine_tuning_steps(count: int = 10) -> dict[str, Callable[[], object]]:
    """`count` steps of ours and of theirs on the same reviews."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(fine_tuning.weights())
    rows = list(fine_tuning.load_data("sentiment", None).train)[: 32 * count]
    encoded = [{**tokenizer(row["text"]), "labels": int(row["label"])} for row in rows]
    collate = DataCollatorWithPadding(tokenizer)
    batches = [collate(encoded[start : start + 32]) for start in range(0, len(encoded), 32)]

    def steps(model, optimizer) -> None:
        for batch in batches:
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    kinds = {
        "ours": bertlite.BertLiteForSequenceClassification,
        "theirs": transformers.BertForSequenceClassification,
    }
    made = {}
    for name, kind in kinds.items():
        model = kind.from_pretrained(fine_tuning.weights(), num_labels=2).train()
        made[name] = partial(
            steps, model, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        )
    return {**made, "ours, attention by the formula": partial(by_formula, made["ours"])}


def by_formula(call: Callable[[], object]) -> None:
    """A call in which attention is the plain formula, operation by operation."""
    suits_one_node = attention.suits_one_node
    attention.suits_one_node = lambda query: False
    try:
        call()
    finally:
        attention.suits_one_node = suits_one_node


def ratios_to_theirs(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """How many times as fast each is as theirs, by the medians of alternated rounds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
    return {
        name: medians["theirs"] / median for name, median in medians.items() if name != "theirs"
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="of ten training steps each")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print_environment(arguments.threads)
    lines = [
        "# Where the time goes",
        "",
        f"{processor()}, {arguments.threads} threads, torch {torch.__version__}, ",
    ]
    lines[-1] += (
        f"transformers {transformers.__version__}. Shares of torch's operations in a profile."
    )
    lines += ["", "| pass | ms of operations | shares |", "| --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as folder:
        training = fine_tuning_steps()
        ratios = ratios_to_theirs(training, arguments.rounds)
        calls = {
            **encoder_calls(),
            **generation_calls(folder),
            "10 fine-tuning steps, sentiment": training["ours"],
        }
        for name, call in calls.items():
            total, largest = shares(call)
            told = ", ".join(f"{key.split('::')[-1]} {100 * share:.1f} %" for key, share in largest)
            lines.append(f"| {name} | {total:.0f} | {told} |")
            print(lines[-1], flush=True)
    lines += [
        "",
        "Fine-tuning steps as a multiple of the speed of transformers' "
        "BertForSequenceClassification, medians of ",
    ]
    lines[-1] += f"{arguments.rounds} alternated rounds of ten steps: "
    lines[-1] += "; ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()) + "."
    print(lines[-1])
    RESULTS.joinpath("shares.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
