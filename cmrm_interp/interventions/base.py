"""What every intervention is: hook points, positions, and an edit of the chosen tokens."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.errors import HookPointError, MismatchError
from cmrm_interp.hooks import check_layers, layer_of, pos_axis, stack_sizes
from cmrm_interp.positions import Position, Selector, Tokens, as_selector

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One forward pass over one batch: the tokens in it and which prompts its rows are.

    Attributes:
        tokens: real, image and new tokens of the pass.
        rows: index of each row in the whole of the inputs.
        has_image: whether each row's prompt has an image.
        kept: what was worked out already (it is the same at every layer, and at new tokens of the same phase).
        prompt: tokens of the prompt, in a pass over a new token.
    """

    tokens: Tokens
    rows: Int[Tensor, " batch"]
    has_image: Bool[Tensor, " batch"]
    kept: dict[Any, Any] = field(default_factory=dict)
    prompt: Tokens | None = None

    @property
    def number(self) -> int:
        """0 for the prompt; k for the pass over the k-th new token of a generation."""
        return self.tokens.step

    def at(self, number: int) -> "Step":
        """The pass over the `number`-th new token of the same batch (0: this one, over the prompt)."""
        if number == self.number:
            return self
        # Asked for at every layer of every step, so the masks are made once.
        later = _once(self.kept, "new token", self.tokens.new_token)
        return replace(self, tokens=later.new_token(number), prompt=self.prompt or self.tokens)

    def so_far(self, position: Position) -> Bool[Tensor, "batch key"]:
        """Which tokens of the prompt and of all passes since, this one included, a position means: the keys there are.

        Raises:
            HookPointError: the prompt of these new tokens is not known.
        """
        selector, prompt = as_selector(position), self.prompt or self.tokens
        if prompt.generated:
            raise HookPointError("the prompt of these new tokens is not known: make their step by Step.at")
        done, mask = self.kept.get(("so far", selector), (self.number + 1, prompt.real))
        masks = [mask] if done <= self.number else [selector.mask(prompt)]
        first = done + 1 if done <= self.number else 1
        masks += [selector.mask(prompt.new_token().new_token(number)) for number in range(first, self.number + 1)]
        self.kept["so far", selector] = (self.number, torch.cat(masks, 1))
        return self.kept["so far", selector][1]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is made at the first layer of this pass and used again at later ones."""
        if self.kept.get("pass", (None,))[0] != self.number:
            self.kept["pass"] = (self.number, {})
        return _once(self.kept["pass"][1], key, make)

    def select(
        self, position: Position, width: int, device: torch.device | str = "cpu"
    ) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
        """Rows and columns of the chosen tokens, in an activation with `width` positions."""
        selector = as_selector(position)

        def _find() -> tuple[Tensor, Tensor]:
            # Logits may be computed for the last columns alone; those are the ones that are kept.
            rows, columns = selector.mask(self.tokens)[:, -width:].nonzero(as_tuple=True)
            # An index that is not where the activation is would stop a GPU at every layer of every step.
            return rows.to(device), columns.to(device)

        return self._in_phase(selector, (width, device), _find)

    def chosen(self, position: Position, width: int, hook: str) -> "Chosen":
        """What an edit is told of the chosen tokens."""
        selector = as_selector(position)

        def _find() -> Chosen:
            rows = self.select(selector, width)[0]
            return Chosen(hook, self.rows[rows], _order(rows), self.has_image[rows])

        return replace(self._in_phase(selector, ("chosen", width), _find), hook=hook)

    def _in_phase(self, selector: Selector, what: Hashable, make: Callable[[], T]) -> T:
        generated = self.tokens.generated
        phase, key = selector.phase(self.number), (selector, what, generated)
        # Only the last phase is kept: a long answer may have one for each of its tokens.
        if key not in self.kept or self.kept[key][0] != phase:
            self.kept[key] = (phase, make())
        return self.kept[key][1]


@dataclass(frozen=True)
class Chosen:
    """The tokens that an edit is given: ``n`` of them, run together over rows and positions.

    Attributes:
        hook: hook point.
        rows: which prompt each belongs to (index in the whole of the inputs).
        order: number of the token among the chosen ones of its row, from 0.
        has_image: whether its prompt has an image.
        kept: tensors that edits have already moved to the activation's place, for the next new token.
    """

    hook: str
    rows: Int[Tensor, " n"]
    order: Int[Tensor, " n"]
    has_image: Bool[Tensor, " n"]
    kept: dict[Any, Tensor] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        """A tensor that is made at the first token and used again at later ones."""
        return _once(self.kept, key, make)


class Intervention(ABC):
    """Base of all interventions: where they act, and how a part of an activation is replaced."""

    positions: Position

    @property
    def by_token(self) -> bool:
        """Whether an edit depends on the chosen tokens alone, so that a pass over these tokens is enough for it.

        One that replaces `apply` is given the activation of all tokens, and is not, unless it says so.
        """
        return type(self).apply is Intervention.apply

    @property
    def asked(self) -> tuple[Position, ...]:
        """Every position that it asks the tokens for."""
        return (self.positions,)

    @abstractmethod
    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points among `names` (all of the model's, in forward order) at which it acts."""

    def reads(self, names: Sequence[str]) -> list[str]:
        """Those of its hook points at which it only looks, and changes nothing."""
        return []

    @abstractmethod
    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """New values of the activations at the chosen tokens."""

    def apply(self, activation: Tensor, hook: str, step: Step) -> Tensor:
        """The activation with the chosen tokens edited; a new tensor, or the old one if none is chosen."""
        axis = pos_axis(hook)
        moved = activation.movedim(axis, 1)
        rows, columns = step.select(self.positions, moved.shape[1], moved.device)
        if rows.numel() == 0:
            return activation
        out = moved.clone()
        new = self.edit(moved[rows, columns], step.chosen(self.positions, moved.shape[1], hook))
        out[rows, columns] = new.to(moved.dtype)
        return out.movedim(1, axis)


class Around(Intervention):
    """Base of what acts where another intervention acts, and changes what comes of it.

    Attributes:
        intervention: the inner one; a field that each kind declares at its own place.
    """

    intervention: Intervention

    @property
    def positions(self) -> Position:  # type: ignore[override]
        """Positions of the inner intervention."""
        return self.intervention.positions

    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points of the inner intervention."""
        return self.intervention.targets(names)


def check_shape(given: Sequence[int], wanted: Sequence[int], hook: str) -> None:
    """Refuse values that do not fit the activation at a hook point.

    Raises:
        MismatchError: the shapes differ.
    """
    if tuple(given) != tuple(wanted):
        raise MismatchError(f"shape {tuple(given)} does not fit {tuple(wanted)} at {hook!r}: made on another model?")


def as_tuple(hooks: str | Iterable[str]) -> tuple[str, ...]:
    """Patterns as a tuple, whether one was given or several."""
    return (hooks,) if isinstance(hooks, str) else tuple(hooks)


def freeze_layers(intervention: Any) -> None:
    """Keep the layers of a frozen intervention as a tuple, whether one was given or several."""
    layers = intervention.layers
    if isinstance(layers, int):
        layers = (layers,)
    object.__setattr__(intervention, "layers", None if layers is None else tuple(layers))


def at_layers(found: list[str], layers: int | Iterable[int] | None, names: Sequence[str]) -> list[str]:
    """Hook points at the chosen layers of the decoder.

    Raises:
        HookPointError: a layer that there is not, or none of the hook points is at these layers.
    """
    chosen = check_layers(layers, stack_sizes(names).get("blocks", 0))
    if chosen is None:
        return found
    kept = [name for name in found if layer_of(name) in chosen]
    if not kept:
        raise HookPointError(f"nothing to do at layers {list(chosen)}: there is {found[0]} ... {found[-1]}")
    return kept


def _once(kept: dict[Any, T], key: Any, make: Callable[[], T]) -> T:
    if key not in kept:
        kept[key] = make()
    return kept[key]


def _order(rows: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    # rows come sorted, so the first place of each row number is found by search.
    return torch.arange(rows.numel(), device=rows.device) - torch.searchsorted(rows, rows)
