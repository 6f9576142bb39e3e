"""Which parameter has to hold which part of an intervention, or why none can."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.bake.edits import Move, Op, Shrink, chained, linear_part
from cmrm_interp.bake.writers import Place, Writer
from cmrm_interp.errors import InputError

# Of an orthogonal direction, what single-precision vectors leave.
_CLEAN = 1e-6


@dataclass
class Plan:
    """Affine maps to apply to writers, each a list in order.

    Attributes:
        ops: by writer.
    """

    ops: dict[Writer, list[Op]] = field(default_factory=dict)

    def of(self, writer: Writer) -> list[Op]:
        """The maps of a writer so far."""
        return self.ops.setdefault(writer, [])

    def constant(self, writer: Writer, width: int) -> Tensor:
        """What a zero output of a writer becomes."""
        return chained(self.of(writer), torch.zeros(width, dtype=torch.float64))

    def has_constant(self, writer: Writer) -> bool:
        """Whether a constant is added on the way."""
        return any(op.constant is not None for op in self.of(writer))

    @property
    def constants(self) -> set[str]:
        """Parameters that have to hold a constant."""
        return {writer.constant for writer in list(self.ops) if writer.constant and self.has_constant(writer)}

    def is_linear(self, writer: Writer) -> bool:
        """Whether weights have to change, and not a constant alone."""
        return any(not isinstance(op, Move) for op in self.of(writer))


def plan_of(edits: Mapping[str, Sequence[Op]], places: Sequence[Place], holds: Callable[[Writer], bool]) -> Plan:
    """Give each edit to the writers that can hold it.

    Args:
        edits: maps by hook point.
        places: what writes to the stream, in forward order.
        holds: whether a writer has, or can be given, a parameter for a constant.

    Raises:
        InputError: an edit of the stream that is no edit of single writers.
    """
    plan, left, earlier = Plan(), dict(edits), list[Writer]()
    for place in places:
        for writer in place.writers:
            for point in writer.points:
                plan.of(writer).extend(left.pop(point, ()))
        for point, writers in place.seen:
            for op in left.pop(point, ()):
                if isinstance(op, Move):
                    for writer in _takers(place, holds):
                        plan.of(writer).append(op)
                else:
                    _at_stream(plan, op, point, writers, earlier)
        earlier += place.writers
    if left:
        raise InputError(
            f"{next(iter(left))!r} cannot be baked: weights hold edits of the residual stream (hook_resid_pre,"
            " hook_resid_mid, hook_resid_post), of what is added to it (hook_attn_out, hook_mlp_out) and of embeddings"
        )
    return plan


def _takers(place: Place, holds: Callable[[Writer], bool]) -> Sequence[Writer]:
    """Writers that a constant of the stream goes to."""
    if place.split:
        return place.writers
    every_token = place.seen[0][1]
    return [next(filter(holds, every_token), every_token[0])]


def _at_stream(plan: Plan, op: Op, point: str, writers: Sequence[Writer], earlier: Sequence[Writer]) -> None:
    if not isinstance(op, Shrink):
        raise InputError(
            f"Ablate at {point!r} cannot be baked: it replaces all that was written before;"
            " ablate hook_attn_out or hook_mlp_out, which are single layers' outputs"
        )
    for writer in writers:
        plan.of(writer).append(op)
    left = [writer for writer in earlier if not _is_clean(plan, writer, op)]
    if left:
        raise InputError(_partial(point, left))


def _is_clean(plan: Plan, writer: Writer, op: Shrink) -> bool:
    """Whether a projection leaves everything that a writer gives as it is."""
    left = linear_part(plan.of(writer)[::-1], op.rows)
    constant = plan.constant(writer, op.rows.shape[-1])
    along = float((op.rows @ constant).norm())
    return float(left.abs().max()) < _CLEAN and along <= _CLEAN * max(float(constant.norm()), 1.0)


def _partial(point: str, left: Sequence[Writer]) -> str:
    whats = [writer.what for writer in left]
    names = whats[0] if len(whats) == 1 else f"{whats[0]} (and {len(whats) - 1} more)"
    return (
        f"ProjectOut at {point!r} cannot be baked: there the stream still holds {names} along these directions, and"
        " weights change only what is written, not what is read at one layer. They can hold the ablation of the whole"
        " stream, with alpha 1 and one direction or subspace: ProjectOut(ci.whole_stream(model, v)),"
        " with additions (if any) orthogonal to it; or ProjectOut of any alpha at hook_attn_out and hook_mlp_out of"
        " single layers"
    )
