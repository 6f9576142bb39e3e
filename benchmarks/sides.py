"""What is compared with what, in each library's environment; ``python -m benchmarks.sides LIBRARY OUT FOLDER...``.

Every environment times plain calls and bare hooks itself, so that each ratio is of one process.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Case, load
from benchmarks.comparison import EAGER, HOOKS, LENS, NNSIGHT, OURS, PLAIN, PYVENE, Entry, Group, compare
from benchmarks.tasks import hooks

CAPTURE, ENCODED = "capture every layer, last token", "capture, encoding prompts and pictures"
ADD, GENERATE = "subtract at every layer, last token", "generate, nothing changed"
STEER, SAMPLE = "generate under CMRM", "generate under CMRM, sample level"
SWEEP, ABLATION = "sweep layer x alpha, last position", "leave out each layer"
PATCH_LAST, PATCH_SPREAD = (
    "patch layer x position, words behind the image",
    "patch layer x position, all over the prompt",
)
# Tasks that run the model tens of times: their rows say how many times faster.
LOOPS = (SWEEP, ABLATION, PATCH_LAST, PATCH_SPREAD)
PACKAGES = ("cmrm-interp", "torch", "transformers", "nnsight", "transformer-lens", "pyvene")


def of_package(ours: Any) -> Iterator[Group]:
    """This package and nnsight by hand, on a case as the package sees it (`benchmarks.tasks.ours.Ours`)."""
    from benchmarks.tasks import by_nnsight as nn
    from benchmarks.tasks import ours as us

    case = ours.case
    model = nn.wrap(case)
    forward, generate = _plain(hooks.forward, case), _plain(hooks.generate, case)
    for task, by_hooks, by_us, by_nn in (
        (CAPTURE, hooks.capture, us.capture, nn.capture),
        (ADD, hooks.add, us.add, nn.add),
        (STEER, hooks.steer, us.steer, nn.steer),
        (SWEEP, hooks.sweep, us.sweep, nn.sweep),
        (ABLATION, hooks.ablation, us.ablation, nn.ablation),
        (PATCH_LAST, hooks.patch_last, us.patch_last, nn.patch_last),
        (PATCH_SPREAD, hooks.patch_spread, us.patch_spread, nn.patch_spread),
    ):
        plain = {STEER: [generate]}.get(task, [] if task in LOOPS else [forward])
        three = [_entry(HOOKS, by_hooks, case), _entry(OURS, by_us, ours), _entry(NNSIGHT, by_nn, case, model)]
        if task not in LOOPS or case.plan.loops:
            yield _group(task, case, [*plain, *three])
    yield _group(GENERATE, case, [generate, _entry(OURS, us.generate, ours, like=PLAIN)])
    encoded = [_plain(us.encoded, hooks.forward, ours), _entry(HOOKS, us.encoded, hooks.capture, ours)]
    yield _group(ENCODED, case, [*encoded, _entry(OURS, us.capture_prompts, ours)])
    encoded = [_plain(us.encoded, hooks.generate, ours), _entry(HOOKS, hooks.sample_level, case)]
    yield _group(SAMPLE, case, [*encoded, _entry(OURS, us.sample_level, ours)])


def of_lens(case: Case) -> Iterator[Group]:
    """TransformerLens, which runs attention eagerly."""
    from benchmarks.tasks import by_transformer_lens as lens

    bridge, eager = lens.wrap(case), case.network("eager")
    for task, plain, by_hooks, by_lens in (
        (CAPTURE, hooks.forward, hooks.capture, lens.capture),
        (ADD, hooks.forward, hooks.add, lens.add),
        (STEER, hooks.generate, hooks.steer, lens.steer),
    ):
        two = [_entry(HOOKS, by_hooks, case), _entry(EAGER, by_hooks, case, eager)]
        yield _group(task, case, [_plain(plain, case), *two, _entry(LENS, by_lens, case, bridge)])
    if case.plan.loops:
        yield _group(SWEEP, case, [_entry(HOOKS, hooks.sweep, case), _entry(LENS, lens.sweep, case, bridge)])


def of_pyvene(case: Case) -> Iterator[Group]:
    """pyvene, by the paths of modules."""
    from benchmarks.tasks import by_pyvene as pv

    for task, by_hooks, by_pyvene, model in (
        (CAPTURE, hooks.capture, pv.capture, pv.collecting(case)),
        (ADD, hooks.add, pv.add, pv.adding(case)),
    ):
        two = [_entry(HOOKS, by_hooks, case), _entry(PYVENE, by_pyvene, case, model)]
        yield _group(task, case, [_plain(hooks.forward, case), *two])


def run(groups: Iterable[Group], device: str) -> dict[str, Any]:
    """What was measured of some groups, and the versions that it was measured with."""
    measured = []
    for group in groups:
        print(f"  {group.case}: {group.task}", flush=True)
        measured.append(compare(group, torch.device(device)).to_json())
    return {"versions": _versions(), "measured": measured}


def _entry(library: str, function: Callable[..., Tensor], *given: Any, like: str | None = HOOKS) -> Entry:
    return Entry(library, partial(function, *given), like)


def _plain(function: Callable[..., Tensor], *given: Any) -> Entry:
    return _entry(PLAIN, function, *given, like=None)


def _group(task: str, case: Case, entries: list[Entry]) -> Group:
    plan = case.plan
    # The run that compares outputs is warm-up enough for a loop.
    rounds, warmup = (plan.loops, 0) if task in LOOPS else (plan.repeats, plan.warmup)
    return Group(task, case.name, entries, rounds, warmup)


def _versions() -> dict[str, str]:
    found = {package.metadata["Name"]: package.version.partition("+")[0] for package in metadata.distributions()}
    return {name: found[name] for name in PACKAGES if name in found}


def main(library: str, out: Path, folders: list[Path]) -> None:
    """Run another library's side on the cases in some folders, and write what was measured."""
    torch.set_num_threads(1)
    groups = {LENS: of_lens, PYVENE: of_pyvene}[library]
    cases = [load(folder) for folder in folders]
    found = run((group for case in cases for group in groups(case)), cases[0].device)
    if library == PYVENE:
        from benchmarks.tasks.by_pyvene import refusal

        found["notes"] = [note for note in [refusal(cases[0])] if note]
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [Path(folder) for folder in sys.argv[3:]])
