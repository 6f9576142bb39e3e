"""The mean-difference probe as a scikit-learn estimator. Imported when first used, because scikit-learn is slow to."""

from typing import Self

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin

from cmrm_interp.axes import Float


class MeanDifference(ClassifierMixin, BaseEstimator):
    """Classifies along the difference of the class means, with the threshold at their midpoint.

    The mass-mean probe of Marks and Tegmark (arXiv 2310.06824). The weights are the difference of the means, scaled so
    that the score is the log-odds of two equally frequent Gaussians with the pooled variance along it.

    Attributes:
        classes_: the two classes, the second one positive.
        coef_: weights, 1 x d.
        intercept_: bias, one number.
    """

    def fit(self, X: Float[np.ndarray, "n d"], y: np.ndarray) -> Self:
        """Learn from features and labels."""
        self.classes_ = np.unique(y)
        negative, positive = (X[y == kind] for kind in self.classes_)
        weights = positive.mean(0) - negative.mean(0)
        residuals = np.concatenate([part @ weights - (part @ weights).mean() for part in (negative, positive)])
        variance = (residuals**2).sum() / max(len(X) - 2, 1)
        # Without spread any slope separates the classes equally well.
        slope = weights @ weights / variance if variance > 0 else 1.0
        self.coef_ = slope * weights[None]
        self.intercept_ = -self.coef_ @ (positive.mean(0) + negative.mean(0)) / 2
        return self

    def decision_function(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Log-odds of the positive class."""
        return (X @ self.coef_.T + self.intercept_)[:, 0]

    def predict_proba(self, X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 2"]:
        """Probabilities of both classes."""
        positive = expit(self.decision_function(X))
        return np.stack([1 - positive, positive], axis=1)

    def predict(self, X: Float[np.ndarray, "n d"]) -> np.ndarray:
        """The class on whose side of the midpoint each row lies."""
        return self.classes_[(self.decision_function(X) > 0).astype(int)]
