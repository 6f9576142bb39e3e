"""Weights that are placed, cast, split or quantised by transformers and accelerate."""

from importlib.util import find_spec

import pytest
import torch
from transformers import BitsAndBytesConfig, QuantoConfig

import cmrm_interp as ci
from cmrm_interp.errors import ModelError
from tests.support import STREAM, TEXTS, inputs_of, network, picture, same, vectors

BLOCKS = "model.language_model.layers."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved LLaVA."""
    place = tmp_path_factory.mktemp("placed") / "llava"
    hf, processor = network("llava")
    hf.save_pretrained(place)
    processor.save_pretrained(place)
    return place


def split(hf, elsewhere):
    """A map that puts the last two blocks elsewhere."""
    parts = {f"model.{name}": "cpu" for name, _ in hf.model.named_children() if name != "language_model"}
    for name, _ in hf.model.language_model.named_children():
        parts |= {f"model.language_model.{name}": "cpu"} if name != "layers" else {}
    return parts | {f"{BLOCKS}{i}": "cpu" if i < 2 else elsewhere for i in range(4)} | {"lm_head": "cpu"}


@pytest.mark.parametrize("where", ["cpu", "auto", "all on one", "some on disk"])
def test_placed_weights_give_the_same_everywhere(folder, where, tmp_path):
    here = ci.load(folder, attn_implementation="eager")
    device_map = {"all on one": {"": "cpu"}, "some on disk": split(here.hf, "disk")}.get(where, where)
    placed = ci.load(folder, attn_implementation="eager", device_map=device_map, offload_folder=str(tmp_path))
    assert (placed.hf.model.language_model.layers[3].mlp.up_proj.weight.device.type == "meta") == ("disk" in where)
    assert placed.fingerprint == here.fingerprint
    acting = ci.Subtract(vectors(here, scale=0.3))
    found = [
        (
            m.capture(inputs_of(m), m.hook_points, "all", acting),
            m.logits(inputs_of(m), acting, "all"),
            m.generate_tokens(inputs_of(m), acting, 4),
            m.generate_with_capture(inputs_of(m), STREAM, acting, 3).activations,
        )
        for m in (here, placed)
    ]
    assert found[0][0] == found[1][0]
    same(found[0][1], found[1][1])
    same(found[0][2], found[1][2])
    assert found[0][3] == found[1][3]


@pytest.mark.parametrize("name", ["blocks.3.attn.hook_result", "blocks.3.ln1.hook_normalized", "ln_final.hook_scale"])
def test_writes_that_need_weights_find_them_on_disk(folder, name, tmp_path):
    here = ci.load(folder, attn_implementation="eager")
    placed = ci.load(
        folder, attn_implementation="eager", device_map=split(here.hf, "disk"), offload_folder=str(tmp_path)
    )
    acting = ci.Hook(name, lambda x, _: 1.3 * x)
    same(placed.logits(inputs_of(placed), acting), here.logits(inputs_of(here), acting))
    assert not torch.equal(here.logits(inputs_of(here), acting), here.logits(inputs_of(here)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", torch.float64])
def test_a_dtype_is_that_of_weights_and_activations(folder, dtype):
    model = ci.load(folder, dtype=dtype)
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    inputs = model.prepare(TEXTS[0], picture())
    assert model.hf.dtype == model.logits(inputs).dtype == wanted
    assert {x.dtype for x in model.capture(inputs, model.hook_points[:3]).tensors.values()} == {wanted}
    assert model.generate(inputs, ci.Subtract(vectors(model)), 2)


def lacking(name):
    return pytest.mark.skipif(find_spec(name) is not None, reason=f"{name} is installed, so that it is not missed")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param(
            lambda: BitsAndBytesConfig(load_in_4bit=True),
            r"cannot be loaded as asked: .*bitsandbytes.*pip install",
            marks=lacking("bitsandbytes"),
        ),
        pytest.param(
            lambda: QuantoConfig(weights="int8"),
            r"cannot be loaded as asked: .*quanto.*pip install",
            marks=lacking("optimum"),
        ),
    ],
    ids=["bitsandbytes", "quanto"],
)
def test_a_missing_quantiser_says_what_to_install(folder, config, words):
    with pytest.raises(ModelError, match=words):
        ci.load(folder, quantization_config=config())


@pytest.mark.parametrize("name", ["load_in_4bit", "load_in_8bit"])
def test_an_argument_of_older_transformers_is_told_its_new_place(folder, name):
    with pytest.raises(
        ModelError, match=rf"{name} is now part of .* quantization_config=BitsAndBytesConfig\({name}=Tr"
    ):
        ci.load(folder, **{name: True})


def test_a_quantisation_configuration_is_passed_on(folder, monkeypatch):
    given = {}

    def keep(*args, **kwargs):
        given.update(kwargs)
        raise ImportError("as far as this goes")

    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", keep)
    config = QuantoConfig(weights="int8")
    with pytest.raises(ModelError, match="as far as this goes"):
        ci.load(folder, quantization_config=config, device_map="auto", tp_plan="auto")
    assert given["quantization_config"] is config
    assert (given["device_map"], given["tp_plan"], given["use_safetensors"]) == ("auto", "auto", True)
