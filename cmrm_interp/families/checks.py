"""What a write at each hook point must do: the rows of the self-check, as data.

A model whose map is wrong gives numbers all the same. So a loaded model is asked to prove its map: every kind
of hook point is changed in a row of its own of one batch, and what comes after must move as the name says.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Expect:
    """What changing one hook point does to others of the same block.

    Attributes:
        point: the hook point that is changed; below its block, so ``attn.hook_z``.
        shifts: points that move by exactly as much.
        moves: points that become different.
        keeps: points that stay.
    """

    point: str
    shifts: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()


NEXT = "next"
_PRE, _MID, _POST = ("hook_resid_pre",), ("hook_resid_mid",), ("hook_resid_post",)
_ATTN, _MLP, _Z = ("hook_attn_out",), ("hook_mlp_out",), ("attn.hook_z",)

BLOCK = (
    Expect("hook_resid_pre", moves=_ATTN + _MLP + _POST),
    Expect("ln1.hook_scale", moves=("ln1.hook_normalized",), keeps=_PRE),
    Expect("ln1.hook_normalized", moves=_ATTN, keeps=_PRE),
    Expect("attn.hook_q", moves=_Z + _ATTN, keeps=_PRE),
    Expect("attn.hook_k", moves=_Z + _ATTN, keeps=_PRE),
    Expect("attn.hook_v", moves=_Z + _ATTN, keeps=_PRE),
    Expect("attn.hook_attn_scores", moves=("attn.hook_pattern", *_Z, *_ATTN), keeps=_PRE),
    Expect("attn.hook_pattern", moves=_Z + _ATTN, keeps=_PRE),
    Expect("attn.hook_z", moves=("attn.hook_result", *_ATTN), keeps=_PRE),
    Expect("attn.hook_result", moves=_ATTN, keeps=_Z),
    Expect("attn.hook_out", moves=_ATTN, keeps=_Z),
    Expect("hook_attn_out", shifts=_MID, moves=_POST, keeps=_PRE),
    Expect("hook_resid_mid", moves=_MLP + _POST, keeps=_PRE),
    Expect("ln2.hook_scale", moves=("ln2.hook_normalized",), keeps=_MID),
    Expect("ln2.hook_normalized", moves=_MLP, keeps=_MID),
    Expect("mlp.hook_router", moves=_MLP, keeps=_MID),
    Expect("mlp.hook_pre", moves=("mlp.hook_post", *_MLP), keeps=_MID),
    Expect("mlp.hook_pre_linear", moves=("mlp.hook_post", *_MLP), keeps=_MID),
    Expect("mlp.hook_post", moves=_MLP, keeps=_MID),
    Expect("mlp.hook_out", moves=_MLP, keeps=_MID),
    Expect("hook_mlp_out", moves=_POST, keeps=_ATTN),
    Expect("hook_resid_post", shifts=(NEXT,), keeps=_MLP),
)
CROSS = tuple(
    Expect(
        row.point.replace("attn.", "cross_attn."),
        row.shifts,
        tuple(name.replace("attn.", "cross_attn.") for name in row.moves),
        tuple(name.replace("attn.", "cross_attn.") for name in row.keeps),
    )
    for row in BLOCK
    if row.point.startswith("attn.")
)
VISION = (
    Expect("hook_resid_pre", moves=_POST),
    Expect("hook_attn_out", shifts=_MID, moves=_POST, keeps=_PRE),
    Expect("hook_resid_mid", moves=_MLP + _POST, keeps=_PRE),
    Expect("hook_mlp_out", moves=_POST, keeps=_MID),
    Expect("hook_cross_attn_out", moves=_POST, keeps=_PRE),
    # A tower may have a norm between two stacks of blocks, and a Q-Former may see less than all of the stream.
    Expect("hook_resid_post", moves=(NEXT,), keeps=_MLP),
)
ENDS = (
    Expect("hook_embed", moves=("blocks.0.hook_resid_pre",)),
    Expect("hook_pos_embed", moves=("blocks.0.hook_resid_pre",), keeps=("hook_embed",)),
    Expect("ln_final.hook_scale", moves=("ln_final.hook_normalized", "ln_final.hook_out", "unembed.hook_out")),
    Expect("ln_final.hook_normalized", moves=("ln_final.hook_out", "unembed.hook_out")),
    Expect("ln_final.hook_out", moves=("unembed.hook_out",), keeps=("ln_final.hook_normalized",)),
    Expect("unembed.hook_out", keeps=("ln_final.hook_out",)),
)
VISION_ENDS = (
    Expect("qformer.hook_out", moves=("projector.hook_out",)),
    Expect("vision.hook_out", moves=("projector.hook_out",)),
    Expect("projector.hook_out", keeps=("vision.hook_out",)),
)

_STREAM = ("batch", "pos", "d_model")
_HEADS, _SQUARE = ("batch", "pos", "head", "any"), ("batch", "head", "pos", "any")
_WIDE = ("batch", "pos", "any")
SHAPES = {
    **dict.fromkeys(("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "embed", "out"), _STREAM),
    **dict.fromkeys(("q", "z"), _HEADS),
    **dict.fromkeys(("k", "v"), ("batch", "pos", "any", "any")),
    **dict.fromkeys(("attn_scores", "pattern"), _SQUARE),
    **dict.fromkeys(("pre", "pre_linear", "post", "router"), _WIDE),
    "result": ("batch", "pos", "head", "d_model"),
    "scale": ("batch", "pos", "one"),
    "normalized": _STREAM,
}


def shape_fault(name: str, shape: Sequence[int], sizes: Mapping[str, int]) -> str | None:
    """What is wrong with the shape of an activation, or None.

    Args:
        name: hook point.
        shape: of the activation.
        sizes: of the axes ``batch``, ``pos``, ``d_model``, ``head`` and ``one``.
    """
    axes = SHAPES.get(name.rpartition("hook_")[2])
    if axes is None or name.startswith(("vision.", "qformer.", "projector.", "unembed.")) or _of_image(name):
        return None
    wanted = [sizes.get(axis) for axis in axes]
    fits = len(shape) == len(axes) and all(want in (None, have) for want, have in zip(wanted, shape, strict=True))
    return None if fits else f"{name}: shape {tuple(shape)} is not {' '.join(axes)} ({sizes})"


def _of_image(name: str) -> bool:
    return name.endswith(("cross_attn.hook_k", "cross_attn.hook_v"))


def rows(names: Collection[str], stack: str, layers: Sequence[int]) -> Iterator[Expect]:
    """Rows of the self-check for some layers of a stack of blocks, with whole names of hook points.

    Args:
        names: hook points that the model has; what it has not is left out.
        stack: ``"blocks"``, ``"vision.blocks"`` or ``"qformer.blocks"``.
        layers: numbers of the blocks.
    """
    table = (*BLOCK, *CROSS) if stack == "blocks" else VISION
    for layer in layers:
        for row in table:
            whole = _named(row, stack, layer)
            if whole.point == f"blocks.{max(layers)}.hook_resid_post":
                whole = replace(whole, moves=("ln_final.hook_out",))
            if whole.point in names:
                yield _known(whole, names)


def ends(names: Collection[str], vision: bool) -> Iterator[Expect]:
    """Rows for the points outside the blocks: of the vision side, or of the decoder."""
    for row in VISION_ENDS if vision else ENDS:
        if row.point in names:
            yield _known(row, names)


def spread_layers(n: int) -> list[int]:
    """The first, a middle and the last of `n` layers."""
    return sorted({0, n // 2, n - 1}) if n else []


def _named(row: Expect, stack: str, layer: int) -> Expect:
    def _whole(name: str) -> str:
        return f"{stack}.{layer + 1}.hook_resid_pre" if name == NEXT else f"{stack}.{layer}.{name}"

    shifts, moves, keeps = (tuple(map(_whole, part)) for part in (row.shifts, row.moves, row.keeps))
    return Expect(_whole(row.point), shifts, moves, keeps)


def _known(row: Expect, names: Collection[str]) -> Expect:
    kept = (tuple(name for name in part if name in names) for part in (row.shifts, row.moves, row.keeps))
    return Expect(row.point, *kept)
