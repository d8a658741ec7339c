#!/usr/bin/env python3
"""Draws docs/result.png: the sample study's newest result, made by `medfusion predict` and `medfusion dicom frame`.

    docs/picture.py [PROGRAM] [BUNDLE]        needs matplotlib and pydicom (models/requirements-train.txt)
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pydicom
from matplotlib.patches import Rectangle

ROOT = pathlib.Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "tests/data/sample"
STATES = {"present": ("#c0392b", "present"), "absent": ("#1e8449", "absent"), "uncertain": ("#b9770e", "present or absent"), "empty": ("#5d6d7e", "neither")}
INK, PAPER, MUTED = "#e8eaed", "#14171a", "#8a9199"


def newest_result(program, bundle):
    lines = subprocess.run([program, "predict", "--model", bundle, "--ehr", SAMPLE / "ehr.json", "--format", "json", SAMPLE / "dicom"],
                           check=True, capture_output=True, text=True).stdout.splitlines()
    return json.loads(lines[-1])


def picture_of(program, file, folder):
    """The frame, and how much higher than wide its pixels are."""
    out = pathlib.Path(folder) / (file.stem + ".png")
    subprocess.run([program, "dicom", "frame", file, "-o", out], check=True)
    down, across = pydicom.dcmread(file, stop_before_pixels=True).ImagerPixelSpacing
    return plt.imread(out), down / across


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "build/release/medfusion")
    bundle = sys.argv[2] if len(sys.argv) > 2 else str(ROOT / "models/thorax-nih")
    result = newest_result(program, bundle)
    with tempfile.TemporaryDirectory() as folder:
        images = [picture_of(program, file, folder) for file in sorted((SAMPLE / "dicom").glob("*.dcm"))]

    figure = plt.figure(figsize=(12, 5.6), facecolor=PAPER)
    main_axes = figure.add_axes([0.015, 0.21, 0.36, 0.71])
    main_axes.imshow(images[-1][0], cmap="gray", vmin=0, vmax=1, aspect=images[-1][1])
    x0, y0, x1, y1 = result["study"]["frames"][-1]["segmentation"]["box"]
    main_axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="#3fa7d6", linewidth=1.4))
    frames = result["study"]["frames"]
    for i, ((image, aspect), frame) in enumerate(zip(images, frames)):
        axes = figure.add_axes([0.015 + 0.0915 * i, 0.02, 0.0855, 0.17])
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, aspect=aspect)
        axes.set_title(f"{frame['acquired'][:10]}{'' if frame['role'] == 'prior' else '  newest'}", color=MUTED, fontsize=7, pad=2)
        axes.axis("off")
    main_axes.axis("off")
    main_axes.set_title("Newest frame and the region that was analysed", color=INK, fontsize=10, loc="left")

    axes = figure.add_axes([0.52, 0.08, 0.22, 0.84], facecolor=PAPER)
    rows = sorted(result["predictions"], key=lambda p: p["probability"])
    names = {label["id"]: label["display"] for label in json.loads((pathlib.Path(bundle) / "bundle.json").read_text())["labels"]}
    for y, row in enumerate(rows):
        colour, text = STATES[row["state"]]
        axes.barh(y, row["probability"], color=colour, height=0.62)
        axes.text(row["probability"] + 0.015, y, f"{row['probability']:.2f}", va="center", color=INK, fontsize=8.5)
        axes.text(1.12, y, text, va="center", color="white", fontsize=8, bbox={"boxstyle": "round,pad=0.3", "facecolor": colour, "edgecolor": "none"})
        if row["guarantee"] != "valid":
            axes.text(1.66, y, row["guarantee"].replace("_", " "), va="center", color=MUTED, fontsize=7.5)
    axes.tick_params(colors=MUTED, length=0)
    axes.set_yticks(range(len(rows)), [names[row["label"]] for row in rows], color=INK, fontsize=9)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.8, len(rows) - 0.4)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title("Calibrated probability", color=INK, fontsize=10, loc="left")
    axes.text(1.12, 1.013, f"Conformal set, {100 * (1 - result['alpha']):.0f} %", color=INK, fontsize=10, transform=axes.transAxes)
    model = result["model"]
    figure.text(0.985, 0.02, f"{model['name']} {model['version']} · {model['device']} · {result['timing_ms']['total']:.0f} ms · research use only",
                color=MUTED, fontsize=8, ha="right")
    figure.savefig(ROOT / "docs/result.png", dpi=110, facecolor=PAPER)


if __name__ == "__main__":
    main()
