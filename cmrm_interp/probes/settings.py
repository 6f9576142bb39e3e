"""How probes are fitted and measured."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from cmrm_interp.errors import InputError
from cmrm_interp.probes.examples import Pooling

Kind = Literal["logistic", "mean_difference", "lda"]
KINDS: tuple[Kind, ...] = ("logistic", "mean_difference", "lda")
Calibration = Literal["sigmoid", "isotonic"]


@dataclass(frozen=True)
class ProbeSettings:
    """What `probe`, `Probe.fit` and `probe_transfer` can be told by keyword.

    Attributes:
        kind: ``logistic`` (L2, standardised), ``mean_difference`` (threshold at the midpoint) or ``lda`` (shrinkage of
            Ledoit and Wolf).
        seed: of folds, control labels, permutations and resamples.
        folds: outer folds; what is reported is measured on the one that is held out.
        inner_folds: folds within the rest, by which strength and calibration are chosen.
        strengths: inverse strengths ``C`` of the logistic probe's penalty, from which the inner folds choose; a single
            one is taken as it is.
        positions: what to do with several positions a row: ``each``, ``tokens`` or ``mean``.
        calibrate: ``sigmoid`` or ``isotonic`` on the inner folds, or None.
        controls: random labellings of the control task; 0 leaves it out.
        permutations: of the labels, for the p-value; 0 leaves it out.
        resamples: of the bootstrap.

    Raises:
        InputError: a setting that means nothing.
    """

    kind: Kind = "logistic"
    seed: int = 0
    folds: int = 5
    inner_folds: int = 3
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    positions: Pooling | None = None
    calibrate: Calibration | None = None
    controls: int = 1
    permutations: int = 0
    resamples: int = 1000

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, KINDS)
        _check_choice("calibrate", self.calibrate, (None, "sigmoid", "isotonic"))
        _check_choice("positions", self.positions, (None, "each", "tokens", "mean"))
        if not isinstance(self.strengths, tuple | list):
            raise InputError(f"strengths={self.strengths!r}: give several, or one as ({self.strengths!r},)")
        if not self.strengths or min(self.strengths) <= 0:
            raise InputError(f"strengths={self.strengths}: give at least one positive C, for example (0.01, 1.0)")
        for name, least in (("folds", 2), ("inner_folds", 2), ("controls", 0), ("permutations", 0), ("resamples", 100)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}: give a whole number, at least {least}")

    @classmethod
    def of(cls, **settings: Any) -> "ProbeSettings":
        """Settings from keywords.

        Raises:
            InputError: one that there is not.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in settings if name not in known]
        if unknown:
            raise InputError(f"probes have no setting {unknown[0]!r}: there are {', '.join(known)}")
        return cls(**settings)

    @property
    def tuned(self) -> bool:
        """Whether the inner folds have something to choose."""
        return self.kind == "logistic" and len(self.strengths) > 1


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise InputError(f"no {name} {value!r}: use {', '.join(map(repr, choices))}")
