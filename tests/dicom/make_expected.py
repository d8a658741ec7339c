#!/usr/bin/env python3
"""Makes expected_pixels.json: what pydicom ≥ 3 with its plug-ins gives for every file of a folder.

For each file and frame: shape, NumPy type and SHA-256 of `pixel_array(raw=True)`. Lossy JPEG also gets 8-bit or
16-bit samples on a coarse grid, because two correct IDCTs may differ by a level. Files that
pydicom itself cannot decode are recorded with its error.

    pip install -r tests/dicom/requirements.txt
    tests/dicom/make_expected.py ../shared/data/dicom -o tests/dicom/expected_pixels.json
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

LOSSY = {"1.2.840.10008.1.2.4.50": 2, "1.2.840.10008.1.2.4.51": 2, "1.2.840.10008.1.2.4.91": 1,
         "1.2.840.10008.1.2.4.203": 1}
GRID = 8  # samples per side that are stored for lossy files


def frame_entry(frame: np.ndarray, tolerance: int) -> dict:
    frame = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("<"))
    entry = {"shape": list(frame.shape), "type": frame.dtype.name,
             "sha256": hashlib.sha256(frame.tobytes()).hexdigest()}
    if tolerance:
        rows = np.linspace(0, frame.shape[0] - 1, min(GRID, frame.shape[0])).round().astype(int)
        cols = np.linspace(0, frame.shape[1] - 1, min(GRID, frame.shape[1])).round().astype(int)
        entry |= {"tolerance": tolerance, "rows": rows.tolist(), "columns": cols.tolist(),
                  "samples": frame[np.ix_(rows, cols)].ravel().tolist(),
                  "mean": float(frame.mean(dtype=np.float64))}
    return entry


def file_entry(path: Path) -> dict:
    try:
        dataset = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:  # no file meta information: what pydicom found out
            implicit, little = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian)
        syntax = dataset.file_meta.TransferSyntaxUID
    except Exception as error:  # whatever pydicom says is the record
        return {"unreadable": f"{type(error).__name__}: {error}"[:160]}
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return {"pixels": False}
    try:
        count = int(dataset.get("NumberOfFrames") or 1)
        frames = [frame_entry(pixel_array(dataset, raw=True, index=i), LOSSY.get(syntax, 0))
                  for i in range(count)]
    except Exception as error:
        return {"pixels": True, "undecodable": f"{type(error).__name__}: {error}"[:160]}
    return {"pixels": True, "transfer_syntax": str(syntax), "frames": frames}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    files = sorted(p for p in arguments.folder.rglob("*") if p.is_file() and not p.name.startswith("LICENSE"))
    entries = {}
    for number, path in enumerate(files, 1):
        if sys.stderr.isatty():
            print(f"\r{number}/{len(files)}", end="", file=sys.stderr)
        entries[str(path.relative_to(arguments.folder))] = file_entry(path)
    arguments.output.write_text(json.dumps({"pydicom": pydicom.__version__, "files": entries}, indent=0,
                                           separators=(",", ":")) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
