"""TransformerLens's side: runs in its own environment, on the checkpoints and inputs that our side left in a folder.

``python -m parity.theirs FOLDER`` writes, for each case, every activation that TransformerLens names, and the
logits under each edit. Weights are neither folded nor centred: `enable_compatibility_mode` is never called.
"""

import json
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformer_lens import patching
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.sources.transformers import helpers
from transformer_lens.tools.analysis.attribution_patching import attribution_patch
from transformers.utils import logging

from parity.edits import Edit, score

# Where a processor does not load it would have pip install torchvision, and another torch with it.
helpers._ensure_torchvision = lambda: False
# Qwen's processors need torchvision, and the adapters insist on it; text alone does not need them.
ArchitectureAdapter._check_required_libraries = lambda self: None
# It warns of each edit of a norm that the output is computed anew.
warnings.filterwarnings("ignore", message="A forward hook edited")

logging.disable_progress_bar()

PER_HEAD = "attn.hook_result"


@torch.no_grad()
def main(folder: Path) -> None:
    """Every case of every model in the folder."""
    for model in sorted(path.parent for path in folder.glob("*/config.json")):
        bridge = TransformerBridge.boot_transformers(str(model), device="cpu")
        for case in sorted(path.parent for path in model.glob("*/inputs.safetensors")):
            tensors = load_file(case / "inputs.safetensors")
            ids = tensors.pop("input_ids")
            _save(case / "theirs.safetensors", read(bridge, ids, tensors))
            _save(case / "theirs_written.safetensors", written(bridge, ids, tensors, case))
        for case in sorted(path.parent for path in model.glob("*/corrupt.safetensors")):
            _save(case / "theirs_patched.safetensors", patched(bridge, case))


def read(bridge: TransformerBridge, ids: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Activations by name, and ``logits``."""
    logits, cache = bridge.run_with_cache(ids, **tensors)
    held = {**cache, "logits": logits}
    # Outputs of single heads are made on request, and then the output projection is not seen.
    if set_per_head(bridge, True):
        held |= bridge.run_with_cache(ids, names_filter=lambda name: name.endswith(PER_HEAD), **tensors)[1]
        set_per_head(bridge, False)
    return {name: value for name, value in held.items() if isinstance(value, Tensor)}


def written(bridge: TransformerBridge, ids: Tensor, tensors: dict[str, Tensor], case: Path) -> dict[str, Tensor]:
    """Logits under each edit, by our name of its place."""
    noise = load_file(case / "noise.safetensors")
    out = {}
    for edit in (Edit(**entry) for entry in json.loads((case / "edits.json").read_text())):
        if edit.theirs not in bridge.hook_dict:
            continue
        set_per_head(bridge, edit.theirs.endswith(PER_HEAD))
        hook = partial(_hook, edit=edit, noise=noise[edit.ours])
        out[edit.ours] = bridge.run_with_hooks(ids, fwd_hooks=[(edit.theirs, hook)], **tensors)
    set_per_head(bridge, False)
    return out


@torch.enable_grad()
def patched(bridge: TransformerBridge, case: Path) -> dict[str, Tensor]:
    """Their patching of the stream and their attribution, as their documentation has them, on prompts with an image."""
    clean, corrupt = (load_file(case / f"{name}.safetensors") for name in ("clean", "corrupt"))
    with torch.no_grad():
        cache = bridge.run_with_cache(clean["input_ids"], pixel_values=clean["pixel_values"])[1]
        grid = patching.get_act_patch_resid_pre(bridge, corrupt["input_ids"], cache, score)
    found = attribution_patch(bridge, clean["input_ids"], corrupt["input_ids"], score)
    return {"resid_pre": grid, "attribution": torch.tensor(list(found.node_scores.values()))}


def set_per_head(bridge: TransformerBridge, on: bool) -> bool:
    """Ask for outputs of single heads or not; False where the attention cannot give them."""
    try:
        bridge.set_use_attn_result(on)
    except NotImplementedError:
        return False
    return True


def _hook(x: Tensor, hook: Any, edit: Edit, noise: Tensor) -> Tensor:
    return edit.apply(x, noise)


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
