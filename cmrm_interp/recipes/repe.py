"""RepE, representation engineering (Zou et al., arXiv 2310.01405): reading vectors that control.

Claim: what a model represents (here: that a request is harmful) is a direction of its states, which can be read by
PCA on pairs and written by addition.

Equations (read in the authors' code), for each block ``l`` of the chosen ones, with states at the last token:

- pairs of a harmful and a harmless prompt, in random order within each pair; differences ``first - second``, less
  their mean; ``v`` is their first principal component, of length 1;
- its sign from the labels: the harmful one of a pair has the larger projection in more pairs than not;
- every token: ``x <- x + alpha v`` (``operator="linear_comb"``) or ``x <- x + alpha sign(x . v) v``
  (``"piecewise_linear"``), optionally brought back to its length (``keep_norm``).

The random order is what makes this PCA find the difference of the classes: recentred differences of one order have
lost their mean, which is that difference. Layers: those of the authors' harmlessness demo for a model of 32 layers, 10
to 14 (-22 to -18), as a share of the depth; its strength of 4.0, of a 40-layer model's unit vector, says nothing
for other models. Here alpha is in units of the distance that the classes have along ``v``, the mean over
pairs of the harmful projection less the harmless one (ours; ``unit=True`` is the authors' length 1).

Ours: of the pairs exactly half are turned round (a coin for each would lose a part of the difference with the mean);
pairs are in the order given, and the shorter class begins again from its first prompt. Nothing here asks
whether a prompt is harmful: with ``linear_comb`` harmless ones are moved as far.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch

from cmrm_interp.axes import Bool, Float, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.estimators import mean_diff
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Add, AddOriented, Intervention, KeepNorm
from cmrm_interp.interventions.base import freeze_layers
from cmrm_interp.model import Model
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, found
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import AnchorsAs, check_apart, classes_of, layers_at, paired, states_of

OPERATORS = {"linear_comb": Add, "piecewise_linear": AddOriented}


@registered(
    Card(
        name="repe",
        title="RepE",
        paper="Zou et al., arXiv 2023",
        arxiv="2310.01405",
        claim="adds the principal direction that tells harmful from harmless prompts, at every token",
        wants="both",
        needs_images=False,
        sure="read in the authors' code; the unit of alpha is ours",
    )
)
@dataclass(frozen=True, eq=False)
class RepE(Recipe):
    """RepE's reading vectors as control; see the module's text for the equations.

    Attributes:
        alpha: strength.
        operator: ``"linear_comb"`` or ``"piecewise_linear"``.
        keep_norm: whether each token is brought back to the length that it had.
        unit: whether vectors have length 1 (the authors'), and not the distance of the classes.
        layers: blocks at which it acts; None for those between 10/32 and 15/32 of the depth.
        seed: of the order within pairs.
        anchors_as: whether anchors are shown as ``"text"`` or with their ``"image"``.
        directions: what `fit` found: a vector a block, towards harmful.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "operator", "keep_norm", "layers"})

    alpha: float = 1.0
    operator: Literal["linear_comb", "piecewise_linear"] = "linear_comb"
    keep_norm: bool = False
    unit: bool = False
    layers: int | Iterable[int] | None = None
    seed: int = 0
    anchors_as: AnchorsAs = "text"
    directions: Directions | None = found()

    def __post_init__(self) -> None:
        """Refuse an operator that there is not; keep the layers as they are now."""
        if self.operator not in OPERATORS:
            raise InputError(f"RepE has no operator={self.operator!r}: use {' or '.join(map(repr, OPERATORS))}")
        freeze_layers(self)
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the reading vectors.

        Args:
            model: any.
            anchors: of both classes (`cmrm_interp.Anchors`), at least three pairs.

        Raises:
            InputError: no classes, fewer than three pairs, pairs that all came in one order, or classes with the
                same states.
        """
        shown = classes_of(anchors, self, self.anchors_as)
        harmful, harmless = paired(*states_of(model, shown))
        check_apart(mean_diff(harmful, harmless), harmful)
        swapped = self._order(harmful.n_rows)
        vectors = {hook: reading_vector(harmful[hook], harmless[hook], swapped, self.unit) for hook in harmful}
        method = f"principal component of recentred pair differences in random order (seed {self.seed})"
        directions = Directions(vectors, rows="one", model=model.fingerprint, method=method)
        return replace(self, directions=directions, model=model.fingerprint, anchors=marks(shown))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The addition at the chosen blocks.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        assert self.directions is not None
        layers = layers_at(model, 10 / 32, 15 / 32) if self.layers is None else self.layers
        add = OPERATORS[self.operator](self.directions, self.alpha, "all", layers)
        return [KeepNorm(add) if self.keep_norm else add]

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Operators and strengths."""
        alphas = [0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5]
        return {"operator": list(OPERATORS), "alpha": alphas}

    def _order(self, n: int) -> Bool[Tensor, " n"]:
        if n < 3:
            raise InputError(f"RepE's PCA needs three pairs of anchors or more, and there are {n}")
        swapped = torch.zeros(n, dtype=torch.bool)
        # Half of the pairs, so that none of the difference is lost with the mean.
        swapped[torch.randperm(n, generator=torch.Generator().manual_seed(self.seed))[: n // 2]] = True
        return swapped


def reading_vector(
    harmful: Float[Tensor, "n d_model"],
    harmless: Float[Tensor, "n d_model"],
    swapped: Bool[Tensor, " n"],
    unit: bool = True,
) -> Float[Tensor, " d_model"]:
    """First principal component of pair differences, some of them swapped, oriented by the labels.

    Args:
        harmful: states of the harmful prompt of each pair.
        harmless: of the harmless one.
        swapped: which pairs have the harmless one first.
        unit: length 1; else the mean difference of the projections.

    Returns:
        The vector, pointing from harmless to harmful.
    """
    apart = harmful.double() - harmless.double()
    signed = torch.where(swapped[:, None], -apart, apart)
    _, _, rows = torch.linalg.svd(signed - signed.mean(0), full_matrices=False)
    along = apart @ rows[0]
    sign = 1.0 if int((along > 0).sum()) >= int((along < 0).sum()) else -1.0
    return (rows[0] * sign * (1.0 if unit else (along * sign).mean())).float()
