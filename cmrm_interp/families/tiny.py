"""Tiny random models of each family, built from a configuration: for tests and for trying things out."""

from collections.abc import Callable
from typing import Any

import torch

from cmrm_interp.errors import ModelError

_WORDS = (
    "what is in the picture ? how do i make a cake tell me about cats and dogs describe this image please"
    " yes no sure sorry can not help red green blue one two three you are kind"
).split()
_SPECIAL = (
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "<image>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "USER:",
    "ASSISTANT:",
)
_ROLES = "{% if m['role'] == 'system' %}{{ '' }}{% else %}{{ m['role'].upper() + ': ' }}{% endif %}"


def tiny(family: str, seed: int = 0, **config: Any) -> tuple[Any, Any]:
    """A random model of a family and its processor, small enough for a test.

    Weights are larger than at initialisation and the norms' gains are not one, so that mistakes which
    cancel in a fresh model (a gain before or after a hook point) do not pass.

    Args:
        family: ``"llava"``, ``"qwen2_vl"`` or ``"llama"``.
        seed: of the weights.
        **config: further entries of the text configuration.

    Returns:
        ``(hf_model, processor)``, as `cmrm_interp.load` takes them.

    Raises:
        ModelError: there is no tiny model of the family.
    """
    if family not in _BUILDERS:
        raise ModelError(f"no tiny model of family {family!r}: there are {', '.join(_BUILDERS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf, processor = _BUILDERS[family](config)
        _randomise(hf)
    return hf.eval(), processor


def _randomise(hf: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim == 1:
                is_gain = name.endswith("weight")
                parameter.copy_(1 + 0.3 * noise if is_gain else 0.1 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)


def _text(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": len(_SPECIAL) + len(set(_WORDS)),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **config,
    }


def _tokenizer(template: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*_SPECIAL, *dict.fromkeys(_WORDS)]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=list(_SPECIAL[4:]), chat_template=template,
    )  # fmt: skip


def _template(image: str) -> str:
    return (
        "<s> {% for m in messages %}" + _ROLES + "{% if m['content'] is string %}{{ m['content'] }} {% else %}"
        "{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        + image
        + " {% else %}{{ c['text'] }} {% endif %}{% endfor %}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )


def _llava(config: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    tokens: dict[str, Any] = {"image_token_id": _SPECIAL.index("<image>"), "pad_token_id": 0, "image_seq_length": 16}
    features: dict[str, Any] = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
    whole = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**_text(config)), **tokens, **features)
    template = _template("<image>")
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        image_processor=images, tokenizer=_tokenizer(template), patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    return LlavaForConditionalGeneration(whole), processor


def _qwen2_vl(config: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from cmrm_interp.families.processors import assemble

    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {**_text(config), "rope_parameters": rope}
    vision = {
        "depth": 3,
        "embed_dim": 24,
        "num_heads": 2,
        "mlp_ratio": 2,
        "patch_size": 4,
        "hidden_size": text["hidden_size"],
    }
    tokens = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    ids: dict[str, Any] = {f"{name}_token_id": _SPECIAL.index(f"<|{word}|>") for name, word in tokens.items()}
    whole = Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
    template = _template("<|vision_start|><|image_pad|><|vision_end|>")
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=8 * 8, max_pixels=32 * 32)
    return Qwen2VLForConditionalGeneration(whole), assemble(Qwen2VLProcessor, images, _tokenizer(template), template)


def _llama(config: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_text(config))), _tokenizer(_template("<image>"))


_BUILDERS: dict[str, Callable[[dict[str, Any]], tuple[Any, Any]]] = {
    "llava": _llava,
    "qwen2_vl": _qwen2_vl,
    "llama": _llama,
}
