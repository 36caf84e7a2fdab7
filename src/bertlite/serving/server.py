"""The process: models loaded, a socket opened, requests answered until a signal says stop."""

import asyncio
import contextlib
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
import uvicorn

from ..inference.loading import check_counts
from .access import Access, read_keys
from .app import make_app
from .catalog import Catalog, open_model, warm
from .engine import Engine
from .options import ServingOptions

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SWITCH = 0.0005  # seconds after which a thread gives way: the models' thread needs its turn often
# Seconds that an idle connection stays. Clients drop theirs after 5 (httpx, and so openai's), which
# is uvicorn's own time too: some would send a request just as it closes.
KEEP_ALIVE = 30
SPARE_CONNECTIONS = 256  # beyond the requests that may be under way


@dataclass(frozen=True)
class Place:
    """Where a server listens.

    Attributes:
        host: name or address.
        port: 0: any that is free.
        api_key_file: with the keys, one a line; None: nobody is asked for one.
        threads: of the models; None: as many as torch chooses.

    Raises:
        ValueError: no such number of threads.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key_file: str | None = None
    threads: int | None = None

    def __post_init__(self):
        check_counts(1, threads=self.threads)

    def address(self, port: int) -> str:
        """Where a browser finds the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host  # of IPv6
        return f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server, which ends with status 0 when it was asked to end."""

    def __init__(self, config: uvicorn.Config, engine: Engine):
        super().__init__(config)
        self.engine = engine
        self.when_ready: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As in uvicorn; then say that requests are taken."""
        await super().startup(sockets)
        if self.started:
            self.when_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As in uvicorn, but the signal is not raised anew at the end."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take no more requests, and end when the last has its reply."""
        self.engine.stopping = True
        super().handle_exit(sig, frame)


def serve(
    folders: dict[str, str], options: ServingOptions, place: Place, say: Callable[[str], Any]
):
    """Serve models until SIGTERM or SIGINT.

    Args:
        folders: of the models, by their names.
        options: the limits.
        place: where to listen.
        say: takes lines for the user.

    Raises:
        ValueError: a folder that cannot be served, an address that cannot be had.
    """
    started = time.monotonic()
    access = Access(read_keys(place.api_key_file) if place.api_key_file else None)
    with open_socket(place) as listening:
        if place.threads is not None:
            torch.set_num_threads(place.threads)
        engine = make_engine(folders, options)
        server = make_server(engine, access, options)
        sys.setswitchinterval(SWITCH)
        port = listening.getsockname()[1]
        for each in engine.catalog.models.values():
            say(f"{each.name}: {', '.join(each.tasks)}")
        if place.host not in LOOPBACK and not access.keys:
            say("no --api-key-file is given: whoever reaches this address can use it")
        server.when_ready = lambda: say(
            f"ready on {place.address(port)} after {time.monotonic() - started:.1f} s; "
            "Ctrl-C stops it"
        )
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listening]))


def make_engine(folders: dict[str, str], options: ServingOptions) -> Engine:
    """The models, loaded and warm; errors as of `open_model`."""
    models = [open_model(name, folder, options) for name, folder in folders.items()]
    for each in models:
        warm(each)
    return Engine(Catalog(models), options)


def make_server(engine: Engine, access: Access, options: ServingOptions) -> Server:
    """Uvicorn with our application."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        make_app(engine, access),
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(options.timeout) + 1,
        limit_concurrency=options.queue + SPARE_CONNECTIONS,
        server_header=False,
    )
    return Server(config, engine)


def open_socket(place: Place) -> socket.socket:
    """A socket that listens.

    Raises:
        ValueError: the address is taken, or none of this machine.
    """
    try:
        family = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0][0]
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((place.host, place.port))
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"--host and --port must be an address that is free here, got {place.host}:"
            f"{place.port}: {error}"
        ) from error
    return opened
