"""Patching one prompt with two images: what TransformerLens does, what we do, and what plain hooks do.

TransformerLens's `patching` and `attribution_patch` take token ids alone: every run that they patch is one without the
image. This side says what the runs with and without the image give, and checks that theirs is the latter and ours the
former. ``python -m parity.theirs`` writes theirs.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import cmrm_interp as ci
from parity.compare import FELT, TOLERANCE
from parity.edits import score

PROMPT = "what is in the picture ?"


def make(hf: Any, processor: Any, pictures: list[Any], case: Path) -> None:
    """Save two encodings that differ in their image, and what patching the one into the other gives.

    Args:
        hf: a LLaVA that nothing has wrapped.
        processor: its processor.
        pictures: two images.
        case: a new folder.
    """
    case.mkdir()
    bare, model = copy.deepcopy(hf), ci.load((hf, processor))
    clean, corrupt = (model.prepare([PROMPT], picture) for picture in pictures)
    grid = {"unit": "resid_pre", "over": "position"}
    exact = ci.patching.activation_patching(model, clean, corrupt, _metric, **grid)
    quick = ci.patching.attribution_patching(model, clean, corrupt, _metric, **grid)
    tensors = {name: torch.as_tensor(found.raw.values()[..., 0]) for name, found in (("ours", exact), ("quick", quick))}
    save_file(clean.tensors, case / "clean.safetensors")
    save_file(corrupt.tensors, case / "corrupt.safetensors")
    save_file({**tensors, **by_hooks(bare, clean.tensors, corrupt.tensors)}, case / "ours_patched.safetensors")


@torch.no_grad()
def by_hooks(hf: Any, clean: dict[str, Tensor], corrupt: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scores of the corrupt run with and without its image, and of every patched run, with plain hooks."""
    layers = hf.model.language_model.layers
    held: dict[int, Tensor] = {}
    keeping = [layer.register_forward_pre_hook(_keep(held, i), with_kwargs=True) for i, layer in enumerate(layers)]
    hf(**clean)
    for handle in keeping:
        handle.remove()
    width = corrupt["input_ids"].shape[1]
    grid = torch.zeros(len(layers), width, dtype=torch.float64)
    for i, layer in enumerate(layers):
        for pos in range(width):
            handle = layer.register_forward_pre_hook(_put(held[i], pos), with_kwargs=True)
            grid[i, pos] = score(hf(**corrupt).logits)
            handle.remove()
    blind = {name: tensor for name, tensor in corrupt.items() if name != "pixel_values"}
    return {"hooks": grid, "seeing": score(hf(**corrupt).logits), "blind": score(hf(**blind).logits)}


def compare(case: Path) -> list[str]:
    """What is not as it should be, in words.

    Args:
        case: the folder, with what both sides left in it.
    """
    ours, theirs = load_file(case / "ours_patched.safetensors"), load_file(case / "theirs_patched.safetensors")
    seeing, blind, hooks = ours["seeing"], ours["blind"], ours["hooks"]
    # The first token comes before the image, so patching it changes nothing at any layer.
    unchanged = theirs["resid_pre"][:, 0]
    checks = {
        "the image makes no difference": abs(seeing - blind) > FELT,
        "TransformerLens's patched run is not the run without the image; has it learnt to see?": _near(
            unchanged, blind
        ),
        "TransformerLens tells two images apart by attribution; has it learnt to see?": _near(
            theirs["attribution"], torch.tensor(0.0)
        ),
        "our patched run has lost its image": _near(ours["ours"][:, 0], seeing),
        "our patched runs differ from those of plain hooks": _near(ours["ours"], hooks),
        "our patched runs do not differ from each other": ours["ours"].std() > FELT,
        "our attribution sees no difference between two images": (ours["quick"] - seeing).abs().max() > FELT,
    }
    return [words for words, fine in checks.items() if not fine]


def told(case: Path) -> str:
    """The numbers, in a sentence."""
    ours, theirs = load_file(case / "ours_patched.safetensors"), load_file(case / "theirs_patched.safetensors")
    there, here = float(theirs["attribution"].abs().max()), float((ours["quick"] - ours["seeing"]).abs().max())
    return (
        f"a token before the image patched, at which the runs do not differ: {float(ours['seeing']):.5f} with the"
        f" image, {float(ours['blind']):.5f} without it; TransformerLens {float(theirs['resid_pre'][0, 0]):.5f}, here"
        f" {float(ours['ours'][0, 0]):.5f}; attribution: TransformerLens at most {there:.5f}, here {here:.5f}"
    )


def _near(a: Tensor, b: Tensor) -> bool:
    return bool((a.double() - b.double()).abs().max() < TOLERANCE)


def _metric(logits: Tensor) -> Tensor:
    return logits[:, 3] - logits[:, 5]


def _keep(held: dict[int, Tensor], i: int) -> Any:
    def hook(module: Any, args: Any, kwargs: Any) -> None:
        held[i] = (args[0] if args else kwargs["hidden_states"]).clone()

    return hook


def _put(value: Tensor, pos: int) -> Any:
    def hook(module: Any, args: Any, kwargs: Any) -> Any:
        new = (args[0] if args else kwargs["hidden_states"]).clone()
        new[:, pos] = value[:, pos]
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    return hook
