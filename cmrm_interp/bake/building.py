"""A copy of a Hugging Face model with some parameters changed, added or untied."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.bake.edits import chained, linear_part
from cmrm_interp.bake.flags import Flag, set_all, skeleton
from cmrm_interp.bake.plan import Plan
from cmrm_interp.bake.writers import Writer
from cmrm_interp.errors import ModelError
from cmrm_interp.families.maps import FamilyMap


@dataclass(frozen=True)
class Recast:
    """How the copy differs from the model in its configuration.

    Attributes:
        flags: entries that are turned on.
        untied: name of the head's weight, where it has to become its own.
    """

    flags: tuple[Flag, ...] = ()
    untied: str | None = None

    def config(self, hf: Any) -> Any:
        """Configuration of the copy."""
        config = set_all(hf.config, self.flags)
        if self.untied is not None:
            # transformers has looked for it in either place.
            for part in (config, config.get_text_config()):
                part.tie_word_embeddings = False
        return config


def check_weights(hf: Any) -> None:
    """Refuse weights that cannot be calculated with.

    Raises:
        ModelError: they are quantised, or not in memory.
    """
    quantised = getattr(hf.config, "quantization_config", None) is not None
    odd = [name for name, p in hf.named_parameters() if not p.is_floating_point()]
    if quantised or odd:
        raise ModelError(
            "the weights are quantised, and a direction cannot be taken out of rounded numbers: load the checkpoint in"
            " bf16 or fp32 (without quantization_config), bake it, and quantise what comes out"
        )
    if len({p.device for p in hf.parameters()}) > 1:
        raise ModelError(
            "the weights are on several devices, or offloaded: baking needs no accelerator, so load the model for it on"
            " the CPU (device_map='cpu')"
        )


def tied_head(hf: Any, family: FamilyMap) -> str | None:
    """Name of the head's weight if it is the embedding's."""
    embed = hf.get_submodule(family.at(family.embed))
    head = hf.get_submodule(family.unembed)
    return f"{family.unembed}.weight" if head.weight is embed.weight else None


def changed_weights(hf: Any, plan: Plan, factors: Mapping[str, float]) -> dict[str, Tensor]:
    """Values of the parameters that hold the plan, in the model's own dtype.

    Args:
        hf: the model, which is left as it is.
        plan: what each writer has to hold.
        factors: by which outputs are multiplied on their way to the stream, by the writer's entry.
    """
    state, found = hf.state_dict(), dict[str, Tensor]()
    for writer, ops in plan.ops.items():
        if not ops:
            continue
        factor = factors.get(writer.entry, 1.0)
        for name, axis in _held_by(writer):
            is_constant = name == writer.constant
            if name not in state and not plan.has_constant(writer):
                continue
            old = state[name] if name in state else _zeros(state, name)
            wide = _wide(old).movedim(axis, -1) * factor
            new = (chained if is_constant else linear_part)(ops, wide) / factor
            found[name] = new.movedim(-1, axis).to(old.device, old.dtype).contiguous()
    return found


def rebuilt(hf: Any, recast: Recast, changed: Mapping[str, Tensor]) -> Any:
    """A copy of a model; the given one keeps its weights, and no tensor is shared.

    Args:
        hf: the model.
        recast: how its configuration changes.
        changed: parameters of the copy that differ.

    Raises:
        ModelError: a model of this class and configuration has other parameters (adapters, for example).
    """
    config = recast.config(hf)
    new = skeleton(hf, config)
    state = {name: tensor.detach().clone() for name, tensor in hf.state_dict().items() if name not in changed}
    state |= changed
    lacking = new.state_dict().keys() - state.keys()
    state |= {name: _zeros(state, name) for name in lacking if name.endswith("bias")}
    if new.state_dict().keys() != state.keys():
        odd = sorted(new.state_dict().keys() ^ state.keys())
        raise ModelError(
            f"{type(hf).__name__} as its configuration describes it has other parameters ({', '.join(odd[:3])}):"
            " merge adapters into the weights first (PEFT: merge_and_unload())"
        )
    new.load_state_dict(state, assign=True)
    _copy_buffers(hf, new)
    new.tie_weights()
    new.generation_config = copy.deepcopy(hf.generation_config)
    return new.eval()


def _held_by(writer: Writer) -> Iterable[tuple[str, int]]:
    held = {weight.name: weight.axis for weight in writer.weights}
    if writer.constant is not None:
        held.setdefault(writer.constant, -1)
    return held.items()


def _wide(tensor: Tensor) -> Tensor:
    # Apple's GPUs have no double precision.
    return tensor.detach().to("cpu" if tensor.device.type == "mps" else tensor.device, torch.float64)


def _zeros(state: Mapping[str, Tensor], bias: str) -> Tensor:
    weight = state[bias.removesuffix("bias") + "weight"]
    return torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)


def _copy_buffers(hf: Any, new: Any) -> None:
    """Buffers that no checkpoint holds (rotary frequencies) are those of the model."""
    for name, buffer in hf.named_buffers():
        owner, _, own = name.rpartition(".")
        if new.get_buffer(name).device.type == "meta":
            setattr(new.get_submodule(owner), own, buffer.detach().clone())
