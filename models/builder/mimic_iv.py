"""Age, sex and laboratory values of MIMIC-IV as features: the last value in the week before."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

# feature id → display, unit, LOINC code, plausible range, MIMIC-IV's itemid
LABS = {
    "creatinine": ("Creatinine", "mg/dL", "2160-0", (0.1, 30), 50912),
    "urea_nitrogen": ("Urea nitrogen", "mg/dL", "3094-0", (1, 300), 51006),
    "leukocytes": ("Leukocytes", "10*3/uL", "6690-2", (0, 500), 51301),
    "haemoglobin": ("Haemoglobin", "g/dL", "718-7", (1, 30), 51222),
    "platelets": ("Platelets", "10*3/uL", "777-3", (0, 3000), 51265),
    "sodium": ("Sodium", "mmol/L", "2951-2", (90, 200), 50983),
    "potassium": ("Potassium", "mmol/L", "2823-3", (1, 12), 50971),
    "lactate": ("Lactate", "mmol/L", "2524-7", (0.1, 40), 50813),
    "crp": ("C-reactive protein", "mg/L", "1988-5", (0, 1000), 50889),
}
WINDOW = pd.Timedelta(days=7)


def labs_of(table: pd.DataFrame, iv: Path) -> pd.DataFrame:
    """labevents of the patients and items that count, read in pieces."""
    path = iv / "hosp" / "labevents.csv"
    path = path if path.exists() else path.with_suffix(".csv.gz")
    items = {lab[-1]: name for name, lab in LABS.items()}
    patients = set(table["subject_id"])
    columns = ["subject_id", "itemid", "charttime", "valuenum"]
    parts = [
        part[part["itemid"].isin(items) & part["subject_id"].isin(patients)].dropna()
        for part in pd.read_csv(path, usecols=columns, chunksize=2_000_000)
    ]
    labs = pd.concat(parts)
    return labs.assign(name=labs["itemid"].map(items), time=pd.to_datetime(labs["charttime"]))


def add(table: pd.DataFrame, iv: Path) -> pd.DataFrame:
    """The table with age, sex and a column a laboratory value (NaN: none in the window)."""
    path = iv / "hosp" / "patients.csv"
    people = pd.read_csv(path if path.exists() else path.with_suffix(".csv.gz"))
    people = people[["subject_id", "gender", "anchor_age", "anchor_year"]]
    table = table.merge(people, on="subject_id", how="left").sort_values("order")
    table["age"] = table["anchor_age"] + table["order"].dt.year - table["anchor_year"]
    table["sex"] = table["gender"].map({"F": "female", "M": "male"})
    labs = labs_of(table, iv).sort_values("time")
    for name, (_, _, _, (low, high), _) in LABS.items():
        values = labs[(labs["name"] == name) & labs["valuenum"].between(low, high)]
        values = values[["subject_id", "time", "valuenum"]].rename(columns={"valuenum": name})
        table = pd.merge_asof(
            table, values, left_on="order", right_on="time", by="subject_id", tolerance=WINDOW
        ).drop(columns="time")
    return table
