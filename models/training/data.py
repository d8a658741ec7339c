"""The NIH images of one training run: labels, patient-level splits, cached frames, augmentation.

Splits are made once per patient and written to splits.csv; every later step reads that file, so a
test patient stays a test patient. Frames are cached as 8-bit arrays because the JPEGs are decoded
hundreds of times.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

LABELS = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
]
PARTS = {"train": 0.50, "validation": 0.10, "calibration": 0.25, "test": 0.15}


def make_splits(
    table: pd.DataFrame, seed: int = 20240611, shares: dict[str, float] = PARTS
) -> pd.DataFrame:
    """Iterative stratification (Sechidis 2011) of patients: the rarest label is dealt out first,
    each of its patients to the part that still needs it most. Returns patient_id, split.
    """
    rng = np.random.default_rng(seed)
    patients = table.groupby("patient_id")[LABELS].max()
    patients["ap"] = (
        table.assign(ap=table["view"] == "AP").groupby("patient_id")["ap"].max().astype(int)
    )
    patients["series"] = (table.groupby("patient_id").size() > 1).astype(int)
    names, share = list(shares), np.array(list(shares.values()))
    wanted_patients = share * len(patients)
    wanted = {label: share * patients[label].sum() for label in patients.columns}
    left = patients.sample(frac=1, random_state=int(rng.integers(1 << 31)))
    chosen: dict[int, str] = {}

    def deal(patient: int, row: pd.Series, label: str | None) -> None:
        need = wanted[label] if label else wanted_patients
        best = np.flatnonzero(need == need.max())
        best = best[wanted_patients[best] == wanted_patients[best].max()]
        part = int(rng.choice(best))
        chosen[patient] = names[part]
        wanted_patients[part] -= 1
        for name in patients.columns:
            wanted[name][part] -= row[name]

    while len(left):
        counts = left.sum()
        counts = counts[counts > 0]
        label = counts.idxmin() if len(counts) else None
        group = left[left[label] == 1] if label else left
        for patient, row in group.iterrows():
            deal(patient, row, label)
        left = left.drop(group.index)
    return pd.DataFrame(sorted(chosen.items()), columns=["patient_id", "split"])


def load_table(nih: Path, splits: Path) -> pd.DataFrame:
    """labels.csv ordered by patient and follow-up number, with its split; makes splits.csv when it
    is absent.
    """
    table = pd.read_csv(nih / "labels.csv")
    if not splits.exists():
        splits.parent.mkdir(parents=True, exist_ok=True)
        make_splits(table).to_csv(splits, index=False)
    table = table.merge(pd.read_csv(splits), on="patient_id", validate="many_to_one")
    return table.sort_values(["patient_id", "follow_up"]).reset_index(drop=True)


def read_grey(path: Path) -> np.ndarray:
    """(rows, cols) uint8: what `medfusion dicom frame --stage display` gives for an 8-bit
    MONOCHROME2 image.
    """
    return np.asarray(Image.open(path).convert("L"))


def cached_frames(paths: list[Path], size: int, cache: Path) -> np.ndarray:
    """(n, size, size) uint8, antialiased bilinear, kept as one .npy file."""
    if cache.exists():
        return np.load(cache)
    frames = np.empty((len(paths), size, size), np.uint8)
    for i, path in enumerate(paths):
        image = torch.from_numpy(read_grey(path).copy())[None, None].float()
        image = F.interpolate(image, (size, size), mode="bilinear", antialias=True)
        frames[i] = image.round().clamp(0, 255).byte().numpy()[0, 0]
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.save(cache, frames)
    return frames


def auxiliary_targets(table: pd.DataFrame) -> np.ndarray:
    """(n, 3): view AP, sex male, standardised age. Predicting them regularises a vision network on
    few images.
    """
    return np.stack(
        [table["view"] == "AP", table["sex"] == "M", (table["age"] - 46.0) / 17.0], 1
    ).astype(np.float32)


def progress_bar(items, name: str):
    """`items` with a progress bar when stderr is a terminal."""
    return tqdm(items, desc=name, leave=False, disable=None)


@dataclass
class Augmentation:
    """Random geometry and grey values of one training view. Shares are of the box that is looked
    at.
    """

    scale: tuple[float, float] = (0.65, 1.05)  # side of the view relative to the box
    aspect: float = 0.12  # log range
    rotation: float = 12.0  # degrees
    shift: float = 0.08
    flip: float = 0.5
    gamma: float = 0.35  # log range
    contrast: float = 0.25
    noise: float = 0.02
    erase: float = 0.25  # probability of one erased rectangle

    def grid(self, boxes: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
        """Sampling grid (b, size, size, 2) of randomly changed views of `boxes` (b, 4: x0 y0 x1 y1
        in [0, 1]).
        """
        b = len(boxes)

        def uniform(low: float, high: float) -> torch.Tensor:
            return torch.rand(b, generator=generator) * (high - low) + low

        scale, ratio = uniform(*self.scale), torch.exp(uniform(-self.aspect, self.aspect))
        angle = uniform(-self.rotation, self.rotation) * torch.pi / 180
        flip = torch.where(torch.rand(b, generator=generator) < self.flip, -1.0, 1.0)
        half = (
            boxes[:, 2:] - boxes[:, :2]
        )  # box side in [-1, 1] coordinates is 2·side, half is side
        centre = boxes[:, 2:] + boxes[:, :2] - 1
        room = (1.0 - scale).clamp(min=0)
        centre_x = centre[:, 0] + half[:, 0] * (
            uniform(-1, 1) * room + uniform(-self.shift, self.shift)
        )
        centre_y = centre[:, 1] + half[:, 1] * (
            uniform(-1, 1) * room + uniform(-self.shift, self.shift)
        )
        sx, sy = half[:, 0] * scale * ratio, half[:, 1] * scale / ratio
        cos, sin = torch.cos(angle), torch.sin(angle)
        theta = torch.stack(
            [
                torch.stack([cos * sx * flip, -sin * sx, centre_x], 1),
                torch.stack([sin * sy * flip, cos * sy, centre_y], 1),
            ],
            1,
        )
        return F.affine_grid(theta, [b, 1, size, size], align_corners=False)

    def grey(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Gamma, contrast, brightness, noise, one erased rectangle; x (b, 1, s, s) in [0, 1]."""
        b, size = len(x), x.shape[-1]

        def uniform(low: float, high: float) -> torch.Tensor:
            return (torch.rand(b, generator=generator) * (high - low) + low)[:, None, None, None]

        x = x.clamp(0, 1).pow(torch.exp(uniform(-self.gamma, self.gamma)))
        x = (x - 0.5) * (1 + uniform(-self.contrast, self.contrast)) + 0.5 + uniform(-0.1, 0.1)
        x = x + torch.randn(x.shape, generator=generator) * (uniform(0, 1) * self.noise)
        for i in torch.nonzero(torch.rand(b, generator=generator) < self.erase)[:, 0].tolist():
            h, w = (torch.rand(2, generator=generator) * 0.25 * size + 0.08 * size).int().tolist()
            top, left = (
                int(torch.randint(size - h, (1,), generator=generator)),
                int(torch.randint(size - w, (1,), generator=generator)),
            )
            x[i, :, top : top + h, left : left + w] = torch.rand(1, generator=generator)
        return x

    def __call__(
        self, frames: torch.Tensor, boxes: torch.Tensor, size: int, generator: torch.Generator
    ) -> torch.Tensor:
        """frames (b, 1, H, W) in [0, 1] → (b, 1, size, size)."""
        grid = self.grid(boxes, size, generator)
        return self.grey(
            F.grid_sample(frames, grid, padding_mode="border", align_corners=False), generator
        )


def mixup(
    x: torch.Tensor, y: torch.Tensor, alpha: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Convex mixture of a batch with a permutation of itself, one weight per image."""
    weight = torch._sample_dirichlet(torch.full((len(x), 2), alpha), generator=generator)[:, 0]
    other = torch.randperm(len(x), generator=generator)
    wx = weight.view(-1, *[1] * (x.dim() - 1))
    wy = weight.view(-1, *[1] * (y.dim() - 1))
    return wx * x + (1 - wx) * x[other], wy * y + (1 - wy) * y[other]


def macro_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean AUROC over the labels that have both classes."""
    from sklearn.metrics import roc_auc_score

    both = [c for c in range(labels.shape[1]) if 0 < labels[:, c].sum() < len(labels)]
    return float(np.mean([roc_auc_score(labels[:, c], scores[:, c]) for c in both]))
