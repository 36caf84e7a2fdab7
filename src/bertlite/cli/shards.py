"""Rows written in shards by one process or several, of which each does its share once.

Shard n holds the rows from n times the shard's size on, so that the names' order is the rows'.
Process r of w takes every w-th shard, from the r-th on; they need not talk to each other. A shard
is there only when it is whole: whoever comes later, after a kill too, does those that are missing.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

PLAN, WHOLE = "plan.json", "whole.json"


@dataclass(frozen=True)
class Share:
    """Which of how many processes this one is."""

    rank: int = 0
    count: int = 1

    @classmethod
    def of_launcher(cls) -> "Share":
        """What `torchrun` and `accelerate launch` tell each of their processes."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


@dataclass(frozen=True)
class Shards:
    """A folder of shards.

    Attributes:
        folder: where they are.
        size: rows of each, but for the last.
        ending: of their files.
        share: what this process does of them.
    """

    folder: Path
    size: int
    ending: str
    share: Share

    def path(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"shard-{number:06d}{self.ending}"

    def begin(self, plan: dict[str, Any]) -> None:
        """Make the folder, or find it made by a run with the same plan.

        Args:
            plan: whatever the rows depend on, as JSON can hold it.

        Raises:
            ValueError: the folder holds shards of another plan, or something else.
        """
        plan = json.loads(json.dumps({**plan, "shard_rows": self.size, "ending": self.ending}))
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / PLAN
        others = [each.name for each in self.folder.iterdir() if not each.name.startswith(".")]
        if others and not file.exists():
            raise ValueError(
                f"--output-dir must be new or empty, got {self.folder}, which holds {others[0]}"
            )
        if not file.exists():
            self.put(file, lambda path: path.write_text(json.dumps(plan, indent=1) + "\n"))
        found = json.loads(file.read_text(encoding="utf-8"))
        odd = sorted(name for name in {*found, *plan} if found.get(name) != plan.get(name))
        if odd:
            name = odd[0]
            raise ValueError(
                f"--output-dir must be new for other rows or options, got {self.folder}, begun "
                f"with {name} {found.get(name)!r}, now {plan.get(name)!r}"
            )

    def write(self, rows: Iterable[Any], write: Callable[[Path, list[Any]], None]) -> list[int]:
        """Write the shards of this process that are missing; the numbers of those written.

        Args:
            rows: all of them, in their order.
            write: writes the rows of one shard to a file.
        """
        written, count, number = [], 0, -1
        for number, chunk in enumerate(in_chunks(rows, self.size)):
            count += len(chunk)
            mine = number % self.share.count == self.share.rank
            if mine and not self.path(number).exists():
                self.put(self.path(number), lambda path, chunk=chunk: write(path, chunk))  # type: ignore[misc]
                written.append(number)
        if all(self.path(each).exists() for each in range(number + 1)):
            whole = json.dumps({"rows": count, "shards": number + 1})
            self.put(self.folder / WHOLE, lambda path: path.write_text(whole + "\n"))
        return written

    def put(self, target: Path, write: Callable[[Path], Any]) -> None:
        """Write a file that is there only when it is whole."""
        part = target.with_name(f".{self.share.rank}.{os.getpid()}.{target.name}")
        try:
            write(part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def in_chunks(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` rows, the last of what is left.

    >>> list(in_chunks("abc", 2))
    [['a', 'b'], ['c']]
    """
    left = iter(rows)
    while chunk := list(islice(left, size)):
        yield chunk


def described_model(model: str) -> dict[str, Any]:
    """A model as a plan has it: its name, and of a folder the weights that are in it now."""
    weights = sorted(Path(model).rglob("*.safetensors")) if os.path.isdir(model) else []
    stats = {each.relative_to(model).as_posix(): each.stat() for each in weights}
    found = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    return {"model": model, "weights": found}


def described(file: str) -> dict[str, Any]:
    """A file as a plan has it."""
    stat = os.stat(file)
    return {"file": os.path.abspath(file), "bytes": stat.st_size, "changed_ns": stat.st_mtime_ns}
