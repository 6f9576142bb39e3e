"""What a Model says of itself, and how it ends."""

import gc
import weakref

import pytest
import torch

import cmrm_interp as ci
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.families import tiny
from tests.support import FAMILIES, model_of, unchecked


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_those_of_the_configuration(family):
    model = model_of(family)
    text = model.hf.config.get_text_config()
    sizes = (text.num_hidden_layers, text.hidden_size, text.num_attention_heads)
    assert (model.n_layers, model.d_model, model.n_heads) == sizes
    assert repr(model).endswith(f"{model.family.name}, {sizes[0]} layers, d_model {sizes[1]})")


def test_the_shipped_organism_goes_by_its_short_name_wherever_the_package_lies():
    assert repr(ci.load("organism")).startswith("Model('organism'; llava, ")
    assert repr(ci.load("organism/backbone", check=False)).startswith("Model('organism/backbone'; llama, ")


def test_the_fingerprint_is_of_the_weights():
    one, same, other = (ci.load(tiny("llava", seed=seed)) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    with torch.no_grad():
        same.hf.lm_head.weight[0, 0] += 1
    assert same.fingerprint != one.fingerprint


def test_the_fingerprint_does_not_depend_on_the_dtype():
    full, half = tiny("llava"), tiny("llava")
    assert ci.load(full).fingerprint == ci.load((half[0].to(torch.bfloat16), half[1])).fingerprint


def test_a_closed_model_is_freed():
    model = ci.load(tiny("llama"))
    model.generate(model.prepare("red"), max_new_tokens=2)
    gone = [weakref.ref(model.hf), weakref.ref(model.network)]
    model.close()
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_a_closed_model_says_so():
    model = ci.load(tiny("llama"))
    inputs = model.prepare("red")
    model.close()
    model.close()
    assert repr(model) == "Model('LlamaForCausalLM'; closed)"
    assert model._repr_html_() is None
    for ask in (lambda: model.fingerprint, lambda: model.hook_points, lambda: model.generate(inputs)):
        with (
            unchecked(),
            pytest.raises(ModelError, match=r"the model 'LlamaForCausalLM' was closed: load it again with ci\.load"),
        ):
            ask()


def test_without_a_processor_there_are_encodings_alone():
    whole = ci.load(tiny("llava"))
    bare = ci.load((tiny("llava")[0], None))
    inputs = whole.prepare(["red cats", "describe this image please"], ci.images.blank((32, 32)))
    encoded = bare.from_encoding(inputs.tensors)
    assert torch.equal(bare.logits(encoded), whole.logits(inputs))
    assert torch.equal(bare.generate_tokens(encoded, max_new_tokens=3), whole.generate_tokens(inputs, max_new_tokens=3))
    with pytest.raises(ModelError, match=r"use model\.from_encoding"):
        bare.prepare("red")
    with pytest.raises(ModelError, match=r"use model\.generate_tokens"):
        bare.generate(encoded)


def test_a_padding_side_is_left_or_right():
    model = ci.load(tiny("llama"))
    with unchecked(), pytest.raises(InputError, match="'middle'"):
        model.prepare("red", padding_side="middle")


def test_sampling_with_a_seed_is_repeatable():
    model = ci.load(tiny("llama"))
    inputs = model.prepare(["red cats", "you are kind"])
    how = {"max_new_tokens": 8, "do_sample": True, "temperature": 2.0}
    assert model.generate(inputs, seed=1, **how) == model.generate(inputs, seed=1, **how)
    assert model.generate(inputs, seed=1, **how) != model.generate(inputs, seed=2, **how)
