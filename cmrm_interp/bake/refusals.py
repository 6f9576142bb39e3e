"""What an architecture cannot hold, why, and what it could."""

import re
from collections.abc import Callable, Sequence

from cmrm_interp.bake.plan import Plan
from cmrm_interp.bake.writers import Place, Writer
from cmrm_interp.errors import ModelError

Holds = Callable[[Writer], bool]
_NO_BIAS = "its projection has no bias, and no entry of the configuration gives it one"


def need_held(plan: Plan, places: Sequence[Place], holds: Holds, name: str) -> None:
    """Refuse a plan that the architecture cannot hold.

    Args:
        plan: what each writer has to hold.
        places: all that writes to the stream.
        holds: whether a writer has, or can be given, a parameter for a constant.
        name: of the model's class.

    Raises:
        ModelError: with all reasons, and what could be held.
    """
    reasons: dict[str, list[str]] = {}
    for writer, ops in plan.ops.items():
        if ops and plan.is_linear(writer) and writer.no_linear:
            reasons.setdefault(writer.no_linear, []).append(writer.what)
        elif plan.has_constant(writer) and not holds(writer):
            reasons.setdefault(writer.no_constant or _NO_BIAS, []).append(writer.what)
    if reasons:
        lines = "; ".join(f"{_some(whats)}: {reason}" for reason, whats in reasons.items())
        raise ModelError(f"{name} cannot hold this in its weights ({lines}). {_possible(places, holds)}")


def _some(whats: Sequence[str]) -> str:
    return whats[0] if len(whats) == 1 else f"{whats[0]} (and {len(whats) - 1} more)"


def _possible(places: Sequence[Place], holds: Holds) -> str:
    found = []
    points = _constant_points(places, holds)
    if points:
        found.append(f"additions at {', '.join(points)}")
    if not any(writer.no_linear for place in places for writer in place.writers):
        found.append("ProjectOut of the whole stream (ci.whole_stream)")
    can = f"It can hold {', and '.join(found)}" if found else "It can hold neither additions nor the whole ablation"
    return f"{can}; or run it live"


def _constant_points(places: Sequence[Place], holds: Holds) -> list[str]:
    """Hook points at which a constant can be held; one with a star where it can at all layers."""
    able: dict[str, bool] = {}
    for place in places:
        own = place.seen[0][1]
        at_stream = all(map(holds, own)) if place.split else any(map(holds, own))
        able[place.seen[0][0]] = at_stream
        able |= {point: holds(writer) for writer in own for point in writer.points}
    kinds: dict[str, list[str]] = {}
    for point, is_able in able.items():
        kinds.setdefault(re.sub(r"\.\d+\.", ".*.", point), []).append(point if is_able else "")
    return [
        point
        for kind, found in kinds.items()
        for point in ([kind] if "*" in kind and len(found) > 1 and all(found) else [p for p in found if p])
    ]
