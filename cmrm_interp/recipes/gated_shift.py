"""Gated shift: CMRM's shift measured in a closed loop, taken back where a request reads as harmful. Ours.

CMRM (arXiv 2410.09047) subtracts at every block the shift that an image causes there, from every request. Two
things make that coarse: each block's vector is measured in a stream that no earlier block's edit has touched, so that
edits add up (live) or are undone only to first order (incremental); and benign requests and questions pay for it.

Fit, on harmful and harmless anchors that have images (``t`` text alone, ``i`` with the image, last prompt token):

1. shift, block by block, with the edits of all blocks before at work in the model:
   ``v_l = mean_harmful [h_l(i | edits at 0 .. l-1) - h_l(t)]``, the edit being ``h_l <- h_l - v_l``. So the mean
   state of the edited anchors *is* the text's mean at every block.
2. gate: a Gaussian for each class at a few late blocks (common covariance of Ledoit and Wolf, states with images,
   since a probe of text alone is blind beside an image): centres ``m_harmful, m_harmless``, distances ``D`` in units
   of a typical harmful anchor's own squared distance.

Answering, a request acts harmful where both hold, averaged over the gate's blocks:
``[D(h, m_harmless) - D(h, m_harmful)] / D(m_harmful, m_harmless) > margin`` (1 at the harmful centre, -1 at the
harmless one), and ``D(h, m_harmful) < reach``: a linear probe has an opinion of everything, also of questions about
pictures, which no anchor is like; what is far from all anchors is left alone. Where it holds, ``alpha v_l`` is
subtracted at the last prompt token and ``later * alpha v_l`` at each new token, which finishes the refusal; all other
requests are answered as if there were no defence, bit for bit, for one more run of the prompt.

The parts are settings, so that an ablation is a grid: ``loop``, ``of``, ``image``, ``gate``, ``reach``, ``later``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch

from cmrm_interp.axes import Bool, Float, Tensor
from cmrm_interp.directions import Directions, random_like
from cmrm_interp.errors import InputError
from cmrm_interp.estimators import mean_diff
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import ByRow, Gate, Intervention, Subtract
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes.anchors import marks
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, both_classes, found, need_vision, shown_anchors
from cmrm_interp.recipes.card import Card, registered
from cmrm_interp.recipes.likeness import Likeness
from cmrm_interp.recipes.stand_ins import stand_ins

HOOK = "blocks.{}.hook_resid_post"


@registered(
    Card(
        name="gated-shift",
        title="gated shift",
        paper="",
        arxiv="",
        claim="takes back the image's shift, measured in a closed loop, where the request reads as harmful",
        sure="ours; settings were chosen on the organism's training seeds 0, 1 and 2",
    )
)
@dataclass(frozen=True, eq=False)
class GatedShift(Recipe):
    """The shift of an image taken back, where the request reads as harmful; see the module's text.

    Attributes:
        alpha: strength at the last prompt token; at 1 the mean state of harmful anchors becomes that of their text.
        later: strength at each new token, as a share of `alpha`; 0 edits the prompt alone.
        loop: ``"closed"`` (each block's vector is measured under the edits before it) or ``"open"`` (CMRM's: the
            model undisturbed; its increments are subtracted, so that `alpha` means the same).
        of: whose shift it is: of the ``"harmful"`` anchors, or of ``"both"`` classes as in CMRM.
        image: which image's shift: the anchors' ``"own"`` ones, or a ``"blank"`` one of their size as in CMRM.
        gate: ``"harm"`` (only requests that read as harmful) or ``"none"`` (whatever has an image).
        margin: how far from half way between the classes a request has to be, from -1 (harmless) to 1 (harmful).
        reach: how far from the harmful anchors it may be, in a typical one's squared distance; None for any distance.
        shift, centres, precision: what `fit` found.
    """

    applied: ClassVar[frozenset[str]] = frozenset({"alpha", "later", "gate", "margin", "reach"})

    alpha: float = 1.0
    later: float = 0.5
    loop: Literal["closed", "open"] = "closed"
    of: Literal["harmful", "both"] = "harmful"
    image: Literal["own", "blank"] = "own"
    gate: Literal["harm", "none"] = "harm"
    margin: float = 0.0
    reach: float | None = 16.0
    shift: Directions | None = found()
    centres: dict[str, Tensor] | None = found()
    precision: dict[str, Tensor] | None = found()

    def __post_init__(self) -> None:
        """Refuse choices that there are not."""
        choices = {"loop": ("closed", "open"), "of": ("harmful", "both"), "image": ("own", "blank")}
        for name, known in {**choices, "gate": ("harm", "none")}.items():
            if getattr(self, name) not in known:
                told = " or ".join(map(repr, known))
                raise InputError(f"GatedShift has no {name}={getattr(self, name)!r}: use {told}")
        if not -1 < self.margin < 1:
            raise InputError(f"margin={self.margin}: give -1 (all is harmful) to 1 (hardly anything is); 0 is half way")
        if self.reach is not None and not self.reach > 0:
            raise InputError(f"reach={self.reach}: give a number above 0 (1: as far as a typical anchor), or None")
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the shift and the gate; the closed loop runs the harmful anchors once for every block.

        Args:
            model: a vision-language model.
            anchors: of both classes, each with an image.

        Raises:
            ModelError: a model that takes text alone.
            InputError: anchors of one class, without images, or of which the classes do not differ.
        """
        need_vision(model, self)
        classes = both_classes(anchors, self)
        prompts = shown_anchors(classes, self)
        hooks = [HOOK.format(layer) for layer in _read_at(model.n_layers)]
        states = model.capture(model.prepare(prompts), hooks, -1)
        likeness = Likeness.fit(states, classes.is_harmful)
        moved = prompts if self.of == "both" else list(classes.harmful)
        told = {"shift": self._shift(model, moved), **vars(likeness), "model": model.fingerprint}
        return replace(self, **told, anchors=marks(prompts))  # type: ignore[arg-type]

    def interventions(self, model: Model, inputs: Inputs) -> list[Intervention]:
        """The subtraction where a request reads as harmful; the gate runs the prompts once.

        Args:
            model: the one it was fitted on.
            inputs: from the model's `prepare`; rows without an image stay as they are.

        Raises:
            InputError: not fitted.
            MismatchError: fitted on another model.
        """
        self.check_model(model)
        assert self.shift is not None
        acts = self.acts_on(model, inputs)
        edits = [Subtract(self.shift, self.alpha, -1), Subtract(self.shift, self.later * self.alpha, "generated")]
        return [Gate(ByRow(acts), edit) for edit in (edits if self.later else edits[:1])]

    def acts_on(self, model: Model, inputs: Inputs) -> Bool[Tensor, " batch"]:
        """Which of the inputs the defence acts on; raises as `interventions` does."""
        self.check_model(model)
        assert self.centres is not None
        assert self.precision is not None
        if self.gate == "none":
            return inputs.rows_with_image
        states = model.capture(inputs, list(self.centres), -1)
        harm, distance = Likeness(self.centres, self.precision).read(states)
        near = torch.ones_like(inputs.rows_with_image) if self.reach is None else distance < self.reach
        return inputs.rows_with_image & near & (harm > self.margin)

    def randomised(self, seed: int) -> Self:
        """The control: a random vector of the same norm at every block, behind the same gate.

        Raises:
            InputError: not fitted.
        """
        if self.shift is None:
            raise InputError("the random control needs a fitted recipe: call .fit(model, anchors) first")
        return replace(self, shift=random_like(self.shift, seed))

    @classmethod
    def grid(cls, model: Model) -> dict[str, list[float]]:
        """Strengths."""
        return {"alpha": [0.75, 1.0, 1.25]}

    def _shift(self, model: Model, prompts: Sequence[Prompt]) -> Directions:
        bare = model.prepare([prompt.with_image(None) for prompt in prompts])
        shown = model.prepare(prompts)
        if self.image == "blank":
            shown = bare.with_images(stand_ins(prompts))
        every = [HOOK.format(layer) for layer in range(model.n_layers)]
        if self.loop == "open":
            return mean_diff(model.stream(shown, every, -1), model.stream(bare, every, -1)).increments()
        return closed_loop(model, shown, bare)


def closed_loop(model: Model, shown: Inputs, bare: Inputs) -> Directions:
    """The vector of each block that, subtracted at the last prompt token of all blocks, makes two means equal.

    Args:
        model: the model.
        shown: the prompts that are edited.
        bare: those whose mean state is the target, at every block.
    """
    vectors: dict[str, Float[Tensor, " d_model"]] = {}
    targets = model.capture(bare, [HOOK.format(layer) for layer in range(model.n_layers)], -1)
    for hook, target in targets.items():
        edits = [Subtract(Directions(dict(vectors)), 1.0, -1)] if vectors else []
        moved = model.stream(shown, hook, -1, edits)
        vectors[hook] = mean_diff(moved, replace(targets, tensors={hook: target}))[hook]
    return Directions(vectors, rows="one", model=model.fingerprint, method="closed-loop mean difference")


def _read_at(n_layers: int) -> list[int]:
    """The blocks at which harm is read: the middle one, the last, and the one between them."""
    middle, last = n_layers // 2, n_layers - 1
    return sorted({middle, (middle + last) // 2, last})
