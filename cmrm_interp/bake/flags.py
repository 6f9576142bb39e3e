"""Entries of a configuration that give a model biases: found by building it without weights, not by its name."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Flag:
    """An entry of a configuration that is False.

    Attributes:
        name: for example ``mlp_bias``.
        in_text: whether it is the text decoder's.
    """

    name: str
    in_text: bool

    def set(self, config: Any) -> None:
        """Turn it on."""
        setattr(config.get_text_config() if self.in_text else config, self.name, True)

    def __str__(self) -> str:
        """As one would write it down."""
        return f"{'text_config.' if self.in_text else ''}{self.name}=True"


def skeleton(hf: Any, config: Any) -> Any:
    """A model of the same class without weights (on the meta device)."""
    with torch.device("meta"):
        return type(hf)(config)


def flags_of(hf: Any) -> dict[str, Flag]:
    """Parameters that the model does not have, and the entry that gives it each of them, and biases alone.

    Args:
        hf: a Hugging Face model.
    """
    have, found = set(hf.state_dict()), dict[str, Flag]()
    for flag in _candidates(hf.config):
        config = copy.deepcopy(hf.config)
        flag.set(config)
        gained = set(skeleton(hf, config).state_dict()) ^ have
        if all(name.endswith("bias") for name in gained):
            found |= dict.fromkeys(gained - found.keys(), flag)
    return found


def set_all(config: Any, flags: Iterable[Flag]) -> Any:
    """A copy of a configuration with some entries turned on."""
    config = copy.deepcopy(config)
    for flag in flags:
        flag.set(config)
    return config


def _candidates(config: Any) -> Iterator[Flag]:
    text = config.get_text_config()
    for in_text, part in ((True, text),) if text is config else ((True, text), (False, config)):
        for name, value in part.to_dict().items():
            if "bias" in name and value is False:
                yield Flag(name, in_text and text is not config)
