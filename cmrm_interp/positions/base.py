"""Selectors: positions as values, joined with ``|``, ``&`` and ``~``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cmrm_interp.axes import Bool, Tensor
from cmrm_interp.positions.tokens import Tokens

if TYPE_CHECKING:
    from cmrm_interp.positions.names import Position


class Selector(ABC):
    """A position as a frozen value: which tokens of a pass are meant.

    Selectors that are made alike are equal, print as the call that makes them, and can be written to files.
    """

    @abstractmethod
    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Mask of the chosen tokens.

        Args:
            tokens: the tokens of the pass.

        Raises:
            HookPointError: a row has no such token, or what is asked for is not known of these tokens.
        """

    def phase(self, step: int) -> Hashable:
        """What the choice depends on: it is the same in two passes over new tokens whose phases are equal.

        Args:
            step: 0 for the prompt; k for the pass over the k-th new token.
        """
        return step > 0

    @property
    def in_prompt(self) -> bool:
        """Whether tokens of a prompt can be meant."""
        return True

    @property
    def single(self) -> bool:
        """Whether exactly one token of each prompt is meant."""
        return False

    def __or__(self, other: "Position") -> "Selector":
        """Tokens of either."""
        return Either(_parts(Either, self, other))

    def __and__(self, other: "Position") -> "Selector":
        """Tokens of both."""
        return Both(_parts(Both, self, other))

    def __ror__(self, other: "Position") -> "Selector":
        """Tokens of either."""
        return Either(_parts(Either, other, self))

    def __rand__(self, other: "Position") -> "Selector":
        """Tokens of both."""
        return Both(_parts(Both, other, self))

    def __invert__(self) -> "Selector":
        """Every other real token, new ones included."""
        return Not(self)


@dataclass(frozen=True, repr=False)
class Either(Selector):
    """Union.

    Attributes:
        parts: of the union.
    """

    parts: tuple[Selector, ...]

    def __repr__(self) -> str:
        """The expression that makes it."""
        return f"({' | '.join(map(repr, self.parts))})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Tokens of any part."""
        return torch.stack([part.mask(tokens) for part in self.parts]).any(0)

    def phase(self, step: int) -> Hashable:
        """Phases of the parts."""
        return tuple(part.phase(step) for part in self.parts)

    @property
    def in_prompt(self) -> bool:
        """Whether a part can mean tokens of a prompt."""
        return any(part.in_prompt for part in self.parts)


@dataclass(frozen=True, repr=False)
class Both(Selector):
    """Intersection.

    Attributes:
        parts: of the intersection.
    """

    parts: tuple[Selector, ...]

    def __repr__(self) -> str:
        """The expression that makes it."""
        return f"({' & '.join(map(repr, self.parts))})"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Tokens of all parts."""
        return torch.stack([part.mask(tokens) for part in self.parts]).all(0)

    def phase(self, step: int) -> Hashable:
        """Phases of the parts."""
        return tuple(part.phase(step) for part in self.parts)

    @property
    def in_prompt(self) -> bool:
        """Whether all parts can mean tokens of a prompt."""
        return all(part.in_prompt for part in self.parts)


@dataclass(frozen=True, repr=False)
class Not(Selector):
    """Every real token that a selector does not mean.

    Attributes:
        part: the selector.
    """

    part: Selector

    def __repr__(self) -> str:
        """The expression that makes it."""
        return f"~{self.part!r}"

    def mask(self, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """Every other real token."""
        return tokens.real & ~self.part.mask(tokens)

    def phase(self, step: int) -> Hashable:
        """Phase of the part."""
        return self.part.phase(step)

    def __invert__(self) -> Selector:
        """The selector itself."""
        return self.part


def _parts(kind: Callable[..., Selector], *positions: "Position") -> tuple[Selector, ...]:
    from cmrm_interp.positions.names import as_selector

    parts = [as_selector(position) for position in positions]
    # a | b | c is one union of three.
    return tuple(inner for part in parts for inner in _flat(part, kind))


def _flat(part: Selector, kind: object) -> tuple[Selector, ...]:
    return part.parts if isinstance(part, Either | Both) and type(part) is kind else (part,)
