"""A result with its DICOM objects, made by the program, for the tests that read them back."""
import io
import json
import subprocess

import numpy as np
import pydicom

import bad_input
import bundles

MODEL = bundles.ROOT / "models/thorax-nih"
SAMPLE = sorted((bad_input.SAMPLE / "dicom").glob("*.dcm"))
SOP_CLASSES = {
    "sr": "1.2.840.10008.5.1.4.1.1.88.34", "seg": "1.2.840.10008.5.1.4.1.1.66.4",
    "sc": "1.2.840.10008.5.1.4.1.1.7", "gsps": "1.2.840.10008.5.1.4.1.1.11.1",
    "kos": "1.2.840.10008.5.1.4.1.1.88.59",
}


class Study:
    """A result with its objects and the images it was made of (the newest last)."""

    def __init__(self, directory, result, images):
        self.result = result
        self.objects = {f.stem: pydicom.dcmread(f) for f in directory.glob("*.dcm")}
        self.files = {f.stem: f for f in directory.glob("*.dcm")}
        masks = directory / "masks.json"
        self.masks = json.loads(masks.read_text()) if masks.exists() else None
        by_uid = {d.SOPInstanceUID: d for d in images}
        self.images = [by_uid[f["sop_instance_uid"]] for f in result["study"]["frames"]]
        self.current = [d for d, f in zip(self.images, result["study"]["frames"]) if f["role"] == "current"]


def predict(directory, images, *arguments, model=MODEL):
    """Runs the program over data sets; {study UID: Study}."""
    source, target = directory / "in", directory / "out"
    source.mkdir(parents=True)
    for i, image in enumerate(images):
        image.save_as(source / f"{i}.dcm")
    command = [bundles.PROGRAM, "predict", "--model", model, "--artifacts", target, *arguments, source]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {r["study"]["study_instance_uid"]: Study(target / r["study"]["study_instance_uid"], r, images)
            for r in results}


def newest(**attributes):
    """The newest image of the sample as an object of its own."""
    return pydicom.dcmread(io.BytesIO(bad_input.changed(**attributes)))


def one(directory, image, *arguments, **options):
    return next(iter(predict(directory, [image], *arguments, **options).values()))


def problems(file):
    """What dciodvfy calls an error."""
    done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, timeout=60)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def check_all(study):
    for name, file in study.files.items():
        assert problems(file) == [], name


def stretch(mask, rows, columns):
    """A mask at the size of the image, bilinear in exact arithmetic, set from one half on."""
    def axis(n, m):
        at = np.clip((2 * np.arange(n, dtype=np.int64) + 1) * m - n, 0, (m - 1) * 2 * n)
        low, rest = at // (2 * n), at % (2 * n)
        return low, np.minimum(low + 1, m - 1), rest
    y0, y1, v = axis(rows, mask.shape[0])
    x0, x1, h = axis(columns, mask.shape[1])
    wide = mask.astype(np.int64)
    column = wide[y0] * (2 * rows - v)[:, None] + wide[y1] * v[:, None]
    total = column[:, x0] * (2 * columns - h) + column[:, x1] * h
    return 2 * total >= 4 * rows * columns


def mask_of(entry):
    runs = entry["runs"]
    flat = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8)
    return flat.reshape(entry["rows"], entry["columns"])


def expected_masks(study, size):
    """{(SOP Instance UID, structure): pixels} of the current frames."""
    frames = study.result["study"]["frames"]
    return {(frames[m["frame"]]["sop_instance_uid"], m["structure"]): stretch(mask_of(m), *size)
            for m in study.masks["masks"] if frames[m["frame"]]["role"] == "current"}
