"""Decoding by several voices, every token from scratch: no cache, no batch, no padding. Ids are lists of one row."""

import torch


def lengthened(encoding, ids):
    """An encoding of one row with more text tokens at its end."""
    more = len(ids)
    long = dict(encoding)
    for name, tensor in encoding.items():
        if tensor.shape[:2] == encoding["input_ids"].shape:
            fill = {"input_ids": torch.tensor([ids], dtype=torch.long), "attention_mask": torch.ones(1, more)}
            # What an image token may look at repeats that of the last token; kinds of tokens are 0, text.
            last = tensor[:, -1:].expand(1, more, *tensor.shape[2:]) if tensor.ndim > 2 else torch.zeros(1, more)
            long[name] = torch.cat([tensor, fill.get(name, last).to(tensor.dtype)], 1)
    return long


@torch.no_grad()
def next_logits(hf, encoding, ids, never=()):
    """Logits after a prompt and some tokens of an answer; some tokens are never chosen."""
    found = hf(**lengthened(encoding, ids), use_cache=False).logits[0, -1].float()
    found[list(never)] = -1e9
    return found


def decode(voices, choose, n, never=()):
    """Tokens of an answer.

    Args:
        voices: network and encoding of each voice.
        choose: from the voices' logits, a list of ``vocab``, and the number of the token to the token.
        n: how many tokens.
        never: tokens that are not chosen.
    """
    ids = []
    while len(ids) < n:
        ids.append(int(choose([next_logits(hf, encoding, ids, never) for hf, encoding in voices], len(ids))))
    return ids


def calibrated(alpha):
    """CoCA: the logits with the principle, and `alpha` times their difference from those without."""
    return lambda logits, step: (logits[0] + alpha * (logits[0] - logits[1])).argmax()


def safe_decoding(alpha, first, common):
    """SafeDecoding's greedy choice among model and expert (arXiv 2402.08983, equations 2 to 4), set by set."""

    def choose(logits, step):
        if step >= first:
            return logits[0].argmax()
        model, expert = (one.softmax(0) for one in logits)
        order = [one.argsort(descending=True).tolist() for one in (model, expert)]
        k = common
        while len(set(order[0][:k]) & set(order[1][:k])) < common:
            k += 1
        space = sorted(set(order[0][:k]) & set(order[1][:k]))
        return max(space, key=lambda token: float(model[token] + alpha * (expert[token] - model[token])))

    return choose
