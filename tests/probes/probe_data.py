"""Simulated activations for the tests of probes."""

import numpy as np
import torch
from scipy.special import expit

import cmrm_interp as ci

A, B = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"
FAST = {"strengths": (0.1,), "controls": 0, "resamples": 100}


def acts(*values, mask=None, model=None, positions="last"):
    """Activations at hook points A, B from arrays."""
    tensors = {
        hook: torch.as_tensor(np.asarray(v), dtype=torch.float32) for hook, v in zip((A, B), values, strict=False)
    }
    return ci.Activations(tensors, positions if mask is None else "all", mask, {}, model)


def gaussians(n=400, d=8, distance=1.0, seed=0):
    """Two classes with unit covariance, their means so far apart along a random line: ``(x, y, unit line)``."""
    rng = np.random.default_rng(seed)
    line = rng.normal(size=d)
    line /= np.linalg.norm(line)
    y = np.arange(n) % 2 == 0
    return rng.normal(size=(n, d)) + distance * (y - 0.5)[:, None] * line + 3.0, y, line


def leaking(n_groups=40, rows=10, d=60, seed=0):
    """Rows whose features name their group and nothing else; labels belong to groups at random."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rows)
    y = np.repeat(rng.permutation(np.arange(n_groups) % 2 == 0), rows)
    return 3 * rng.normal(size=(n_groups, d))[groups] + rng.normal(size=(len(groups), d)), y, groups


def drawn(n=1500, slope=1.0, seed=0):
    """Labels drawn with log-odds ``slope * x[0]``, so that a logistic probe is the truth."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    return x, rng.random(n) < expit(slope * x[:, 0])
