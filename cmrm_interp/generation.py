"""Generation with interventions, on Hugging Face's own `generate`."""

from collections.abc import Sequence
from typing import Any

import torch

from cmrm_interp.axes import Int, Tensor
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.errors import InputError
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.running import BatchSize, each_batch, edits, to_device
from cmrm_interp.tracing import Network

_SAMPLING = ("temperature", "top_p", "top_k", "typical_p", "min_p")


def generate_tokens(
    network: Network,
    encoder: Encoder,
    inputs: Inputs,
    interventions: Sequence[Intervention] = (),
    batch_size: BatchSize = "auto",
    **how: Any,
) -> Int[Tensor, "batch new"]:
    """New tokens of every row, on the CPU, padded on the right.

    Args:
        network: the model.
        encoder: of the model.
        inputs: what to go on from; always run left-padded.
        interventions: checked ones.
        batch_size: rows a batch.
        **how: ``max_new_tokens``, ``do_sample``, ``seed`` and other arguments of Hugging Face's `generate`.

    Raises:
        InputError: beam search, or a number of new tokens that is not positive.
    """
    how = _settings(network, dict(how))
    seed = how.pop("seed", None)

    def _run(batch: Batch) -> Tensor:
        return _generate(network, batch, edits(network, encoder, interventions, batch), how)

    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        parts = list(each_batch(inputs.left_padded(), batch_size, _run, "generate"))
    return _joined(parts, how["pad_token_id"])


def _generate(network: Network, batch: Batch, visits: dict[str, Any], how: dict[str, Any]) -> Tensor:
    tensors = to_device(network, batch.tensors)
    result: list[Tensor] = []

    @torch.no_grad()
    def _call() -> None:
        result.append(network.model(tensors).generate(**tensors, **how))  # type: ignore[operator]

    network.run(_call, tensors, visits, generating=True)
    return result[0][:, tensors["input_ids"].shape[1] :].cpu()


def _settings(network: Network, how: dict[str, Any]) -> dict[str, Any]:
    if how.get("num_beams", 1) != 1:
        raise InputError("beam search reorders the rows between steps: use greedy decoding or do_sample=True")
    if isinstance(how["max_new_tokens"], bool) or how["max_new_tokens"] < 1:
        raise InputError(f"max_new_tokens={how['max_new_tokens']}: give at least 1")
    config: Any = network.hf.generation_config
    how = {"do_sample": False, "num_beams": 1, "return_dict_in_generate": False, **how}
    if not how["do_sample"]:
        # Checkpoints bring sampling settings of their own, of which greedy decoding would warn.
        how.update(dict.fromkeys(_SAMPLING))
    end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    pad = config.pad_token_id if config.pad_token_id is not None else end
    return {"pad_token_id": 0 if pad is None else pad, **how}


def _joined(parts: Sequence[Tensor], pad: int) -> Tensor:
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1]), value=pad) for part in parts])
