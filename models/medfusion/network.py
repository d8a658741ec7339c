"""The whole network: frames and EHR features of one study in, logits and every intermediate stage
out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from . import preprocess
from .ehr import FtTransformer
from .fusion import Fusion
from .prompts import lung_boxes
from .segmenter import Decoded, Region, Segmenter, masks_of, passes_gate, region_of
from .stack import follow
from .temporal import Temporal
from .vision import region_tokens


@dataclass
class Ehr:
    """Features of one patient, in the order of features.json; every feature missing when there is
    no EHR.
    """

    x_cont: torch.Tensor  # (n_cont) standardised
    x_cat: torch.Tensor  # (n_cat) category indices
    missing: torch.Tensor  # (n_cont + n_cat) boolean


@dataclass
class Output:
    """What one study gives, stage by stage."""

    logits: torch.Tensor  # (labels)
    regions: list[Region]
    boxes: torch.Tensor | None  # (frames, 2, 4) segmenter pixels
    mask_logits: torch.Tensor | None  # (frames, 2, h, w)
    iou: torch.Tensor | None  # (frames, 2)
    object_score: torch.Tensor | None  # (frames, 2)
    stages: dict[str, torch.Tensor] = field(default_factory=dict)


class MedFusion(nn.Module):
    """The modules of one bundle; `segmenter` and `ehr` may be None. `bundle` is the content of
    bundle.json.
    """

    def __init__(
        self,
        bundle: dict,
        segmenter: Segmenter | None,
        vision: nn.Module,
        temporal: Temporal,
        ehr: FtTransformer | None,
        fusion: Fusion,
    ) -> None:
        super().__init__()
        self.bundle = bundle
        self.segmenter, self.vision, self.temporal, self.ehr, self.fusion = (
            segmenter,
            vision,
            temporal,
            ehr,
            fusion,
        )

    def equalise(self, frame: torch.Tensor) -> torch.Tensor:
        return preprocess.EQUALISE[self.bundle["preprocessing"]["equalisation"]](frame)

    def segmenter_input(self, frame: torch.Tensor) -> torch.Tensor:
        """Equalised frame (rows, cols) → (3, s, s)."""
        options = self.bundle["preprocessing"]["segmenter"]
        return preprocess.normalise(
            preprocess.resize(frame, tuple(options["size"])), options["mean"], options["std"]
        )

    def vision_input(self, frame: torch.Tensor, region: Region) -> torch.Tensor:
        """Equalised frame, weighted, cropped and stretched → (3, H, W)."""
        options, background = (
            self.bundle["preprocessing"]["vision"],
            self.bundle["segmentation"]["background"],
        )
        if region.weight is not None:
            frame = frame * (background + (1 - background) * region.weight)
        x0, y0, x1, y1 = region.box
        crop = preprocess.resize(frame[y0:y1, x0:x1], tuple(options["size"]))
        return preprocess.normalise(crop, options["mean"], options["std"])

    def prompts(
        self, frames: list[torch.Tensor], pixels: torch.Tensor, boxes: torch.Tensor | None
    ) -> list[torch.Tensor | None]:
        """Boxes (2, 4) of every frame: given, the box head's, or those of the dark components."""
        if boxes is not None:
            return list(boxes)
        if self.segmenter.box_head is not None:
            return list(self.segmenter.boxes(self.segmenter.embed(pixels)))
        size = tuple(self.bundle["preprocessing"]["segmenter"]["size"])
        return [lung_boxes(preprocess.resize(frame, size)) for frame in frames]

    def stack(
        self, frames: list[torch.Tensor], pixels: torch.Tensor, boxes: torch.Tensor | None
    ) -> tuple[list[int], torch.Tensor, Decoded] | None:
        """Both lungs on every slice, from boxes on the middle one; None when there are none."""
        key = len(frames) // 2
        given = boxes[key : key + 1] if boxes is not None else None
        box = self.prompts(frames[key : key + 1], pixels[key : key + 1], given)[0]
        if box is None:
            return None
        refine = self.bundle["segmentation"]["refine"]
        masks, iou, scores = follow(self.segmenter.sam2, pixels, key, box, refine)
        all_boxes = torch.zeros(len(frames), *box.shape)
        all_boxes[key] = box
        decoded = Decoded(masks.flatten(0, 1), iou.flatten(), scores.flatten())
        return list(range(len(frames))), all_boxes, decoded

    def segment(
        self, frames: list[torch.Tensor], pixels: torch.Tensor, boxes: torch.Tensor | None
    ) -> tuple[list[int], torch.Tensor, Decoded] | None:
        """Which frames have boxes, these (n, 2, 4), and the last decoder pass on them; None when
        none has.
        """
        if self.bundle["segmentation"].get("propagate", False):
            return self.stack(frames, pixels, boxes)
        found = self.prompts(frames, pixels, boxes)
        which = [i for i, box in enumerate(found) if box is not None]
        if not which:
            return None
        given = torch.stack([found[i] for i in which])
        refine = self.bundle["segmentation"]["refine"]
        return which, *self.segmenter(pixels[which], refine, given)

    def regions(
        self, frames: list[torch.Tensor], boxes: torch.Tensor | None
    ) -> tuple[list[Region], dict]:
        """The region of every equalised frame, and the segmenter's own outputs."""
        whole = [(0, 0, frame.shape[1], frame.shape[0]) for frame in frames]
        if self.segmenter is None:
            return [Region("off", box, None, None) for box in whole], {}
        options = self.bundle["segmentation"]
        pixels = torch.stack([self.segmenter_input(frame) for frame in frames])
        regions = [Region("fallback", box, None, None) for box in whole]
        segmented = self.segment(frames, pixels, boxes)
        if segmented is None:
            return regions, {}
        which, boxes, decoded = segmented
        masks = masks_of(decoded.logits, self.segmenter.size).unflatten(0, (-1, 2))
        for n, i in enumerate(which):
            own = Decoded(
                *(
                    getattr(decoded, name)[2 * n : 2 * n + 2]
                    for name in ("logits", "iou", "object_score")
                )
            )
            iou = float(own.iou.min())
            regions[i] = Region("fallback", whole[i], None, iou)
            if passes_gate(own, masks[n], options["gate"]):
                box, weight = region_of(masks[n], tuple(frames[i].shape), options)
                regions[i] = Region("ok", box, weight, iou)
        if len(which) < len(frames):
            return regions, {}
        pairs = {
            "mask_logits": decoded.logits,
            "iou": decoded.iou,
            "object_score": decoded.object_score,
        }
        return regions, {"boxes": boxes, **{k: v.unflatten(0, (-1, 2)) for k, v in pairs.items()}}

    @torch.no_grad()
    def forward(
        self,
        frames: list[torch.Tensor],
        ehr: Ehr | None = None,
        where: torch.Tensor | None = None,
        boxes: torch.Tensor | None = None,
    ) -> Output:
        """frames: (rows, cols) float32 in [0, 1], oldest first, at most max_frames; where: see
        Temporal.positions; boxes (frames, 2, 4): injected instead of the box head's, to compare
        stage by stage.
        """
        frames = [self.equalise(frame) for frame in frames]
        regions, segmented = self.regions(frames, boxes)
        pixels = torch.stack(
            [self.vision_input(frame, region) for frame, region in zip(frames, regions)]
        )
        tokens = region_tokens(self.vision, pixels, self.bundle["regions"])
        image = self.temporal(tokens[None], where)
        stages = {"pixel_values": pixels, "region_tokens": tokens, "temporal": image}
        context = None
        if self.ehr is not None:
            config = self.ehr.config
            n_cont, n_cat = config["n_cont"], len(config["cat_cardinalities"])
            if ehr is None:
                ehr = Ehr(
                    torch.zeros(n_cont),
                    torch.zeros(n_cat, dtype=torch.long),
                    torch.ones(n_cont + n_cat, dtype=torch.bool),
                )
            context = self.ehr(ehr.x_cont[None], ehr.x_cat[None], ehr.missing[None])
            stages["ehr"] = context
        fused, context = self.fusion.fuse(image, context)
        stages["fused_image"] = fused
        if context is not None:
            stages["fused_ehr"] = context
        stages["readout"] = self.fusion.readout(fused, context, self.bundle["regions"] ** 2 + 1)
        logits = self.fusion.head(stages["readout"])[0]
        return Output(
            logits,
            regions,
            segmented.get("boxes"),
            segmented.get("mask_logits"),
            segmented.get("iou"),
            segmented.get("object_score"),
            stages,
        )
