"""The families that are known, and which one a model belongs to."""

from typing import Any

from cmrm_interp.errors import ModelError
from cmrm_interp.families.aya_vision import AYA_VISION
from cmrm_interp.families.blip import BLIP2, INSTRUCTBLIP
from cmrm_interp.families.deepseek_vl import DEEPSEEK_VL
from cmrm_interp.families.gemma import GEMMA, GEMMA2, GEMMA3, GEMMA4, PALIGEMMA, PALIGEMMA2
from cmrm_interp.families.glm4v import GLM4V
from cmrm_interp.families.idefics3 import IDEFICS3
from cmrm_interp.families.internvl import INTERNVL
from cmrm_interp.families.llava import LLAVA, LLAVA_NEXT, LLAVA_ONEVISION
from cmrm_interp.families.maps import FamilyMap
from cmrm_interp.families.mistral import MISTRAL3, PIXTRAL
from cmrm_interp.families.mllama import MLLAMA
from cmrm_interp.families.qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL, QWEN3_VL_MOE
from cmrm_interp.families.text import GPT2, LLAMA, MIXTURE, OPT

_FAMILIES: dict[str, FamilyMap] = {}


def register(family: FamilyMap) -> FamilyMap:
    """Make a family known; a later one with the same name takes its place."""
    _FAMILIES[family.name] = family
    return family


def families() -> tuple[FamilyMap, ...]:
    """All families, in the order of registration."""
    return tuple(_FAMILIES.values())


def family_of(config: Any) -> FamilyMap | None:
    """Family of a model, or None: the one registered last of those that it belongs to.

    Args:
        config: its Hugging Face configuration.
    """
    for family in reversed(families()):
        if config.model_type in family.model_types and _parts_fit(config, family):
            return family
    return None


def unregister(name: str) -> FamilyMap:
    """Forget a family, and return its map.

    Raises:
        ModelError: there is no such family.
    """
    if name not in _FAMILIES:
        raise ModelError(f"no family {name!r} is registered: there are {', '.join(_FAMILIES)}")
    return _FAMILIES.pop(name)


def _parts_fit(config: Any, family: FamilyMap) -> bool:
    wanted = ((family.vision_types, "vision_config"), (family.text_types, "text_config"))
    return all(not types or getattr(config, part).model_type in types for types, part in wanted)


_LLAVAS = (LLAVA, PIXTRAL, LLAVA_NEXT, LLAVA_ONEVISION)
_QWENS = (QWEN2_VL, QWEN2_5_VL, QWEN3_VL, QWEN3_VL_MOE)
_GEMMAS = (PALIGEMMA, PALIGEMMA2, GEMMA3, GEMMA4)
_OTHERS = (IDEFICS3, INTERNVL, MLLAMA, BLIP2, INSTRUCTBLIP, MISTRAL3, AYA_VISION, GLM4V, DEEPSEEK_VL)
_TEXT = (LLAMA, MIXTURE, GEMMA, GEMMA2, GPT2, OPT)
for _family in (*_LLAVAS, *_QWENS, *_GEMMAS, *_OTHERS, *_TEXT):
    register(_family)
