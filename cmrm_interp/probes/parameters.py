"""A fitted classifier as plain tensors."""

from typing import Any

import numpy as np
import torch

from cmrm_interp.axes import Float, Tensor
from cmrm_interp.probes.fitting import calibrated_parts, uncalibrated


def parameters(classifier: Any) -> tuple[Float[Tensor, " d"], Float[Tensor, ""], Tensor | None]:
    """Weights, bias and isotonic steps of a fitted classifier.

    Weights are in the activation's own units, whatever it was standardised by; a sigmoid's calibration is folded in.
    """
    from sklearn.isotonic import IsotonicRegression

    steps = uncalibrated(classifier)
    weights, bias = _linear(steps)
    if steps is classifier:
        return _single(weights), _single(bias), None
    calibrator = calibrated_parts(classifier)[1]
    if isinstance(calibrator, IsotonicRegression):
        return _single(weights), _single(bias), _single(np.stack([calibrator.X_thresholds_, calibrator.y_thresholds_]))
    # Platt's sigmoid is 1 / (1 + exp(a f + b)).
    return _single(-calibrator.a_ * weights), _single(-calibrator.a_ * bias - calibrator.b_), None


def _single(values: np.ndarray | float) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32)


def interpolated(score: Float[Tensor, "*rows"], steps: Float[Tensor, "2 k"]) -> Float[Tensor, "*rows"]:
    """Probabilities of scores: those of the steps, linear in between and constant outside."""
    points, values = steps.to(score.device)
    right = torch.searchsorted(points, score.contiguous()).clamp(1, max(len(points) - 1, 1)).clamp(max=len(points) - 1)
    left = (right - 1).clamp(min=0)
    width = (points[right] - points[left]).clamp(min=torch.finfo(points.dtype).tiny)
    along = ((score - points[left]) / width).clamp(0, 1)
    return values[left] + along * (values[right] - values[left])


def _linear(steps: Any) -> tuple[Float[np.ndarray, " d"], float]:
    weights = np.asarray(steps[-1].coef_, float)[0]
    bias = float(np.asarray(steps[-1].intercept_).reshape(-1)[0])
    if len(steps) == 1:
        return weights, bias
    weights = weights / steps[0].scale_
    return weights, bias - float(weights @ steps[0].mean_)
