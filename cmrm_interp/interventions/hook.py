"""Hook: any function of an activation, as TransformerLens users write them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.hooks import expand
from cmrm_interp.interventions.base import Chosen, Intervention, Step, as_tuple, check_shape
from cmrm_interp.positions import Position, check_position


@dataclass(frozen=True)
class Hook(Intervention):
    """Any function ``(activation, hook_name) -> activation``, as in TransformerLens.

    Attributes:
        hooks: hook points or patterns.
        fn: is given the whole activation (``batch pos ...``) and returns one of the same shape, or None.
        positions: tokens that the function is given inside a `Gate`; outside it chooses tokens itself.
    """

    hooks: str | Iterable[str]
    fn: Callable[[Tensor, str], Tensor | None]
    positions: Position = "all"

    def __post_init__(self) -> None:
        """Keep the patterns as they are now; refuse what is no position."""
        check_position(self.positions)
        object.__setattr__(self, "hooks", as_tuple(self.hooks))

    def targets(self, names: Sequence[str]) -> list[str]:
        """Hook points that the patterns mean."""
        return expand(self.hooks, names)

    def apply(self, activation: Tensor, hook: str, step: Step) -> Tensor:
        """What the function returns; the function gets a copy, so that editing in place is safe."""
        given = activation.clone()
        result = self.fn(given, hook)
        result = given if result is None else result
        check_shape(result.shape, activation.shape, hook)
        return result

    def edit(self, x: Float[Tensor, "n *shape"], chosen: Chosen) -> Float[Tensor, "n *shape"]:
        """The function on some tokens alone (inside a Gate)."""
        result = self.fn(x.clone(), chosen.hook)
        return x if result is None else result
