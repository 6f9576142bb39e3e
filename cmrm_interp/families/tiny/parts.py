"""What tiny models of all families share: words, a tokenizer, a chat template, random weights."""

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
_ROLES = "{% if m['role'] == 'system' %}{{ '' }}{% else %}{{ m['role'].upper() + ': ' }}{% endif %}"


def randomise(hf: torch.nn.Module) -> None:
    """Give every weight of a model a new value: gains that are not one, biases that are not zero."""
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim == 1:
                is_gain = name.endswith("weight")
                parameter.copy_(1 + 0.3 * noise if is_gain else 0.1 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Sizes of a decoder of four layers, changed by `config`."""
    return {
        "vocab_size": len(SPECIAL) + len(set(WORDS)),
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


def tokenizer(template: str) -> Any:
    """A tokenizer of whole words with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *dict.fromkeys(WORDS)]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=list(SPECIAL[4:]), chat_template=template,
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
