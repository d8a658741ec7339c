"""Studies and their labels, from a manifest CSV or from the layouts of CheXpert and MIMIC-CXR.

A study is one frontal image with what is known of the patient then; earlier studies of the same
patient are its priors. Labels are 1, 0 or NaN (blank, or uncertain: −1): NaN takes no part in the
loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

CHEXPERT = [
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip
SPLITS = {"train": "train", "valid": "val", "validate": "val", "val": "val", "test": "test"}


@dataclass
class Studies:
    """One row a study, patients together, each patient's studies oldest first."""

    table: pd.DataFrame  # patient, order, path, split; a column a feature (NaN or None = missing)
    labels: list[str]
    y: np.ndarray  # (n, labels) 1, 0, NaN

    def series(self, longest: int) -> list[np.ndarray]:
        """For every study its own row and up to longest − 1 earlier ones, oldest first."""
        out: list[np.ndarray] = []
        for rows in self.table.groupby("patient", sort=False).indices.values():
            out += [rows[max(0, k + 1 - longest) : k + 1] for k in range(len(rows))]
        return sorted(out, key=lambda rows: rows[-1])


def finish(table: pd.DataFrame, labels: list[str], split_by_patient: bool) -> Studies:
    """Sorts, checks that no patient is on two sides, and takes the labels apart."""
    if split_by_patient:  # every tenth patient each for validation and for the test
        hashed = pd.util.hash_pandas_object(table["patient"], index=False).to_numpy() % 10
        table["split"] = np.select([hashed == 0, hashed == 1], ["val", "test"], "train")
    table = table.sort_values(["patient", "order"], kind="stable").reset_index(drop=True)
    table["split"] = table["split"].map(SPLITS)
    if table["split"].isna().any():
        raise ValueError("split must be train, val (valid, validate) or test")
    sides = table.groupby("patient")["split"].nunique()
    if (sides > 1).any():
        raise ValueError(f"{int((sides > 1).sum())} patients are in more than one split")
    y = table[labels].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32, copy=True)
    y[(y != 0) & (y != 1)] = np.nan
    return Studies(table.drop(columns=labels), labels, y)


def manifest(path: Path, labels: list[str]) -> Studies:
    """CSV with path (relative to it), patient_id, and optionally date (orders a patient's studies;
    else the order of lines), split, features by their id, ehr (a FHIR file, relative to the CSV, that
    features are made of; its study needs a date), and a column a label.
    """
    table = pd.read_csv(path, dtype={"patient_id": str, "path": str})
    if "ehr" in table:
        if "date" not in table or table["date"].isna().any():
            raise ValueError("a manifest with ehr needs the date of every study")
        table["ehr"] = [
            str((path.parent / e).resolve()) if isinstance(e, str) else None for e in table["ehr"]
        ]
    table["path"] = [str((path.parent / p).resolve()) for p in table["path"]]
    order = table["date"] if "date" in table else pd.Series(range(len(table)))
    table = table.rename(columns={"patient_id": "patient"}).assign(order=order)
    return finish(table.drop(columns=["date"], errors="ignore"), labels, "split" not in table)


def chexpert(root: Path, labels: list[str] | None) -> Studies:
    """CheXpert-v1.0[-small]: train.csv and valid.csv beside train/ and valid/; frontal views only.
    valid/ is the test split (radiologists' labels); validation patients come from train/.
    """
    parts = [pd.read_csv(root / f"{name}.csv").assign(part=name) for name in ("train", "valid")]
    table = pd.concat(parts, ignore_index=True)
    table = table[table["Frontal/Lateral"] == "Frontal"]
    place = table["Path"].str.extract(r"(?:train|valid|test)/patient(\d+)/study(\d+)/view(\d+)")
    table = table.assign(
        path=[str(root / p[p.index(part) :]) for p, part in zip(table["Path"], table["part"])],
        patient=place[0],
        order=place[1].astype(int),
        view_number=place[2].astype(int),
        age=table["Age"].where(table["Age"] > 0),
        sex=table["Sex"].map({"Male": "male", "Female": "female"}),
        view=table["AP/PA"].where(table["AP/PA"].isin(["AP", "PA"])),
    )
    table = table.sort_values("view_number").drop_duplicates(["part", "patient", "order"])
    hashed = pd.util.hash_pandas_object(table["patient"], index=False).to_numpy() % 10
    table["split"] = np.where(
        table["part"] == "valid", "test", np.where(hashed == 0, "val", "train")
    )
    columns = ["path", "patient", "order", "split", "age", "sex", "view"]
    chosen = labels or CHEXPERT
    return finish(table[[*columns, *chosen]], chosen, False)


def mimic(root: Path, iv: Path | None, labels: list[str] | None) -> Studies:
    """MIMIC-CXR-JPG 2.x (`root`: the CSVs, files/p10/p10000032/s50414267/…jpg), with age, sex and
    laboratory values of MIMIC-IV (`iv`: hosp/patients.csv, hosp/labevents.csv) where it is given.
    """
    metadata = read(root, "mimic-cxr-2.0.0-metadata")
    table = metadata[metadata["ViewPosition"].isin(["AP", "PA"])]
    for name in ("mimic-cxr-2.0.0-split", "mimic-cxr-2.0.0-chexpert"):
        other = read(root, name)
        keys = [key for key in ("dicom_id", "subject_id", "study_id") if key in other]
        table = table.merge(other, on=keys, how="inner")
    table = table.sort_values(["StudyDate", "StudyTime", "dicom_id"]).drop_duplicates("study_id")
    time = table["StudyTime"].astype(float).astype(int).astype(str).str.zfill(6)
    when = pd.to_datetime(table["StudyDate"].astype(str) + time, format="%Y%m%d%H%M%S")
    path = [
        str(root / f"files/p{str(s)[:2]}/p{s}/s{study}/{image}.jpg")
        for s, study, image in zip(table["subject_id"], table["study_id"], table["dicom_id"])
    ]
    table = table.assign(
        path=path, patient=table["subject_id"].astype(str), order=when, view=table["ViewPosition"]
    )
    columns = ["path", "patient", "order", "split", "view"]
    if iv is not None:
        from . import mimic_iv

        table = mimic_iv.add(table, iv)
        columns += ["age", "sex", *mimic_iv.LABS]
    chosen = labels or CHEXPERT
    return finish(table[[*columns, *chosen]], chosen, False)


def read(root: Path, name: str) -> pd.DataFrame:
    """NAME.csv or NAME.csv.gz"""
    path = root / f"{name}.csv"
    return pd.read_csv(path if path.exists() else root / f"{name}.csv.gz")
