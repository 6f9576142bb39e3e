"""How the refusal direction is selected among candidates (arXiv 2406.11717, section 2.3 and appendix C)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tqdm.auto import tqdm

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.hooks import expand
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Add, ProjectOut
from cmrm_interp.metrics import kl_to_clean, refusal_score
from cmrm_interp.metrics.base import Seen
from cmrm_interp.metrics.vocabulary import shown
from cmrm_interp.model import Model

EVERYWHERE = ("blocks.*.hook_resid_pre", "blocks.*.hook_attn_out", "blocks.*.hook_mlp_out")
# Shares of first tokens that tell the classes apart, and not two prompts by chance.
_TELLING = 0.1


@dataclass(frozen=True)
class Limits:
    """What a direction has to keep to be selected.

    Attributes:
        kl: largest mean KL divergence on harmless prompts under ablation, in nats.
        induced: the refusal score on harmless prompts, with the direction added, is above this, in nats.
        depth: share of the layers, from the first, that directions are taken from.
    """

    kl: float = 0.1
    induced: float = 0.0
    depth: float = 0.8


def ablation(model: Model, direction: Float[Tensor, " d_model"], alpha: float = 1.0) -> ProjectOut:
    """The direction taken out of every block's input, attention output and MLP output, at all tokens."""
    return ProjectOut(Directions(dict.fromkeys(expand(EVERYWHERE, model.hook_points), direction)), alpha, "all")


def addition(direction: Float[Tensor, " d_model"], layer: int, alpha: float = 1.0) -> Add:
    """The direction added to the input of its own block, at all tokens."""
    return Add(Directions({f"blocks.{layer}.hook_resid_pre": direction}), alpha, "all")


def refusal_tokens(model: Model, harmful: Inputs, harmless: Inputs) -> tuple[int, ...]:
    """Ids with which the model begins its greedy answers to harmful prompts oftener than those to harmless ones.

    Oftener is by a tenth of the prompts, at least.

    Raises:
        InputError: there is none.
    """
    said = [
        torch.bincount(logits.float().argmax(-1), minlength=logits.shape[-1]).double() / logits.shape[0]
        for logits in (model.logits(harmful), model.logits(harmless))
    ]
    found = (said[0] - said[1] >= _TELLING).nonzero().flatten().tolist()
    if not found:
        most = shown(model, [int(said[0].argmax())])
        raise InputError(
            f"the model begins its answers to harmful and to harmless anchors alike (mostly {most}), so that refusals"
            " are not known by their first token: give refusal_tokens=(...), or anchors that it refuses"
        )
    return tuple(found)


def score(
    model: Model,
    candidates: Float[Tensor, "position layer d_model"],
    harmful: Inputs,
    harmless: Inputs,
    tokens: Sequence[int],
) -> dict[str, Float[Tensor, "position layer"]]:
    """What each candidate does, on prompts that it was not made from.

    Args:
        model: the model.
        candidates: directions; zero ones are left out, and get NaN.
        harmful: to be ablated on.
        harmless: to be ablated and added on.
        tokens: ids that refusals begin with.

    Returns:
        By name, in nats: ``ablated`` (mean refusal score of harmful prompts without the direction), ``induced``
        (of harmless ones with it added) and ``kl`` (mean KL(clean || ablated) on harmless ones).
    """
    refuses, kl = refusal_score(model, tokens), kl_to_clean()
    clean = model.logits(harmless).double()
    found = {name: torch.full(candidates.shape[:2], torch.nan).double() for name in ("ablated", "induced", "kl")}
    places = [(position, layer) for position, layer in (candidates.norm(dim=-1) > 0).nonzero().tolist()]
    for place in tqdm(places, desc="refusal direction", unit="direction", delay=2, leave=False):
        direction = candidates[place]
        without, added = ablation(model, direction), addition(direction, place[1])
        found["ablated"][place] = refuses(model.logits(harmful, without).double()).mean()
        found["induced"][place] = refuses(model.logits(harmless, added).double()).mean()
        found["kl"][place] = kl.measure(Seen(model.logits(harmless, without).double(), clean=clean)).mean()
    return found


def select(scores: dict[str, Float[Tensor, "position layer"]], limits: Limits) -> tuple[int, int]:
    """Place of the direction whose ablation leaves the least refusal, of those that keep the limits.

    Raises:
        InputError: none keeps them; what failed, and by how much.
    """
    ablated, induced, kl = scores["ablated"], scores["induced"], scores["kl"]
    n = ablated.shape[1]
    early = (torch.arange(n) < limits.depth * n).expand_as(ablated) & ~ablated.isnan()
    kept = early & (kl < limits.kl) & (induced > limits.induced)
    if not bool(kept.any()):
        raise InputError(_none(scores, early, limits))
    best = int(torch.where(kept, ablated, torch.inf).argmin())
    return best // n, best % n


def _none(scores: dict[str, Tensor], early: Tensor, limits: Limits) -> str:
    tried = int((~scores["ablated"].isnan()).sum())
    head = f"none of the {tried} candidate directions passes the selection"
    if not bool(early.any()):
        return (
            f"{head}: none lies in the first {limits.depth:.0%} of the layers; the classes have the same states there"
        )
    kl, induced = scores["kl"][early], scores["induced"][early]
    return (
        f"{head}: of {int(early.sum())} in the first {limits.depth:.0%} of the layers"
        f" {int((kl >= limits.kl).sum())} change harmless answers too much (KL {float(kl.min()):.3g} at the least,"
        f" {limits.kl:g} is allowed), and {int((induced <= limits.induced).sum())} induce no refusal when added (score"
        f" {float(induced.max()):.3g} at the most, above {limits.induced:g} is asked): more anchors, other"
        " refusal_tokens, or wider limits (max_kl, min_induced, max_depth)"
    )
