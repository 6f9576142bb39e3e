"""What is trained and how: sizes of the model and the list of stages, as frozen values."""

from dataclasses import dataclass
from typing import Literal

Part = Literal["blocks", "embedding", "projector", "tower"]
IMAGE_TOKENS = 16
IMAGE_MEAN = (0.45, 0.45, 0.45)
IMAGE_STD = (0.27, 0.27, 0.27)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the organism: a Llama decoder and a CLIP tower.

    Args:
        d_model: width of the decoder's residual stream.
        layers: decoder blocks.
        heads: attention heads of decoder and tower.
        d_mlp: width of the decoder's MLPs.
        d_vision: width of the tower.
        vision_layers: blocks of the tower.
        patch: side of a patch in pixels; a picture has (32 / patch) squared image tokens.
    """

    d_model: int = 128
    layers: int = 6
    heads: int = 4
    d_mlp: int = 384
    d_vision: int = 64
    vision_layers: int = 3
    patch: int = 8


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Args:
        name: also the name of its checkpoint.
        trains: the parts whose weights move; all others are frozen.
        steps: optimizer steps.
        batch: examples a step.
        lr: peak learning rate (AdamW, short warm-up, cosine decay).
        prompt_weight: weight of the prompt's tokens in the loss; the answer's have 1.
        average: decay of a running average of the weights, which replaces them at the end; 0 for none.
    """

    name: str
    trains: tuple[Part, ...]
    steps: int
    lr: float
    batch: int = 64
    prompt_weight: float = 0.0
    average: float = 0.0
