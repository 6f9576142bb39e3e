"""What mean and resample ablation put in place: activations of a reference set."""

from collections.abc import Sequence

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Tensor
from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model
from cmrm_interp.positions import Position

Reference = Inputs | Activations


def reference_of(
    model: Model, given: Reference | None, hooks: Sequence[str], positions: Position, kind: str
) -> Activations | None:
    """Activations to put in place; of means, in constant memory.

    Args:
        model: the model.
        given: prompts that are run here, or activations.
        hooks: where they are needed.
        positions: tokens of the reference, alike those that are ablated.
        kind: ``"zero"`` needs none.

    Raises:
        InputError: none given, or fewer than two tokens at a hook point.
    """
    if kind == "zero":
        return None
    if given is None:
        raise InputError(f"{kind} ablation needs reference=: prompts (model.prepare(...)) or activations of them")
    if isinstance(given, Inputs) and len(given) < 2:
        raise InputError(f"a reference of 1 prompt: {kind} ablation needs several, unlike those that are ablated")
    if isinstance(given, Inputs):
        found = _means(model, given, hooks, positions) if kind == "mean" else model.capture(given, hooks, positions)
    else:
        found = given
    for name in hooks:
        if name in found and kind == "resample" and found.selected(name).shape[0] < 2:
            raise InputError(f"the reference has 1 token at {name!r}: {kind} ablation needs several to draw from")
    return found


def _means(model: Model, inputs: Inputs, hooks: Sequence[str], positions: Position) -> Activations:
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for acts in model.stream(inputs, list(hooks), positions):
        for name in acts:
            values = acts.selected(name)
            sums[name] = sums.get(name, torch.zeros(())) + values.double().sum(0)
            counts[name] = counts.get(name, 0) + values.shape[0]
    means = {name: (total / counts[name]).float()[None] for name, total in sums.items()}
    return Activations(means, "last", model=model.fingerprint)
