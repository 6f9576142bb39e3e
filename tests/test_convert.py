"""Original LLaVA and ShareGPT4V checkpoints, in exactly their layout, turned into Hugging Face ones."""

import json
import pickle
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPVisionConfig, LlamaTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from typer.testing import CliRunner

import cmrm_interp as ci
from cmrm_interp.cli import app, main
from cmrm_interp.convert import convert
from cmrm_interp.errors import InputError, ModelError, StoreError
from cmrm_interp.families.tiny.parts import WORDS, randomise
from tests.oracles.original_llava import IMAGE, OriginalLlava, expand2square
from tests.support import close, picture

WORDS_OF_TEMPLATE = ["USER:", "ASSISTANT:"]
VOCABULARY = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>", *WORDS_OF_TEMPLATE, *dict.fromkeys(WORDS)])}
VISION = {
    "hidden_size": 128,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
# As in liuhaotian/llava-v1.5-7b and Lin-Chen/ShareGPT4V-7B, but for the sizes.
V15 = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "model_type": "llava",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "freeze_mm_mlp_adapter": False,
    "hidden_act": "silu",
    "hidden_size": 32,
    "image_aspect_ratio": "pad",
    "image_grid_pinpoints": None,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "mm_hidden_size": 128,
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None,
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 5000.0,
    "tie_word_embeddings": False,
    "tokenizer_padding_side": "right",
    "torch_dtype": "float16",
    "transformers_version": "4.31.0",
    "tune_mm_mlp_adapter": False,
    "unfreeze_mm_vision_tower": False,
    "use_cache": True,
    "use_mm_proj": True,
    "vocab_size": len(VOCABULARY),
}
V10 = {name: value for name, value in V15.items() if name not in ("mm_projector_type", "image_aspect_ratio")}
SHARE = {
    **V15,
    "architectures": ["Share4VLlamaForCausalLM"],
    "model_type": "share4v",
    "mm_vision_tower": "Lin-Chen/ShareGPT4V-7B_Pretrained_vit-large336-l12",
}
MISTRAL = {**V15, "architectures": ["LlavaMistralForCausalLM"], "model_type": "llava_mistral", "sliding_window": None}
LAYOUTS = {
    "v1.5": (V15, True),
    "mistral": (MISTRAL, True),
    "v1.0": (V10, True),
    "share": (SHARE, True),
    "share, tower apart": (SHARE, False),
}


@cache
def original(linear=False, **changes):
    """The original model, with random weights; its rotary base is not the default."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = OriginalLlava({**(V10 if linear else V15), **changes}, VISION)
        randomise(model)
    return model.eval()


def tokenizer(folder, extra=()):
    raw = Tokenizer(models.WordLevel({**VOCABULARY, **{t: len(VOCABULARY) + i for i, t in enumerate(extra)}}, "<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.decoder = decoders.WordPiece()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    raw.save(str(folder / "tokenizer.json"))
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "right", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write(folder, tensors, shards=2, pickled=False):
    """Weights in shards with an index, as safetensors or as ``pytorch_model*.bin``."""
    stem, ending = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    put = torch.save if pickled else save_file
    names = list(tensors)
    if shards == 1:
        put(tensors, folder / f"{stem}.{ending}")
        return
    place = {}
    for i in range(shards):
        file = f"{stem}-{i + 1:05d}-of-{shards:05d}.{ending}"
        put({name: tensors[name] for name in names[i::shards]}, folder / file)
        place |= dict.fromkeys(names[i::shards], file)
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))


def clip_folder(folder, pickled=False, dtype=torch.float32, **config):
    """The tower as OpenAI's and ShareGPT4V's are stored; the former with its text half."""
    folder.mkdir(parents=True)
    _, tower = original().stored()
    extra = {"logit_scale": torch.ones(1), "text_model.final_layer_norm.weight": torch.ones(4)}
    write(folder, {name: t.to(dtype) for name, t in {**tower, **extra}.items()}, 1, pickled)
    found = {**CLIPVisionConfig(**VISION).to_dict(), **config}
    (folder / "config.json").write_text(json.dumps(found))
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def checkpoint(folder, config=V15, inside=True, dtype=torch.float32, **how):
    """An original checkpoint."""
    folder.mkdir(parents=True)
    whole, tower = original("mm_projector_type" not in config).stored()
    if inside:
        whole |= {f"model.vision_tower.vision_tower.{name}": t for name, t in tower.items()}
    # Buffers that old versions of transformers stored.
    whole["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    if inside:
        name = "model.vision_tower.vision_tower.vision_model.embeddings.position_ids"
        whole[name] = torch.arange(17)[None]
    kept = {name: t if t.dtype == torch.int64 else t.to(dtype) for name, t in whole.items()}
    write(folder, kept, **how)
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "temperature": 0.9, "top_p": 0.6}
    (folder / "generation_config.json").write_text(json.dumps({**settings, "max_length": 4096}))
    tokenizer(folder)
    return folder


@pytest.fixture(scope="module", params=list(LAYOUTS))
def converted(request, tmp_path_factory):
    """A converted folder and the original model."""
    config, inside = LAYOUTS[request.param]
    base = tmp_path_factory.mktemp("converted")
    source = checkpoint(base / "original", config, inside)
    tower = None if inside else clip_folder(base / "tower")
    out = convert(source, base / "out", tower)
    return out, original(linear=request.param == "v1.0")


def ids_of(text):
    """Token ids as the original makes them: a beginning, words, and -200 for an image."""
    return [1] + [IMAGE if word == "<image>" else VOCABULARY[word] for word in text.split()]


def pixels(image, pad=True):
    """Pixels by the CLIP processor; since 1.5, on a square as the original pads them."""
    clip = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return clip([expand2square(image, clip.image_mean) if pad else image], return_tensors="pt")["pixel_values"]


CHATS = [
    ("how do i make a cake ?", None),
    ("what is in the picture ?", (0, (32, 32))),
    ("describe this", (1, (40, 24))),
]


@pytest.mark.parametrize(("text", "image"), CHATS)
def test_logits_are_those_of_the_original(converted, text, image):
    out, model = converted
    image = None if image is None else picture(*image)
    loaded = ci.load(out)
    inputs = loaded.prepare([text], None if image is None else [image])
    prompt = f"USER: {'<image> ' if image else ''}{text} ASSISTANT:"
    want = model(
        ids_of(prompt), None if image is None else pixels(image, pad=not isinstance(model.projector, torch.nn.Linear))
    )
    got = loaded.logits(inputs, positions="all")[0]
    assert got.shape == (len(want), 64)
    close(got[:, : len(VOCABULARY)], want)
    # A row that was added has the mean of all logits, and is never the largest.
    torch.testing.assert_close(got[:, -1], want.mean(dim=-1), rtol=1e-4, atol=1e-4)


def test_generation_is_that_of_the_original(converted):
    out, model = converted
    loaded = ci.load(out)
    loaded.hf.generation_config.eos_token_id = None
    image = picture(3)
    (text,) = loaded.generate(loaded.prepare(["what is this"], [image]), max_new_tokens=8)
    made = model.greedy(ids_of("USER: <image> what is this ASSISTANT:"), pixels(image), 8)
    assert text.split() == [word for word in map(list(VOCABULARY).__getitem__, made) if word[0] != "<"]


def test_everything_is_written(converted):
    out, _ = converted
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "processor_config.json",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []
    config = json.loads((out / "config.json").read_text())
    v = len(VOCABULARY)
    assert (config["image_token_index"], config["pad_token_id"], config["text_config"]["vocab_size"]) == (v, v + 1, 64)
    assert (config["vision_feature_layer"], config["vision_feature_select_strategy"]) == (-2, "default")
    assert (config["architectures"], config["dtype"]) == (["LlavaForConditionalGeneration"], "float32")
    assert config["text_config"]["rope_parameters"]["rope_theta"] == 5000.0
    generation = json.loads((out / "generation_config.json").read_text())
    assert (generation["pad_token_id"], generation["eos_token_id"], generation["max_length"]) == (v + 1, 2, 4096)
    assert "temperature" not in generation


def test_names_are_those_of_released_checkpoints(converted):
    out, model = converted
    with safe_open(out / "model.safetensors", "pt") as file:
        names = set(file.keys())
        embedding = file.get_tensor("language_model.model.embed_tokens.weight")
    assert {
        "language_model.lm_head.weight",
        "language_model.model.layers.1.mlp.up_proj.weight",
        "multi_modal_projector.linear_2.bias",
        "vision_tower.vision_model.encoder.layers.2.self_attn.q_proj.weight",
        "vision_tower.vision_model.pre_layrnorm.weight",
    } <= names
    assert not [name for name in names if name.endswith(("inv_freq", "position_ids"))]
    old = model.llm.get_input_embeddings().weight.detach()
    assert torch.equal(embedding[: len(old)], old)
    torch.testing.assert_close(embedding[len(old) :], old.mean(0).expand(64 - len(old), -1))


def test_a_linear_projector_changes_no_bit(tmp_path):
    out = convert(checkpoint(tmp_path / "v1.0", V10), tmp_path / "out")
    hf = ci.load(out).hf
    features = torch.randn(5, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hf.model.multi_modal_projector(features), original(linear=True).projector(features))


@pytest.mark.parametrize(("ratio", "padded"), [("pad", True), (None, False)])
def test_pictures_are_padded_where_the_original_did(tmp_path, ratio, padded):
    out = convert(checkpoint(tmp_path / "it", {**V15, "image_aspect_ratio": ratio}), tmp_path / "out")
    image = picture(0, (48, 24))
    close(ci.load(out).prepare(["what is this"], [image]).tensors["pixel_values"], pixels(image, padded))
    assert not torch.equal(pixels(image), pixels(image, pad=False))


def test_pickled_checkpoints(tmp_path):
    plain = convert(
        checkpoint(tmp_path / "plain", SHARE, inside=False), tmp_path / "a", clip_folder(tmp_path / "tower")
    )
    source = checkpoint(tmp_path / "pickled", SHARE, inside=False, pickled=True)
    tower = clip_folder(tmp_path / "pickled tower", pickled=True)
    with pytest.raises(ModelError, match=r"are pickled \(pytorch_model-00001-of-00002.bin\), and pickles can run code"):
        convert(source, tmp_path / "b", tower)
    convert(source, tmp_path / "b", tower, allow_pickled=True)
    one, other = (load_file(folder / "model.safetensors") for folder in (plain, tmp_path / "b"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_pickles_from_before_archives_and_shared_memory(tmp_path):
    source = checkpoint(tmp_path / "old", inside=True, pickled=True, shards=1)
    found = torch.load(source / "pytorch_model.bin", weights_only=True)
    found["lm_head.weight"] = found["model.embed_tokens.weight"]
    torch.save(found, source / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    out = convert(source, tmp_path / "out", allow_pickled=True)
    made = load_file(out / "model.safetensors")
    assert torch.equal(made["language_model.lm_head.weight"], made["language_model.model.embed_tokens.weight"])


class Evil:
    """A pickle that would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_not_run(tmp_path):
    source = checkpoint(tmp_path / "evil", pickled=True, shards=1)
    torch.save({"lm_head.weight": Evil(tmp_path / "ran")}, source / "pytorch_model.bin")
    with pytest.raises(StoreError, match=r"pytorch_model.bin is damaged, or asks to run code, which is not done"):
        convert(source, tmp_path / "out", allow_pickled=True)
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(StoreError, match=r"pytorch_model.bin is "):
        convert(source, tmp_path / "out", allow_pickled=True)
    torch.save([torch.ones(2)], source / "pytorch_model.bin")
    with pytest.raises(StoreError, match="holds something else than named tensors"):
        convert(source, tmp_path / "out", allow_pickled=True)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_types_are_kept_and_a_tower_from_elsewhere_is_cast(tmp_path, dtype):
    source = checkpoint(tmp_path / "it", SHARE, inside=False, dtype=dtype)
    out = convert(source, tmp_path / "out", clip_folder(tmp_path / "tower"))
    made = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in made.values()} == {dtype}
    whole, tower = original().stored()
    q = "layers.1.self_attn.q_proj.weight"
    assert torch.equal(made[f"language_model.model.{q}"], whole[f"model.{q}"].to(dtype))
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(made[f"vision_tower.{name}"], tower[name].to(dtype))
    assert json.loads((out / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")


def test_shards(tmp_path):
    source = checkpoint(tmp_path / "it")
    whole = load_file(convert(source, tmp_path / "one") / "model.safetensors")
    out = convert(source, tmp_path / "many", max_shard_bytes=100_000)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    shards = sorted(out.glob("*.safetensors"))
    assert len(shards) > 3
    assert sorted(set(index["weight_map"].values())) == [path.name for path in shards]
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in whole.values())
    found = {}
    for path in shards:
        tensors = load_file(path)
        assert len(tensors) == 1 or sum(t.nbytes for t in tensors.values()) <= 100_000
        assert all(index["weight_map"][name] == path.name for name in tensors)
        found |= tensors
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)
    loaded = ci.load(out)
    assert loaded.logits(loaded.prepare(["how do i make a cake ?"])).shape == (1, 64)


def test_a_tower_that_the_configuration_points_to(tmp_path):
    clip_folder(tmp_path / "towers" / "vit")
    for name in (str(tmp_path / "towers" / "vit"), "towers/vit", "vit"):
        config = {**SHARE, "mm_vision_tower": name}
        parent = tmp_path / "towers" if name == "vit" else tmp_path
        convert(checkpoint(parent / "it", config, inside=False), tmp_path / "out", overwrite=True)
        shutil.rmtree(parent / "it")


def test_weights_inside_come_before_those_of_a_folder(tmp_path):
    tower = clip_folder(tmp_path / "tower")
    other = {name: torch.zeros_like(t) for name, t in load_file(tower / "model.safetensors").items()}
    save_file(other, tower / "model.safetensors")
    # Not OpenAI's: the configuration is needed, the weights are not.
    source = checkpoint(tmp_path / "it", {**V15, "mm_vision_tower": "laion/CLIP-ViT-H-14"})
    with pytest.raises(
        ModelError, match=r"'laion/CLIP-ViT-H-14' inside .* comes without a configuration: pass a folder"
    ):
        convert(source, tmp_path / "out")
    made = load_file(convert(source, tmp_path / "out", tower) / "model.safetensors")
    name = "vision_model.encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(made[f"vision_tower.{name}"], original().stored()[1][name])


def test_a_whole_clip_and_one_saved_by_transformers_5(tmp_path):
    source = checkpoint(tmp_path / "it", SHARE, inside=False)
    whole = clip_folder(tmp_path / "clip")
    (whole / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": VISION}))
    new = tmp_path / "new"
    original().tower.save_pretrained(new)
    made = [
        load_file(convert(source, tmp_path / f"out {i}", t) / "model.safetensors") for i, t in enumerate((whole, new))
    ]
    assert made[0].keys() == made[1].keys()
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_tokens_around_an_image(tmp_path):
    source = checkpoint(tmp_path / "it", {**V10, "mm_use_im_start_end": True})
    with pytest.raises(ModelError, match="the tokenizer has no <im_start> and <im_end>"):
        convert(source, tmp_path / "out")
    tokenizer(source, ["<im_start>", "<im_end>"])
    loaded = ci.load(convert(source, tmp_path / "out"))
    ids = loaded.prepare(["what is this"], [picture()]).tensors["input_ids"][0].tolist()
    v = len(VOCABULARY)
    assert (loaded.hf.config.image_token_id, loaded.hf.config.pad_token_id) == (v + 2, v + 3)
    assert ids[ids.index(v) : ids.index(v + 1) + 1] == [v, *[v + 2] * 16, v + 1]


def test_the_class_token_as_a_feature(tmp_path):
    config = {**V15, "mm_vision_select_feature": "cls_patch"}
    loaded = ci.load(convert(checkpoint(tmp_path / "it", config), tmp_path / "out"))
    image = picture()
    got = loaded.logits(loaded.prepare(["what is this"], [image]), positions="all")[0, :, : len(VOCABULARY)]
    close(
        got,
        original(mm_vision_select_feature="cls_patch")(ids_of("USER: <image> what is this ASSISTANT:"), pixels(image)),
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architectures": ["LlavaForConditionalGeneration"]}, "it is a Hugging Face LLaVA already: load it as it is"),
        ({"architectures": ["LlavaMptForCausalLM"]}, "its architecture is 'LlavaMptForCausalLM', and only LlavaLlama"),
        ({"architectures": None}, r"its architecture is '\?'"),
        (
            {"mm_projector_type": "mlp3x_gelu"},
            r"its projector is 'mlp3x_gelu', and Hugging Face's LLaVA has two layers",
        ),
        ({"mm_projector_type": "identity"}, "its projector is 'identity'"),
        ({"image_aspect_ratio": "anyres"}, r"it is a LLaVA-NeXT \(1.6\), of which llava-hf has"),
        ({"mm_patch_merge_type": "spatial_unpad"}, "it is a LLaVA-NeXT"),
        ({"mm_vision_select_layer": None}, "does not say mm_vision_select_layer: it is no LLaVA with a vision tower"),
        ({"mm_vision_select_feature": "cls"}, "mm_vision_select_feature is 'cls', not one of patch, cls_patch"),
        ({"s2": True}, "sees images at several scales"),
        ({"mm_hidden_size": 64}, "takes features of width 64, and the vision tower gives 128: pass the tower 'openai/"),
        (
            {"num_hidden_layers": 3},
            r"lacks 9 tensors of the model that its config.json describes \(language_model.model",
        ),
        ({"num_hidden_layers": 1}, r"has 9 tensors that a Hugging Face LLaVA has no place for \(language_model"),
        ({"intermediate_size": 50}, r"mlp.*_proj.weight in .* has shape \(.*\), and config.json asks for \("),
    ],
)
def test_what_cannot_be_converted(tmp_path, change, words):
    source = checkpoint(tmp_path / "it", {**V15, **change})
    with pytest.raises(ModelError, match=words):
        convert(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_checkpoints_that_are_not_whole(tmp_path):
    whole = checkpoint(tmp_path / "whole")
    shard = "model-00002-of-00002.safetensors"

    def cut(folder):
        (folder / shard).write_bytes((folder / shard).read_bytes()[:-100])

    def lose_a_tensor(folder):
        tensors = load_file(folder / shard)
        tensors.pop("model.mm_projector.2.weight", None)
        tensors.pop("model.mm_projector.0.weight", None)
        save_file(tensors, folder / shard)

    def lose_embeddings(folder):
        for file in folder.glob("model-*"):
            tensors = load_file(file)
            tensors.pop("model.embed_tokens.weight", None)
            save_file(tensors, file)

    def only(*names):
        def strip(folder):
            for path in folder.glob("model*"):
                path.unlink()
            for name in names:
                (folder / name).write_text("{}")

        return strip

    def text(name, content):
        return lambda folder: (folder / name).write_text(content)

    for i, (damage, error, words) in enumerate(
        [
            (
                lambda f: (f / shard).unlink(),
                StoreError,
                rf"lacks 1 of 2 shards \({shard}\): copy the checkpoint again",
            ),
            (cut, StoreError, rf"{shard} is truncated or corrupt \("),
            (lose_a_tensor, ModelError, r"lacks \d tensors of the model .*multi_modal_projector.linear_"),
            (lose_embeddings, ModelError, "has no model.embed_tokens.weight: it is no whole checkpoint"),
            (only(), ModelError, "there is neither model.safetensors nor pytorch_model.bin"),
            (only("mm_projector.bin"), ModelError, "holds a projector only: give the folder of a whole LLaVA"),
            (only("adapter_config.json"), ModelError, "holds LoRA weights only: merge them into their base model"),
            (text("model.safetensors.index.json", "{}"), StoreError, "is no index of shards"),
            (text("model.safetensors.index.json", '{"weight_map": {}}'), StoreError, "lacks every shard"),
            (text("config.json", "{"), ModelError, r"config.json is no JSON \("),
            (text("config.json", "[]"), ModelError, "config.json is no configuration of a model"),
            (
                lambda f: (f / "config.json").unlink(),
                ModelError,
                "no config.json in .*: give the folder of an original",
            ),
            (
                lambda f: (f / "tokenizer.json").unlink(),
                ModelError,
                "no tokenizer in .*: there is neither tokenizer.json",
            ),
            (text("tokenizer.json", "{"), ModelError, r"the tokenizer in .* cannot be read \("),
            (text("generation_config.json", "{"), ModelError, "generation_config.json is no JSON"),
            (
                text("generation_config.json", '{"num_beams": "two", "max_new_tokens": -1}'),
                ModelError,
                "generation_config.json holds what transformers refuses",
            ),
            (text("preprocessor_config.json", "{"), ModelError, "preprocessor_config.json in .* cannot be read"),
        ]
    ):
        folder = tmp_path / f"damaged {i}"
        shutil.copytree(whole, folder)
        damage(folder)
        with pytest.raises(error, match=words):
            convert(folder, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_llamas_kind(tmp_path):
    source = checkpoint(tmp_path / "it")
    letters = ["<unk>", "<s>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyz", "▁a", "an", "USER", ":", "\n"]
    made = LlamaTokenizer(
        vocab={t: i for i, t in enumerate(letters)}, merges=[("▁", "a"), ("a", "n")], pad_token="<unk>"
    )
    made.save_pretrained(source)
    loaded = ci.load(convert(source, tmp_path / "out"))
    text = "an answer is a cake"
    want = made(text, add_special_tokens=False).input_ids
    assert loaded.tokenizer(text, add_special_tokens=False).input_ids == want
    assert loaded.tokenizer("<image>", add_special_tokens=False).input_ids == [len(letters)]
    assert (loaded.tokenizer.pad_token, loaded.tokenizer.pad_token_id) == ("<pad>", len(letters) + 1)
    ids = loaded.prepare([text], [picture()]).tensors["input_ids"][0].tolist()
    assert ids.count(len(letters)) == 16


def test_a_padding_token_of_its_own_is_kept(tmp_path):
    source = checkpoint(tmp_path / "it")
    tokenizer(source, ["[PAD]"])
    settings = json.loads((source / "tokenizer_config.json").read_text())
    (source / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": "[PAD]"}))
    loaded = ci.load(convert(source, tmp_path / "out"))
    v = len(VOCABULARY)
    assert (loaded.tokenizer.pad_token_id, loaded.hf.config.pad_token_id, loaded.hf.config.image_token_id) == (
        v,
        v,
        v + 1,
    )


def test_a_sentencepiece_tokenizer_alone(tmp_path):
    source = checkpoint(tmp_path / "it")
    (source / "tokenizer.json").unlink()
    (source / "tokenizer.model").write_bytes(b"not really a model")
    (source / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    with pytest.raises(
        ModelError, match=r"has a SentencePiece tokenizer \(tokenizer.model\) only: pip install sentencep"
    ):
        convert(source, tmp_path / "out")


def test_towers_that_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = checkpoint(tmp_path / "it", SHARE, inside=False)
    with pytest.raises(
        ModelError, match=r"has no vision tower inside, and 'Lin-Chen/Share.* is no folder here: pass it"
    ):
        convert(source, tmp_path / "out")
    with pytest.raises(ModelError, match=r"no folder '.*nowhere': give the folder of a checkpoint"):
        convert(source, tmp_path / "out", tmp_path / "nowhere")
    siglip = clip_folder(tmp_path / "siglip", model_type="siglip_vision_model")
    with pytest.raises(ModelError, match="is a 'siglip_vision_model': only CLIP towers are converted"):
        convert(source, tmp_path / "out", siglip)
    (siglip / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no readable config.json of a vision tower in"):
        convert(source, tmp_path / "out", siglip)
    odd = checkpoint(tmp_path / "odd", V15)
    for file in odd.glob("model-*"):
        tensors = load_file(file)
        save_file({name: t for name, t in tensors.items() if "patch_embedding" not in name}, file)
    with pytest.raises(ModelError, match="is no whole CLIP tower"):
        convert(odd, tmp_path / "out")


def test_names_on_the_hub_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="no folder 'no-one/nothing' here, and the hub has none of it or cannot be re"):
        convert("no-one/nothing", tmp_path / "out")


def test_where_it_is_written(tmp_path):
    source = checkpoint(tmp_path / "it")
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    convert(source, out)
    with pytest.raises(InputError, match=r"out is not empty: name another folder, or pass overwrite"):
        convert(source, out)
    before = (out / "model.safetensors").read_bytes()
    convert(source, out, overwrite=True)
    assert (out / "model.safetensors").read_bytes() == before
    (out / "mine").mkdir()
    with pytest.raises(InputError, match="out is no folder of a model, and is not overwritten: remove it yourself"):
        convert(source, out, overwrite=True)
    with pytest.raises(InputError, match="it is the source: name another folder"):
        convert(source, source, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file: name a folder that is not there yet"):
        convert(source, tmp_path / "file")


def test_a_disk_that_refuses_leaves_everything_as_it_was(tmp_path, monkeypatch):
    source = checkpoint(tmp_path / "it")
    out = convert(source, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cmrm_interp.convert.writing.save_file", full)
    with pytest.raises(StoreError, match=r"out was not written \(.*No space left on device\): free space or choose"):
        convert(source, out, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it", "out"]


def test_the_command(tmp_path, monkeypatch, capsys):
    source = checkpoint(tmp_path / "it", SHARE, inside=False, pickled=True)
    tower = clip_folder(tmp_path / "tower", pickled=True)
    out = tmp_path / "out"
    arguments = ["convert", str(source), str(out), "--vision-tower", str(tower), "--allow-pickled"]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, done.output) == (0, f"converted: ci.load({str(out)!r})\n")
    assert ci.load(out).family.name == "llava"
    monkeypatch.setattr("sys.argv", ["cmrm", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"cmrm: {out} is not empty: name another folder")
    assert CliRunner().invoke(app, [*arguments, "--overwrite"]).exit_code == 0


def test_bounded_memory(tmp_path):
    """At most one shard and two tensors are held: the pending shard never grows over its limit."""
    from cmrm_interp.convert.writing import ShardWriter

    writer = ShardWriter(tmp_path, 4 * 1000)
    for i in range(20):
        writer.add(f"t{i}", torch.full((300,), float(i)))
        assert sum(t.nbytes for t in writer._pending.values()) <= 4000
    writer.finish()
    assert len(list(tmp_path.glob("*.safetensors"))) == 7
    assert np.isclose(sum(float(t.sum()) for f in tmp_path.glob("*.safetensors") for t in load_file(f).values()), 57000)
