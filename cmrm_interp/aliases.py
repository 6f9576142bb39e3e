"""TransformerLens's names for our hook points: its canonical ones, and the vision names of its adapters.

TransformerLens 4 calls most places by module and side (``blocks.3.ln2.hook_in``) and keeps its older
names, which are ours (``blocks.3.hook_resid_mid``), as aliases. A name is an alias here only where both
libraries hold the same value there; where they do not, `refusal` says what to use instead.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

_BLOCK = re.compile(r"^(?P<stack>(?:\w+\.)?blocks)\.(?P<layer>\d+)\.(?P<rest>.+)$")
_VISION_STACKS = ("vision_encoder.encoder_layers", "vision_encoder.blocks")

_OUTSIDE = {
    "hook_embed": ("embed.hook_out",),
    "hook_pos_embed": ("pos_embed.hook_out",),
    "ln_final.hook_out": ("unembed.hook_in",),
    "unembed.hook_out": ("hook_unembed",),
    "vision.hook_out": ("vision_projector.hook_in", "vision_projector.hook_vision_proj_in"),
    "projector.hook_out": (
        "vision_projector.hook_out",
        "vision_projector.hook_vision_proj_out",
        "vision_projector.hook_projected",
    ),
}
_INSIDE = {
    "hook_resid_pre": ("hook_in",),
    "hook_resid_mid": ("ln2.hook_in",),
    "hook_resid_post": ("hook_out",),
    "attn.hook_q": ("attn.q.hook_out",),
    "attn.hook_k": ("attn.k.hook_out",),
    "attn.hook_v": ("attn.v.hook_out",),
    "attn.hook_z": ("attn.o.hook_in",),
    "mlp.hook_post": ("mlp.out.hook_in",),
    "mlp.hook_pre_linear": ("mlp.in.hook_out",),
    "mlp.hook_router": ("mlp.gate.hook_out",),
    # Points of their own only where a norm follows: see `_added`.
    "attn.hook_out": ("attn.o.hook_out",),
    "mlp.hook_out": ("mlp.out.hook_out",),
}
# What is added to the stream is the module's output, or that of the norm after it.
_ADDED = {"hook_attn_out": ("attn", "o", "ln1_post"), "hook_mlp_out": ("mlp", "out", "ln2_post")}

_REFUSED = (
    (
        r"vision_encoder\.(hook_out|hook_vision_out)",
        "in TransformerLens this is what the vision tower returns; 'vision.hook_out' is what the projector is given,"
        " and 'vision.blocks.-1.hook_resid_post' the output of the last block",
    ),
    (
        r".*\.(hook_attn_in|hook_mlp_in|hook_[qkv]_input|ln1\.hook_in)",
        "a write there reaches one branch and not the residual stream, unlike 'blocks.*.hook_resid_pre' and"
        " 'hook_resid_mid'; to change what one branch reads, write at 'ln1.hook_normalized' or 'ln2.hook_normalized'",
    ),
    (
        r".*\.(hook_rot_[qk]|hook_[qk]_normed|hook_cos|hook_sin)",
        "here queries and keys are seen as projected ('blocks.*.attn.hook_q', 'hook_k'), and after norm and rotation"
        " in 'blocks.*.attn.hook_attn_scores'",
    ),
)


@lru_cache(maxsize=512)
def aliases(names: tuple[str, ...], whole: bool = True) -> Mapping[str, str]:
    """TransformerLens's other names for hook points.

    Args:
        names: the hook points that exist, all of them or some.
        whole: whether `names` are all hook points of a model; names whose meaning depends on the
            model (``attn.hook_out``, ``mlp.in.hook_out``) are aliases only then.

    Returns:
        Alias to hook point; a name in `names` is never an alias.
    """
    exist = frozenset(names)
    found: dict[str, str] = {}
    for name in names:
        for alias in _aliases_of(name, exist, whole):
            if alias not in exist:
                found.setdefault(alias, name)
    last = [name for name in names if re.fullmatch(r"blocks\.\d+\.hook_resid_post", name)][-1:]
    return MappingProxyType({**found, **({"ln_final.hook_in": last[0]} if whole and last else {})})


def refusal(name: str) -> str | None:
    """Why a name of TransformerLens's is no hook point here and what to use instead; None for other names."""
    return next((words for pattern, words in _REFUSED if re.fullmatch(pattern, name)), None)


def _aliases_of(name: str, exist: frozenset[str], whole: bool) -> Iterator[str]:
    yield from _OUTSIDE.get(name, ())
    inside = _BLOCK.match(name)
    if inside is None:
        return
    stack, layer, rest = inside["stack"], inside["layer"], inside["rest"]
    others = [*_INSIDE.get(rest, ()), *_added(f"{stack}.{layer}.", rest, exist, whole)]
    if whole and rest == "mlp.hook_pre":
        gated = f"{stack}.{layer}.mlp.hook_pre_linear" in exist
        others.append("mlp.gate.hook_out" if gated else "mlp.in.hook_out")
    yield from (f"{stack}.{layer}.{other}" for other in others)
    if stack == "vision.blocks":
        yield from (f"{theirs}.{layer}.{other}" for theirs in _VISION_STACKS for other in (rest, *others))


def _added(here: str, rest: str, exist: frozenset[str], whole: bool) -> Iterator[str]:
    if rest not in _ADDED:
        return
    module, last, norm = _ADDED[rest]
    has_norm = f"{here}{module}.hook_out" in exist
    if has_norm or not whole:
        yield f"{norm}.hook_out"
    else:
        yield from (f"{module}.hook_out", f"{module}.{last}.hook_out")
