"""Segmenter (DESIGN.md, "The network", 2): SAM 2 image path, box head, gate, hull mask, region of
interest.

The SAM 2 part is Hugging Face's `Sam2Model`, so names and arithmetic are its own; this file adds
what runs it with nobody there to click. Two structures: the image-left lung first, then the
image-right one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

from . import preprocess

STRUCTURES = 2

# bundle.json's `segmentation` for both lungs: what ships, and what the builder starts from
SEGMENTATION = {
    "mask_dilation": 0.02,
    "mask_blur": 0.02,
    "background": 0.3,
    "roi_margin": 0.05,
    "refine": True,
    "gate": {
        "iou_score": 0.5,
        "object_score": 0.0,
        "stability": 0.8,
        "area": [0.03, 0.40],
        "ratio": 0.25,
    },
}


class BoxHead(nn.Module):
    """Boxes of both structures from the image embedding: where (soft-argmax of a heat map) and how
    large.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.heatmap = nn.Conv2d(hidden, STRUCTURES, 1)
        self.size = nn.Conv2d(hidden, 2 * STRUCTURES, 1)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """embedding (b, C, h, w) → boxes (b, 2, 4) as x0 y0 x1 y1 in [0, 1] of the frame, not
        clipped.
        """
        b, _, h, w = embedding.shape
        x = F.relu(self.conv2(F.relu(self.conv1(embedding))))
        weight = self.heatmap(x).flatten(2).softmax(-1)  # (b, 2, h·w)
        column = ((torch.arange(w, device=x.device) + 0.5) / w).repeat(h)
        row = ((torch.arange(h, device=x.device) + 0.5) / h).repeat_interleave(w)
        centre = torch.stack([weight @ column, weight @ row], -1)  # (b, 2, 2) as x, y
        size = self.size(x).view(b, STRUCTURES, 2, h * w)  # channels: w0 h0 w1 h1
        size = (size * weight[:, :, None]).sum(-1).sigmoid()
        return torch.cat([centre - size / 2, centre + size / 2], -1)


@dataclass
class Decoded:
    """What one decoder pass says of every structure. n = images × 2."""

    logits: torch.Tensor  # (n, h, w) low-resolution mask logits
    iou: torch.Tensor  # (n) predicted IoU
    object_score: torch.Tensor  # (n) logit


class Segmenter(nn.Module):
    """Sam2Model, or Sam2VideoModel with its memory, plus a box head on its image embedding, if it
    has learnt one.
    """

    def __init__(self, config: Sam2Config | Sam2VideoConfig, box_hidden: int | None) -> None:
        super().__init__()
        self.config = config
        video = isinstance(config, Sam2VideoConfig)
        self.sam2 = Sam2VideoModel(config) if video else Sam2Model(config)
        channels = config.vision_config.fpn_hidden_size
        self.box_head = BoxHead(channels, box_hidden) if box_hidden else None
        self.size = config.prompt_encoder_config.image_size

    def embed(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """pixel_values (b, 3, s, s) → [stride 4, stride 8, stride 16 + no_memory_embedding], each
        (b, C, h, w).
        """
        maps = list(self.sam2.vision_encoder(pixel_values, return_dict=True).fpn_hidden_states)
        maps[0] = self.sam2.mask_decoder.conv_s0(maps[0])
        maps[1] = self.sam2.mask_decoder.conv_s1(maps[1])
        maps[2] = maps[2] + self.sam2.no_memory_embedding.view(1, -1, 1, 1)
        return maps

    def boxes(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Boxes (b, 2, 4) in segmenter pixels."""
        return self.box_head(maps[2]) * self.size

    def decode(
        self, maps: list[torch.Tensor], boxes: torch.Tensor, masks: torch.Tensor | None = None
    ) -> Decoded:
        """One decoder call for all boxes (b, 2, 4); `masks` (2b, 1, 4h, 4w) are logits fed back as
        mask prompt.

        Every box is an image of its own in the batch, because a mask prompt belongs to one box.
        """
        n = boxes.shape[0] * STRUCTURES
        maps = [m.repeat_interleave(STRUCTURES, 0) for m in maps]
        sparse, dense = self.sam2.prompt_encoder(None, None, boxes.reshape(n, 1, 4), masks)
        position = self.sam2.get_image_wide_positional_embeddings().repeat(n, 1, 1, 1)
        logits, iou, _, score = self.sam2.mask_decoder(
            image_embeddings=maps[2],
            image_positional_embeddings=position,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            high_resolution_features=maps[:2],
        )
        return Decoded(logits[:, 0, 0], iou[:, 0, 0], score[:, 0, 0])

    def forward(
        self, pixel_values: torch.Tensor, refine: bool, boxes: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Decoded]:
        """Boxes (b, 2, 4) in segmenter pixels (given, or the head's) and the last decoder pass."""
        maps = self.embed(pixel_values)
        if boxes is None:
            boxes = self.boxes(maps)
        decoded = self.decode(maps, boxes)
        if refine:
            decoded = self.decode(maps, boxes, decoded.logits[:, None])
        return boxes, decoded


def largest_component(mask: torch.Tensor) -> torch.Tensor:
    """Boolean (rows, cols) → its largest 8-connected component, of equals the one met first row by
    row: a speck far away would stretch the hull over the whole frame.
    """
    labels, count = ndimage.label(mask.numpy(), np.ones((3, 3)))
    if count < 2:
        return mask
    return torch.from_numpy(labels == 1 + np.bincount(labels.ravel())[1:].argmax())


def masks_of(logits: torch.Tensor, size: int) -> torch.Tensor:
    """Mask logits (n, h, w) → bilinear at the segmenter's size → boolean (n, size, size), of each
    the largest component.
    """
    full = F.interpolate(logits[:, None], (size, size), mode="bilinear", align_corners=False)
    return torch.stack([largest_component(mask) for mask in full[:, 0] > 0])


def stability(logits: torch.Tensor) -> torch.Tensor:
    """Share of the area kept between logits > −0.05 and > +0.05; 1 when there is none."""
    inner = (logits > 0.05).flatten(1).sum(1).float()
    outer = (logits > -0.05).flatten(1).sum(1).float()
    return torch.where(outer > 0, inner / outer.clamp(min=1), torch.ones_like(inner))


def passes_gate(decoded: Decoded, masks: torch.Tensor, gate: dict) -> bool:
    """Whether both structures of one frame are believable; `masks` (2, size, size) boolean."""
    area = masks.flatten(1).float().mean(1)
    each = (
        (decoded.iou >= gate["iou_score"])
        & (decoded.object_score >= gate["object_score"])
        & (stability(decoded.logits) >= gate["stability"])
        & (area >= gate["area"][0])
        & (area <= gate["area"][1])
    )
    return bool(each.all()) and bool(area.min() >= gate["ratio"] * area.max())


def convex_hull(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Andrew's monotone chain over integer (x, y); collinear points are dropped."""
    points = sorted(set(points))
    if len(points) < 3:
        return points

    def half(ordered: list[tuple[int, int]]) -> list[tuple[int, int]]:
        chain: list[tuple[int, int]] = []
        for x, y in ordered:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return half(points) + half(points[::-1])


def fill_hull(mask: torch.Tensor) -> torch.Tensor:
    """Boolean (rows, cols) → the pixels whose centre lies in or on the convex hull of the set
    pixels' centres.
    """
    rows, cols = mask.shape
    ends = [
        (int(x), y)
        for y in range(rows)
        if mask[y].any()
        for x in (mask[y].nonzero()[0, 0], mask[y].nonzero()[-1, 0])
    ]
    hull = convex_hull(ends)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    inside = torch.ones(rows, cols, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(hull, hull[1:] + hull[:1]):
        inside &= (bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0
    if len(hull) < 3:  # a point or a segment: the pixels between its ends that lie on it
        xs, ys = [p[0] for p in hull], [p[1] for p in hull]
        inside &= (x >= min(xs)) & (x <= max(xs)) & (y >= min(ys)) & (y <= max(ys))
    return inside


def dilate(mask: torch.Tensor, radius: float) -> torch.Tensor:
    """Boolean dilation with the disc dx² + dy² ≤ radius²."""
    reach = math.floor(radius)
    offset = torch.arange(-reach, reach + 1)
    disc = (offset[:, None] ** 2 + offset[None, :] ** 2 <= radius * radius).float()
    return F.conv2d(mask[None, None].float(), disc[None, None], padding=reach)[0, 0] > 0


def blur(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian of a float mask, cut at ceil(3σ), normalised, edges repeated."""
    if sigma <= 0:
        return mask
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1).double() ** 2) / (2 * sigma * sigma))
    kernel = (kernel / kernel.sum()).float()
    x = F.pad(mask[None, None], (reach, reach, 0, 0), mode="replicate")
    x = F.conv2d(x, kernel[None, None, None, :])
    x = F.pad(x, (0, 0, reach, reach), mode="replicate")
    return F.conv2d(x, kernel[None, None, :, None])[0, 0]


@dataclass
class Region:
    """How one frame is shown to the vision module."""

    status: str  # ok | fallback | off
    box: tuple[int, int, int, int]  # x0 y0 x1 y1 in frame pixels, half-open
    weight: torch.Tensor | None  # m (rows, cols) in [0, 1]; None = 1 everywhere
    iou: float | None  # the smaller predicted IoU of the two structures


def region_of(
    masks: torch.Tensor, frame_size: tuple[int, int], options: dict
) -> tuple[tuple[int, int, int, int], torch.Tensor]:
    """masks (2, s, s) boolean → region of interest in frame pixels, m at the frame's size."""
    size = masks.shape[-1]
    hull = dilate(fill_hull(masks.any(0)), options["mask_dilation"] * size)
    weight = preprocess.resize(blur(hull.float(), options["mask_blur"] * size), frame_size)
    rows, cols = torch.nonzero(hull.any(1))[:, 0], torch.nonzero(hull.any(0))[:, 0]

    def span(where: torch.Tensor, length: int) -> tuple[int, int]:
        low, high = int(where[0]), int(where[-1]) + 1
        margin = options["roi_margin"] * (high - low)
        low_px, high_px = (low - margin) * length / size, (high + margin) * length / size
        return max(0, math.floor(low_px)), min(length, math.ceil(high_px))

    (y0, y1), (x0, x1) = span(rows, frame_size[0]), span(cols, frame_size[1])
    return (x0, y0, x1, y1), weight
