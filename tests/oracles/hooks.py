"""Reads and writes at every hook point, with plain forward hooks on Hugging Face modules and by-hand recomputation.

A network must have been set to this module's attention (`prepared`). Activations of the vision side are given as one
row of all real patches in reading order: ``entry d``.
"""

from contextlib import ExitStack, contextmanager

import torch

from tests.oracles import attention
from tests.oracles.blocks import Decoder
from tests.oracles.maps import at, net
from tests.oracles.taps import Taps
from tests.oracles.vision import attach_vision, vision_names


def prepared(hf):
    """The network with attention by hand."""
    hf.set_attn_implementation(attention.NAME)
    return hf


def decoder(hf):
    """The module with embedding, layers and norm."""
    return at(hf, net(hf).stack)


def layers(hf):
    """The decoder's blocks."""
    return at(decoder(hf), net(hf).layers)


def head(hf):
    """The module that gives logits."""
    return at(hf, net(hf).head)


def softcap(hf):
    """The number by which Gemma 2 and 4 bend their logits, or None."""
    return getattr(hf.config.get_text_config(), "final_logit_softcapping", None)


def names(hf, image=True):
    """Every hook point of the specification that a forward pass with or without an image meets."""
    found = ["hook_embed", "ln_final.hook_scale", "ln_final.hook_normalized", "ln_final.hook_out", "unembed.hook_out"]
    found += ["hook_pos_embed"] if net(hf).positions else []
    found += Decoder(hf, Taps({}, 1), image).names()
    return sorted(found + (vision_names(hf) if image and net(hf).tower else []))


@contextmanager
def editing(hf, edits, tensors):
    """Applies ``fn(activation) -> activation or None`` at hook points while the block runs.

    Args:
        hf: the network.
        edits: hook point to function.
        tensors: what the network is called with.
    """
    taps = Taps(dict(edits), tensors["input_ids"].shape[0])
    image = "pixel_values" in tensors
    with ExitStack() as stack:
        handles = Decoder(hf, taps, image).attach()
        handles += attach_vision(hf, taps, tensors) if image else []
        for handle in handles:
            stack.callback(handle.remove)
        stack.callback(attention.TAPS.clear)
        yield


@torch.no_grad()
def read(hf, tensors, edits=(), wanted=None):
    """Activations of one forward pass by hook point, after edits."""
    return run(hf, tensors, edits, wanted)[0]


@torch.no_grad()
def logits(hf, tensors, edits=()):
    """Logits of all positions, with edits."""
    return run(hf, tensors, edits, ())[1]


@torch.no_grad()
def run(hf, tensors, edits=(), wanted=None):
    """Activations of one forward pass, and its logits."""
    kept, edits = [], dict(edits)
    wanted = names(hf, "pixel_values" in tensors) if wanted is None else wanted
    with editing(hf, keeping(edits, wanted, kept), tensors):
        return kept_once(kept, lambda: called(hf, tensors)(**with_positions(hf, tensors), use_cache=False).logits)


@torch.no_grad()
def generate(hf, tensors, n, edits=(), wanted=(), **how):
    """Greedy new tokens, the logits of every step and the activations of every step, with edits in every forward."""
    kept = []
    how = {"max_new_tokens": n, "do_sample": False, "pad_token_id": 0, **how}
    with editing(hf, keeping(dict(edits), wanted, kept), tensors):
        out = called(hf, tensors).generate(**tensors, output_logits=True, return_dict_in_generate=True, **how)
    return out.sequences[:, tensors["input_ids"].shape[1] :], torch.stack(out.logits, 1), kept[:-1]


@torch.no_grad()
def hidden_states(hf, tensors):
    """transformers' own ``output_hidden_states``: what each block is given, and what the last norm returns."""
    out = called(hf, tensors)(**with_positions(hf, tensors), output_hidden_states=True, use_cache=False)
    return out.get("hidden_states") or out.language_model_outputs.hidden_states


def called(hf, tensors):
    """The module that is called for these tensors."""
    alone = net(hf).alone
    return hf if alone is None or "pixel_values" in tensors else at(hf, alone)


def with_positions(hf, tensors):
    """The tensors, with positions of real tokens for models that count padding."""
    if hf.config.model_type not in ("gpt2", "instructblip"):
        return tensors
    return {**tensors, "position_ids": (tensors["attention_mask"].cumsum(1) - 1).clamp(min=0)}


def kept_once(kept, call):
    """What one call of the network keeps, and returns."""
    result = call()
    return kept[0], result


def keeping(edits, wanted, kept):
    """Edits that also keep what they made; the head begins a new step.

    A part that runs again after an edit is met twice, and the second time counts.
    """
    kept.append({})

    def keep(name, fn):
        def kept_fn(x):
            new = fn(x) if fn else None
            if name in wanted:
                kept[-1][name] = (x if new is None else new).detach().clone()
            if name == "unembed.hook_out":
                kept.append({})
            return new

        return kept_fn

    return {name: keep(name, edits.get(name)) for name in {*edits, *wanted, "unembed.hook_out"}}
