"""The map of one decoder block: parts by their names, what follows what by a recorded pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from cmrm_interp.axes import Tensor
from cmrm_interp.errors import ModelError
from cmrm_interp.families.derive import names
from cmrm_interp.families.derive.attention import Heads, attention_map
from cmrm_interp.families.derive.record import Call, Record, alike
from cmrm_interp.families.maps import BlockMap, Gate
from cmrm_interp.families.views import Frame, Router


class Underivable(Exception):
    """A part of a model that no convention finds; the text names it."""


@dataclass(frozen=True)
class Seen:
    """One block and what a recorded pass has seen of it.

    Attributes:
        block: the module.
        path: its path in the model.
        record: the pass.
    """

    block: nn.Module
    path: str
    record: Record

    def call(self, name: str | None) -> Call:
        """Of one of its modules (or of the block itself, for ``""``); a call of nothing where there was none."""
        path = f"{self.path}.{name}" if name else self.path
        return self.record.calls.get(path, Call(-1, None, None)) if name is not None else Call(-1, None, None)

    @property
    def children(self) -> dict[str, nn.Module]:
        """Its modules that were called, and do more than forget."""
        return {
            name: module
            for name, module in self.block.named_children()
            if f"{self.path}.{name}" in self.record.calls and not isinstance(module, names.NOTHING)
        }


def watched(block: nn.Module, path: str) -> Iterator[str]:
    """Modules of a block whose calls `block_map` needs."""
    yield path
    for name, module in block.named_children():
        yield f"{path}.{name}"
        known = names.is_attention(name, module) or names.is_mlp(name, module)
        parts = [part for part, _ in module.named_children() if part in names.PARTS] if known else []
        yield from (f"{path}.{name}.{part}" for part in parts)


def block_map(block: nn.Module, path: str, record: Record, heads: Heads) -> BlockMap:
    """Map of a block.

    Args:
        block: the block.
        path: its path in the model.
        record: a pass in which it and its children were watched.
        heads: numbers of query heads and of key and value heads that the configuration tells.

    Raises:
        Underivable: no attention or MLP is found, or the block was not reached.
    """
    seen = Seen(block, path, record)
    if path not in record.calls:
        raise Underivable(f"{path} is not reached by a prompt without an image (BlockMap(cross=True, ...))")
    again = [f"{name} {seen.call(name).times} times" for name in seen.children if seen.call(name).times > 1]
    if again or seen.call("").times > 1:
        raise Underivable(f"one place for each part of {path}, which calls {', '.join(again) or 'itself'} in one pass")
    attn, mlp = _parts(seen)
    start = attention_map(block, attn, f"{path}.{attn}", record, heads)
    return _added(_norms(_mlp(start, seen, mlp), seen), seen)


def _parts(seen: Seen) -> tuple[str, str | None]:
    children = seen.children
    mlp = next((name for name, module in children.items() if names.is_mlp(name, module)), None)
    attn = next((name for name, module in children.items() if names.is_attention(name, module)), None)
    # Some blocks mix positions by a convolution or a scan in attention's place.
    others = [name for name, module in children.items() if name != mlp and not names.is_norm(name, module)]
    if attn is None and (mlp is None or len(others) != 1):
        raise Underivable(f"the attention of {seen.path}: its parts are {', '.join(children)} (BlockMap(attn=...))")
    return attn or others[0], mlp


def _mlp(kind: BlockMap, seen: Seen, mlp: str | None) -> BlockMap:
    block = seen.block
    if mlp is None:
        down = names.child(block, names.DOWN)
        if down is None:
            raise Underivable(f"the MLP of {seen.path} (BlockMap(mlp=...))")
        return replace(kind, mlp=down, gate=names.child(block, names.PLAIN), up=None, down=down)
    module = block.get_submodule(mlp)

    def _part(kinds: Sequence[str]) -> str | None:
        found = names.child(module, kinds)
        # What the MLP has and does not call is of no use (experts that read its weights).
        return f"{mlp}.{found}" if found is not None and seen.call(f"{mlp}.{found}").times == 1 else None

    gate, up, both = (_part(kinds) for kinds in (names.GATE, names.UP, names.GATE_UP))
    if gate is None:
        gate, up = _part(names.PLAIN), None
    down = _part(names.DOWN)
    if names.child(module, ("experts",)) is not None:
        return replace(kind, mlp=mlp, gate=None, up=None, down=None, router=_router(seen, module, mlp))
    if down is None:
        gate = up = both = None
    return replace(kind, mlp=mlp, gate=None if both else gate, up=None if both else up, gate_up=both, down=down)


def _router(seen: Seen, module: nn.Module, mlp: str) -> str | None:
    found = names.child(module, names.ROUTER)
    path = f"{mlp}.{found}"
    raw = seen.call(path).whole
    # Only what is called so is known to return logits, scores and experts, and only a softmax can be written.
    known = found is not None and type(module.get_submodule(found)).__name__.endswith("TopKRouter")
    if not known or len(raw) < 3:
        return None
    try:
        Router().write(raw, raw[0], raw[0], Frame({}, {}))
    except ModelError:
        return None
    return path


def _norms(kind: BlockMap, seen: Seen) -> BlockMap:
    attn, mlp = seen.call(kind.attn), seen.call(kind.mlp)
    if kind.mlp == kind.down and kind.gate:
        # Its MLP is two of the block's own modules.
        mlp = replace(mlp, given=seen.call(kind.gate).given)
    found = [name for name, module in seen.children.items() if names.is_norm(name, module)]
    roles: dict[str, str | None] = {"ln1": None, "ln2": None, "post_attn": None, "post_mlp": None}
    for name in sorted(found, key=lambda name: seen.call(name).order):
        call = seen.call(name)
        if alike(call.returned, attn.given):
            roles["ln1"] = name
        elif alike(call.returned, mlp.given):
            roles["ln2"] = name
        elif alike(call.given, attn.returned):
            roles["post_attn"] = name
        elif alike(call.given, mlp.returned):
            roles["post_mlp"] = name
    return replace(kind, **roles)


def _added(kind: BlockMap, seen: Seen) -> BlockMap:
    """The map with what is added to the stream: the outputs of attention and MLP, or of their last projections."""
    before, after = seen.call("").given, seen.call("").returned
    reads = seen.call(kind.ln2 if kind.ln2 else _entry(kind)).given
    for start in _with_attention(kind, seen):
        added = seen.call(start.post_attn or start.attn).returned
        for end in _with_mlp(start, seen):
            put = seen.call(end.post_mlp or end.mlp).returned
            if _is_sum(reads, put, after) and _is_sum(before, added, reads):
                return end
            if _is_sum(_sum(before, added), put, after):
                return replace(end, parallel=True)
    scaled = _scaled(kind, seen, reads)
    if scaled is None:
        raise Underivable(
            f"how the parts of {seen.path} are added up (BlockMap(post_attn=..., ln2=..., parallel=..., attn_gate=...))"
        )
    return scaled


def _entry(kind: BlockMap) -> str:
    return kind.gate if kind.mlp == kind.down and kind.gate else kind.mlp


def _with_attention(kind: BlockMap, seen: Seen) -> Iterator[BlockMap]:
    yield kind
    last = kind.o or _child(seen.block, kind.attn, names.OUT)
    if last and kind.post_attn is None:
        # It adds the stream itself (Bloom).
        yield replace(kind, attn=last, pattern=False, scores=False)


def _with_mlp(kind: BlockMap, seen: Seen) -> Iterator[BlockMap]:
    yield kind
    if kind.down and kind.down != kind.mlp and kind.post_mlp is None:
        yield replace(kind, mlp=kind.down)


def _scaled(kind: BlockMap, seen: Seen, reads: Tensor | None) -> BlockMap | None:
    """The map of a block that multiplies what it adds by a number of its own (Granite)."""
    before, after = seen.call("").given, seen.call("").returned
    added, put = seen.call(kind.post_attn or kind.attn).returned, seen.call(kind.post_mlp or kind.mlp).returned
    numbers = {name: value for name, value in vars(seen.block).items() if isinstance(value, float) and value}
    for name, value in numbers.items():
        if _is_sum(before, _times(added, value), reads) and _is_sum(reads, _times(put, value), after):
            return replace(kind, attn_gate=Gate(name), gated_mlp=True)
    return None


def _child(block: nn.Module, part: str, kinds: Sequence[str]) -> str | None:
    found = names.child(block.get_submodule(part), kinds)
    return None if found is None else f"{part}.{found}"


def _times(x: Tensor | None, factor: float) -> Tensor | None:
    return None if x is None else x * factor


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return None if a is None or b is None or a.numel() != b.numel() else a + b.reshape(a.shape)


def _is_sum(a: Tensor | None, b: Tensor | None, total: Tensor | None) -> bool:
    return alike(_sum(a, b), total)
