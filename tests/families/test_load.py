"""Loading: folders, pairs, and the words of what cannot be loaded."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, BertTokenizerFast

import cmrm_interp as ci
from cmrm_interp.errors import CmrmError, ModelError
from cmrm_interp.families import FamilyMap, families, family_of, register, registry, tiny
from tests.support import FAMILIES, inputs_of, model_of, network, picture, same

TEXT = "what is in the picture ?"
# One whose processor is saved whole, one whose processor is not, and one without: all families are loaded below.
SAVED = ("llava", "qwen2_vl", "llama")
SAVED_VISION = SAVED[:2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of the tiny models, as a checkpoint on the hub has them."""
    folders = {}
    for family in SAVED:
        folder = folders[family] = tmp_path_factory.mktemp(family)
        hf, processor = network(family)
        hf.save_pretrained(folder)
        if family == "llama":
            processor.save_pretrained(folder)
            continue
        processor.tokenizer.save_pretrained(folder)
        processor.image_processor.save_pretrained(folder)
        if family == "llava":
            processor.save_pretrained(folder)
        else:
            (folder / "processor_config.json").write_text(json.dumps({"processor_class": "Qwen2VLProcessor"}))
    return folders


def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("as_text", [str, lambda p: p], ids=["str", "path"])
@pytest.mark.parametrize("family", SAVED)
def test_a_folder_loads_as_the_model_that_was_saved(saved, family, as_text):
    before = contents(saved[family])
    model, wanted = ci.load(as_text(saved[family])), model_of(family)
    assert model.family.name == family
    assert model.hook_points == wanted.hook_points
    assert model.fingerprint == wanted.fingerprint
    inputs, same_inputs = (inputs_of(m, kind="mixed", system="you are kind") for m in (model, wanted))
    assert inputs.tensors.keys() == same_inputs.tensors.keys()
    for name, tensor in same_inputs.tensors.items():
        same(inputs.tensors[name], tensor)
    torch.testing.assert_close(model.logits(inputs), wanted.logits(same_inputs), rtol=1e-4, atol=1e-4)
    assert model.generate(inputs, max_new_tokens=3) == wanted.generate(same_inputs, max_new_tokens=3)
    assert contents(saved[family]) == before


@pytest.mark.parametrize("family", SAVED_VISION)
def test_a_template_in_a_file_of_its_own_is_found(saved, family, tmp_path):
    folder = copied(saved[family], tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    template = config.pop("chat_template", None) or (folder / "chat_template.jinja").read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(template)
    wanted = model_of(family).prepare(TEXT, picture()).tensors["input_ids"]
    same(ci.load(folder).prepare(TEXT, picture()).tensors["input_ids"], wanted)


def test_arguments_reach_from_pretrained(saved):
    model = ci.load(
        saved["llama"], dtype=torch.bfloat16, attn_implementation="eager", chat_template="{{ messages[0].content }}"
    )
    assert next(model.hf.parameters()).dtype == torch.bfloat16
    assert model.capture(model.prepare("red"), "blocks.0.attn.hook_pattern")
    assert model.prepare("red blue").tensors["input_ids"].shape == (1, 2)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/no/such/folder", "no model folder '/no/such/folder': give a folder, a hub id"),
        ("./no-such", "no model folder './no-such': give a folder, a hub id"),
        ("nobody/nothing-at-all", "no model 'nobody/nothing-at-all': it is no local folder, and the hub"),
        ("nothing-at-all", "no model 'nothing-at-all': it is no local folder, and the hub"),
    ],
)
def test_a_model_that_is_not_there(source, words):
    with pytest.raises(ModelError, match=words) as caught:
        ci.load(source)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, CmrmError)


def test_a_folder_without_config_and_a_file(tmp_path):
    with pytest.raises(
        ModelError, match=r"is a folder without config.json: give the folder of a Hugging Face checkpoint"
    ):
        ci.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"no model folder .*: give a folder"):
        ci.load(tmp_path / "model.safetensors")


def test_a_damaged_config(saved, tmp_path):
    folder = copied(saved["llama"], tmp_path)
    (folder / "config.json").write_text("{ not json")
    with pytest.raises(ModelError, match=r"the configuration in .* cannot be read") as caught:
        ci.load(folder)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_no_vision_language_model(tmp_path):
    bert = BertModel(
        BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    )
    with pytest.raises(ModelError, match=r"BertModel is a 'bert' model, of no registered family, and these parts"):
        ci.load((bert, None))
    bert.save_pretrained(tmp_path)
    BertTokenizerFast(vocab={"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "[MASK]": 4}).save_pretrained(tmp_path)
    # Loaded as a decoder, it has no head.
    with pytest.raises(ModelError, match=r"the weights at .* lack \d+ tensors \(cls\.predictions") as caught:
        ci.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_never_read(saved, tmp_path):
    folder = copied(saved["llava"], tmp_path)
    weights = ci.load(saved["llava"]).hf.state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    before = contents(folder)
    with pytest.raises(ModelError, match=r"no safetensors weights at .* \(pickled ones are never read\)") as caught:
        ci.load(folder)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before


@pytest.mark.parametrize("damage", ["cut", "garbage", "missing"])
def test_damaged_weights(saved, damage, tmp_path):
    folder = copied(saved["llava"], tmp_path)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-100] if damage == "cut" else b"\x00" * 200)
    with pytest.raises(ModelError, match="weights") as caught:
        ci.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", SAVED_VISION)
def test_a_vision_model_without_processor_files(saved, family, tmp_path):
    folder = copied(saved[family], tmp_path)
    for path in folder.iterdir():
        if path.name not in ("config.json", "generation_config.json", "model.safetensors"):
            path.unlink()
    with pytest.raises(ModelError, match="no processor at"):
        ci.load(folder)


def test_remote_code_is_not_run_unasked(tmp_path):
    config = {"model_type": "strange", "auto_map": {"AutoConfig": "evil.Config"}, "architectures": ["Strange"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Config: pass\n")
    with pytest.raises(ModelError, match="needs its own code, which is not run unless you pass trust_remote_code=True"):
        ci.load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_arguments_for_a_loaded_model_are_refused():
    with pytest.raises(ModelError, match="dtype cannot change a model that is already loaded: pass a path or hub id"):
        ci.load(network("llama"), dtype="bfloat16")


def test_every_family_has_a_tiny_model_and_types_of_its_own():
    assert {model_of(family).family.name for family in FAMILIES} == {family.name for family in families()}
    kinds = [(kind, f.vision_types, f.text_types) for f in families() for kind in f.model_types]
    assert len(kinds) == len(set(kinds))
    with pytest.raises(ModelError, match=r"no tiny model of family 'gpt': there are llava, .*qwen2_vl, .*llama"):
        tiny("gpt")


def test_a_map_that_does_not_fit_names_what_is_missing(monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    hf, processor = tiny("llama")
    register(FamilyMap(name="mine", model_types=("llama",), decoder="model.nothing"))
    assert family_of(hf.config).name == "mine"
    with pytest.raises(
        ModelError, match=r"the map of family 'mine' does not fit LlamaForCausalLM: no module model.nothing"
    ):
        ci.load((hf, processor))


def test_weights_that_lack_tensors_are_refused_and_not_filled_at_random(tmp_path):
    hf, tokenizer = tiny("llama")
    hf.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors \(model\.layers\.1\.mlp\.up_proj\.weight"):
        ci.load(tmp_path)
