"""Activation patching: activations of one run put into another, cell by cell of a grid."""

from typing import Any

from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Intervention
from cmrm_interp.metrics import Metrics
from cmrm_interp.patching.grids import Grid, axes_of, source_of
from cmrm_interp.patching.results import PatchingResult
from cmrm_interp.patching.runs import Direction, paired, told
from cmrm_interp.store import PathLike
from cmrm_interp.sweeps import sweep


def activation_patching(
    model: Any,
    clean: Inputs,
    corrupt: Inputs,
    metric: Metrics,
    direction: Direction = "denoise",
    store: PathLike | None = None,
    **grid: Any,
) -> PatchingResult:
    """Patch every cell of a grid, each in a run of its own, and measure what becomes of it.

    Both runs see their images. Tokens are put where their counterparts are (`align`), so that the runs may differ in
    image (none, blank, another) or in words. Activations of the run that is patched from are captured once.
    Vig et al., "Investigating Gender Bias" (arXiv 2004.12265); Meng et al., ROME (arXiv 2202.05262); on reading both
    directions, Heimersheim and Nanda (arXiv 2404.15255).

    Args:
        model: from `ci.load`.
        clean: the run with the behaviour.
        corrupt: the same prompts without it, for example `clean.with_images(...)` or `clean.without_images()`.
        metric: as `ci.sweep` takes it.
        direction: ``"denoise"`` patches clean activations into the corrupt run (what is enough to bring the behaviour
            back?), ``"noise"`` corrupt ones into the clean run (what does it need?).
        store: a folder; finished cells are written there, and a stopped experiment goes on.
        **grid: ``unit``, ``over``, ``layers``, ``positions``, ``unequal``: see `Grid`.

    Returns:
        The metric of every cell, and how much of the way from the run patched into (0) to the other (1) it went.

    Raises:
        InputError: a unit, grid or direction that there is not.
        HookPointError: layers or tokens that there are not.
        MismatchError: runs that cannot be aligned, or tokens without a counterpart.
    """
    what = told(Grid, grid)
    alignment = paired(clean, corrupt, direction, what.unequal)
    cells = what.cells(model, alignment)
    source = source_of(model, alignment, cells)
    by_place = {tuple(cell.where.items()): cell for cell in cells}

    def _patch(**where: Any) -> Intervention:
        return by_place[tuple(where.items())].patch(source)

    raw = sweep(model, alignment.b, over=axes_of(cells), intervention=_patch, metric=metric, store=store)
    # The run that is patched from, by the same metrics, whatever they look at.
    other = sweep(model, alignment.a, over={"run": ["from"]}, intervention=_nothing, metric=metric)
    return PatchingResult(raw, {name: other.values(name)[0] for name in other.metrics}, direction, what.unit)


def _nothing(run: str) -> list[Intervention]:
    return []
