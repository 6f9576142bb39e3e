"""The refusal direction (Arditi et al., NeurIPS 2024, arXiv 2406.11717).

Claim: one direction of the residual stream carries refusal: without it a model answers everything, with it added it
refuses everything.

Equations and steps (read in the authors' code):

1. candidates: for each block ``l`` and each token position ``i`` of the template behind the instruction,
   ``r = mean h(harmful) - mean h(harmless)`` at the block's input (``hook_resid_pre``), over training anchors, in fp64;
2. for each, on validation anchors: the refusal score ``log p(R) - log(1 - p(R))`` of harmful prompts under ablation,
   and of harmless ones with ``r`` added; the KL divergence on harmless ones under ablation; ``R`` is a set of tokens
   that refusals begin with;
3. selected: the least refusal under ablation, of those with KL below 0.1, with an induced refusal score above 0, and
   not of the last fifth of the layers;
4. ``how="add"``: ``x <- x + alpha r`` at the block it is from, every token; ``how="ablate"``:
   ``x <- x - alpha (x . u) u``, ``u = r / |r|``, at every block's input, attention output and MLP output, every token.
   Ablation is an attack: it is here as the control that shows what carries refusal.

Ours: refusal tokens, if not given, are those with which the model begins its answers to harmful training anchors
oftener than those to harmless ones, by a tenth of them (the paper names them by hand for each model);
``validation`` is the share of each class that is held out (the paper: 32 of 160). Directions that are zero (at the
first block's input the template's tokens are the same in every prompt) are no candidates. In a model of under 12
layers, such as the model organism, no direction keeps the paper's limits, which were made for 18 layers and more: `fit`
says so and by how much, and `grid` tries KL below 2 and induced refusal above -1 there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.hooks import expand
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.metrics.vocabulary import token_ids
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, found
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.classes import AnchorsAs, classes_of
from cmrm_interp.recipes.refusal_selection import Limits, ablation, addition, refusal_tokens, score, select

# Layers, under which each direction is so large a part of the model that no one keeps the paper's limits.
_FEW = 12
# Of a state's length: less is rounding.
_ROUNDING = 1e-5


@registered(
    Card(
        name="refusal-direction",
        title="Refusal direction",
        paper="Arditi et al., NeurIPS 2024",
        arxiv="2406.11717",
        claim="adds the direction that carries refusal at one block (or, as an attack, ablates it everywhere)",
        wants="both",
        needs_images=False,
        sure="read in the authors' code; how refusal tokens are found is ours",
    )
)
@dataclass(frozen=True, eq=False)
class RefusalDirection(Recipe):
    """The refusal direction, selected as in the paper; see the module's text.

    Attributes:
        how: ``"add"`` (a defence) or ``"ablate"`` (an attack: the control).
        alpha: strength.
        refusal_tokens: what refusals begin with: strings that are one token, or ids; None to find them.
        positions: positions, from the end of the prompt (-1 is the last token), that candidates are taken from;
            None for the template's tokens behind the instruction.
        validation: share of each class that is held out for the selection.
        seed: of the split.
        max_kl, min_induced, max_depth: limits of the selection (nats, nats, share of the layers).
        anchors_as: whether anchors are shown as ``"text"`` (the paper) or with their ``"image"``.
        direction: what `fit` found, ``d_model``; `layer` and `position` say where it is from.
        scores: what the selection saw: ``ablated``, ``induced`` and ``kl``, ``position layer``, last position last.
        tokens: ids of the refusal tokens.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"how", "alpha"})

    how: Literal["add", "ablate"] = "add"
    alpha: float = 1.0
    refusal_tokens: Sequence[str | int] | None = None
    positions: int | Sequence[int] | None = None
    validation: float = 0.2
    seed: int = 0
    max_kl: float = 0.1
    min_induced: float = 0.0
    max_depth: float = 0.8
    anchors_as: AnchorsAs = "text"
    direction: Tensor | None = found()
    layer: int | None = found()
    position: int | None = found()
    scores: Mapping[str, Tensor] | None = found()
    tokens: tuple[int, ...] = found(())

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.how not in ("add", "ablate"):
            raise InputError(f"RefusalDirection has no how={self.how!r}: use 'add' or 'ablate'")
        if not 0 < self.validation < 1:
            raise InputError(f"validation={self.validation}: give the share held out, between 0 and 1")
        if self.positions is not None:
            read = (self.positions,) if isinstance(self.positions, int) else tuple(self.positions)
            object.__setattr__(self, "positions", read)
            if not read or any(position >= 0 for position in read):
                raise InputError(f"positions={read!r}: give some, counted from the end of the prompt: (-2, -1)")
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Make the candidates, score them on held-out anchors, and select one.

        Args:
            model: any that refuses.
            anchors: of both classes (`cmrm_interp.Anchors`), at least two of each.

        Raises:
            InputError: no classes, a class of one anchor, no refusal tokens, or no candidate passes the selection.
            HookPointError: the template's tokens are not known (then give `positions`).
        """
        shown = classes_of(anchors, self, self.anchors_as)
        (harmful, held_harmful), (harmless, held_harmless) = (
            [model.prepare(prompts) for prompts in self._split(known)] for known in (shown.harmful, shown.harmless)
        )
        given = self.refusal_tokens
        tokens = refusal_tokens(model, harmful, harmless) if given is None else token_ids(model, given)
        read = template_positions(model, shown) if self.positions is None else self.positions
        positions = tuple(sorted(read))  # type: ignore[arg-type]
        candidates = _mean_states(model, harmful, positions) - _mean_states(model, harmless, positions)
        candidates = _without_rounding(candidates, _mean_states(model, harmful, positions)).float()
        scores = score(model, candidates, held_harmful, held_harmless, tokens)
        place, layer = select(scores, Limits(self.max_kl, self.min_induced, self.max_depth))
        found_out = {"direction": candidates[place, layer], "layer": layer, "position": positions[place]}
        about = {"scores": scores, "tokens": tokens, "anchors": marks(shown), "model": model.fingerprint}
        return replace(self, **found_out, **about)

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The addition at one block, or the ablation everywhere.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        assert self.direction is not None
        assert self.layer is not None
        if self.how == "add":
            return [addition(self.direction, self.layer, self.alpha)]
        return [ablation(model, self.direction, self.alpha)]

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Strengths; and wider limits for a model of a few layers (see the module's text)."""
        alphas = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5]
        wider = {"max_kl": [2.0], "min_induced": [-1.0]} if model.n_layers < _FEW else {}
        return {"alpha": alphas, **wider}

    def _split(self, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Prompt]]:
        if len(prompts) < 2:
            raise InputError("RefusalDirection selects on anchors that it was not made from: give two of each class")
        held = min(max(1, round(self.validation * len(prompts))), len(prompts) - 1)
        order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(self.seed)).tolist()
        return [prompts[row] for row in order[held:]], [prompts[row] for row in order[:held]]


def template_positions(model: Model, anchors: Anchors) -> tuple[int, ...]:
    """Positions, from the end, of the tokens that the chat template puts behind every prompt's text.

    Raises:
        HookPointError: where the user's words are in the template is not known.
    """
    inputs = model.prepare(list(anchors.without_images()))
    try:
        said = inputs.mask("user")
    except HookPointError as error:
        raise HookPointError(f"{error}; give positions=(...), counted from the end of the prompt") from error
    behind = said.shape[1] - 1 - torch.where(said, torch.arange(said.shape[1]), -1).amax(1)
    return tuple(range(-max(1, int(behind.min())), 0))


def _mean_states(model: Model, inputs: Inputs, positions: Sequence[int]) -> Float[Tensor, "position layer d_model"]:
    """Mean state at the input of every block, in fp64."""
    hooks = expand("blocks.*.hook_resid_pre", model.hook_points)
    total = torch.zeros(len(positions), len(hooks), model.d_model, dtype=torch.float64)
    for acts in model.stream(inputs, hooks, slice(positions[0], None)):
        if acts.mask is None or acts.mask.shape[1] < -positions[0] or not bool(acts.mask.all()):
            raise InputError(f"positions={tuple(positions)}: an anchor has fewer than {-positions[0]} tokens")
        total += torch.stack([acts[hook].double().sum(0)[list(positions)] for hook in hooks], 1)
    return total / len(inputs)


def _without_rounding(candidates: Tensor, states: Tensor) -> Tensor:
    small = candidates.norm(dim=-1, keepdim=True) <= _ROUNDING * states.norm(dim=-1, keepdim=True)
    return torch.where(small, 0.0, candidates)
