"""Models at their real size without a download: exact configurations, and processors made offline."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
)

from cmrm_interp.families.llava import CHAT_TEMPLATE
from cmrm_interp.families.processors import assemble

# Text whose every word is one token, as many as a short request has.
WORDS = "tell me how the people of this town make a red paper boat that can carry two cats over cold water".split()
QWEN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|> ' + message['role'] + ' ' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|vision_start|> <|image_pad|> <|vision_end|> ' }}"
    "{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{{ '<|im_end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> assistant ' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """A checkpoint's sizes.

    Attributes:
        name: as the command line takes it.
        hub_id: the checkpoint that has this shape.
        model_class: its Hugging Face class.
        config: the exact configuration; None stands for the full number of decoder layers.
        processor: makes a processor with a word-level tokenizer.
        picture: width and height of the pictures that the rehearsal shows it.
    """

    name: str
    hub_id: str
    model_class: type
    config: Callable[[int | None], Any]
    processor: Callable[[], Any]
    picture: tuple[int, int] = (336, 336)


# Width, mlp, heads and layers of CLIP ViT-L; and of one that takes as small a share of a small model's time.
CLIP_L, CLIP_SMALL = (1024, 4096, 16, 24), (64, 256, 4, 4)


def _llava_config(
    text: dict[str, int], layers: int | None, tower: tuple[int, ...] = CLIP_L, words: int = 32000
) -> LlavaConfig:
    sizes: dict[str, Any] = {**text, "num_hidden_layers": layers or text["num_hidden_layers"]}
    width, mlp, heads, depth = tower
    vision = CLIPVisionConfig(
        hidden_size=width,
        image_size=336,
        intermediate_size=mlp,
        num_attention_heads=heads,
        num_hidden_layers=depth,
        patch_size=14,
        projection_dim=768,
    )
    decoder = LlamaConfig(
        vocab_size=words + 64, max_position_embeddings=4096, rms_norm_eps=1e-5, tie_word_embeddings=False, **sizes
    )
    tokens: dict[str, Any] = {"image_token_id": words, "pad_token_id": words + 1, "image_seq_length": 576}
    features: dict[str, Any] = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
    return LlavaConfig(vision_config=vision, text_config=decoder, tie_word_embeddings=False, **tokens, **features)


def _llava_processor(words: int = 32000) -> LlavaProcessor:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    special = {0: "<unk>", 1: "<s>", 2: "</s>", words: "<image>", words + 1: "<pad>"}
    tokenizer = _tokenizer(words + 64, special, {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"})
    # Word-level tokens are found between spaces, so the image token needs one after it.
    template = CHAT_TEMPLATE.replace("<image>\\n", "<image> ")
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )


def _qwen2_vl_config(layers: int | None) -> Qwen2VLConfig:
    rope = {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}
    text = {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": layers or 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_parameters": rope,
        "tie_word_embeddings": False,
    }
    vision = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14, "hidden_size": 3584}
    ids: dict[str, Any] = {
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "image_token_id": 151655,
        "video_token_id": 151656,
    }
    return Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)


def _qwen2_vl_processor() -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    special = {151643 + i: name for i, name in enumerate(names)} | {
        151652: "<|vision_start|>",
        151653: "<|vision_end|>",
        151655: "<|image_pad|>",
        151656: "<|video_pad|>",
    }
    tokenizer = _tokenizer(152064, special, {"eos": "<|im_end|>", "pad": "<|endoftext|>", "unk": "<|endoftext|>"})
    return assemble(Qwen2VLProcessor, Qwen2VLImageProcessorPil(), tokenizer, QWEN_TEMPLATE)


def _tokenizer(size: int, special: dict[int, str], roles: dict[str, str]) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = iter([*WORDS, "USER:", "ASSISTANT:", "user", "assistant", *(f"w{i}" for i in range(size))])
    unique = dict.fromkeys(words)
    fill = iter(unique)
    vocabulary = {special.get(i) or next(fill): i for i in range(size)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token=roles["unk"]))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {f"{role}_token": token for role, token in roles.items()}
    others = [token for token in special.values() if token not in roles.values()]
    return PreTrainedTokenizerFast(tokenizer_object=raw, extra_special_tokens=others, **named)


def _llama_sizes(width: int, mlp: int, layers: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
    }


def _small_llava() -> Shape:
    # Tokens as LLaVA-1.5 has them; width, layers, tower and vocabulary at about one scale.
    text, words = _llama_sizes(256, 688, 16, 8), 2048
    return Shape(
        "llava-small",
        "LLaVA-1.5's tokens, smaller",
        LlavaForConditionalGeneration,
        lambda layers: _llava_config(text, layers, CLIP_SMALL, words),
        lambda: _llava_processor(words),
    )


def _llava(name: str, text: dict[str, int]) -> Shape:
    return Shape(
        name,
        f"llava-hf/{name}-hf",
        LlavaForConditionalGeneration,
        lambda layers: _llava_config(text, layers),
        _llava_processor,
    )


SHAPES = {
    shape.name: shape
    for shape in (
        _small_llava(),
        _llava("llava-1.5-7b", _llama_sizes(4096, 11008, 32, 32)),
        _llava("llava-1.5-13b", _llama_sizes(5120, 13824, 40, 40)),
        Shape(
            "qwen2-vl-7b",
            "Qwen/Qwen2-VL-7B-Instruct",
            Qwen2VLForConditionalGeneration,
            _qwen2_vl_config,
            _qwen2_vl_processor,
            # 24 x 24 image tokens, as many as LLaVA has.
            (672, 672),
        ),
    )
}
