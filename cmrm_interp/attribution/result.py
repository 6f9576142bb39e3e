"""What came of an attribution: one number a prompt and part, with their means and intervals."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from cmrm_interp.attribution.parts import Part
from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import InputError
from cmrm_interp.intervals import bootstrap_means
from cmrm_interp.plots import heatmap, lines

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Attribution:
    """Parts of a logit (or of a difference of two), which add up to it.

    Attributes:
        values: what each part adds, in logits (nats), for each prompt.
        parts: the parts, in forward order.
        logits: what they add up to: the model's own logit (difference), before a soft cap if there is one.
        prompts: indices of the prompts that have such tokens.
        label: of what is attributed.
        softcap: by which the model bends its logits after what is split here, or None.
    """

    values: Float[Tensor, "prompt part"]
    parts: tuple[Part, ...]
    logits: Float[Tensor, " prompt"]
    prompts: tuple[int, ...]
    label: str
    softcap: float | None = None

    def __repr__(self) -> str:
        """What, of how many parts and prompts, and how well they add up."""
        capped = "" if self.softcap is None else f", before the soft cap at {self.softcap:g}"
        return f"Attribution({self.label}{capped}; {len(self.parts)} parts, {len(self.prompts)} prompts)"

    @property
    def rounding(self) -> float:
        """Largest difference between a prompt's logit and the sum of its parts."""
        return float((self.values.sum(1) - self.logits).abs().max())

    def table(self, seed: int = 0) -> "pd.DataFrame":
        """Means over prompts with 95 % bootstrap intervals over prompts.

        Args:
            seed: of the bootstrap.

        Returns:
            One row a part, in forward order: ``component``, ``layer``, ``head`` and ``source`` (where there are any),
            ``value``, ``low``, ``high`` (NaN for one prompt) and ``n``. Layers and heads are nullable integers.
        """
        import pandas as pd

        kept = [name for name in Part._fields if any(getattr(part, name) is not None for part in self.parts)]
        frame = pd.DataFrame({name: [getattr(part, name) for part in self.parts] for name in kept})
        frame = frame.astype({name: "Int64" for name in ("layer", "head") if name in kept})
        low, high = bootstrap_means(self.values.numpy(), seed)
        n = len(self.prompts)
        return frame.assign(value=self.values.mean(0).numpy(), low=low, high=high, n=n)

    def accumulated(self) -> "Attribution":
        """Sums of each part and all before it: the logit lens with the last norm's scale frozen at its value.

        Raises:
            InputError: the parts are heads, which have no order.
        """
        if any(part.head is not None for part in self.parts):
            raise InputError(
                "heads of a layer work side by side and have no order: accumulate by='layer' or 'component'"
            )
        return replace(self, values=self.values.cumsum(1), logits=self.values.sum(1))

    def summed(self, *by: str) -> "Attribution":
        """Parts joined that differ in nothing but what is not named: ``summed("source")`` joins layers and heads.

        Args:
            *by: fields of `Part` that are kept apart besides the component.

        Raises:
            InputError: no such field.
        """
        unknown = [name for name in by if name not in Part._fields]
        if unknown:
            raise InputError(f"parts have no {unknown[0]!r}: use {', '.join(Part._fields)}")
        kept = {"component", *by}
        joined = [Part(**{name: x if name in kept else None for name, x in p._asdict().items()}) for p in self.parts]  # type: ignore[arg-type]
        order = tuple(dict.fromkeys(joined))
        index = torch.tensor([order.index(part) for part in joined])
        values = self.values.new_zeros(len(self.values), len(order)).index_add(1, index, self.values)
        return replace(self, values=values, parts=order)

    def plot(self) -> "Figure":
        """Heads as a map of layers and heads; else a line over layers for each component, or source."""
        labels = {"value": f"{self.label} (nats)"}
        if any(part.source for part in self.parts):
            return lines(
                self.summed("layer", "source")._placed("layer", "source"), "layer", hue="source", labels=labels
            )
        if any(part.head is not None for part in self.parts):
            return heatmap(self._placed("layer", "head"), "head", "layer", labels=labels)
        return lines(self._placed("layer"), "layer", hue="component", labels=labels)

    def _placed(self, *fields: str) -> "pd.DataFrame":
        """Rows of the table that have all of these."""
        table: Any = self.table()
        missing = [name for name in fields if name not in table]
        if missing:
            raise InputError(f"nothing to draw over the {missing[0]}, which these parts were summed over")
        return table.dropna(subset=list(fields)).astype({name: int for name in fields if name != "source"})
