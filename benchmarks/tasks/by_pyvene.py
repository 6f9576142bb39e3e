"""The tasks by pyvene, by the paths of modules: its map of LLaVA does not fit transformers 5."""

from typing import Any

import pyvene
import torch
from torch import Tensor

from benchmarks.cases import Case


def refusal(case: Case) -> str | None:
    """What happens when LLaVA is wrapped as pyvene's documentation wraps a model: by layer and component."""
    chosen = {"layer": 0, "component": "block_output", "intervention_type": pyvene.CollectIntervention}
    try:
        pyvene.IntervenableModel(chosen, model=case.network())
    except AttributeError as error:
        return f"pyvene does not wrap LLaVA by layer and component under this transformers ({error})"
    return None


def collecting(case: Case) -> Any:
    """A copy of the model of its own, with a collecting intervention at every layer."""
    return _at(case, range(case.layers), lambda layer: pyvene.CollectIntervention(keep_last_dim=True))


def adding(case: Case) -> Any:
    """A copy of the model of its own, with a vector added at every layer."""
    return _at(
        case, range(case.layers), lambda layer: pyvene.AdditionIntervention(source_representation=-case.vectors[layer])
    )


@torch.no_grad()
def capture(case: Case, model: Any) -> Tensor:
    """``layer batch d_model``: every layer's output at the last token."""
    _put_back(model)
    (_, kept), _ = model(_given(case), unit_locations={"base": case.tensors["input_ids"].shape[1] - 1})
    return torch.stack([stream[:, 0] for stream in kept])


@torch.no_grad()
def add(case: Case, model: Any) -> Tensor:
    """Logits with every layer's vector subtracted at the last token."""
    _put_back(model)
    _, out = model(_given(case), unit_locations={"base": case.tensors["input_ids"].shape[1] - 1})
    return out.logits[:, -1]


def _given(case: Case) -> dict[str, Any]:
    return {**case.tensors, "use_cache": False, "logits_to_keep": 1}


def _put_back(model: Any) -> None:
    # pyvene removes every hook after a run, and with them those by which transformers collects hidden states, of which
    # LLaVA needs one: a second run would fail. Without the mark transformers hooks itself in again.
    for module in model.model.modules():
        module.__dict__.pop("_output_capturing_hooks_installed", None)


def _at(case: Case, layers: Any, make: Any) -> Any:
    places = [
        {"component": f"model.language_model.layers[{layer}].output", "unit": "pos", "intervention": make(layer)}
        for layer in layers
    ]
    return pyvene.IntervenableModel(places, model=case.network())
