"""data.csv as studies: a row an image, the patient's in the order of days.

Offsets in data.csv are days relative to the image: admission −6 = admitted six days before. A laboratory value with a positive offset
was measured after the image and is left out; one older than a week is stale. ±inf stands for values beyond what the laboratory measures:
they become the least or the greatest value that was measured in the whole set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from builder.features import LOINC, CATEGORICAL

LABEL = "IntensiveCare"
# feature id → column of data.csv, display, unit, LOINC code and its name, plausible range
LABS = {
    "crp": ("crp", "C-reactive protein", "mg/L", "1988-5", (0, 1000)),
    "d_dimer": ("d-dimer", "D-dimer", "mg/L", "48065-7", (0, 100)),
    "ldh": ("ldh", "Lactate dehydrogenase", "U/L", "2532-0", (20, 10000)),
    "lymphocytes": ("lymphocytes", "Lymphocytes", "10*3/uL", "731-0", (0, 100)),
    "neutrophils": ("neutrophils", "Neutrophils", "10*3/uL", "751-8", (0, 100)),
    "po2": ("po2", "Oxygen partial pressure", "mm[Hg]", "11556-8", (10, 700)),
    "pco2": ("pco2", "Carbon dioxide partial pressure", "mm[Hg]", "11557-6", (5, 200)),
}
STALE_DAYS = 7


def load(folder: Path) -> pd.DataFrame:
    """patient, image, path, view, sex, day (of the stay), in_icu (already there), label; for every lab its value (NaN = missing) and day."""
    raw = pd.read_csv(folder / "data.csv", dtype={"patient_id": str, "image_id": str})
    table = pd.DataFrame(
        {
            "patient": raw["patient_id"],
            "image": raw["image_id"],
            "path": [str(folder / "images" / f"{name}.jpg") for name in raw["image_id"]],
            "view": raw["projection"].str.upper(),
            "sex": raw["sex"].map({"f": "female", "m": "male"}),
            "day": -raw["admission_offset"].astype(int),
            "in_icu": raw["icu_admission_offset"] < 0,
            LABEL: raw["icu_admission_offset"].notna().astype(int),
        }
    )
    for name, (column, *_) in LABS.items():
        offset = raw[f"{column}_offset"]
        known = offset.between(-STALE_DAYS, 0)
        value = raw[f"{column}_val"]
        finite = value[np.isfinite(value)]
        table[name] = value.clip(finite.min(), finite.max()).where(known)
        table[f"{name}_day"] = (table["day"] + offset).where(known)
    return table.sort_values(["patient", "day"], kind="stable").reset_index(drop=True)


def definition() -> dict:
    """features.json, its mean and std still to be filled in (builder.features.define)."""
    labs = [
        {
            "id": name,
            "display": display,
            "kind": "numeric",
            "unit": unit,
            "conversions": {},
            "sources": [{"fhir": [{"system": LOINC, "code": code}]}],
            "pick": "last",
            "window": f"P{STALE_DAYS + 1}D",
            "range": list(plausible),
        }
        for name, (_, display, unit, code, plausible) in LABS.items()
    ]
    sex = next(feature for feature in CATEGORICAL if feature["id"] == "sex")
    return {"schema": "medfusion.features/1", "features": [*labs, sex]}


def folds(table: pd.DataFrame, count: int, seed: int) -> np.ndarray:
    """Fold of every row: patients dealt out so that each fold has as many of either outcome, and long and short series."""
    patients = table.groupby("patient").agg(label=(LABEL, "first"), images=("image", "size"))
    patients["tie"] = np.random.default_rng(seed).random(len(patients))
    order = patients.sort_values(["label", "images", "tie"]).index
    fold = {patient: i % count for i, patient in enumerate(order)}
    return table["patient"].map(fold).to_numpy()
