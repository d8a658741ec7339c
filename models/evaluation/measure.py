"""Figures of one bundle under one condition, with patient-bootstrap intervals, and what differs."""

from __future__ import annotations

import numpy as np

from . import metrics
from .cases import Case, Condition, Scores

CURVE_POINTS = 101


def number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def macro(values: list[np.ndarray]) -> np.ndarray:
    """Mean over the labels that a resample defines."""
    with np.errstate(invalid="ignore"):
        stacked = np.stack(values, 1)
        known = ~np.isnan(stacked)
        return np.where(
            known.any(1), np.nansum(stacked, 1) / np.maximum(known.sum(1), 1), np.nan
        )


class Truth:
    """Labels of all cases and the resamples that every figure shares."""

    def __init__(self, labels: list[str], cases: list[Case], resamples: int) -> None:
        self.labels = labels
        self.values = np.stack([case.truth for case in cases])
        self.weights = metrics.resamples(np.array([c.patient for c in cases]), resamples)

    def known(self, column: int, ok: np.ndarray) -> np.ndarray:
        return np.flatnonzero(ok & ~np.isnan(self.values[:, column]))


def label_figures(truth: Truth, s: Scores, c: int, threshold: float | None) -> dict:
    """Every figure of one label as (b) arrays; the first is the point estimate."""
    rows = truth.known(c, s.ok)
    y, p, w = truth.values[rows, c], s.probability[rows, c], truth.weights[:, rows]
    ranking = metrics.Ranking(y, s.logit[rows, c])
    ece, ace = metrics.calibration_errors(y, p, w)
    slope, intercept = metrics.slope_and_intercept(y, p, w)
    present, absent = metrics.coverage(y, s.present[rows, c], s.absent[rows, c], w)
    size = s.present[rows, c] + s.absent[rows, c]
    found = {
        "auroc": ranking.auroc(w),
        "auprc": ranking.average_precision(w),
        "ece": ece,
        "ace": ace,
        "brier": metrics.brier(y, p, w),
        "nll": metrics.nll(y, p, w),
        "slope": slope,
        "intercept": intercept,
        "aurc": metrics.risk_coverage(y, p, w)[2],
        "coverage_present": present,
        "coverage_absent": absent,
        "set_size": metrics.weighted_mean(size, w),
    }
    if threshold is not None:
        found["f1"] = metrics.f1(y, (p >= threshold).astype(float), w)
    return found


def risk_curve(truth: Truth, s: Scores) -> dict:
    """Mean over labels of the error rate among the most certain share of the cases."""
    grid = np.linspace(0, 1, CURVE_POINTS)[1:]
    curves = []
    for c in range(len(truth.labels)):
        rows = truth.known(c, s.ok)
        coverage, risk, _ = metrics.risk_coverage(
            truth.values[rows, c], s.probability[rows, c], np.ones((1, len(rows)))
        )
        curves.append(np.interp(grid, coverage, risk))
    return {"coverage": grid.tolist(), "risk": np.mean(curves, 0).tolist()}


def reliability(truth: Truth, s: Scores) -> dict:
    """Bins of equal mass over all labels together."""
    known = ~np.isnan(truth.values) & s.ok[:, None]
    y, p = truth.values[known], s.probability[known]
    observed, predicted, mass = metrics.bin_errors(y, p, np.ones((1, len(y))))
    return {
        "predicted": [number(v) for v in predicted[0]],
        "observed": [number(v) for v in observed[0]],
        "cases": [int(v) for v in mass[0]],
    }


def flag_shares(s: Scores) -> dict[str, float]:
    """How many of the cases that ran have each quality flag, by name."""
    names = sorted({name for case in s.flags for name in case})
    return {name: sum(name in case for case in s.flags) / len(s.flags) for name in names}


def condition_figures(
    truth: Truth, s: Scores, condition: Condition, thresholds: list[float] | None
) -> tuple[dict, dict[str, np.ndarray]]:
    """The figures for the report, and the macro arrays for paired differences."""
    per_label = [
        label_figures(truth, s, c, thresholds[c] if thresholds else None)
        for c in range(len(truth.labels))
    ]
    names = list(per_label[0])
    arrays = {name: macro([figures[name] for figures in per_label]) for name in names}
    known = [truth.known(c, s.ok) for c in range(len(truth.labels))]
    report = {
        "kind": condition.kind,
        "level": condition.level,
        "cases": int(s.ok.sum()),
        "failed": int((~s.ok).sum()),
        "flags": flag_shares(s),
        "macro": {name: metrics.interval(arrays[name]) for name in names},
        "labels": {
            label: {
                "cases": len(rows),
                "positives": int(truth.values[rows, c].sum()),
                "prevalence": number(truth.values[rows, c].mean() if len(rows) else np.nan),
                **{name: metrics.interval(per_label[c][name]) for name in names},
            }
            for c, (label, rows) in enumerate(zip(truth.labels, known, strict=True))
        },
    }
    if condition.kind == "clean":
        report["risk_coverage"] = risk_curve(truth, s)
        report["reliability"] = reliability(truth, s)
    return report, arrays


def with_holm(pairs: dict[str, np.ndarray]) -> dict:
    """Paired differences with their intervals and Holm-adjusted p-values."""
    names = list(pairs)
    p_values = [metrics.two_sided(pairs[name]) for name in names]
    adjusted = metrics.holm(p_values)
    return {
        name: {**metrics.interval(pairs[name]), "p_value": p, "p_holm": q}
        for name, p, q in zip(names, p_values, adjusted, strict=True)
    }


def thresholds(labels: list[str], cases: list[Case], s: Scores) -> list[float]:
    """The threshold with the best F1 of each label, from validation cases."""
    values = np.stack([case.truth for case in cases])
    out = []
    for c in range(len(labels)):
        rows = np.flatnonzero(s.ok & ~np.isnan(values[:, c]))
        out.append(metrics.best_f1_threshold(values[rows, c], s.probability[rows, c]))
    return out
