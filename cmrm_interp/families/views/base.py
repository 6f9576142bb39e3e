"""What every view is, and what it may look at."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from transformers.utils.generic import ModelOutput

from cmrm_interp.axes import Tensor


class Both(NamedTuple):
    """What a module was given and what it returned; a write changes what it returns.

    A norm also keeps the scale that was written, by which an output before the gain is seen to be divided.
    """

    given: Any
    returned: Any
    scale: Tensor | None = None


@dataclass
class Frame:
    """What a view may need besides the raw value.

    Attributes:
        modules: modules of the Hugging Face model by path.
        inputs: tensors that the model was called with.
        needed: hook points that some view of this pass looks back at.
        seen: their values, as far as they were met in this forward pass, edits included.
    """

    modules: Mapping[str, Any]
    inputs: Mapping[str, Any]
    needed: frozenset[str] = frozenset()
    seen: dict[str, Tensor] = field(default_factory=dict)

    def parameter(self, module: str, name: str = "weight") -> Tensor | None:
        """A module's parameter (or number), fetched from where accelerate has offloaded it; None if it has none."""
        owner = self.modules[module]
        found = getattr(owner, name, None)
        if isinstance(found, float):
            return torch.tensor(found)
        if found is None or found.device.type != "meta":
            return found
        from accelerate.utils import align_module_device

        with align_module_device(owner):
            return getattr(owner, name).detach()


class View(ABC):
    """One way to see the value at a module as an activation."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Hook points, earlier in the pass, whose values this view uses."""
        return ()

    @abstractmethod
    def read(self, raw: Any, frame: Frame) -> Tensor:
        """Activation in a raw value."""

    @abstractmethod
    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """Raw value in which the activation `old` has become `new`."""


def first(raw: Any) -> Tensor:
    """The tensor itself, or the first of a tuple or of a `ModelOutput`."""
    return raw[0] if isinstance(raw, tuple | list | ModelOutput) else raw


def replace_first(raw: Any, new: Tensor) -> Any:
    """The new tensor, or the tuple (or `ModelOutput`) with it in the first place."""
    if isinstance(raw, ModelOutput):
        return type(raw)(**{**raw, next(iter(raw)): new})
    return (new, *raw[1:]) if isinstance(raw, tuple | list) else new
