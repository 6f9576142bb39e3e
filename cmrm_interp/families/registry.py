"""The families that are known, and which one a model belongs to."""

from typing import Any

from cmrm_interp.errors import ModelError
from cmrm_interp.families.llava import LLAVA
from cmrm_interp.families.maps import FamilyMap
from cmrm_interp.families.qwen2_vl import QWEN2_5_VL, QWEN2_VL, QWEN3_VL, QWEN3_VL_MOE
from cmrm_interp.families.text import GEMMA, GEMMA2, GPT2, LLAMA, MIXTURE, OPT

_FAMILIES: dict[str, FamilyMap] = {}


def register(family: FamilyMap) -> FamilyMap:
    """Make a family known; a later one with the same name takes its place."""
    _FAMILIES[family.name] = family
    return family


def families() -> tuple[FamilyMap, ...]:
    """All families, in the order of registration."""
    return tuple(_FAMILIES.values())


def family_of(config: Any, source: str) -> FamilyMap:
    """Family of a model.

    Args:
        config: its Hugging Face configuration.
        source: name or path, for the error.

    Raises:
        ModelError: no family has this model type; the message lists the types that exist.
    """
    for family in reversed(families()):
        if config.model_type in family.model_types and _tower_fits(config, family):
            return family
    known = ", ".join(sorted(kind for family in families() for kind in family.model_types))
    raise ModelError(
        f"{source} is a {config.model_type!r} model, which is no vision-language model or text decoder known here:"
        f" the known types are {known}; pass a map of its modules to cmrm_interp.families.register(FamilyMap(...))"
    )


def _tower_fits(config: Any, family: FamilyMap) -> bool:
    return not family.vision_types or config.vision_config.model_type in family.vision_types


_VISION = (LLAVA, QWEN2_VL, QWEN2_5_VL, QWEN3_VL, QWEN3_VL_MOE)
_TEXT = (LLAMA, MIXTURE, GEMMA, GEMMA2, GPT2, OPT)
for _family in (*_VISION, *_TEXT):
    register(_family)
