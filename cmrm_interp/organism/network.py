"""Builds the organism's network with random weights, and tells its parts apart."""

from collections.abc import Iterable

import torch
from torch import nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from cmrm_interp.datasets.synthetic.pictures import SIZE
from cmrm_interp.organism.config import ModelConfig, Part
from cmrm_interp.organism.tokens import BOS, EOS, IMAGE, MAX_TOKENS, PAD, vocabulary

MAX_NEW_TOKENS = 24


def text_config(config: ModelConfig) -> LlamaConfig:
    """The decoder's configuration.

    Args:
        config: sizes of the model.
    """
    ids = vocabulary()
    return LlamaConfig(
        vocab_size=len(ids),
        hidden_size=config.d_model,
        intermediate_size=config.d_mlp,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=MAX_TOKENS,
        pad_token_id=ids[PAD],
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
        tie_word_embeddings=True,
    )


def network_config(config: ModelConfig) -> LlavaConfig:
    """The whole network's configuration.

    Args:
        config: sizes of the model.
    """
    vision = CLIPVisionConfig(
        hidden_size=config.d_vision,
        intermediate_size=3 * config.d_vision,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.heads,
        image_size=SIZE,
        patch_size=config.patch,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text_config(config),
        image_token_index=vocabulary()[IMAGE],
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(SIZE // config.patch) ** 2,
        tie_word_embeddings=True,
    )


def generation_config() -> GenerationConfig:
    """Greedy decoding, long enough for every answer of the world."""
    ids = vocabulary()
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        pad_token_id=ids[PAD],
        bos_token_id=ids[BOS],
        eos_token_id=ids[EOS],
    )


def build_network(config: ModelConfig, seed: int) -> LlavaForConditionalGeneration:
    """The network with random weights, on the CPU in fp32.

    Args:
        config: sizes of the model.
        seed: of the random weights.
    """
    torch.manual_seed(seed)
    network = LlavaForConditionalGeneration(network_config(config))
    network.generation_config = generation_config()
    return network.eval()


def parameters(network: LlavaForConditionalGeneration, parts: Iterable[Part]) -> list[nn.Parameter]:
    """The weights of some parts, in a fixed order.

    Args:
        network: the organism.
        parts: blocks (with the final norm), embedding (tied to the output), projector, tower.
    """
    decoder = network.model.language_model
    modules: dict[Part, list[nn.Module]] = {
        "blocks": [decoder.layers, decoder.norm],
        "embedding": [decoder.embed_tokens],
        "projector": [network.model.multi_modal_projector],
        "tower": [network.model.vision_tower],
    }
    return [weight for part in parts for module in modules[part] for weight in module.parameters()]
