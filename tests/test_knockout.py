"""Knockout: against attention by hand, its laws, and what it refuses."""

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.interventions import Step
from cmrm_interp.positions import Tokens, at, new, padding
from tests.oracles import hooks as oracle
from tests.support import (
    SIDES,
    TEXTS,
    VISION,
    close,
    fresh,
    inputs_of,
    model_of,
    picture,
    same,
    twin_of,
    unchecked,
)

SEEING = ("llava", "qwen2_vl", "gemma3", "mistral3", "paligemma")
CASES = (*SEEING, "gpt2", "opt")
# Their image is met by cross-attention.
SEVERED = tuple(family for family in VISION if family != "mllama")
N = 3


def keys_of(model):
    """Image tokens, or two of the text for models without."""
    return "image" if model.family.vision else slice(-3, -1)


def key_mask(model, tensors):
    """The same without the package's position language."""
    if model.family.vision:
        return tensors["input_ids"] == model.hf.config.image_token_id
    left = tensors["attention_mask"].flip(1).cumsum(1).flip(1) * tensors["attention_mask"]
    return (left == 2) | (left == 3)


def last_mask(tensors, width):
    """The last real token of each row, and what follows."""
    real = tensors["attention_mask"].bool()
    order = real.long().cumsum(1)
    mask = real & (order == order.max(1, keepdim=True).values)
    return torch.nn.functional.pad(mask, (0, width - mask.shape[1]), value=True)


def cutting(queries, keys, heads=slice(None)):
    """Scores of some query and key columns at minus infinity, of all heads or some."""

    def fn(scores):
        scores = scores.clone()
        columns = torch.nn.functional.pad(keys, (0, scores.shape[3] - keys.shape[1]))
        pair = (queries[:, :, None] & columns[:, None, :])[:, None]
        scores[:, heads] = scores[:, heads].masked_fill(pair, -torch.inf)
        return scores

    return fn


def sober(model):
    """Three new tokens, none of which is a second image's."""
    own = {"suppress_tokens": [model.hf.config.image_token_id]} if model.family.vision else {}
    return {"max_new_tokens": N, **own}


def at_layers(layers, fn):
    return {f"blocks.{i}.attn.hook_attn_scores": fn for i in layers}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", CASES)
def test_is_attention_by_hand_with_a_mask(family, side):
    model, twin = model_of(family), twin_of(family)
    inputs = inputs_of(model, side)
    tensors = inputs.tensors
    keys, real = key_mask(model, tensors), tensors["attention_mask"].bool()
    queries = last_mask(tensors, real.shape[1])
    every = range(model.n_layers)
    for knockout, edits in (
        (ci.Knockout("last", keys_of(model)), at_layers(every, cutting(queries, keys))),
        (ci.Knockout("last", keys_of(model), layers=[-1]), at_layers(every[-1:], cutting(queries, keys))),
        (ci.Knockout("last", keys_of(model), heads=[1, -2]), at_layers(every, cutting(queries, keys, [1, -2]))),
        (ci.Knockout(~at(keys_of(model)), keys_of(model), 0), at_layers([0], cutting(real & ~keys, keys))),
    ):
        ours = model.logits(inputs, knockout, positions="all")[real]
        close(ours, oracle.logits(twin, tensors, edits)[real])
        assert not torch.equal(ours, model.logits(inputs, positions="all")[real])


def extended(tensors, tokens):
    """A prompt and what follows it as one sequence."""
    more = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    return {
        name: torch.cat([x, more.get(name, torch.zeros_like(tokens)).to(x)], 1)
        if x.shape == tensors["input_ids"].shape
        else x
        for name, x in tensors.items()
    }


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "gemma3", "gpt2", "mistral", "gemma2"])
def test_new_tokens_stay_cut_as_in_one_pass_over_all_tokens(family, cache):
    """In Mistral and Gemma layers keep a window of eight keys alone, a static cache has room for those to come."""
    model, twin = model_of(family), twin_of(family)
    inputs = inputs_of(model, "right")
    knockout = ci.Knockout("last", keys_of(model))
    how = sober(model) | ({} if cache is None else {"cache_implementation": cache})
    found = model.generate_with_capture(inputs, "unembed.hook_out", knockout, **how)
    tensors = inputs.left_padded().tensors
    whole = extended(tensors, found.tokens[:, :-1])
    queries = last_mask(tensors, whole["input_ids"].shape[1])
    edits = at_layers(range(model.n_layers), cutting(queries, key_mask(model, tensors)))
    wanted = oracle.read(twin, whole, edits, ["unembed.hook_out"])["unembed.hook_out"][:, -N:]
    close(found.activations["unembed.hook_out"], wanted)
    free = model.generate_with_capture(inputs, "unembed.hook_out", **how)
    assert not torch.equal(found.activations["unembed.hook_out"], free.activations["unembed.hook_out"])


def test_new_tokens_alone_and_as_keys():
    model, twin = model_of("llava"), twin_of("llava")
    inputs = inputs_of(model)
    tensors, p = inputs.tensors, inputs.tensors["input_ids"].shape[1]
    for knockout, first_query, keys in (
        (ci.Knockout(new(), "image"), p, lambda n: key_mask(model, tensors)),
        # New tokens attend to those before the last two of the prompt alone, and to themselves no more.
        (
            ci.Knockout("generated", at("generated") | at(slice(-2, None))),
            p,
            lambda width: torch.arange(width) >= p - 2,
        ),
    ):
        found = model.generate_with_capture(inputs, "unembed.hook_out", knockout, **sober(model))
        whole = extended(tensors, found.tokens[:, :-1])
        width = whole["input_ids"].shape[1]
        queries = (torch.arange(width) >= first_query).expand(3, -1)
        edits = at_layers(range(model.n_layers), cutting(queries, keys(width).expand(3, -1)))
        wanted = oracle.read(twin, whole, edits, ["unembed.hook_out"])["unembed.hook_out"][:, -N:]
        close(found.activations["unembed.hook_out"], wanted)


@pytest.mark.parametrize("family", SEVERED)
def test_without_sight_of_the_image_its_content_does_not_matter(family):
    model = model_of(family)
    one, other = (model.prepare(TEXTS, picture(seed)) for seed in (0, 1))
    severed = [ci.Knockout("last", "image"), ci.Knockout(at("text") & ~at("last"), "image")]
    text = one.mask("text")
    close(model.logits(one, severed, "all")[text], model.logits(other, severed, "all")[text])
    with pytest.raises(AssertionError):
        close(model.logits(one, positions="all")[text], model.logits(other, positions="all")[text])
    # The last token alone still hears of the image through the text behind it.
    with pytest.raises(AssertionError):
        close(model.logits(one, severed[0]), model.logits(other, severed[0]))


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "gemma3"])
def test_nothing_to_cut_is_nothing_to_the_bit(family):
    model = model_of(family)
    mixed = inputs_of(model)
    clean, cut = (model.logits(mixed, how, positions="all") for how in ([], ci.Knockout("all", "image", heads=0)))
    same(cut[1], clean[1])
    text = mixed.without_images()
    for knockout in (ci.Knockout("last", "image"), ci.Knockout("image", "text"), ci.Knockout(new(), "text")):
        same(model.logits(text, knockout), model.logits(text))


def test_is_local_to_the_last_queries_of_a_pass():
    tokens = Tokens(torch.ones(1, 5, dtype=torch.bool), torch.tensor([[False, True, True, False, False]]))
    step = Step(tokens, torch.tensor([7]), torch.tensor([True]))
    knockout = ci.Knockout("last", "image")
    hook, scores = "blocks.0.attn.hook_attn_scores", torch.randn(1, 2, 5, 5)
    assert knockout.by_token
    same(knockout.apply(scores[:, :, -2:], hook, step), knockout.apply(scores, hook, step)[:, :, -2:])
    later = knockout.apply(torch.zeros(1, 2, 1, 7), hook, step.at(2))[0, 0, 0]
    assert later.isinf().tolist() == [False, True, True, False, False, False, False]
    # At the third new token there are eight keys: of a window of six, of four, and a cache with room for two more.
    for width, cut in ((6, [0]), (4, []), (10, [1, 2])):
        scores = knockout.apply(torch.zeros(1, 2, 1, width), hook, step.at(3))[0, 0, 0]
        assert scores.isinf().nonzero().flatten().tolist() == cut


def test_a_token_with_no_key_left_is_refused():
    model = model_of("llava")
    inputs = inputs_of(model, kind="text")
    with pytest.raises(InputError, match=r"leaves token 0 of row 0 no key at 'blocks.0.attn.hook_attn_scores'"):
        model.logits(inputs, ci.Knockout("first", "all"))
    with pytest.raises(InputError, match=r"is a key of itself; leave some of these out of keys="):
        model.logits(inputs, ci.Knockout("last", "all"))
    with pytest.raises(InputError, match="leaves new token 0 of row 0 no key"):
        model.generate(inputs, ci.Knockout("generated", "all"), max_new_tokens=3)
    # Padding sees nothing in any case.
    same(model.logits(inputs, ci.Knockout(padding(), "all")), model.logits(inputs))


def test_layers_and_heads_that_there_are_not():
    model = model_of("llava")
    inputs = inputs_of(model)
    with pytest.raises(HookPointError, match=r"no head 9: these layers have 4 heads \(0-3\)"):
        model.logits(inputs, ci.Knockout("last", "image", heads=[0, 9]))
    with pytest.raises(HookPointError, match="no layer 40"):
        model.logits(inputs, ci.Knockout("last", "image", layers=40))
    with pytest.raises(InputError, match="heads is empty"):
        ci.Knockout("last", "image", heads=[])
    with pytest.raises(HookPointError, match="no position 'picture'"):
        ci.Knockout("last", "picture")


def test_other_attention_is_told_what_to_do():
    model = fresh("llava", eager=False)
    with pytest.raises(ModelError, match=r"'sdpa' attention does not give: load the model with attn_impl.*='eager'"):
        model.logits(inputs_of(model), ci.Knockout("last", "image"))


def test_a_gate_cannot_hold_one():
    model = model_of("llava")
    with pytest.raises(InputError, match=r"cuts pairs of tokens and cannot be inside a Gate"):
        model.logits(inputs_of(model), ci.Gate(ci.HasImage(), ci.Knockout("last", "image")))


def test_cross_attention_is_cut_elsewhere():
    model = model_of("mllama")
    one, other = (model.prepare(TEXTS, picture(seed)) for seed in (0, 1))
    with pytest.raises(HookPointError, match="attend to the image by cross-attention") as refused:
        model.logits(one, ci.Knockout("last", "image"))
    # What the message advises does cut the image off.
    advised = str(refused.value).split("Ablate('")[1].split("')")[0]
    close(model.logits(one, ci.Ablate(advised)), model.logits(other, ci.Ablate(advised)))
    with pytest.raises(AssertionError):
        close(model.logits(one), model.logits(other))
    cross = {int(name.split(".")[1]) for name in model.hook_points if ".cross_attn." in name}
    own = [layer for layer in range(model.n_layers) if layer not in cross]
    assert not torch.equal(model.logits(one, ci.Knockout("last", "first", layers=own)), model.logits(one))
    with pytest.raises(HookPointError, match="for attention between tokens of text name the other layers"):
        model.logits(one, ci.Knockout("last", "first"))


def test_scores_that_cannot_be_changed_are_said():
    names = ["blocks.0.attn.hook_attn_scores", "blocks.0.hook_attn_out", "blocks.1.attn.hook_pattern"]
    with pytest.raises(HookPointError, match=r"cannot be cut at layers 1: .*no 'blocks.1.attn.hook_attn_scores'"):
        ci.Knockout("last", "image").targets(names)
    assert ci.Knockout("last", "image", layers=0).targets(names) == names[:1]


def test_a_step_without_its_prompt_is_said():
    real = torch.ones(1, 4, dtype=torch.bool)
    step = Step(Tokens(real, ~real).new_token(), torch.tensor([0]), torch.tensor([False]))
    with pytest.raises(HookPointError, match="the prompt of these new tokens is not known"), unchecked():
        ci.Knockout("last", "text").apply(torch.zeros(1, 1, 1, 5), "blocks.0.attn.hook_attn_scores", step)


def test_several_answers_of_a_prompt_are_all_cut():
    model = model_of("llava")
    inputs, knockout = inputs_of(model), ci.Knockout("last", "image")
    how = {**sober(model), "num_beams": 2}
    assert model.generate(inputs, knockout, **how, num_return_sequences=2)[::2] == model.generate(
        inputs, knockout, **how
    )
