"""The vision tower: inside the checkpoint, in a folder, or on the hub."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmrm_interp.convert.layout import TOWER, in_tower, renamed
from cmrm_interp.convert.weights import Weights, open_weights
from cmrm_interp.errors import ModelError

# OpenAI's towers: heads of 64, and an activation that other CLIPs do not have.
_OPENAI = ("openai/clip-vit-", "Lin-Chen/ShareGPT4V")
_HEAD = 64


@dataclass(frozen=True)
class Tower:
    """A CLIP vision tower.

    Attributes:
        config: its `CLIPVisionConfig`.
        weights: its tensors; None if they are inside the checkpoint.
        folder: where its image processor's settings may be.
    """

    config: Any
    weights: Weights | None
    folder: Path | None


def find_tower(config: dict[str, Any], folder: Path, inside: Weights, given: Path | None, allow_pickled: bool) -> Tower:
    """The tower of a checkpoint; weights inside the checkpoint come before those of a folder.

    Args:
        config: of the checkpoint.
        folder: of the checkpoint.
        inside: all weights of the checkpoint.
        given: folder of a CLIP model in Hugging Face's format; None looks where the configuration points.
        allow_pickled: as `open_weights` takes it.

    Raises:
        ModelError: there is none, or it is no CLIP.
        StoreError: its weights are damaged.
    """
    place = given or _pointed_at(config, folder)
    shapes = {renamed(name): shape for name, shape in inside.shapes.items() if name.startswith(TOWER)}
    if place is None and not shapes:
        raise ModelError(
            f"{folder} has no vision tower inside, and {config.get('mm_vision_tower')!r} is no folder here: pass it"
            " (cmrm convert --vision-tower), as a folder or as the name on the hub"
        )
    vision = _config_of(place) if place else _openai_config(str(config.get("mm_vision_tower")), shapes, folder)
    return Tower(vision, None if shapes or place is None else open_weights(place, allow_pickled), place)


def tower_name(name: str) -> str | None:
    """Name in the whole of a tensor of a CLIP folder; None for what is not part of the vision tower."""
    if name.startswith(("text_model.", "visual_projection.", "text_projection.", "logit_")):
        return None
    return None if name.endswith(".position_ids") else in_tower(name)


def _pointed_at(config: dict[str, Any], folder: Path) -> Path | None:
    name = config.get("mm_vision_tower")
    if not isinstance(name, str) or not name:
        return None
    places = (Path(name), folder / name, folder.parent / name, folder.parent / Path(name).name)
    return next((place for place in places if (place / "config.json").is_file()), None)


def _config_of(place: Path) -> Any:
    from transformers import CLIPVisionConfig

    try:
        found = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"no readable config.json of a vision tower in {place} ({error})") from error
    if found.get("model_type") == "clip":
        return CLIPVisionConfig.from_dict({**found.get("vision_config", {}), "model_type": "clip_vision_model"})
    if found.get("model_type") != "clip_vision_model":
        raise ModelError(
            f"the vision tower in {place} is a {found.get('model_type')!r}: only CLIP towers are converted"
        )
    return CLIPVisionConfig.from_dict(found)


def _openai_config(name: str, shapes: dict[str | None, tuple[int, ...]], folder: Path) -> Any:
    """Configuration of a tower of which only the weights are there."""
    from transformers import CLIPVisionConfig

    start = in_tower("")
    try:
        width, channels, patch, _ = shapes[f"{start}embeddings.patch_embedding.weight"]
        places, _ = shapes[f"{start}embeddings.position_embedding.weight"]
        inner, _ = shapes[f"{start}encoder.layers.0.mlp.fc1.weight"]
    except (KeyError, ValueError) as error:
        raise ModelError(f"the vision tower inside {folder} is no whole CLIP tower ({error})") from error
    if width % _HEAD or not name.startswith(_OPENAI):
        raise ModelError(
            f"the vision tower {name!r} inside {folder} comes without a configuration: pass a folder with its"
            " config.json (cmrm convert --vision-tower); the weights inside are used all the same"
        )
    layers = {str(name).split(".")[4] for name in shapes if str(name).startswith(f"{start}encoder.layers.")}
    return CLIPVisionConfig(
        hidden_size=width,
        num_channels=channels,
        patch_size=patch,
        image_size=patch * round((places - 1) ** 0.5),
        intermediate_size=inner,
        num_attention_heads=width // _HEAD,
        num_hidden_layers=len(layers),
    )
