"""Step `crossval`: how patients are dealt out to the folds, and the answers put together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from . import data


def folds(table: pd.DataFrame, count: int) -> np.ndarray:
    """Fold of every row; patients dealt out by the same stratification as the splits."""
    shares = {str(k): 1 / count for k in range(count)}
    chosen = data.make_splits(table, shares=shares).set_index("patient_id")["split"]
    return table["patient_id"].map(chosen).astype(int).to_numpy()


def pool(scores: list[dict[str, torch.Tensor]], fold: np.ndarray) -> dict[str, torch.Tensor]:
    """Every row's logits by the networks that did not train on its patient."""
    out = {name: torch.empty_like(value) for name, value in scores[0].items()}
    for k, found in enumerate(scores):
        for name, value in found.items():
            out[name][fold == k] = value[fold == k]
    return out
