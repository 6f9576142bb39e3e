"""ReGap as `cmrm_interp.recipes.regap` reads it: its docstring's equations with bare hooks. No formula is published."""

import torch

from tests.oracles import last_token
from tests.oracles.cmrm import encode


def found(hf, processor, harmful, harmless, images):
    """Drift and refusal direction of every layer, and the mean state of harmless text: ``layer d_model`` each."""
    shown = _mean(hf, [encode(processor, text, image) for text, image in zip(harmless, images, strict=True)])
    text = _mean(hf, [encode(processor, text) for text in harmless])
    return shown - text, _mean(hf, [encode(processor, text) for text in harmful]) - text, text


def answer(hf, tensors, parts, alpha, read, n):
    """How harmful a prompt looks once its drift is gone, and the greedy tokens under so much of the correction."""
    drift, refusal, harmless = (part.float() for part in parts)
    before = torch.cat([torch.zeros_like(drift[:1]), drift[:-1]])

    def moved(strength):
        return lambda layer, state: state - strength * (drift[layer] - before[layer])

    trial = last_token.states(hf, tensors, moved(alpha))[read]
    r = refusal[read]
    weight = min(max(float((trial - harmless[read]) @ r / r.norm() ** 2), 0.0), 1.0)
    return weight, last_token.generate(hf, tensors, n, moved(weight * alpha), prefill_only=True)


def _mean(hf, prompts):
    return torch.stack([last_token.states(hf, tensors).double() for tensors in prompts]).mean(0)
