"""Attribution patching: every cell of a grid at once, from two forward passes and one backward."""

from typing import Any

import numpy as np
import torch

from cmrm_interp.encoding import Batch
from cmrm_interp.inputs import Inputs
from cmrm_interp.interventions import Step
from cmrm_interp.metrics import Metrics
from cmrm_interp.patching.gradients import Slope, slopes
from cmrm_interp.patching.grids import Cell, Grid, axes_of, source_of
from cmrm_interp.patching.patches import Source
from cmrm_interp.patching.results import PatchingResult
from cmrm_interp.patching.runs import Direction, measured, next_token_metric, paired, result, told
from cmrm_interp.running import BatchSize, each_batch


def attribution_patching(
    model: Any,
    clean: Inputs,
    corrupt: Inputs,
    metric: Metrics,
    direction: Direction = "denoise",
    batch_size: BatchSize = "auto",
    **grid: Any,
) -> PatchingResult:
    """What patching each cell would do, to first order: ``(from - into) . gradient of the metric`` in the run patched.

    Nanda, "Attribution patching" (2023); Syed et al. (arXiv 2310.10348). An approximation: measure how good with
    `agreement` on some layers before trusting it on all.

    Args:
        model: from `ci.load`.
        clean: the run with the behaviour.
        corrupt: the same prompts without it.
        metric: one metric of the next token's logits, differentiable (torch).
        direction: as in `activation_patching`.
        batch_size: prompts a batch; the backward pass keeps all their activations.
        **grid: ``unit``, ``over``, ``layers``, ``positions``, ``unequal``: see `Grid`.

    Returns:
        As `activation_patching`: the metric of the run patched into, plus each cell's estimate.

    Raises:
        InputError: a unit, grid, direction or metric that cannot be, or through which no gradient flows.
        HookPointError: layers or tokens that there are not.
        MismatchError: runs that cannot be aligned, or tokens without a counterpart.
    """
    what, (name, one) = told(Grid, grid), next_token_metric(metric)
    alignment = paired(clean, corrupt, direction, what.unequal)
    cells = what.cells(model, alignment)
    source = source_of(model, alignment, cells)
    hooks = list(dict.fromkeys(cell.hook for cell in cells))

    def _batch(batch: Batch) -> np.ndarray:
        found, step = slopes(model.network, batch, hooks, one), Step(batch.tokens, batch.rows, batch.has_image)
        return np.stack([_estimate(cell, source, found[cell.hook], step) for cell in cells])

    parts = list(each_batch(alignment.b.left_padded(), batch_size, _batch, "attribution patching"))
    into, other = (measured(model, inputs, one) for inputs in (alignment.b, alignment.a))
    values = np.concatenate([into + np.concatenate(parts, 1), into[None]])
    raw = result(model, axes_of(cells), values, (name, one), "gradient")
    return PatchingResult(raw, {name: other}, direction, f"{what.unit}, first order")


def _estimate(cell: Cell, source: Source, slope: Slope, step: Step) -> np.ndarray:
    """The first-order effect of one cell on each row."""
    patch, width = cell.patch(source), slope.value.shape[1]
    rows, columns = step.select(patch.positions, width, slope.value.device)
    x = slope.value[rows, columns]
    change = patch.edit(x, step.chosen(patch.positions, width, cell.hook)).float() - x.float()
    effect = (change * slope.gradient[rows, columns].float()).flatten(1).sum(1)
    return torch.zeros(len(step.rows), device=effect.device).index_add_(0, rows, effect).double().cpu().numpy()
