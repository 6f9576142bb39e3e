"""A case: one model with its inputs, in a folder from which every library's environment loads the same.

Nothing here imports the package, which other libraries' environments do not have.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForImageTextToText
from transformers.utils import logging

logging.disable_progress_bar()


@dataclass(frozen=True)
class Plan:
    """How much of everything is run.

    Attributes:
        alphas: strengths of the sweep, at every layer.
        patch_layers: every so many layers are patched.
        patch_positions: so many positions are patched: the last ones, or as many spread over the whole prompt.
        new_tokens: length of the answers.
        repeats: rounds of short tasks.
        loops: rounds of tasks that run the model tens of times.
        warmup: rounds of short tasks that are not counted.
    """

    alphas: tuple[float, ...] = (1.0, 2.0)
    patch_layers: int = 2
    patch_positions: int = 4
    new_tokens: int = 64
    repeats: int = 20
    loops: int = 5
    warmup: int = 1


@dataclass(frozen=True)
class Case:
    """One model and what it is run on.

    Attributes:
        name: for the table.
        folder: checkpoint, inputs and vectors.
        plan: how much is run.
        device: on which.
    """

    name: str
    folder: Path
    plan: Plan
    device: str = "cpu"

    def network(self, attention: str = "sdpa") -> Any:
        """A copy of the Hugging Face model that nothing has wrapped."""
        hf = AutoModelForImageTextToText.from_pretrained(self.folder, attn_implementation=attention, dtype="auto")
        # Every answer is to have its full length.
        hf.generation_config.eos_token_id = None
        hf.generation_config.pad_token_id = hf.config.get_text_config().pad_token_id or 0
        return hf.eval().to(self.device)

    @cached_property
    def bare(self) -> Any:
        """The copy that plain calls and bare hooks share."""
        return self.network()

    @cached_property
    def layers(self) -> int:
        """Decoder blocks."""
        return self.bare.config.get_text_config().num_hidden_layers

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The inputs, as a processor made them."""
        return self._read("inputs")

    @cached_property
    def others(self) -> dict[str, Tensor]:
        """The same prompts with other images."""
        return self._read("others")

    @cached_property
    def blank(self) -> dict[str, Tensor]:
        """The same prompts with blank images."""
        return self._read("blank")

    @cached_property
    def bare_text(self) -> dict[str, Tensor]:
        """The same prompts without images."""
        return self._read("text")

    @cached_property
    def vectors(self) -> Tensor:
        """``layer d_model``: what is subtracted at each layer."""
        return self._read("vectors")["vectors"]

    @property
    def variants(self) -> list[tuple[int, float]]:
        """Layer and strength of each variant of the sweep."""
        return [(layer, alpha) for layer in range(self.layers) for alpha in self.plan.alphas]

    @property
    def patch_layers(self) -> list[int]:
        """Layers whose output is patched."""
        return list(range(0, self.layers, self.plan.patch_layers))

    @property
    def last_positions(self) -> list[int]:
        """Positions that are patched, from the end: words behind the image."""
        return list(range(-self.plan.patch_positions, 0))

    @property
    def spread_positions(self) -> list[int]:
        """Positions that are patched, from the end: as many all over the shortest prompt, most of them of the image."""
        n, shortest = self.plan.patch_positions, int(self.tensors["attention_mask"].sum(1).min())
        return [-shortest + 1 + (shortest - 1) * k // n for k in range(n)]

    @staticmethod
    def metric(logits: Tensor) -> Tensor:
        """Difference of two tokens' logits, one number a prompt."""
        return logits[:, 5] - logits[:, 7]

    def save(self) -> None:
        """Write what is not a tensor."""
        about = {"name": self.name, "plan": asdict(self.plan), "device": self.device}
        (self.folder / "case.json").write_text(json.dumps(about), encoding="utf-8")

    def _read(self, name: str) -> dict[str, Tensor]:
        return {key: tensor.to(self.device) for key, tensor in load_file(self.folder / f"{name}.safetensors").items()}


def load(folder: Path) -> Case:
    """The case that a folder holds."""
    about = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    plan = about["plan"] | {"alphas": tuple(about["plan"]["alphas"])}
    return Case(about["name"], folder, Plan(**plan), about["device"])


def write(folder: Path, name: str, tensors: dict[str, Tensor]) -> None:
    """Put tensors into a case's folder."""
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")


def vectors_like(layers: int, width: int, seed: int = 0) -> Tensor:
    """Random vectors, one a layer."""
    return 0.1 * torch.randn(layers, width, generator=torch.Generator().manual_seed(seed))
