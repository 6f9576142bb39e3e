"""What a probe learns from: activations as rows of features, with a label and a group for each."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from cmrm_interp.activations import Activations
from cmrm_interp.axes import Bool, Float, Int, Tensor
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.hooks import pos_axis

Labels = Sequence[bool] | Sequence[int] | np.ndarray | Tensor
Groups = Sequence[Hashable] | np.ndarray | Tensor
Pooling = Literal["each", "tokens", "mean"]


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of features at one hook point (and, where several were captured, at one position).

    Attributes:
        hook: hook point.
        position: column of the captured positions (counted from the end where rows are padded on the left), or None
            where there is one, or they are taken together.
        x: features, one row an example.
        y: labels.
        groups: number of each example's group: examples of one group are never on both sides of a fold.
        shape: of one activation (``d_model``, or ``head d_head``), which `x` holds flattened.
    """

    hook: str
    position: int | None
    x: Float[np.ndarray, "n d"]
    y: Bool[np.ndarray, " n"]
    groups: Int[np.ndarray, " n"]
    shape: tuple[int, ...]

    def wide(self) -> "Examples":
        """The same in fp64, as classifiers are fitted; made for one hook point at a time, because it takes memory."""
        return replace(self, x=self.x.astype(np.float64))

    @property
    def name(self) -> str:
        """Hook point, and position where there are several."""
        return self.hook if self.position is None else f"{self.hook}, position {self.position}"


def examples_of(
    activations: Activations, labels: Labels, groups: Groups | None = None, positions: Pooling | None = None
) -> list[Examples]:
    """Examples at every hook point of some activations.

    Args:
        activations: one row a prompt (an image, at points of the vision side).
        labels: True or False (1 or 0) for each row.
        groups: what each row was made from (template, word, image); None puts each row in a group of its own.
        positions: what to do with several positions: ``"each"`` (examples for each position that all rows have),
            ``"tokens"`` (every token is an example) or ``"mean"`` (over a row's tokens).

    Raises:
        InputError: labels that are not two kinds, NaN activations, activations that are all the same.
        MismatchError: another number of labels or groups than rows.
    """
    if not isinstance(activations, Activations):
        raise InputError(
            f"activations is a {type(activations).__name__}: give what model.capture returned, or"
            " Activations({hook: tensor})"
        )
    if not len(activations):
        raise InputError("these activations have no hook points: capture some first")
    y = _binary(labels)
    codes = _codes(groups, len(y))
    found = [part for hook in activations for part in _at(activations, hook, y, codes, positions)]
    _check_varied(found)
    return found


def plain(values: Labels | Groups, what: str) -> list[Any]:
    """Labels or groups as a list of plain values: tensors of equal numbers are not equal to one another.

    Args:
        values: one a row.
        what: they are, for the error.

    Raises:
        InputError: something that is not one value a row.
    """
    each = values.tolist() if isinstance(values, np.ndarray | Tensor) else list(values)
    each = [value.tolist() if isinstance(value, np.ndarray | Tensor) else value for value in each]
    strange = [value for value in each if isinstance(value, list | dict | set)]
    if strange:
        raise InputError(f"one of the {what} is {strange[0]!r}: give one value a row (a string, a number, a tuple)")
    return each


def _binary(labels: Labels) -> Bool[np.ndarray, " n"]:
    values = plain(labels, "labels")
    kinds = list(dict.fromkeys(values))
    if any(kind not in (0, 1) for kind in kinds):
        shown = ", ".join(map(repr, kinds[:4]))
        raise InputError(
            f"{len(kinds)} kinds of label ({shown}): a probe tells True from False; pass for each kind of interest"
            f" [label == {kinds[0]!r} for label in labels]"
        )
    if len(kinds) < 2:
        raise InputError(f"all {len(values)} labels are {bool(kinds and kinds[0])}: a probe needs both classes")
    return np.array(values, dtype=bool)


def _codes(groups: Groups | None, n: int) -> Int[np.ndarray, " n"]:
    if groups is None:
        return np.arange(n)
    values = plain(groups, "groups")
    if len(values) != n:
        raise MismatchError(f"{n} labels and {len(values)} groups: give each row its group")
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values])


def _at(acts: Activations, hook: str, y: np.ndarray, groups: np.ndarray, positions: Pooling | None) -> list[Examples]:
    value, mask = acts[hook], acts.mask_of(hook)
    if pos_axis(hook) == 2:
        raise InputError(f"{hook!r} has one number a key, and keys of padded prompts do not match: probe another point")
    if value.shape[0] != len(y):
        raise MismatchError(f"{len(y)} labels for {value.shape[0]} rows at {hook!r}: give each row its label")
    _check_finite(value if mask is None else value.where(_over(mask, value), 0), hook)
    if mask is None:
        return [_flat(hook, None, value, y, groups)]
    if positions == "each":
        return [_flat(hook, place, value[:, place], y, groups) for place in _common(mask, hook)]
    if positions == "tokens":
        rows = mask.nonzero()[:, 0].cpu().numpy()
        return [_flat(hook, None, value[mask.to(value.device)], y[rows], groups[rows])]
    if positions == "mean":
        return [_flat(hook, None, _mean(value, mask, hook), y, groups)]
    raise InputError(
        f"{value.shape[1]} positions a row at {hook!r}: pass positions='each' (a probe for each), 'tokens' (every"
        " token is an example) or 'mean' (of a row's tokens), or capture positions='last'"
    )


def _flat(hook: str, place: int | None, value: Tensor, y: np.ndarray, groups: np.ndarray) -> Examples:
    value = value.detach().cpu()
    x = (value if value.dtype == torch.float64 else value.float()).flatten(1).numpy()
    return Examples(hook, place, x, y, groups, tuple(value.shape[1:]))


def _over(mask: Tensor, value: Tensor) -> Tensor:
    return mask.to(value.device).reshape(*mask.shape, *[1] * (value.ndim - 2))


def _mean(value: Tensor, mask: Tensor, hook: str) -> Tensor:
    empty = (~mask.any(1)).nonzero()[:, 0].tolist()
    if empty:
        raise InputError(f"row {empty[0]} has no token at {hook!r}, so there is no mean: leave the row out")
    kept = value.double().where(_over(mask, value), 0).sum(1)
    return kept / mask.sum(1).to(kept).reshape(-1, *[1] * (kept.ndim - 1))


def _common(mask: Tensor, hook: str) -> list[int]:
    places = mask.all(0).nonzero()[:, 0].tolist()
    if not places:
        raise InputError(f"no position at {hook!r} is there in every row: pass positions='tokens' or 'mean'")
    # Columns of a batch that is padded on the left mean the same only from the end.
    return places if 0 in places else [place - mask.shape[1] for place in places]


def _check_finite(value: Tensor, hook: str) -> None:
    bad = ~torch.isfinite(value).flatten(1).all(1)
    if bool(bad.any()):
        rows = bad.nonzero()[:, 0].tolist()
        raise InputError(
            f"NaN or infinite activations at {hook!r} in {len(rows)} rows, the first is row {rows[0]}: leave them out,"
            " or capture in a wider dtype"
        )


def _check_varied(found: Sequence[Examples]) -> None:
    same = [part.name for part in found if not np.ptp(part.x, axis=0).any()]
    if same:
        raise InputError(
            f"the activations at {same[0]!r} are the same in every row ({len(same)} such of {len(found)}):"
            " there is nothing to tell apart, so leave this point out"
        )
