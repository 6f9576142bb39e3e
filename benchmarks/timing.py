"""Times and peak memory of some calls: warmed up, in turn, forwards and backwards, medians."""

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm


@dataclass(frozen=True)
class Task:
    """One call to be timed.

    Attributes:
        name: row of the table.
        call: does it; what it returns the first time is kept.
        baseline: names of the rows whose times add up to what its own is compared with.
        tokens: how many tokens one call puts through or makes.
    """

    name: str
    call: Callable[[], Any]
    baseline: tuple[str, ...] = ()
    tokens: int | None = None


@dataclass
class Timing:
    """What was measured of a task.

    Attributes:
        first: seconds of the first call.
        seconds: of each call after the warm-up.
        cpu_seconds: of the processor in the same calls, which other work on the machine does not lengthen.
        peak: most bytes in use during any call.
        result: of the first call.
    """

    first: float = 0.0
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak: int = 0
    result: Any = None

    @property
    def median(self) -> float:
        """Median of the seconds; the first call's where there was no other."""
        return statistics.median(self.seconds) if self.seconds else self.first

    @property
    def cpu(self) -> float | None:
        """Median of the processor's seconds."""
        return statistics.median(self.cpu_seconds) if self.cpu_seconds else None

    @property
    def best(self) -> float:
        """Least of the seconds."""
        return min(self.seconds, default=self.first)


def measure(tasks: Sequence[Task], warmup: int, repeats: int, device: torch.device) -> dict[str, Timing]:
    """Times of all tasks by name.

    Every round runs every task once, and every other round runs them backwards, so that a machine that
    slows down or warms up does so for all of them.

    Args:
        tasks: what to time.
        warmup: rounds that are not counted (the first call is reported on its own, too).
        repeats: rounds that are.
        device: on which they run; it is waited for before the clock is read.
    """
    timings = {task.name: Timing() for task in tasks}
    rounds = warmup + repeats
    with tqdm(total=rounds * len(tasks), unit="call", delay=2, leave=False, disable=None) as bar:
        for number in range(rounds):
            for task in tasks if number % 2 == 0 else reversed(tasks):
                bar.set_description(task.name, refresh=False)
                cpu = time.process_time()
                seconds, peak, result = timed(task.call, device)
                cpu = time.process_time() - cpu
                timing = timings[task.name]
                timing.peak = max(timing.peak, peak)
                if number == 0:
                    timing.first, timing.result = seconds, result
                if number >= warmup:
                    timing.seconds.append(seconds)
                    timing.cpu_seconds.append(cpu)
                bar.update()
    return timings


def timed(call: Callable[[], Any], device: torch.device) -> tuple[float, int, Any]:
    """Seconds, peak bytes and result of one call."""
    _reset_peak(device)
    _wait(device)
    start = time.perf_counter()
    result = call()
    _wait(device)
    return time.perf_counter() - start, peak_memory(device), result


def peak_memory(device: torch.device) -> int:
    """Most bytes in use since the last reset: of the device, or of this process (since its start, where it
    cannot be reset).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        # Without it the peak is that of the whole run so far, as ru_maxrss tells it.
        return


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
