"""Activation patching, gradients and path patching with plain hooks, and counterparts of tokens by hand."""

import torch

from tests.oracles import hooks


def counterparts(ids_a, ids_b, image):
    """Columns ``(a, b)`` of two padded rows that stand for the same token, where one may have an image.

    What a run with an image has and the other lacks altogether is left out; images of as many tokens belong together.

    Args:
        ids_a: tokens of the one row, 0 for padding.
        ids_b: of the other.
        image: id of image tokens.
    """
    a, b = ids_a.tolist(), ids_b.tolist()
    common = set(a) & set(b) - {0}
    if a.count(image) != b.count(image):
        common -= {image}
    ours = [i for i, token in enumerate(a) if token in common]
    theirs = [i for i, token in enumerate(b) if token in common]
    assert [a[i] for i in ours] == [b[i] for i in theirs], "this oracle is for rows that say the same"
    return list(zip(ours, theirs, strict=True))


def replacing(values, pairs, head=None):
    """An edit that writes values of another run, ``row pos ...``, at the second column of each pair."""

    def edit(x):
        new = x.clone()
        for row, own in enumerate(pairs):
            for a, b in own:
                if head is None:
                    new[row, b] = values[row, a]
                else:
                    new[row, b, head] = values[row, a, head]
        return new

    return edit


def patched(hf, source, target, hook, pairs, head=None):
    """Logits of the target's run at all positions, patched with the source's."""
    values = hooks.read(hf, source, wanted=(hook,))[hook]
    return hooks.logits(hf, target, {hook: replacing(values, pairs, head)})


def gradients(hf, tensors, names, metric):
    """Gradient of a metric of the logits with respect to activations, by autograd through plain hooks."""
    zeros = {}

    def adding(name):
        def edit(x):
            zeros[name] = torch.zeros_like(x, requires_grad=True)
            return x + zeros[name]

        return edit

    with torch.enable_grad(), hooks.editing(hf, {name: adding(name) for name in names}, tensors):
        logits = hooks.called(hf, tensors)(**hooks.with_positions(hf, tensors), use_cache=False).logits
        metric(logits).sum().backward()
    return {name: zero.grad for name, zero in zeros.items()}


def path_patched(hf, source, target, pairs, sender, receivers, through):
    """Logits of the target's run, where receivers hear what the sender would say in the source's run.

    Every other head and every MLP is held at its value in the target's run while the sender speaks.
    """
    n = len(hooks.layers(hf))
    z, mlp = ([f"blocks.{i}.{name}" for i in range(n)] for name in ("attn.hook_z", "hook_mlp_out"))
    own = hooks.read(hf, target, wanted=(*z, *mlp))
    layer, head = sender
    values = hooks.read(hf, source, wanted=(z[layer],))[z[layer]]
    frozen = {name: _held(own[name]) for name in (*z, *mlp)}
    frozen[z[layer]] = lambda x: replacing(values, pairs, head)(own[z[layer]])
    if not receivers:
        return hooks.logits(hf, target, frozen)
    inner = {i: f"blocks.{i}.attn.hook_{through}" for i, _ in receivers}
    heard = hooks.read(hf, target, frozen, tuple(inner.values()))
    units = {i: sorted(h for own, h in receivers if own == i) for i in inner}
    return hooks.logits(hf, target, {inner[i]: _given(heard[inner[i]], units[i], hf) for i in inner})


def _held(value):
    return lambda x: value


def _given(value, heads, hf):
    config = hf.config.get_text_config()
    size = config.num_attention_heads // value.shape[2]

    def edit(x):
        new = x.clone()
        for head in heads:
            new[:, :, head // size] = value[:, :, head // size]
        return new

    return edit
