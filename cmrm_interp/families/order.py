"""The order in which a forward pass meets the hook points, observed with bare forward hooks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from cmrm_interp.families.maps import Point


def observed_order(points: Sequence[Point], modules: Mapping[str, nn.Module], call: Callable[[], Any]) -> list[Point]:
    """The points that a call meets, in the order in which it meets them.

    Args:
        points: hook points; those that are seen at the same moment stay in the order given.
        modules: modules of the model by path.
        call: runs the model once.
    """
    entered, left = _record({point.module for point in points}, modules, call)
    moments: dict[str, float] = {}
    for point in points:
        if point.module in left:
            moments[point.name] = entered[point.module] if point.side == "input" else left[point.module]
    # The attention function is called before its output is projected.
    for point in points:
        if point.side == "attention" and point.module in left:
            moments[point.name] = _attention(point, points, entered, left)
    return sorted((p for p in points if p.name in moments), key=lambda p: moments[p.name])


def prefill_order(
    points: Sequence[Point], modules: Mapping[str, nn.Module], call: Callable[[], Any], until: str
) -> list[str]:
    """Names of the points that a call meets before it enters a module, where it is left.

    Args:
        points: hook points.
        modules: modules of the model by path.
        call: runs the model.
        until: path of the module, the first decoder block.
    """

    class _Reached(Exception):
        pass

    def _leave(*_: Any) -> None:
        raise _Reached

    def _call() -> None:
        try:
            call()
        except _Reached:
            return

    handle = modules[until].register_forward_pre_hook(_leave)
    try:
        return [point.name for point in observed_order(points, modules, _call)]
    finally:
        handle.remove()


def _attention(point: Point, points: Sequence[Point], entered: Mapping[str, int], left: Mapping[str, int]) -> float:
    stem = point.name.rpartition(".")[0]
    z = next((p.module for p in points if p.name == f"{stem}.hook_z"), None)
    return left[point.module] - 0.5 if z is None else entered[z] - 0.5


def _record(
    paths: set[str], modules: Mapping[str, nn.Module], call: Callable[[], Any]
) -> tuple[dict[str, int], dict[str, int]]:
    entered: dict[str, int] = {}
    left: dict[str, int] = {}
    clock = iter(range(10**9))
    handles = []
    for path in paths:
        # A module that is called again (a norm of tower and pooled output) is seen the first time.
        handles += [
            modules[path].register_forward_pre_hook(lambda *_, path=path: _note(entered, path, clock)),
            modules[path].register_forward_hook(lambda *_, path=path: _note(left, path, clock)),
        ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return entered, left


def _note(table: dict[str, int], path: str, clock: Any) -> None:
    table.setdefault(path, next(clock))
