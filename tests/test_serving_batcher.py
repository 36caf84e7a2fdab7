"""Passes across requests: nothing lost or mixed up, nobody starved, no pass over its budget."""

import random
import threading
import time

import pytest

from bertlite.serving.batcher import Batcher, Job
from bertlite.serving.works import Pass, Work


class Model:
    """Doubles each id, and remembers the passes."""

    def __init__(self):
        self.passes = []
        self.gate = threading.Event()
        self.gate.set()

    def run(self, rows):
        self.gate.wait(10)
        self.passes.append([len(row["input_ids"]) for row in rows])
        if any("bad" in row for row in rows):
            raise RuntimeError("a bad row")
        return [[2 * each for each in row["input_ids"]] for row in rows]


class Asked:
    """A request of so many rows."""

    def __init__(self, batcher, way, lengths, start=0, **more):
        self.rows = [
            {"input_ids": [start + n] * length, **more} for n, length in enumerate(lengths)
        ]
        self.found = None
        self.done = threading.Event()
        self.work = Work(way, self.rows, lambda outputs: outputs)
        self.job = Job(self.work, self.take)
        batcher.submit(self.job)

    def take(self, reply, error):
        assert not self.done.is_set()
        self.found = reply if error is None else error
        self.done.set()

    def check(self):
        assert self.done.wait(10)
        assert self.found == [[2 * each for each in row["input_ids"]] for row in self.rows]


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def batcher():
    made = Batcher(budget=20)
    yield made
    if made.thread.is_alive():
        made.stop()


def test_nothing_is_lost_or_mixed_up(model, batcher):
    ways = [Pass(name, model.run, most) for name, most in (("a", None), ("b", None), ("c", 3))]
    draw = random.Random(0)
    batcher.start()
    asked = []

    def many(seed):
        own = random.Random(seed)
        for number in range(100):
            lengths = [own.randint(1, 25) for _ in range(own.choice([0, 1, 1, 2, 9]))]
            asked.append(Asked(batcher, own.choice(ways), lengths, seed * 10_000 + number * 50))

    threads = [threading.Thread(target=many, args=(draw.randint(1, 10**6),)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for each in asked:
        each.check()
    assert len(asked) == 400
    assert all(sum(each) <= 20 or len(each) == 1 for each in model.passes)


def test_what_waits_goes_together(model, batcher):
    model.gate.clear()
    way = Pass("a", model.run)
    first = Asked(batcher, way, [5])
    batcher.start()
    while batcher.waiting:
        time.sleep(0.001)
    others = [Asked(batcher, way, [4], start) for start in range(10, 60, 10)]
    model.gate.set()
    for each in (first, *others):
        each.check()
    assert model.passes == [[5], [4, 4, 4, 4, 4]]


def test_a_large_request_gives_way(model, batcher):
    way = Pass("a", model.run)
    large = Asked(batcher, way, [10] * 50)
    small = [Asked(batcher, way, [3], start) for start in (100, 200)]
    batcher.start()
    for each in small:
        each.check()
    assert not large.done.is_set() or model.passes[0].count(3) == 2
    large.check()
    assert model.passes[0].count(3) == 2  # both were in the first pass


def test_rows_of_a_pass_may_be_few(model, batcher):
    way = Pass("a", model.run, most_rows=2)
    asked = [Asked(batcher, way, [1, 1, 1]) for _ in range(3)]
    batcher.start()
    for each in asked:
        each.check()
    assert max(map(len, model.passes)) == 2


def test_a_request_that_fails_takes_none_with_it(model, batcher):
    way = Pass("a", model.run)
    good = [Asked(batcher, way, [2], 1)]
    bad = Asked(batcher, way, [2], 2, bad=[1])
    good.append(Asked(batcher, way, [2], 3))
    batcher.start()
    for each in good:
        each.check()
    assert bad.done.wait(10)
    assert "a bad row" in str(bad.found)


def test_nobody_computes_for_a_client_that_left(model, batcher):
    way = Pass("a", model.run)
    gone, stays = Asked(batcher, way, [7]), Asked(batcher, way, [2])
    gone.job.cancelled.set()
    batcher.start()
    stays.check()
    assert model.passes == [[2]]
    assert not gone.done.is_set()


def test_the_end_comes_after_what_waits(model, batcher):
    asked = [Asked(batcher, Pass(name, model.run), [15, 15]) for name in "abc"]
    batcher.start()
    batcher.stop()
    for each in asked:
        each.check()
    assert not batcher.thread.is_alive()
