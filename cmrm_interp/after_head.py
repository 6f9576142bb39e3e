"""What a model does to its head's output before it calls it logits: a factor (Cohere), a soft cap (Gemma 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import HookPointError, ModelError
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.running import forward

_HEAD = "unembed.hook_out"


@dataclass(frozen=True)
class AfterHead:
    """A factor, and a soft cap after it.

    Attributes:
        factor: by which the head's output is multiplied.
        softcap: ``c`` of ``c tanh(x / c)``, or None.
    """

    factor: float = 1.0
    softcap: float | None = None

    def __call__(self, x: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows vocab"]:
        """The model's logits, of what its head returned."""
        x = x if self.factor == 1 else x * self.factor
        return x if self.softcap is None else torch.tanh(x / self.softcap) * self.softcap

    @classmethod
    def of(cls, model: Any, inputs: Inputs) -> "AfterHead":
        """What a model does, found by running it.

        Configurations name caps and factors that some models of a family apply and others do not. So the model is run
        on one row with numbers of every size in place of its head's output: its own, which may be small, would be
        hardly bent, and would not tell.

        Raises:
            ModelError: it does something else.
        """
        known = list(dict.fromkeys(_known(model.hf.config.get_text_config())))
        largest = 4 * max(one.softcap or 1.0 for one in known)
        given: list[Tensor] = []

        def _replace(x: Tensor, _: int) -> Tensor:
            ramp = torch.linspace(-largest, largest, x.shape[-1], device=x.device)
            given.append(ramp.to(x.dtype).expand_as(x).contiguous())
            return given[0]

        found = forward(model.network, inputs.batch(slice(0, 1)), {_HEAD: _replace}, logits_to_keep=1).logits.float()
        off = [float((one(given[0]).to(found) - found).abs().max() / found.abs().max()) for one in known]
        if not min(off) <= 8 * torch.finfo(given[0].dtype).eps:
            raise ModelError(
                f"{model.name} does something to its head's output that is not known here (no factor and no soft cap"
                " that its configuration names): it has no lens, and its logits cannot be attributed"
            )
        return known[off.index(min(off))]


def check_before_head(model: Any, acting: Sequence[Intervention]) -> None:
    """Refuse interventions behind the last block, for who goes from there to logits by the weights alone.

    Raises:
        HookPointError: an intervention at the last norm or the head.
    """
    names = model.hook_points
    behind = set(names[names.index(f"blocks.{model.n_layers - 1}.hook_resid_post") + 1 :])
    for intervention in acting:
        looked = intervention.reads(names)
        edited = [name for name in intervention.targets(names) if name in behind and name not in looked]
        if edited:
            raise HookPointError(
                f"{type(intervention).__name__} acts at {edited[0]!r}, behind the last block: lenses and attribution go"
                " from there to logits by norm and head as they are; act before, or use model.logits"
            )


def _known(config: Any) -> Iterator[AfterHead]:
    """All that a configuration names, the simplest first."""
    times, over = (getattr(config, name, None) for name in ("logit_scale", "logits_scaling"))
    for softcap in (None, getattr(config, "final_logit_softcapping", None) or None):
        yield AfterHead(1.0, softcap)
        yield from (AfterHead(float(factor), softcap) for factor in (times, 1 / over if over else None) if factor)
