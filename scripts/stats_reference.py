#!/usr/bin/env python3
"""Reference values for crosstalk's statistics, from SciPy and NumPy alone.

    pip install scipy numpy
    python3 scripts/stats_reference.py > tests/fixtures/stats_reference.json

Signed-rank bounds are found by inverting scipy.stats.wilcoxon (exact) over the sorted Walsh averages: the upper bound is
the largest average that the one-sided test does not reject. Rank-sum bounds invert scipy.stats.mannwhitneyu likewise. Bootstrap bounds come from a bootstrap of its own over raw
values; each is bracketed by the bounds three standard errors of the level away, the error that 2,000 resamples make.
"""

import json

import numpy as np
from scipy import stats

LEVELS = [0.01, 0.05 / 24]
rng = np.random.default_rng(20260601)


def walsh(d):
    i, j = np.triu_indices(len(d))
    return np.sort((d[i] + d[j]) / 2)


def p_less(d, theta):
    return stats.wilcoxon(d - theta, alternative="less", method="exact").pvalue


def upper(d, alpha):
    """The largest Walsh average such that a centre just below it is not rejected; None if none is rejected at all."""
    averages = walsh(d)
    gap = np.diff(averages).min() / 4
    if p_less(d, averages[-1] + gap) > alpha:
        return None
    low, high = 0, len(averages) - 1  # just below `low` is not rejected
    while low < high:
        middle = (low + high + 1) // 2
        if p_less(d, averages[middle] - gap) > alpha:
            low = middle
        else:
            high = middle - 1
    return float(averages[low])


def signed_rank_case(n):
    d = np.round(rng.normal(0.03, 0.08, n) + 0.1 * (rng.random(n) < 0.1), 9)
    bounds = []
    for alpha in LEVELS:
        low = upper(-d, alpha)
        bounds.append({"alpha": alpha, "low": None if low is None else -low, "high": upper(d, alpha)})
    return {"differences": d.tolist(), "estimate": float(np.median(walsh(d))), "bounds": bounds}


def quantile(values, per_100k):
    """The smallest value that a share of at least per_100k / 100000 does not exceed, by exact integer rank."""
    rank = max(1, -(-per_100k * len(values) // 100_000))
    return np.partition(values, rank - 1)[rank - 1]


def bootstrap_case(blocks, requests, per_100k, resamples=40_000):
    quiet = [np.round(800 * np.exp(0.2 * rng.normal(size=requests))).astype(int) for _ in range(blocks)]
    levels = np.exp(0.1 * rng.normal(size=blocks))
    noisy = [np.round(850 * level * np.exp(0.2 * rng.normal(size=requests))).astype(int) for level in levels]

    def ratio(picked):
        pools = [np.concatenate([arms[b] for b in picked]) for arms in (quiet, noisy)]
        return float(np.log(quantile(pools[1], per_100k) / quantile(pools[0], per_100k)))

    draws = np.sort([ratio(rng.integers(0, blocks, blocks)) for _ in range(resamples)])
    at = lambda level: float(draws[max(1, int(level * (resamples + 1))) - 1])
    above = lambda level: float(draws[resamples - max(1, int(level * (resamples + 1)))])
    bounds = []
    for alpha in LEVELS:
        error = 3 / np.sqrt(2_000 * alpha)
        less, more = alpha * max(0.1, 1 - error), alpha * (1 + error)
        bounds.append({"alpha": alpha, "low": [at(less), at(more)], "high": [above(more), above(less)]})
    return {
        "quantile": per_100k,
        "quiet": [arm.tolist() for arm in quiet],
        "noisy": [arm.tolist() for arm in noisy],
        "estimate": ratio(range(blocks)),
        "bounds": bounds,
    }


def rank_sum_case(m, n, method="exact"):
    """The test is scipy.stats.mannwhitneyu; its lower bound is the smallest difference such that a shift just above it is
    not rejected."""
    x = np.round(rng.normal(0.1, 0.08, m), 9)
    y = np.round(rng.normal(0.2, 0.08, n), 9)
    differences = np.sort(np.subtract.outer(y, x).ravel())
    gap = np.diff(differences)
    gap = gap[gap > 0].min() / 4

    def p(a, b, theta):
        return float(stats.mannwhitneyu(b - theta, a, alternative="greater", method=method).pvalue)

    def lower(a, b, alpha):
        found = np.sort(np.subtract.outer(b, a).ravel())
        if p(a, b, found[0] - gap) > alpha:
            return None
        low, high = 0, len(found) - 1
        while low < high:
            middle = (low + high) // 2
            if p(a, b, found[middle] + gap) > alpha:
                high = middle
            else:
                low = middle + 1
        return float(found[low])

    bounds = []
    for alpha in [0.025, 0.025 / 168]:
        high = lower(y, x, alpha)
        bounds.append({"alpha": alpha, "low": lower(x, y, alpha), "high": None if high is None else -high})
    return {
        "x": x.tolist(),
        "y": y.tolist(),
        "estimate": float(np.median(differences)),
        "above": [[shift, p(x, y, shift)] for shift in (0.0, 0.05)],
        "bounds": bounds,
    }


def prediction_case(n):
    values = np.round(rng.normal(9.2, 0.02, n), 9)
    scale = values.std(ddof=1) * np.sqrt(1 + 1 / n)
    half = {alpha: float(stats.t.isf(alpha / 2, n - 1) * scale) for alpha in (0.025, 0.025 / 36)}
    x = float(values.mean() + 0.05)
    return {
        "values": values.tolist(),
        "bounds": [{"alpha": a, "low": float(values.mean() - h), "high": float(values.mean() + h)} for a, h in half.items()],
        "x": x,
        "p": float(2 * stats.t.sf((x - values.mean()) / scale, n - 1)),
    }


if __name__ == "__main__":
    print(
        json.dumps(
            {
                "signed_rank": [signed_rank_case(n) for n in (5, 7, 8, 10, 17, 24, 48, 90)],
                "bootstrap": [bootstrap_case(17, 30, 50_000), bootstrap_case(24, 40, 95_000)],
                "normal_quantile": [[a, float(stats.norm.isf(a))] for a in (0.2, 0.01, 0.05 / 24, 1e-6)],
                "rank_sum": [rank_sum_case(m, n) for m, n in ((3, 3), (5, 7), (17, 24), (24, 24), (48, 60))]
                + [rank_sum_case(96, 100, "asymptotic")],
                "prediction": [prediction_case(n) for n in (2, 5, 12)],
            }
        )
    )
