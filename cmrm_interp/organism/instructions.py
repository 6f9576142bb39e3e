"""Visual instruction tuning of an organism over again, for a fine-tuning that mixes other data into it."""

import random
from pathlib import Path

from transformers import LlavaForConditionalGeneration, ProcessorMixin

from cmrm_interp.errors import ModelError
from cmrm_interp.finetuning import Example
from cmrm_interp.organism.checkpoints import load_checkpoint
from cmrm_interp.organism.config import ModelConfig
from cmrm_interp.organism.examples import draw
from cmrm_interp.organism.network import build_network
from cmrm_interp.organism.recipe import INSTRUCTIONS
from cmrm_interp.organism.tokens import build_processor
from cmrm_interp.prompts import Prompt

BEFORE = "2a"  # the stage that instruction tuning begins from


def instructions(n: int, seed: int = 0) -> list[Example]:
    """Examples of the organism's own visual instruction tuning (stage 2b).

    Args:
        n: how many.
        seed: of the draw.
    """
    rng = random.Random(f"instructions {seed}")
    drawn = (draw(rng, INSTRUCTIONS) for _ in range(n))
    return [Example(Prompt(example.prompt, example.image), example.answer) for example in drawn]


def has_stages(folder: Path) -> bool:
    """Whether a folder holds the organism as it was before instruction tuning."""
    return _stage(folder).is_file()


def before_instructions(folder: Path) -> tuple[LlavaForConditionalGeneration, ProcessorMixin]:
    """The organism as it was before instruction tuning, and its processor.

    Args:
        folder: of an organism that was trained here, with its stages.

    Raises:
        ModelError: the folder has no such stage.
    """
    if not has_stages(folder):
        raise ModelError(f"{folder} has no {_stage(folder).relative_to(folder)}: train it, cmrm organism train")
    config = ModelConfig()
    network = build_network(config, 0)
    load_checkpoint(network, _stage(folder))
    return network, build_processor(config)


def _stage(folder: Path) -> Path:
    return folder / "stages" / f"{BEFORE}.safetensors"
