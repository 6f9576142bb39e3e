"""From the stream to logits as the model itself does it: last norm, head, and what comes after the head."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cmrm_interp.after_head import AfterHead
from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import ModelError
from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model
from cmrm_interp.positions import last_index
from cmrm_interp.remote import RemoteNetwork
from cmrm_interp.running import forward

ROOM = 2**24
"""Logits that are held at a time: 64 MB in fp32."""


@dataclass(frozen=True)
class Unembedding:
    """Last norm and head of a model, for streams of any layer.

    Attributes:
        modules: from the stream to the head's output, in order.
        after: what comes after the head.
        width: tokens of the vocabulary.
    """

    modules: tuple[Any, ...]
    after: AfterHead
    width: int

    @classmethod
    def of(cls, model: Model, inputs: Inputs) -> "Unembedding":
        """The unembedding of a model, proved on the first row of some inputs.

        Raises:
            ModelError: the model runs elsewhere, or no known way leads from its last block to its logits.
        """
        if isinstance(model.network, RemoteNetwork):
            raise ModelError("a lens needs the weights of norm and head here, and this model runs elsewhere")
        stream, logits = _last(model, inputs)
        modules = tuple(model.network.modules[path] for path in _paths(model))
        found = cls(modules, AfterHead.of(model, inputs), logits.shape[-1])
        off = _distance(found(stream), logits)
        # Another shape of the product rounds otherwise; the wrong modules are off by far more.
        if not off <= max(1e-4, 8 * torch.finfo(logits.dtype).eps):
            raise ModelError(
                f"{model.name}: last norm and head, applied to the last block's output, do not give the model's logits"
                f" (off by {off:.1e} of the largest): it has no lens here"
            )
        return found

    def __call__(self, x: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
        """Logits of streams, in the model's dtype."""
        for module in self.modules:
            x = _call(module, x)
        return self.after(x)

    @property
    def room(self) -> int:
        """How many streams at a time keep their logits within `ROOM`."""
        return max(1, ROOM // self.width)


def _call(module: Any, x: Tensor) -> Tensor:
    from accelerate.utils import align_module_device

    # The class's forward: that of the instance belongs to whoever watches the model run.
    with align_module_device(module):
        return type(module).forward(module, x.to(next(module.parameters()).device))


def _paths(model: Model) -> Iterator[str]:
    family = model.family
    yield family.at(family.norm)
    # OPT's smallest models embed in fewer dimensions than their stream has.
    narrow = family.at("project_out")
    if narrow in model.network.modules:
        yield narrow
    yield family.unembed


@torch.no_grad()
def _last(model: Model, inputs: Inputs) -> tuple[Tensor, Tensor]:
    kept: list[Tensor] = []
    batch = inputs.batch(slice(0, 1))

    def _keep(stream: Tensor, _: int) -> None:
        kept.append(stream.detach())

    # Of the last real token alone: logits of a whole prompt may be larger than the model.
    back = batch.tensors["input_ids"].shape[1] - int(last_index(batch.tokens.real)[0])
    hook = f"blocks.{model.n_layers - 1}.hook_resid_post"
    logits = forward(model.network, batch, {hook: _keep}, logits_to_keep=back).logits
    return kept[0][:, -back], logits[:, -back]


def _distance(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    theirs = theirs.float()
    ours = ours.detach()
    return float((ours.to(theirs.device).float() - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))
