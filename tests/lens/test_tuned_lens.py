"""The tuned lens: closed forms, what it is without training, files, interrupts."""

import types

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

import cmrm_interp as ci
from cmrm_interp.datasets.suites import organism_suites
from cmrm_interp.errors import HookPointError, InputError, MismatchError, ModelError, StoreError
from cmrm_interp.lens import TunedLens, logit_lens, training
from cmrm_interp.lens.divergence import by_prompt
from cmrm_interp.lens.unembedding import Unembedding
from tests.support import TEXTS, close, fresh, inputs_of, model_of, network, picture, same, unchecked

WORDS = "what is in the picture how do i make a cake tell me about cats and dogs describe this image please".split()


def texts(n, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(n)]


def quick(model, inputs=None, **how):
    inputs = model.prepare(texts(20)) if inputs is None else inputs
    return TunedLens.fit(model, inputs, **{"steps": 6, "checks": 3, "lr": 1e-2, "batch_size": 8, **how})


@pytest.fixture(scope="module")
def fitted():
    return quick(model_of("llava"))


@pytest.mark.parametrize("family", ["llava", "gpt2", "gemma2", "blip_2"])
def test_before_any_step_it_is_the_logit_lens_to_the_bit(family):
    model = model_of(family)
    inputs = inputs_of(model)
    plain = logit_lens(model, inputs, positions="all", keep_logits=True)
    lens = quick(model, steps=0)
    found = logit_lens(model, inputs, positions="all", keep_logits=True, lens=lens)
    same(found.readout.logits, plain.readout.logits)
    assert lens.table().query("lens == 'gain'")["kl"].eq(0).all()


def affine_last_block(seed=3):
    """A model whose last block is ``x -> M x + c`` for the whole stream."""
    hf, processor = network("llama")
    generator = torch.Generator().manual_seed(seed)
    width = hf.config.hidden_size
    matrix = torch.eye(width) + 0.4 * torch.randn(width, width, generator=generator) / width**0.5
    shift = 0.5 * torch.randn(width, generator=generator)
    last = hf.model.layers[-1]
    last.forward = types.MethodType(lambda self, x, *_, **__: x @ matrix.T + shift, last)
    return ci.load((hf, processor), check=False), matrix, shift


def test_a_known_affine_map_is_found():
    model, matrix, shift = affine_last_block()
    layer = model.n_layers - 2
    how = {"steps": 220, "lr": 0.03, "weight_decay": 0.0, "batch_size": 16, "checks": 2}
    lens = TunedLens.fit(model, model.prepare(texts(60)), layers=layer, positions="all", **how)
    kl = lens.table().set_index("lens")["kl"]
    assert kl["logit"] > 0.05
    assert kl["tuned"] < 0.02 * kl["logit"]
    # The last norm divides by the length, so that all is found but for one factor, at the streams that there are.
    x = model.capture(model.prepare(texts(20, seed=9)), f"blocks.{layer}.hook_resid_post", "all").selected(
        f"blocks.{layer}.hook_resid_post"
    )
    cosine = torch.nn.functional.cosine_similarity(lens(x, layer), x @ matrix.T + shift, dim=-1)
    before = torch.nn.functional.cosine_similarity(x, x @ matrix.T + shift, dim=-1)
    assert float(cosine.min()) > 0.97 > 0.92 > float(before.mean())


def test_divergence_is_scipys():
    model = model_of("gemma2")
    inputs = inputs_of(model, kind="text")
    lens = TunedLens.identity(model, layers=[0, 2])
    found = by_prompt(model, Unembedding.of(model, inputs), inputs, [lens], lens, 2)[0][0]
    read = logit_lens(model, inputs, positions="all", keep_logits=True)
    final = read.logits(-1).double().softmax(-1).numpy()
    for number, layer in enumerate((0, 2)):
        each = rel_entr(final, read.logits(layer).double().softmax(-1).numpy()).sum(-1)
        wanted = [each[(read.places.prompt == prompt).numpy()].mean() for prompt in range(len(TEXTS))]
        close(found[number], torch.tensor(wanted, dtype=torch.float32))


def test_on_the_organism_it_is_nearer_to_the_model_at_every_layer():
    model = ci.load("organism")
    suites = organism_suites("test", n=60)
    prompts = [model.prepare(suites[name].prompts) for name in ("harmful, text", "benign, real")]
    table = (
        quick(model, prompts, steps=20, batch_size=16, holdout=0.4)
        .table()
        .set_index(["lens", "layer"])["kl low n".split()]
    )
    gain = table.loc["gain"]
    assert list(gain.index) == [-1, 0, 1, 2, 3, 4]
    assert (gain["low"] > 0).all()
    assert (gain["n"] == 24).all()
    np.testing.assert_allclose(gain["kl"], table.loc["logit"]["kl"] - table.loc["tuned"]["kl"], rtol=1e-4, atol=1e-6)


def test_training_helps_with_images_and_leaves_the_model_alone():
    model = fresh("llava")
    prompts = model.prepare(texts(20), picture())
    before = model.logits(prompts)
    lens = quick(model, prompts, positions="image", steps=20)
    assert (lens.table().query("lens == 'tuned'")["kl"].to_numpy() < lens.table().query("lens == 'logit'")["kl"]).all()
    same(model.logits(prompts), before)
    assert all(parameter.grad is None for parameter in model.hf.parameters())
    assert not torch.equal(lens.weight, quick(model, prompts, positions="text", steps=20).weight)


def test_the_last_layer_is_left_as_it_is(fitted):
    x = torch.randn(3, 32)
    same(fitted(x, 3), x)
    assert not torch.equal(fitted(x, 1), x)
    assert fitted(x.bfloat16(), 1).dtype == torch.bfloat16


def test_seeds_repeat(fitted):
    again = quick(model_of("llava"))
    same(again.weight, fitted.weight)
    assert again.report == fitted.report
    assert not torch.equal(quick(model_of("llava"), seed=1).weight, fitted.weight)


def test_texts_and_their_images_are_not_divided():
    model = model_of("llava")
    plain = model.prepare(texts(20))
    split = training.Split.of(model, [plain, plain.with_images(picture())], training.Settings())
    for one in (split.train, split.choose, split.hold):
        said = [(prompt.text, prompt.image is None) for prompt in one.prompts]
        assert {text for text, bare in said if bare} == {text for text, bare in said if not bare}
    assert [len(one) for one in (split.train, split.choose, split.hold)] == [32, 4, 4]


def test_a_text_with_and_without_its_image_is_one_of_n():
    model = model_of("llava")
    plain = model.prepare(texts(30))
    alone, both = (quick(model, some, steps=0) for some in (plain, [plain, plain.with_images(picture())]))
    assert set(alone.table()["n"]) == set(both.table()["n"]) == {3}
    pictures = model.prepare(["what is it ?"] * 30, [picture(seed) for seed in range(30)])
    assert set(quick(model, pictures, steps=0).table()["n"]) == {3}, "one question about several images"


def test_one_held_out_prompt_has_no_interval():
    model = model_of("llava")
    mixed = model.prepare(texts(20), [picture() if n % 2 else None for n in range(20)])
    one = quick(model, mixed, steps=0, positions="image", seed=2).table()
    assert set(one["n"]) == {1}
    assert one["kl"].notna().all()
    assert one["low"].isna().all()
    with pytest.raises(
        HookPointError, match="none of the 2 prompts that are chosen by has a token at positions='image'"
    ):
        quick(model, mixed, positions="image", seed=0)


def test_files_hold_all_of_it(fitted, tmp_path):
    fitted.save(tmp_path / "lens.safetensors")
    again = TunedLens.load(tmp_path / "lens.safetensors")
    same(again.weight, fitted.weight)
    same(again.bias, fitted.bias)
    assert (again.layers, again.model, again.positions) == (fitted.layers, fitted.model, fitted.positions)
    assert again.settings == fitted.settings
    assert again.table().equals(fitted.table())
    ci.Directions({"blocks.0.hook_resid_post": torch.ones(3)}).save(tmp_path / "other.safetensors")
    with pytest.raises(StoreError, match="holds 'directions', not 'tuned_lens'"):
        TunedLens.load(tmp_path / "other.safetensors")


def stop_at(monkeypatch, step):
    """Ctrl-C in the middle of a step."""
    real = training._Fitting._step

    def _step(self, progress):
        if progress.step == step:
            raise KeyboardInterrupt
        real(self, progress)

    monkeypatch.setattr(training._Fitting, "_step", _step)


def test_a_stopped_fit_keeps_the_best_and_goes_on(fitted, monkeypatch, tmp_path):
    model = model_of("llava")
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.warns(
            UserWarning, match="stopped after 5 of 6 steps: this is the best so far; the same call goes on"
        ):
            early = quick(model, store=tmp_path)
    assert early.settings["done"] == 5
    assert float(early.weight.abs().max()) > 0
    whole = quick(model, store=tmp_path)
    same(whole.weight, fitted.weight)
    same(whole.bias, fitted.bias)
    assert whole.report == fitted.report


def test_a_fit_that_is_done_is_not_done_again(monkeypatch, tmp_path):
    model = model_of("llava")
    first = quick(model, store=tmp_path)
    stop_at(monkeypatch, 0)
    same(quick(model, store=tmp_path).weight, first.weight)


def test_folders_of_other_fits_are_refused(tmp_path):
    model = model_of("llava")
    quick(model, store=tmp_path, steps=1)
    with pytest.raises(MismatchError, match=r"holds a fit with lr=0.01, not 0.5: use another folder"):
        quick(model, store=tmp_path, steps=1, lr=0.5)
    with pytest.raises(MismatchError, match="holds a fit with inputs="):
        quick(model, model.prepare(texts(20, seed=1)), store=tmp_path, steps=1)


def test_lenses_of_other_models_and_layers_are_refused(fitted):
    other = fresh("llava", seed=1)
    with pytest.raises(MismatchError, match=r"this lens was fitted on another model .* fit one here"):
        logit_lens(other, inputs_of(other), lens=fitted)
    model = model_of("llava")
    some = TunedLens.identity(model, layers=[0, 2])
    with pytest.raises(HookPointError, match="no translator at layers embed, 1: it was fitted at 0, 2"):
        logit_lens(model, inputs_of(model), lens=some)
    logit_lens(model, inputs_of(model), lens=some, layers=[0, 2, 3])


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"stepps": 3}, InputError, "TunedLens.fit has no argument 'stepps': use steps, lr"),
        ({"steps": -1}, InputError, "steps=-1, batch_size=8, checks=3: give positive numbers"),
        ({"lr": 0.0}, InputError, "lr=0.0, weight_decay=0.001: give positive numbers"),
        ({"holdout": 1.0}, InputError, "holdout=1.0: give a share of the prompts"),
        ({"layers": -1}, HookPointError, "the last layer needs no translator"),
        ({"layers": 7}, HookPointError, "no layer 7: this model has 4 layers"),
        ({"positions": "image"}, HookPointError, "has a token at positions='image': give them images"),
    ],
)
def test_what_cannot_be_fitted_is_said(how, error, message):
    with unchecked(), pytest.raises(error, match=message):
        quick(model_of("llava"), **how)


def test_streams_that_are_no_numbers_are_not_learnt_from():
    hf, processor = network("llama")
    hf.model.layers[1].register_forward_hook(lambda module, args, out: out * torch.nan)
    model = ci.load((hf, processor), check=False)
    lens = TunedLens.identity(model)
    unembed = Unembedding.of(model_of("llama"), inputs_of(model_of("llama")))
    with pytest.raises(ModelError, match=r"its stream is not numbers \(NaN\) after the last block"):
        by_prompt(model, unembed, model.prepare(texts(3)), [lens], lens, 2)


def test_too_few_prompts():
    model = model_of("llava")
    with pytest.raises(InputError, match="3 prompts are too few, of which 4 are held out: give at least 5"):
        quick(model, inputs_of(model, kind="text"))
    encoded = model.from_encoding(inputs_of(model, kind="text").tensors)
    with pytest.raises(InputError, match=r"fitted on prompts, .* with model.prepare"):
        quick(model, encoded)
