"""Our side: checkpoints and inputs for both, our activations, and our logits under each edit."""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers.utils import logging

import cmrm_interp as ci
from cmrm_interp.families import tiny
from parity import patching
from parity.cases import Model
from parity.edits import Edit, edits

TEXTS = ["what is in the picture ?", "tell me about cats and dogs please you are kind"]
SIDES = ("left", "right")
PATCHING = "patching"
logging.disable_progress_bar()


def make(model: Model, folder: Path) -> list[str]:
    """Save a tiny checkpoint and, for padding on each side, inputs, what we read on them and what we write.

    Args:
        model: which.
        folder: of the checkpoint; a case for each side comes below it.

    Returns:
        All hook points of the model.
    """
    hf, processor = tiny(model.family)
    _tame(hf)
    hf.save_pretrained(folder)
    getattr(processor, "tokenizer", processor).save_pretrained(folder)
    hf.set_attn_implementation("eager")
    if model.patching:
        patching.make(copy.deepcopy(hf), processor, _pictures(), folder / PATCHING)
    loaded = ci.load((hf, processor))
    for side in SIDES:
        case = folder / side
        case.mkdir()
        inputs = loaded.prepare(TEXTS, _pictures() if model.images else None, padding_side=side)
        _save(case / "inputs.safetensors", inputs.tensors)
        names = [name for name in loaded.hook_points if model.images or not loaded.network.needs_image(name)]
        acts = loaded.capture(inputs, names, positions="all")
        _save(case / "ours.safetensors", {**acts.tensors, "logits": loaded.logits(inputs, positions="all")})
        _write(loaded, inputs, case, {edit: acts[edit.ours].shape for edit in edits(names, model.native)})
    return loaded.hook_points


@torch.no_grad()
def _tame(hf: torch.nn.Module) -> None:
    # Gemma's gains are one more than the weights: with weights around one, the stream would grow until rounding shows.
    for module in hf.modules():
        if type(module).__name__.startswith("Gemma") and type(module).__name__.endswith("RMSNorm"):
            module.weight -= 1


def _write(loaded: ci.Model, inputs: Any, case: Path, shapes: dict[Edit, torch.Size]) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = {edit.ours: 0.3 * torch.randn(shape, generator=generator) for edit, shape in shapes.items()}
    out = {}
    for edit in shapes:
        hook = ci.Hook(edit.ours, lambda x, name, edit=edit: edit.apply(x, noise[name]))
        out[edit.ours] = loaded.logits(inputs, [hook], positions="all")
    _save(case / "noise.safetensors", noise)
    _save(case / "ours_written.safetensors", out)
    (case / "edits.json").write_text(json.dumps([asdict(edit) for edit in shapes]))


def _pictures() -> list[Image.Image]:
    return [
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
        for seed, size in enumerate([(32, 32), (24, 16)])
    ]


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)
