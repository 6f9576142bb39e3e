"""Tiny random models of each family, built from a configuration: for tests and for trying things out."""

from collections.abc import Callable
from typing import Any

import torch

from cmrm_interp.errors import ModelError
from cmrm_interp.families.tiny import (
    aya_vision,
    blip,
    deepseek_vl,
    gemma,
    idefics3,
    llava,
    mllama,
    opt,
    pixtral,
    qwen,
    text,
    tiles,
)
from cmrm_interp.families.tiny.parts import randomise

_MODULES = (llava, tiles, qwen, gemma, mllama, idefics3, blip, pixtral, aya_vision, deepseek_vl, opt, text)
Builder = Callable[[dict[str, Any]], tuple[Any, Any]]
_BUILDERS: dict[str, Builder] = {name: make for module in _MODULES for name, make in module.BUILDERS.items()}
TINY = tuple(_BUILDERS)


def tiny(family: str, seed: int = 0, **config: Any) -> tuple[Any, Any]:
    """A random model of a family and its processor, small enough for a test.

    Weights are larger than at initialisation and the norms' gains are not one, so that mistakes which
    cancel in a fresh model (a gain before or after a hook point) do not pass.

    Args:
        family: one of `TINY`, for example ``"llava"``.
        seed: of the weights.
        **config: further entries of the text configuration.

    Returns:
        ``(hf_model, processor)``, as `cmrm_interp.load` takes them.

    Raises:
        ModelError: there is no tiny model of the family.
    """
    if family not in _BUILDERS:
        raise ModelError(f"no tiny model of family {family!r}: there are {', '.join(_BUILDERS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf, processor = _BUILDERS[family](config)
        randomise(hf)
    return hf.eval(), processor
