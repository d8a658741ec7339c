"""Step `crossval`: pooled patient-level cross-validation of the cheapest recipe, the ResNet-18.

It says how much of an outside figure is luck of one split. Its networks see patients of every part
and are thrown away; nothing of them goes into the bundle.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from . import data, teacher


def folds(table: pd.DataFrame, count: int) -> np.ndarray:
    """Fold of every row; patients dealt out by the same stratification as the splits."""
    shares = {str(k): 1 / count for k in range(count)}
    chosen = data.make_splits(table, shares=shares).set_index("patient_id")["split"]
    return table["patient_id"].map(chosen).astype(int).to_numpy()


def run(table: pd.DataFrame, frames: np.ndarray, work: Path, count: int, epochs: int) -> dict:
    """Trains `count` networks; returns macro-AUROC of all out-of-fold answers and per fold."""
    log = logging.getLogger("crossval")
    fold = folds(table, count)
    pooled = torch.empty(len(table), len(data.LABELS))
    labels = table[data.LABELS].to_numpy()
    each = []
    for k in range(count):
        part = table.assign(split=np.where(fold == k, "validation", "train"))
        weights = work / f"crossval{k}.pt"
        teacher.train(part, frames, weights, 100 + k, epochs, ("train",))
        model = teacher.Teacher().to(memory_format=torch.channels_last)
        model.load_state_dict(torch.load(weights))
        rows = np.flatnonzero(fold == k)
        whole = torch.tensor([[0.0, 0, 1, 1]]).expand(len(rows), 4)
        images = torch.from_numpy(frames[rows])[:, None]
        pooled[rows] = teacher.predict(model, images, whole)[:, : len(data.LABELS)]
        each.append(data.macro_auroc(labels[rows], pooled[rows].numpy()))
        log.info("fold %d macro-AUROC %.4f", k, each[-1])
    found = {
        "folds": count,
        "epochs": epochs,
        "macro_auroc_folds": each,
        "macro_auroc_pooled": data.macro_auroc(labels, pooled.numpy()),
    }
    log.info("%s", found)
    torch.save(pooled, work / "crossval-scores.pt")
    (work / "crossval.json").write_text(json.dumps(found, indent=1) + "\n")
    return found
