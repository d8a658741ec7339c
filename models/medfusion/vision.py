"""Vision (DESIGN.md, "The network", 3): a DINOv2-layout ViT, its patch tokens averaged over R×R
regions, then CLS.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def region_tokens(vision: nn.Module, pixel_values: torch.Tensor, regions: int) -> torch.Tensor:
    """pixel_values (n, 3, H, W) → (n, R·R + 1, dv): post-`layernorm` patch tokens pooled row-major,
    then CLS.

    `vision` is a Dinov2Model, Dinov2WithRegistersModel (registers are skipped) or ViTModel.
    """
    patch = vision.config.patch_size
    rows, cols = pixel_values.shape[2] // patch, pixel_values.shape[3] // patch
    interpolate = {"interpolate_pos_encoding": True} if vision.config.model_type == "vit" else {}
    tokens = vision(pixel_values=pixel_values, **interpolate).last_hidden_state
    patches = tokens[:, -rows * cols :].transpose(1, 2).unflatten(2, (rows, cols))
    pooled = F.adaptive_avg_pool2d(patches, regions).flatten(2).transpose(1, 2)
    return torch.cat([pooled, tokens[:, :1]], 1)
