#!/usr/bin/env python3
"""Writes conformal.json: what crepes, TorchCP and MAPIE say about the sets that engine/trust makes.

    python tests/engine/data/make_conformal_reference.py    (needs numpy, crepes, torchcp, mapie)

crepes: p-values, of all cases and Mondrian; TorchCP: class-conditional sets and RAPS; MAPIE:
conformal risk control of the recall; NumPy: weighted p-values by their definition (TorchCP's
weighted predictor sorts weights and scores apart and is no reference). Data with two decimals, so
that there are ties, but for MAPIE, whose thresholds are strict.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from crepes.base import p_values_batch
from mapie.risk_control import MultiLabelClassificationController
from torchcp.classification.predictor import ClassConditionalPredictor, SplitPredictor
from torchcp.classification.score import LAC, RAPS

rng = np.random.default_rng(7)
ALPHAS = [0.05, 0.1, 0.2]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def one_label() -> dict:
    """A label's calibration logits, views and truths, and what is said of new logits."""
    n = 160
    truth = (rng.random(n) < 0.35).astype(int)
    view = (rng.random(n) < 0.4).astype(int)
    z = np.round(rng.normal(1.2 * truth - 0.8 + 0.6 * view, 1), 2)
    new = np.round(np.linspace(-4, 4, 33), 2)
    out = {"z": z.tolist(), "truth": truth.tolist(), "view": view.tolist(), "new": new.tolist()}
    for name, sign, cls in (("present", -1, 1), ("absent", 1, 0)):
        mine = truth == cls
        out[f"p_{name}"] = p_values_batch(sign * z[mine], sign * new, smoothing=False).tolist()
        for group in (0, 1):
            bins = np.full(len(new), group)
            p = p_values_batch(sign * z[mine], sign * new, view[mine], bins, smoothing=False)
            out[f"p_{name}_view{group}"] = p.tolist()
        weights = np.round(np.exp(0.8 * view[mine] - 0.3), 3)
        new_weight = 1.7
        larger = (sign * z[mine])[:, None] >= (sign * new)[None]
        p = (new_weight + (weights[:, None] * larger).sum(0)) / (new_weight + weights.sum())
        out[f"weights_{name}"], out[f"weighted_p_{name}"] = weights.tolist(), p.tolist()
    out["new_weight"] = new_weight
    # Two classes whose logits differ by z: 1 − softmax is a falling function of z.
    both = lambda v: torch.tensor(np.stack([0 * v, v], 1), dtype=torch.float64)
    for alpha in ALPHAS:
        predictor = ClassConditionalPredictor(LAC(), alpha=alpha)
        predictor.calculate_threshold(both(z), torch.tensor(truth), alpha)
        sets = predictor.predict_with_logits(both(new))
        out[f"sets_{alpha}"] = [[int(s[1]), int(s[0])] for s in sets]
    return out


def raps() -> dict:
    n, classes, penalty, free = 120, 6, 0.05, 2
    logits = np.round(rng.normal(0, 1.5, (n, classes)), 3)
    truth = np.array([rng.choice(classes, p=np.exp(x) / np.exp(x).sum()) for x in logits])
    new = np.round(rng.normal(0, 1.5, (20, classes)), 3)
    score = RAPS(score_type="softmax", randomized=False, penalty=penalty, kreg=free)
    out = {
        "lambda": penalty,
        "free": free,
        "logits": logits.tolist(),
        "truth": truth.tolist(),
        "new": new.tolist(),
        "scores": score(torch.tensor(logits), torch.tensor(truth)).tolist(),
    }
    for alpha in ALPHAS:
        predictor = SplitPredictor(score, alpha=alpha)
        predictor.calculate_threshold(torch.tensor(logits), torch.tensor(truth), alpha)
        sets = predictor.predict_with_logits(torch.tensor(new))
        out[f"sets_{alpha}"] = [[int(x) for x in s] for s in sets]
    return out


def risk_control() -> dict:
    n, labels = 90, 5
    truth = (rng.random((n, labels)) < 0.3).astype(int)
    truth[truth.sum(1) == 0, 0] = 1  # cases with at least one positive
    z = rng.normal(1.5 * truth - 1, 1).astype(np.float32).astype(float)
    new = rng.normal(0, 1.5, (40, labels)).astype(np.float32).astype(float)
    out = {"z": z.tolist(), "truth": truth.tolist(), "new": new.tolist()}
    grid = np.sort(np.unique(sigmoid(z))) - 1e-12
    for alpha in ALPHAS:
        controller = MultiLabelClassificationController(
            predict_function=lambda x: sigmoid(np.asarray(x)),
            risk="recall",
            method="crc",
            target_level=1 - alpha,
            predict_params=grid,
        )
        controller.calibrate(z, truth)
        out[f"sets_{alpha}"] = controller.predict(new)[:, :, 0].astype(int).tolist()
    return out


reference = {"one_label": one_label(), "raps": raps(), "risk_control": risk_control()}
Path(__file__).with_name("conformal.json").write_text(json.dumps(reference) + "\n")
