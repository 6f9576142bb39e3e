"""The pictures of an encoding as numbers from 0 to 1, and the way from these numbers to the model's pixels.

Processors lay pixels out as they like (an image, patches in some order, each frame twice, padding). All that is
taken for granted is that at the size which the model sees, each element is ``black + (white - black) * value`` for
one value of one picture. Which one is read off pictures that spell out the number of each value in their colours;
whether it holds is tried on a random picture, and a processor for which it does not is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from cmrm_interp.axes import Float, Int, Tensor
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.images import load_image
from cmrm_interp.inputs import Inputs
from cmrm_interp.prompts import Prompt

Size = tuple[int, int]
# Four bytes number more values than any batch of pictures has.
BYTES = 4
# As near as an element has to be to what it should be, in 0 .. 1; a step of a picture is 0.004.
NEAR = 1e-3


@dataclass(frozen=True, eq=False)
class PixelSpace:
    """Pictures of some prompts as one run of values, and how they become what the model is called with.

    Attributes:
        prompts: the prompts, each with its images.
        tensors: their encoding.
        name: of the tensor in it that carries the pixels.
        sizes: width x height of each picture, as the model sees it.
        source: for each element of that tensor, the value it is made from.
        black, white: that tensor for black and for white pictures.
        values: of the pictures, each 0 .. 1, picture by picture, height x width x 3.
    """

    prompts: tuple[Prompt, ...]
    tensors: Mapping[str, Tensor]
    name: str
    sizes: tuple[Size, ...]
    source: Int[Tensor, "*pixels"]
    black: Float[Tensor, "*pixels"]
    white: Float[Tensor, "*pixels"]
    values: Float[Tensor, " values"]

    def encoding(self, values: Float[Tensor, " values"]) -> dict[str, Tensor]:
        """The encoding with other pictures; gradients flow through it."""
        return {**self.tensors, self.name: self.black + (self.white - self.black) * values[self.source]}

    def images(self, values: Float[Tensor, " values"], epsilon: float = 1.0) -> list[Image.Image]:
        """Values as pictures of 8 bits a colour, none further than `epsilon` from the pictures that were there."""
        # A ball whose size is no whole number of steps is met from within.
        reach = float(np.floor(epsilon * 255 + 1e-3))
        clean = (self.values * 255).round()
        whole = torch.clamp((values * 255).round(), clean - reach, clean + reach).clamp(0, 255)
        return [Image.fromarray(part.to(torch.uint8).numpy()) for part in self.split(whole)]

    def split(self, values: Float[Tensor, " values"]) -> list[Float[Tensor, "height width color"]]:
        """The values of each picture."""
        parts = values.split([3 * width * height for width, height in self.sizes])
        return [part.view(height, width, 3) for part, (width, height) in zip(parts, self.sizes, strict=True)]

    def shown(self, images: Sequence[Image.Image]) -> list[Prompt]:
        """The prompts with other pictures in the places of theirs."""
        return _shown(self.prompts, images)

    @property
    def rows(self) -> Int[Tensor, " values"]:
        """The prompt that each value belongs to."""
        owners = [row for row, prompt in enumerate(self.prompts) for _ in prompt.images]
        return torch.tensor(owners).repeat_interleave(torch.tensor([3 * w * h for w, h in self.sizes]))


def pixel_space(model: Any, inputs: Inputs) -> PixelSpace:
    """The pictures of some inputs at the size that the model sees, and what its processor makes of them.

    Args:
        model: a `Model` with a processor.
        inputs: from `Model.prepare`, each prompt with an image.

    Raises:
        InputError: prompts without an image, or inputs without prompts.
        ModelError: the processor cuts pictures into crops, or normalises each by what is on it, so that no element
            of its pixels is one value of a picture.
    """
    prompts = inputs.prompts
    without = sum(not prompt.images for prompt in prompts)
    if without:
        raise InputError(f"{without} of the {len(prompts)} prompts have no image, and there are no pixels to change")
    pictures = [load_image(image, f"prompt {row}") for row, p in enumerate(prompts) for image in p.images]
    tensors = _encoded(model, prompts, pictures)
    name = model.encoder.pixels[0]
    for sizes in _sizes(model, tensors, name, [picture.size for picture in pictures]):
        found = _space(model, prompts, tensors, sizes)
        if found is not None:
            return found
    raise ModelError(
        f"the processor of {model.name} ({model.family.name}) cuts pictures into crops, or normalises each by what is"
        " on it, so that no picture has the pixels which the model is given: use a family that sees a picture whole"
        " (LLaVA 1.5, Qwen2-VL), or switch the crops off in its processor"
    )


def _space(model: Any, prompts: Sequence[Prompt], tensors: Mapping[str, Tensor], sizes: list[Size]) -> Any:
    """The pixel space if pictures of these sizes are the ones that the model sees, or None."""
    name, n = model.encoder.pixels[0], sum(3 * width * height for width, height in sizes)
    encode = partial(_of_values, model, prompts, sizes)
    plain = encode(torch.zeros(n))
    if not _alike(plain, tensors, name):
        return None
    black, white = plain[name], encode(torch.ones(n))[name]
    span = white - black
    empty = span.abs() < 1e-6
    if bool(empty.all()):
        return None

    def _read(pixels: Tensor) -> Tensor:
        return torch.where(empty, 0.0, (pixels - black) / torch.where(empty, 1.0, span))

    numbers, source = torch.arange(n), torch.zeros(black.shape, dtype=torch.long)
    for byte in range(BYTES):
        digits = (numbers >> (8 * byte)) & 255
        source += (_read(encode(digits / 255)[name]) * 255).round().long() << (8 * byte)
    if int(source.min()) < 0 or int(source.max()) >= n:
        return None
    source = torch.where(empty, 0, source)
    tried = torch.randint(0, 256, (n,), generator=torch.Generator().manual_seed(0)) / 255
    right = (_read(encode(tried)[name]) - torch.where(empty, 0.0, tried[source])).abs().max() < NEAR
    clean = torch.zeros(n)
    clean[source[~empty]] = _read(tensors[name])[~empty]
    back = (_read(tensors[name]) - torch.where(empty, 0.0, clean[source])).abs().max() < NEAR
    inside = bool(clean.min() > -NEAR and clean.max() < 1 + NEAR)
    if not (right and back and inside):
        return None
    values = (clean * 255).round().clamp(0, 255) / 255
    kept = tuple(prompts), dict(tensors), name, tuple(sizes), source, black, white, values
    return PixelSpace(*kept)


def _sizes(model: Any, tensors: Mapping[str, Tensor], name: str, own: list[Size]) -> Iterator[list[Size]]:
    """Sizes that the model may see pictures in: their own, that of its pixels, that of its grids of patches."""
    yield own
    pixels = tensors[name]
    if pixels.ndim >= 4:
        yield [(pixels.shape[-1], pixels.shape[-2])] * len(own)
    grids = [t for key, t in tensors.items() if key in model.encoder.pixels and key.endswith("grid_thw")]
    for grid in grids:
        side = model.hf.config.vision_config.patch_size
        yield [(int(width) * side, int(height) * side) for _, height, width in grid.tolist()]


def _alike(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], name: str) -> bool:
    if mine.keys() != theirs.keys() or mine[name].shape != theirs[name].shape:
        return False
    return all(torch.equal(tensor, theirs[key]) for key, tensor in mine.items() if key != name)


def _of_values(model: Any, prompts: Sequence[Prompt], sizes: list[Size], values: Tensor) -> Mapping[str, Tensor]:
    whole = (values * 255).round().to(torch.uint8).split([3 * width * height for width, height in sizes])
    pictures = [Image.fromarray(part.view(h, w, 3).numpy()) for part, (w, h) in zip(whole, sizes, strict=True)]
    return _encoded(model, prompts, pictures)


def _encoded(model: Any, prompts: Sequence[Prompt], pictures: Sequence[Image.Image]) -> Mapping[str, Tensor]:
    return model.encoder.encode(_shown(prompts, pictures))[0]


def _shown(prompts: Sequence[Prompt], pictures: Sequence[Image.Image]) -> list[Prompt]:
    left = iter(pictures)
    return [replace(prompt, image=[next(left) for _ in prompt.images]) for prompt in prompts]
