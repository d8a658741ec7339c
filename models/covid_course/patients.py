"""A patient as a hospital would send it: the radiographs as DX DICOM, laboratory values as a FHIR R4 Bundle.

The set has days, not dates: day 0 of every stay is an invented Monday.
"""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import chest_dicom
import pandas as pd

from .table import LABS, LOINC

FIRST_DAY = date(2020, 3, 2)
NOTICE = "COVID-19 image repository, Hannover Medical School (CC BY 3.0); all dates and times are invented"
TEST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST", "display": "test health data"}


def write_images(rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Images of one day follow each other by a minute, from noon."""
    written = []
    for number, (_, row) in enumerate(rows.iterrows()):
        radiograph = chest_dicom.Radiograph(
            image=Path(row["path"]),
            patient=row["patient"],
            issuer="MHH-COVID",
            name=f"HANNOVER^{row['patient']}",
            sex=row["sex"][0].upper(),
            view=row["view"],
            day=FIRST_DAY + timedelta(days=int(row["day"])),
            time=f"12{number:02d}00",
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


def observations(rows: pd.DataFrame) -> list[dict]:
    """Every value once, at eight o'clock of its day."""
    out = {}
    for _, row in rows.iterrows():
        for name, (_, display, unit, code, _) in LABS.items():
            if pd.isna(row[name]):
                continue
            day = FIRST_DAY + timedelta(days=int(row[f"{name}_day"]))
            when = datetime(day.year, day.month, day.day, 8, tzinfo=timezone.utc)
            out[name, day] = {
                "resourceType": "Observation",
                "id": f"{name.replace('_', '-')}-{day.isoformat()}",
                "meta": {"tag": [TEST]},
                "status": "final",
                "code": {"coding": [{"system": LOINC, "code": code, "display": display}]},
                "subject": {"reference": f"Patient/{row['patient']}"},
                "effectiveDateTime": when.isoformat(),
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


def write(rows: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    """The folder of images, and the Bundle beside it."""
    images, ehr = folder / rows["patient"].iloc[0], folder / f"{rows['patient'].iloc[0]}.json"
    write_images(rows, images)
    ehr.write_text(json.dumps(bundle(rows), indent=1) + "\n")
    return images, ehr
