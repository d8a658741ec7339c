"""Metrics of one label, for one weighting of the cases or for all bootstrap resamples at once.

Weights are (b, n): row 0 is all ones (the point estimate), the others count how often a case was
drawn. Every function gives (b), NaN where a resample does not define it (one class only).
"""

from __future__ import annotations

import numpy as np

BINS = 15


class Ranking:
    """AUROC and step average precision of one label under many weightings of the images at once."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray) -> None:
        self.order = np.argsort(scores, kind="stable")
        ascending = scores[self.order]
        self.starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        self.positive = labels[self.order] > 0.5

    def sums(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weight of positives and negatives (b, distinct scores), ascending."""
        weights = weights[:, self.order]
        return tuple(
            np.add.reduceat(weights * side, self.starts, axis=1)
            for side in (self.positive, ~self.positive)
        )

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """(b, n) weights → (b); NaN where a class is absent."""
        p, n = self.sums(weights)
        below = np.cumsum(n, 1) - n / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return (p * below).sum(1) / (p.sum(1) * n.sum(1))

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        p, n = (x[:, ::-1] for x in self.sums(weights))
        tp, fp = np.cumsum(p, 1), np.cumsum(n, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(tp + fp > 0, tp / (tp + fp), 0)
            return (p * precision).sum(1) / p.sum(1)


# --- resamples ---


def resamples(patients: np.ndarray, count: int, seed: int = 1) -> np.ndarray:
    """(count + 1, n) weights: first all ones, then patients drawn with replacement."""
    names, inverse = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), count)
    return np.concatenate([np.ones((1, len(patients))), draws[:, inverse]])


def interval(values: np.ndarray) -> dict:
    """Point estimate (the first), percentile interval, and how many resamples had to be skipped."""
    rest = values[1:]
    kept = rest[~np.isnan(rest)]
    low, high = np.percentile(kept, [2.5, 97.5]) if len(kept) else (np.nan, np.nan)
    return {
        "value": float(values[0]),
        "low": float(low),
        "high": float(high),
        "skipped": int(np.isnan(rest).sum()),
    }


def two_sided(differences: np.ndarray) -> float:
    """Bootstrap p-value of a paired difference: how far into the resamples zero lies."""
    rest = differences[1:][~np.isnan(differences[1:])]
    tail = min((rest <= 0).sum(), (rest >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(rest) + 1)))


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, most = np.zeros(len(p_values)), 0.0
    for rank, i in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = most
    return adjusted.tolist()


# --- probabilities ---


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * values).sum(1) / weights.sum(1)


def brier(labels: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weighted_mean((probability - labels) ** 2, weights)


def nll(labels: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> np.ndarray:
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    return weighted_mean(-(labels * np.log(p) + (1 - labels) * np.log1p(-p)), weights)


def equal_mass_ece(labels: np.ndarray, probability: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal size."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(
        sum(len(part) * abs(labels[part].mean() - probability[part].mean()) for part in parts)
        / len(order)
    )


def bin_errors(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean label, mean probability and weight (b, bins) in bins of equal weight."""
    order = np.argsort(probability, kind="stable")
    w, y, p = weights[:, order], labels[order], probability[order]
    total = w.sum(1, keepdims=True)
    place = np.cumsum(w, 1) - w / 2
    index = np.minimum((place * bins / total).astype(int), bins - 1)
    sums = np.zeros((3, len(w), bins))
    for b in range(bins):
        inside = w * (index == b)
        sums[:, :, b] = (inside * y).sum(1), (inside * p).sum(1), inside.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[0] / sums[2], sums[1] / sums[2], sums[2]


def calibration_errors(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ECE (bins of equal mass, weighted by their mass) and ACE (every bin counts alike)."""
    truth, mean, mass = bin_errors(labels, probability, weights)
    error = np.abs(truth - mean)
    ece = np.nansum(error * mass, 1) / mass.sum(1)
    filled = (mass > 0).sum(1)
    return ece, np.nansum(error, 1) / filled


def newton_step(
    x: np.ndarray, labels: np.ndarray, weights: np.ndarray, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What a Newton step takes from slopes and intercepts, halved while it does not help."""

    def loss(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        z = a[:, None] * x + b[:, None]
        return (weights[rows] * (np.logaddexp(0, z) - labels * z)).sum(1)

    z = np.clip(a[:, None] * x + b[:, None], -500, 500)
    q = 1 / (1 + np.exp(-z))
    error, curve = weights * (q - labels), weights * q * (1 - q) + 1e-12
    ga, gb = error @ x, error.sum(1)
    haa, hab, hbb = curve @ (x * x), curve @ x, curve.sum(1)
    det = haa * hbb - hab**2
    with np.errstate(invalid="ignore", divide="ignore"):
        da, db = (hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det
    da, db = (np.nan_to_num(d, posinf=0, neginf=0) for d in (da, db))
    rows = np.arange(len(a))
    before = loss(rows, a, b)
    for _ in range(30):
        rows = rows[loss(rows, a[rows] - da[rows], b[rows] - db[rows]) > before[rows] + 1e-12]
        if not len(rows):
            break
        da[rows] /= 2
        db[rows] /= 2
    return da, db


def slope_and_intercept(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression of the labels on logit p: (1, 0) is perfect. NaN where one class is
    absent or the classes are separated. Newton's method with a step that is halved while it does
    not help.
    """
    p = np.clip(probability, 1e-12, 1 - 1e-12)
    x = np.log(p / (1 - p))
    a, b = np.ones(len(weights)), np.zeros(len(weights))
    one_class = (weights * labels).sum(1) * (weights * (1 - labels)).sum(1) == 0
    live = np.flatnonzero(~one_class)  # resamples that have not converged yet
    for _ in range(50):
        if not len(live):
            break
        da, db = newton_step(x, labels, weights[live], a[live], b[live])
        a[live] -= da
        b[live] -= db
        moving = np.maximum(np.abs(da), np.abs(db)) >= 1e-10
        live = live[moving & (np.abs(a[live]) <= 100)]
    unusable = one_class | (np.abs(a) > 100)
    return np.where(unusable, np.nan, a), np.where(unusable, np.nan, b)


# --- decisions ---


def best_f1_threshold(labels: np.ndarray, probability: np.ndarray) -> float:
    """The threshold (≥) with the highest F1; of equals the highest. Infinite without positives."""
    order = np.argsort(-probability, kind="stable")
    y, p = labels[order], probability[order]
    last = np.r_[p[1:] != p[:-1], True]
    tp, flagged = np.cumsum(y), np.arange(1, len(y) + 1)
    score = np.where(last, 2 * tp / (flagged + y.sum()), -1)
    return float(p[np.argmax(score)]) if y.sum() else float("inf")


def f1(labels: np.ndarray, flagged: np.ndarray, weights: np.ndarray) -> np.ndarray:
    tp = (weights * (labels * flagged)).sum(1)
    both = (weights * (labels + flagged)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((weights * labels).sum(1) > 0, 2 * tp / both, np.nan)


def risk_coverage(
    labels: np.ndarray, probability: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The most certain cases first: coverage (n) and error rate (n) at each of them for the point
    estimate, and the area under that curve (b). Certainty is max(p, 1 − p), the decision p ≥ ½.
    """
    order = np.argsort(-np.maximum(probability, 1 - probability), kind="stable")
    wrong = ((probability >= 0.5) != (labels > 0.5))[order]
    w = weights[:, order]
    mass = np.cumsum(w, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        risk = np.where(mass > 0, np.cumsum(w * wrong, 1) / mass, 0)
        area = (risk * w).sum(1) / w.sum(1)
    return mass[0] / mass[0, -1], risk[0], area


def coverage(
    labels: np.ndarray, has_present: np.ndarray, has_absent: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Share of positives, and of negatives, whose set holds the truth."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return tuple(
            (weights * side * has).sum(1) / (weights * side).sum(1)
            for side, has in ((labels, has_present), (1 - labels, has_absent))
        )
