"""As many things at a time as the memory takes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_chunks(
    items: Sequence[T], costs: Sequence[int], most: int, run: Callable[[Sequence[T]], Iterable[R]]
) -> Iterator[R]:
    """Results of running items in chunks; when memory runs out, chunks are halved, and it goes on.

    Args:
        items: what to run.
        costs: of each.
        most: what a chunk may cost; an item that costs more is run alone.
        run: runs one chunk, and gives all of its results.
    """
    from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

    done = 0
    while done < len(items):
        n = _how_many(costs[done:], most)
        try:
            results = list(run(items[done : done + n]))
        except RuntimeError as error:
            if n == 1 or not should_reduce_batch_size(error):
                raise
            most = sum(costs[done : done + n]) // 2
            clear_device_cache(garbage_collection=True)
            continue
        done += n
        yield from results


def _how_many(costs: Sequence[int], most: int) -> int:
    n, total = 1, costs[0]
    while n < len(costs) and total + costs[n] <= most:
        total += costs[n]
        n += 1
    return n
