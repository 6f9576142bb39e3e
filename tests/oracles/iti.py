"""ITI (arXiv 2306.03341) in NumPy, head by head, as the released code goes about it."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score


def interventions(positive, negative, held, k, by_probe=False):
    """Chosen heads with direction and spread.

    Args:
        positive, negative: outputs of heads, ``n layer head d``.
        held: for each class, rows that probes are scored on.
        k: number of heads.
        by_probe: whether directions are the probes' weights.

    Returns:
        ``(layer, head) -> sigma * theta``, and accuracies ``layer head``.
    """
    every, y = np.concatenate([positive, negative]), np.array([1] * len(positive) + [0] * len(negative))
    val = np.concatenate([held[0], len(positive) + np.asarray(held[1])]).astype(int)
    train = np.setdiff1d(np.arange(len(y)), val)
    n_layers, n_heads = every.shape[1:3]
    accuracies, weights = np.zeros((n_layers, n_heads)), {}
    for layer in range(n_layers):
        for head in range(n_heads):
            clf = LogisticRegression(random_state=0, max_iter=1000).fit(every[train, layer, head], y[train])
            accuracies[layer, head] = accuracy_score(y[val], clf.predict(every[val, layer, head]))
            weights[layer, head] = clf.coef_[0]
    order = sorted(np.ndindex(n_layers, n_heads), key=lambda at: -accuracies[at])
    found = {}
    for layer, head in order[:k]:
        theta = positive[:, layer, head].mean(0) - negative[:, layer, head].mean(0)
        theta = weights[layer, head] if by_probe else theta
        theta = theta / np.linalg.norm(theta)
        found[layer, head] = np.std(every[:, layer, head] @ theta) * theta
    return found, accuracies
