"""Fitting a tuned lens: steps, checks, the best so far, and a folder to go on from."""

import os
import random
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from cmrm_interp.arguments import check_arguments
from cmrm_interp.axes import Tensor
from cmrm_interp.errors import HookPointError, InputError, MismatchError
from cmrm_interp.inputs import Inputs, PromptInputs, digest
from cmrm_interp.lens.divergence import Streams, by_draw, by_prompt, chunks, divergence, report, streams
from cmrm_interp.lens.tuned import TunedLens
from cmrm_interp.lens.unembedding import Unembedding
from cmrm_interp.model import Model
from cmrm_interp.positions import Position, position_mask, to_data
from cmrm_interp.store import load as load_tensors
from cmrm_interp.store import save as save_tensors

KIND = "tuned_lens_fit"
_FEWEST = 2


@dataclass(frozen=True)
class Settings:
    """How translators are fitted; see `TunedLens.fit`."""

    steps: int = 250
    lr: float = 1e-3
    weight_decay: float = 1e-3
    batch_size: int = 16
    holdout: float = 0.2
    checks: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be."""
        if self.steps < 0 or self.batch_size < 1 or self.checks < 1:
            raise InputError(
                f"steps={self.steps}, batch_size={self.batch_size}, checks={self.checks}: give positive numbers"
            )
        if not (self.lr > 0 and self.weight_decay >= 0):
            raise InputError(f"lr={self.lr}, weight_decay={self.weight_decay}: give positive numbers")
        if not 0 < self.holdout < 1:
            raise InputError(f"holdout={self.holdout}: give a share of the prompts, between 0 and 1")

    @classmethod
    def of(cls, how: Mapping[str, Any]) -> "Settings":
        """Settings by name.

        Raises:
            InputError: a name that is none.
        """
        check_arguments("TunedLens.fit", how, cls.__dataclass_fields__)
        return cls(**how)


@dataclass(frozen=True)
class Split:
    """Prompts that are learnt from, those that choose, and those that are held out.

    Attributes:
        train, choose, hold: the prompts.
        draws: which prompts of `hold` were drawn together: a text, with its image and without.
    """

    train: Inputs
    choose: Inputs
    hold: Inputs
    draws: tuple[Hashable, ...]

    @classmethod
    def of(cls, model: Model, several: Sequence[Inputs], settings: Settings) -> "Split":
        """Divide the prompts by chance.

        Raises:
            InputError: inputs without prompts, or too few of them.
        """
        parts: list[list[Any]] = [[], [], []]
        draws: list[Hashable] = []
        for inputs in several:
            n, order = len(inputs), list(range(len(inputs)))
            # The same for inputs of the same length: a text and the same with an image are not divided.
            random.Random(settings.seed).shuffle(order)
            held = max(2 * _FEWEST, round(settings.holdout * n))
            if n < held + 1 or not isinstance(inputs, PromptInputs):
                raise InputError(_too_few(inputs, held))
            for part, rows in enumerate((order[held:], order[held // 2 : held], order[: held // 2])):
                parts[part] += [inputs.prompts[i] for i in rows]
            draws += [(n, i, inputs.prompts[i].text) for i in order[: held // 2]]
        side = several[0].padding_side
        train, choose, hold = (model.prepare(part, padding_side=side) for part in parts)
        return cls(train, choose, hold, tuple(draws))

    def need_tokens(self, positions: Position) -> None:
        """Refuse parts without a token to look at, before anything is learnt.

        Raises:
            HookPointError: one of them has none.
        """
        for what, part in (("learnt from", self.train), ("chosen by", self.choose), ("held out", self.hold)):
            if not any(bool(position_mask(positions, batch.tokens).any()) for batch in part.batches(16)):
                raise HookPointError(
                    f"none of the {len(part)} prompts that are {what} has a token at positions={positions!r}: give them"
                    " images, or more of those that have some"
                )


def _too_few(inputs: Inputs, held: int) -> str:
    if not isinstance(inputs, PromptInputs):
        return "a tuned lens is fitted on prompts, which are divided by chance: make the inputs with model.prepare"
    return f"{len(inputs)} prompts are too few, of which {held} are held out: give at least {held + 1}"


class Progress:
    """Where a fit stands: translators now, the best so far, the optimiser.

    Attributes:
        lens: with what it is now.
        best: with the best translator of each layer so far.
        least: KL of these on the prompts that choose.
        step: steps done.
    """

    def __init__(self, lens: TunedLens, settings: Settings) -> None:
        """Begin with translators that change nothing."""
        self.lens = lens
        self.best = replace(lens, weight=lens.weight.clone(), bias=lens.bias.clone())
        self.least = torch.full((len(lens.layers),), float("inf"))
        self.step = 0
        self.optimizer = torch.optim.AdamW([lens.weight, lens.bias], settings.lr, weight_decay=settings.weight_decay)

    def keep_better(self, values: Tensor) -> None:
        """Take over the translators of the layers at which they are better than any before."""
        better = values < self.least
        self.least = torch.where(better, values, self.least)
        self.best.weight[better], self.best.bias[better] = self.lens.weight[better], self.lens.bias[better]

    def write(self, path: Path, header: Mapping[str, Any]) -> None:
        """Write all of it."""
        state = self.optimizer.state_dict()["state"]
        moments = {f"{i}.{name}": value for i, one in state.items() for name, value in one.items()}
        own = {"weight": self.lens.weight, "bias": self.lens.bias, "least": self.least}
        best = {"best_weight": self.best.weight, "best_bias": self.best.bias}
        save_tensors(path, {**own, **best, **moments}, {"kind": KIND, "step": self.step, "fit": dict(header)})

    def read(self, path: Path, header: Mapping[str, Any]) -> None:
        """Go on from what was written.

        Raises:
            MismatchError: it is another fit.
        """
        tensors, found = load_tensors(path, kind=KIND)
        for name, value in header.items():
            if found["fit"].get(name) != value:
                raise MismatchError(
                    f"{path.parent} holds a fit with {name}={found['fit'].get(name)!r}, not {value!r}: use another"
                    " folder or remove this one"
                )
        self.step, self.least = found["step"], tensors.pop("least")
        for name, mine in (("weight", self.lens.weight), ("bias", self.lens.bias)):
            mine.copy_(tensors.pop(name))
        for name, mine in (("weight", self.best.weight), ("bias", self.best.bias)):
            mine.copy_(tensors.pop(f"best_{name}"))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            number, _, part = name.partition(".")
            state.setdefault(int(number), {})[part] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def fit(
    model: Model, several: Sequence[Inputs], lens: TunedLens, store: str | os.PathLike[str] | None, **how: Any
) -> TunedLens:
    """Fit translators; see `TunedLens.fit`."""
    settings = Settings.of(how)
    split = Split.of(model, several, settings)
    split.need_tokens(lens.positions)
    unembed = Unembedding.of(model, split.train)
    # Where the streams are: translators of a large model are too large to be moved at every step.
    progress = Progress(lens.to(model.hf.device), settings)
    path = None if store is None else Path(store) / "fit.safetensors"
    header = {
        "model": lens.model,
        "layers": list(lens.layers),
        "positions": to_data(lens.positions),
        "inputs": digest(inputs.fingerprint() for inputs in several),
        **asdict(settings),
    }
    if path is not None and path.exists():
        progress.read(path, header)
    fitting = _Fitting(model, unembed, split, settings)
    try:
        fitting.run(progress, path, header)
    except KeyboardInterrupt:
        on = "" if path is None else "; the same call goes on from the last check"
        warnings.warn(
            f"stopped after {progress.step} of {settings.steps} steps: this is the best so far{on}", stacklevel=3
        )
    best = progress.best.to("cpu")
    values = fitting.held([_as_it_is, best], best)
    return replace(
        best, settings={**asdict(settings), "done": progress.step}, report=report(values, best.layers, settings.seed)
    )


@dataclass(frozen=True)
class _Fitting:
    model: Model
    unembed: Unembedding
    split: Split
    settings: Settings

    def run(self, progress: Progress, path: Path | None, header: Mapping[str, Any]) -> None:
        steps = self.settings.steps
        every = max(1, steps // self.settings.checks)
        with tqdm(total=steps, initial=progress.step, desc="tuned lens", unit="step", delay=2, leave=False) as bar:
            if progress.step == 0:
                self._check(progress)
            while progress.step < steps:
                self._step(progress)
                bar.update()
                if progress.step % every == 0 or progress.step == steps:
                    self._check(progress)
                    bar.set_postfix(kl=f"{float(progress.least.mean()):.3f}")
                    if path is not None:
                        progress.write(path, header)

    def values(self, inputs: Inputs, lenses: Sequence[Any], lens: TunedLens) -> tuple[Tensor, Tensor]:
        return by_prompt(self.model, self.unembed, inputs, lenses, lens, self.settings.batch_size)

    def held(self, lenses: Sequence[Any], lens: TunedLens) -> Tensor:
        values, rows = self.values(self.split.hold, lenses, lens)
        return by_draw(values, [self.split.draws[row] for row in rows.tolist()])

    def _check(self, progress: Progress) -> None:
        progress.keep_better(self.values(self.split.choose, [progress.lens], progress.lens)[0][0].mean(-1))

    def _step(self, progress: Progress) -> None:
        drawn = self._drawn(progress.step)
        found = [
            streams(self.model, batch, progress.lens.layers, progress.lens.positions)
            for batch in drawn.batches(self.settings.batch_size)
        ]
        total = sum(len(one.last) for one in found)
        if total:
            self._gradients(progress.lens, found, total)
            for group in progress.optimizer.param_groups:
                group["lr"] = self.settings.lr * (1 - progress.step / self.settings.steps)
            progress.optimizer.step()
        progress.step += 1

    def _drawn(self, step: int) -> Inputs:
        # Which prompts come is a function of seed and step, so that a fit that goes on meets the same ones.
        prompts = self.split.train.prompts
        each = -(-len(prompts) // self.settings.batch_size)
        order = list(range(len(prompts)))
        random.Random(f"{self.settings.seed} {step // each}").shuffle(order)
        mine = order[step % each :: each]
        return self.model.prepare([prompts[i] for i in mine], padding_side=self.split.train.padding_side)

    def _gradients(self, lens: TunedLens, found: Sequence[Streams], total: int) -> None:
        lens.weight.grad, lens.bias.grad = torch.zeros_like(lens.weight), torch.zeros_like(lens.bias)
        for one in found:
            for part, target in chunks(one, self.unembed):
                for number, layer in enumerate(lens.layers):
                    # One layer at a time: the logits of all would not fit.
                    grads = self._gradient(lens, layer, one.layers[layer][part], target)
                    for mine, new in zip((lens.weight.grad, lens.bias.grad), grads, strict=True):
                        mine[number] += new / total

    @torch.enable_grad()
    def _gradient(self, lens: TunedLens, layer: int, x: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        number = lens.layers.index(layer)
        weight, bias = (p[number].detach().requires_grad_() for p in (lens.weight, lens.bias))
        own = replace(lens, weight=weight[None], bias=bias[None], layers=(layer,))
        # Of these alone: the model's weights gather no gradients.
        return torch.autograd.grad(
            divergence(target, self.unembed(own(x, layer)).to(target.device)).sum(), (weight, bias)
        )


def _as_it_is(x: Tensor, layer: int) -> Tensor:
    return x
