"""Classifier two-sample test: can one tell two conditions apart on prompts that were not seen?"""

import numpy as np

from cmrm_interp.axes import Float
from cmrm_interp.gap.draws import Draws, as_is
from cmrm_interp.gap.shrinkage import ledoit_wolf

FOLDS = 5


def classifier_accuracy(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"], draws: Draws | None = None, folds: int = FOLDS
) -> Float[np.ndarray, " draw"]:
    """Accuracy of a linear classifier on held-out prompts: 0.5 where two conditions cannot be told apart.

    Lopez-Paz and Oquab (2017), "Revisiting classifier two-sample tests". The classifier is ridge regression on the
    labels (which for two classes of one size is Fisher's discriminant), its ridge set by Ledoit and
    Wolf on the training states without their labels. A pair is never split: both states of a prompt are in
    one fold (prompt i in fold ``i % folds``). Swapped labels are learnt anew in every fold, which is cheap
    because predictions are linear in them; the bootstrap draws prompts and keeps the classifiers.

    Args:
        x: states of the first condition.
        y: of the second; row i is the same prompt.
        draws: None for the data as it is.
        folds: of the cross-validation, over prompts.

    Returns:
        One value a draw, a share in 0 .. 1.
    """
    draws = draws or as_is(len(x))
    right = np.zeros_like(draws.signs)
    fold = np.arange(len(x)) % folds
    for held in range(folds):
        train, test = fold != held, fold == held
        both = predictor(np.concatenate([x[train], y[train]]), np.concatenate([x[test], y[test]]))
        labels = np.concatenate([draws.signs[:, train], -draws.signs[:, train]], axis=1)
        truth = np.concatenate([draws.signs[:, test], -draws.signs[:, test]], axis=1)
        correct = (labels @ both.T) * truth > 0
        right[:, test] = correct[:, : test.sum()] / 2 + correct[:, test.sum() :] / 2
    return (draws.weights * right).sum(1) / draws.weights.sum(1)


def predictor(train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m n"]:
    """Matrix from labels (-1 and 1, as many of each) of training states to ridge predictions of test states."""
    mean = train.mean(0)
    train, test = train - mean, test - mean
    gram, n = train @ train.T, len(train)
    intensity, variance = ledoit_wolf(np.diag(gram)[None], (gram**2).sum(keepdims=True)[0], train.shape[1])
    shrunk = (1 - intensity) / n * gram + intensity * variance * np.eye(n)
    return np.linalg.solve(shrunk, train @ test.T).T
