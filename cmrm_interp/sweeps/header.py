"""What a sweep is: axes, metrics, and what it was run with; by which its folder knows it again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from cmrm_interp.errors import MismatchError, StoreError
from cmrm_interp.inputs import digest
from cmrm_interp.metrics import Metric
from cmrm_interp.model import Model
from cmrm_interp.provenance import Provenance
from cmrm_interp.records import Scalar
from cmrm_interp.signature import Signer
from cmrm_interp.sweeps.plan import Plan

VERSION = 1
# What must be equal for a folder to be gone on with, and what it is called in the error.
_SAME = {
    "model": "model",
    "inputs": "inputs",
    "axes": "axes",
    "metrics": "metrics",
    "interventions": "interventions",
    "prompts": "number of prompts",
}


@dataclass(frozen=True)
class About:
    """What is to be known of a metric's numbers.

    Attributes:
        name: of the metric.
        unit: of the numbers.
        share: whether each is 0 or 1.
        signature: of the metric.
    """

    name: str
    unit: str = ""
    share: bool = False
    signature: str = ""


@dataclass(frozen=True)
class Header:
    """What a sweep is.

    Attributes:
        axes: labels by axis.
        input_axes: axes on which the inputs depend.
        metrics: in their order.
        prompts: of each cell.
        model: fingerprint.
        inputs: fingerprints, one for each set of inputs; none where no folder was asked for.
        interventions: hash of all cells' interventions, as far as they can be known.
        provenance: what it was made with.
    """

    axes: Mapping[str, tuple[Scalar, ...]]
    input_axes: tuple[str, ...]
    metrics: tuple[About, ...]
    prompts: int
    model: str | None = None
    inputs: tuple[str, ...] = ()
    interventions: str = ""
    provenance: Provenance = field(default_factory=Provenance)

    @classmethod
    def of(cls, model: Model, plan: Plan, metrics: Mapping[str, Metric], signed: bool) -> "Header":
        """The header of a plan.

        Args:
            model: the model.
            plan: what will be run.
            metrics: by name.
            signed: whether inputs and interventions are hashed, too (all images are read for it).
        """
        sign = Signer()
        about = tuple(About(name, m.unit, m.share, sign(m) if signed else "") for name, m in metrics.items())
        inputs = tuple(group.inputs.fingerprint() for group in plan.groups) if signed else ()
        acting = digest(sign(run.acting) for run in plan.runs) if signed else ""
        axes = {axis.name: axis.labels for axis in plan.grid.axes}
        made_with = Provenance(model.name, model.revision, model.fingerprint)
        return cls(axes, plan.input_axes, about, plan.prompts, model.fingerprint, inputs, acting, made_with)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values of each axis."""
        return tuple(len(labels) for labels in self.axes.values())

    @property
    def clean_shape(self) -> tuple[int, ...]:
        """The same for the clean runs: 1 along axes on which the inputs do not depend."""
        return tuple(len(labels) if name in self.input_axes else 1 for name, labels in self.axes.items())

    @property
    def n_runs(self) -> int:
        """Cells and clean runs."""
        return prod(self.shape) + prod(self.clean_shape)

    def check(self, found: "Header", folder: Path) -> None:
        """Refuse to go on with another sweep.

        Raises:
            MismatchError: the folder's header is another.
        """
        for name, what in _SAME.items():
            theirs, ours = getattr(found, name), getattr(self, name)
            # The order of axes is that of the cells.
            if theirs != ours or (name == "axes" and list(theirs) != list(ours)):
                raise MismatchError(
                    f"{folder} holds another sweep: its {what} differ ({_short(theirs)} there, {_short(ours)} here);"
                    " use another folder, or remove this one"
                )

    def to_json(self) -> bytes:
        """The header as a file."""
        return json.dumps({"cmrm_interp": VERSION, "kind": "sweep", **asdict(self)}, indent=1).encode()

    @classmethod
    def read(cls, path: Path) -> "Header":
        """The header in a file.

        Raises:
            StoreError: it is not there, or no header of a sweep.
        """
        if not path.is_file():
            raise StoreError(f"{path} does not exist: there is no sweep in that folder")
        try:
            return _parsed(json.loads(path.read_bytes()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{path} is no header of a sweep ({error}): remove the folder and start again") from error


def _parsed(data: dict[str, Any]) -> Header:
    if data.pop("kind") != "sweep" or data.pop("cmrm_interp") != VERSION:
        raise ValueError(f"of another kind, or not of version {VERSION}")
    return Header(
        axes={name: tuple(labels) for name, labels in data.pop("axes").items()},
        input_axes=tuple(data.pop("input_axes")),
        metrics=tuple(About(**about) for about in data.pop("metrics")),
        inputs=tuple(data.pop("inputs")),
        provenance=Provenance(**data.pop("provenance")),
        **data,
    )


def _short(value: Any) -> str:
    text = ", ".join(about.name for about in value) if value and isinstance(value, tuple) and isinstance(
        value[0], About
    ) else str(value)  # fmt: skip
    return text if len(text) <= 80 else f"{text[:77]}..."
