"""Variants of all kinds for any family, and their comparison with runs of their own."""

import random

import cmrm_interp as ci
from cmrm_interp.positions import new
from cmrm_interp.variants import Wants, run_variants
from tests.support import TALKS_IMAGES, close, inputs_of, vectors

LAST = Wants()


def batch_of(model, kind="mixed"):
    """A batch of three rows of unequal length (two for the families that cannot mix), and the inputs it is of."""
    inputs = inputs_of(model, "left", kind)
    return inputs, inputs.batch(slice(0, 3))


def ends(model, inputs):
    """Variants that change tokens near a prompt's end, and what is generated after it."""
    points, v, n = set(model.hook_points), vectors(model, scale=2.0), model.n_layers
    last = model.capture(inputs, "blocks.*.hook_resid_post", positions="last")
    found = [
        [],
        [ci.Subtract(v, 1.5, layers=[0])],
        [ci.Add(v, 2.0, layers=[n - 1])],
        [ci.Subtract(v, 1.0), ci.ProjectOut(v, positions=-2, layers=[1])],
        [ci.ProjectOut(v, positions=slice(-3, None), layers=range(1, n))],
        [ci.Clamp(v, low=-0.5, high=0.5, positions=-3, layers=[1])],
        [ci.Patch(last, layers=[1]), ci.Add(v, -1.0, positions=new())],
        [ci.Add(v, 4.0, positions=new(2))],
        [ci.Gate(lambda x: x[:, 0] > 0, ci.Subtract(v, 3.0, layers=[1, 2]))],
        [ci.Gate(ci.HasImage(), ci.Hook("blocks.1.hook_resid_post", lambda x, hook: x * 1.5, positions=-1))],
        [ci.Ablate("blocks.0.hook_mlp_out", positions=-1), ci.Ablate("blocks.2.hook_attn_out", positions=-2)],
        [ci.Skip(2, positions=-1), ci.Add(v, 1.0, layers=[0])],
        [ci.Ablate("unembed.hook_out", positions="last"), ci.Ablate("ln_final.hook_out", positions=new(1))],
    ]
    for part in ("hook_q", "hook_k", "hook_v", "hook_z", "hook_result"):
        name = next(p for p in (f"blocks.2.attn.{part}", f"blocks.0.attn.{part}") if p in points)
        found.append([halved(name, slice(-2, None))])
    for part in ("attn.hook_pattern", "mlp.hook_post", "mlp.hook_router", "hook_per_layer_out"):
        found += [[ci.Ablate(f"blocks.0.{part}", positions=-1)]] if f"blocks.0.{part}" in points else []
    found += (
        [[ci.Ablate("blocks.1.cross_attn.hook_pattern", positions=-1)]]
        if model.family.name == "mllama" and inputs.has_images
        else []
    )
    return found


def halved(hook, positions):
    """Half of what the chosen tokens have at a hook point, by a function on these tokens alone."""
    return ci.Gate(lambda x: x.new_ones(len(x)), ci.Hook(hook, lambda x, hook: x * 0.5, positions))


def above(model, inputs):
    """Variants that change earlier tokens, pieces of images, or whatever a function likes."""
    v, n, image = vectors(model, scale=2.0), model.n_layers, model.family.vision is not None
    middle = next(p for p in ("blocks.2.hook_resid_mid", "blocks.2.hook_attn_out") if p in model.hook_points)
    everywhere = model.capture(inputs, "blocks.1.hook_resid_post", positions="all")
    found = [
        [ci.Ablate(f"blocks.{n - 1}.hook_resid_post")],
        [ci.Ablate("blocks.1.hook_attn_out")],
        [ci.Ablate("blocks.2.hook_mlp_out"), ci.Subtract(v, 1.0, layers=[n - 1])],
        [ci.Patch(everywhere)],
        [ci.Hook(middle, lambda x, hook: x.flip(-1))],
        [ci.Hook("blocks.0.hook_resid_post", lambda x, hook: x.mul_(0.5))],
        [ci.Skip([1, n - 1])],
        [ci.Skip(2), ci.Add(v, 1.0, layers=[0])],
        [ci.Hook("ln_final.hook_out", lambda x, hook: x + 1)],
        [ci.Hook("unembed.hook_out", lambda x, hook: x * 2)],
        [ci.Hook("hook_embed", lambda x, hook: x * 0.5)],
    ]
    if image:
        found += [
            [ci.Subtract(v, 1.0, positions="image", layers=[1])],
            [ci.Ablate("projector.hook_out")],
            [ci.Hook("vision.hook_out", lambda x, hook: x * 0.5)],
            [ci.Hook("vision.blocks.1.hook_resid_post", lambda x, hook: x.clamp(-0.5, 0.5)), ci.Subtract(v, 1.0)],
            [ci.Ablate("vision.blocks.0.hook_mlp_out")],
        ]
    return found


def some(variants, k, seed):
    """A random choice of variants, in a random order; the clean model among them."""
    return [*random.Random(seed).sample(variants, k), []]


def run(model, batch, variants, wants=LAST):
    """Outcomes by number."""
    outcomes = list(run_variants(model.network, model.encoder, batch, variants, wants))
    assert sorted(outcome.variant for outcome in outcomes) == list(range(len(variants)))
    return {outcome.variant: outcome for outcome in outcomes}


def check(model, inputs, outcomes, variants, wants=LAST):
    """Compare outcomes with the model's own logits, captures and answers, one variant at a time."""
    for number, acting in enumerate(variants):
        outcome = outcomes[number]
        if wants.logits:
            expected = model.logits(inputs, acting, positions=wants.logits)
            real = ... if wants.logits == "last" else inputs.batch(slice(0, 3)).tokens.real
            assert outcome.logits.shape == expected.shape
            assert float((outcome.logits[real] - expected[real]).abs().max()) < 1e-4, acting
        if wants.activations:
            acts = model.capture(inputs, list(wants.activations), positions="last", interventions=acting)
            assert list(outcome.activations) == list(wants.activations)
            for name in wants.activations:
                close(outcome.activations[name], acts[name], slack=5)
        if wants.new_tokens:
            expected = model.generate_tokens(inputs, acting, max_new_tokens=wants.new_tokens)
            assert outcome.answers.tolist() == expected.tolist(), acting


def no_image_tokens(model):
    """Keep random models from choosing the image token, which stands for nothing then."""
    if model.family.name in TALKS_IMAGES:
        model.hf.generation_config.suppress_tokens = [model.hf.config.image_token_id]
    return model


def count_tokens(module, counts):
    """A bare hook that notes how many tokens a module is given; returns its handle."""

    def note(_, args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        counts.append(hidden.shape[0] * hidden.shape[1])

    return module.register_forward_pre_hook(note, with_kwargs=True)
