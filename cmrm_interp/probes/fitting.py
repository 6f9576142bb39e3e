"""One way from examples to a fitted classifier, for every kind of probe."""

from typing import Any

import numpy as np

from cmrm_interp.axes import Bool, Float, Int
from cmrm_interp.errors import InputError
from cmrm_interp.probes.folds import Splits, grouped_folds
from cmrm_interp.probes.settings import ProbeSettings


def pipeline(settings: ProbeSettings, strength: float | None = None) -> Any:
    """An unfitted scikit-learn pipeline; what it standardises by is learnt with it, on the same rows.

    Args:
        settings: which kind.
        strength: ``C`` of the logistic probe; None for the middle one of the settings.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from cmrm_interp.probes.mean_difference import MeanDifference

    if settings.kind == "logistic":
        middle = sorted(settings.strengths)[len(settings.strengths) // 2]
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength or middle, max_iter=5000))
    if settings.kind == "lda":
        return make_pipeline(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
    return make_pipeline(MeanDifference())


def fit(
    x: Float[np.ndarray, "n d"], y: Bool[np.ndarray, " n"], groups: Int[np.ndarray, " n"], settings: ProbeSettings
) -> Any:
    """A classifier fitted on all rows; its strength and its calibration are chosen on inner folds by group.

    Returns:
        A scikit-learn classifier with ``predict_proba`` (and ``decision_function`` unless calibrated).

    Raises:
        InputError: one class only, or too few groups of one for inner folds.
    """
    if y.all() or not y.any():
        raise InputError(
            f"all {len(y)} rows left to train on are {bool(y.all())}: pass fewer folds, or bring more groups"
        )
    if not settings.tuned and settings.calibrate is None:
        return pipeline(settings).fit(x, y)
    splits = _inner_folds(y, groups, settings)
    chosen = _tuned(x, y, splits, settings) if settings.tuned else pipeline(settings).fit(x, y)
    if settings.calibrate is None:
        return chosen
    from sklearn.base import clone
    from sklearn.calibration import CalibratedClassifierCV

    # One pipeline fitted on all rows, so that there is one direction; its calibration is learnt on held-out scores.
    how: dict[str, Any] = {"method": settings.calibrate, "cv": splits, "ensemble": False}
    return CalibratedClassifierCV(clone(chosen), **how).fit(x, y)


def predict(classifier: Any, x: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Scores and probabilities of True; a calibrated classifier's score is its probability."""
    probability = np.asarray(classifier.predict_proba(x)[:, 1], float)
    calibrated = uncalibrated(classifier) is not classifier
    return probability if calibrated else np.asarray(classifier.decision_function(x), float), probability


def uncalibrated(classifier: Any) -> Any:
    """The pipeline within a calibrated classifier; a pipeline is returned as it is."""
    from sklearn.calibration import CalibratedClassifierCV

    return calibrated_parts(classifier)[0] if isinstance(classifier, CalibratedClassifierCV) else classifier


def calibrated_parts(classifier: Any) -> tuple[Any, Any]:
    """The pipeline in a calibrated classifier, and what turns its scores into probabilities."""
    only = classifier.calibrated_classifiers_[0]
    return only.estimator, only.calibrators[0]


def strength_of(classifier: Any) -> float | None:
    """``C`` that a logistic probe was fitted with; None for the other kinds."""
    return uncalibrated(classifier)[-1].get_params().get("C")


def _tuned(x: np.ndarray, y: np.ndarray, splits: Splits, settings: ProbeSettings) -> Any:
    from sklearn.model_selection import GridSearchCV

    grid = {"logisticregression__C": sorted(settings.strengths)}
    return GridSearchCV(pipeline(settings), grid, scoring="neg_log_loss", cv=splits).fit(x, y).best_estimator_


def _inner_folds(y: np.ndarray, groups: np.ndarray, settings: ProbeSettings) -> Splits:
    fewest = min(len(np.unique(groups[y == label])) for label in (True, False))
    if fewest < 2:
        advice = "or fix the strength: strengths=(0.1,)" if settings.calibrate is None else "or leave calibrate out"
        raise InputError(
            f"{fewest} group of one class is left to train on, too few for inner folds: bring more groups, {advice}"
        )
    return grouped_folds(y, groups, min(settings.inner_folds, fewest), settings.seed)
