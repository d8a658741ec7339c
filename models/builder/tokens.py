"""Frozen features: region tokens of every image, computed once and kept in a cache folder.

A cache entry belongs to one image file (path, size, time) and one set of frozen weights and
preprocessing, so nothing stale is ever read.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from medfusion.network import MedFusion
from medfusion.vision import region_tokens
from PIL import Image
from safetensors.torch import load_file, save_file
from tqdm import tqdm


def load_frame(path: Path, program: Path | None) -> torch.Tensor:
    """(rows, cols) float32 in [0, 1]. DICOM goes through `medfusion dicom frame`: the program's own
    display rule.
    """
    if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
        grey = Image.open(path).convert("L")
        return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)
    if program is None:
        raise ValueError(f"{path}: DICOM needs --program")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "frame.npy"
        subprocess.run([program, "dicom", "frame", path, "-o", out], check=True)
        return torch.from_numpy(np.load(out).astype(np.float32) / 255)


def fingerprint(folders: list[Path], bundle: dict) -> str:
    """Of the frozen checkpoints' files and of what is done to a frame before them."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")):
            with file.open("rb") as stream:
                digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    parts = [bundle[key] for key in ("preprocessing", "segmentation", "regions")]
    digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()


@torch.no_grad()
def tokens_of(model: MedFusion, path: Path, device: str, program: Path | None) -> torch.Tensor:
    """(R·R + 1, dv) of one image."""
    frame = model.equalise(load_frame(path, program))
    region = model.regions([frame], None)[0][0]
    pixels = model.vision_input(frame, region)[None].to(device)
    return region_tokens(model.vision, pixels, model.bundle["regions"])[0].cpu()


def all_tokens(
    model: MedFusion, paths: list[str], cache: Path, key: str, device: str, program: Path | None
) -> tuple[torch.Tensor, int]:
    """(images, R·R + 1, dv) as float16, and how many had to be computed."""
    model.vision.to(device)
    folder, computed, out = cache / key[:16], 0, []
    for name in tqdm(paths, "frozen features", disable=None):
        path = Path(name)
        stat = path.stat()
        identity = f"{key} {path} {stat.st_size} {stat.st_mtime_ns}"
        entry = hashlib.sha256(identity.encode()).hexdigest()
        file = folder / entry[:2] / f"{entry}.safetensors"
        if file.exists():
            out.append(load_file(file)["tokens"])
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        tokens = tokens_of(model, path, device, program).half()
        save_file({"tokens": tokens.contiguous()}, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
        out.append(tokens)
        computed += 1
    return torch.stack(out), computed
