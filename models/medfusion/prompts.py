"""Boxes where no box head has learnt to draw them (engine/prompt.c is the same rule in C)."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from .segmenter import largest_component

MARGIN = np.float32(0.05)  # of the box, on each side
LEAST = 0.01  # of the frame: a smaller component is no lung


def otsu(levels: np.ndarray) -> int:
    """Otsu's threshold of 8-bit levels: the highest level of the dark class, −1 when flat."""
    counts = np.bincount(levels.ravel(), minlength=256).astype(np.float64)
    below, dark = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = counts.sum() - below
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = dark / below - (dark[-1] - dark) / above
        between = np.where((below > 0) & (above > 0), below * above * distance**2, 0)
    return int(between.argmax()) if between.max() > 0 else -1


def lung_boxes(grey: torch.Tensor) -> torch.Tensor | None:
    """A square frame in [0, 1] → boxes (2, 4) of the largest dark component on each side of the
    midline that does not touch the frame's border; None when a side has none.
    """
    size = grey.shape[0]
    levels = np.floor(grey.clamp(0, 1).numpy() * np.float32(255) + np.float32(0.5)).astype(int)
    level = otsu(levels)
    if level < 0:
        return None
    labels, _ = ndimage.label(levels <= level)  # 4-connected
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    inside = (labels > 0) & ~np.isin(labels, np.unique(edge))
    boxes = []
    for side in (slice(0, size // 2), slice(size // 2, size)):
        half = np.zeros_like(inside)
        half[:, side] = inside[:, side]
        half = largest_component(torch.from_numpy(half)).numpy()
        if not half.any() or half.sum() < int(LEAST * size * size):
            return None
        y, x = np.nonzero(half)
        low = np.array([x.min(), y.min()], dtype=np.float32)
        high = np.array([x.max() + 1, y.max() + 1], dtype=np.float32)
        margin = MARGIN * (high - low)
        box = np.concatenate([np.maximum(low - margin, 0), np.minimum(high + margin, size)])
        boxes.append(torch.from_numpy(box.astype(np.float32)))
    return torch.stack(boxes)
