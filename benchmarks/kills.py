"""Kill -9 at random moments of saving, training, pretraining and exporting; check what is left.

  python -m benchmarks kills
  python -m benchmarks kills --works training --kills 20 --seed 3

Each work is done by a child of one process that has imported everything, so that a kill costs about
as much time as the work itself. A child is killed at a random moment; what it has left is judged by
another child; then the work goes on in the same folder (`resume`), is killed again, and so on until
it is through. At the end its result is compared with that of a run that nobody killed.

The exit status is 1 if anything was not as it should be.
"""

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import torch
import transformers
from common import processor
from kill_works import WORKS, Work
from kills_forking import in_child, start, stop

import bertlite

ROUNDS = 40  # of going on in one folder, at most


def torment(work: Work, room: Path, kills: int, until: float, chance: random.Random) -> dict:
    """Kill a work so many times, or until a moment.

    Returns:
        `kills`; `left`, how often what was found after a kill; `whole`, the runs that came to their
        end; `wrong`, what was not as it should be, in words.
    """
    began = time.perf_counter()
    in_child(lambda: work.prepare(room))
    seconds = in_child(lambda: timed(work, room / "expected"))
    left: Counter[str] = Counter()
    found: dict = {"kills": 0, "left": left, "whole": 0, "wrong": []}
    while found["kills"] < kills and time.monotonic() < until:
        folder = room / f"run-{found['whole']}"
        folder.mkdir()
        for _ in range(ROUNDS):
            child = start(lambda folder=folder: work.run(folder / "out"))
            killed = stop(child, chance.uniform(0, work.lives * seconds))
            if killed is not None:  # it was through, or failed by itself
                found["wrong"] += [f"ended by itself: {killed}"] if killed else []
                break
            found["kills"] += 1
            verdict = asked(lambda folder=folder: work.judge(folder / "out", room / "expected"))
            left[verdict] += 1
            if verdict.startswith("WRONG"):
                found["wrong"].append(verdict)
            if found["kills"] == kills or time.monotonic() > until:
                break
        verdict = asked(lambda folder=folder: work.run(folder / "out", last=True)) or asked(
            lambda folder=folder: work.compare(folder, room / "expected")
        )
        found["wrong"] += [verdict] if verdict else []
        found["whole"] += 1
    return {**found, "run": seconds, "seconds": time.perf_counter() - began}


def asked(judge: Callable[[], str | None]) -> str:
    """What a child says; that it fails is wrong."""
    try:
        return in_child(judge) or ""
    except RuntimeError as error:
        return f"WRONG: {error}"


def timed(work: Work, folder: Path) -> float:
    """Seconds of a run that nobody kills, whose result the others are compared with."""
    began = time.perf_counter()
    work.run(folder, last=True)
    return time.perf_counter() - began


def row(name: str, found: dict) -> str:
    """A line of the table."""
    left = ", ".join(f"{what} {count}" for what, count in sorted(found["left"].items()))
    counts = f"{found['kills']} | {left} | {found['whole']} | {len(found['wrong'])}"
    return f"| {name} | {found['run']:.1f} | {counts} | {found['seconds']:.0f} |"


def main() -> int:
    """Kill each work so often; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS))
    parser.add_argument("--kills", type=int, default=40, help="of each work (default: 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop each work after so many")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Python {platform.python_version()}, torch {torch.__version__}, ", end="")
    print(
        f"transformers {transformers.__version__}, bertlite {bertlite.__version__}, {processor()}"
    )
    print(f"\nSeed {given.seed}. `run`: seconds of a whole run, at most which a child lived.\n")
    print("| work | run | kills | what a kill left | runs brought to their end | wrong | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    wrong = []
    for name in given.works:
        with tempfile.TemporaryDirectory() as room:
            chance = random.Random(f"{given.seed} {name}")
            until = time.monotonic() + given.seconds
            found = torment(WORKS[name], Path(room), given.kills, until, chance)
        print(row(name, found), flush=True)
        wrong += [f"{name}: {each}" for each in found["wrong"]]
    print("\n" + ("\n".join(wrong) or "Nothing was wrong."))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
