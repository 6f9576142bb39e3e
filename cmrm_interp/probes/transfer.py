"""`probe_transfer`: a probe trained under one condition and tested under another, on requests seen under neither."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from cmrm_interp.activations import Activations
from cmrm_interp.errors import InputError, MismatchError
from cmrm_interp.probes.examples import Examples, Groups, Labels, examples_of, plain
from cmrm_interp.probes.fitting import fit, predict
from cmrm_interp.probes.folds import grouped_folds
from cmrm_interp.probes.scores import HeldOut
from cmrm_interp.probes.settings import Kind, ProbeSettings
from cmrm_interp.probes.transfer_result import TransferResult

Condition = tuple[Activations, Labels, Groups]


def probe_transfer(
    conditions: Mapping[str, Condition], kind: Kind = "logistic", seed: int = 0, **settings: Any
) -> TransferResult:
    """Whether what a probe reads under one condition is read by it under another.

    A probe trained on text that fails with an image, where a probe trained with images does well, finds information
    that is there but has moved: the modality gap as a number. Folds hold out groups of all conditions together, so
    no request is tested on that was trained on, be it under another condition.

    Args:
        conditions: by name ``(activations, labels, groups)``; the same group name means the same thing in each.
        kind: as in `probe`.
        seed: of folds and resamples.
        **settings: other fields of `ProbeSettings`; controls and permutations are not made here.

    Returns:
        ``.table()``, ``.matrix(hook)``, ``.gap(train, test)``, ``.plot(hook)``, ``.plot_layers(train)``.

    Raises:
        InputError: fewer than two conditions, no groups, and as in `probe`.
        MismatchError: conditions of different hook points, widths or models.
    """
    from tqdm.auto import tqdm

    how = ProbeSettings.of(kind=kind, seed=seed, **settings)
    if how.positions == "each":
        raise InputError("transfer compares one score a hook point: capture one position, or use 'tokens' or 'mean'")
    _check(conditions)
    found = _examples(conditions, how)
    hooks = list(next(iter(conditions.values()))[0])
    cells: dict[tuple[str, str, str], HeldOut] = {}
    for place, hook in enumerate(tqdm(hooks, "transfer", leave=False, disable=len(hooks) < 2)):
        parts = {name: own[place].wide() for name, own in found.items()}
        fold_of = _folds(parts, how)
        for train, part in parts.items():
            cells |= {(hook, train, test): held for test, held in _row(part, parts, fold_of, how).items()}
    return TransferResult(cells, how)


def _check(conditions: Mapping[str, Condition]) -> None:
    if len(conditions) < 2:
        raise InputError(f"{len(conditions)} conditions: transfer needs two, such as {{'text': ..., 'image': ...}}")
    (first, (acts, *_)), *others = conditions.items()
    for name, (_, _, groups) in conditions.items():
        if groups is None:
            raise InputError(f"{name!r} has no groups: without them the same request would be trained and tested on")
    for name, (other, *_) in others:
        if list(other) != list(acts):
            raise MismatchError(f"{first!r} and {name!r} have different hook points: capture the same ones")
        if other.model != acts.model:
            raise MismatchError(f"{first!r} and {name!r} are of different models ({acts.model} and {other.model})")


def _examples(conditions: Mapping[str, Condition], how: ProbeSettings) -> dict[str, list[Examples]]:
    """Examples by condition; one group has one number under all conditions."""
    numbers: dict[Any, int] = {}
    found = {}
    for name, (acts, labels, groups) in conditions.items():
        names = plain(groups, "groups")
        parts = examples_of(acts, labels, names, how.positions)
        # Each condition has numbered its groups in order of appearance.
        common = np.array([numbers.setdefault(group, len(numbers)) for group in dict.fromkeys(names)])
        found[name] = [replace(part, groups=common[part.groups]) for part in parts]
    return found


def _folds(parts: Mapping[str, Examples], how: ProbeSettings) -> dict[int, int]:
    """The fold in which each group is held out under all conditions."""
    y = np.concatenate([part.y for part in parts.values()])
    groups = np.concatenate([part.groups for part in parts.values()])
    for part in parts.values():  # each condition alone must fill the folds, too
        grouped_folds(part.y, part.groups, how.folds, how.seed)
    splits = grouped_folds(y, groups, how.folds, how.seed)
    return {int(group): fold for fold, (_, test) in enumerate(splits) for group in np.unique(groups[test])}


def _row(
    part: Examples, parts: Mapping[str, Examples], fold_of: Mapping[int, int], how: ProbeSettings
) -> dict[str, HeldOut]:
    """Trained on one condition, tested on all of them."""
    fold = {name: np.array([fold_of[int(group)] for group in other.groups]) for name, other in parts.items()}
    mine = np.array([fold_of[int(group)] for group in part.groups])
    predicted = {name: (np.zeros(len(other.y)), np.zeros(len(other.y))) for name, other in parts.items()}
    for number in range(how.folds):
        train = mine != number
        classifier = fit(part.x[train], part.y[train], part.groups[train], how)
        for name, other in parts.items():
            test = fold[name] == number
            if test.any():
                predicted[name][0][test], predicted[name][1][test] = predict(classifier, other.x[test])
    return {name: HeldOut(other.y, *predicted[name], fold[name], other.groups) for name, other in parts.items()}
