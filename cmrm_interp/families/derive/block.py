"""The map of one decoder block: parts by their names, what follows what by a recorded pass."""

import inspect
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from cmrm_interp.axes import Tensor
from cmrm_interp.families.derive import names
from cmrm_interp.families.derive.record import Call, alike
from cmrm_interp.families.maps import BlockMap


class Underivable(Exception):
    """A part of a model that no convention finds; the text names it."""


def watched(block: nn.Module, path: str) -> list[str]:
    """Modules of a block whose calls `block_map` needs."""
    return [path, *(f"{path}.{name}" for name, _ in block.named_children())]


def block_map(block: nn.Module, path: str, calls: Mapping[str, Call]) -> BlockMap:
    """Map of a block.

    Args:
        block: the block.
        path: its path in the model.
        calls: recorded calls of the block and its children.

    Raises:
        Underivable: no attention or MLP is found, or the block was not reached.
    """
    if path not in calls:
        raise Underivable(f"{path} is not reached by a prompt without an image (BlockMap(cross=True, ...))")
    children = {name: module for name, module in block.named_children() if f"{path}.{name}" in calls}
    mlp = next((name for name, module in children.items() if names.is_mlp(name, module)), None)
    attn = next((name for name, module in children.items() if names.is_attention(name, module)), None)
    # Some blocks mix positions by a convolution or a scan in attention's place.
    others = [name for name, module in children.items() if name != mlp and not names.is_norm(name, module)]
    if attn is None and (mlp is None or len(others) != 1):
        raise Underivable(f"the attention of {path}: its parts are {', '.join(children)} (BlockMap(attn=...))")
    start = _attention(block, attn or others[0])
    return _norms(_mlp(start, block, mlp, path), children, path, calls)


def _attention(block: nn.Module, attn: str) -> BlockMap:
    module = block.get_submodule(attn)

    def _part(kinds: tuple[str, ...]) -> str | None:
        found = names.child(module, kinds)
        return None if found is None else f"{attn}.{found}"

    qkv, out = _part(names.FUSED), _part(names.OUT)
    parts = [None if qkv else _part(kinds) for kinds in (names.QUERY, names.KEY, names.VALUE)]
    called = "attention_interface" in inspect.getsource(type(module).forward)
    q, k, v = parts if all(parts) else (None, None, None)
    out, qkv = (out, qkv) if called else (None, None)
    return BlockMap(attn=attn, q=q, k=k, v=v, o=out, qkv=qkv, pattern=called, flat_mlp=True)


def _mlp(kind: BlockMap, block: nn.Module, mlp: str | None, path: str) -> BlockMap:
    if mlp is None:
        down = names.child(block, names.DOWN)
        if down is None:
            raise Underivable(f"the MLP of {path} (BlockMap(mlp=...))")
        return replace(kind, mlp=down, gate=names.child(block, names.PLAIN), up=None, down=down)
    module = block.get_submodule(mlp)

    def _part(kinds: tuple[str, ...]) -> str | None:
        found = names.child(module, kinds)
        return None if found is None else f"{mlp}.{found}"

    experts = names.child(module, ("experts",)) is not None
    gate, up, both = (_part(kinds) for kinds in (names.GATE, names.UP, names.GATE_UP))
    if gate is None:
        gate, up = _part(names.PLAIN), None
    down = _part(names.DOWN)
    if experts:
        return replace(kind, mlp=mlp, gate=None, up=None, down=None, router=_router(module, mlp))
    if down is None:
        gate = up = both = None
    return replace(kind, mlp=mlp, gate=None if both else gate, up=None if both else up, gate_up=both, down=down)


def _router(module: nn.Module, mlp: str) -> str | None:
    found = names.child(module, names.ROUTER)
    # Only what is called so is known to return logits, scores and experts.
    known = found is not None and type(module.get_submodule(found)).__name__.endswith("TopKRouter")
    return f"{mlp}.{found}" if known else None


def _norms(kind: BlockMap, children: Mapping[str, nn.Module], path: str, calls: Mapping[str, Call]) -> BlockMap:
    def _call(name: str) -> Call:
        return calls[f"{path}.{name}"]

    block, attn, mlp = calls[path], _call(kind.attn), _call(kind.mlp)
    if kind.mlp == kind.down and kind.gate:
        # Its MLP is two of the block's own modules.
        mlp = Call(mlp.order, _call(kind.gate).given, mlp.returned)
    norms = sorted(
        (name for name, module in children.items() if names.is_norm(name, module)), key=lambda n: _call(n).order
    )
    roles: dict[str, str | None] = {"ln1": None, "ln2": None, "post_attn": None, "post_mlp": None}
    for name in norms:
        given = _call(name).given
        if alike(given, attn.returned):
            roles["post_attn"] = name
        elif alike(given, mlp.returned):
            roles["post_mlp"] = name
        elif alike(_call(name).returned, attn.given):
            roles["ln1"] = name
        elif alike(_call(name).returned, mlp.given):
            roles["ln2"] = name
    added = _call(roles["post_attn"]).returned if roles["post_attn"] else attn.returned
    parallel = not _is_sum(block.given, added, _stream_before(roles["ln2"], _call, mlp))
    if parallel and not alike(mlp.given, attn.given) and not _reads(roles["ln2"], _call, block):
        raise Underivable(f"how the parts of {path} are added up (BlockMap(post_attn=..., ln2=..., parallel=...))")
    return replace(kind, parallel=parallel, **roles)


def _stream_before(ln2: str | None, call: object, mlp: Call) -> Tensor | None:
    return call(ln2).given if ln2 else mlp.given  # type: ignore[operator]


def _reads(ln2: str | None, call: object, block: Call) -> bool:
    return ln2 is not None and alike(call(ln2).given, block.given)  # type: ignore[operator]


def _is_sum(a: Tensor | None, b: Tensor | None, total: Tensor | None) -> bool:
    if a is None or b is None or total is None or a.numel() != b.numel():
        return False
    return alike(a.float() + b.float().reshape(a.shape), total)
