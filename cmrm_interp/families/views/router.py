"""View of the router of a mixture of experts."""

from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.errors import ModelError
from cmrm_interp.families.views.base import Frame, View, first


@dataclass(frozen=True)
class Router(View):
    """Router logits, one an expert; a write chooses the experts anew, by softmax and the largest scores."""

    def read(self, raw: Any, frame: Frame) -> Tensor:
        """The logits."""
        return first(raw)

    def write(self, raw: Any, old: Tensor, new: Tensor, frame: Frame) -> Any:
        """New logits, scores and experts.

        Raises:
            ModelError: a router whose scores are not made by softmax and the largest of them.
        """
        if not isinstance(raw, tuple):
            return new
        logits, scores, chosen, *rest = raw
        # An edit before may have made some tokens nan or infinite, which says nothing of the router.
        finite = scores.isfinite().all(-1) & logits.isfinite().all(-1)
        top_k, normalised = chosen.shape[-1], bool(((scores.float().sum(-1) - 1).abs() < 1e-2)[finite].all())
        again, _ = _route(logits, top_k, normalised)
        if scores.shape != again.shape or not torch.allclose(again[finite], scores[finite].float(), 1e-2, 1e-3):
            raise ModelError("this router's scores are not a softmax over the experts: its logits can be read only")
        new_scores, new_chosen = _route(new, top_k, normalised)
        return (new, new_scores.to(scores.dtype), new_chosen, *rest)


def _route(logits: Tensor, top_k: int, normalised: bool) -> tuple[Tensor, Tensor]:
    scores, chosen = torch.softmax(logits.float(), -1).topk(top_k, dim=-1)
    return (scores / scores.sum(-1, keepdim=True) if normalised else scores), chosen
