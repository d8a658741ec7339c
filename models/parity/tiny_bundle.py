"""The tiny bundles' features.json and bundle.json, and frames to show them."""

from __future__ import annotations

import torch

from .tiny import SEGMENTER_SIZE

FEATURES = {
    "schema": "medfusion.features/1",
    "features": [
        {
            "id": "age",
            "display": "Age",
            "kind": "numeric",
            "unit": "a",
            "conversions": {},
            "sources": ["fhir:Patient.birthDate", "dicom:PatientAge", "dicom:PatientBirthDate"],
            "pick": "last",
            "window": None,
            "range": [0, 120],
            "mean": 50.0,
            "std": 17.0,
        },
        {
            "id": "crp",
            "display": "C-reactive protein",
            "kind": "numeric",
            "unit": "mg/L",
            "conversions": {"mg/dL": 10},
            "sources": [{"fhir": [{"system": "http://loinc.org", "code": "1988-5"}]}],
            "pick": "last",
            "window": "P7D",
            "range": [0, 600],
            "mean": 40.0,
            "std": 60.0,
        },
        {
            "id": "temperature",
            "display": "Body temperature",
            "kind": "numeric",
            "unit": "Cel",
            "conversions": {"[degF]": [0.5555556, -17.7777778]},
            "sources": [{"fhir": [{"system": "http://loinc.org", "code": "8310-5"}]}],
            "pick": "max",
            "window": "P1D",
            "range": [25, 45],
            "mean": 37.2,
            "std": 0.8,
        },
        {
            "id": "sex",
            "display": "Sex",
            "kind": "categorical",
            "sources": ["fhir:Patient.gender", "dicom:PatientSex"],
            "categories": ["female", "male"],
            "map": {"F": "female", "M": "male"},
        },
        {
            "id": "view",
            "display": "View",
            "kind": "categorical",
            "sources": ["dicom:ViewPosition"],
            "categories": ["PA", "AP", "LL", "RL", "LATERAL"],
            "map": {},
        },
    ],
}


def bundle_json(
    name: str, segmenter: str, vision: str, temporal: str, ehr: str, equalisation: str = "none"
) -> dict:
    return {
        "schema": "medfusion.bundle/1",
        "name": name,
        "version": "0.0.1",
        "licence": "CC0-1.0",
        "intended_use": "Parity tests only: the weights are random.",
        "accepts": {"modalities": ["CR", "DX"], "views": [], "body_parts": [], "require": []},
        "labels": [{"id": f"L{i}", "display": f"Label {i}", "coding": []} for i in range(5)],
        "modules": {"segmenter": segmenter, "vision": vision, "temporal": temporal, "ehr": ehr},
        "directories": {
            "segmenter": "segmenter",
            "vision": "vision",
            "temporal": "temporal",
            "ehr": "ehr",
            "fusion": "fusion",
        }
        if segmenter != "none" and ehr != "none"
        else {
            k: k
            for k in ("segmenter", "vision", "temporal", "ehr", "fusion")
            if not (k == "segmenter" and segmenter == "none") and not (k == "ehr" and ehr == "none")
        },
        "preprocessing": {
            "equalisation": equalisation,
            "segmenter": {
                "size": [SEGMENTER_SIZE, SEGMENTER_SIZE],
                "mean": [0.5, 0.45, 0.4],
                "std": [0.25, 0.22, 0.2],
            },
            "vision": {"size": [70, 56], "mean": [0.5, 0.48, 0.46], "std": [0.25, 0.27, 0.29]},
            "voxel_spacing_mm": None,
        },
        "segmentation": {
            "mask_dilation": 0.03,
            "mask_blur": 0.02,
            "background": 0.3,
            "roi_margin": 0.05,
            "refine": True,
            "gate": {
                "iou_score": 0.05,
                "object_score": -20.0,
                "stability": 0.3,
                "area": [0.002, 0.98],
                "ratio": 0.01,
            },
        },
        "regions": 4,
        "sequence": {"max_frames": 32, "position": "rank"},
    }


def frame(rows: int, cols: int, g: torch.Generator) -> torch.Tensor:
    """A smooth grey picture with two dark ellipses and noise, in [0, 1]."""
    y = (torch.arange(rows)[:, None] + 0.5) / rows
    x = (torch.arange(cols)[None, :] + 0.5) / cols
    shift = (torch.rand(6, generator=g) - 0.5) * 0.1
    image = 0.75 - 0.3 * (y - 0.5 + shift[4]) ** 2 + 0.1 * torch.sin(7 * x + shift[5])
    for centre, k in ((0.3, 0), (0.7, 2)):
        inside = ((x - centre - shift[k]) / 0.14) ** 2 + ((y - 0.45 - shift[k + 1]) / 0.28) ** 2
        image = image - 0.5 * torch.sigmoid((1 - inside) * 8)
    return (image + 0.03 * torch.randn(rows, cols, generator=g)).clamp(0, 1)
