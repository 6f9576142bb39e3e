"""TransformerLens's names: which of ours each one means, where it means nothing, and what it holds."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError
from cmrm_interp.hooks import expand
from tests.support import fresh, inputs_of, model_of, same, twin_of

N = 3
STREAM = ["hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post"]
ATTENTION = [f"attn.hook_{x}" for x in "q k v attn_scores pattern z result".split()]


def names_of(*, gated=True, norms_after=False, router=False, vision=False):
    """Hook points of a model of some kind."""
    block = [*STREAM, *ATTENTION, *([] if router else ["mlp.hook_pre", "mlp.hook_post"])]
    block += ["mlp.hook_pre_linear"] if gated and not router else []
    block += ["attn.hook_out", "mlp.hook_out"] if norms_after else []
    block += ["mlp.hook_router"] if router else []
    sight = [f"vision.blocks.{i}.{p}" for i in range(N) for p in STREAM] + ["vision.hook_out", "projector.hook_out"]
    ends = ["ln_final.hook_scale", "ln_final.hook_normalized", "ln_final.hook_out", "unembed.hook_out"]
    inside = [f"blocks.{i}.{p}" for i in range(N) for p in block]
    return ["hook_embed", "hook_pos_embed", *(sight if vision else []), *inside, *ends]


EVERYWHERE = {
    "embed.hook_out": "hook_embed",
    "pos_embed.hook_out": "hook_pos_embed",
    "ln_final.hook_in": "blocks.2.hook_resid_post",
    "unembed.hook_in": "ln_final.hook_out",
    "hook_unembed": "unembed.hook_out",
    "blocks.1.hook_in": "blocks.1.hook_resid_pre",
    "blocks.1.hook_out": "blocks.1.hook_resid_post",
    "blocks.1.ln2.hook_in": "blocks.1.hook_resid_mid",
    "blocks.1.attn.q.hook_out": "blocks.1.attn.hook_q",
    "blocks.1.attn.k.hook_out": "blocks.1.attn.hook_k",
    "blocks.1.attn.v.hook_out": "blocks.1.attn.hook_v",
    "blocks.1.attn.o.hook_in": "blocks.1.attn.hook_z",
    "blocks.1.mlp.out.hook_in": "blocks.1.mlp.hook_post",
}
GATED = {"mlp.gate.hook_out": "mlp.hook_pre", "mlp.in.hook_out": "mlp.hook_pre_linear"}
NO_NORMS_AFTER = {
    "attn.hook_out": "hook_attn_out",
    "attn.o.hook_out": "hook_attn_out",
    "mlp.hook_out": "hook_mlp_out",
    "mlp.out.hook_out": "hook_mlp_out",
}
NORMS_AFTER = {
    "attn.hook_out": "attn.hook_out",
    "attn.o.hook_out": "attn.hook_out",
    "ln1_post.hook_out": "hook_attn_out",
    "mlp.hook_out": "mlp.hook_out",
    "mlp.out.hook_out": "mlp.hook_out",
    "ln2_post.hook_out": "hook_mlp_out",
}
VISION = {
    "hook_in": "hook_resid_pre",
    "hook_resid_pre": "hook_resid_pre",
    "attn.hook_out": "hook_attn_out",
    "hook_attn_out": "hook_attn_out",
    "ln2.hook_in": "hook_resid_mid",
    "mlp.hook_out": "hook_mlp_out",
    "hook_mlp_out": "hook_mlp_out",
    "hook_out": "hook_resid_post",
    "hook_resid_post": "hook_resid_post",
}
PROJECTOR = {
    "hook_in": "vision.hook_out",
    "hook_vision_proj_in": "vision.hook_out",
    "hook_out": "projector.hook_out",
    "hook_vision_proj_out": "projector.hook_out",
    "hook_projected": "projector.hook_out",
}


@pytest.mark.parametrize(("theirs", "ours"), EVERYWHERE.items())
@pytest.mark.parametrize("kind", [{"gated": False}, {"gated": True}, {"norms_after": True}])
def test_names_that_mean_the_same_in_every_model(theirs, ours, kind):
    assert expand(theirs, names_of(**kind)) == [ours]


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ({"gated": True}, GATED | NO_NORMS_AFTER),
        ({"gated": False}, {"mlp.in.hook_out": "mlp.hook_pre"} | NO_NORMS_AFTER),
        ({"norms_after": True}, GATED | NORMS_AFTER),
        ({"router": True}, {"mlp.gate.hook_out": "mlp.hook_router"} | NO_NORMS_AFTER),
    ],
)
def test_names_that_mean_what_the_model_is(kind, table):
    for theirs, ours in table.items():
        assert expand(f"blocks.1.{theirs}", names_of(**kind)) == [f"blocks.1.{ours}"]


@pytest.mark.parametrize("stack", ["vision_encoder.encoder_layers", "vision_encoder.blocks", "vision.blocks"])
@pytest.mark.parametrize(("theirs", "ours"), VISION.items())
def test_names_of_the_vision_tower(stack, theirs, ours):
    assert expand(f"{stack}.-1.{theirs}", names_of(vision=True)) == [f"vision.blocks.2.{ours}"]


@pytest.mark.parametrize(("theirs", "ours"), PROJECTOR.items())
def test_names_of_the_projector(theirs, ours):
    assert expand(f"vision_projector.{theirs}", names_of(vision=True)) == [ours]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("blocks.*.hook_out", [f"blocks.{i}.hook_resid_post" for i in range(N)]),
        ("blocks.-1.hook_in", ["blocks.2.hook_resid_pre"]),
        ("blocks.{0,2}.attn.o.hook_in", ["blocks.0.attn.hook_z", "blocks.2.attn.hook_z"]),
        ("blocks.0-1.mlp.out.hook_in", ["blocks.0.mlp.hook_post", "blocks.1.mlp.hook_post"]),
        ("blocks.1.{hook_out,hook_in}", ["blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"]),
        ("blocks.1.{hook_attn_out,hook_in}", ["blocks.1.hook_resid_pre", "blocks.1.hook_attn_out"]),
        ("vision_encoder.encoder_layers.*.hook_out", [f"vision.blocks.{i}.hook_resid_post" for i in range(N)]),
    ],
)
def test_patterns_for_their_layers(pattern, wanted):
    assert expand(pattern, names_of(vision=True)) == wanted


def test_a_star_means_hook_points_and_not_their_other_names():
    names = names_of(vision=True)
    assert expand("blocks.1.attn.*", names) == [f"blocks.1.{p}" for p in ATTENTION]
    assert expand("*.hook_out", names) == ["vision.hook_out", "projector.hook_out", "ln_final.hook_out", names[-1]]


def test_a_name_that_exists_means_itself():
    names = [*names_of(), "blocks.1.hook_out"]
    assert expand("blocks.1.hook_out", names) == ["blocks.1.hook_out"]
    assert expand("blocks.0.hook_out", names) == ["blocks.0.hook_resid_post"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vision_encoder.hook_out", "what the vision tower returns; 'vision.hook_out' is what the projector is given"),
        ("vision_encoder.hook_vision_out", r"'vision\.blocks\.-1\.hook_resid_post' the output of the last block"),
        ("blocks.0.ln1.hook_in", r"reaches one branch and not the residual stream, unlike 'blocks\.\*\.hook_resid_pre"),
        ("blocks.*.hook_mlp_in", r"write at 'ln1\.hook_normalized' or 'ln2\.hook_normalized'"),
        ("blocks.0.attn.hook_rot_q", r"seen as projected \('blocks\.\*\.attn\.hook_q', 'hook_k'\)"),
        ("blocks.0.attn.hook_k_normed", r"after norm and rotation in 'blocks\.\*\.attn\.hook_attn_scores'"),
        ("blocks.3.hook_out", r"this model has 3 layers \(0-2\)"),
        ("vision_encoder.encoder_layers.3.hook_out", r"this model has 3 vision layers \(0-2\)"),
        ("vision_encoder.encoder_layers.0-9.mlp.hook_out", r"this model has 3 vision layers \(0-2\)"),
        ("vision_encoder.hook_patch_embed", "the nearest are "),
        ("blocks.0.ln1_post.hook_out", "the nearest are "),
    ],
)
def test_names_that_mean_nothing_here_are_answered(name, words):
    with pytest.raises(HookPointError, match=f"no hook point '{name.replace('*', '[*]')}': .*{words}"):
        expand(name, names_of(vision=True))


@pytest.mark.parametrize("router", [False, True])
def test_a_plain_mlp_has_no_gate_and_a_mixture_no_projections(router):
    missing = "blocks.0.mlp.in.hook_out" if router else "blocks.0.mlp.gate.hook_out"
    with pytest.raises(HookPointError, match="the nearest are"):
        expand(missing, names_of(gated=False, router=router))


def test_values_are_found_by_either_name():
    acts = ci.Directions({"blocks.1.hook_resid_post": torch.ones(2), "blocks.1.hook_attn_out": torch.zeros(2)})
    assert acts["blocks.1.hook_out"] is acts["blocks.-1.hook_resid_post"] is acts["blocks.-1.hook_out"]
    assert acts["blocks.1.ln1_post.hook_out"] is acts["blocks.1.hook_attn_out"]
    theirs = ci.Directions({"blocks.1.hook_out": torch.ones(2)})
    assert theirs["blocks.1.hook_resid_post"] is theirs["blocks.1.hook_out"]


@pytest.mark.parametrize("theirs", ["attn.hook_out", "mlp.in.hook_out"])
def test_values_of_an_unknown_model_are_not_guessed_at(theirs):
    held = ci.Directions({f"blocks.1.{p}": torch.ones(2) for p in ("hook_attn_out", "mlp.hook_pre")})
    words = f"no hook point 'blocks.1.{theirs}': whether it is 'blocks.1.*' depends on the model; ask for the one"
    with pytest.raises(HookPointError, match=words):
        held[f"blocks.1.{theirs}"]


# TransformerLens defines its canonical names as the input and output of a module: the same modules here, by path.
ATTN, MLP = "layers.1.self_attn", "layers.1.mlp"
MODULES = {
    "blocks.1": "layers.1",
    "blocks.1.attn": ATTN,
    **{f"blocks.1.attn.{x}": f"{ATTN}.{x}_proj" for x in "qkvo"},
    "blocks.1.mlp": MLP,
    **{f"blocks.1.mlp.{x}": f"{MLP}.{y}_proj" for x, y in (("gate", "gate"), ("in", "up"), ("out", "down"))},
    "embed": "embed_tokens",
    "ln_final": "norm",
}
NORMS = {
    "llama": {"blocks.1.ln2": "layers.1.post_attention_layernorm"},
    "gemma2": {
        "blocks.1.ln1_post": "layers.1.post_attention_layernorm",
        "blocks.1.ln2": "layers.1.pre_feedforward_layernorm",
        "blocks.1.ln2_post": "layers.1.post_feedforward_layernorm",
    },
}
HELD = (
    "hook_in hook_out ln2.hook_in attn.q.hook_out attn.k.hook_out attn.v.hook_out attn.o.hook_in attn.o.hook_out"
    " attn.hook_out mlp.gate.hook_out mlp.in.hook_out mlp.out.hook_in mlp.out.hook_out mlp.hook_out"
).split()


def inputs_and_outputs(hf, modules, tensors):
    """What modules were given and returned, under TransformerLens's names."""
    held = {}

    def keep(name):
        def hook(module, args, kwargs, output):
            given = args[0] if args else kwargs["hidden_states"]
            held[f"{name}.hook_in"] = given.detach().clone()
            held[f"{name}.hook_out"] = (output[0] if isinstance(output, tuple) else output).detach().clone()

        return hook

    handles = [
        hf.model.get_submodule(path).register_forward_hook(keep(name), with_kwargs=True, prepend=True)
        for name, path in modules.items()
    ]
    with torch.no_grad():
        hf(**tensors, use_cache=False)
    for handle in handles:
        handle.remove()
    return held


@pytest.mark.parametrize("family", NORMS)
def test_canonical_names_hold_what_goes_into_and_comes_out_of_the_modules(family):
    model = model_of(family)
    inputs = inputs_of(model)
    held = inputs_and_outputs(twin_of(family), MODULES | NORMS[family], inputs.tensors)
    known = [f"blocks.1.{name}" for name in HELD] + ["embed.hook_out", "ln_final.hook_in", "ln_final.hook_out"]
    known += [name for name in held if "_post.hook_out" in name]
    acts = model.capture(inputs, known, positions="all")
    real = inputs.mask("all")
    for theirs in known:
        ours = acts[expand(theirs, model.hook_points)[0]].flatten(2)
        torch.testing.assert_close(ours[real], held[theirs].flatten(2)[real])


def test_interventions_take_them_and_callbacks_are_told_our_names():
    model = fresh("llama")
    inputs = inputs_of(model)
    met = []

    def double(x, name):
        met.append(name)
        return 2 * x

    theirs = model.logits(inputs, [ci.Hook("blocks.-1.mlp.out.hook_in", double)])
    last = model.n_layers - 1
    assert set(met) == {f"blocks.{last}.mlp.hook_post"}
    same(theirs, model.logits(inputs, [ci.Hook(f"blocks.{last}.mlp.hook_post", double)]))
    v = torch.randn(model.d_model)
    by_either = [
        model.logits(inputs, [ci.Add(ci.Directions({f"blocks.1.hook_{x}": v}))]) for x in ("out", "resid_post")
    ]
    same(*by_either)
