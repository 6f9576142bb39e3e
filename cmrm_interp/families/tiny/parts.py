"""What tiny models of all families share: words, a tokenizer, a chat template, random weights."""

from collections.abc import Sequence
from typing import Any

import torch

WORDS = (
    "what is in the picture ? how do i make a cake tell me about cats and dogs describe this image please"
    " yes no sure sorry can not help red green blue one two three you are kind"
).split()
SPECIAL = (
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
# Ends of the names of vectors that multiply.
_GAINS = ("weight", "scale", "lambda_1", "lambda_2")
_ROLES = "{% if m['role'] == 'system' %}{{ '' }}{% else %}{{ m['role'].upper() + ': ' }}{% endif %}"


def randomise(hf: torch.nn.Module) -> None:
    """Give every weight of a model a new value: gains that are not one, biases that are not zero."""
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.numel() == 1:
                parameter.copy_(0.8 + 0.2 * noise)  # a gate
            elif parameter.ndim == 1:
                parameter.copy_(1 + 0.3 * noise if name.endswith(_GAINS) else 0.1 * noise)
            else:
                # Convolutions sum over kernels too; experts are stacked before what they sum over.
                fan_in = parameter.shape[-1] if parameter.ndim == 3 else parameter[0].numel()
                parameter.copy_(noise / fan_in**0.5)


def vocabulary(extra: Sequence[str] = ()) -> dict[str, int]:
    """Ids of all tokens: `SPECIAL`, then words, then a family's own special tokens."""
    return {token: i for i, token in enumerate([*SPECIAL, *dict.fromkeys(WORDS), *extra])}


def text_config(config: dict[str, Any], extra: Sequence[str] = ()) -> dict[str, Any]:
    """Sizes of a decoder of four layers over `vocabulary(extra)`, changed by `config`."""
    return {
        "vocab_size": len(vocabulary(extra)),
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


def tokenizer(template: str, extra: Sequence[str] = (), **named: str) -> Any:
    """A tokenizer of whole words with a chat template.

    Args:
        template: chat template, in Jinja.
        extra: special tokens of the family, after those of `SPECIAL`; see `vocabulary` for their ids.
        **named: special tokens that the family's processor asks for by name, such as ``image_token``.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel(vocabulary(extra), unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=[*SPECIAL[4:], *extra], model_specific_special_tokens=named, chat_template=template,
    )  # fmt: skip


def chat_template(image: str) -> str:
    """A template (Jinja) in which an image is written as `image`."""
    return (
        "<s> {% for m in messages %}" + _ROLES + "{% if m['content'] is string %}{{ m['content'] }} {% else %}"
        "{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        + image
        + " {% else %}{{ c['text'] }} {% endif %}{% endfor %}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )


def siglip() -> dict[str, Any]:
    """Configuration of a tiny SigLIP tower: 16 patches, no class token."""
    return {
        "model_type": "siglip_vision_model",
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "vision_use_head": False,
    }
