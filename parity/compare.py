"""Both sides' values beside each other."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from cmrm_interp.aliases import aliases
from cmrm_interp.hooks import pos_axis
from parity.cases import Model

TOLERANCE = 1e-5
# An edit that moves the logits less than this proves nothing.
FELT = 1e-3


@dataclass(frozen=True)
class Result:
    """Comparison of one model on inputs padded on one side.

    Attributes:
        family: the model.
        side: of the padding.
        reads: largest difference by hook point.
        logits: largest difference of the logits.
        writes: largest difference of the logits by hook point written at.
        only_ours: hook points of ours that TransformerLens does not have, without layer numbers.
        only_theirs: names of TransformerLens's that mean nothing here.
        wrong: what must not be, in words.
    """

    family: str
    side: str
    reads: dict[str, float]
    logits: float
    writes: dict[str, float]
    only_ours: list[str]
    only_theirs: list[str]
    wrong: list[str]


def compare(model: Model, points: Sequence[str], case: Path) -> Result:
    """Compare what both sides left in the folder of a case.

    Args:
        model: which.
        points: all of our hook points.
        case: the folder.
    """
    ours, theirs = load_file(case / "ours.safetensors"), load_file(case / "theirs.safetensors")
    real = load_file(case / "inputs.safetensors")["attention_mask"].bool()
    table = {name: name for name in points} | dict(aliases(tuple(points)))
    wrong: list[str] = []
    reads: dict[str, float] = {}
    for name, mine in table.items():
        if mine in ours and name in theirs and not _is_pattern(name, theirs, model, wrong):
            reads[mine] = max(reads.get(mine, 0.0), _difference(mine, ours[mine], theirs[name], real, wrong))
    wrong += [f"{name} was not compared" for name in _missing(model.required, points, reads)]
    logits = _difference("logits", ours.pop("logits"), theirs.pop("logits"), real, wrong)
    writes = _writes(case, real, wrong)
    left_out = load_file(case / "noise.safetensors").keys() & reads.keys() - writes.keys()
    wrong += [f"write at {name}: TransformerLens has no such place to write at" for name in sorted(left_out)]
    wrong += [f"{name}: differs by {d:.1e}" for name, d in {**reads, "logits": logits}.items() if not d < TOLERANCE]
    wrong += [f"write at {name}: logits differ by {d:.1e}" for name, d in writes.items() if not d < TOLERANCE]
    return Result(
        model.family,
        case.name,
        reads,
        logits,
        writes,
        _general(ours.keys() - reads.keys()),
        _general(theirs.keys() - table.keys()),
        wrong,
    )


def _is_pattern(name: str, theirs: dict[str, Tensor], model: Model, wrong: list[str]) -> bool:
    if not (name.endswith("hook_attn_scores") and (model.native or name.startswith("vision_encoder."))):
        return False
    if not torch.equal(theirs[name], theirs[name.replace("attn_scores", "pattern")]):
        wrong.append(f"{name}: TransformerLens has real scores now; compare them")
    return True


def _difference(name: str, ours: Tensor, theirs: Tensor, real: Tensor, wrong: list[str]) -> float:
    if name.endswith("hook_router"):
        theirs = theirs.reshape(ours.shape)
    if ours.shape != theirs.shape:
        wrong.append(f"{name}: shape {tuple(ours.shape)} here, {tuple(theirs.shape)} there")
        return float("inf")
    gap = (ours - theirs).abs().nan_to_num(nan=float("inf"))
    if not name.startswith(("vision.", "projector.")):
        # Nothing is promised at padding.
        gap = gap.movedim(pos_axis(name), 1)[real]
    return gap.max().item()


def _writes(case: Path, real: Tensor, wrong: list[str]) -> dict[str, float]:
    untouched = load_file(case / "ours.safetensors")["logits"]
    ours, theirs = load_file(case / "ours_written.safetensors"), load_file(case / "theirs_written.safetensors")
    for name, logits in ours.items():
        if not (logits - untouched)[real].abs().max() > FELT:
            wrong.append(f"write at {name}: nothing moved")
    return {name: _difference("logits", ours[name], theirs[name], real, wrong) for name in theirs}


def _missing(required: Iterable[str], points: Sequence[str], reads: dict[str, float]) -> list[str]:
    wanted = [name for name in points if any(fnmatchcase(name, pattern) for pattern in required)]
    unknown = [pattern for pattern in required if not any(fnmatchcase(name, pattern) for name in points)]
    return unknown + [name for name in wanted if name not in reads]


def _general(names: Iterable[str]) -> list[str]:
    return sorted({re.sub(r"\.\d+\.", ".*.", name) for name in names})
