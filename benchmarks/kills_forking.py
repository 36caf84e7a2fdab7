"""Children that are forks of this process: started, stopped at a moment, or asked for a result."""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple


class Child(NamedTuple):
    """A fork, and where it writes its result."""

    pid: int
    result: int  # the end of a pipe


def start(work: Callable[[], Any]) -> Child:
    """Do `work` in a fork of this process, silently, in a process group of its own."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        with contextlib.suppress(OSError):  # the child may have done it
            os.setpgid(pid, pid)
        return Child(pid, reading)
    status = 1
    try:
        os.setpgid(0, 0)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os.write(writing, json.dumps(work()).encode())
        status = 0
    except BaseException:
        os.write(writing, json.dumps(traceback.format_exc()[-3000:]).encode())
    finally:
        os._exit(status)


def stop(child: Child, after: float) -> str | None:
    """Kill (-9) a child and its own after so many seconds.

    Returns:
        None; where the child had ended before, what went wrong in it, "" if nothing.
    """
    until = time.perf_counter() + after
    while time.perf_counter() < until:
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            status, found = reaped(child)
            return "" if status == 0 else str(found)
        time.sleep(0.002)
    os.killpg(child.pid, signal.SIGKILL)
    status, found = reaped(child)
    if status == -signal.SIGKILL:
        return None
    return "" if status == 0 else str(found)


def reaped(child: Child) -> tuple[int, Any]:
    """The status and the result of a child that ends."""
    with os.fdopen(child.result, "rb") as pipe:
        content = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
    try:
        return status, json.loads(content)
    except ValueError:
        return status, None


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns, done in a fork.

    Raises:
        RuntimeError: it fails.
    """
    status, found = reaped(start(work))
    if status != 0:
        raise RuntimeError(f"a child ended with status {status}: {found}")
    return found
