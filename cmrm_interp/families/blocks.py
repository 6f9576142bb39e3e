"""The hook points of one decoder block, in forward order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from cmrm_interp.families.maps import BlockMap, Point
from cmrm_interp.families.norms import norm_points
from cmrm_interp.families.views import (
    AS_IS,
    ByPrompt,
    Columns,
    Flat,
    Heads,
    Middle,
    Nothing,
    Pattern,
    Rest,
    Result,
    Router,
    Scaled,
    Scores,
    Shape,
    View,
    Whole,
)


@dataclass(frozen=True)
class Block:
    """One block of the decoder.

    Attributes:
        layer: its number.
        path: its module.
        kind: names of its modules.
        heads: numbers of query heads and of key and value heads.
        modules: all modules of the model, by path.
        gain_offset: of the family's RMS norms.
    """

    layer: int
    path: str
    kind: BlockMap
    heads: tuple[int, int]
    modules: Mapping[str, nn.Module]
    gain_offset: float

    @property
    def name(self) -> str:
        """What its hook points begin with."""
        return f"blocks.{self.layer}"

    @property
    def attn_name(self) -> str:
        """What the points of its attention begin with."""
        return f"{self.name}.{'cross_attn' if self.kind.cross else 'attn'}"

    def at(self, part: str) -> str:
        """Path of one of its modules."""
        return f"{self.path}.{part}"


def block_points(block: Block) -> Iterator[Point]:
    """Hook points of a block, in forward order."""
    kind, name = block.kind, block.name
    yield Point(f"{name}.hook_resid_pre", block.path, "input", Whole())
    if kind.ln1 is not None:
        yield from norm_points(f"{name}.ln1", block.at(kind.ln1), block.modules, block.gain_offset)
    yield from _attention_points(block)
    yield from _mlp_points(block)
    if kind.tail is not None:
        yield Point(f"{name}.{kind.tail[0]}", block.at(kind.tail[1]), "output", Whole())
    if kind.gated_mlp:
        yield Point(f"{name}.hook_mlp_out", block.path, "output", Rest(f"{name}.hook_resid_mid"))
    yield Point(f"{name}.hook_resid_post", block.path, "output", Whole())


def skipped_points(block: Block, before: str) -> Iterator[Point]:
    """Hook points of a block that is left out: the stream goes through it as it is.

    Args:
        block: the block.
        before: module whose output is the stream at this place.
    """
    for what in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"):
        view = Whole() if what.startswith("resid") else Nothing()
        yield Point(f"{block.name}.hook_{what}", before, "output", view)


def _attention_points(block: Block) -> Iterator[Point]:
    kind, name, attn = block.kind, block.attn_name, block.at(block.kind.attn)
    n_heads, _ = block.heads
    yield from _projections(block)
    if kind.pattern:
        if kind.scores:
            yield Point(f"{name}.hook_attn_scores", attn, "attention", Scores())
        yield Point(f"{name}.hook_pattern", attn, "attention", Pattern())
    if kind.o is not None:
        yield Point(f"{name}.hook_z", block.at(kind.o), "input", Heads(n_heads))
        yield Point(f"{name}.hook_result", block.at(kind.o), "both", Result(block.at(kind.o), n_heads))
    added: View = Whole() if kind.attn_gate is None else Scaled(block.path, kind.attn_gate.name, kind.attn_gate.tanh)
    out = block.at(kind.post_attn or kind.attn)
    if kind.post_attn is not None or kind.attn_gate is not None:
        yield Point(f"{name}.hook_out", attn, "output", Whole())
    yield Point(f"{block.name}.hook_attn_out", out, "output", added)
    if not kind.parallel:
        yield Point(f"{block.name}.hook_resid_mid", out, "output", Middle(f"{block.name}.hook_resid_pre", added))


def _projections(block: Block) -> Iterator[Point]:
    kind, (n_heads, n_kv) = block.kind, block.heads
    sizes = (n_heads, n_kv, n_kv)
    parts = zip("qkv", sizes, (kind.q, kind.k, kind.v), strict=True)
    for number, (letter, heads, module) in enumerate(parts):
        # Keys and values of a cross-attention are those of image patches.
        of_image = kind.cross and letter != "q"
        if kind.qkv is not None:
            view = Heads(heads, Columns(number, sizes))
            yield Point(f"{block.attn_name}.hook_{letter}", block.at(kind.qkv), "output", view)
        elif module is not None:
            path = block.at(module)
            yield Point(f"{block.attn_name}.hook_{letter}", path, "output", Heads(heads), *_rows(of_image))


def _rows(of_image: bool) -> tuple[Shape, bool, bool]:
    return (ByPrompt(), True, True) if of_image else (AS_IS, False, False)


def _mlp_points(block: Block) -> Iterator[Point]:
    kind, name = block.kind, block.name
    shape = Flat() if kind.flat_mlp else AS_IS
    if kind.ln2 is not None and not kind.parallel:
        yield from norm_points(f"{name}.ln2", block.at(kind.ln2), block.modules, block.gain_offset, shape)
    if kind.router is not None:
        yield Point(f"{name}.mlp.hook_router", block.at(kind.router), "output", Router(), Flat())
    yield from _pre_points(block, shape)
    if kind.down is not None:
        yield Point(f"{name}.mlp.hook_post", block.at(kind.down), "input", Whole(), shape)
    if kind.post_mlp is not None:
        yield Point(f"{name}.mlp.hook_out", block.at(kind.mlp), "output", Whole(), shape)
    if not kind.gated_mlp:
        yield Point(f"{name}.hook_mlp_out", block.at(kind.post_mlp or kind.mlp), "output", Whole(), shape)


def _pre_points(block: Block, shape: Shape) -> Iterator[Point]:
    kind, names = block.kind, (f"{block.name}.mlp.hook_pre", f"{block.name}.mlp.hook_pre_linear")
    if kind.gate_up is not None:
        for part, name in enumerate(names):
            yield Point(name, block.at(kind.gate_up), "output", Columns(part, (1, 1)), shape)
        return
    # A plain MLP has one projection upwards, whatever its map calls it.
    modules = [module for module in (kind.gate, kind.up) if module is not None]
    for module, name in zip(modules, names, strict=False):
        yield Point(name, block.at(module), "output", Whole(), shape)
