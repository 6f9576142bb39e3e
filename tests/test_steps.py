"""Activations of a generation, step by step, against running the prompt and the answer so far with bare hooks."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from tests.oracles import hooks as oracle
from tests.support import (
    LAWFUL,
    STREAM,
    TEXTS,
    VISION,
    close,
    fresh,
    inputs_of,
    model_of,
    reachable,
    same,
    twin_of,
    vectors,
)

CORE = ("llava", "qwen2_vl", "llama")
# Every family with edits that go on with each new token; the other kinds of positions are no matter of the family.
CASES = [(family, "last", kind) for family in LAWFUL for kind in ("text", "mixed")]
CASES += [(family, positions, "mixed") for family in CORE for positions in ("all", -1, "prompt", None)]
# Their prompts' tokens see later ones, and would see new ones if they were run again.
SEE_LATER = ("paligemma", "paligemma2")
CASES = [
    case for case in CASES if (case[2] == "text" or case[0] in VISION or case[1] != "last") and case[0] not in SEE_LATER
]
N = 4


def grown(tensors, tokens):
    """An encoding with new tokens behind it."""
    n, shape = tokens.shape[1], tensors["input_ids"].shape
    new = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    def longer(name, x):
        if not n or x.shape[:2] != shape:
            return x
        # Mllama's mask of the image has a row of its own for each token, and new tokens see what the last one saw.
        after = new.get(name, torch.zeros_like(tokens)) if x.ndim == 2 else x[:, -1:].expand(-1, n, *x.shape[2:])
        return torch.cat([x, after], 1)

    return {name: longer(name, x) for name, x in tensors.items()}


def language_points(model, kind="mixed"):
    """What a generation passes more than once, in forward order."""
    return [name for name in reachable(model, kind) if not model.network.points[name].is_vision]


def by_query(name):
    return name.endswith((".hook_pattern", ".hook_attn_scores"))


def endless(model):
    """Arguments of generation that keep a random model from ending its answer, or choosing the image token."""
    image, vocab = model.encoder.image_token, model.hf.get_output_embeddings().weight.shape[0]
    unwanted = None if image is None or image >= vocab else [image]
    return {"eos_token_id": -1, "pad_token_id": 0, "suppress_tokens": unwanted}


def other_keys(model, name):
    """Whether a pattern's keys are not all tokens: a sliding window keeps the last ones, Mllama's are of the image."""
    text = model.hf.config.get_text_config()
    sliding = [i for i, kind in enumerate(getattr(text, "layer_types", None) or ()) if kind == "sliding_attention"]
    crossing = getattr(text, "cross_attention_layers", None) or []
    return by_query(name) and int(name.split(".")[1]) in [*sliding, *crossing]


def uncached(family, tensors, names, edit):
    """Activations at the last token, by bare hooks, and the next token; `edit` by hook point."""
    kept, logits = oracle.run(twin_of(family), tensors, edit, names)
    last = logits[:, -1].clone()
    last[:, endless(model_of(family))["suppress_tokens"] or []] = -torch.inf
    return {name: x.select(2 if by_query(name) else 1, -1) for name, x in kept.items()}, last.argmax(-1)


@pytest.mark.parametrize(("family", "positions", "kind"), CASES)
def test_activations_of_each_step_are_those_without_a_cache(family, positions, kind):
    model = model_of(family)
    inputs, shift = inputs_of(model, kind=kind), vectors(model, scale=0.3)
    names = [name for name in language_points(model, kind) if not other_keys(model, name)]
    acting = () if positions is None else ci.Subtract(shift, positions=positions)
    found = model.generate_with_capture(inputs, names, acting, N, **endless(model))
    same(found.tokens, model.generate_tokens(inputs, acting, N, **endless(model)))
    assert found.texts == model.generate(inputs, acting, N, **endless(model))
    assert list(found.activations) == names
    assert bool(found.alive.all())
    edited = inputs.mask(positions or "last")
    width = edited.shape[1]
    for step in range(N):
        # Tokens that were edited when they were new stay edited in the keys and values.
        new = torch.full((3, step), positions in ("last", "all"))
        where = torch.cat([edited, new], 1)[..., None]
        edit = {} if positions is None else {n: _subtract(where, v) for n, v in shift.items()}
        wanted, token = uncached(family, grown(inputs.tensors, found.tokens[:, :step]), names, edit)
        assert token.tolist() == found.tokens[:, step].tolist()
        at = found.at(step)
        for name in names:
            value = at[name]
            if by_query(name):
                assert not value[..., width + step :].any()
                value = value[..., : width + step]
            close(value, wanted[name], slack=4)


@pytest.mark.parametrize("family", [*SEE_LATER, "llava"])
def test_activations_of_each_step_are_those_of_bare_hooks_with_the_cache(family):
    model = model_of(family)
    inputs, shift = inputs_of(model), vectors(model, scale=0.3)
    names = language_points(model)
    found = model.generate_with_capture(inputs, names, ci.Subtract(shift), N, **endless(model))
    edits = {name: _subtract_last(v) for name, v in shift.items()}
    how = endless(model)
    tokens, _, steps = oracle.generate(twin_of(family), inputs.tensors, N, edits, names, **how)
    assert found.tokens.tolist() == tokens.tolist()
    for step, wanted in enumerate(steps):
        for name, value in found.at(step).items():
            bare = wanted[name].select(2 if by_query(name) else 1, -1)
            close(value[..., : bare.shape[-1]], bare, slack=4)


def _subtract_last(vector):
    return lambda x: torch.cat([x[:, :-1], x[:, -1:] - vector], 1)


def _subtract(where, vector):
    return lambda x: torch.where(where, x - vector, x)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("family", CORE)
def test_steps_do_not_depend_on_the_batches(family, batch_size):
    model = fresh(family)
    inputs, acting = inputs_of(model), ci.Subtract(vectors(model, scale=0.1))
    plain = model.generate_tokens(inputs, acting, 6)
    # One row ends early, so that batches differ in their number of steps.
    model.hf.generation_config.eos_token_id = int(plain[0, 1])
    names = [name for name in language_points(model) if not name.endswith(".hook_attn_scores")]
    whole, parts = (model.generate_with_capture(inputs, names, acting, 6, n) for n in ("auto", batch_size))
    same(parts.tokens, whole.tokens)
    same(parts.alive, whole.alive)
    assert not bool(whole.alive.all())
    real = inputs.mask("all")
    for name in names:
        if name.endswith(".hook_pattern"):
            # Keys of the prompt's padding are at the front, whatever the batch.
            assert not whole.activations[name][..., : real.shape[1]].movedim(-1, 1)[~real].any()
        close(parts.activations.selected(name), whole.activations.selected(name))


@pytest.mark.parametrize("family", CORE)
def test_the_mask_ends_with_the_answer(family):
    model = fresh(family)
    inputs = inputs_of(model)
    plain = model.generate_tokens(inputs, max_new_tokens=6)
    end = model.hf.generation_config.eos_token_id = int(plain[0, 1])
    found = model.generate_with_capture(inputs, STREAM, max_new_tokens=6)
    lengths = [row.index(end) + 1 if end in row else 6 for row in plain.tolist()]
    assert found.alive.sum(1).tolist() == lengths
    assert len(set(lengths)) > 1
    assert found.activations.selected("blocks.0.hook_resid_post").shape[0] == sum(lengths)
    same(found.at(0)["blocks.0.hook_resid_post"], found.activations["blocks.0.hook_resid_post"][:, 0])
    with pytest.raises(MismatchError, match=r"answer \d ended after \d tokens, so that it has no step 3: use .activ"):
        found.at(3)
    with pytest.raises(MismatchError, match=r"no step 6: \d tokens were generated \(0-"):
        found.at(6)


@pytest.mark.parametrize("family", CORE)
def test_step_0_is_a_capture_of_the_prompt_and_the_logits_choose_the_tokens(family):
    model, inputs = model_of(family), inputs_of(model_of(family))
    acting = ci.ProjectOut(vectors(model))
    found = model.generate_with_capture(inputs, [STREAM, "unembed.hook_out"], acting, 3)
    first = model.capture(inputs, [STREAM, "unembed.hook_out"], interventions=acting)
    for name in first:
        close(found.at(0)[name], first[name])
    same(found.activations["unembed.hook_out"].argmax(-1), found.tokens)


def test_what_is_kept_is_after_interventions_and_a_copy():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    found = model.generate_with_capture(inputs, STREAM, ci.Ablate("blocks.1.hook_resid_post"), 3)
    assert not found.activations["blocks.1.hook_resid_post"].any()
    assert found.activations["blocks.0.hook_resid_post"].any()


def test_steps_go_into_directions_patches_and_files(tmp_path):
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    post = "blocks.1.hook_resid_post"
    one = model.generate_with_capture(inputs, post, max_new_tokens=4)
    two = model.generate_with_capture(inputs, post, ci.Subtract(vectors(model)), 4)
    shift = ci.mean_diff(two.activations, one.activations)
    close(shift[post], two.activations[post].mean((0, 1)) - one.activations[post].mean((0, 1)))
    one.activations.save(tmp_path / "steps.safetensors")
    assert ci.Activations.load(tmp_path / "steps.safetensors") == one.activations
    patched = model.generate_tokens(model.prepare(TEXTS[::-1]), ci.Patch(one.at(0), positions=-1), 1)
    wanted = model.logits(model.prepare(TEXTS[::-1]), ci.Patch(model.capture(inputs, post))).argmax(-1)
    assert patched[:, 0].tolist() == wanted.tolist()


def test_several_answers_a_prompt_have_steps_of_their_own():
    model, inputs = model_of("llama"), inputs_of(model_of("llama"))
    how = {"do_sample": True, "seed": 1, "num_return_sequences": 2}
    found = model.generate_with_capture(inputs, "unembed.hook_out", (), 4, **how)
    same(found.tokens, model.generate_tokens(inputs, (), 4, **how))
    assert found.activations["unembed.hook_out"].shape[:2] == found.tokens.shape == (6, 4)
    close(found.at(0)["unembed.hook_out"], model.logits(inputs).repeat_interleave(2, 0))


def test_without_a_tokenizer_there_are_tokens_alone():
    model = model_of("llama")
    bare = ci.load((model.hf, None))
    found = bare.generate_with_capture(bare.from_encoding(inputs_of(model).tensors), STREAM, max_new_tokens=2)
    assert found.texts is None
    same(found.tokens, model.generate_tokens(inputs_of(model), max_new_tokens=2))


@pytest.mark.parametrize("family", CORE[:2])
def test_the_vision_side_has_no_steps(family):
    model = model_of(family)
    with pytest.raises(HookPointError, match=r"'projector.hook_out' holds pieces of images.*: use model.capture"):
        model.generate_with_capture(inputs_of(model), "projector.hook_out")


def test_beams_have_no_steps():
    model = model_of("llama")
    with pytest.raises(InputError, match=r"num_beams=2 orders the rows anew at each step.*without beams"):
        model.generate_with_capture(inputs_of(model), STREAM, num_beams=2)
    with pytest.raises(InputError, match=r"use_cache=False runs every token again"):
        model.generate_with_capture(inputs_of(model), STREAM, use_cache=False)
