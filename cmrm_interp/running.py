"""Running a batch: interventions bound to its rows as visits, and batch sizes that fit the memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Literal, TypeVar

import torch
from tqdm.auto import tqdm

from cmrm_interp.axes import Int, Tensor
from cmrm_interp.encoding import Batch, Encoder
from cmrm_interp.errors import HookPointError, InputError
from cmrm_interp.families.maps import Point
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention, Step
from cmrm_interp.positions import Tokens, simple
from cmrm_interp.remote import Box, RemoteNetwork, told
from cmrm_interp.tracing import Network, Visit

BatchSize = int | Literal["auto"]
FIRST_TRY = 64
T = TypeVar("T")
_HIDES = ContextVar("hides", default=False)


def hide_bars() -> None:
    """Show no progress bars in this thread from now on: what it does is a part of something that has a bar."""
    _HIDES.set(True)


def hides_bars() -> bool:
    """Whether this thread shows no progress bars."""
    return _HIDES.get()


def each_batch(inputs: Inputs, size: BatchSize, run: Callable[[Batch], T], what: str, start: int = 0) -> Iterator[T]:
    """Results of running every batch; ``"auto"`` halves the batch when memory runs out, and goes on.

    Args:
        inputs: what to run on.
        size: rows a batch, or ``"auto"``.
        run: runs one batch.
        what: name for the progress bar, which appears after two seconds.
        start: first row (those before it are done).

    Raises:
        InputError: a size that is not a positive number.
    """
    shown = {"desc": what, "unit": "prompt", "delay": 2, "leave": False, "disable": hides_bars()}
    with tqdm(total=len(inputs), initial=start, **shown) as bar:
        for rows, result in fitting(inputs, size, run, start):
            bar.update(rows.stop - rows.start)
            yield result


def fitting(inputs: Inputs, size: BatchSize, run: Callable[[Batch], T], start: int = 0) -> Iterator[tuple[slice, T]]:
    """Rows and results of every batch, as `each_batch` runs them, without a progress bar.

    Raises:
        InputError: a size that is not a positive number.
    """
    from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

    n = rows_of(size)
    while start < len(inputs):
        rows = slice(start, inputs.stop_of(start, n))
        try:
            result = run(inputs.batch(rows))
        except RuntimeError as error:
            if size != "auto" or n == 1 or not should_reduce_batch_size(error):
                raise
            n //= 2
            clear_device_cache(garbage_collection=True)
            continue
        start = rows.stop
        yield rows, result


def rows_of(size: BatchSize) -> int:
    """Rows of the first batch.

    Raises:
        InputError: a size that is not a positive number.
    """
    if size != "auto" and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise InputError(f"batch_size={size!r}: give a positive number of rows, or 'auto'")
    return FIRST_TRY if size == "auto" else size


def edits(network: Network, encoder: Encoder, interventions: Sequence[Intervention], batch: Batch) -> dict[str, Visit]:
    """Interventions as visits for the rows of one batch, in the order given at each hook point.

    Raises:
        HookPointError: an intervention at a hook point or position that there is not.
    """
    by_hook = acting_at(network, interventions, batch)
    if isinstance(network, RemoteNetwork):
        batch = replace(batch, tokens=told(batch.tokens, [asked for i in interventions for asked in i.asked]))
    tokens = _token_steps(batch)
    visits = {}
    for name, acting in by_hook.items():
        point = network.points[name]
        visits[name] = _Edit(name, acting, _patch_steps(point, encoder, batch, acting) if point.is_vision else tokens)
    return visits


def acting_at(network: Network, interventions: Sequence[Intervention], batch: Batch) -> dict[str, list[Intervention]]:
    """Interventions by hook point, in the order given; points that a batch without images does not reach left out.

    Raises:
        HookPointError: an intervention at a hook point that there is not.
    """
    names, sees = list(network.points), network.has_images(batch.tensors)
    found: dict[str, list[Intervention]] = {}
    for intervention in interventions:
        for name in intervention.targets(names):
            if sees or not network.needs_image(name):
                found.setdefault(name, []).append(intervention)
    return found


def to_device(network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the model's first device; pixels in the model's dtype."""
    device, pixels = network.hf.device, network.family.vision.layout.pixels[:1] if network.family.vision else ()
    # Not the first weight's dtype, which may be that of a quantised one.
    return {
        name: tensor.to(device, network.hf.dtype)
        if name in pixels and tensor.is_floating_point()
        else tensor.to(device)
        for name, tensor in tensors.items()
    }


def forward(
    network: Network,
    batch: Batch,
    visits: Mapping[str, Visit],
    stop: bool = False,
    kept: Sequence[Box] = (),
    skips: Mapping[str, Any] | None = None,
    **how: Any,
) -> Any:
    """One forward pass over a batch with visits.

    Args:
        network: the model.
        batch: the rows.
        visits: hook point to visit.
        stop: leave the model after the last visit (there is no result then).
        kept: what the visits fill, which a model elsewhere has to send back.
        skips: modules that are not run, with what they are taken to return; see `Network.run`.
        **how: further arguments of the Hugging Face forward.

    Returns:
        The model's output, or None if it was left early.
    """
    if isinstance(network, RemoteNetwork):
        given = {"use_cache": False, **how}
        return SimpleNamespace(logits=network.request(with_positions(network, batch), given, visits, kept, stop=stop))
    tensors = to_device(network, with_positions(network, batch))
    result: list[Any] = []

    @torch.no_grad()
    def _call() -> None:
        result.append(network.model(tensors)(**tensors, use_cache=False, **how))

    network.run(_call, tensors, visits, skips, stop=stop)
    return result[0] if result else None


def with_positions(network: Network, batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch, with the positions of real tokens for models that count padding otherwise."""
    if not network.family.positions:
        return batch.tensors
    return {**batch.tensors, "position_ids": (batch.tokens.real.long().cumsum(1) - 1).clamp(min=0)}


@contextmanager
def frozen_weights(hf: Any) -> Iterator[None]:
    """Without gradients of the weights, for which every layer would keep its inputs."""
    learning = [p for p in hf.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def patch_mask(point: Point, tensors: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
    """Which entries of a vision activation ``image patch d`` are patches and not padding."""
    counts = point.shape.counts(tensors)
    if counts is None:
        return torch.ones(shape[0], shape[1], dtype=torch.bool)
    return torch.arange(shape[1]) < torch.tensor(counts)[:, None]


def crop_rows(encoder: Encoder, tensors: Mapping[str, Tensor]) -> list[int]:
    """Row of the batch that each row of the vision tower belongs to."""
    return [picture.row for picture in encoder.pictures(tensors) for _ in range(picture.crops)]


# Visits are values and not closures, because a model that runs elsewhere is sent them.
@dataclass(frozen=True)
class _Edit:
    name: str
    acting: Sequence[Intervention]
    step_of: Callable[[Tensor, int], Step]

    def __call__(self, activation: Tensor, step: int) -> Tensor:
        now = self.step_of(activation, step)
        for intervention in self.acting:
            activation = intervention.apply(activation, self.name, now)
        return activation


@dataclass(frozen=True)
class _TokenSteps:
    prompt: Step

    def __call__(self, activation: Tensor, step: int) -> Step:
        return self.prompt.at(step)


@dataclass(frozen=True)
class _PatchSteps:
    point: Point
    tensors: Mapping[str, Tensor]
    rows: Int[Tensor, " batch"]

    def __call__(self, activation: Tensor, step: int) -> Step:
        real = patch_mask(self.point, self.tensors, activation.shape)
        return Step(Tokens(real, real), self.rows, torch.ones_like(self.rows, dtype=torch.bool))


def _token_steps(batch: Batch) -> _TokenSteps:
    return _TokenSteps(Step(batch.tokens, batch.rows, batch.has_image))


def _patch_steps(point: Point, encoder: Encoder, batch: Batch, acting: Sequence[Intervention]) -> _PatchSteps:
    for intervention in acting:
        if simple(intervention.positions) != "all":
            raise HookPointError(
                f"{point.name!r} holds patches of images, not tokens: position {intervention.positions!r} means"
                " nothing there, use positions='all'"
            )
    owners = range(len(batch.rows)) if point.by_prompt else crop_rows(encoder, batch.tensors)
    return _PatchSteps(point, batch.tensors, batch.rows[torch.tensor(list(owners))])
