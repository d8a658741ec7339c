#!/usr/bin/env python3
"""Writes calibration.json: what scikit-learn says of the calibration maps that engine/trust fits.

    python tests/engine/data/make_reference.py        (needs numpy, scikit-learn)
"""

import json
from pathlib import Path

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(11)
n = 240
z = np.round(rng.normal(-1.0, 1.7, n), 2)  # two decimals: ties
truth = (rng.random(n) < 1 / (1 + np.exp(-(0.6 * z - 0.3)))).astype(int)
at = np.array([-6, -3.2, -1, -0.25, 0, 0.4, 1.5, 3, 7.0])


def softplus(x):
    return np.logaddexp(0, x)


def logistic(terms, target):
    """Unregularised logistic regression with soft targets: each case counts as both classes, by its
    target."""
    n = len(target)
    model = LogisticRegression(C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    model.fit(
        np.concatenate([terms, terms]),
        np.r_[np.ones(n), np.zeros(n)],
        sample_weight=np.r_[target, 1 - target],
    )
    return model.coef_[0]


def probability(x):
    return 1 / (1 + np.exp(-x))


positives = int(truth.sum())
smoothed = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (n - positives + 2))
temperature = logistic(z[:, None], truth.astype(float))
platt = logistic(np.stack([z, np.ones(n)], 1), smoothed)
beta = logistic(np.stack([-softplus(-z), softplus(z), np.ones(n)], 1), truth.astype(float))
assert beta[0] > 0 and beta[1] > 0
one_sided_truth = (rng.random(n) < 1 / (1 + np.exp(-(2 * np.minimum(z, 0))))).astype(int)
full = logistic(np.stack([-softplus(-z), softplus(z), np.ones(n)], 1), one_sided_truth.astype(float))
assert min(full[:2]) < 0
keep = 0 if full[1] < 0 else 1
terms = [-softplus(-z), softplus(z)]
kept = logistic(np.stack([terms[keep], np.ones(n)], 1), one_sided_truth.astype(float))
one_sided = [kept[0], 0, kept[1]] if keep == 0 else [0, kept[0], kept[1]]
isotonic = IsotonicRegression(y_min=1 / (n + 2), y_max=(n + 1) / (n + 2), out_of_bounds="clip").fit(z, truth)
reference = {
    "z": z.tolist(), "truth": truth.tolist(), "one_sided_truth": one_sided_truth.tolist(), "at": at.tolist(),
    "temperature": temperature.tolist(), "temperature_at": probability(temperature[0] * at).tolist(),
    "platt": platt.tolist(), "platt_at": probability(platt[0] * at + platt[1]).tolist(),
    "beta": beta.tolist(), "beta_at": probability(-beta[0] * softplus(-at) + beta[1] * softplus(at) + beta[2]).tolist(),
    "beta_one_sided": one_sided,
    "isotonic_at": isotonic.predict(at).tolist(),
}
Path(__file__).with_name("calibration.json").write_text(json.dumps(reference) + "\n")
