"""What cannot be baked, in words; and mistakes that the comparison with the live run finds."""

import re
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import cmrm_interp as ci
from cmrm_interp.bake import acting, baking, building, measuring, writers
from cmrm_interp.cli import app
from cmrm_interp.errors import InputError, MismatchError, ModelError, StoreError
from tests.families.strangers import strangers
from tests.support import STREAM, fresh, inputs_of, model_of, network, unchecked, vectors
from tests.test_bake import ATTN, assert_same_runs, case_of, direction


def refused(acts, family="llama"):
    with pytest.raises((InputError, ModelError, MismatchError)) as caught, unchecked():
        ci.bake(model_of(family), acts)
    return str(caught.value)


def test_what_is_not_the_same_at_every_token_is_refused():
    model = model_of("llama")
    shift, everywhere = vectors(model), {"positions": "all"}
    acts = model.capture(inputs_of(model, kind="text"), STREAM)
    gate = ci.Gate(ci.HasImage(), ci.Add(shift, **everywhere))
    by_row = ci.Directions({name: v.expand(3, -1) for name, v in shift.items()}, rows="batch")
    for intervention, words in [
        (ci.Subtract(shift), "positions='last' cannot be baked"),
        (ci.Subtract(shift), r"bake it with positions='all' \(dataclasses.replace\("),
        (ci.Add(shift, positions="generated"), "positions='generated' cannot be baked"),
        (ci.Add(shift, positions="prompt"), "weights, which act on every token alike"),
        (gate, "Gate cannot be baked into weights: it looks at each token"),
        (gate, "the intervention inside it, at positions='all'"),
        (ci.Hook(STREAM, lambda x, hook: x), "Hook cannot be baked into weights: it is any function"),
        (ci.Clamp(shift, low=0.0), "Clamp cannot be baked into weights: it is no linear map"),
        (ci.Patch(acts), "Patch cannot be baked into weights: its values belong to single prompts"),
        (ci.Ablate(ATTN, "resample", acts), "no activations at|draws for each prompt"),
        (ci.Add(by_row, **everywhere), "one vector a row cannot be baked"),
        (ci.Ablate("blocks.2.hook_resid_post"), "ablate hook_attn_out or hook_mlp_out"),
        (
            ci.Add(ci.Directions({"blocks.1.mlp.hook_post": torch.ones(48)}), **everywhere),
            "edits of the residual stream",
        ),
        (ci.ProjectOut(shift, positions="last"), "ProjectOut at positions='last' cannot be baked"),
        ((), "nothing to bake"),
        (ci.recipes.CMRM(), "CMRM is no intervention"),
    ]:
        assert re.search(words, refused(intervention)), (words, refused(intervention))


def test_a_recipes_interventions_at_the_last_position_are_refused_with_what_could_be_baked():
    model = model_of("llava")
    recipe = ci.recipes.CMRM().fit(model, ["red green blue", "what is a cat"])
    acts = recipe.interventions(model, inputs_of(model, kind="image"))
    assert "positions='last' cannot be baked" in refused(acts, "llava")
    everywhere = [replace(act, positions="all") for act in acts]
    assert_same_runs(model, everywhere, ci.bake(model, everywhere).model)


def test_an_ablation_of_single_layers_is_refused_with_the_nearest_thing_that_is_not():
    model, v = model_of("llama"), direction(model_of("llama"))
    one = ci.Directions({"blocks.2.hook_resid_post": v})
    words = refused(ci.ProjectOut(one))
    assert "ProjectOut at 'blocks.2.hook_resid_post' cannot be baked" in words
    assert "token embeddings (and 5 more)" in words
    assert "ci.whole_stream(model, v)" in words
    assert "hook_attn_out and hook_mlp_out of single layers" in words
    assert "cannot be baked" in refused(ci.ProjectOut(ci.whole_stream(model, v), alpha=0.5))
    different = ci.Directions({n: v if "resid_mid" in n else direction(model, 1) for n in ci.whole_stream(model, v)})
    assert "cannot be baked" in refused(ci.ProjectOut(different))
    with pytest.raises(InputError, match="of 4 hook points: choose one"):
        ci.whole_stream(model, vectors(model))


def test_what_cannot_be_held_is_named_beside_what_can():
    words = refused(case_of(model_of("qwen3_vl_moe"), "post"), "qwen3_vl_moe")
    assert words.startswith(
        "Qwen3VLMoeForConditionalGeneration cannot hold this in its weights (what the MLP of block 0"
    )
    assert "what the MLP of block 1 adds (and 2 more): the router weighs experts" in words
    assert "It can hold additions at blocks.0.hook_resid_pre, hook_embed, projector.hook_out" in words
    assert "blocks.*.hook_resid_mid, blocks.*.hook_attn_out, and ProjectOut of the whole stream" in words
    assert "It can hold neither additions nor the whole ablation" in refused(
        case_of(model_of("gemma4"), "post"), "gemma4"
    )


def test_other_models_directions_and_models_that_cannot_be_calculated_with():
    model = model_of("llama")
    theirs = ci.ProjectOut(ci.whole_stream(model_of("qwen2"), direction(model)))
    assert "made on another model" in refused(theirs)
    other = fresh("llama")
    other.hf.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(ModelError, match=r"the weights are quantised.*quantise what comes out"):
        ci.bake(other, case_of(model, "ablation"))
    other = fresh("llama")
    other.hf.lm_head.to("meta")
    with pytest.raises(ModelError, match=r"on several devices, or offloaded.*device_map='cpu'"):
        ci.bake(other, case_of(model, "ablation"))
    other = fresh("llama")
    other.hf.model.layers[0].mlp.register_parameter("lora_A", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(ModelError, match=r"other parameters \(model.layers.0.mlp.lora_A\): merge adapters"):
        ci.bake(other, ci.ProjectOut(ci.whole_stream(other, direction(model))))


@pytest.mark.parametrize(("family", "forgotten"), [("qwen3_vl", "_late"), ("llava_next", "_pictures")])
def test_a_writer_that_the_map_does_not_show_is_found_out(family, forgotten, monkeypatch):
    monkeypatch.setattr(writers, forgotten, lambda *_: iter(()))
    model = model_of(family)
    with pytest.raises(
        ModelError, match=r"not what it is live: final states differ by .*something writes to the stream"
    ):
        ci.bake(model, case_of(model, "ablation"))


def test_rounding_is_told_from_mistakes():
    good = measuring.Agreement(1e-6, 1e-6, 3.0, 2.0, True)
    measuring.check(good, torch.float32, "it")
    measuring.check(replace(good, states=0.2), torch.bfloat16, "it")
    for states, dtype in ((1e-3, torch.float32), (1.5, torch.bfloat16)):
        with pytest.raises(ModelError, match="not what it is live"):
            measuring.check(replace(good, states=states), dtype, "it")
    with pytest.raises(ModelError, match="NaN"):
        measuring.check(replace(good, states=float("nan"), largest=float("nan")), torch.float32, "it")


def test_a_model_without_a_processor_says_that_nothing_was_seen():
    model, whole = ci.load((model_of("llava").hf, None)), model_of("llava")
    baked = ci.bake(model, case_of(model, "post"))
    assert "nothing was compared on images" in baked.notes[-1]
    assert not baked.agreement.with_image
    shown = model.from_encoding(inputs_of(whole, kind="image").tensors)
    for case in ("ablation", "entry"):
        words = "image features of model.multi_modal_projector, too, and there is no processor"
        with pytest.raises(InputError, match=f"this changes {words}"):
            ci.bake(model, case_of(model, case))
        baked = ci.bake(model, case_of(model, case), inputs=shown)
        assert baked.notes == ()
        assert_same_runs(whole, case_of(model, case), ci.load((baked.hf, whole.processor)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("aria", ""),
        ("llama4", ""),
        ("cohere2_vision", ""),
        ("idefics2", "this is not what it is live"),
        ("fuyu", "the map names no projector"),
        ("lfm2_vl", "the map names no output projection"),
    ],
)
def test_a_family_with_a_derived_map_is_baked_or_found_out(name, words):
    hf, encoding = strangers()[name]()
    model = ci.load((hf, None))
    ablation = case_of(model, "ablation")
    if words:
        with pytest.raises(ModelError, match=words):
            ci.bake(model, ablation, inputs=model.from_encoding(encoding))
        return
    found = ci.bake(model, ablation, inputs=model.from_encoding(encoding)).agreement
    assert found.with_image
    assert found.logits < 1e-5 < 0.1 < found.moved


def test_a_decoder_without_a_chat_template_is_baked():
    hf, tokenizer = network("gpt2")
    tokenizer.chat_template = None
    model = ci.load((hf, tokenizer))
    assert ci.bake(model, case_of(model, "ablation")).agreement.moved > 0.1


def test_a_folder_that_is_there_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StoreError, match="is there already: give a new folder"):
        ci.bake(model_of("llama"), case_of(model_of("llama"), "ablation"), tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    ci.bake(model_of("llama"), case_of(model_of("llama"), "ablation"), empty)
    assert (empty / "model.safetensors").exists()
    assert not list(tmp_path.glob(".*.part"))


def test_the_command_line_bakes_one_vector_into_the_whole_stream(tmp_path):
    model = model_of("llama")
    model.hf.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    vector = ci.Directions({"blocks.2.hook_resid_post": direction(model)}, model=model.fingerprint)
    vector.save(tmp_path / "v.safetensors")
    paths = [str(tmp_path / name) for name in ("model", "v.safetensors", "out")]
    result = CliRunner().invoke(app, ["bake", *paths])
    assert result.exit_code == 0, result.output
    assert "of the live intervention (bake.json)" in result.output
    again = ci.load(tmp_path / "out")
    again.hf.generation_config.eos_token_id = None
    assert_same_runs(model, case_of(model, "ablation"), again)
    added = CliRunner().invoke(app, ["bake", *paths[:2], str(tmp_path / "added"), "--how", "add", "--alpha", "0.5"])
    assert "note: the configuration has mlp_bias=True" in added.output
    with pytest.raises(InputError, match="no way 'remove' of baking"):
        acting(model, vector, "remove")


def test_one_bias_is_found_by_what_a_configuration_gives_and_not_by_its_name():
    flags = baking.flags_of(model_of("mistral3").hf)
    assert str(flags["model.multi_modal_projector.linear_2.bias"]) == "multimodal_projector_bias=True"
    assert building.tied_head(model_of("llama").hf, model_of("llama").family) is None
