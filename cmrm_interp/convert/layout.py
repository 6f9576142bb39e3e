"""The original layout: which checkpoints are known, their tensors' names, and their configuration in Hugging Face's.

Sources: ``haotian-liu/LLaVA`` (``llava/model``), ``InternLM/InternLM-XComposer`` (``projects/ShareGPT4V``), and
``convert_llava_weights_to_hf.py`` of transformers, whose result this is.
"""

import json
from pathlib import Path
from typing import Any

import torch

from cmrm_interp.errors import ModelError

# Class of the whole checkpoint to the model type of its language model.
DECODERS = {
    "LlavaLlamaForCausalLM": "llama",
    "LlavaMistralForCausalLM": "mistral",
    "Share4VLlamaForCausalLM": "llama",
}
TOWER = "model.vision_tower."
_STRATEGIES = {"patch": "default", "cls_patch": "full"}
_NEXT = "it is a LLaVA-NeXT (1.6), of which llava-hf has Hugging Face versions: load those"


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a checkpoint in the original layout.

    Raises:
        ModelError: there is none, it cannot be read, or it is of something that cannot be converted.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(f"no config.json in {folder}: give the folder of an original LLaVA or ShareGPT4V checkpoint")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is no JSON ({error}): copy it again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{file} is no configuration of a model: copy it again")
    why = _refusal(config)
    if why:
        raise ModelError(f"{folder} cannot be converted: {why}")
    return config


def architecture(config: dict[str, Any]) -> str:
    """Class name of the whole checkpoint, or a question mark."""
    return (config.get("architectures") or ["?"])[0]


def llava_config(config: dict[str, Any], vision: Any, **tokens: int) -> Any:
    """Hugging Face's configuration of the same model.

    Args:
        config: as `read_config` gives it.
        vision: `CLIPVisionConfig` of the tower.
        **tokens: ``vocab_size``, ``image_token_id`` and ``pad_token_id`` after conversion.

    Raises:
        ModelError: the tower is of another width than the projector.
    """
    from transformers import CONFIG_MAPPING, LlavaConfig

    if config.get("mm_hidden_size", vision.hidden_size) != vision.hidden_size:
        raise ModelError(
            f"the projector takes features of width {config['mm_hidden_size']}, and the vision tower gives"
            f" {vision.hidden_size}: pass the tower {config.get('mm_vision_tower')!r} (--vision-tower)"
        )
    text_class = CONFIG_MAPPING[DECODERS[architecture(config)]]
    known = {*text_class().to_dict(), "rope_theta", "rope_scaling"} - {"architectures", "model_type", "dtype"}
    text = {name: value for name, value in config.items() if name in known}
    text |= {"vocab_size": tokens["vocab_size"], "pad_token_id": tokens["pad_token_id"]}
    tied = bool(config.get("tie_word_embeddings", False))
    strategy = _STRATEGIES[config.get("mm_vision_select_feature", "patch")]
    whole: dict[str, Any] = {
        "vision_config": vision,
        "text_config": text_class.from_dict({**text, "tie_word_embeddings": tied}),
        "image_token_id": tokens["image_token_id"],
        "pad_token_id": tokens["pad_token_id"],
        "projector_hidden_act": "linear" if is_linear(config) else "gelu",
        "vision_feature_layer": config["mm_vision_select_layer"],
        "vision_feature_select_strategy": strategy,
        "image_seq_length": (vision.image_size // vision.patch_size) ** 2 + (strategy == "full"),
        "tie_word_embeddings": tied,
        "architectures": ["LlavaForConditionalGeneration"],
    }
    return LlavaConfig(**whole)


def is_linear(config: dict[str, Any]) -> bool:
    """Whether the projector is one linear map, as in the first LLaVA."""
    return config.get("mm_projector_type", "linear") == "linear"


def renamed(name: str) -> str | None:
    """Name of a tensor in Hugging Face's layout; None for buffers that are no longer stored."""
    if name.endswith((".inv_freq", ".position_ids")):
        return None
    if name.startswith(TOWER):
        return in_tower(name.removeprefix(TOWER).removeprefix("vision_tower."))
    for old, new in (("0.", "linear_1."), ("2.", "linear_2."), ("", "linear_1.")):
        if name.startswith(f"model.mm_projector.{old}"):
            return f"multi_modal_projector.{new}{name.removeprefix(f'model.mm_projector.{old}')}"
    return f"language_model.{name}"


def in_tower(name: str) -> str:
    """Name of a tensor of a CLIP vision model, as transformers stores it before or since version 5, in the whole."""
    return f"vision_tower.vision_model.{name.removeprefix('vision_model.')}"


def expected(config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that Hugging Face's model stores.

    Args:
        config: `LlavaConfig`.
    """
    from transformers import LlavaForConditionalGeneration

    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    state = {_stored(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {name: shape for name, shape in state.items() if not (config.tie_word_embeddings and "lm_head" in name)}


def _stored(name: str) -> str:
    """A parameter's name in the files that llava-hf ships, which every version of transformers reads."""
    part, _, rest = name.removeprefix("model.").partition(".")
    if part == "vision_tower":
        return in_tower(rest)
    if part == "language_model":
        return f"language_model.model.{rest}"
    return f"language_model.{name}" if part == "lm_head" else f"{part}.{rest}"


def _refusal(config: dict[str, Any]) -> str | None:
    """Why a configuration cannot be converted."""
    name, kind = architecture(config), config.get("mm_projector_type", "linear")
    if name == "LlavaForConditionalGeneration":
        return "it is a Hugging Face LLaVA already: load it as it is"
    if name not in DECODERS:
        return f"its architecture is {name!r}, and only {', '.join(DECODERS)} are known"
    if str(config.get("mm_patch_merge_type", "flat")).startswith("spatial"):
        return _NEXT
    if "anyres" in str(config.get("image_aspect_ratio")):
        return _NEXT
    if not isinstance(config.get("mm_vision_select_layer"), int):
        return "its config.json does not say mm_vision_select_layer: it is no LLaVA with a vision tower"
    if config.get("mm_vision_select_feature", "patch") not in _STRATEGIES:
        return (
            f"mm_vision_select_feature is {config['mm_vision_select_feature']!r}, not one of {', '.join(_STRATEGIES)}"
        )
    if kind not in ("linear", "mlp2x_gelu"):
        return f"its projector is {kind!r}, and Hugging Face's LLaVA has two layers (linear and mlp2x_gelu fit)"
    if config.get("mm_resampler_type") or config.get("s2"):
        return "it resamples image features or sees images at several scales, which Hugging Face's LLaVA does not"
    return None
