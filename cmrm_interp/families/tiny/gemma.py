"""Tiny models with a Gemma decoder: PaliGemma, Gemma 3, Gemma 4."""

from typing import Any

from cmrm_interp.families.tiny.parts import SPECIAL, chat_template, siglip, text_config, tokenizer, vocabulary

# PaliGemma's processor writes the first token itself, after the images; without images nobody else would.
_PALIGEMMA = (
    "{% set seen = namespace(images=false) %}{% for m in messages if m['content'] is not string %}"
    "{% for c in m['content'] if c['type'] == 'image' %}{% set seen.images = true %}<image>{% endfor %}{% endfor %}"
    "{% if not seen.images %}<s> {% endif %}{% for m in messages %}"
    "{% if m['role'] != 'system' %}{{ m['role'].upper() + ': ' }}{% endif %}"
    "{% if m['content'] is string %}{{ m['content'] }} {% else %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }} {% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def paligemma(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny PaliGemma: SigLIP, one linear projector, a Gemma decoder that sees the whole prompt at once."""
    from transformers import GemmaConfig

    return _paligemma(GemmaConfig, config)


def paligemma2(config: dict[str, Any]) -> tuple[Any, Any]:
    """The same with a Gemma 2 decoder."""
    from transformers import Gemma2Config

    # The whole prompt is seen at once, which a window of fewer tokens would hide.
    return _paligemma(Gemma2Config, {"sliding_window": 64, "query_pre_attn_scalar": 12, **config})


def _paligemma(decoder: Any, config: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor
    from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    # The processor adds a thousand tokens for places and segments to any tokenizer: a small width makes up for them.
    text = text_config({"hidden_size": 24, "head_dim": 12, **config}, EXTRA_TOKENS)
    tokens: dict[str, Any] = {name: text[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    whole = PaliGemmaConfig(
        text_config=decoder(**text),
        vision_config=siglip(),
        image_token_index=SPECIAL.index("<image>"),
        projection_dim=text["hidden_size"],
        hidden_size=text["hidden_size"],
        vocab_size=text["vocab_size"],
        **tokens,
    )
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32}, image_seq_length=16)
    words = tokenizer(_PALIGEMMA, image_token="<image>")
    return PaliGemmaForConditionalGeneration(whole), PaliGemmaProcessor(images, words, chat_template=_PALIGEMMA)


def gemma3(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Gemma 3: SigLIP, patches pooled two by two, windows of attention, images that see all of themselves."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    named = {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>", "eoi_token": "<end_of_image>"}
    extra = tuple(named.values())
    own = {"head_dim": 12, "query_pre_attn_scalar": 10, "sliding_window": 8, "sliding_window_pattern": 2}
    ids: dict[str, Any] = {name.replace("_token", "_token_index"): vocabulary(extra)[t] for name, t in named.items()}
    whole = Gemma3Config(
        text_config={**own, **text_config(config, extra)}, vision_config=siglip(), mm_tokens_per_image=4, **ids
    )
    template = chat_template("<start_of_image>")
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),
        tokenizer(template, extra, **named),
        chat_template=template,
        image_seq_length=4,
    )
    return Gemma3ForConditionalGeneration(whole), processor


def gemma4(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Gemma 4: patches of any image size, layers that borrow keys and values, embeddings for each layer.

    Each layer ends by scaling the whole stream, and heads are larger in layers without a window.
    """
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration

    named = {"image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>"}
    named |= {"audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>"}
    extra = (*named.values(), "<|video|>")
    ids: dict[str, Any] = {name + "_id": vocabulary(extra)[word] for name, word in named.items() if name != "eoa_token"}
    own = {
        "head_dim": 12,
        "global_head_dim": 16,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": len(vocabulary(extra)),
        "use_bidirectional_attention": "vision",
        "final_logit_softcapping": 5.0,
    }
    vision = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "pooling_kernel_size": 2,
        "patch_size": 4,
        "position_embedding_size": 2 * 70,
    }
    whole = Gemma4Config(
        text_config={**own, **text_config(config, extra)},
        vision_config=vision,
        audio_config=None,
        video_token_id=vocabulary(extra)["<|video|>"],
        eoa_token_index=vocabulary(extra)["<audio|>"],
        **ids,
    )
    hf = Gemma4ForConditionalGeneration(whole)
    for layer in hf.model.language_model.layers:
        layer.layer_scalar.uniform_(0.7, 1.3)
    return hf, _gemma4_processor(tokenizer(chat_template("<|image|>"), extra, **named))


def _gemma4_processor(words: Any) -> Any:
    from transformers import Gemma4AudioFeatureExtractor, Gemma4Processor
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

    from cmrm_interp.families.processors import assemble

    # Images are enlarged until they have as many tokens as possible: 70 is the least that may be asked for.
    images = Gemma4ImageProcessorPil(patch_size=4, pooling_kernel_size=2, max_soft_tokens=70)
    sound = Gemma4AudioFeatureExtractor()
    return assemble(Gemma4Processor, images, words, words.chat_template, feature_extractor=sound, image_seq_length=70)


BUILDERS = {"paligemma": paligemma, "paligemma2": paligemma2, "gemma3": gemma3, "gemma4": gemma4}
