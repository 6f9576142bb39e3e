"""Tiny vision-language models of unregistered architectures with their own processors."""

from typing import Any

import torch

from cmrm_interp.families.processors import assemble
from cmrm_interp.families.tiny.parts import SPECIAL, chat_template, randomise, text_config, tokenizer, vocabulary

_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
_TOWER = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}


def vipllava() -> tuple[Any, Any]:
    """One row of pixels an image; features of three tower layers."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaProcessor,
        VipLlavaConfig,
        VipLlavaForConditionalGeneration,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    config = VipLlavaConfig(
        vision_config=CLIPVisionConfig(**_TOWER, image_size=32, patch_size=8),
        text_config=LlamaConfig(**text_config({})),
        image_token_index=SPECIAL.index("<image>"),
        vision_feature_layers=[-2, -1, 1],
    )
    template = chat_template("<image>")
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        image_processor=images, tokenizer=tokenizer(template), patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    return _random(VipLlavaForConditionalGeneration(config)), processor


def glm46v() -> tuple[Any, Any]:
    """Packed patches of any image size, of which four become one before the projector."""
    from transformers import Glm46VConfig, Glm46VForConditionalGeneration, Glm46VProcessor
    from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil

    words = {"image": "<|image|>", "video": "<|video|>"}
    words |= {
        f"{kind}_{end}": f"<|{word}_of_{kind}|>"
        for kind in ("image", "video")
        for end, word in (("start", "begin"), ("end", "end"))
    }
    extra = tuple(words.values())
    ids: dict[str, Any] = {f"{name}_token_id": vocabulary(extra)[word] for name, word in words.items()}
    text = {**text_config({"head_dim": 8}, extra), "rope_parameters": {**_ROPE, "partial_rotary_factor": 1.0}}
    text["model_type"] = "glm4v_text"
    vision = {"model_type": "glm4v_vision", "depth": 3, "hidden_size": 24, "intermediate_size": 40, "num_heads": 2}
    vision |= {"out_hidden_size": text["hidden_size"], "image_size": 32, "patch_size": 4}
    config = Glm46VConfig(text_config=text, vision_config=vision, **ids)
    template = chat_template("<|begin_of_image|><|image|><|end_of_image|>")
    sizes: dict[str, Any] = {"size": {"shortest_edge": 128, "longest_edge": 2048}}
    images = Glm46VImageProcessorPil(patch_size=4, merge_size=2, **sizes)
    processor = assemble(Glm46VProcessor, images, tokenizer(template, extra), template)
    return _random(Glm46VForConditionalGeneration(config)), processor


def lighton_ocr() -> tuple[Any, Any]:
    """All patches in one row, sizes in pixels (Pixtral's tower), of which odd edges are dropped by the projector."""
    from transformers import LightOnOcrConfig, LightOnOcrForConditionalGeneration, LightOnOcrProcessor
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    vision = {**_TOWER, "model_type": "pixtral", "head_dim": 12, "image_size": 32, "patch_size": 4}
    config = LightOnOcrConfig(
        vision_config=vision,
        text_config={**text_config({"head_dim": 8}), "model_type": "qwen3"},
        image_token_id=SPECIAL.index("<image>"),
        spatial_merge_size=2,
    )
    template = chat_template("<image>")
    named = {"image_token": "<image>", "image_break_token": "<unk>", "image_end_token": "<unk>"}
    images = PixtralImageProcessorPil(size={"longest_edge": 32}, patch_size={"height": 4, "width": 4})
    processor = LightOnOcrProcessor(
        images, tokenizer(template, **named), patch_size=4, spatial_merge_size=2, chat_template=template
    )
    return _random(LightOnOcrForConditionalGeneration(config)), processor


SEEING = {make.__name__: make for make in (vipllava, glm46v, lighton_ocr)}


def _random(hf: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        randomise(hf)
    hf.set_attn_implementation("eager")
    hf.generation_config.eos_token_id = None
    return hf.eval()
