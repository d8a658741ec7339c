"""features.json of the columns a table has, and their values as the EHR module takes them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .mimic_iv import LABS

LOINC = "http://loinc.org"
AGE = {
    "id": "age",
    "display": "Age",
    "kind": "numeric",
    "unit": "a",
    "conversions": {"mo": 0.0833333, "wk": 0.0191650, "d": 0.00273785},
    "sources": ["fhir:Patient.birthDate", "dicom:PatientAge", "dicom:PatientBirthDate"],
    "pick": "last",
    "window": None,
    "range": [0, 120],
}
CATEGORICAL = [
    {
        "id": "sex",
        "display": "Sex",
        "kind": "categorical",
        "sources": ["fhir:Patient.gender", "dicom:PatientSex"],
        "categories": ["female", "male"],
        "map": {"F": "female", "M": "male"},
    },
    {
        "id": "view",
        "display": "View",
        "kind": "categorical",
        "sources": ["dicom:ViewPosition"],
        "categories": ["PA", "AP"],
        "map": {},
    },
]


def laboratory(name: str) -> dict:
    display, unit, code, plausible, _ = LABS[name]
    return {
        "id": name,
        "display": display,
        "kind": "numeric",
        "unit": unit,
        "conversions": {},
        "sources": [{"fhir": [{"system": LOINC, "code": code}]}],
        "pick": "last",
        "window": "P7D",
        "range": list(plausible),
    }


def define(table: pd.DataFrame, given: dict | None) -> dict:
    """The `given` definitions, or those of the known columns; mean and std of training studies."""
    if given is None:
        known = [AGE, *(laboratory(name) for name in LABS), *CATEGORICAL]
        given = {"schema": "medfusion.features/1", "features": known}
    kept = [feature for feature in given["features"] if feature["id"] in table]
    kept.sort(key=lambda feature: feature["kind"] == "categorical")
    train = table[table["split"] == "train"]
    for feature in kept:
        if feature["kind"] == "numeric":
            values = pd.to_numeric(train[feature["id"]], errors="coerce")
            mean, std = values.mean(), values.std()
            feature["mean"] = round(float(mean), 6) if np.isfinite(mean) else 0.0
            feature["std"] = round(float(std), 6) if np.isfinite(std) and std > 1e-6 else 1.0
    return {**given, "features": kept}


def values(table: pd.DataFrame, features: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x_cont (n, numeric) float32, x_cat (n, categorical) int64, missing (n, all) bool. As the engine
    does it: in double, rounded once."""
    cont, cat, missing = [], [], []
    for feature in features["features"]:
        column = table[feature["id"]]
        if feature["kind"] == "numeric":
            x = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
            low, high = feature.get("range") or (-np.inf, np.inf)
            gone = ~((x >= low) & (x <= high))
            cont.append(np.where(gone, 0, (x - feature["mean"]) / feature["std"]))
        else:
            mapped = column.map(lambda v, f=feature: f.get("map", {}).get(v, v))
            code = pd.Categorical(mapped, feature["categories"]).codes.astype(np.int64)
            gone = code < 0
            cat.append(np.where(gone, 0, code))
        missing.append(gone)

    def stack(columns: list[np.ndarray], dtype: type) -> np.ndarray:
        return (np.stack(columns, 1) if columns else np.zeros((len(table), 0))).astype(dtype)

    return stack(cont, np.float32), stack(cat, np.int64), stack(missing, bool)
