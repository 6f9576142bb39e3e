"""The vision side: towers by the stream's identities, Q-Formers by their norms' inputs."""

import torch

from tests.oracles.blocks import shifted
from tests.oracles.maps import at, net
from tests.oracles.taps import first, remember, with_first

STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")


def vision_names(hf):
    """Hook points of the vision side."""
    found = [f"vision.blocks.{i}.hook_{name}" for i, _ in enumerate(_blocks(hf)) for name in STREAM]
    if net(hf).tower.queries:
        for i, layer in enumerate(hf.qformer.encoder.layer):
            kinds = ["resid_pre", "attn_out", "mlp_out", "resid_post"]
            kinds += ["cross_attn_out"] if hasattr(layer, "crossattention") else []
            found += [f"qformer.blocks.{i}.hook_{name}" for name in kinds]
        found.append("qformer.hook_out")
    return [*found, "vision.hook_out", "projector.hook_out"]


def attach_vision(hf, taps, tensors):
    """Hooks on tower, Q-Former and projector."""
    tower = net(hf).tower
    patches, merged = _shapes(hf, tensors)
    handles = []
    for i, (block, gates) in enumerate(_blocks(hf)):
        handles += _attach_block(block, f"vision.blocks.{i}.hook_", taps, (tower, gates, patches))
    projector = at(hf, tower.projector)
    if not tower.queries:
        before = merged if tower.order == "places" else patches
        handles.append(taps.input(projector, "vision.hook_out", before, key="inputs_embeds"))
    else:
        handles.append(taps.input(hf.qformer, "vision.hook_out", FLAT, key="encoder_hidden_states"))
        for i, layer in enumerate(hf.qformer.encoder.layer):
            handles += _attach_qformer(layer, f"qformer.blocks.{i}.hook_", taps)
        handles.append(taps.input(projector, "qformer.hook_out", FLAT))
    return [*handles, taps.output(projector, "projector.hook_out", merged)]


def _blocks(hf):
    tower = net(hf).tower
    return [(b, tower.gates.get(n)) for n, path in enumerate(tower.stacks) for b in at(hf, path).children()]


def _attach_block(block, stem, taps, how):
    tower, gates, shape = how
    seen = {}

    def tap(name, x):
        return taps.shaped(stem + name, x, shape)

    def branch(x):
        out = first(at(block, tower.mlp)(at(block, tower.ln2)(x)))
        out = at(block, tower.post_mlp)(out) if tower.post_mlp else out
        if gates is None:
            return out
        factor = getattr(block, gates[1])
        return out * (torch.tanh(factor) if gates[2] else factor)

    def hook(module, args, output):
        old = first(output)
        mid = unchanged = seen["mid"]
        added = mid - seen["pre"]
        new = tap("attn_out", added)
        mid = tap("resid_mid", mid if new is added else seen["pre"] + new)
        mlp = old - mid if mid is unchanged else branch(mid)
        new_mlp = tap("mlp_out", mlp)
        x = tap("resid_post", old if mid is unchanged and new_mlp is mlp else mid + new_mlp)
        return None if x is old else with_first(output, x)

    return [
        taps.input(block, stem + "resid_pre", shape),
        remember(block, seen, "pre"),
        remember(at(block, tower.ln2), seen, "mid"),
        block.register_forward_hook(hook, prepend=True),
    ]


def _attach_qformer(layer, stem, taps):
    handles = [taps.input(layer, stem + "resid_pre", FLAT)]
    parts = {"attn_out": layer.attention.output, "mlp_out": layer.output_query}
    if hasattr(layer, "crossattention"):
        parts["cross_attn_out"] = layer.crossattention.output
    for name, part in parts.items():
        handles += _attach_post_norm(part, stem + name, taps)
    return [*handles, taps.output(layer, stem + "resid_post", FLAT)]


def _attach_post_norm(part, name, taps):
    """BERT's way: what is added is what the norm is given, less the stream; the norm runs again after a change."""
    seen = {}

    def hook(module, args, output):
        total, stream = seen["total"], args[1]
        see, back = FLAT

        class Rows:
            def __call__(self, name, x):
                return taps.shaped(name, x, (see, back))

        new = shifted(Rows(), name, total, stream)
        return None if new is total else module.LayerNorm(new)

    return [remember(part.LayerNorm, seen, "total"), part.register_forward_hook(hook)]


FLAT = (lambda x: x.flatten(0, -2), lambda new, x: new.reshape(x.shape))


def _shapes(hf, tensors):
    """Shapes of the tower's and of the projector's patches: all that are real, in reading order."""
    order = net(hf).tower.order
    if order == "windows":
        index = _windows(tensors["image_grid_thw"], hf.config.vision_config)
        return _ordered(index), _ordered(index)
    if order == "places":
        real = (tensors["image_position_ids"] != -1).all(-1)
        return _masked(real), FLAT
    return FLAT, FLAT


def _masked(real):
    def back(new, x):
        out = x.clone()
        out[real] = new
        return out

    return (lambda x: x[real], back)


def _ordered(index):
    """Groups of patches in the order `index`, put back into the order of their numbers."""

    def there(x):
        groups = x.unflatten(0, (len(index), -1))
        out = torch.empty_like(groups)
        out[index] = groups
        return out.flatten(0, 1)

    return there, lambda new, x: new.unflatten(0, (len(index), -1))[index].flatten(0, 1)


def _windows(grids, vision):
    """Numbers of the merged patches of all images, window after window."""
    side, order, start = vision.window_size // vision.patch_size // vision.spatial_merge_size, [], 0
    for _, height, width in grids.tolist():
        height, width = height // vision.spatial_merge_size, width // vision.spatial_merge_size
        for top in range(0, height, side):
            for left in range(0, width, side):
                rows, columns = range(top, min(top + side, height)), range(left, min(left + side, width))
                order += [start + row * width + column for row in rows for column in columns]
        start += height * width
    return torch.tensor(order)
