"""Explanations of the golden bundles (golden files only): the vision module's inputs as the bundle's
own case has them → every map and share.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import torch
from medfusion import bundle as bundles
from medfusion.explain import explain
from medfusion.network import Ehr
from safetensors.torch import load_file

from .sink import Sink

CASES = [
    ("full", "frames-3"),
    ("full", "all-missing"),
    ("no-ehr", "frames-1"),
    ("transformer", "frames-3"),
    ("temporal-none", "frames-1"),
    ("vit-clahe", "frames-3"),
    ("stack", "slices-4"),
]
LABELS, STEPS = [0, 3], 4


def write(sink: Sink) -> None:
    """explain/NAME/cases/CASE, of bundles/NAME/cases/CASE, which must be there."""
    for name in dict.fromkeys(name for name, _ in CASES):
        if not sink.wants(f"explain/{name}"):
            continue
        folder, source = sink.fresh(f"explain/{name}"), sink.root / "bundles" / name
        model = bundles.load_bundle(source).requires_grad_(False)
        for case in [case for other, case in CASES if other == name]:
            write_case(sink, folder, source / "cases" / case, model)


def write_case(sink: Sink, folder: Path, case: Path, model: torch.nn.Module) -> None:
    given = load_file(case / "input.safetensors")
    pixels = load_file(case / "expected.safetensors")["pixel_values"]
    ehr = None
    if "x_cont" in given:
        ehr = Ehr(given["x_cont"][0], given["x_cat"][0], given["missing"][0].bool())
    with torch.enable_grad():
        found = explain(model, pixels, ehr, given.get("where"), LABELS, STEPS)
    keys = ("x_cont", "x_cat", "missing", "where")
    inputs = {"pixel_values": pixels, "labels": torch.tensor(LABELS), "steps": STEPS}
    expected = {f.name: getattr(found, f.name) for f in fields(found)}
    inputs |= {key: given[key] for key in keys if key in given}
    sink.case(folder, case.name, inputs, {k: v for k, v in expected.items() if v.numel()})
