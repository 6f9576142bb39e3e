"""Hook-point names and patterns: ``blocks.*``, ``blocks.{3,5}``, ``blocks.8-15``, ``blocks.-1``.

Names are TransformerLens's, its aliases included (`cmrm_interp.aliases`). A pattern is matched component
by component against the names that a model really has, so that a mistake is answered with what exists
instead of with nothing.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from typing import SupportsIndex, overload

from cmrm_interp.aliases import aliases, refusal
from cmrm_interp.errors import HookPointError

_RANGE = re.compile(r"(\d+)-(\d+)")
_STACK = re.compile(r"^((?:\w+\.)?(?:blocks|encoder_layers))\.([^.]+)\.(.+)$")
_LAYER = re.compile(r"^(?P<stack>(?:\w+\.)?blocks)\.(?P<layer>\d+)\.")


@lru_cache(1 << 16)
def layer_of(name: str) -> int | None:
    """Layer number in a hook-point name.

    Args:
        name: for example ``blocks.3.hook_resid_post`` or ``vision.blocks.0.hook_resid_post``.

    Returns:
        The number, or None for a point outside the blocks (``hook_embed``, ``projector.hook_out``).
    """
    found = _LAYER.match(name)
    return int(found["layer"]) if found else None


@lru_cache(1 << 16)
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


def by_kind(names: Iterable[str]) -> dict[str, list[int]]:
    """Kinds of hook points with the layers of each: ``{"blocks.*.hook_resid_post": [0, 1, 2], "hook_embed": []}``."""
    kinds: dict[str, list[int]] = {}
    for name in names:
        layer = layer_of(name)
        kinds.setdefault(_generic(name), []).extend([] if layer is None else [layer])
    return kinds


class HookPoints(list[str]):
    """Names of hook points: a list that also takes a pattern, and tells Jupyter what TAB can complete.

    ``points[3]`` and ``points[:3]`` are a list's; ``points["blocks.*.hook_resid_post"]`` are the names that fit.
    """

    @overload
    def __getitem__(self, key: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, key: slice | str) -> list[str]: ...
    def __getitem__(self, key: SupportsIndex | slice | str) -> str | list[str]:
        """A name by its number, or the names of a slice or pattern.

        Raises:
            HookPointError: a pattern that fits nothing.
        """
        return expand(key, self) if isinstance(key, str) else super().__getitem__(key)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)


def pos_axis(name: str) -> int:
    """Axis of token positions in the activation at a hook point: 2 (queries) for attention patterns, else 1."""
    return 2 if name.endswith((".hook_pattern", ".hook_attn_scores")) else 1


def expand(patterns: str | Iterable[str], names: Sequence[str], whole: bool = True) -> list[str]:
    """Names that the patterns stand for, in the order of `names` and without repeats.

    Args:
        patterns: one pattern or several; a component may be ``*``, ``{3,5}``, ``8-15`` or a negative layer.
            TransformerLens's other names are taken too, with patterns for their layers.
        names: the hook points that exist, in forward order.
        whole: whether `names` are all hook points of a model. If not, TransformerLens's names that mean one
            thing in some models and another in others are refused.

    Raises:
        HookPointError: a pattern matches nothing; the message gives the layers or the nearest names.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise HookPointError("no hook points were asked for: give at least one name or pattern")
    chosen, existing = set[str](), tuple(names)
    for pattern in patterns:
        found = matches(pattern, existing, whole)
        if not found:
            raise HookPointError(_unknown(pattern, existing, whole))
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


# One model is asked the same again and again, and names and their aliases are many.
@lru_cache(1024)
def matches(pattern: str, names: tuple[str, ...], whole: bool = True) -> tuple[str, ...]:
    """Names that one pattern stands for, none where `expand` raises."""
    if pattern in names:
        return (pattern,)
    sizes = stack_sizes(names)
    # A dot inside braces would be a mistake anyway, so that plain splitting is enough.
    wanted = pattern.strip().split(".")

    def fits(name: str, ours: str, is_alias: bool) -> bool:
        parts, size = name.split("."), sizes.get(stack_of(ours) or "", 0)
        return len(parts) == len(wanted) and all(map(_fits, wanted, parts, repeat(size), repeat(is_alias)))

    others = (ours for alias, ours in aliases(names, whole).items() if fits(alias, ours, True))
    return (*(name for name in names if fits(name, name, False)), *others)


def _fits(wanted: str, part: str, size: int, is_alias: bool) -> bool:
    if wanted == part:
        return True
    if wanted == "*":
        # A star stands for what exists, and not for the other names of it.
        return part.isdigit() or not is_alias
    if wanted.startswith("{") and wanted.endswith("}"):
        return any(_fits(choice.strip(), part, size, is_alias) for choice in wanted[1:-1].split(","))
    if not part.isdigit():
        return False
    if span := _RANGE.fullmatch(wanted):
        # A range that runs past the last layer is a mistake, not a request for fewer layers.
        return int(span[1]) <= int(part) <= int(span[2]) < size
    return bool(re.fullmatch(r"-\d+", wanted)) and int(wanted) + size == int(part)


def _unknown(pattern: str, names: tuple[str, ...], whole: bool) -> str:
    asked = f"no hook point {pattern!r}"
    found = _STACK.match(pattern.strip())
    if found and (others := matches(f"{found[1]}.*.{found[3]}", names, whole)):
        stack = stack_of(others[0]) or ""
        n = stack_sizes(names)[stack]
        return f"{asked}: this model has {n} {_what(stack)} (0-{n - 1})"
    if not whole and (others := matches(pattern, names, True)):
        return f"{asked}: whether it is {others[0]!r} depends on the model; ask for the one that you mean"
    if why := refusal(pattern.strip()):
        return f"{asked}: {why}"
    near = difflib.get_close_matches(_generic(pattern), sorted({_generic(n) for n in names}), n=3, cutoff=0.3)
    if not near:
        return f"{asked}: print model.hook_points for the {len(names)} that exist"
    return f"{asked}: the nearest are {', '.join(near)} (model.hook_points lists all {len(names)})"


def _what(stack: str) -> str:
    return "layers" if stack == "blocks" else f"{stack.removesuffix('.blocks')} layers"


def _generic(name: str) -> str:
    return re.sub(r"(?<=blocks\.)[^.]+", "*", name)
