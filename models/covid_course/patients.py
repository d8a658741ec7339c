"""A patient as a hospital would send it: the radiographs as DX DICOM, laboratory values as a FHIR R4 Bundle.

The set has days, not dates: day 0 of every stay is an invented Monday. What training sees of the laboratory values is what the program finds
in these Bundles (`seen`), as it does when it serves.
"""

from __future__ import annotations

import json
import tempfile
from datetime import date, datetime, time, timedelta
from pathlib import Path

import chest_dicom
import pandas as pd
from builder import fhir

from .table import LABS, LOINC, definition

FIRST_DAY = date(2020, 3, 2)
NOTICE = "COVID-19 image repository, Hannover Medical School (CC BY 3.0); all dates and times are invented"
TEST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST", "display": "test health data"}


def taken(row: pd.Series, number: int) -> datetime:
    """When the patient's image `number` was made: images follow each other by a minute, from noon."""
    return datetime.combine(FIRST_DAY + timedelta(days=int(row["day"])), time(12, number))


def write_images(rows: pd.DataFrame, folder: Path) -> list[Path]:
    written = []
    for number, (_, row) in enumerate(rows.iterrows()):
        when = taken(row, number)
        radiograph = chest_dicom.Radiograph(
            image=Path(row["path"]),
            patient=row["patient"],
            issuer="MHH-COVID",
            name=f"HANNOVER^{row['patient']}",
            sex=row["sex"][0].upper(),
            view=row["view"],
            day=when.date(),
            time=when.strftime("%H%M%S"),
            study=f"{number + 1}",
            institution="Hannover Medical School",
            notice=NOTICE,
            deidentified="Published de-identified by Hannover Medical School",
            derivation="Longest side reduced to 512, 8 bit",
            compression_ratio="10",
        )
        written.append(folder / f"{number:02d}.dcm")
        chest_dicom.write(radiograph, written[-1])
    return written


def measured(row: pd.Series, number: int, name: str) -> datetime:
    """When the value was measured that data.csv gives with image `number`: half a minute before the image where it is of the same day; one of
    an earlier day in its evening, since the images of that day were made without it."""
    if row[f"{name}_day"] == row["day"]:
        return taken(row, number) - timedelta(seconds=30)
    return datetime.combine(FIRST_DAY + timedelta(days=int(row[f"{name}_day"])), time(20, number))


def observations(rows: pd.DataFrame) -> list[dict]:
    """Every value of a day once, with the first image that it is given with."""
    out = {}
    for number, (_, row) in enumerate(rows.iterrows()):
        for name, (_, display, unit, code, _) in LABS.items():
            key = name, row[f"{name}_day"], row[name]
            if pd.isna(row[name]) or key in out:
                continue
            out[key] = {
                "resourceType": "Observation",
                "id": f"{name.replace('_', '-')}-{number}",
                "meta": {"tag": [TEST]},
                "status": "final",
                "code": {"coding": [{"system": LOINC, "code": code, "display": display}]},
                "subject": {"reference": f"Patient/{row['patient']}"},
                "effectiveDateTime": measured(row, number, name).isoformat() + "+00:00",
                "valueQuantity": {"value": row[name], "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
            }
    return list(out.values())


def bundle(rows: pd.DataFrame) -> dict:
    patient = {
        "resourceType": "Patient",
        "id": rows["patient"].iloc[0],
        "meta": {"tag": [TEST]},
        "identifier": [{"system": "urn:medfusion:issuer:MHH-COVID", "value": rows["patient"].iloc[0]}],
        "gender": rows["sex"].iloc[0],
    }
    entries = [{"fullUrl": f"urn:medfusion:{r['resourceType']}/{r['id']}", "resource": r} for r in [patient, *observations(rows)]]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def write_ehr(rows: pd.DataFrame, folder: Path) -> Path:
    path = folder / f"{rows['patient'].iloc[0]}.json"
    path.write_text(json.dumps(bundle(rows), indent=1) + "\n")
    return path


def write(rows: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    """The folder of images, and the Bundle beside it."""
    images = folder / rows["patient"].iloc[0]
    write_images(rows, images)
    return images, write_ehr(rows, folder)


def seen(table: pd.DataFrame, program: Path) -> pd.DataFrame:
    """The table with its features as `program` finds them in each patient's Bundle when the image was made. They are not all as in data.csv:
    a value that it gives with one image is known at the next one too, and of two of one day the later counts."""
    with tempfile.TemporaryDirectory() as folder:
        files, times = [], []
        for _, rows in table.groupby("patient", sort=False):
            file = write_ehr(rows, Path(folder))
            files += [file] * len(rows)
            times += [taken(row, number).isoformat() for number, (_, row) in enumerate(rows.iterrows())]
        found = fhir.values(program, definition(), files, times)
    return table.assign(**{name: found[name].to_numpy() for name in found})
