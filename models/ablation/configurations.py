"""The seven configurations: which modules each has, and what the paper reports of it (CheXpert to
MIMIC-CXR; its AUROC and AUPRC, macro).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    name: str  # of its bundles, with -SEED behind it
    display: str
    encoder: str  # "vit": learnt here from the labels alone; "dinov2": the pretrained one
    segmented: bool
    temporal: str
    ehr: bool
    paper_auroc: float
    paper_auprc: float

    @property
    def longest(self) -> int:
        """Frames that it reads: without a sequence model there is nothing to say about earlier ones."""
        return 1 if self.temporal == "none" else 32


ALL = [
    Configuration("vit", "ViT", "vit", False, "none", False, 0.842, 0.791),
    Configuration("seg-vit", "Seg + ViT", "vit", True, "none", False, 0.863, 0.812),
    Configuration("dinov2", "DINOv2 + ViT", "dinov2", False, "none", False, 0.879, 0.828),
    Configuration("seg-dinov2", "Seg + DINOv2", "dinov2", True, "none", False, 0.894, 0.845),
    Configuration("transformer", "+ Transformer", "dinov2", True, "transformer", False, 0.902, 0.854),
    Configuration("mamba", "+ Mamba", "dinov2", True, "mamba", False, 0.917, 0.868),
    Configuration("full", "full (+ EHR)", "dinov2", True, "mamba", True, 0.936, 0.889),
]  # fmt: skip


def describe(bundle: dict, configuration: Configuration, seed: int) -> dict:
    """The bundle.json of the full network with what this configuration lacks taken out."""
    out = {**bundle, "name": f"ablation-{configuration.name}-{seed}"}
    out["modules"] = {**bundle["modules"], "temporal": configuration.temporal}
    out["directories"], out["preprocessing"] = dict(bundle["directories"]), dict(bundle["preprocessing"])
    if not configuration.segmented:
        out["modules"]["segmenter"] = "none"
        del out["directories"]["segmenter"], out["preprocessing"]["segmenter"]
    if not configuration.ehr:
        out["modules"]["ehr"] = "none"
        out["directories"].pop("ehr", None)
    out["sequence"] = {**bundle["sequence"], "max_frames": configuration.longest}
    return out
