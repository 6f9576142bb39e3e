"""What is written at hook points, the same on both sides; needs torch alone."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Kind = Literal["add", "scale", "mix"]
# Not the vision layer whose output is projected: transformers takes that output before TransformerLens's hook, and a
# write there moves nothing.
LAYERS = {"blocks": 1, "vision.blocks": 0}
_BLOCK = re.compile(r"((?:vision\.)?blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Edit:
    """One change of one activation.

    Attributes:
        ours: our hook point.
        theirs: TransformerLens's name of the place where the same change has the same effect.
        kind: add noise, scale each token by another factor (a norm may undo one factor for all), or mix each head's
            attention pattern with the mean of all (rows still sum to one).
    """

    ours: str
    theirs: str
    kind: Kind

    def apply(self, x: Tensor, noise: Tensor) -> Tensor:
        """The changed activation."""
        if self.kind == "scale":
            return x * (1 + noise.abs())
        if self.kind == "mix":
            return (x + x.mean(1, keepdim=True)) / 2
        return x + noise


def score(logits: Tensor) -> Tensor:
    """The number that patching looks at: logits ``batch pos vocab`` of one prompt to a scalar."""
    return logits[0, -1, 3] - logits[0, -1, 5]


def edits(names: Iterable[str], native: bool) -> list[Edit]:
    """Edits at every hook point of one layer of each stack and at those outside the layers.

    Args:
        names: our hook points.
        native: leave out what has no effect in TransformerLens where it does not compute attention itself.
    """
    return [Edit(name, _theirs(name), _kind(name)) for name in names if _chosen(name, native)]


def _chosen(name: str, native: bool) -> bool:
    # A write to a router's logits chooses experts anew here, and does nothing there.
    without = ("hook_router", *(("hook_attn_scores", "hook_pattern", "hook_result") if native else ()))
    inside = _BLOCK.match(name)
    return not name.endswith(without) and (inside is None or LAYERS[inside[1]] == int(inside[2]))


def _kind(name: str) -> Kind:
    if name.endswith("hook_pattern"):
        return "mix"
    return "scale" if name.endswith("hook_scale") else "add"


def _theirs(name: str) -> str:
    # Theirs is the second norm's input, where a write leaves the stream as it was: ours moves both.
    name = name.replace("hook_resid_mid", "hook_attn_out")
    name = name.replace("vision.blocks", "vision_encoder.encoder_layers")
    return {"vision.hook_out": "vision_projector.hook_in", "projector.hook_out": "vision_projector.hook_out"}.get(
        name, name
    )
