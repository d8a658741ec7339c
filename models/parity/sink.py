"""Where a family's cases go: into tests/golden, or through `medfusion module run` into a table."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

# What each dtype must reach: the worst max|a−b| / max|reference|, and the least cosine.
LIMITS = {"f32": (1e-4, 0.999999), "bf16": (None, 0.999), "int8": (None, 0.995)}
MASK_IOU = {"f32": 0.999, "bf16": 0.99, "int8": 0.99}


class Sink:
    """Takes the cases of one model directory after another. `golden`: cases are kept as files, so
    they must be few and small.
    """

    golden = False

    def __init__(self, root: Path, only: str | None) -> None:
        self.root, self.only = root, only

    def wants(self, name: str) -> bool:
        return self.only is None or self.only in name

    def fresh(self, name: str) -> Path:
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def done(self, folder: Path) -> None:
        """No more cases for this directory."""

    def case(self, folder: Path, name: str, inputs: dict, expected: dict) -> None:
        raise NotImplementedError


class Golden(Sink):
    """Writes folder/cases/name/{input,expected}.safetensors."""

    golden = True

    def case(self, folder: Path, name: str, inputs: dict, expected: dict) -> None:
        target = folder / "cases" / name
        target.mkdir(parents=True)
        save(inputs, target / "input.safetensors")
        save(expected, target / "expected.safetensors")


@dataclass
class Row:
    """One output of one case in one dtype."""

    name: str
    dtype: str
    output: str
    shape: tuple[int, ...]
    most: float
    relative: float
    cosine: float
    iou: float | None
    ok: bool = field(init=False)

    def __post_init__(self) -> None:
        relative, cosine = LIMITS[self.dtype]
        self.ok = self.cosine >= cosine and (relative is None or self.relative <= relative)
        self.ok &= self.iou is None or self.iou >= MASK_IOU[self.dtype]


class Check(Sink):
    """Runs each case with the program and compares; directories go when they are done with."""

    def __init__(
        self, root: Path, only: str | None, program: Path, dtypes: list[str], table: Path | None
    ) -> None:
        super().__init__(root, only)
        self.program, self.dtypes, self.kept = program, dtypes, table
        self.rows: list[Row] = []
        self.failures: list[str] = []

    def done(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def case(self, folder: Path, name: str, inputs: dict, expected: dict) -> None:
        given, got = folder / "input.safetensors", folder / "output.safetensors"
        save(inputs, given)
        label = f"{folder.relative_to(self.root)}/{name}"
        for dtype in self.dtypes:
            start = time.monotonic()
            got.unlink(missing_ok=True)
            command = [self.program, "module", "run", folder, "--input", given, "--output", got]
            run = subprocess.run(
                [*command, "--dtype", dtype], check=False, capture_output=True, text=True
            )
            if run.returncode:
                self.fail(f"{label} {dtype}: {run.stderr.strip()}")
                continue
            outputs = load_file(got)
            for key, reference in expected.items():
                if key not in outputs:
                    self.fail(f"{label} {dtype}: no output {key}")
                    continue
                self.add(compare(label, dtype, key, outputs[key], as_stored(reference)))
            print(f"{label} {dtype}: {time.monotonic() - start:.1f} s", flush=True)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if self.kept:
            self.kept.write_text(self.table() + "\n")
        if not row.ok:
            self.fail(f"{row.name} {row.dtype} {row.output}: too far, {row.relative:.2e}")

    def fail(self, text: str) -> None:
        print(f"FAILED {text}", flush=True)
        self.failures.append(text)

    def table(self) -> str:
        lines = [
            "| case | dtype | output | shape | max abs | max/max | 1 − cosine | mask IoU |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for r in self.rows:
            shape = "×".join(map(str, r.shape)) or "1"
            iou = "" if r.iou is None else f"{r.iou:.5f}"
            lines.append(
                f"| {r.name} | {r.dtype} | {r.output} | {shape} | {r.most:.1e} | {r.relative:.1e} "
                f"| {max(0.0, 1 - r.cosine):.1e} | {iou} |"
            )
        return "\n".join(lines)


def compare(name: str, dtype: str, key: str, got: torch.Tensor, reference: torch.Tensor) -> Row:
    a, b = got.double().flatten(), reference.double().flatten()
    if a.shape != b.shape or not torch.isfinite(a).all():
        return Row(name, dtype, key, tuple(got.shape), float("inf"), float("inf"), 0.0, None)
    most, scale = float((a - b).abs().max()), float(b.abs().max())
    norms = float(a.norm() * b.norm())
    cosine = float(a @ b) / norms if norms else float(most == 0)
    relative = most / scale if scale else (0.0 if most == 0 else float("inf"))
    iou = mask_iou(a > 0, b > 0) if key == "pred_masks" else None
    return Row(name, dtype, key, tuple(reference.shape), most, relative, cosine, iou)


def mask_iou(a: torch.Tensor, b: torch.Tensor) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def save(tensors: dict, path: Path) -> None:
    save_file({key: as_stored(value) for key, value in tensors.items()}, path)
    path.chmod(0o644)


def as_stored(value: object) -> torch.Tensor:
    """Booleans as uint8, indices as int64, numbers as one-element tensors."""
    value = value if torch.is_tensor(value) else torch.tensor([value])
    value = value.to(torch.uint8) if value.dtype == torch.bool else value
    return value.detach().contiguous().clone()
