"""Which weights move: parts of the network, or low-rank adapters in its decoder."""

from importlib.util import find_spec
from typing import Any

from torch import nn

from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.families.maps import FamilyMap
from cmrm_interp.finetuning.settings import LoRA, Part


def thaw(hf: Any, family: FamilyMap, parts: tuple[Part, ...]) -> Any:
    """The network with some parts to be trained and all else frozen, the vision tower always.

    Args:
        hf: the network; it is changed.
        family: its map.
        parts: to be trained.
    """
    for name, weight in hf.named_parameters():
        weight.requires_grad_(_part(name, family) in parts)
    return hf


def adapted(hf: Any, family: FamilyMap, lora: LoRA) -> Any:
    """The network with low-rank adapters, which alone are trained, as peft's model.

    Args:
        hf: the network; adapters are put into it.
        family: its map.
        lora: how.

    Raises:
        ModelError: peft is not installed.
        InputError: no module has such a name.
    """
    if find_spec("peft") is None:
        raise ModelError('low-rank adapters need peft: pip install "cmrm-interp[finetune]"')
    from peft import LoraConfig, get_peft_model

    names = projections(hf, family, lora.targets)
    alpha = 2 * lora.rank if lora.alpha is None else lora.alpha
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=lora.dropout,
        target_modules=names,
        fan_in_fan_out=type(hf.get_submodule(names[0])).__name__ == "Conv1D",
    )
    return get_peft_model(hf, config)


def projections(hf: Any, family: FamilyMap, wanted: tuple[str, ...] | None = None) -> list[str]:
    """Paths of the linear modules of the decoder's blocks: projections of attention and MLPs.

    Args:
        hf: the network.
        family: its map.
        wanted: ends of the names of those wanted, in the whole network; None for all of the decoder's blocks.

    Raises:
        InputError: there is none.
    """
    linear = [name for name, module in hf.named_modules() if _is_linear(module)]
    if wanted is None:
        start = f"{family.at(family.layers)}."
        found = [name for name in linear if name.startswith(start)]
    else:
        found = [name for name in linear if any(name == end or name.endswith(f".{end}") for end in wanted)]
    if not found:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise InputError(f"no linear module {' or '.join(wanted or ('in the decoder',))}: there are {known}")
    return found


def _is_linear(module: nn.Module) -> bool:
    # GPT-2's projections are transformers' own class, transposed.
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def _part(name: str, family: FamilyMap) -> Part | None:
    """The part of the network that a parameter belongs to; None for the vision tower."""
    projector = family.vision.projector if family.vision else ""
    if projector and name.startswith(f"{projector}."):
        return "projector"
    if name.startswith((f"{family.at(family.embed)}.", f"{family.unembed}.")):
        return "embedding"
    return "decoder" if name.startswith(f"{family.decoder}." if family.decoder else "") else None
