"""The two frozen checkpoints, and bundle.json around them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from medfusion import bundle as bundles
from medfusion.segmenter import SEGMENTATION, Segmenter
from torch import nn
from transformers import AutoModel, Sam2Model, Sam2VideoModel

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def load_vision(folder: Path) -> nn.Module:
    """Dinov2Model, Dinov2WithRegistersModel or ViTModel, in float32, whatever stands around it."""
    kind = bundles.read_json(folder / "config.json").get("model_type")
    if kind not in bundles.VISION:
        raise ValueError(f"{folder}: model_type {kind} is not one of {', '.join(bundles.VISION)}")
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


def load_segmenter(folder: Path) -> nn.Module:
    """A published SAM 2 (with a box head if one has been added to it), as the reference runs it."""
    config = bundles.read_json(folder / "config.json")
    if "box_head_hidden_size" in config:
        return bundles.load_module("segmenter", folder)
    kinds = {"sam2": Sam2Model, "sam2_video": Sam2VideoModel}
    if config.get("model_type") not in kinds:
        raise ValueError(f"{folder}: model_type {config.get('model_type')} is not sam2, sam2_video")
    sam2 = kinds[config["model_type"]].from_pretrained(folder, dtype=torch.float32)
    segmenter = Segmenter(sam2.config, None)
    segmenter.sam2 = sam2
    return segmenter.eval()


def input_of(folder: Path, size: int | None, fallback: int) -> dict:
    """Size, mean and std of a checkpoint's input, from its preprocessor_config.json."""
    path = folder / "preprocessor_config.json"
    given = json.loads(path.read_text()) if path.exists() else {}
    crop = given.get("crop_size") or given.get("size") or {}
    crop = crop if isinstance(crop, dict) else {"height": crop, "width": crop}
    rows, cols = crop.get("height", fallback), crop.get("width", fallback)
    return {
        "size": [size, size] if size else [rows, cols],
        "mean": given.get("image_mean", IMAGENET["mean"]),
        "std": given.get("image_std", IMAGENET["std"]),
    }


def describe(
    name: str,
    labels: list[str],
    vision: Path,
    segmenter: Path | None,
    ehr: bool,
    temporal: str,
    max_frames: int,
    vision_size: int | None,
) -> dict:
    """bundle.json; a DINOv2 of patch 14 without a preprocessor_config.json sees 518 × 518."""
    sees = {"equalisation": "none", "vision": input_of(vision, vision_size, 518)}
    modules = ["vision", "temporal", "fusion"] + (["ehr"] if ehr else [])
    if segmenter is not None:
        config = bundles.read_json(segmenter / "config.json")
        side = config["prompt_encoder_config"]["image_size"]
        sees["segmenter"] = input_of(segmenter, side, side)
        modules.append("segmenter")
    kind = bundles.read_json(vision / "config.json")["model_type"]
    return {
        "schema": "medfusion.bundle/1",
        "name": name,
        "version": "0.1.0",
        "licence": "That of the checkpoints and of the data it was trained on",
        "intended_use": "Research; not a medical device, not for diagnosis.",
        "accepts": {
            "modalities": ["CR", "DX"],
            "views": ["PA", "AP"],
            "body_parts": ["CHEST", "THORAX", "LUNG"],
            "require": [],
        },
        "labels": [
            {
                "id": "".join(c if c.isalnum() else "_" for c in label),
                "display": label,
                "coding": [],
            }
            for label in labels
        ],
        "modules": {
            "segmenter": "none" if segmenter is None else "sam2",
            "vision": "vit" if kind == "vit" else "dinov2",
            "temporal": temporal,
            "ehr": "ft_transformer" if ehr else "none",
        },
        "directories": {module: module for module in modules},
        "preprocessing": sees | {"voxel_spacing_mm": None},
        "segmentation": SEGMENTATION,
        "regions": 4,
        "sequence": {"max_frames": max_frames, "position": "rank"},
    }


def copy(folder: Path, out: Path) -> None:
    """The files of a checkpoint that the engine reads, unchanged."""
    out.mkdir(parents=True)
    names = ["config.json", "preprocessor_config.json"]
    single = folder / "model.safetensors"
    index = folder / "model.safetensors.index.json"
    if single.exists():
        names.append(single.name)
    else:
        shards = set(json.loads(index.read_text())["weight_map"].values())
        names += [index.name, *sorted(shards)]
    for name in names:
        if (folder / name).exists():
            shutil.copyfile(folder / name, out / name)
