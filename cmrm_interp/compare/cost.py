"""What a defence costs: time a token, tokens that run through the decoder, memory."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from statistics import median
from typing import Any

import torch

from cmrm_interp.axes import Tensor
from cmrm_interp.directions import Directions
from cmrm_interp.errors import InputError
from cmrm_interp.model import Model
from cmrm_interp.prompts import Prompt
from cmrm_interp.recipes import Recipe

ROUNDS = 5
TIMED, COUNTED, REMEMBERED = 32, 16, 8
"""Prompts that are timed (in one batch), whose tokens are counted (one by one), whose memory is measured (a batch)."""


@dataclass(frozen=True)
class Cost:
    """What a defence costs.

    Attributes:
        seconds: a new token; median over rounds.
        ratio: of that to the model without it; median over rounds, each of which times both.
        ratio_low: least of the rounds.
        ratio_high: most of them.
        decoder_tokens: positions that the decoder computed for an answer, prompt and all passes included; a pass
            through half of the blocks counts half. The same on every machine.
        new_tokens: tokens of an answer.
        held_bytes: of tensors that the fitted recipe holds, other models' weights included.
        extra_bytes: most memory while a batch is answered, above what the model without it needs.
        how: how memory was measured.
    """

    seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    decoder_tokens: float
    new_tokens: float
    held_bytes: int
    extra_bytes: int
    how: str


def cost(
    model: Model,
    recipe: Recipe | None,
    prompts: Sequence[Prompt],
    generation: Mapping[str, Any],
    rounds: int = ROUNDS,
) -> Cost:
    """Measure what a fitted recipe costs beside the bare model, in this process.

    Give prompts whose answers are about as long under both, benign requests: a refusal is short, and the run of the
    prompt weighs more in each of its tokens.

    Args:
        model: the model.
        recipe: fitted; None for the model as it is.
        prompts: that are answered.
        generation: as `Model.generate` takes it.
        rounds: both are timed in each, one after the other.

    Raises:
        InputError: no prompts.
    """
    if not prompts:
        raise InputError("a cost is measured on prompts: give some, benign requests")
    low, middle, high, seconds = _times(model, recipe, prompts[:TIMED], generation, rounds)
    several = prompts[:COUNTED]
    with counted(model) as passed:
        new = sum(_length(model, answer(model, recipe, [one], generation), generation) for one in several)
    few = prompts[:REMEMBERED]
    peak, how = peak_bytes(model, lambda: answer(model, recipe, few, generation))
    bare, _ = peak_bytes(model, lambda: answer(model, None, few, generation))
    return Cost(
        seconds=seconds,
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        decoder_tokens=passed.tokens / len(several),
        new_tokens=new / len(several),
        held_bytes=held_bytes(recipe, passed.others),
        extra_bytes=peak - bare,
        how=how,
    )


def answer(model: Model, recipe: Recipe | None, prompts: Sequence[Prompt], generation: Mapping[str, Any]) -> list[str]:
    """Answers to some prompts under a recipe, or none."""
    inputs = model.prepare(prompts)
    if recipe is None:
        return model.generate(inputs, **generation)
    return recipe.generate(model, inputs, **generation)


@dataclass
class Passed:
    """Positions that went through the decoder.

    Attributes:
        tokens: how many; a fraction where they went through some of the blocks.
        others: weights of other models that ran meanwhile.
    """

    tokens: float = 0.0
    others: list[Tensor] = field(default_factory=list)


@contextmanager
def counted(model: Model) -> Iterator[Passed]:
    """Counts positions that go through decoders of the model's kind meanwhile, other models' of that kind included.

    Padding counts: give prompts one by one.

    Args:
        model: whose decoder's blocks are known by their class.
    """
    found, blocks = Passed(), [model.network.modules[block.path] for block in model.network.blocks]
    kinds, depth = tuple({type(block) for block in blocks}), len(blocks)
    seen = {id(module) for module in model.hf.modules()}

    def _count(module: torch.nn.Module, args: Any, output: Any) -> None:
        if id(module) not in seen:
            seen.add(id(module))
            found.others.extend((*module.parameters(recurse=False), *module.buffers(recurse=False)))
        if isinstance(module, kinds):
            states = output[0] if isinstance(output, tuple) else output
            found.tokens += states.shape[0] * states.shape[1] / depth

    handle = torch.nn.modules.module.register_module_forward_hook(_count)
    try:
        yield found
    finally:
        handle.remove()
        found.tokens = round(found.tokens, 6)


def held_bytes(recipe: Recipe | None, others: Sequence[Tensor] = ()) -> int:
    """Bytes of what a fitted recipe needs beside the model: tensors in its fields, and weights of other models.

    Args:
        recipe: fitted, or None.
        others: weights of other models that ran while it answered; each is counted once.
    """
    own = () if recipe is None else fields(recipe)  # type: ignore[arg-type]
    tensors = [*others, *(t for part in own for t in _tensors(getattr(recipe, part.name)))]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def peak_bytes(model: Model, work: Callable[[], Any]) -> tuple[int, str]:
    """Most bytes that some work holds at once above what was held before, and how that was measured.

    On a GPU that is CUDA's own count; elsewhere every allocation of tensors is followed by torch's profiler.

    Args:
        model: says where the work runs.
        work: what is done.
    """
    work()  # what is made once and kept is not of an answer
    device = model.hf.device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before, "CUDA's peak of allocated memory"
    # Else its tracer writes lines of its own into whatever is shown.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    assert profiled.profiler is not None
    assert profiled.profiler.kineto_results is not None
    events = [one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        held += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
        most = max(most, held)
    return most, "torch's profiler, every allocation of tensors on the CPU"


def _times(
    model: Model, recipe: Recipe | None, prompts: Sequence[Prompt], generation: Mapping[str, Any], rounds: int
) -> tuple[float, float, float, float]:
    """Ratio of times a token (least, median, most), and the seconds of one under the recipe (median)."""
    pairs = []
    for number in range(rounds + 1):
        bare = _seconds(model, None, prompts, generation)
        own = _seconds(model, recipe, prompts, generation) if recipe is not None else bare
        if number:  # the first warms up
            pairs.append((own / bare, own))
    ratios = [ratio for ratio, _ in pairs]
    return min(ratios), median(ratios), max(ratios), median(own for _, own in pairs)


def _seconds(model: Model, recipe: Recipe | None, prompts: Sequence[Prompt], generation: Mapping[str, Any]) -> float:
    """Seconds a new token."""
    _wait(model)
    start = time.perf_counter()
    said = answer(model, recipe, prompts, generation)
    _wait(model)
    return (time.perf_counter() - start) / _length(model, said, generation)


def _wait(model: Model) -> None:
    if model.hf.device.type == "cuda":
        torch.cuda.synchronize(model.hf.device)


def _length(model: Model, said: Sequence[str], generation: Mapping[str, Any]) -> int:
    """New tokens of some answers, the end of each that came to one included."""
    most = generation.get("max_new_tokens", 64)
    ids = model.tokenizer(list(said), add_special_tokens=False)["input_ids"]
    return sum(min(len(row) + 1, most) for row in ids)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Directions):
        yield from value.tensors.values()
    elif isinstance(value, Model):
        yield from (*value.hf.parameters(), *value.hf.buffers())
    elif isinstance(value, Mapping):
        yield from (tensor for item in value.values() for tensor in _tensors(item))
    elif isinstance(value, list | tuple):
        yield from (tensor for item in value for tensor in _tensors(item))
