"""What came of one contender on one model, and where it is kept."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cmrm_interp.compare.cost import Cost
from cmrm_interp.errors import StoreError
from cmrm_interp.store import write_whole

FILE = "result.json"
LOGS = "logs"
RECIPE = "recipe.safetensors"


@dataclass(frozen=True)
class Result:
    """One contender on one model.

    Attributes:
        model: its label.
        label: the contender's.
        spec: the recipe and the settings that were not chosen.
        why_not: why it was not run, in words; "" where it was.
        chosen: settings that were chosen.
        candidates: among how many.
        within_budget: whether the chosen candidate kept within the budget on validation prompts; None where there was
            nothing to choose.
        fit_seconds: of fitting it once.
        choose_seconds: of fitting and trying the candidates.
        cost: of its answers.
        source: hash of the recipe's source code.
    """

    model: str
    label: str
    spec: str
    why_not: str = ""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    candidates: int = 0
    within_budget: bool | None = None
    fit_seconds: float = 0.0
    choose_seconds: float = 0.0
    cost: Cost | None = None
    source: str = ""

    @property
    def settings(self) -> str:
        """What was chosen, in words, and whether it is beyond the budget."""
        if self.within_budget is None:
            return "-"
        words = ", ".join(f"{name} {_short(value)}" for name, value in self.chosen.items())
        return words if self.within_budget else f"{words} (over budget)"

    def save(self, folder: Path) -> None:
        """Write it into the contender's folder.

        Raises:
            StoreError: it cannot be written.
        """
        write_whole(folder / FILE, json.dumps(asdict(self), indent=1, default=str).encode())

    @classmethod
    def load(cls, folder: Path) -> "Result | None":
        """What the contender's folder holds; None where it was not come to an end.

        Raises:
            StoreError: it cannot be read.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            told = json.loads(path.read_bytes())
            return cls(**{**told, "cost": None if told["cost"] is None else Cost(**told["cost"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{path} is no result of a comparison ({error}): delete its folder") from error


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
