"""What the thorax-nih bundle says about itself: bundle.json and features.json."""
from __future__ import annotations

SEGMENTATION = {
    "mask_dilation": 0.02, "mask_blur": 0.02, "background": 0.3, "roi_margin": 0.05, "refine": True,
    "gate": {"iou_score": 0.5, "object_score": 0.0, "stability": 0.8, "area": [0.03, 0.40], "ratio": 0.25},
}
