"""On a GPU: correctness first, then inference, training and generation against transformers' sdpa.

    python -m benchmarks gpu
    python -m benchmarks gpu --device cpu --quick

BERT-base with random weights, bf16 unless said otherwise, competitors in turn in one process. With
`--device cpu --quick` everything runs in small on a CPU, to show that it runs.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import gpu_correct
import gpu_runs
import gpu_works
import torch
import transformers
from gpu_measure import product_rate
from gpu_models import Setting, make_folders
from gpu_results import markdown, write

import bertlite

RESULTS = Path(__file__).parent / "results" / "gpu"
PARTS = ("correct", "works", "runs", "growth")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda (default), or cpu")
    parser.add_argument("--quick", action="store_true", help="small shapes, one round")
    parser.add_argument("--rounds", type=int, default=None, help="rounds (default: 7, quick: 1)")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--output", type=Path, default=None, help="a folder for the results")
    options = parser.parse_args(arguments)
    if options.device not in ("cuda", "cpu"):
        raise SystemExit(f"error: --device must be cuda or cpu, got {options.device!r}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: --device cuda must have a GPU, got none; not run")
    if options.rounds is not None and options.rounds < 1:
        raise SystemExit(f"error: --rounds must be at least 1, got {options.rounds}")
    options.parts = options.parts.split(",")
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        raise SystemExit(f"error: --parts must be of {', '.join(PARTS)}, got {unknown[0]!r}")
    return options


def device_name(setting: Setting) -> str:
    """The card, or the processor."""
    if setting.is_gpu:
        return torch.cuda.get_device_name()
    from common import processor

    return f"{processor()} (no GPU: every line of a GPU is not run)"


def measure(setting: Setting, parts: list[str]) -> dict[str, Any]:
    """Everything that was asked for, in one report."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    report: dict[str, Any] = {
        "device": device_name(setting),
        "is_gpu": setting.is_gpu,
        "quick": setting.quick,
        "rounds": setting.rounds,
        "versions": versions | {"bertlite": bertlite.__version__},
        "correct": gpu_correct.check(setting) if "correct" in parts else [],
        "product_rate": product_rate(setting, torch.bfloat16),
        "works": [],
        "growth": {},
    }
    works = gpu_works.entries() if "works" in parts else []
    works += gpu_runs.entries() if "runs" in parts else []
    for entry in works:
        print(f"{entry.name} ...", file=sys.stderr, flush=True)
        found = entry.run(setting)
        about = {"name": entry.name, "target": entry.target, "who": entry.who}
        report["works"].append(about | found)
    if "growth" in parts:
        report["growth"] = {along: gpu_runs.growth(setting, along) for along in gpu_runs.SIZES}
    return report


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    options = parse(arguments)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rounds = options.rounds or (1 if options.quick else 7)
    setting = Setting(options.device, options.quick, rounds)
    make_folders(setting)
    report = measure(setting, options.parts)
    print(markdown(report))
    output = options.output or (RESULTS if setting.is_gpu else None)
    if output is not None:
        write(report, output)
    if not all(row["right"] for row in report["correct"]):
        raise SystemExit("error: outputs differ from transformers' by more than is allowed")


if __name__ == "__main__":
    main()
