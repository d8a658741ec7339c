"""Frames before the network: stretching, equalisation and normalisation (DESIGN.md, "The network",
1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

CLAHE_TILES = 8
CLAHE_CLIP = 2.0


def resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Antialiased bilinear stretch of (rows, cols) to `size` = (rows, cols) in float32.

    A triangle filter whose support grows with the reduction; when enlarging it is plain bilinear
    (pixel centres at half integers, edges clamped by renormalising the weights)."""
    return F.interpolate(image[None, None].float(), size, mode="bilinear", antialias=True)[0, 0]


def levels(image: torch.Tensor) -> torch.Tensor:
    """The 256-level index of each pixel: floor(255·x + 0.5), x clipped to [0, 1]."""
    return (image.clamp(0, 1) * 255 + 0.5).floor().long()


def equalise_global(image: torch.Tensor) -> torch.Tensor:
    """Histogram equalisation on 256 levels: (cdf(v) − cdf_min) / (n − cdf_min); a flat image stays
    as it is.
    """
    level = levels(image)
    cdf = torch.bincount(level.flatten(), minlength=256).cumsum(0)
    lowest = cdf[level.min()]
    if lowest == level.numel():
        return image
    return ((cdf - lowest).float() / float(level.numel() - lowest))[level]


def equalise_clahe(image: torch.Tensor) -> torch.Tensor:
    """Contrast-limited adaptive equalisation: 8×8 tiles, clip limit 2 × the mean bin, the excess
    spread evenly once, each tile's mapping cdf/n, mappings blended bilinearly between tile centres.
    """
    rows, cols = image.shape
    level = levels(image)
    edges_y = [i * rows // CLAHE_TILES for i in range(CLAHE_TILES + 1)]
    edges_x = [i * cols // CLAHE_TILES for i in range(CLAHE_TILES + 1)]
    maps = torch.empty(CLAHE_TILES, CLAHE_TILES, 256)
    for i in range(CLAHE_TILES):
        for j in range(CLAHE_TILES):
            tile = level[edges_y[i] : edges_y[i + 1], edges_x[j] : edges_x[j + 1]].flatten()
            count = torch.bincount(tile, minlength=256).float()
            limit = max(1.0, CLAHE_CLIP * tile.numel() / 256)
            clipped = count.clamp(max=limit)
            clipped = clipped + (count.sum() - clipped.sum()) / 256
            maps[i, j] = clipped.cumsum(0) / max(1, tile.numel())

    def blend(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        where = (torch.arange(n) + 0.5) * CLAHE_TILES / n - 0.5
        low = where.floor()
        return (
            low.long().clamp(0, CLAHE_TILES - 1),
            (low.long() + 1).clamp(0, CLAHE_TILES - 1),
            where - low,
        )

    y0, y1, wy = blend(rows)
    x0, x1, wx = blend(cols)
    at = [[maps[y[:, None], x[None, :], level] for x in (x0, x1)] for y in (y0, y1)]
    wx, wy = wx[None, :], wy[:, None]
    return (1 - wy) * ((1 - wx) * at[0][0] + wx * at[0][1]) + wy * (
        (1 - wx) * at[1][0] + wx * at[1][1]
    )


EQUALISE = {"none": lambda image: image, "global": equalise_global, "clahe": equalise_clahe}


def normalise(image: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    """Grey (rows, cols) → three channels (3, rows, cols), (x − mean_c) / std_c."""
    mean_t, std_t = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
    return (image[None].expand(len(mean), -1, -1) - mean_t) / std_t


def choose_frames(count: int, limit: int = 32) -> list[int]:
    """Indices of the slices used: all, or round(k·(n−1)/(limit−1)), halves away from zero."""
    if count <= limit:
        return list(range(count))
    return [(2 * k * (count - 1) + limit - 1) // (2 * (limit - 1)) for k in range(limit)]
