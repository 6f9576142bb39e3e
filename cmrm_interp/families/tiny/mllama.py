"""Tiny Mllama (Llama 3.2 Vision)."""

from typing import Any

from cmrm_interp.families.tiny.parts import chat_template, text_config, tokenizer, vocabulary

_EXTRA = ("<|image|>",)


def mllama(config: dict[str, Any]) -> tuple[Any, Any]:
    """A tiny Mllama: five layers, of which two attend to up to four tiles of each image; gates are not zero."""
    from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaProcessor
    from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

    # The image token's id is the first one that the output layer does not know, as in the released checkpoints.
    words = len(vocabulary())
    layers = {"num_hidden_layers": 5, "cross_attention_layers": [1, 3]}
    text = {**text_config({}), "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, **layers, **config}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_global_layers": 2,
        "attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "intermediate_layers_indices": [0, 2],
        "vision_output_dim": 16 * 3,
    }
    whole = MllamaConfig(text_config=text, vision_config=vision, image_token_index=words)
    template = chat_template("<|image|>")
    images = MllamaImageProcessorPil(size={"height": 16, "width": 16}, max_image_tiles=4)
    processor = MllamaProcessor(images, tokenizer(template, extra=_EXTRA), chat_template=template)
    return MllamaForConditionalGeneration(whole), processor


BUILDERS = {"mllama": mllama}
