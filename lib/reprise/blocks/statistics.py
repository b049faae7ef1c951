"""Comparisons of numbers that come one per seed: paired differences, equivalence tests, bootstrap intervals.

Verdicts use Student intervals and are the suite's business; these serve figures, tests and exercises.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def paired_differences(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """a - b, seed by seed, after checking that both have the same seeds (leading axis) and finite values."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        raise ValueError(f"paired numbers must have the same shape; got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("paired numbers must be finite; a run has diverged")
    return a - b


@dataclass(frozen=True)
class Equivalence:
    """Outcome of `equivalence_test`: the larger one-sided p-value and the 1 - 2 alpha interval."""

    p_value: float
    low: float
    high: float
    equivalent: bool


def equivalence_test(differences: ArrayLike, margin: float, alpha: float = 0.05) -> Equivalence:
    """Two one-sided t-tests (TOST): is the mean difference inside (-margin, margin)?

    Args:
        differences: one per seed, at least two.
        margin: positive, in the unit of the differences.
        alpha: error rate of declaring equivalence when the true mean lies at or beyond the margin.
    """
    d = np.asarray(differences, float).ravel()
    if len(d) < 2 or margin <= 0:
        raise ValueError("an equivalence test needs at least two differences and a positive margin")
    mean, error = d.mean(), d.std(ddof=1) / np.sqrt(len(d))
    half = stats.t.ppf(1 - alpha, len(d) - 1) * error
    if error == 0:
        p = 0.0 if abs(mean) < margin else 1.0
    else:
        lower = stats.t.sf((mean + margin) / error, len(d) - 1)  # against mean <= -margin
        upper = stats.t.cdf((mean - margin) / error, len(d) - 1)  # against mean >= margin
        p = float(max(lower, upper))
    return Equivalence(p, mean - half, mean + half, p < alpha)


def bootstrap_interval(
    values: ArrayLike | Sequence[ArrayLike],
    statistic: Callable[..., np.ndarray] = np.mean,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap over the leading (seed) axis, for figures.

    Args:
        values: (seeds, ...).
        statistic: function with an `axis` argument, such as np.mean or np.median.
        level: coverage aimed at.
        draws: resamples.
        seed: of the resampling.
    Returns:
        Lower and upper ends, shape of one seed's values.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        raise ValueError("a bootstrap needs at least two seeds")
    picks = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    spread = statistic(values[picks], axis=1)
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
