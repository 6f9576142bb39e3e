"""The tuned lens: an affine translator a layer, from its stream to the last one.

Belrose et al., "Eliciting Latent Predictions from Transformers with the Tuned Lens" (arXiv 2303.08112), equation 8.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.errors import HookPointError, MismatchError
from cmrm_interp.inputs import Inputs
from cmrm_interp.lens.places import EMBED, Layers, layer_numbers
from cmrm_interp.model import Model
from cmrm_interp.positions import Position, from_data, to_data
from cmrm_interp.store import load as load_tensors
from cmrm_interp.store import save as save_tensors

if TYPE_CHECKING:
    import pandas as pd

KIND = "tuned_lens"


@dataclass(frozen=True, eq=False)
class TunedLens:
    """Translators from the stream of some layers to the last one: ``x + A x + b``.

    Attributes:
        weight: ``A`` of each layer; zero at first.
        bias: ``b`` of each layer.
        layers: numbers of blocks, -1 for the stream before the first.
        model: fingerprint of the model.
        positions: the tokens that it was fitted on.
        settings: how it was fitted.
        report: rows of `table`.
    """

    weight: Float[Tensor, "layer d_model d_model"]
    bias: Float[Tensor, "layer d_model"]
    layers: tuple[int, ...]
    model: str
    positions: Position = "all"
    settings: Mapping[str, Any] = field(default_factory=dict)
    report: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def identity(cls, model: Model, layers: Layers = None, positions: Position = "all") -> "TunedLens":
        """Translators that change nothing, which make a logit lens; the last layer needs none.

        Raises:
            HookPointError: a layer that there is not.
        """
        numbers = tuple(n for n in layer_numbers(layers, model.n_layers) if n != model.n_layers - 1)
        if not numbers:
            raise HookPointError("the last layer needs no translator: name an earlier one")
        weight = torch.zeros(len(numbers), model.d_model, model.d_model)
        return cls(weight, torch.zeros(len(numbers), model.d_model), numbers, model.fingerprint, positions)

    @classmethod
    def fit(
        cls,
        model: Model,
        inputs: Inputs | Sequence[Inputs],
        layers: Layers = None,
        positions: Position = "all",
        store: str | os.PathLike[str] | None = None,
        **how: Any,
    ) -> "TunedLens":
        """Fit translators to the model's own predictions: least KL(model || lens) at each layer.

        Prompts are divided: most are learnt from, some choose the best moment of the training (the start among
        them), some are held out for `table`. The streams are worked out anew for each batch, which costs less than
        the head's passes over them, so that beside the model five times ``layers x d_model x d_model`` fp32 numbers
        are held: the translators, the best so far, gradients, and the optimiser's two moments. Weights are never
        changed.

        Args:
            model: the model.
            inputs: prompts from `Model.prepare`, with images or without; one or several. Prompts of the same number
                in several inputs of the same length (a text with and without its image) stay together.
            layers: those that get a translator; None for all but the last, which needs none.
            positions: tokens that are learnt from; ``"image"`` makes translators for image tokens alone.
            store: a folder; progress is written there at every check, and a stopped fit goes on.
            **how: ``steps=250``, ``lr=1e-3`` (AdamW, falling linearly to zero), ``weight_decay=1e-3``,
                ``batch_size=16`` (prompts), ``holdout=0.2`` (share of prompts, half of it to choose by), ``checks=10``
                (how often that is done), ``seed=0``.

        Returns:
            The best so far, if it is interrupted (with a warning).

        Raises:
            InputError: too few prompts, inputs without prompts (`Model.from_encoding`), or settings that cannot be.
            HookPointError: a layer that there is not, or no such tokens.
            MismatchError: the folder holds another fit.
        """
        from cmrm_interp.lens.training import fit

        several = [inputs] if isinstance(inputs, Inputs) else list(inputs)
        return fit(model, several, cls.identity(model, layers, positions), store, **how)

    def __call__(self, x: Float[Tensor, "n d_model"], layer: int) -> Float[Tensor, "n d_model"]:
        """The stream of a layer as the last layer would hold it; that of the last is left as it is."""
        if layer not in self.layers:
            return x
        at = self.layers.index(layer)
        weight, bias = (part[at].to(x.device) for part in (self.weight, self.bias))
        wide = x.float()
        return (wide + wide @ weight.T + bias).to(x.dtype)

    def to(self, device: torch.device | str) -> "TunedLens":
        """The same with its translators on a device."""
        return replace(self, weight=self.weight.to(device), bias=self.bias.to(device))

    def __repr__(self) -> str:
        """Layers and positions, one line."""
        return f"TunedLens({len(self.layers)} layers; positions={self.positions!r}; model {self.model})"

    def check(self, model: Model, layers: Sequence[int]) -> None:
        """Refuse another model, and layers without a translator.

        Raises:
            MismatchError: it was fitted on another model.
            HookPointError: a layer that it was not fitted at.
        """
        if self.model != model.fingerprint:
            raise MismatchError(
                f"this lens was fitted on another model ({self.model}; this is {model.name}, {model.fingerprint}):"
                " fit one here"
            )
        missing = [layer for layer in layers if layer not in self.layers and layer != model.n_layers - 1]
        if missing:
            raise HookPointError(
                f"this lens has no translator at layers {_named(missing)}: it was fitted at {_named(self.layers)}"
            )

    def table(self) -> "pd.DataFrame":
        """How far each lens is from the model, on prompts that were held out.

        Returns:
            For each layer three rows, of ``lens`` "logit", "tuned" and "gain" (logit less tuned, prompt by prompt):
            ``kl`` (nats, mean over prompts of the mean over their tokens), ``low`` and ``high`` (95 % bootstrap
            interval over prompts; NaN for one prompt), ``n`` (prompts; the same text at the same place of several
            inputs counts once). Empty for a lens that was not fitted.
        """
        import pandas as pd

        return pd.DataFrame(list(self.report), columns=["layer", "lens", "kl", "low", "high", "n"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file, whole or not at all.

        Raises:
            StoreError: it cannot be written, or the positions are a function.
        """
        header = {
            "kind": KIND,
            "layers": list(self.layers),
            "model": self.model,
            "positions": to_data(self.positions),
            "settings": dict(self.settings),
            "report": [dict(row) for row in self.report],
        }
        save_tensors(path, {"weight": self.weight, "bias": self.bias}, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TunedLens":
        """Read what `save` wrote.

        Raises:
            StoreError: the file is missing, damaged or of another kind.
        """
        tensors, header = load_tensors(path, kind=KIND)
        return cls(
            tensors["weight"],
            tensors["bias"],
            tuple(header["layers"]),
            header["model"],
            from_data(header["positions"]),
            header["settings"],
            header["report"],
        )


def _named(layers: Sequence[int]) -> str:
    return ", ".join("embed" if layer == EMBED else str(layer) for layer in layers)
