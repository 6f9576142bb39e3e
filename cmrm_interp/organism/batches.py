"""Examples to tensors, token for token and pixel for pixel as the shipped processor does it, but faster."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.datasets.synthetic.lexicon import split_tokens
from cmrm_interp.organism.config import IMAGE_MEAN, IMAGE_STD, IMAGE_TOKENS
from cmrm_interp.organism.examples import Example
from cmrm_interp.organism.tokens import ASSISTANT, BOS, EOS, IMAGE, PAD, USER, vocabulary

_IDS = vocabulary()


@dataclass(frozen=True)
class Row:
    """One example in tokens.

    Args:
        ids: token ids of prompt and answer.
        weights: of every token in the loss.
        image: the picture, if any.
    """

    ids: list[int]
    weights: list[float]
    image: Image.Image | None


@dataclass(frozen=True)
class Batch:
    """Left-padded rows; those with and without image may be mixed.

    Args:
        inputs: what the network takes: input_ids, attention_mask and, if any row has an image, pixel_values.
        weights: of every token in the loss.
    """

    inputs: dict[str, Tensor]
    weights: Float[Tensor, "batch pos"]


def pixels(images: Sequence[Image.Image]) -> Float[Tensor, "image 3 height width"]:
    """Pictures of the tower's own size to pixel values.

    Args:
        images: RGB.
    """
    raw = np.stack([np.asarray(image, dtype=np.float32) for image in images]) / np.float32(255)
    scaled = (raw - np.array(IMAGE_MEAN, dtype=np.float32)) / np.array(IMAGE_STD, dtype=np.float32)
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())


def prompt_ids(prompt: str, image: bool) -> list[int]:
    """Token ids of a user's turn up to where the answer starts.

    Args:
        prompt: what the user says, of known words.
        image: whether the turn has an image.
    """
    tokens = [BOS, USER, *([IMAGE] * IMAGE_TOKENS if image else []), *split_tokens(prompt), ASSISTANT]
    return [_IDS[token] for token in tokens]


def _pad(rows: Sequence[Sequence[int] | Sequence[float]], fill: int | float, dtype: torch.dtype) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[fill] * (longest - len(row)) + list(row) for row in rows], dtype=dtype)


def _inputs(rows: Sequence[Sequence[int]], images: Sequence[Image.Image | None]) -> dict[str, Tensor]:
    ids: Int[Tensor, "batch pos"] = _pad(rows, _IDS[PAD], torch.long)
    inputs = {"input_ids": ids, "attention_mask": _pad([[1] * len(row) for row in rows], 0, torch.long)}
    present = [image for image in images if image is not None]
    return inputs | {"pixel_values": pixels(present)} if present else inputs


def encode_prompts(prompts: Sequence[str], images: Sequence[Image.Image | None]) -> dict[str, Tensor]:
    """Prompts to generate from.

    Args:
        prompts: what the user says.
        images: one a prompt, or None for text alone.
    """
    rows = [prompt_ids(prompt, image is not None) for prompt, image in zip(prompts, images, strict=True)]
    return _inputs(rows, images)


def encode_rows(examples: Sequence[Example], prompt_weight: float) -> list[Row]:
    """Examples to learn from, in their order.

    Args:
        examples: prompts and answers.
        prompt_weight: weight in the loss of the prompt's words; the answer's tokens have 1, the rest 0.
    """
    rows = []
    for example in examples:
        prompt = prompt_ids(example.prompt, example.image is not None)
        answer = [_IDS[token] for token in (*split_tokens(example.answer), EOS)]
        silent = 2 + (IMAGE_TOKENS if example.image else 0)  # <s>, USER: and the image
        weights = [0.0] * silent + [prompt_weight] * (len(prompt) - silent) + [1.0] * len(answer)
        rows.append(Row(prompt + answer, weights, example.image))
    return rows


def pad_rows(rows: Sequence[Row]) -> Batch:
    """Rows of different lengths to tensors.

    Args:
        rows: at least one.
    """
    inputs = _inputs([row.ids for row in rows], [row.image for row in rows])
    return Batch(inputs, _pad([row.weights for row in rows], 0.0, torch.float32))
