"""Attention to some tokens: against transformers' own attentions, by prompt, with intervals; and maps over an image."""

import numpy as np
import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import HookPointError, InputError, ModelError
from cmrm_interp.positions import at
from tests.oracles import hooks as oracle
from tests.support import SIDES, close, fresh, inputs_of, model_of, network, picture, same, unchecked

CASES = ("llava", "qwen2_vl", "gemma3", "mistral3", "gpt2", "opt")


def attentions(family, tensors):
    """transformers' own, of a network that nothing has wrapped: layer batch head query key."""
    hf, _ = network(family)
    with torch.no_grad():
        out = hf(**oracle.with_positions(hf, tensors), output_attentions=True, use_cache=False)
    return torch.stack(out.attentions)


def masks(model, tensors):
    """Real tokens, image tokens (or the second and third) and the last, by hand."""
    real = tensors["attention_mask"].bool()
    order = real.long().cumsum(1) * real
    image = (
        tensors["input_ids"] == model.hf.config.image_token_id if model.family.vision else (order == 2) | (order == 3)
    )
    return real, image, order == order.max(1, keepdim=True).values


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("family", CASES)
def test_is_the_sum_over_keys_of_transformers_own_attentions(family, side):
    model = model_of(family)
    inputs = inputs_of(model, side)
    keys = "image" if model.family.vision else slice(1, 3)
    patterns = attentions(family, inputs.tensors)
    real, image, last = masks(model, inputs.tensors)
    has = image.any(1)
    for queries, mask in (("last", last), ("text", real & ~image if model.family.vision else real)):
        found = ci.attention_to(model, inputs, keys, queries, batch_size=2)
        to_keys = (patterns * image[None, :, None, None]).sum(-1)
        wanted = (to_keys * mask[None, :, None]).sum(-1) / mask.sum(1)[None, :, None]
        assert found.prompts == tuple(has.nonzero().flatten().tolist())
        close(found.values, wanted[:, has].transpose(0, 1))
        table = found.table()
        assert set(table["n"]) == {int(has.sum())}
        row = table[(table["layer"] == 1) & (table["head"] == 2)].iloc[0]
        assert row["value"] == pytest.approx(float(wanted[1, has, 2].mean()), abs=1e-5)
        assert row["low"] <= row["value"] <= row["high"]
        by_layer = found.table("layer")
        assert by_layer["value"].to_numpy() == pytest.approx(wanted[:, has].mean((1, 2)).numpy(), abs=1e-5)


def test_layers_interventions_and_pictures():
    model = model_of("llava")
    inputs = inputs_of(model, kind="image")
    whole, some = ci.attention_to(model, inputs), ci.attention_to(model, inputs, layers=[-1, 0])
    assert some.layers == (0, model.n_layers - 1)
    same(some.values, whole.values[:, [0, -1]])
    cut = ci.attention_to(model, inputs, interventions=ci.Knockout("last", "image", layers=1))
    close(cut.values[:, 1], torch.zeros(3, model.n_heads))
    same(cut.values[:, 0], whole.values[:, 0])
    assert whole.plot().axes[0].get_title("left").startswith("from 'last' to 'image'")
    assert "share" in whole.plot("layer").axes[0].get_ylabel()
    assert ci.attention_to(model, inputs.without_images(), "first").table()["value"].between(0, 1).all()


def test_one_prompt_has_no_interval():
    model = model_of("llava")
    table = ci.attention_to(model, model.prepare("what is it", picture())).table()
    assert table["low"].isna().all()
    assert set(table["n"]) == {1}


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "mistral3"])
def test_a_map_over_the_image_is_the_attention_to_each_patch(family):
    model = model_of(family)
    inputs = model.prepare(
        ["what is it", "tell me about cats"], [picture(0, (32, 16)), picture(1)], padding_side="right"
    )
    found = ci.attention_map(model, inputs, prompt=1)
    one = model.prepare("tell me about cats", picture(1)).tensors
    _, image, last = masks(model, one)
    wanted = attentions(family, one)[:, 0, :, int(last[0].nonzero()[0])][:, :, image[0]]
    close(found.values, wanted)
    table = found.table(layer=-1, head=2)
    side = int(image.sum() ** 0.5)
    assert len(table) == side**2
    grid = table.pivot(index="row", columns="column", values="value").to_numpy()
    assert grid == pytest.approx(wanted[-1, 2].reshape(side, side).numpy(), abs=1e-5)
    assert found.table()["value"].sum() == pytest.approx(float(wanted.mean((0, 1)).sum()), abs=1e-5)
    drawn = found.plot(layer=0, head=1).axes
    assert drawn[0].get_title("left").startswith("attention from 'last', layer 0, head 1")


def test_a_map_of_one_image_of_several():
    model = model_of("qwen2_vl")
    both = model.prepare([ci.Prompt("what is it", [picture(0), picture(1, (64, 32))])])
    second = ci.attention_map(model, both, image=1)
    assert (
        second.table()[["row", "column"]].max().tolist()
        != ci.attention_map(model, both).table()[["row", "column"]].max().tolist()
    )
    numbers = both.mask(at("image", 1))
    pattern = model.capture(both, "blocks.0.attn.hook_pattern", "last")["blocks.0.attn.hook_pattern"]
    close(second.values[0], pattern.reshape(model.n_heads, -1)[:, numbers[0]])


def test_what_cannot_be_asked():
    model = model_of("llava")
    inputs = inputs_of(model)
    with pytest.raises(HookPointError, match="none of these 3 prompts has both queries at 'last' and keys at 'image'"):
        ci.attention_to(model, inputs.without_images())
    with pytest.raises(HookPointError, match="no layer 40"):
        ci.attention_to(model, inputs, layers=40)
    with pytest.raises(HookPointError, match="no position 'imag'"):
        ci.attention_to(model, inputs, "imag")
    with pytest.raises(InputError, match=r"no prompt 3: there are 3 \(0-2\)"):
        ci.attention_map(model, inputs, prompt=3)
    with pytest.raises(HookPointError, match="prompt 1 has no image"):
        ci.attention_map(model, inputs, prompt=1)
    with pytest.raises(HookPointError, match="no image 1"):
        ci.attention_map(model, inputs, image=1)
    with pytest.raises(HookPointError, match=r"no head 7: these layers have 4 heads \(0-3\)"):
        ci.attention_map(model, inputs).table(head=7)
    with pytest.raises(HookPointError, match="prompt 0 has no tokens at 'generated'"):
        ci.attention_map(model, inputs, queries="generated")
    with pytest.raises(ModelError, match="load the model with attn_implementation='eager'"):
        ci.attention_to(fresh("llava", eager=False), inputs)
    with pytest.raises(
        InputError, match="attention_to has no argument 'head': use keys, queries, layers, interventions"
    ):
        ci.attention_to(model, inputs, head=3)
    with unchecked(), pytest.raises(InputError, match="by='layers': use 'head' or 'layer'"):
        ci.attention_to(model, inputs).table("layers")


def test_patterns_that_are_no_numbers_are_not_taken_for_prompts_without_tokens():
    model = model_of("llava")
    inputs = inputs_of(model)
    broken = ci.Hook("blocks.1.hook_resid_post", lambda x, _: x * torch.nan)
    for measure in (ci.attention_to, ci.attention_map):
        with pytest.raises(ModelError, match=r"not numbers \(NaN\): in torch.float32 scores may overflow"):
            measure(model, inputs, interventions=broken)


def test_cross_attention_is_said():
    model = model_of("mllama")
    inputs = inputs_of(model)
    with pytest.raises(HookPointError, match="attend to the image by cross-attention"):
        ci.attention_to(model, inputs)
    cross = {int(name.split(".")[1]) for name in model.hook_points if ".cross_attn." in name}
    own = [layer for layer in range(model.n_layers) if layer not in cross]
    assert ci.attention_to(model, inputs, "first", layers=own).layers == tuple(own)


def test_nothing_is_kept_but_sums():
    model = model_of("llava")
    inputs = model.prepare(["what is it"] * 6, [picture(n) for n in range(6)])
    one_by_one = ci.attention_to(model, inputs, batch_size=1)
    assert one_by_one.values.shape == (6, model.n_layers, model.n_heads)
    close(one_by_one.values, ci.attention_to(model, inputs, batch_size=4).values)
    assert np.isfinite(one_by_one.table()["low"]).all()


@pytest.mark.parametrize(("family", "queries"), [("llava", "last"), ("qwen2_vl", "text"), ("gpt2", "last")])
def test_a_sweep_of_knockouts_is_each_on_its_own(family, queries):
    model = model_of(family)
    inputs = inputs_of(model)
    keys = "image" if model.family.vision else slice(1, 3)
    metric = ci.metrics.logit_diff(model, 3, 5)
    result = ci.knockout_sweep(model, inputs, queries, keys, window=2, metric=metric)
    for layer in range(model.n_layers):
        window = [n for n in (layer, layer + 1) if n < model.n_layers]
        logits = model.logits(inputs, ci.Knockout(queries, keys, layers=window))
        close(torch.tensor(result.values()[layer]).float(), logits[:, 3] - logits[:, 5])
    assert set(result.table()["layer"]) == set(range(model.n_layers))


def test_windows_are_around_their_layer():
    model = model_of("llava")
    inputs = inputs_of(model)
    result = ci.knockout_sweep(model, inputs, window=3, heads=[0, 1], metric=ci.metrics.logit_diff(model, 3, 5))
    for layer, window in ((0, [0, 1]), (2, [1, 2, 3]), (3, [2, 3])):
        logits = model.logits(inputs, ci.Knockout("last", "image", layers=window, heads=[0, 1]))
        close(torch.tensor(result.values()[layer]).float(), logits[:, 3] - logits[:, 5])
    every = ci.knockout_sweep(model, inputs, window=model.n_layers)
    assert every.values().min() > -1e-5
    assert every.values()[:, 1] == pytest.approx(0, abs=1e-5)
    with pytest.raises(InputError, match="window=0: give a number of layers, 1 to 4"):
        ci.knockout_sweep(model, inputs, window=0)
    with pytest.raises(InputError, match="knockout_sweep has no argument 'layers': use metric, heads"), unchecked():
        ci.knockout_sweep(model, inputs, layers=[1])
