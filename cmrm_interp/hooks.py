"""Hook-point names and patterns: ``blocks.*``, ``blocks.{3,5}``, ``blocks.8-15``, ``blocks.-1``.

Names are TransformerLens's. A pattern is matched component by component against the names that a
model really has, so that a mistake is answered with what exists instead of with nothing.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

from cmrm_interp.errors import HookPointError

_RANGE = re.compile(r"(\d+)-(\d+)")
_LAYER = re.compile(r"^(?P<stack>(?:\w+\.)?blocks)\.(?P<layer>\d+)\.")


def layer_of(name: str) -> int | None:
    """Layer number in a hook-point name.

    Args:
        name: for example ``blocks.3.hook_resid_post`` or ``vision.blocks.0.hook_resid_post``.

    Returns:
        The number, or None for a point outside the blocks (``hook_embed``, ``projector.hook_out``).
    """
    found = _LAYER.match(name)
    return int(found["layer"]) if found else None


def stack_of(name: str) -> str | None:
    """Stack of blocks that a hook point lies in: ``blocks``, ``vision.blocks`` or None."""
    found = _LAYER.match(name)
    return found["stack"] if found else None


def stack_sizes(names: Sequence[str]) -> dict[str, int]:
    """Number of layers of each stack among `names`: ``{"blocks": 32, "vision.blocks": 24}``."""
    sizes: dict[str, int] = {}
    for name in names:
        stack, layer = stack_of(name), layer_of(name)
        if stack is not None and layer is not None:
            sizes[stack] = max(sizes.get(stack, 0), layer + 1)
    return sizes


def pos_axis(name: str) -> int:
    """Axis of token positions in the activation at a hook point: 2 (queries) for attention patterns, else 1."""
    return 2 if name.endswith((".hook_pattern", ".hook_attn_scores")) else 1


def expand(patterns: str | Iterable[str], names: Sequence[str]) -> list[str]:
    """Names that the patterns stand for, in the order of `names` and without repeats.

    Args:
        patterns: one pattern or several; a component may be ``*``, ``{3,5}``, ``8-15`` or a negative layer.
        names: the hook points that exist, in forward order.

    Raises:
        HookPointError: a pattern matches nothing; the message gives the layers or the nearest names.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise HookPointError("no hook points were asked for: give at least one name or pattern")
    chosen: set[str] = set()
    for pattern in patterns:
        found = _matches(pattern, names)
        if not found:
            raise HookPointError(_unknown(pattern, names))
        chosen.update(found)
    return [name for name in names if name in chosen]


def check_layers(layers: int | Iterable[int] | None, n_layers: int) -> tuple[int, ...] | None:
    """Layers as non-negative numbers, negative ones counted from the last layer.

    Raises:
        HookPointError: a layer that the model does not have, or an empty choice.
    """
    if layers is None:
        return None
    chosen = (layers,) if isinstance(layers, int) else tuple(layers)
    if not chosen:
        raise HookPointError("layers is empty: leave it out for every layer, or name at least one")
    for layer in chosen:
        if isinstance(layer, bool) or not isinstance(layer, int) or not -n_layers <= layer < n_layers:
            raise HookPointError(f"no layer {layer!r}: this model has {n_layers} layers (0-{n_layers - 1})")
    return tuple(sorted({layer % n_layers for layer in chosen}))


def _matches(pattern: str, names: Sequence[str]) -> list[str]:
    if pattern in names:
        return [pattern]
    sizes = stack_sizes(names)
    wanted = _components(pattern)
    found = []
    for name in names:
        parts = name.split(".")
        size = sizes.get(stack_of(name) or "", 0)
        if len(parts) == len(wanted) and all(_fits(w, p, size) for w, p in zip(wanted, parts, strict=True)):
            found.append(name)
    return found


def _components(pattern: str) -> list[str]:
    # A dot inside braces would be a mistake anyway, so that plain splitting is enough.
    return pattern.strip().split(".")


def _fits(wanted: str, part: str, size: int) -> bool:
    if wanted in ("*", part):
        return True
    if wanted.startswith("{") and wanted.endswith("}"):
        return any(_fits(choice.strip(), part, size) for choice in wanted[1:-1].split(","))
    if not part.isdigit():
        return False
    if span := _RANGE.fullmatch(wanted):
        # A range that runs past the last layer is a mistake, not a request for fewer layers.
        return int(span[1]) <= int(part) <= int(span[2]) < size
    return bool(re.fullmatch(r"-\d+", wanted)) and int(wanted) + size == int(part)


def _unknown(pattern: str, names: Sequence[str]) -> str:
    asked = f"no hook point {pattern!r}"
    sizes = stack_sizes(names)
    found = re.match(r"^((?:\w+\.)?blocks)\.([^.]+)\.(.+)$", pattern.strip())
    if found and found[1] in sizes and _matches(f"{found[1]}.*.{found[3]}", names):
        n = sizes[found[1]]
        return f"{asked}: this model has {n} {_what(found[1])} (0-{n - 1})"
    near = difflib.get_close_matches(_generic(pattern), sorted({_generic(n) for n in names}), n=3, cutoff=0.3)
    if not near:
        return f"{asked}: print model.hook_points for the {len(names)} that exist"
    return f"{asked}: the nearest are {', '.join(near)} (model.hook_points lists all {len(names)})"


def _what(stack: str) -> str:
    return "layers" if stack == "blocks" else f"{stack.removesuffix('.blocks')} layers"


def _generic(name: str) -> str:
    return re.sub(r"(?<=blocks\.)[^.]+", "*", name)
