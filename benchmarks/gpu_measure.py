"""Times, launches, waits and memory of work on a device: competitors in turn, in one process."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from gpu_models import Setting

LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernelEx")
GRAPHS = ("cudaGraphLaunch",)
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
WARM_UPS = 3


def timed(setting: Setting, work: Callable[[], Any]) -> float:
    """Seconds until the device has done `work`."""
    setting.wait()
    start = time.perf_counter()
    work()
    setting.wait()
    return time.perf_counter() - start


def race(setting: Setting, competitors: dict[str, Callable[[], Any]]) -> dict[str, dict]:
    """Time competitors in turn for some rounds; the order turns from round to round.

    Returns:
        For each the median of seconds, its quartiles, and the median of its speed as a multiple of
        the first one's in the same rounds; or why it failed.
    """
    rows: dict[str, dict] = {}
    for name, work in competitors.items():
        try:
            for _ in range(1 if setting.quick else WARM_UPS):
                work()
            setting.wait()
            rows[name] = {"times": []}
        except Exception as error:  # one competitor that cannot run leaves the others in the race
            rows[name] = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
    running = [name for name, row in rows.items() if "times" in row]
    for number in range(setting.rounds):
        turn = number % max(len(running), 1)
        for name in running[turn:] + running[:turn]:
            rows[name]["times"].append(timed(setting, competitors[name]))
    first = rows[next(iter(competitors))].get("times")
    for name in running:
        times = rows[name].pop("times")
        rows[name] |= spread(times)
        if first is not None:
            ratios = [theirs / mine for theirs, mine in zip(first, times, strict=True)]
            rows[name]["ratio"] = statistics.median(ratios)
        first = times if first is None else first
    return rows


def spread(times: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    ordered = sorted(times)
    return {
        "seconds": statistics.median(ordered),
        "low": ordered[len(ordered) // 4],
        "high": ordered[-1 - len(ordered) // 4],
    }


def profiled(setting: Setting, work: Callable[[], Any]) -> dict[str, Any]:
    """Launches, waits and the device's own milliseconds of `work`; on a CPU: not run."""
    if not setting.is_gpu:
        return {"launches": None, "waits": None, "device_ms": None}
    from torch.profiler import ProfilerActivity, profile

    work()
    setting.wait()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        work()
    events = recorded.key_averages()

    def count(names: tuple[str, ...]) -> int:
        return sum(event.count for event in events if event.key in names)

    device = sum(getattr(event, "self_device_time_total", 0) for event in events) / 1000
    copies = sum(event.count for event in events if event.key.startswith("Memcpy DtoH"))
    return {
        "launches": count(LAUNCHES) + count(GRAPHS),
        "waits": max(count(WAITS), copies),
        "device_ms": round(device, 2),
    }


def peak_memory(setting: Setting, work: Callable[[], Any]) -> int | None:
    """Bytes that the device had to hold at a time during `work`; on a CPU: not run."""
    if not setting.is_gpu:
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    setting.wait()
    return torch.cuda.max_memory_allocated()


def product_rate(setting: Setting, dtype: torch.dtype) -> float:
    """Operations a second of one large matrix product of random numbers: what the card can do."""
    side = 256 if setting.quick else 8192
    left = torch.randn(side, side, device=setting.device, dtype=dtype)
    right = torch.randn(side, side, device=setting.device, dtype=dtype)
    times = [timed(setting, lambda: left @ right) for _ in range(10)]
    return 2 * side**3 / statistics.median(times[3:])


def encoder_operations(size: dict[str, int], tokens: int) -> float:
    """Operations of the linear layers of an encoder's forward on so many tokens."""
    hidden, inner = size["hidden_size"], size["intermediate_size"]
    return 2.0 * tokens * size["num_hidden_layers"] * (4 * hidden * hidden + 2 * hidden * inner)
