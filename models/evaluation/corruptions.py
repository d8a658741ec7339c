"""The three corruptions at five severities, on 8-bit display pixels, and DICOM copies made of them.

Gaussian noise (σ of the range), JPEG quality, motion blur (radius and σ in pixels of a 224-pixel
side, scaled by side/224; angle uniform in ±45°). Deterministic: the seed is a hash of the image's
SOP Instance UID, corruption and severity.
"""

from __future__ import annotations

import hashlib
import io
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

NOISE = [0.04, 0.08, 0.12, 0.18, 0.26]
JPEG = [50, 30, 15, 10, 7]
MOTION = [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)]
CORRUPTIONS = ("noise", "jpeg", "motion")
SEVERITIES = (1, 2, 3, 4, 5)


def generator(uid: str, corruption: str, severity: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{uid}/{corruption}/{severity}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def blur(pixels: np.ndarray, radius: float, sigma: float, angle: float) -> np.ndarray:
    """One-sided motion along `angle` (degrees): Gaussian weights of what was `0 … 2·radius` pixels
    before; the edges are repeated, places between pixels interpolated.
    """
    steps = np.arange(2 * round(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    dy, dx = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    taps: dict[tuple[int, int], float] = {}  # a step lies between the same four pixels everywhere
    for step, weight in zip(steps, weights, strict=True):
        y, x = math.floor(step * dy), math.floor(step * dx)
        fy, fx = step * dy - y, step * dx - x
        for at_y, share_y in ((y, 1 - fy), (y + 1, fy)):
            for at_x, share_x in ((x, 1 - fx), (x + 1, fx)):
                taps[at_y, at_x] = taps.get((at_y, at_x), 0.0) + weight * share_y * share_x
    (rows, cols), pad = pixels.shape, len(steps) + 1
    padded = np.pad(pixels.astype(np.float32), pad, mode="edge")
    out = np.zeros(pixels.shape, np.float32)
    for (y, x), weight in taps.items():
        if weight:
            top, left = pad + y, pad + x
            out += np.float32(weight) * padded[top : top + rows, left : left + cols]
    return out


def corrupt(pixels: np.ndarray, uid: str, corruption: str, severity: int) -> np.ndarray:
    """(rows, cols) uint8 → the same, corrupted."""
    rng = generator(uid, corruption, severity)
    if corruption == "noise":
        noisy = pixels / 255 + rng.normal(0, NOISE[severity - 1], pixels.shape)
        return np.round(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    if corruption == "jpeg":
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=JPEG[severity - 1])
        return np.asarray(Image.open(file).convert("L"))
    radius, sigma = (v * min(pixels.shape) / 224 for v in MOTION[severity - 1])
    blurred = blur(pixels.astype(np.float32), radius, sigma, rng.uniform(-45, 45))
    return np.round(np.clip(blurred, 0, 255)).astype(np.uint8)


def display_pixels(program: str, file: Path) -> np.ndarray:
    """What a viewer shows of the first frame, 8 bits, as the engine itself makes it."""
    with tempfile.NamedTemporaryFile(suffix=".npy") as out:
        subprocess.run([program, "dicom", "frame", str(file), "-o", out.name], check=True)
        return np.load(out.name)


def corrupted_copy(
    program: str, file: Path, target: Path, corruption: str, severity: int
) -> None:
    """A copy of a single-frame greyscale object whose pixels are the corrupted display pixels."""
    dataset = pydicom.dcmread(file)
    pixels = display_pixels(program, file)
    if pixels.ndim != 2 or int(dataset.get("NumberOfFrames", 1)) != 1:
        raise SystemExit(f"{file}: only single-frame greyscale images can be corrupted")
    pixels = corrupt(pixels, str(dataset.SOPInstanceUID), corruption, severity)
    for keyword in ("WindowCenter", "WindowWidth", "VOILUTSequence", "ModalityLUTSequence",
                    "RescaleIntercept", "RescaleSlope", "RescaleType", "PixelPaddingValue",
                    "SmallestImagePixelValue", "LargestImagePixelValue"):  # fmt: skip
        dataset.pop(keyword, None)
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = "128", "256"
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(target, enforce_file_format=True)
