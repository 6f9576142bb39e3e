"""Tiny vision-language models of architectures that the package does not register: for the map that is derived."""

from collections.abc import Callable
from typing import Any

import torch

from cmrm_interp.families.tiny.parts import randomise, text_config

IMAGE = 40  # id of the token that stands for a piece of an image
PAD, BOS = 0, 1

_SIGLIP = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "vision_use_head": False,
}
_TOWER = {name: value for name, value in _SIGLIP.items() if name != "vision_use_head"}
Stranger = Callable[[], tuple[Any, dict[str, torch.Tensor]]]


def strangers() -> dict[str, Stranger]:
    """By name of the architecture: what builds a random model and an encoding of an image row and a text row."""
    makers = (vipllava, idefics2, got_ocr2, ovis2, aria, cohere2_vision, llama4, janus, *_ODD)
    return {make.__name__: make for make in makers}


def vipllava():
    """LLaVA with features of several tower layers side by side."""
    from transformers import CLIPVisionConfig, LlamaConfig, VipLlavaConfig, VipLlavaForConditionalGeneration

    config = VipLlavaConfig(
        vision_config=CLIPVisionConfig(**_TOWER),
        text_config=LlamaConfig(**text_config({})),
        image_token_index=IMAGE,
        vision_feature_layer=[-2, -1, 1],
    )
    return _finish(VipLlavaForConditionalGeneration(config), pieces=16, pixel_values=_pixels(1, 3, 16, 16))


def idefics2():
    """Mistral decoder; four latents ask each image (a perceiver)."""
    from transformers import Idefics2Config, Idefics2ForConditionalGeneration, MistralConfig

    perceiver = {"resampler_n_latents": 4, "resampler_depth": 2, "resampler_n_heads": 2, "resampler_head_dim": 8}
    text = MistralConfig(**{**text_config({}), "sliding_window": None})
    perceiver |= {"num_key_value_heads": 1, "hidden_size": text.hidden_size}
    config = Idefics2Config(vision_config=_TOWER, perceiver_config=perceiver, text_config=text, image_token_id=IMAGE)
    # The text row's image is padding: all zeros.
    pixels = torch.cat([_pixels(1, 1, 3, 16, 16), torch.zeros(1, 1, 3, 16, 16)])
    return _finish(Idefics2ForConditionalGeneration(config), pieces=4, pixel_values=pixels)


def got_ocr2():
    """SAM's tower, whose stream is a grid (batch x height x width x d); Qwen2 decoder."""
    from transformers import GotOcr2Config, GotOcr2ForConditionalGeneration, Qwen2Config

    vision = {
        "hidden_size": 24,
        "output_channels": 8,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 4,
        "window_size": 4,
        "global_attn_indexes": [1],
        "mlp_dim": 40,
    }
    config = GotOcr2Config(
        vision_config=vision, text_config=Qwen2Config(**text_config({})), image_token_index=IMAGE, image_seq_length=4
    )
    return _finish(GotOcr2ForConditionalGeneration(config), pieces=4, pixel_values=_pixels(1, 3, 32, 32))


def ovis2():
    """An image piece is a mixture of 32 visual words; two more words mark an image's begin and end."""
    from transformers import Ovis2Config, Ovis2ForConditionalGeneration, Qwen2Config

    text = text_config({})
    vision = {**_TOWER, "vocab_size": 32, "hidden_stride": 2, "num_visual_indicator_tokens": 2}
    config = Ovis2Config(
        vision_config=vision,
        text_config=Qwen2Config(**text),
        image_token_id=IMAGE,
        visual_indicator_token_ids=[41, 42],
        vocab_size=text["vocab_size"],
        hidden_size=text["hidden_size"],
    )
    pixels = _pixels(1, 3, 16, 16)
    return _finish(Ovis2ForConditionalGeneration(config), pieces=4, around=([41], [42]), pixel_values=pixels)


def aria():
    """A mixture of experts with shared ones; four queries ask each image."""
    from transformers import AriaConfig, AriaForConditionalGeneration

    experts = {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}
    config = AriaConfig(
        vision_config={**_TOWER, "model_type": "idefics3_vision"},
        text_config={**text_config(experts), "model_type": "aria_text"},
        image_token_index=IMAGE,
        projector_patch_to_query_dict={16: 4},
    )
    return _finish(AriaForConditionalGeneration(config), pieces=4, pixel_values=_pixels(1, 3, 16, 16))


def cohere2_vision():
    """Attention and MLP side by side; two tiles of an image; no place to hook between the two halves of a block."""
    from transformers import (
        Cohere2Config,
        Cohere2VisionConfig,
        Cohere2VisionForConditionalGeneration,
        SiglipVisionConfig,
    )

    config = Cohere2VisionConfig(
        vision_config=SiglipVisionConfig(**_SIGLIP),
        text_config=Cohere2Config(**{**text_config({}), "sliding_window": 16}),
        image_token_id=IMAGE,
        alignment_intermediate_size=48,
    )
    return _finish(Cohere2VisionForConditionalGeneration(config), pieces=8, pixel_values=_pixels(2, 3, 16, 16))


def llama4():
    """Experts in every second layer, chunked attention, a tower that shuffles pixels in an adapter."""
    from transformers import Llama4Config, Llama4ForConditionalGeneration

    vision = {**_TOWER, "vision_output_dim": 24, "projector_input_dim": 24, "projector_output_dim": 24}
    own = {
        "head_dim": 8,
        "intermediate_size_mlp": 48,
        "num_local_experts": 2,
        "interleave_moe_layer_step": 2,
        "attention_chunk_size": 16,
    }
    config = Llama4Config(
        vision_config={**vision, "intermediate_size": 96}, text_config=text_config(own), image_token_index=IMAGE
    )
    return _finish(Llama4ForConditionalGeneration(config), pieces=4, pixel_values=_pixels(1, 3, 16, 16))


def janus():
    """Understands images with one tower and draws with another, which a forward does not use."""
    from transformers import JanusConfig, JanusForConditionalGeneration, LlamaConfig

    text = LlamaConfig(**text_config({}))
    vision = {**_TOWER, "mlp_ratio": 2, "projection_dim": text.hidden_size, "num_image_tokens": 16}
    drawing = {
        "embed_dim": 4,
        "num_embeddings": 16,
        "latent_channels": 8,
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "projection_dim": text.hidden_size,
        "image_token_embed_dim": text.hidden_size,
    }
    config = JanusConfig(
        vision_config=vision, vq_config=drawing, text_config=text, image_token_id=IMAGE, tie_word_embeddings=False
    )
    return _finish(JanusForConditionalGeneration(config), pieces=16, pixel_values=_pixels(1, 3, 16, 16))


def fuyu():
    """No tower: patches go through one linear layer into the stream; fused queries, keys and values (Persimmon)."""
    from transformers import FuyuConfig, FuyuForCausalLM, PersimmonConfig

    text = PersimmonConfig(**text_config({"num_key_value_heads": 4}))
    config = FuyuConfig(text_config=text, patch_size=4, image_size=16, image_token_id=IMAGE)
    return _finish(FuyuForCausalLM(config), pieces=16, pixel_values=_pixels(1, 16, 48))


def lfm2_vl():
    """Convolutions in place of attention in half of the blocks."""
    from transformers import Lfm2Config, Lfm2VlConfig, Lfm2VlForConditionalGeneration, Siglip2VisionConfig

    vision = {**_SIGLIP, "num_patches": 16}
    del vision["image_size"]
    config = Lfm2VlConfig(
        vision_config=Siglip2VisionConfig(**vision),
        text_config=Lfm2Config(**text_config({"full_attn_idxs": [1, 3], "block_multiple_of": 16})),
        image_token_id=IMAGE,
        projector_hidden_size=48,
    )
    shapes: dict[str, Any] = {
        "spatial_shapes": torch.tensor([[4, 4]]),
        "pixel_attention_mask": torch.ones(1, 16, dtype=torch.long),
    }
    return _finish(Lfm2VlForConditionalGeneration(config), pieces=4, pixel_values=_pixels(1, 16, 48), **shapes)


def qwen3_5():
    """Linear attention in three of four blocks, and a gate on the attention's output in the fourth."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    linear = {"key_head_dim": 8, "value_head_dim": 8, "num_key_heads": 2, "num_value_heads": 4}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2], "partial_rotary_factor": 0.5}
    text = text_config({"head_dim": 16, "rope_parameters": rope, **{f"linear_{k}": v for k, v in linear.items()}})
    vision = {
        "depth": 3,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_heads": 2,
        "patch_size": 4,
        "out_hidden_size": text["hidden_size"],
        "num_position_embeddings": 16,
    }
    config = Qwen3_5Config(
        text_config=text, vision_config=vision, image_token_id=IMAGE,
        video_token_id=41, vision_start_token_id=42, vision_end_token_id=43,
    )  # fmt: skip
    hf, encoding = _finish(
        Qwen3_5ForConditionalGeneration(config),
        pieces=4,
        around=([42], [43]),
        pixel_values=_pixels(16, 96),
        image_grid_thw=torch.tensor([[1, 4, 4]]),
    )
    return hf, {**encoding, "mm_token_type_ids": (encoding["input_ids"] == IMAGE).long()}


# What the package's names cannot all mean: no tower, or blocks without attention.
_ODD = (fuyu, lfm2_vl, qwen3_5)


def _finish(hf: Any, pieces: int, around: tuple[list[int], list[int]] = ([], []), **images: torch.Tensor):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        randomise(hf)
    hf.generation_config.eos_token_id = None
    with_image = [BOS, 5, 6, *around[0], *[IMAGE] * pieces, *around[1], 7, 8, 9, 10]
    text = [BOS, 5, 6, 11, 12, 13, 14]
    padding = len(with_image) - len(text)
    tokens = {
        "input_ids": torch.tensor([with_image, [PAD] * padding + text]),
        "attention_mask": torch.tensor([[1] * len(with_image), [0] * padding + [1] * len(text)]),
    }
    return hf.eval(), {**tokens, **images}


def _pixels(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))
