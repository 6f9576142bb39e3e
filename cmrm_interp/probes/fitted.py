"""`Probe`: a linear classifier fitted on all the data, to score activations, to steer with, to gate by."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Bool, Float, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from cmrm_interp.hooks import expand
from cmrm_interp.probes.examples import Groups, Labels, examples_of
from cmrm_interp.probes.fitting import fit
from cmrm_interp.probes.parameters import interpolated, parameters
from cmrm_interp.probes.settings import Kind, ProbeSettings
from cmrm_interp.store import load, save

KIND = "probe"
_PARTS = ("weights", "biases", "steps")


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier at one hook point or more: ``score = x . weights + bias``, in the activation's own units.

    Attributes:
        weights: by hook point, of one activation's shape.
        biases: by hook point, one number each.
        steps: by hook point, scores and the probabilities that isotonic calibration gives them (``2 k``, linear in
            between); where there are none, the probability is the logistic function of the score.
        kind: how it was fitted.
        model: fingerprint of the model that it was fitted on; None is not checked.
    """

    weights: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]
    steps: Mapping[str, Tensor] = field(default_factory=dict)
    kind: Kind = "logistic"
    model: str | None = None

    @classmethod
    def fit(
        cls,
        activations: Activations,
        labels: Labels,
        groups: Groups | None = None,
        kind: Kind = "logistic",
        seed: int = 0,
        **settings: Any,
    ) -> "Probe":
        """A probe at every hook point of some activations, fitted on all rows (see `probe` for how good it is).

        Args:
            activations: one row a prompt.
            labels: True or False for each row.
            groups: as in `probe`; the inner folds that choose penalty and calibration keep them together.
            kind: ``logistic``, ``mean_difference`` or ``lda``.
            seed: of the inner folds.
            **settings: other fields of `ProbeSettings`.

        Raises:
            InputError, MismatchError: as in `probe`.
        """
        how = ProbeSettings.of(kind=kind, seed=seed, **settings)
        if how.positions == "each":
            raise InputError("a Probe has one direction a hook point: capture one position, or use 'tokens' or 'mean'")
        found = {}
        for part in examples_of(activations, labels, groups, how.positions):
            weights, bias, steps = parameters(fit(part.wide().x, part.y, part.groups, how))
            found[part.hook] = (weights.reshape(part.shape), bias, steps)
        steps = {hook: steps for hook, (_, _, steps) in found.items() if steps is not None}
        weights, biases = ({hook: parts[i] for hook, parts in found.items()} for i in (0, 1))
        return cls(weights, biases, steps, kind, activations.model)

    def __repr__(self) -> str:
        """Kind and hook points, one line."""
        hooks = self.hooks
        span = hooks[0] if len(hooks) == 1 else f"{hooks[0]} ... {hooks[-1]} ({len(hooks)})"
        return f"Probe({self.kind} at {span})"

    @property
    def hooks(self) -> list[str]:
        """Hook points that it can score."""
        return list(self.weights)

    def at(self, hooks: str) -> "Probe":
        """Only some of its hook points (a name or pattern).

        Raises:
            HookPointError: there is none of that name.
        """
        names = expand(hooks, self.hooks, whole=False)
        kept = [{name: part[name] for name in names if name in part} for part in self._parts()]
        return replace(self, weights=kept[0], biases=kept[1], steps=kept[2])

    def score(self, x: Activations | Float[Tensor, "*rows d_model"], hook: str | None = None) -> Float[Tensor, "*rows"]:
        """Log-odds of True (before isotonic calibration, where there is one).

        Args:
            x: activations, or a tensor that ends in one activation's shape.
            hook: which hook point; may be left out where the probe has one.

        Raises:
            HookPointError: the probe has several points and none was named, or lacks the one that was.
            MismatchError: activations of another model or width.
        """
        name = self._hook(hook)
        if isinstance(x, Activations):
            self._check_model(x)
            x = x[name]
        weights = self.weights[name]
        if x.shape[x.ndim - weights.ndim :] != weights.shape:
            raise MismatchError(
                f"activations of shape {tuple(x.shape)} do not end in {tuple(weights.shape)}, what the probe at"
                f" {name!r} was fitted on"
            )
        flat = x.float().reshape(*x.shape[: x.ndim - weights.ndim], -1)
        return flat @ weights.flatten().to(x.device) + self.biases[name].to(x.device)

    def probability(
        self, x: Activations | Float[Tensor, "*rows d_model"], hook: str | None = None
    ) -> Float[Tensor, "*rows"]:
        """Probability of True; see `score`."""
        score, name = self.score(x, hook), self._hook(hook)
        return torch.sigmoid(score) if name not in self.steps else interpolated(score, self.steps[name])

    def direction(self) -> Directions:
        """The weights as directions, for `Add`, `Subtract` and `ProjectOut`.

        Moving an activation by ``v`` changes its score by ``v . direction``. Its length is in log-odds a unit of the
        activation, so choose ``alpha`` for ``direction().unit()``.
        """
        return Directions(dict(self.weights), rows="one", model=self.model, method=f"{self.kind} probe")

    def condition(self, threshold: float = 0.5) -> "ProbeAbove":
        """The condition of a `Gate`: the probability of True at the token is above a threshold.

        A gate asks at its own hook points, so the probe must have each point that the gated intervention edits.

        Raises:
            InputError: a threshold that is no probability.
        """
        return ProbeAbove(self, threshold)

    def transfer(self) -> "Probe":
        """The same probe without the record of its model, to be used on another one on purpose."""
        return replace(self, model=None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file, whole or not at all.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
        """
        tensors = {
            f"{part}:{hook}": tensor
            for part, table in zip(_PARTS, self._parts(), strict=True)
            for hook, tensor in table.items()
        }
        save(path, tensors, {"kind": KIND, "probe": self.kind, "model": self.model, "hooks": self.hooks})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Probe":
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing, damaged or of another kind.
        """
        tensors, header = load(path, kind=KIND)
        names = [[(h, f"{part}:{h}") for h in header["hooks"]] for part in _PARTS]
        weights, biases, steps = ({h: tensors[key] for h, key in keys if key in tensors} for keys in names)
        return cls(weights, biases, steps, header["probe"], header["model"])

    def _parts(self) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor]]:
        return self.weights, self.biases, self.steps

    def _hook(self, hook: str | None) -> str:
        if hook is not None and hook in self.weights:
            return hook
        names = self.hooks if hook is None else expand(hook, self.hooks, whole=False)
        if len(names) != 1:
            raise HookPointError(f"this probe has {len(names)} hook points, {names[0]} first: say which, hook=...")
        return names[0]

    def _check_model(self, x: Activations) -> None:
        if self.model is not None and x.model is not None and self.model != x.model:
            raise MismatchError(
                f"this probe was fitted on another model ({self.model}; these activations are of {x.model}): fit it"
                " again, or call probe.transfer() to use it on purpose"
            )


@runtime_checkable
class _Told(Protocol):
    """What a condition needs to know of the chosen tokens."""

    @property
    def hook(self) -> str:
        """Hook point."""
        ...


@dataclass(frozen=True)
class ProbeAbove:
    """Condition of a `Gate`: a probe's probability is above a threshold.

    Attributes:
        probe: has every hook point of the gated intervention.
        threshold: from 0 to 1.
    """

    probe: Probe
    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a threshold that is no probability."""
        if not (math.isfinite(self.threshold) and 0 <= self.threshold <= 1):
            raise InputError(f"the threshold is {self.threshold}: give a probability from 0 to 1")

    @property
    def directions(self) -> Directions:
        """By which a run knows the probe's model and width."""
        return self.probe.direction()

    def __call__(self, x: Float[Tensor, "n *shape"], chosen: _Told) -> Bool[Tensor, " n"]:
        """Whether the probability at each token is above the threshold."""
        if chosen.hook not in self.probe.weights:
            raise HookPointError(
                f"the gate edits {chosen.hook!r}, where the probe was not fitted ({', '.join(self.probe.hooks[:4])}):"
                " fit it there, or choose the intervention's layers"
            )
        return self.probe.probability(x, chosen.hook) > self.threshold
