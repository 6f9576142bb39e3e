"""Experts: models that were trained from the one that they help, to refuse."""

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cmrm_interp.errors import InputError, MismatchError, ModelError
from cmrm_interp.model import Model, load

BESIDE = Path("finetuned", "expert")
_ADAPTER = "adapter_config.json"


def expert_of(model: Model, given: Model | str | os.PathLike[str] | None) -> Model:
    """The expert of a model, loaded once and kept until another is asked for.

    Args:
        model: that it helps.
        given: the expert, or the folder of its checkpoint or of a low-rank adapter (peft) of the model; None for the
            folder ``finetuned/expert`` of the model.

    Raises:
        InputError: there is none, or it is the model itself.
        MismatchError: it is of another family or has another vocabulary.
        ModelError: the folder holds no model, or peft is missing for an adapter.
    """
    expert = given if isinstance(given, Model) else _loaded_from(_folder(model, given), model)
    if expert.hf is model.hf:
        raise InputError("the expert is the model itself: give one that was trained to refuse")
    if expert.family.name != model.family.name:
        raise MismatchError(
            f"the expert {expert.name} is of family {expert.family.name!r} and {model.name} of {model.family.name!r}:"
            " it is given the same prompt with the same image, and has to be the same kind of model"
        )
    if _vocabulary(expert) != _vocabulary(model):
        raise MismatchError(
            f"the expert {expert.name} and {model.name} have other vocabularies, and their probabilities cannot be"
            " compared: train the expert from this model"
        )
    return expert


def _folder(model: Model, given: str | os.PathLike[str] | None) -> Path:
    folder = Path(model.name) / BESIDE if given is None else Path(given)
    if folder.is_dir():
        return folder.resolve()
    missing = f"{model.name} has no folder {BESIDE} with an expert" if given is None else f"there is no folder {folder}"
    raise InputError(
        f"{missing}: train one that refuses, cmrm finetune MODEL --how expert, or give one with the same vocabulary,"
        " expert=PATH or a Model"
    )


def _vocabulary(model: Model) -> tuple[int, Any]:
    return model.hf.config.get_text_config().vocab_size, model.tokenizer and model.tokenizer.get_vocab()


def _loaded_from(folder: Path, model: Model) -> Model:
    changed = max(file.stat().st_mtime_ns for file in (folder, *folder.iterdir()))
    base = model.name if (folder / _ADAPTER).is_file() else None
    return _loaded(folder, changed, base, model.hf.dtype, str(model.hf.device))


# One alone: an expert is as large as its model.
@lru_cache(maxsize=1)
def _loaded(folder: Path, changed: int, base: str | None, dtype: Any, device: str) -> Model:
    placed: dict[str, Any] = {} if device == "cpu" else {"device_map": device}
    if base is None:
        return load(str(folder), dtype=dtype, **placed)
    return _adapted(load(base, check=False, dtype=dtype, **placed), folder)


def _adapted(base: Model, folder: Path) -> Model:
    if find_spec("peft") is None:
        raise ModelError(f'{folder} holds a low-rank adapter, which needs peft: pip install "cmrm-interp[finetune]"')
    from peft import PeftModel

    merged = PeftModel.from_pretrained(base.hf, str(folder)).merge_and_unload()  # type: ignore[operator]
    return load((merged, base.processor or base.tokenizer))
