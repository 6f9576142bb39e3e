"""The function `finetune`: refuse, load bare, train, write."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from cmrm_interp.bake.folder import check_free
from cmrm_interp.errors import InputError, ModelError
from cmrm_interp.families.load import Parts, Source, load_parts
from cmrm_interp.finetuning.checkpoints import Checkpoints
from cmrm_interp.finetuning.encoding import Writer
from cmrm_interp.finetuning.examples import Example
from cmrm_interp.finetuning.folders import unfinished, write
from cmrm_interp.finetuning.loop import fit
from cmrm_interp.finetuning.settings import Training
from cmrm_interp.finetuning.weights import adapted, thaw
from cmrm_interp.images import fingerprint, load_image
from cmrm_interp.inputs import digest
from cmrm_interp.model import Model, encoder_of
from cmrm_interp.prompts import Prompt
from cmrm_interp.weights import weights_hash


def finetune(
    source: Source | Model,
    examples: Sequence[Example],
    out: str | os.PathLike[str],
    settings: Training | None = None,
    progress: bool = True,
    **hf_kwargs: Any,
) -> Path:
    """Fine-tune a model on answers and write a new checkpoint, which `cmrm_interp.load` loads.

    The loss is the cross-entropy of the answers' tokens alone. A network of its own is trained, so that a loaded
    `Model` stays as it is. A second call with the same arguments goes on where a killed one stopped, to the same
    weights. Adapters are merged into the weights at the end.

    Args:
        source: as `cmrm_interp.load` takes it, or a loaded model, whose weights are copied.
        examples: prompts and the answers to be learned.
        out: a new folder; checkpoints lie beside it, in ``OUT.unfinished``, until it is written.
        settings: how long, how fast, and which weights.
        progress: whether to show a bar.
        **hf_kwargs: as `cmrm_interp.load` takes them (``dtype``, ``device_map``, ...).

    Returns:
        The folder.

    Raises:
        InputError: no examples, or one without an answer.
        ModelError: weights that are elsewhere, quantised or in fp16, peft is missing for adapters, or the loss is no
            number any more.
        MismatchError: ``OUT.unfinished`` is of another run.
        StoreError: the folder holds something, or cannot be written.
    """
    settings, folder = settings or Training(), Path(out)
    check_free(folder, "fine-tuned")
    _check_examples(examples)
    parts = _bare(source, hf_kwargs)
    _need_range(parts)
    writer = Writer.of(encoder_of(parts), parts.hf)
    writer.encoder.check([example.prompt for example in examples])
    made_from = weights_hash(parts.family.name, parts.hf)
    network = _trained(parts, settings)
    names = [name for name, weight in network.named_parameters() if weight.requires_grad]
    checkpoints = Checkpoints(unfinished(folder), _run(made_from, examples, settings), names)
    curve = fit(network, writer, examples, settings, checkpoints, progress)
    whole = network.merge_and_unload() if settings.lora else network
    about = {
        "source": parts.name,
        "source_fingerprint": made_from,
        "fingerprint": weights_hash(parts.family.name, whole),
        "settings": asdict(settings),
        "examples": len(examples),
        "with_image": sum(bool(example.prompt.images) for example in examples),
        "answers": _most_common(examples),
        "curve": [[step, round(loss, 6)] for step, loss in enumerate(curve, 1)],
    }
    write(replace(parts, hf=whole), folder, parts.name, about)
    checkpoints.remove()
    return folder


def _check_examples(examples: Sequence[Example]) -> None:
    if not examples:
        raise InputError("no examples to learn from: give prompts with their answers")
    empty = [row for row, example in enumerate(examples) if not example.answer.strip()]
    if empty:
        raise InputError(f"{len(empty)} of {len(examples)} examples have no answer (the first is number {empty[0]})")


def _bare(source: Source | Model, hf_kwargs: Mapping[str, Any]) -> Parts:
    """A network that nothing has wrapped and nobody else holds."""
    if isinstance(source, Model):
        _need_here(source.hf, source.name)
        source = (source.hf, source.processor or source.tokenizer)
    parts = load_parts(source, **hf_kwargs)
    _need_here(parts.hf, parts.name)
    return replace(parts, hf=deepcopy(parts.hf)) if isinstance(source, tuple) else parts


def _need_here(hf: Any, name: str) -> None:
    if any(weight.device.type == "meta" for weight in hf.parameters()):
        raise ModelError(f"the weights of {name} are elsewhere (remote or offloaded): load them here to fine-tune")
    if getattr(hf.config, "quantization_config", None) is not None:
        raise ModelError(
            f"the weights of {name} are quantised, and rounded weights cannot take small steps: load the checkpoint in"
            " bf16 or fp32 (without quantization_config)"
        )


def _need_range(parts: Parts) -> None:
    if parts.hf.dtype == torch.float16:
        raise ModelError(
            f"the weights of {parts.name} are in fp16, in which gradients vanish: load them with dtype=bfloat16 (enough"
            " for adapters) or float32 (--dtype)"
        )


def _trained(parts: Parts, settings: Training) -> Any:
    """The network, with those weights to move that the settings say."""
    torch.manual_seed(settings.seed)
    if settings.recompute:
        parts.hf.gradient_checkpointing_enable()
        parts.hf.enable_input_require_grads()
    if settings.lora is not None:
        return adapted(parts.hf, parts.family, settings.lora)
    return thaw(parts.hf, parts.family, settings.trains)


def _run(made_from: str, examples: Sequence[Example], settings: Training) -> str:
    # How often checkpoints are written decides nothing.
    how = str(sorted(asdict(replace(settings, checkpoint_every=0)).items()))
    said = (part for example in examples for part in (*_said(example.prompt), example.answer, *_shown(example)))
    return digest([made_from, how, *said])[:16]


def _said(prompt: Prompt) -> tuple[str, str, str]:
    return prompt.system or "", repr(prompt.history), prompt.text


def _shown(example: Example) -> list[str]:
    """The images: files by their names, since thousands of them are not to be read before the first step."""
    images = example.prompt.images
    files = [Path(i).name if isinstance(i, str | os.PathLike) else fingerprint(load_image(i)) for i in images]
    return [str(len(files)), *files]


def _most_common(examples: Sequence[Example]) -> dict[str, int]:
    return dict(Counter(example.answer.strip() for example in examples).most_common(3))
