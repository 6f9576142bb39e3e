"""The decoder: taps on its projections, and its stream by the identities."""

import torch
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from tests.oracles import attention
from tests.oracles.maps import at, net
from tests.oracles.taps import columns, first, gained, norm_by_hand, remember, stream_of, with_first


class Decoder:
    """The decoder of a network."""

    def __init__(self, hf, taps, image):
        self.hf, self.taps, self.net, self.image = hf, taps, net(hf), image
        self.config = hf.config.get_text_config()
        self.stack = at(hf, self.net.stack)
        self.blocks = list(at(self.stack, self.net.layers))

    def names(self):
        """Hook points of all blocks."""
        return [f"blocks.{i}.{name}" for i, block in enumerate(self.blocks) for name in self.names_of(block)]

    def names_of(self, block):
        stream = ["hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post"]
        if is_cross(block) and not self.image:
            return stream
        kind = self.net.block
        attn = "cross_attn" if is_cross(block) else "attn"
        heads = ["attn_scores", "pattern", "q", "z", "result"]
        heads += [letter for letter in "kv" if kind.qkv or hasattr(at(block, self.attn_of(block)), f"{letter}_proj")]
        heads += ["out"] if kind.post_attn or is_cross(block) else []
        mlp = ["pre", "post"] + (["pre_linear"] if kind.up or kind.gate_up else []) + (["out"] if kind.post_mlp else [])
        mlp = ["router"] if is_mixture(block) else mlp
        norms = ["ln1.hook_scale", "ln1.hook_normalized"]
        norms += ["ln2.hook_scale", "ln2.hook_normalized"] if kind.ln2 else []
        stream = stream if kind.ln2 else [name for name in stream if name != "hook_resid_mid"]
        stream = [*stream, "hook_per_layer_out"] if kind.tail else stream
        return stream + norms + [f"{attn}.hook_{name}" for name in heads] + [f"mlp.hook_{name}" for name in mlp]

    def attn_of(self, block):
        return "cross_attn" if is_cross(block) else self.net.block.attn

    def attach(self):
        """Hooks everywhere."""
        taps, own = self.taps, self.net
        handles = [taps.output(at(self.stack, own.embed), "hook_embed")]
        handles += [taps.output(at(self.stack, own.positions), "hook_pos_embed")] if own.positions else []
        for i, block in enumerate(self.blocks):
            handles += self.attach_block(i, block)
        # After the block's own hooks: the block that stands in for those that are left out.
        for i, block in enumerate(self.blocks):
            if is_cross(block) and not self.image:
                handles.append(self.attach_skipped(i))
        handles.append(self.attach_norm(at(self.stack, own.norm), "ln_final"))
        return [*handles, taps.output(at(self.hf, own.head), "unembed.hook_out")]

    def attach_skipped(self, i):
        stem, taps = f"blocks.{i}.hook_", self.taps

        def hook(module, args, output):
            x = old = first(output)
            x = taps(stem + "resid_pre", x)
            x = taps(stem + "resid_mid", x + taps(stem + "attn_out", torch.zeros_like(x)))
            x = taps(stem + "resid_post", x + taps(stem + "mlp_out", torch.zeros_like(x)))
            return None if x is old else with_first(output, x)

        return self.blocks[i - 1].register_forward_hook(hook)

    def attach_block(self, i, block):
        taps, kind, stem = self.taps, self.net.block, f"blocks.{i}."
        seen = {}
        handles = [taps.input(block, stem + "hook_resid_pre"), remember(block, seen, "pre")]
        handles.append(self.attach_norm(at(block, kind.ln1), stem + "ln1"))
        handles += self.attach_attention(block, stem)
        handles += self.attach_mlp(block, stem)
        if kind.ln2 is None:
            return [*handles, *self.attach_parallel(block, stem, seen)]
        handles += [remember(at(block, kind.ln2), seen, "mid"), self.attach_norm(at(block, kind.ln2), stem + "ln2")]
        return [*handles, self.attach_stream(block, stem, seen)]

    def attach_norm(self, module, stem):
        taps = self.taps

        def hook(module, args, output):
            seen, back = taps.flat
            plain, scale = norm_by_hand(module, args[0], self.net, self.config)
            new_scale = taps.shaped(stem + ".hook_scale", scale, (seen, back))
            plain = plain / new_scale
            new = taps.shaped(stem + ".hook_normalized", plain, (seen, back))
            out = output if new is plain and new_scale is scale else gained(module, new, self.net)
            out = taps(stem + ".hook_out", out) if stem == "ln_final" else out
            return None if out is output else out

        return module.register_forward_hook(hook)

    def attach_attention(self, block, stem):
        kind, taps, cross = self.net.block, self.taps, is_cross(block)
        attn = at(block, self.attn_of(block))
        stem += "cross_attn." if cross else "attn."
        n = self.config.num_attention_heads
        sizes = (n, *[kv_heads(self.config, attn)] * 2)
        handles = []
        for part, letter in enumerate("qkv"):
            heads = taps.heads(sizes[part])
            if kind.qkv:
                handles.append(taps.output(at(attn, kind.qkv), f"{stem}hook_{letter}", columns(part, sizes, heads)))
            elif hasattr(attn, f"{letter}_proj"):
                shape = entries(heads) if cross and letter != "q" else heads
                handles.append(taps.output(at(attn, f"{letter}_proj"), f"{stem}hook_{letter}", shape))
        attention.TAPS[attn] = lambda what, x: taps(f"{stem}hook_{what}", x)
        o = at(attn, kind.o)
        handles += [taps.input(o, stem + "hook_z", taps.heads(n)), self.attach_result(o, stem + "hook_result", n)]
        return [*handles, taps.output(attn, stem + "hook_out")] if kind.post_attn or cross else handles

    def attach_result(self, o, name, n):
        taps = self.taps

        def hook(module, args, output):
            weight = (module.weight if isinstance(module, Conv1D) else module.weight.T).unflatten(0, (n, -1))
            result = torch.stack([args[0].unflatten(-1, (n, -1))[..., h, :] @ weight[h] for h in range(n)], -2)
            new = taps(name, result)
            if new is result:
                return None
            return new.sum(-2) if module.bias is None else new.sum(-2) + module.bias

        return o.register_forward_hook(hook)

    def attach_mlp(self, block, stem):
        kind, taps, mlp = self.net.block, self.taps, at(block, self.net.block.mlp)
        stem += "mlp.hook_"
        if is_mixture(block):
            return self.attach_router(mlp, stem + "router")
        handles = []
        if kind.gate_up:
            for part, name in enumerate(("pre", "pre_linear")):
                handles.append(taps.output(at(mlp, kind.gate_up), stem + name, columns(part, (1, 1))))
        for module, name in ((kind.gate, "pre"), (kind.up, "pre_linear")):
            handles += [taps.output(at(mlp, module), stem + name, taps.flat)] if module else []
        handles.append(taps.input(at(mlp, kind.down), stem + "post", taps.flat, key="input"))
        return [*handles, taps.output(mlp, stem + "out")] if kind.post_mlp else handles

    def attach_router(self, mlp, name):
        changed = {}

        def route(module, args, output):
            new = self.taps.shaped(name, output[0], self.taps.flat)
            changed["logits"] = None if new is output[0] else new

        def mix(module, args, output):
            logits = changed["logits"]
            return None if logits is None else mixture(module.experts, args[0], logits, self.config)

        return [mlp.gate.register_forward_hook(route), mlp.register_forward_hook(mix)]

    def attach_stream(self, block, stem, seen):
        """What is added to the stream is read off the stream itself; the rest of the block runs again from there."""
        taps, kind = self.taps, self.net.block

        def hook(module, args, kwargs, output):
            old, pre = first(output), seen["pre"]
            mid = unchanged = seen["mid"].reshape(pre.shape)
            mid = shifted(taps, stem + "hook_attn_out", mid, pre)
            mid = taps(stem + "hook_resid_mid", mid)
            again = kind.tail or mid is not unchanged
            mlp_out = self.second_half(module, mid, kwargs) if again else old - mid
            new_mlp = taps(stem + "hook_mlp_out", mlp_out)
            moved = mid is not unchanged or new_mlp is not mlp_out
            if kind.tail:
                tail = mid + new_mlp
                added = self.tail_of(module, tail, args, kwargs)
                new = taps(stem + "hook_per_layer_out", added)
                x = (tail + new) * module.layer_scalar if moved or new is not added else old
            else:
                x = mid + new_mlp if moved else old
            x = taps(stem + "hook_resid_post", x)
            return None if x is old else with_first(output, x)

        return block.register_forward_hook(hook, with_kwargs=True, prepend=True)

    def second_half(self, block, mid, kwargs):
        """What the MLP adds to the stream that it finds."""
        kind = self.net.block
        x = at(block, kind.ln2)(mid)
        if kind.mlp:
            x = first(at(block, kind.mlp)(x))
        else:
            act = ACT2FN[self.config.activation_function]
            x = block.fc2(act(block.fc1(x.flatten(0, 1)))).reshape(mid.shape)
        if is_cross(block):
            return torch.tanh(block.cross_attn_mlp_gate) * kwargs["full_text_row_masked_out_mask"][:, 0] * x
        return at(block, kind.post_mlp)(x) if kind.post_mlp else x

    def tail_of(self, block, x, args, kwargs):
        each = kwargs["per_layer_input"] if "per_layer_input" in kwargs else args[1]
        # Not through the module, whose input is kept.
        gate = ACT2FN[self.config.hidden_activation](F.linear(x, block.per_layer_input_gate.weight))
        return block.post_per_layer_input_norm(block.per_layer_projection(gate * each))

    def attach_parallel(self, block, stem, seen):
        taps = self.taps

        def keep(module, args, output):
            seen["mlp"] = output

        def hook(module, args, output):
            old, mlp = first(output), seen["mlp"]
            attn = old - seen["pre"] - mlp
            new_attn, new_mlp = taps(stem + "hook_attn_out", attn), taps(stem + "hook_mlp_out", mlp)
            x = old if new_attn is attn and new_mlp is mlp else seen["pre"] + new_attn + new_mlp
            x = taps(stem + "hook_resid_post", x)
            return None if x is old else with_first(output, x)

        return [block.mlp.register_forward_hook(keep), block.register_forward_hook(hook, prepend=True)]


def shifted(taps, name, total, before):
    """A sum in which what was added to `before` may be replaced."""
    added = total - before
    new = taps(name, added)
    return total if new is added else before + new


def is_cross(block):
    return hasattr(block, "cross_attn")


def is_mixture(block):
    return hasattr(getattr(block, "mlp", None), "experts")


def kv_heads(config, attn):
    """Heads of keys and values: of the configuration, which GPT-2's and OPT's lack."""
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def entries(heads):
    """Shape of keys and values of patches: all in one row, split into heads."""
    return (lambda x: heads[0](x.flatten(0, -2)), lambda new, x: heads[1](new, x).reshape(x.shape))


def mixture(experts, x, logits, config):
    """A mixture of experts with given router logits: every expert for every token, weighted."""
    share = torch.softmax(logits.reshape(*x.shape[:-1], -1), -1)
    least = share.topk(config.num_experts_per_tok, -1).values[..., -1:]
    share = torch.where(share >= least, share, 0)
    if getattr(config, "norm_topk_prob", True):
        share = share / share.sum(-1, keepdim=True)
    out = torch.zeros_like(x)
    for number in range(share.shape[-1]):
        gate, up = (x @ experts.gate_up_proj[number].T).chunk(2, -1)
        out = out + share[..., number, None] * ((F.silu(gate) * up) @ experts.down_proj[number].T)
    return out


__all__ = ["Decoder", "shifted", "stream_of"]
