"""Intervals against their formulas."""

import math
import subprocess
import sys

import numpy as np
import pytest

from cmrm_interp.errors import InputError
from cmrm_interp.intervals import bootstrap_mean, bootstrap_means, wilson


def wilson_formula(successes, n, z=1.959963984540054):
    p, scale = successes / n, 1 + z * z / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    centre = (p + z * z / (2 * n)) / scale
    return centre - half, centre + half


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 7), (61, 100), (1, 1)])
def test_wilson_is_its_formula(successes, n):
    low, high = wilson(successes, n)
    assert (low, high) == pytest.approx(wilson_formula(successes, n), abs=1e-9)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (2, 1), (-1, 5)])
def test_a_share_of_nothing_is_refused(successes, n):
    with pytest.raises(InputError, match=f"{successes} of {n} is no share"):
        wilson(successes, n)


def test_bootstrap_agrees_with_the_normal_interval_where_that_holds():
    values = np.random.default_rng(0).normal(5, 2, 1000)
    low, high = bootstrap_mean(values.tolist(), seed=1)
    half = 1.96 * values.std() / math.sqrt(1000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert bootstrap_mean(values.tolist(), seed=1) == (low, high)
    assert bootstrap_mean(values.tolist(), seed=2) != (low, high)


def test_bootstrap_of_few_or_equal_values():
    assert bootstrap_mean([2.0, 2.0, 2.0]) == (2.0, 2.0)
    rounded = [0.1, 0.1, 0.1, math.nextafter(0.1, 1)]
    assert bootstrap_mean(rounded) == (min(rounded), max(rounded)), "no NaN, no warning"
    with pytest.raises(InputError, match="an interval from 1 values"):
        bootstrap_mean([2.0])


def test_bootstrap_of_columns_is_that_of_each():
    values = np.random.default_rng(0).normal(5, [2, 0, 1], (200, 3))
    low, high = bootstrap_means(values, seed=3)
    assert (low[1], high[1]) == pytest.approx((5, 5))
    for column in (0, 2):
        assert (low[column], high[column]) == pytest.approx(bootstrap_mean(values[:, column].tolist()), abs=0.02)
    low, high = bootstrap_means(values[:1])
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_importing_the_package_is_light():
    code = "import sys, cmrm_interp; print([m for m in ('statsmodels', 'matplotlib.pyplot') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
