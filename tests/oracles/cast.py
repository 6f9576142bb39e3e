"""CAST's similarity, as its paper writes it (arXiv 2409.05907), with the projection as a matrix."""

import numpy as np


def similarity(h, c):
    """``cos(h, tanh(P h))`` of one state."""
    projection = np.outer(c, c) / (c @ c)
    bent = np.tanh(projection @ h)
    return h @ bent / (np.linalg.norm(h) * np.linalg.norm(bent))


def best_f1(harmful, harmless, thresholds):
    """The best F1 score over thresholds and both directions, counted one by one."""
    best = 0.0
    for threshold in thresholds:
        for fires in (lambda s, t=threshold: s > t, lambda s, t=threshold: s < t):
            hit, false = sum(map(fires, harmful)), sum(map(fires, harmless))
            missed = len(harmful) - hit
            best = max(best, 2 * hit / (2 * hit + false + missed))
    return best
