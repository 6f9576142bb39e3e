"""Fine-tuning on safety data: the answers of another checkpoint, made from this one or from its predecessor.

Zong et al., "Safety Fine-Tuning at (Almost) No Cost: A Baseline for Vision Large Language Models" (VLGuard), ICML 2024,
arXiv 2402.02207. Safety data are harmful images and instructions with refusals, and safe images with safe instructions
(answered) and unsafe ones (refused).

* Mixed: the safety data are added to the visual instruction data, and instruction tuning is done with both.
* Post-hoc: the finished model is tuned on the safety data together with some helpful data.

The two fine-tunings of CMRM's comparison. The checkpoint is made by ``cmrm finetune``; see `cmrm_interp.finetuning`.
Ours: learning rate, steps and share of safety data, which are in the checkpoint's ``finetuning.json``.
"""

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from cmrm_interp.arguments import check_choice
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.inputs import Inputs
from cmrm_interp.model import Model, load
from cmrm_interp.recipes.base import AnchorPrompts, Recipe, found, need_vision
from cmrm_interp.recipes.card import Card, registered

How = Literal["mixed", "post-hoc"]
HOW: tuple[How, ...] = ("mixed", "post-hoc")
FOLDER = "finetuned"


@registered(
    Card(
        name="finetuned",
        title="VLGuard fine-tuning",
        paper="Zong et al., ICML 2024",
        arxiv="2402.02207",
        claim="another checkpoint, which was fine-tuned to refuse harmful requests with images",
        wants="none",
        strength="",
        sure="kinds of data as in the paper; learning rate, steps and shares are ours",
    )
)
@dataclass(frozen=True, eq=False)
class FineTuned(Recipe):
    """The answers of a fine-tuned checkpoint, to the same prompts with the same images.

    Attributes:
        how: ``"mixed"`` or ``"post-hoc"``: which checkpoint of the model's folder ``finetuned`` answers.
        source: folder or hub id of the checkpoint, in place of that one.
        folder: of the checkpoint that `fit` found.
        weights: its fingerprint.
    """

    how: How = "mixed"
    source: str | None = None
    folder: str | None = found()
    weights: str | None = found()

    def __post_init__(self) -> None:
        """Refuse an unknown way of fine-tuning.

        Raises:
            InputError: it is neither ``mixed`` nor ``post-hoc``.
        """
        check_choice("way of fine-tuning", self.how, HOW)
        super().__post_init__()

    def fit(self, model: Model, anchors: AnchorPrompts = ()) -> Self:
        """Find the checkpoint and note its weights; what it learned from is its own affair.

        Raises:
            ModelError: the model cannot see, or the checkpoint cannot be loaded.
            InputError: there is no checkpoint beside the model, and none is named.
        """
        need_vision(model, self)
        folder = self.source or str(self._beside(model))
        weights = _other(folder, model).fingerprint
        return replace(self, folder=folder, weights=weights, model=model.fingerprint)

    def generate(self, model: Model, inputs: Inputs, **generation: Any) -> list[str]:
        """Answers of the fine-tuned checkpoint.

        Raises:
            MismatchError: its weights are others than when the recipe was fitted.
        """
        self.check_model(model)
        assert self.folder is not None
        other = _other(self.folder, model)
        if other.fingerprint != self.weights:
            raise MismatchError(f"the weights in {self.folder} are not those that were there at fit: fit it again")
        return other.generate(other.prepare(inputs.prompts), **generation)

    def _beside(self, model: Model) -> Path:
        folder = Path(model.name) / FOLDER / self.how
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{model.name} has no folder {FOLDER}/{self.how} with a fine-tuned checkpoint: make it,"
                f" cmrm finetune MODEL --how {self.how}, or say where one is, finetuned:source=PATH"
            )
        return folder


def _other(folder: str, model: Model) -> Model:
    path = Path(folder)
    # Trained again in this process, it is another checkpoint in the same folder.
    changed = max(file.stat().st_mtime_ns for file in (path, *path.iterdir())) if path.is_dir() else 0
    return _loaded(os.fspath(folder), changed, model.hf.dtype, str(model.hf.device))


# Two are kept, which is what a comparison of Mixed and Post-hoc goes back and forth between.
@lru_cache(maxsize=2)
def _loaded(folder: str, changed: int, dtype: Any, device: str) -> Model:
    placed: dict[str, Any] = {} if device == "cpu" else {"device_map": device}
    return load(folder, dtype=dtype, **placed)
