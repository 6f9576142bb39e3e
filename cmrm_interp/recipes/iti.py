"""ITI, Inference-Time Intervention (Li et al., NeurIPS 2023, arXiv 2306.03341).

Claim: a few attention heads tell apart what a model knows from what it says; moving these heads along the
direction that tells it changes what is said. Published for truthfulness.

Equations, with ``z`` a head's output before the output projection at the last token:

1. for every head a logistic probe of the two classes on a training part of the examples; its accuracy is that on the
   held-out part; the K heads with the highest are chosen;
2. the direction ``theta`` of a head is the unit vector along the difference of class means over all examples
   (`direction="mean"`, the paper's best) or along the probe's weights (`direction="probe"`), and ``sigma`` the
   standard deviation of ``z . theta`` over them;
3. at the last token of the prompt and each new token, ``z <- z + alpha * sigma * theta`` in the chosen heads.

Read in the released code: one part in five held out, K = 48 of 32 x 32 heads and alpha = 15 for a model of 7 B
parameters; K is kept here as a share of the heads, 48/1024.

Ours: the two classes. Truthful and untruthful answers become states in which the model refuses and others. With
``contrast="request"`` these are harmful and harmless anchors as text alone, which an aligned model refuses and
answers; with ``contrast="image"`` harmful anchors as text alone, and the same with their images, under which
vision-language models comply. There most heads tell without a mistake that there is an image, so accuracies hardly
choose among them: of equals those of lower layers are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Tensor
from cmrm_interp.datasets.anchors import Anchors
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Add, Intervention
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, both_classes, found, need_vision, shown_anchors
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.heads import head_probe, head_shift, held_out_rows

HOOKS = "blocks.*.attn.hook_z"
PAPER_SHARE = 48 / 1024


@registered(
    Card(
        name="iti",
        title="ITI",
        paper="Li et al., NeurIPS 2023",
        arxiv="2306.03341",
        claim="moves the few attention heads that tell refused from answered requests best towards refusal",
        wants="both",
        needs_images=False,
        sure="equations and settings read in the released code; the classes are ours, it was made for truthfulness",
    )
)
@dataclass(frozen=True, eq=False)
class ITI(Recipe):
    """Inference-time intervention; see the module's text for the choices.

    Attributes:
        alpha: strength, in standard deviations of the heads' projections.
        heads: how many heads are moved; None for the paper's share of all.
        direction: along the difference of class ``"mean"`` states, or the ``"probe"``'s weights.
        contrast: the two classes: ``"request"`` or ``"image"``.
        held_out: share of the anchors on which probes are scored.
        seed: of the split.
        shift: what `fit` found: ``head d_head`` a layer, ``sigma * theta``, zero in heads that are not chosen.
        accuracies: of every head on the held-out anchors, ``layer head``.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha"})

    alpha: float = 15.0
    heads: int | None = None
    direction: Literal["mean", "probe"] = "mean"
    contrast: Literal["request", "image"] = "request"
    held_out: float = 0.2
    seed: int = 0
    shift: Directions | None = found()
    accuracies: Tensor | None = found()

    def __post_init__(self) -> None:
        """Refuse choices that there are not."""
        for name, known in (("direction", ("mean", "probe")), ("contrast", ("request", "image"))):
            if getattr(self, name) not in known:
                raise InputError(f"ITI has no {name}={getattr(self, name)!r}: use {' or '.join(map(repr, known))}")
        if self.heads is not None and self.heads < 1:
            raise InputError(f"ITI moves heads={self.heads}: give a positive number, or None for the paper's share")
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out={self.held_out} is a share of the anchors: between 0 and 1")
        super().__post_init__()

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[Any]]:
        """Classes, strengths, and numbers of heads."""
        n = model.n_layers * model.n_heads
        heads = [max(round(share * n), 1) for share in (0.2, 0.5)]
        contrast = ["request", "image"] if model.encoder.can_see else ["request"]
        return {"contrast": contrast, "alpha": [1.0, 1.5, 2.0, 5.0], "heads": heads}

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Probe every head, choose the best, and find how to move them.

        Args:
            model: the model.
            anchors: of both classes (`cmrm_interp.Anchors`); with images for ``contrast="image"``.

        Raises:
            InputError: not both classes, too few anchors to hold some out, more heads than there are, or a head in
                which the classes have the same mean.
            ModelError: ``contrast="image"`` on a model that takes text alone.
        """
        known = both_classes(anchors, self)
        n = model.n_layers * model.n_heads
        k = self.heads or max(round(PAPER_SHARE * n), 1)
        if k > n:
            raise InputError(f"ITI is to move {k} heads, and {model.name} has {n}")
        refusing, others = (model.capture(model.prepare(side), HOOKS) for side in self._sides(model, known))
        return self._fitted(refusing, others, k, model=model.fingerprint, anchors=marks(list(known)))

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The shift of the chosen heads, at the last token of the prompt and at each new one.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        return [] if self.shift is None else [Add(self.shift, self.alpha, "last")]

    def _sides(self, model: Model, anchors: Anchors) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
        text = anchors.without_images()
        if self.contrast == "request":
            return text.harmful, text.harmless
        need_vision(model, self)
        shown_anchors(anchors, self)
        return text.harmful, anchors.harmful

    def _fitted(self, refusing: Activations, others: Activations, k: int, **known: Any) -> Self:
        is_refusing = np.repeat([True, False], [refusing.n_rows, others.n_rows])
        # Classes of equal size hold out the same rows: with `contrast="image"` these are the same requests.
        held = np.concatenate([held_out_rows(acts.n_rows, self.held_out, self.seed) for acts in (refusing, others)])
        states = {hook: torch.cat([refusing[hook], others[hook]]).double().numpy() for hook in refusing}
        probes = {hook: [head_probe(z, is_refusing, held) for z in states[hook].swapaxes(0, 1)] for hook in states}
        accuracies = torch.tensor([[accuracy for _, accuracy in heads] for heads in probes.values()])
        shift = {hook: np.zeros(states[hook].shape[1:]) for hook in states}
        hooks = list(states)
        # Of equals the lower layer and head, whatever the machine.
        for number in np.argsort(-accuracies.flatten().numpy(), kind="stable")[:k]:
            layer, head = divmod(int(number), accuracies.shape[1])
            hook = hooks[layer]
            along = probes[hook][head][0] if self.direction == "probe" else None
            shift[hook][head] = head_shift(states[hook][:, head], is_refusing, along, f"head {head} of {hook}")
        moved = {hook: torch.from_numpy(rows).float() for hook, rows in shift.items() if rows.any()}
        method = f"ITI, {k} heads, {self.direction}"
        return replace(self, shift=Directions(moved, "one", known["model"], method), accuracies=accuracies, **known)
