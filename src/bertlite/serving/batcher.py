"""Passes through the models: one thread, which takes what waits, so many tokens at a time.

While a pass runs the next requests gather, so that nobody waits for a batch to fill. Requests take
turns: one of many rows gives way to others after each pass.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from .works import Work

logger = logging.getLogger(__name__)
Done = Callable[[Any, BaseException | None], None]


@dataclass(eq=False)
class Job:
    """A work that waits, and what there is of its outputs."""

    work: Work
    done: Done  # called once, in the thread of the models, with the reply or an error
    cancelled: threading.Event = field(default_factory=threading.Event)
    outputs: list[Any] = field(default_factory=list)
    taken: int = 0  # rows that are in a pass or behind it
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        self.lengths = self.work.lengths()


Share = tuple[Job, int]  # rows of a job, from the first that was not taken


class Batcher:
    """The queue of jobs and the thread that works it off.

    Args:
        budget: tokens of a pass; a longer row goes through by itself.
        seen: called after each pass with its rows, tokens and seconds.
        deliver: runs the callbacks of a pass, by default one by one in the thread of the models.
    """

    def __init__(
        self,
        budget: int,
        seen: Callable[[int, int, float], None] | None = None,
        deliver: Callable[[list[Callable[[], None]]], None] | None = None,
    ):
        self.budget = budget
        self.seen = seen
        self.deliver = deliver or call_all
        self.waiting: OrderedDict[Hashable, deque[Job]] = OrderedDict()
        self.changed = threading.Condition()
        self.stopping = False
        self.thread = threading.Thread(target=self.work, name="models", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Work off what waits, and end the thread."""
        with self.changed:
            self.stopping = True
            self.changed.notify()
        if self.thread.is_alive():
            self.thread.join()

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn; it is done at once where it has no rows."""
        if not job.work.rows:
            self.deliver([finished(job)])
            return
        with self.changed:
            self.waiting.setdefault(job.work.way.key, deque()).append(job)
            self.changed.notify()

    def work(self) -> None:
        """Run pass after pass until `stop`."""
        while True:
            with self.changed:
                while not self.waiting and not self.stopping:
                    self.changed.wait()
                shares = self.take()
            if shares:
                self.run(shares)
            elif self.stopping and not self.waiting:
                return

    def take(self) -> list[Share]:
        """The rows of the next pass.

        Of the way whose first job has waited longest; in a first round each job gives no more than
        a fair share, in a second what still fits.
        """
        if not self.waiting:
            return []
        key = min(self.waiting, key=lambda each: self.waiting[each][0].since)
        jobs = self.waiting.pop(key)
        jobs = deque(job for job in jobs if not job.cancelled.is_set())
        if not jobs:
            return []
        room = Room(self.budget, jobs[0].work.way.most_rows)
        fair = max(self.budget // len(jobs), self.budget // 8)
        counts: dict[Job, int] = {}
        for most in (fair, self.budget):
            for job in jobs:
                counts[job] = counts.get(job, 0) + room.fill(job, counts.get(job, 0), most)
                if room.is_full:
                    break
            if room.is_full:
                break
        self.put_back(key, jobs, counts)
        return [(job, count) for job, count in counts.items() if count]

    def put_back(self, key: Hashable, jobs: deque[Job], counts: dict[Job, int]) -> None:
        """Jobs with rows left wait again: those that had a turn behind those that had none."""
        untouched = [job for job in jobs if not counts.get(job)]
        begun = [
            job for job in jobs if counts.get(job) and len(job.lengths) > job.taken + counts[job]
        ]
        now = time.monotonic()
        for job in begun:
            job.since = now
        left = deque([*untouched, *begun])
        if left:
            self.waiting[key] = left

    def run(self, shares: list[Share]) -> None:
        """One pass, and the replies of the jobs that it completes."""
        started = time.monotonic()
        rows: list[Any] = []
        tokens = 0
        for job, count in shares:
            rows += job.work.rows[job.taken : job.taken + count]
            tokens += sum(job.lengths[job.taken : job.taken + count])
            job.taken += count
        try:
            outputs = shares[0][0].work.way.run(rows)
        except BaseException as error:
            self.fail(shares, error)
            return
        replies = []
        place = 0
        for job, count in shares:
            job.outputs += outputs[place : place + count]
            place += count
            if job.taken == len(job.lengths) and not job.cancelled.is_set():
                replies.append(finished(job))
        if self.seen is not None:
            self.seen(len(rows), tokens, time.monotonic() - started)
        self.deliver(replies)

    def fail(self, shares: list[Share], error: BaseException) -> None:
        """Where several jobs were in the pass, each is tried by itself: one may be at fault."""
        logger.error("a pass of %d requests failed", len(shares), exc_info=error)
        if len(shares) == 1:
            job = shares[0][0]
            job.cancelled.set()
            self.deliver([lambda: job.done(None, error)])
            return
        for job, count in shares:
            job.taken -= count
            self.run([(job, count)])


class Room:
    """What a pass still has room for."""

    def __init__(self, tokens: int, rows: int | None):
        self.tokens = tokens
        self.rows = rows
        self.used = 0
        self.is_full = False

    def fill(self, job: Job, skipped: int, most: int) -> int:
        """How many rows of a job, behind `skipped` more, are taken: of `most` tokens, at least one
        row of the first job.
        """
        count, tokens = 0, 0
        for length in job.lengths[job.taken + skipped :]:
            empty = self.used == 0
            over = self.used + length > self.tokens or self.rows == 0
            if over and not empty:
                self.is_full = True
                break
            if count and tokens + length > most:
                break
            self.used += length
            tokens += length
            count += 1
            if self.rows is not None:
                self.rows -= 1
        return count


def finished(job: Job) -> Callable[[], None]:
    """The call that hands out a job's reply, which is made now."""
    try:
        reply = job.work.finish(job.outputs)
    except BaseException as failure:
        error = failure
        return lambda: job.done(None, error)
    return lambda: job.done(reply, None)


def call_all(calls: list[Callable[[], None]]) -> None:
    """Call one after the other."""
    for call in calls:
        call()
