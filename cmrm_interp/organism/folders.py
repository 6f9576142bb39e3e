"""Writes the organism and its text backbone as Hugging Face folders."""

import tempfile
from pathlib import Path

from transformers import LlamaForCausalLM, LlavaForConditionalGeneration, PreTrainedModel

from cmrm_interp.organism.config import ModelConfig
from cmrm_interp.organism.network import generation_config, text_config
from cmrm_interp.organism.tokens import build_processor, build_tokenizer
from cmrm_interp.store import write_whole

BACKBONE = "backbone"
_WEIGHTS = "model.safetensors"


def save_organism(network: LlavaForConditionalGeneration, config: ModelConfig, folder: Path) -> None:
    """Writes config, processor, tokenizer and weights for AutoModelForImageTextToText and AutoProcessor.

    Args:
        network: the organism.
        config: its sizes.
        folder: where; made if it does not exist.
    """
    build_processor(config).save_pretrained(folder)
    _save_model(network, folder)


def backbone_of(network: LlavaForConditionalGeneration, config: ModelConfig) -> LlamaForCausalLM:
    """A copy of the decoder as a language model of its own.

    Args:
        network: the organism, after any stage.
        config: its sizes.
    """
    backbone = LlamaForCausalLM(text_config(config))
    backbone.model.load_state_dict(network.model.language_model.state_dict())
    backbone.tie_weights()
    backbone.generation_config = generation_config()
    return backbone.eval()


def save_backbone(network: LlavaForConditionalGeneration, config: ModelConfig, folder: Path) -> None:
    """Writes the decoder for AutoModelForCausalLM and AutoTokenizer.

    Args:
        network: the organism, before it has met an image.
        config: its sizes.
        folder: where; made if it does not exist.
    """
    build_tokenizer().save_pretrained(folder)
    _save_model(backbone_of(network, config), folder)


def _save_model(model: PreTrainedModel, folder: Path) -> None:
    """Saves so that a folder with weights is a whole folder: they come last, and at once."""
    with tempfile.TemporaryDirectory() as staging:
        model.save_pretrained(staging)
        for path in sorted(Path(staging).iterdir(), key=lambda path: path.name == _WEIGHTS):
            write_whole(folder / path.name, path.read_bytes())
