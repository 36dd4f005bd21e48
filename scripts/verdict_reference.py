#!/usr/bin/env python3
"""Reference values for crosstalk's bounds and for a whole cell, from SciPy and NumPy alone.

    pip install scipy numpy
    python3 scripts/verdict_reference.py > tests/fixtures/verdict_reference.json

Rank intervals, Clopper-Pearson and Student's t come from SciPy's distributions. The cell is judged from raw latencies:
differences of logarithms per block with the Hodges-Lehmann bounds, and the pooled quantiles with a bootstrap of its own over
whole blocks, each bracketed by the bounds three standard errors of the level away, the error that the resamples make.
"""

import json

import numpy as np
from scipy import stats

from stats_reference import quantile, upper, walsh

rng = np.random.default_rng(20260602)


def ranks(per_100k, n, alpha):
    """Ranks that bound a quantile, by adding up binomial probabilities."""
    below = np.cumsum(stats.binom.pmf(np.arange(n + 1), n, per_100k / 100_000))  # P(X <= k)
    low = [l for l in range(1, n + 1) if below[l - 1] <= alpha]
    high = [u for u in range(1, n + 1) if 1 - below[u - 1] <= alpha]
    return [max(low) if low else None, min(high) if high else None]


def rank_case(per_100k, n, alpha):
    return {"quantile": per_100k, "n": n, "alpha": alpha, "ranks": ranks(per_100k, n, alpha)}


def proportion_case(hits, n, alpha):
    test = stats.binomtest(hits, n)
    both = test.proportion_ci(1 - 2 * alpha, method="exact")
    return {"hits": hits, "trials": n, "alpha": alpha, "low": float(both.low), "high": float(both.high)}


def t_case(n, alpha):
    x = np.round(rng.normal(1.0, 0.3, n), 9)
    error = stats.sem(x)
    low, high = x.mean() - stats.t.isf(alpha, n - 1) * error, x.mean() + stats.t.isf(alpha, n - 1) * error
    return {"values": x.tolist(), "alpha": alpha, "low": float(low), "high": float(high)}


def objective_case(n, alpha, resamples=40_000):
    """Arms with a skewed share of requests over a bound; the widest of t, percentiles and studentised resamples."""
    over = rng.negative_binomial(2, 0.2, n)
    x = over / 1_000
    level = alpha * 0.15
    drawn = x[rng.integers(0, n, (resamples, n))]
    means, spreads = drawn.mean(axis=1), drawn.std(axis=1)
    students = np.sort((means - x.mean()) / spreads)
    means = np.sort(means)
    t = stats.t.isf(level, n - 1) * stats.sem(x)

    def bounds(a):
        k = max(1, int(a * (resamples + 1)))
        return (
            min(x.mean() - t, means[k - 1], x.mean() - students[resamples - k] * x.std()),
            max(x.mean() + t, means[resamples - k], x.mean() - students[k - 1] * x.std()),
        )

    error = 3 / np.sqrt(2_000 * level)
    narrow, wide = bounds(level * (1 + error)), bounds(level * max(0.1, 1 - error))
    return {
        "over": over.tolist(),
        "alpha": alpha,
        "share": float(x.mean()),
        "low": [max(0.0, wide[0]), max(0.0, narrow[0])],
        "high": [float(narrow[1]), float(wide[1])],
    }


def cell_case(blocks, requests, per_100k, ratio, levels, resamples=40_000):
    """A whole cell: what its two views say at (lower, upper) levels. Latencies below 2048 ns, which have buckets of their own."""
    draw = lambda scale: np.minimum(2_047, np.round(scale * np.exp(0.2 * rng.normal(size=requests)))).astype(int)
    arms = rng.normal(0, 0.02, (2, blocks))
    quiet = [draw(500 * np.exp(a)) for a in arms[0]]
    noisy = [draw(500 * ratio * np.exp(a)) for a in arms[1]]
    at = lambda arm: quantile(arm, per_100k)
    d = np.array([np.log(at(n) / at(q)) for q, n in zip(quiet, noisy)])
    # Averages must differ for the search of the bound: ties are broken by less than what is compared.
    jittered = d + rng.uniform(-1e-11, 1e-11, blocks)

    def pooled(picked):
        q, n = (np.concatenate([arms[b] for b in picked]) for arms in (quiet, noisy))
        return float(np.log(at(n) / at(q)))

    draws = np.sort([pooled(rng.integers(0, blocks, blocks)) for _ in range(resamples)])
    lower, upper_level = levels
    k = lambda a: max(1, int(a * (resamples + 1)))
    spread = lambda a: (a * max(0.1, 1 - 3 / np.sqrt(2_000 * a)), a * (1 + 3 / np.sqrt(2_000 * a)))
    q_all, n_all = np.concatenate(quiet), np.concatenate(noisy)
    # The expanded percentile interval: as much further from the estimate as t lies beyond z, and n beyond n - 1.
    expansion = stats.t.isf(lower, blocks - 1) / stats.norm.isf(lower) * np.sqrt(blocks / (blocks - 1))
    centre = pooled(range(blocks))
    return {
        "quantile": per_100k,
        "quiet": [a.tolist() for a in quiet],
        "noisy": [a.tolist() for a in noisy],
        "levels": levels,
        "quiet_ns": int(at(q_all)),
        "noisy_ns": int(at(n_all)),
        "epsilon": max(float(np.log1p(1 / v) + 1 / v) for v in (at(q_all), at(n_all))),
        "paired": {
            "estimate": float(np.median(walsh(d))),
            "low": -upper(-jittered, lower),
            "high": upper(jittered, upper_level),
        },
        "pooled": {
            "estimate": centre,
            "low": [centre - float(expansion * (centre - draws[k(a) - 1])) for a in spread(lower)],
            "high": [float(draws[resamples - k(a)]) for a in reversed(spread(upper_level))],
        },
    }


print(
    json.dumps(
        {
            "ranks": [
                rank_case(q, n, alpha)
                for q, n in ((50_000, 7), (50_000, 100), (95_000, 200), (99_000, 458), (99_000, 459), (99_000, 5_000), (99_900, 10_000))
                for alpha in (0.01, 0.005)
            ],
            "proportions": [
                proportion_case(k, n, alpha)
                for k, n in ((0, 300), (1, 2), (3, 1_200), (6, 1_200), (45, 1_200), (300, 300), (17, 40))
                for alpha in (0.05, 0.01)
            ],
            "t": [t_case(n, alpha) for n in (2, 5, 12, 48) for alpha in (0.05, 0.005)],
            "objectives": [objective_case(12, 0.01), objective_case(48, 0.01)],
            "holm": [
                {"p": p, "falls": [bool(f) for f in reject]}
                for p in ([0.04, 0.01, 0.03, 0.013], [0.001, 0.02, 0.02, 0.5, 0.011], [0.06])
                for reject in [[  # by its definition: p falls if all smaller ones fall and p(i) <= 0.05 / (m - i)
                    all(sorted(p)[i] <= 0.05 / (len(p) - i) for i in range(sorted(p).index(x) + 1)) for x in p
                ]]
            ],
            "cells": [
                cell_case(17, 60, 50_000, 1.05, [0.02, 0.005]),
                cell_case(24, 150, 99_000, 1.3, [0.04 / 24, 0.005]),
            ],
        }
    )
)
