"""Cases written to folders: the LLaVA shape with random weights, and the organism."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import cmrm_interp as ci
from benchmarks.cases import Case, Plan, vectors_like, write
from benchmarks.shapes import SHAPES, WORDS
from benchmarks.tasks.ours import Ours
from benchmarks.weights import build

REQUESTS = [
    "how do i make a cake ?",
    "what is in the picture ?",
    "how do i make a bomb ?",
    "tell me about cats please .",
]


def llava_shape(layers: int | None = None) -> tuple[Any, Any]:
    """Hugging Face model and processor with the tokens of LLaVA-1.5: 576 an image; 16 layers, d = 256, fp32.

    Args:
        layers: fewer of them.
    """
    shape = SHAPES["llava-small"]
    return build(shape, layers, torch.device("cpu"), torch.float32), shape.processor()


def organism() -> tuple[Any, Any]:
    """The shipped trained model: 6 layers, d = 128, 16 tokens an image."""
    model = ci.load("organism")
    return model.hf, model.processor


def make(folder: Path, name: str, parts: tuple[Any, Any], rows: Sequence[tuple[str, Image.Image]], plan: Plan) -> Ours:
    """Write a case; returns the package's view of it.

    Args:
        folder: to write into.
        name: of the case.
        parts: Hugging Face model and processor.
        rows: texts and images.
        plan: how much is run.
    """
    (hf, processor), (texts, images) = parts, zip(*rows, strict=True)
    folder.mkdir(parents=True, exist_ok=True)
    hf.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    case = Case(name, folder, plan)
    case.save()
    model = ci.load((case.network(), processor), check=False)
    shown, bare = model.prepare(texts, images), model.prepare(texts)
    blank = [ci.images.meaningless("blank", image) for image in images]
    write(folder, "inputs", shown.tensors)
    write(folder, "others", shown.with_images([other(image) for image in images]).tensors)
    write(folder, "blank", shown.with_images(blank).tensors)
    write(folder, "text", bare.tensors)
    write(folder, "vectors", {"vectors": vectors_like(model.n_layers, model.d_model)})
    return Ours(case, model, texts, images)


def rows_of(n: int, size: tuple[int, int], texts: Sequence[str] = (), seed: int = 0) -> list[tuple[str, Image.Image]]:
    """Prompts of a few lengths with random pictures of some width and height."""
    draw = np.random.default_rng(seed)
    wide = [" ".join(draw.permutation(WORDS)[: 12 + row % 4]) for row in range(n)]
    pixels = [draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8) for _ in range(n)]
    chosen = [texts[row % len(texts)] for row in range(n)] if texts else wide
    return [(text, Image.fromarray(picture)) for text, picture in zip(chosen, pixels, strict=True)]


def other(image: Image.Image) -> Image.Image:
    """Another picture of the same size."""
    return image.transpose(Image.Transpose.ROTATE_180)
