"""Clients for the load test of `bertlite serve`: closed loop, open loop, every reply checked.

Raw HTTP/1.1 over kept connections, so that the clients take little of the machine that they share
with the server.
"""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Outcome:
    """What the clients saw.

    Attributes:
        seconds: of each request that was answered; in an open loop from when it was due.
        wrong: replies that were not those of their texts.
        failed: statuses, or errors of connections, by how often they came.
        wall: seconds of it all.
        cpu_seconds: of processor that the server used; 0 where nobody looked.
    """

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    wall: float = 0.0
    cpu_seconds: float = 0.0

    def fail(self, kind: str) -> None:
        """Count a failure."""
        self.failed[kind] = self.failed.get(kind, 0) + 1

    def add(self, other: "Outcome") -> None:
        """Count in what others saw, one after the other."""
        self.seconds += other.seconds
        self.wrong += other.wrong
        self.wall += other.wall
        self.cpu_seconds += other.cpu_seconds
        for kind, count in other.failed.items():
            self.failed[kind] = self.failed.get(kind, 0) + count

    def figures(self) -> dict:
        """Requests a second, and times in milliseconds."""
        times = np.array(self.seconds or [float("nan")]) * 1000
        used = {"per_cpu_second": len(self.seconds) / self.cpu_seconds} if self.cpu_seconds else {}
        return {
            "requests": len(self.seconds),
            "per_second": len(self.seconds) / self.wall,
            **used,
            "p50_ms": float(np.percentile(times, 50)),
            "p99_ms": float(np.percentile(times, 99)),
            "wrong": self.wrong,
            "failed": self.failed,
        }


@dataclass
class Target:
    """What is asked, and what must come.

    Attributes:
        port: of the server on this machine.
        bodies: a request each.
        right: whether a reply's JSON is that of request number n.
    """

    port: int
    path: str
    bodies: list[bytes]
    right: object

    def message(self, number: int) -> bytes:
        """The request as it goes over the wire."""
        body = self.bodies[number]
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class Connection:
    """One kept connection."""

    def __init__(self, port: int):
        self.port = port
        self.reader = self.writer = None

    async def ask(self, message: bytes) -> tuple[int, bytes]:
        """Status and body; connects where it has to."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(message)
        head = await self.reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        if b"connection: close" in lower:
            self.close()
        return int(head.split(b" ", 2)[1]), body

    def close(self) -> None:
        """Let go of it."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def one(connection: Connection, target: Target, number: int, due: float, out: Outcome):
    """A request, its reply checked and its time taken."""
    try:
        status, body = await connection.ask(target.message(number))
    except (OSError, asyncio.IncompleteReadError, IndexError) as error:
        connection.close()
        out.fail(type(error).__name__)
        return
    if status != 200:
        out.fail(str(status))
        return
    out.seconds.append(time.perf_counter() - due)
    if not target.right(number, json.loads(body)):
        out.wrong += 1


async def closed_loop(
    target: Target, clients: int, *, seconds: float | None = None, requests: int | None = None
) -> Outcome:
    """Each client asks again as soon as it has its reply, for so long or so often."""
    out = Outcome()
    started = time.perf_counter()
    left = iter(range(requests)) if requests is not None else None

    async def client(seed: int) -> None:
        draw = random.Random(seed)
        connection = Connection(target.port)
        while (
            next(left, None) is not None
            if left is not None
            else time.perf_counter() - started < seconds
        ):
            number = draw.randrange(len(target.bodies))
            await one(connection, target, number, time.perf_counter(), out)
        connection.close()

    await asyncio.gather(*(client(seed) for seed in range(clients)))
    out.wall = time.perf_counter() - started
    return out


async def open_loop(target: Target, rate: float, seconds: float, clients: int) -> Outcome:
    """Requests come at random times, `rate` a second, whether or not others have their replies.

    At most `clients` are on their way at once; who finds none free waits, and that time counts.
    """
    out = Outcome()
    draw = random.Random(1)
    free: asyncio.Queue = asyncio.Queue()
    for _ in range(clients):
        free.put_nowait(Connection(target.port))
    started = due = time.perf_counter()
    tasks = []

    async def ask(number: int, due: float) -> None:
        connection = await free.get()
        await one(connection, target, number, due, out)
        free.put_nowait(connection)

    while (due := due + draw.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        tasks.append(asyncio.create_task(ask(draw.randrange(len(target.bodies)), due)))
    await asyncio.gather(*tasks)
    out.wall = time.perf_counter() - started
    while not free.empty():
        free.get_nowait().close()
    return out
