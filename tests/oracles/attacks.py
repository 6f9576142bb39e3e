"""Attacks by hand, with Hugging Face's model alone: imports nothing of the package."""

import torch


def forced_loss(hf, tensors, ids):
    """Mean negative log-likelihood of tokens behind a prompt, token by token through `generate`."""
    start = tensors["input_ids"].shape[1]
    said = hf.generate(
        **tensors,
        max_new_tokens=len(ids),
        do_sample=False,
        prefix_allowed_tokens_fn=lambda row, seen: [ids[min(len(seen) - start, len(ids) - 1)]],
        return_dict_in_generate=True,
        output_logits=True,
    )
    steps = torch.stack(said.logits)[:, 0].float().log_softmax(-1)
    return -steps[torch.arange(len(ids)), torch.tensor(ids)].mean()


def loss(hf, tensors, pixels, ids):
    """The same in one pass over a single row, for decoders in which each token sees those before it."""
    whole = torch.cat([tensors["input_ids"], torch.tensor([ids])], 1)
    logits = hf(input_ids=whole, attention_mask=torch.ones_like(whole), pixel_values=pixels).logits
    picked = logits[0, -len(ids) - 1 : -1].float().log_softmax(-1)[torch.arange(len(ids)), torch.tensor(ids)]
    return -picked.mean()


def pgd(hf, tensors, ids, mean, std, epsilon, step, start):
    """Pictures and losses of projected gradient descent on one row; a list of both, step by step, without end.

    Args:
        hf: the model.
        tensors: ``input_ids`` and ``pixel_values`` of one row.
        ids: tokens of the target.
        mean, std: of the processor's normalisation, in 0 .. 1.
        epsilon, step: sizes in 0 .. 1.
        start: where it starts, an image ``1 3 height width`` in 0 .. 1.
    """
    clean, x = tensors["pixel_values"] * std + mean, start
    while True:
        x = x.clone().requires_grad_()
        found = loss(hf, tensors, (x - mean) / std, ids)
        (gradient,) = torch.autograd.grad(found, x)
        yield x.detach(), float(found)
        x = x.detach() - step * gradient.sign()
        x = torch.minimum(torch.maximum(x, clean - epsilon), clean + epsilon).clamp(0, 1)
