#!/usr/bin/env python3
"""Writes the manifest CSV of one part of the splits, and the studies that it names as DX DICOM.

    python models/manifest.py calibration --nih ../shared/data/nih --out build/nih/calibration

`medfusion calibrate --manifest` and `medfusion predict` read the result: OUT/manifest.csv with
path, patient_id, ehr, group and the labels (paths relative to it), OUT/<patient>/<follow-up>.dcm.
`path` names one file: the newest image of each patient, or, with --series, the patient's folder, so
that earlier images are priors. group = view of the newest image.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import nih_dicom
from training import data

MODELS = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=list(data.PARTS))
    parser.add_argument(
        "--nih", type=Path, required=True, help="folder with labels.csv and images/"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--bundle", type=Path, default=MODELS / "thorax-nih", help="where splits.csv is"
    )
    parser.add_argument(
        "--series", action="store_true", help="a patient's folder instead of the newest image"
    )
    options = parser.parse_args()
    table = data.load_table(options.nih, options.bundle / "splits.csv")
    table = table[table["split"] == options.part]
    lines = []
    for patient, rows in table.groupby("patient_id"):
        newest = rows.iloc[-1]
        born = nih_dicom.birth_date(newest)
        folder = options.out / f"{patient:08d}"
        for row in (rows if options.series else rows.iloc[-1:]).itertuples():
            nih_dicom.write(
                options.nih / "images" / row.file, row, born, folder / f"{row.follow_up:03d}.dcm"
            )
        path = folder.name if options.series else f"{folder.name}/{newest.follow_up:03d}.dcm"
        lines.append([path, f"{patient:08d}", "", newest["view"], *newest[data.LABELS].tolist()])
    with (options.out / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "patient_id", "ehr", "group", *data.LABELS])
        writer.writerows(lines)
    print(f"{options.out / 'manifest.csv'}: {len(lines)} patients")


if __name__ == "__main__":
    main()
