"""Objects of steering-vectors and of RepE, as they are in memory."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.hooks import layer_of

# Where steering-vectors adds: the output of the module that it calls by this name.
_POINTS = {
    "decoder_block": "blocks.{layer}.hook_resid_post",
    "self_attn": "blocks.{layer}.hook_attn_out",
    "mlp": "blocks.{layer}.hook_mlp_out",
}


@runtime_checkable
class SteeringVectorLike(Protocol):
    """`steering_vectors.SteeringVector` (0.12.2): block number to vector, and the kind of module."""

    layer_activations: dict[int, Any]
    layer_type: Any


@runtime_checkable
class RepReaderLike(Protocol):
    """RepE's `RepReader` (repe 0.1.4): layer to ``components d_model``, and layer to a sign for each component."""

    directions: Any
    direction_signs: Any


def from_steering_vectors(vector: SteeringVectorLike, n_layers: int | None = None) -> Directions:
    """Directions of a `steering_vectors.SteeringVector`; added everywhere, they do what it does.

    Where a family normalises the output of attention or MLP (Gemma 2 and 3), it adds before that norm, and
    ``hook_attn_out`` and ``hook_mlp_out`` are after it: there only ``decoder_block`` is the same.

    Args:
        vector: the object; vectors of any shape with ``d_model`` entries.
        n_layers: of the model, needed for negative layer numbers alone.

    Raises:
        InputError: it is no such object, holds nothing, or is of a kind that is no hook point of the stream.
        HookPointError: a layer that the model does not have.
    """
    if not isinstance(vector, SteeringVectorLike):
        raise InputError(f"a {type(vector).__name__} is no steering_vectors.SteeringVector")
    kind = vector.layer_type
    if kind not in _POINTS:
        raise InputError(f"layer_type {kind!r} has no hook point here: there are {', '.join(_POINTS)}")
    found = {
        _block(layer, n_layers): _as_tensor(value).reshape(-1) for layer, value in vector.layer_activations.items()
    }
    tensors = {_POINTS[kind].format(layer=layer): found[layer] for layer in sorted(found)}
    return Directions(tensors, method=f"steering_vectors ({kind})")


def to_steering_vectors(directions: Directions) -> dict[str, Any]:
    """What `steering_vectors.SteeringVector` is made of: ``SteeringVector(**to_steering_vectors(directions))``.

    Args:
        directions: one vector (``d_model``) a layer, all at the output of the block, the attention or the MLP.

    Raises:
        InputError: they are at other hook points, at several kinds of them, or more than one vector a layer.
    """
    kinds = {kind for name in directions for kind, point in _POINTS.items() if name == _at(point, name)}
    if len(kinds) != 1 or any(name != _at(_POINTS[next(iter(kinds))], name) for name in directions):
        raise InputError(
            f"a SteeringVector has one kind of {', '.join(point.format(layer='<i>') for point in _POINTS.values())};"
            f" these are at {', '.join(list(directions)[:4])}"
        )
    if any(tensor.ndim != 1 for tensor in directions.values()):
        raise InputError("a SteeringVector has one vector a layer: choose a row, for example with directions.map")
    activations = {layer_of(name): tensor for name, tensor in directions.items()}
    return {"layer_activations": activations, "layer_type": kinds.pop()}


def from_repe(reader: RepReaderLike, n_layers: int, component: int = 0) -> Directions:
    """Directions of a RepE reader, each times its sign, so that adding one raises the concept.

    RepE counts layers as ``output_hidden_states`` does: -1 is the last entry, -k comes out of block ``n_layers - k``,
    and a positive k out of block ``k - 1`` (0 is the embedding, ``blocks.0.hook_resid_pre``). The last entry is read
    after the final norm, and yet RepE adds it before, to the output of the last block; so does this. With positive
    layers RepE's own control adds to the block after the one that was read; this keeps to what was read.

    Args:
        reader: a fitted `PCARepReader`, `ClusterMeanRepReader` or `RandomRepReader`; without signs they are +1.
        n_layers: of the model.
        component: which of the reader's components.

    Raises:
        InputError: it is no such object, was not fitted, or has no such component.
        HookPointError: a layer that the model does not have.
    """
    if not isinstance(reader, RepReaderLike):
        raise InputError(f"a {type(reader).__name__} is no RepE reader")
    found, signs = reader.directions, reader.direction_signs
    if not found:
        raise InputError("this RepE reader has no directions: fit it first (pipeline.get_directions)")
    points = {_hidden_state(layer, n_layers): layer for layer in found}
    tensors = {
        _point(entry): _component(found[layer], component, layer) * _sign(signs, component, layer)
        for entry, layer in sorted(points.items())
    }
    return Directions(tensors, "one", None, f"RepE {type(reader).__name__}, component {component}")


def _at(point: str, name: str) -> str:
    return point.format(layer=layer_of(name))


def _block(layer: int, n_layers: int | None) -> int:
    if layer >= 0 and (n_layers is None or layer < n_layers):
        return layer
    if n_layers is None:
        raise InputError(f"layer {layer} counts from the end: say n_layers=model.n_layers")
    if not -n_layers <= layer < n_layers:
        raise HookPointError(f"no layer {layer}: this model has {n_layers} layers (0-{n_layers - 1})")
    return layer + n_layers


def _hidden_state(layer: int, n_layers: int) -> int:
    """Entry of ``output_hidden_states``, counted from its start."""
    if not -n_layers - 1 <= layer <= n_layers:
        raise HookPointError(f"no hidden state {layer}: a model of {n_layers} layers has 0 to {n_layers}")
    return layer if layer >= 0 else layer + n_layers + 1


def _point(entry: int) -> str:
    return "blocks.0.hook_resid_pre" if entry == 0 else f"blocks.{entry - 1}.hook_resid_post"


def _component(rows: Any, component: int, layer: int) -> Float[Tensor, " d_model"]:
    matrix = torch.atleast_2d(_as_tensor(rows))
    if not 0 <= component < len(matrix):
        raise InputError(f"no component {component} at layer {layer}: this reader has {len(matrix)}")
    return matrix[component]


def _sign(signs: Mapping[int, Any] | None, component: int, layer: int) -> float:
    if not signs:
        return 1.0
    if layer not in signs:
        raise InputError(f"this RepE reader has a direction but no sign at layer {layer}: fit it again")
    return float(signs[layer][component])


def _as_tensor(value: Any) -> Tensor:
    tensor = value.detach().cpu() if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    if not tensor.is_floating_point():
        raise InputError(f"a direction of type {tensor.dtype}: it must hold floating-point numbers")
    return tensor
