"""The hook points of one norm."""

from collections.abc import Iterator, Mapping

from torch import nn

from cmrm_interp.families.maps import Point
from cmrm_interp.families.views import AS_IS, Norm, Normalized, Scale, Shape
from cmrm_interp.families.views.norms import centred

_EPSILONS = ("variance_epsilon", "eps", "epsilon")


def norm_points(
    name: str, path: str, modules: Mapping[str, nn.Module], gain_offset: float, shape: Shape = AS_IS
) -> Iterator[Point]:
    """Scale and output before the gain of one norm."""
    norm = norm_of(path, modules, gain_offset)
    yield Point(f"{name}.hook_scale", path, "both", Scale(norm), shape)
    yield Point(f"{name}.hook_normalized", path, "both", Normalized(norm), shape)


def norm_of(path: str, modules: Mapping[str, nn.Module], gain_offset: float) -> Norm:
    """What a norm computes, by its class and attributes."""
    module = modules.get(path)
    if module is None:
        return Norm(path)
    epsilon = next((float(getattr(module, name)) for name in _EPSILONS if name in vars(module)), 0.0)
    plain = centred(module)
    return Norm(path, plain, epsilon, 0.0 if plain else gain_offset)
