"""Interventions checked against a model before anything runs."""

from collections.abc import Sequence
from typing import Any

from cmrm_interp.directions import Directions
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from cmrm_interp.inputs import Inputs, need_inputs
from cmrm_interp.interventions import Around, Intervention

_STREAM = (".hook_resid_pre", ".hook_resid_mid", ".hook_resid_post", ".hook_attn_out", ".hook_mlp_out")


def vet(model: Any, inputs: Inputs, interventions: Sequence[Intervention] | Intervention) -> tuple[Intervention, ...]:
    """Interventions as a tuple, each one checked.

    Args:
        model: has ``fingerprint``, ``d_model``, ``name`` and ``hook_points``.
        inputs: what they will be applied to.
        interventions: one or several.

    Raises:
        InputError: not an intervention, or no inputs.
        HookPointError: a hook point, layer or position that the model does not have.
        MismatchError: directions of another model, width or number of rows.
    """
    need_inputs(inputs)
    acting = (interventions,) if isinstance(interventions, Intervention) else tuple(interventions)
    for intervention in acting:
        if not isinstance(intervention, Intervention):
            raise InputError(
                f"{type(intervention).__name__} is no intervention: use Subtract(...), Hook(hooks, fn), ..."
            )
        need_images(model, inputs, intervention.targets(model.hook_points))
        for directions in _directions(intervention):
            _check(model, inputs, directions)
    return acting


def need_images(model: Any, inputs: Inputs, hooks: Sequence[str]) -> None:
    """Refuse hook points of the vision side for inputs without any image.

    Raises:
        HookPointError: a point that no row of the inputs would reach.
    """
    for name in hooks:
        if model.network.needs_image(name) and not inputs.has_images:
            raise HookPointError(
                f"{name!r} is only reached with an image, and none of these {len(inputs)} prompts has one"
            )


def _directions(intervention: Intervention) -> list[Directions]:
    own = [getattr(part, "directions", None) for part in (intervention, getattr(intervention, "condition", None))]
    inner = _directions(intervention.intervention) if isinstance(intervention, Around) else []
    return [v for v in own if isinstance(v, Directions)] + inner


def _check(model: Any, inputs: Inputs, directions: Directions) -> None:
    if directions.model is not None and directions.model != model.fingerprint:
        raise MismatchError(
            f"these directions were made on another model ({directions.model}; this is {model.name},"
            f" {model.fingerprint}): make them again here, or call directions.transfer() to use them on purpose"
        )
    for name, tensor in directions.items():
        if name.endswith(_STREAM) and not name.startswith("vision.") and tensor.shape[-1] != model.d_model:
            raise MismatchError(
                f"the direction at {name!r} has width {tensor.shape[-1]}; this model has d_model {model.d_model}"
            )
        if directions.rows == "batch" and tensor.shape[0] != len(inputs):
            raise MismatchError(f"directions for {tensor.shape[0]} rows and inputs of {len(inputs)} rows")
