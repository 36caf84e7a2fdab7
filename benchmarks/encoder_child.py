"""One peer in a fresh process: its peak memory, and how many threads did its work.

    python benchmarks/encoder_child.py --peer NAME --files FOLDER --weights FOLDER --inputs FILE.npz
    --threads N

Called by the encoder benchmark for each peer, with files already made, so that no conversion
counts. Prints JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from encoder_graphs import Files
from encoder_peers import BY_NAME


def peak_bytes() -> int:
    """The largest resident memory so far.

    `ru_maxrss` goes on from the process that started this one, so that Linux's own count for this
    program comes first.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return (
            next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
            * 1024
        )
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def thread_seconds() -> dict[str, float]:
    """Processor time of each thread of this process; empty where the system does not tell."""
    found = {}
    for folder in Path("/proc/self/task").glob("*"):
        try:
            found[folder.name] = int((folder / "schedstat").read_text().split()[0]) / 1e9
        except (OSError, IndexError):
            continue
    return found


def busy_threads(before: dict[str, float], after: dict[str, float]) -> int | None:
    """How many threads did at least a fifth as much as the busiest."""
    spent = [seconds - before.get(name, 0.0) for name, seconds in after.items()]
    return sum(each > 0.2 * max(spent) for each in spent) if spent else None


def measure(arguments: argparse.Namespace) -> dict:
    """Load, run every batch twice, and look at memory and threads."""
    runner = BY_NAME[arguments.peer].load_here(
        Files(arguments.weights, arguments.files), arguments.threads
    )
    inputs = [runner.adapt(batch) for batch in read_batches(arguments.inputs)]
    for each in inputs:
        runner.forward(each)
    before, start = thread_seconds(), time.perf_counter()
    while time.perf_counter() < start + 0.5:
        for each in inputs:
            runner.forward(each)
    return {"peak_bytes": peak_bytes(), "busy_threads": busy_threads(before, thread_seconds())}


def write_batches(batches: list[dict], path: str) -> None:
    """Batches in a file that is read without torch."""
    numbered = enumerate(batches)
    np.savez(
        path,
        **{
            f"{number}/{name}": array for number, batch in numbered for name, array in batch.items()
        },
    )


def read_batches(path: str) -> list[dict]:
    """What `write_batches` wrote."""
    batches: dict[int, dict] = {}
    with np.load(path) as file:
        for key in file.files:
            number, name = key.split("/")
            batches.setdefault(int(number), {})[name] = file[key]
    return [batches[number] for number in sorted(batches)]


def in_a_child(peer: str, files: Files, inputs: str, threads: int, timeout: float = 600) -> dict:
    """`measure` in a fresh process; {"failed": why} where that fails."""
    command = [sys.executable, str(Path(__file__)), "--peer", peer, "--files", str(files.folder)]
    command += ["--weights", files.weights, "--inputs", inputs, "--threads", str(threads)]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=dict(os.environ)
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"longer than {timeout:.0f} s"}
    if run.returncode:
        lines = run.stderr.strip().splitlines()
        return {"failed": lines[-1][:200] if lines else f"exit status {run.returncode}"}
    return json.loads(run.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("peer", "files", "weights", "inputs"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, required=True)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
