"""Damaged and hostile inputs to every reader: no crash, no hang, no code run, no file elsewhere.

  python -m benchmarks fuzzing --inputs 8000
  python -m benchmarks fuzzing --inputs 8000 --seconds 600 --output out/fuzz.jsonl
  python -m benchmarks fuzzing --targets requests config.json --inputs 500 --seed 2

Each input is a right one, damaged at random: bytes cut, flipped, put in, dropped or doubled, or a
value of its JSON exchanged. A reader must read it or refuse it with an error that has a name. An
audit hook reports any file that is written outside the fuzzer's own folder, any process that is
started and any connection. An input after which a process dies, or on which it works for more than
30 seconds, is reported by its number: target, seed and number make it again. With `--output` a run
goes on where the last one with this file stopped.
"""

import argparse
import copy
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}

import torch
import transformers
from common import processor
from fuzz_targets import MAKERS, Target, make_target
from kills_forking import in_child

CHUNK = 500  # inputs a process
LONGEST = 30  # seconds
PIECES = [b"\0", b'"', b"\\", b"\n", b"\r", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\\ud800"]
PIECES += [b"NaN", b"1e999", b"-1", b"[" * 3000, b'{"a":' * 300, b"../", b"null", b"!!python/name:"]
VALUES: list[Any] = [None, True, -1, 0, 1, 2**70, 1.5, 1e308, float("nan"), "", "x" * 500, "../x"]
VALUES += ["/etc/passwd", "\ud800", "\0", [], {}, [[]], [None], {"a": {"b": []}}, "gelu", "bert"]
CHANGES = {
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "shutil.rmtree",
}
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect"}


class Hang(BaseException):
    """An input that takes too long."""


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes with one to four kinds of harm."""
    for _ in range(chance.randint(1, 4)):
        place, size = chance.randint(0, len(content)), chance.randint(1, 8)
        before, after = content[:place], content[place:]
        content = chance.choice(
            [
                before,
                before
                + bytes(each ^ chance.randint(1, 255) for each in after[:size])
                + after[size:],
                before + chance.randbytes(size) + after,
                before + chance.choice(PIECES) + after,
                before + after[size:],
                before + after[: 5 * size] + after,
            ]
        )
    return content


def exchanged(content: bytes, chance: random.Random) -> bytes:
    """JSON with a value exchanged, removed or doubled; other bytes damaged."""
    head = content[:1] if content[:1] < b" " else b""  # the endpoint of a request
    try:
        tree = json.loads(content[len(head) :])
    except ValueError:
        return damaged(content, chance)
    for _ in range(chance.randint(1, 3)):
        node, key = pick(tree, chance)
        if key is None:
            return head + json.dumps(value(chance)).encode()
        if isinstance(node, dict) and chance.random() < 0.2:
            node[str(value(chance))[:20]] = value(chance)
        elif chance.random() < 0.2:
            del node[key]
        else:
            node[key] = value(chance)
    return head + json.dumps(tree).encode()


def value(chance: random.Random) -> Any:
    """A value that nobody expects there."""
    return copy.deepcopy(chance.choice(VALUES))


def pick(tree: Any, chance: random.Random) -> tuple[Any, Any]:
    """A container within a tree and one of its keys; no key where the tree has none."""
    node, key = tree, None
    while isinstance(node, (dict, list)) and node:
        key = chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], (dict, list)) or not node[key] or chance.random() < 0.3:
            return node, key
        node = node[key]
    return tree, None


def input_of(target: Target, name: str, seed: int, number: int) -> bytes:
    """The input of this number."""
    chance = random.Random(f"{name} {seed} {number}")
    change = chance.choice([damaged, exchanged])
    return change(chance.choice(target.seeds), chance)


def watch(room: Path, seen: list[str]) -> None:
    """Note what this process does outside of `room`, from now on."""
    allowed = (str(room), "/dev/")

    def hook(event: str, arguments: tuple) -> None:
        if event in STARTS:
            seen.append(f"{event} {arguments[:1]}")
        elif event == "open" or event in CHANGES:
            path, mode, flags = (*arguments, None, None)[:3]
            writes = event != "open" or set(str(mode or "")) & set("wax+")
            writes = writes or (event == "open" and (flags or 0) & (os.O_WRONLY | os.O_RDWR))
            if writes and not isinstance(path, int):
                place = os.path.realpath(os.fspath(path))
                place = place.decode() if isinstance(place, bytes) else place
                if not place.startswith(allowed):
                    seen.append(f"{event} {place}")

    sys.addaudithook(hook)


def feed_many(name: str, seed: int, numbers: range, room: Path, progress: Path) -> dict:
    """Feed inputs to a target: how each came out, and what was wrong."""

    def hang(*_: Any) -> None:
        raise Hang

    sys.dont_write_bytecode = True
    os.environ["TMPDIR"] = tempfile.tempdir = str(room)
    seen: list[str] = []
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    target = make_target(name, room)
    for content in target.seeds:  # what is imported late is imported now
        target.feed(content)
    watch(room, seen)
    signal.signal(signal.SIGALRM, hang)
    for number in numbers:
        progress.write_text(str(number))
        signal.alarm(LONGEST)
        try:
            outcomes[target.feed(input_of(target, name, seed, number))] += 1
        except (Exception, Hang) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            file = "/".join(Path(place.filename).parts[-2:])
            words = f"{type(error).__name__} at {file}:{place.lineno}: {error!s:.150}"
            wrong.append(f"input {number}: {words}")
        finally:
            signal.alarm(0)
        if seen:
            wrong.append(f"input {number}: {seen.pop()}")
            seen.clear()
        if (room / "mark").exists():
            wrong.append(f"input {number}: code was run")
            (room / "mark").unlink()
    return {"outcomes": outcomes, "wrong": wrong}


def fuzz(name: str, seed: int, numbers: range) -> dict:
    """Feed inputs to a target in a process of its own; it may die of one."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as room:
        inside = Path(room).resolve()
        progress = inside / "number"
        try:
            found = in_child(lambda: feed_many(name, seed, numbers, inside, progress))
        except RuntimeError as error:  # the next run goes on behind the input that it died of
            last = int(progress.read_text()) if progress.exists() else numbers.start
            wrong = [f"input {last}: {error}"]
            found = {"outcomes": {"died": last + 1 - numbers.start}, "wrong": wrong}
    return {"target": name, **found, "seconds": time.perf_counter() - began}


def totals(pieces: list[dict]) -> dict[str, dict]:
    """The pieces of each target together: `inputs`, `outcomes`, `wrong`, `seconds`."""
    found: dict[str, dict] = {}
    for piece in pieces:
        new = {"inputs": 0, "outcomes": Counter(), "wrong": [], "seconds": 0.0}
        total = found.setdefault(piece["target"], new)
        total["outcomes"].update(piece["outcomes"])
        total["wrong"] += piece["wrong"]
        total["seconds"] += piece["seconds"]
        total["inputs"] = sum(total["outcomes"].values()) + len(total["wrong"])
    return found


def report(found: dict[str, dict], seed: int) -> int:
    """Print the table; 1 if anything was wrong."""
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {processor()}")
    print(f"\nSeed {seed}.\n\n| target | inputs | how they came out | wrong | seconds |")
    print("| --- | --- | --- | --- | --- |")
    wrong = []
    for name, each in found.items():
        outcomes = ", ".join(f"{what} {count}" for what, count in each["outcomes"].most_common())
        counts = f"{each['inputs']:,} | {outcomes} | {len(each['wrong'])} | {each['seconds']:.0f}"
        print(f"| {name} | {counts} |")
        wrong += [f"{name}, {words}" for words in each["wrong"]]
    total = sum(each["inputs"] for each in found.values())
    print(f"\n{total:,} inputs. " + ("\n".join(["Wrong:", *wrong]) if wrong else "None was wrong."))
    return int(bool(wrong))


def main() -> int:
    """Fuzz the targets by turns; print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", nargs="+", choices=list(MAKERS), default=list(MAKERS))
    parser.add_argument("--inputs", type=int, default=6000, help="of each target (default: 6000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--output", type=Path, help="a file that gets a JSON line a piece")
    given = parser.parse_args()
    until = time.monotonic() + given.seconds
    pieces = []
    if given.output is not None and given.output.exists():
        pieces = [json.loads(line) for line in given.output.read_text().splitlines()]
    for first in range(0, given.inputs, CHUNK):
        for name in given.targets:
            done = totals(pieces).get(name, {"inputs": 0})["inputs"]
            last = min(first + CHUNK, given.inputs)
            if done >= last or time.monotonic() > until:
                continue
            pieces.append(fuzz(name, given.seed, range(done, last)))
            if given.output is not None:
                with given.output.open("a") as file:
                    file.write(json.dumps(pieces[-1]) + "\n")
    return report(totals(pieces), given.seed)


if __name__ == "__main__":
    sys.exit(main())
