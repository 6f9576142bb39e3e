"""Reads and writes at every hook point, with plain forward hooks on Hugging Face modules."""

from contextlib import ExitStack, contextmanager

import torch


def decoder(hf):
    """The module with ``embed_tokens``, ``layers`` and ``norm``."""
    return getattr(hf.model, "language_model", hf.model)


def vision_blocks(hf):
    """The vision tower's blocks; none for a text-only model."""
    if hasattr(hf.model, "visual"):
        return hf.model.visual.blocks
    tower = getattr(hf.model, "vision_tower", None)
    if tower is None:
        return []
    return getattr(tower, "vision_model", tower).encoder.layers


def projector(hf):
    return hf.model.visual.merger if hasattr(hf.model, "visual") else hf.model.multi_modal_projector


def names(hf):
    """Every hook point of the specification."""
    blocks = "resid_pre attn_out resid_mid mlp_out resid_post".split()
    found = ["hook_embed", "ln_final.hook_normalized", "unembed.hook_out"]
    for i in range(len(decoder(hf).layers)):
        found += [f"blocks.{i}.hook_{name}" for name in blocks]
        found += [f"blocks.{i}.attn.hook_{name}" for name in "q k v z pattern".split()] + [f"blocks.{i}.mlp.hook_post"]
    if len(vision_blocks(hf)):
        found += [f"vision.blocks.{i}.hook_resid_post" for i in range(len(vision_blocks(hf)))]
        found += ["vision.hook_out", "projector.hook_out"]
    return sorted(found)


@contextmanager
def editing(hf, edits, grid=None):
    """Applies ``fn(activation) -> activation or None`` at hook points while the block runs.

    Args:
        hf: the network.
        edits: hook point to function.
        grid: of a Qwen2-VL batch, to take the packed patches apart.
    """
    with ExitStack() as stack:
        # What is attached last runs first, and the middle of a block comes before its end.
        for name, fn in sorted(edits.items(), key=lambda item: item[0].endswith("resid_mid")):
            for handle in _attach(hf, name, fn, grid):
                stack.callback(handle.remove)
        yield


@torch.no_grad()
def read(hf, tensors, wanted=None):
    """Activations of one forward pass by hook point."""
    kept = {}

    def keep(name):
        def fn(x):
            kept[name] = x.clone()

        return fn

    has_image = "pixel_values" in tensors
    every = [n for n in names(hf) if has_image or not n.startswith(("vision", "projector"))]
    with editing(hf, {name: keep(name) for name in wanted or every}, tensors.get("image_grid_thw")):
        hf(**tensors, use_cache=False)
    return kept


@torch.no_grad()
def logits(hf, tensors, edits=()):
    """Logits of all positions, with edits."""
    with editing(hf, dict(edits), tensors.get("image_grid_thw")):
        return hf(**tensors, use_cache=False).logits


@torch.no_grad()
def generate(hf, tensors, n, edits=()):
    """Greedy new tokens and the logits of every step, with edits in every forward pass."""
    with editing(hf, dict(edits), tensors.get("image_grid_thw")):
        out = hf.generate(
            **tensors,
            max_new_tokens=n,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=0,
        )
    return out.sequences[:, tensors["input_ids"].shape[1] :], torch.stack(out.logits, 1)


def _attach(hf, name, fn, grid):
    text = decoder(hf)
    if name == "hook_embed":
        return [_output(text.embed_tokens, fn)]
    if name == "unembed.hook_out":
        return [_output(hf.lm_head, fn)]
    if name == "ln_final.hook_normalized":
        return [_normalized(text.norm, fn)]
    if name == "projector.hook_out":
        return [_output(projector(hf), _unpacked(fn, grid, merged=4))]
    if name == "vision.hook_out":
        return [_input(projector(hf), _unpacked(fn, grid))]
    if name.startswith("vision."):
        return [_output(vision_blocks(hf)[int(name.split(".")[2])], _unpacked(fn, grid))]
    _, layer, *rest = name.split(".")
    return _block(text.layers[int(layer)], ".".join(rest), fn)


def _block(block, what, fn):
    attn, mlp = block.self_attn, block.mlp
    if what == "hook_resid_mid":
        return _middle(block, fn)
    if what == "attn.hook_pattern":
        return [_pattern(attn, fn)]
    heads = _split(fn, attn.head_dim)
    return [
        {
            "hook_resid_pre": lambda: _input(block, fn),
            "attn.hook_q": lambda: _output(attn.q_proj, heads),
            "attn.hook_k": lambda: _output(attn.k_proj, heads),
            "attn.hook_v": lambda: _output(attn.v_proj, heads),
            "attn.hook_z": lambda: _input(attn.o_proj, heads),
            "hook_attn_out": lambda: _output(attn, fn),
            "mlp.hook_post": lambda: _input(mlp.down_proj, fn),
            "hook_mlp_out": lambda: _output(mlp, fn),
            "hook_resid_post": lambda: _output(block, fn),
        }[what]()
    ]


def _output(module, fn):
    def hook(module, args, output):
        new = fn(output[0] if isinstance(output, tuple) else output)
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    # transformers keeps hidden states (which LLaVA takes its features from) with hooks of its own: go before them.
    return module.register_forward_hook(hook, prepend=True)


def _input(module, fn):
    def hook(module, args, kwargs):
        given = args[0] if args else kwargs["hidden_states"]
        new = fn(given)
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def _split(fn, d_head):
    def split(x):
        new = fn(x.reshape(*x.shape[:-1], -1, d_head))
        return None if new is None else new.reshape(x.shape)

    return split


def _middle(block, fn):
    # The block's second half, once more by hand, from the changed stream.
    seen = {}

    def before_norm(module, args):
        seen["mid"] = args[0]

    def after_block(module, args, output):
        new = fn(seen["mid"])
        if new is None:
            return None
        out = new + block.mlp(block.post_attention_layernorm(new))
        return (out, *output[1:]) if isinstance(output, tuple) else out

    return [
        block.post_attention_layernorm.register_forward_pre_hook(before_norm),
        block.register_forward_hook(after_block, prepend=True),
    ]


def _pattern(attn, fn):
    # Attention by hand: the values (those of the cache, too) weighted by the changed pattern.
    def hook(module, args, kwargs, output):
        new = fn(output[1])
        if new is None:
            return None
        cache = kwargs.get("past_key_values")
        if cache is None:
            x = kwargs.get("hidden_states", args[0] if args else None)
            values = module.v_proj(x).reshape(*x.shape[:-1], -1, module.head_dim).transpose(1, 2)
        else:
            values = cache.layers[module.layer_idx].values
        values = values.repeat_interleave(new.shape[1] // values.shape[1], dim=1)
        z = torch.einsum("bhqk,bhkd->bqhd", new, values)
        return module.o_proj(z.reshape(*z.shape[:2], -1)), new

    return attn.register_forward_hook(hook, with_kwargs=True)


def _normalized(norm, fn):
    def hook(module, args, output):
        x = args[0]
        plain = x / (x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon).sqrt()
        new = fn(plain)
        return None if new is None else new * module.weight

    return norm.register_forward_hook(hook)


def _unpacked(fn, grid, merged=1):
    if grid is None:
        return fn
    counts = (grid.prod(-1) // merged).tolist()

    def unpacked(x):
        padded = x.new_zeros(len(counts), max(counts), x.shape[-1])
        for row, part in enumerate(x.split(counts)):
            padded[row, : len(part)] = part
        new = fn(padded)
        return None if new is None else torch.cat([row[:n] for row, n in zip(new, counts, strict=True)])

    return unpacked
