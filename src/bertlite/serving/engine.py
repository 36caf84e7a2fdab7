"""From a request to its reply: admitted, cut into rows by one thread, computed by another."""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .batcher import Batcher, Job, call_all
from .catalog import Catalog, ServedModel
from .errors import Refused, of_value
from .metrics import Metrics
from .options import ServingOptions
from .preparing import Prepare
from .works import Work

logger = logging.getLogger(__name__)
REMEMBERED = 200  # replies, by whose pace waiting times are told


class Engine:
    """The models at work.

    Args:
        catalog: the models.
        options: the limits.
    """

    def __init__(self, catalog: Catalog, options: ServingOptions):
        self.catalog = catalog
        self.options = options
        self.under_way = 0
        self.bytes_under_way = 0
        self.replied: deque[float] = deque(maxlen=REMEMBERED)
        self.stopping = False
        self.metrics = Metrics(lambda: self.under_way)
        self.preparing = ThreadPoolExecutor(1, "preparing")
        self.batcher = Batcher(options.batch_tokens, self.metrics.seen_pass, self.deliver)
        self.loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the thread of the models; called in the event loop."""
        self.loop = asyncio.get_running_loop()
        self.batcher.start()

    def stop(self) -> None:
        """Finish what is under way, and end the threads."""
        self.stopping = True
        self.preparing.shutdown(wait=True)
        self.batcher.stop()

    @property
    def is_alive(self) -> bool:
        """Whether the thread of the models runs."""
        return self.batcher.thread.is_alive()

    def admit(self, size: int) -> None:
        """Count a request, whose body has `size` bytes, as under way.

        Raises:
            Refused: too much is; the reply says when to come again.
        """
        full = self.under_way >= self.options.queue
        if full or self.bytes_under_way + size > self.options.queue_bytes:
            raise Refused(
                429,
                f"the server has {self.under_way} requests under way and takes no more now; "
                "try again later",
                headers={"Retry-After": str(self.seconds_until_free())},
            )
        self.under_way += 1
        self.bytes_under_way += size

    def leave(self, size: int) -> None:
        """The end of what `admit` counted."""
        self.under_way -= 1
        self.bytes_under_way -= size
        self.replied.append(time.monotonic())

    def seconds_until_free(self) -> int:
        """When half of what waits will have been answered, at the pace of the last replies."""
        if len(self.replied) < 2:
            return 1
        pace = (len(self.replied) - 1) / max(time.monotonic() - self.replied[0], 0.001)
        return min(max(math.ceil(self.under_way / 2 / pace), 1), 60)

    async def answer(
        self,
        prepare: Prepare,
        served: ServedModel,
        asked: Any,
        gone: Awaitable[Any],
        until: float,
    ) -> tuple[Any, Work]:
        """The reply to a request, and its work.

        Args:
            prepare: cuts the request into rows.
            served: the model.
            asked: the request.
            gone: ends when the client has left.
            until: when the reply must be there, by the clock of the loop.

        Raises:
            Refused: what the model does not take, or no reply in time.
        """
        assert self.loop is not None
        future: asyncio.Future = self.loop.create_future()
        cancelled = threading.Event()
        left = asyncio.ensure_future(gone)
        try:
            self.preparing.submit(self.prepare, prepare, served, asked, future, cancelled)
            await asyncio.wait(
                {future, left},
                timeout=max(until - self.loop.time(), 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if future.done():
                return future.result()
            if left.done():
                raise Refused(499, "the client has left")
            raise Refused(504, f"no reply within {self.options.timeout:g} seconds")
        finally:
            cancelled.set()
            left.cancel()
            future.cancel()

    def prepare(
        self,
        prepare: Prepare,
        served: ServedModel,
        asked: Any,
        future: asyncio.Future,
        cancelled: threading.Event,
    ) -> None:
        """Cut a request into rows and let them wait; in the thread that prepares."""
        if cancelled.is_set():
            return
        try:
            work = prepare(served, asked)
            self.check_size(work)
        except BaseException as failure:
            error = told(failure, list(type(asked).model_fields))
            self.deliver([lambda: settle(future, None, error)])
            return

        def done(reply: Any, error: BaseException | None) -> None:
            settle(future, (reply, work), None if error is None else told(error, []))

        self.batcher.submit(Job(work, done, cancelled))

    def check_size(self, work: Work) -> None:
        """Refuse what has more tokens than allowed."""
        tokens = sum(work.lengths())
        if tokens > self.options.max_tokens:
            raise Refused(
                413,
                f"a request must have at most {self.options.max_tokens} tokens, got {tokens}; "
                "send its texts in several",
            )

    def deliver(self, calls: list[Callable[[], None]]) -> None:
        """Run callbacks in the event loop."""
        if not calls or self.loop is None:
            return
        try:
            self.loop.call_soon_threadsafe(call_all, calls)
        except RuntimeError:  # the loop has ended: nobody waits any more
            logger.warning("%d replies came after the end", len(calls))


def told(error: BaseException, fields: list[str]) -> BaseException:
    """An error as the client gets it: what is wrong with a request, or that it is not its fault."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, ValueError) and fields:
        return of_value(error, fields)
    logger.error("a request failed", exc_info=error)
    return Refused(500, f"the server failed on this request: {type(error).__name__}")


def settle(future: asyncio.Future, reply: Any, error: BaseException | None) -> None:
    """Give a future its result, unless nobody waits for it any more."""
    if future.done():
        return
    if error is None:
        future.set_result(reply)
    else:
        future.set_exception(error)
