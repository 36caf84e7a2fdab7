"""Two versions of bertlite against each other and against transformers, in one run.

Each runs in a process of its own on one thread, in turn, on the same weights and inputs; outputs
are compared with transformers' before anything is timed. What is compared is processor time, which
other work on the machine disturbs least.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

EPILOG = """example:
  git worktree add before 9c197fc
  python -m benchmarks versions --before before/src

--before and --after are folders that hold a package bertlite; --after is this checkout's by
default. Above 1, the version takes less processor time than transformers.
"""
WORKS = (
    "inference, skewed lengths",
    "inference, skewed, optimised",
    "inference, equal lengths 128",
    "inference, equal 128, optimised",
    "one sequence of 16 tokens, optimised",
    "masked-LM step",
    "fine-tuning step, sequences",
    "fine-tuning step, tokens",
    "translation step",
    "generation, greedy, batch 1",
    "generation, 4 beams, batch 16",
)
SMALL = {"num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4}
TRANSFORMER = {
    "vocab_size": 8000,
    "d_model": 256,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}


def start(sources: Path | None, folder: str) -> subprocess.Popen:
    """A worker process: transformers where `sources` is None, else the bertlite that is there."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if sources is not None:
        environment["PYTHONPATH"] = str(sources.resolve())
    command = [sys.executable, __file__, "--work", "bertlite" if sources else "transformers"]
    command += ["--folder", folder]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def ask(worker: subprocess.Popen, work: str) -> dict:
    """The worker's answer to one request."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(work + "\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError(f"a worker stopped in {work!r}; its error stands above")
    return json.loads(line)


def run(before: Path, after: Path, rounds: int, works: list[str]) -> dict:
    """Times of every work by every side, and the largest difference from transformers' outputs."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {"transformers": None, "before": before, "after": after}
        workers = {name: start(sources, folder) for name, sources in sides.items()}
        results: dict = {}
        for work in works:
            times: dict[str, list[float]] = {name: [] for name in workers}
            checks = {}
            for number in range(rounds + 1):
                for name, worker in workers.items():
                    answer = ask(worker, work)
                    checks[name] = answer["check"]
                    if number:  # the first warms up
                        times[name].append(answer["seconds"])
            expected = checks["transformers"]
            results[work] = {
                "seconds": {name: statistics.median(each) for name, each in times.items()},
                "difference": {
                    name: abs(check - expected) / max(abs(expected), 1e-9)
                    for name, check in checks.items()
                },
            }
            print(row(work, results[work]), flush=True)
        for worker in workers.values():
            worker.kill()
    return results


def row(work: str, result: dict) -> str:
    """A line of the table."""
    seconds, difference = result["seconds"], result["difference"]
    old = seconds["transformers"] / seconds["before"]
    new = seconds["transformers"] / seconds["after"]
    off = max(difference["before"], difference["after"])
    return f"| {work} | {old:.2f} | {new:.2f} | {new / old:.2f} | {off:.1e} |"


def main() -> None:
    """Ask the workers in turn, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--before", type=Path, help="folder that holds the earlier package")
    here = Path(__file__).resolve().parents[1] / "src"
    parser.add_argument("--after", type=Path, default=here, help="folder that holds the later one")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after one to warm up")
    parser.add_argument("--works", nargs="*", default=list(WORKS), help="which works to compare")
    parser.add_argument("--output", type=Path, help="also write the table and JSON there")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        serve(given.work, given.folder)
        return
    if given.before is None or not Path(given.before, "bertlite").is_dir():
        raise SystemExit(f"error: --before must hold a package bertlite, got {given.before}")
    head = "| work | before / transformers | after / transformers | after / before | difference |"
    print(head + "\n| --- | --- | --- | --- | --- |")
    results = run(given.before, given.after, given.rounds, given.works)
    if given.output:
        write(given.output, head, results)


def write(output: Path, head: str, results: dict) -> None:
    """The table and its figures, with versions and processor."""
    import torch
    import transformers

    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    kind = torch.backends.cpu.get_cpu_capability()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, {cpu}, {kind}"
    lines = [
        "# Two versions of bertlite against transformers, processor time of one thread",
        "",
        f"{versions}. Above 1: less time than transformers, in the same run.",
        "",
        head,
        "| --- | --- | --- | --- | --- |",
        *(row(work, result) for work, result in results.items()),
        "",
    ]
    output.mkdir(parents=True, exist_ok=True)
    (output / "versions.md").write_text("\n".join(lines))
    (output / "versions.json").write_text(json.dumps({"on": versions, "works": results}, indent=1))


# ---------------------------------------------------------------------------------- in a worker


def serve(side: str, folder: str) -> None:
    """Answer each line of the standard input: run that work once, and say how long it took."""
    import time

    answer = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not mix with the answers
    works = make_works(side, folder)
    for line in sys.stdin:
        call = works(line.strip())
        began = time.process_time()
        check = call()
        seconds = time.process_time() - began
        answer.write(json.dumps({"seconds": seconds, "check": float(check)}) + "\n")
        answer.flush()


def make_works(side: str, folder: str):
    """From the name of a work to a function that does it once; made when first asked for."""
    import functools

    import torch

    torch.set_num_threads(1)
    makers = {
        "inference": inference_work,
        "one sequence": inference_work,
        "masked-LM": masked_lm_work,
        "fine-tuning": fine_tuning_work,
        "translation": translation_work,
        "generation": generation_work,
    }

    @functools.cache
    def find(work: str):
        maker = next(maker for start, maker in makers.items() if work.startswith(start))
        return maker(work, side, folder)

    return find


def bert(side: str, head: str, path: str, **options):
    """A BERT of either side from a folder."""
    if side == "transformers":
        import transformers

        return getattr(transformers, f"Bert{head}").from_pretrained(path, **options)
    import bertlite

    return getattr(bertlite, f"BertLite{head}").from_pretrained(path, **options)


def inference_work(work: str, side: str, folder: str):
    """Forward passes of the real MiniLM."""
    import torch
    from common import natural_lengths, padded_batches
    from encoder_inputs import VOCABULARY, minilm_folder

    model = bert(side, "Model", str(minilm_folder())).eval()
    if "optimised" in work and side == "bertlite":
        import bertlite

        model = bertlite.optimize(model)
    if "one sequence" in work:
        lengths, size = [16] * 60, 1
    elif "equal" in work:
        lengths, size = [128] * 32, 32
    else:
        lengths, size = natural_lengths(96, 256), 32
    batches = padded_batches(lengths, VOCABULARY, size)

    def call() -> float:
        total = 0.0
        with torch.inference_mode():
            for batch in batches:
                states = model(**batch).last_hidden_state
                total += states[batch["attention_mask"].bool()].abs().mean().item()
        return total

    return call


def with_head(head: str, base: str, folder: str, **options) -> str:
    """A BERT with a head of random weights, the same for every side."""
    import torch
    import transformers

    path = Path(folder, head)
    if not (path / "model.safetensors").exists():
        torch.manual_seed(0)
        kind = getattr(transformers, f"Bert{head}")
        kind.from_pretrained(base, **options).save_pretrained(path)
    return str(path)


def small_bert(folder: str) -> str:
    """A small BERT with random weights."""
    from encoder_inputs import random_weights

    path = Path(folder, "small")
    if not (path / "model.safetensors").exists():
        random_weights(str(path), **SMALL, intermediate_size=1024)
    return str(path)


def masked_lm_work(work: str, side: str, folder: str):
    """A masked-LM step: forward, backward, fused AdamW."""
    import torch
    from common import natural_lengths, padded_batches
    from encoder_inputs import VOCABULARY

    model = bert(side, "ForMaskedLM", with_head("ForMaskedLM", small_bert(folder), folder))
    batches = padded_batches(natural_lengths(32, 128), VOCABULARY)
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        chosen = torch.rand(batch["input_ids"].shape, generator=generator) < 0.15
        chosen &= batch["attention_mask"].bool()
        batch["labels"] = batch["input_ids"].masked_fill(~chosen, -100)
    return training_step(model, batches)


def fine_tuning_work(work: str, side: str, folder: str):
    """A fine-tuning step of a classifier, with dropout."""
    import torch
    from common import natural_lengths, padded_batches
    from encoder_inputs import VOCABULARY, minilm_folder

    head = "ForTokenClassification" if "tokens" in work else "ForSequenceClassification"
    model = bert(side, head, with_head(head, str(minilm_folder()), folder, num_labels=5))
    batches = padded_batches(natural_lengths(32, 128), VOCABULARY)
    generator = torch.Generator().manual_seed(1)
    for batch in batches:
        mask = batch["attention_mask"].bool()
        labels = torch.randint(0, 5, mask.shape, generator=generator)
        if "tokens" in work:  # a third are parts of words, which carry no label
            first = torch.rand(mask.shape, generator=generator) < 2 / 3
            batch["labels"] = labels.masked_fill(~(mask & first), -100)
        else:
            batch["labels"] = labels[:, 0]
    return training_step(model, batches)


def training_step(model, batches: list[dict]):
    """Steps over `batches`; the check is the loss without dropout, before any step."""
    import torch

    with torch.no_grad():
        check = sum(float(model.eval()(**batch).loss) for batch in batches)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def call() -> float:
        for batch in batches:
            model(**batch, num_items_in_batch=(batch["labels"] != -100).sum()).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return check

    return call


def transformer(side: str, folder: str):
    """A small encoder-decoder with random weights, the same for every side."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    path = Path(folder, "transformer")
    if not (path / "model.safetensors").exists():
        torch.manual_seed(0)
        sizes = {}
        for name in ("encoder", "decoder"):
            sizes |= {f"{name}_layers": 3, f"{name}_attention_heads": 4, f"{name}_ffn_dim": 1024}
        MarianMTModel(MarianConfig(**TRANSFORMER, **sizes)).save_pretrained(path)
    if side == "transformers":
        return MarianMTModel.from_pretrained(path)
    import bertlite

    return bertlite.TransformerLiteForConditionalGeneration.from_pretrained(path)


def pairs(count: int, longest: int):
    """Sources with their masks, and targets as labels."""
    import torch
    from common import natural_lengths, padded_batches

    batch = padded_batches(natural_lengths(count, longest), TRANSFORMER["vocab_size"], count)[0]
    target = padded_batches(natural_lengths(count, longest, seed=1), 8000, count)[0]
    labels = target["input_ids"].masked_fill(target["attention_mask"] == 0, -100)
    return {**batch, "labels": labels.to(torch.int64)}


def translation_work(work: str, side: str, folder: str):
    """A training step of the encoder-decoder."""
    return training_step(transformer(side, folder), [pairs(32, 64)])


def generation_work(work: str, side: str, folder: str):
    """Generation by `model.generate`, by the version's own fast loop where that is an option."""
    import torch

    model = transformer(side, folder).eval()
    count, beams = (1, 1) if "batch 1" in work and "16" not in work else (16, 4)
    batch = pairs(count, 64)
    del batch["labels"]
    generate = model.generate
    if side == "bertlite":
        try:  # versions before 0.2 had it apart
            from bertlite.generation import generate as fast
        except ImportError:
            pass
        else:

            def generate(**given):
                return fast(model, **given)

    def call() -> float:
        with torch.inference_mode():
            made = generate(**batch, num_beams=beams, max_new_tokens=32, do_sample=False)
        return float(made.sum())

    return call


if __name__ == "__main__":
    main()
