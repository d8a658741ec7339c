#!/usr/bin/env python3
"""Writes tests/data/sample: a test patient of the NIH set with three follow-ups as DX DICOM, and a
FHIR R4 Bundle.

python models/make_sample.py --nih ../shared/data/nih [--patient 7007] [--out tests/data/sample]
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import nih_dicom
import pandas as pd

HERE = Path(__file__).parent
SYNTHETIC = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HTEST",
    "display": "test health data",
}
OBSERVATIONS = [  # LOINC code, display, value, unit, UCUM code, category
    ("8310-5", "Body temperature", 38.4, "°C", "Cel", "vital-signs"),
    ("8867-4", "Heart rate", 98, "/min", "/min", "vital-signs"),
    ("9279-1", "Respiratory rate", 22, "/min", "/min", "vital-signs"),
    ("2708-6", "Oxygen saturation in Arterial blood", 93, "%", "%", "vital-signs"),
    (
        "1988-5",
        "C reactive protein [Mass/volume] in Serum or Plasma",
        64,
        "mg/L",
        "mg/L",
        "laboratory",
    ),
]
README = """# Sample study

One patient of the NIH ChestX-ray14 set (patient {patient}, a patient of this project's test part:
no weight was trained on it): {count} frontal chest radiographs, one study each, as DX DICOM,
512 × 512, 8 bit, and `ehr.json`, a FHIR R4 Bundle.

- The images were provided by the NIH Clinical Center:
  https://nihcc.app.box.com/v/ChestXray-NIHCC. Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM.
  ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised
  Classification and Localization of Common Thorax Diseases. IEEE CVPR 2017.
- **All dates are invented** (follow-up number × 30 days; the set has none), so is the birth date;
  it agrees with the age.
- **All Observations in `ehr.json` are synthetic** and tagged so (HTEST and a note): they were never
  measured on this patient.
- Text-mined findings of the set, oldest first: {findings}.

Made by `models/make_sample.py`.
"""


def patient_resource(rows: pd.DataFrame) -> dict:
    newest = rows.iloc[-1]
    return {
        "resourceType": "Patient",
        "id": "sample-patient",
        "meta": {"tag": [SYNTHETIC]},
        "identifier": [{"system": "urn:medfusion:nih-cxr14", "value": f"{newest.patient_id:08d}"}],
        "gender": {"F": "female", "M": "male"}[newest.sex],
        "birthDate": nih_dicom.birth_date(newest).isoformat(),
    }


def observation(entry: tuple, day: str, number: int) -> dict:
    loinc, display, value, unit, ucum, category = entry
    return {
        "resourceType": "Observation",
        "id": f"sample-observation-{number}",
        "meta": {"tag": [SYNTHETIC]},
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": category,
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": loinc, "display": display}]},
        "subject": {"reference": "Patient/sample-patient"},
        "effectiveDateTime": f"{day}T07:30:00+00:00",
        "valueQuantity": {
            "value": value,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": ucum,
        },
        "note": [{"text": "Synthetic value for tests; not measured on this patient."}],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nih", type=Path, required=True, help="folder with labels.csv and images/"
    )
    parser.add_argument("--patient", type=int, default=7007)
    parser.add_argument(
        "--images",
        type=int,
        default=4,
        help="how many of the patient's images, spread over the series",
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "tests" / "data" / "sample")
    options = parser.parse_args()
    splits = pd.read_csv(HERE / "thorax-nih" / "splits.csv").set_index("patient_id")["split"]
    if splits.get(options.patient) != "test":
        parser.error(f"patient {options.patient} is not in the test part")
    table = pd.read_csv(options.nih / "labels.csv")
    rows = table[table["patient_id"] == options.patient].sort_values("follow_up")
    pick = sorted(
        {round(k * (len(rows) - 1) / (options.images - 1)) for k in range(options.images)}
    )
    rows = rows.iloc[pick]
    if len(rows) < 4:
        parser.error(f"patient {options.patient} has fewer than three follow-ups")
    shutil.rmtree(options.out, ignore_errors=True)
    born = nih_dicom.birth_date(rows.iloc[-1])
    for row in rows.itertuples():
        target = options.out / "dicom" / f"{nih_dicom.study_day(row.follow_up).isoformat()}.dcm"
        nih_dicom.write(options.nih / "images" / row.file, row, born, target)
    day = nih_dicom.study_day(rows.iloc[-1].follow_up).isoformat()
    resources = [patient_resource(rows)] + [
        observation(o, day, i + 1) for i, o in enumerate(OBSERVATIONS)
    ]
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "meta": {"tag": [SYNTHETIC]},
        "entry": [
            {"fullUrl": f"http://example.org/fhir/{r['resourceType']}/{r['id']}", "resource": r}
            for r in resources
        ],
    }
    (options.out / "ehr.json").write_text(json.dumps(bundle, indent=2, ensure_ascii=False) + "\n")
    labels = list(table.columns[table.columns.get_loc("Atelectasis") :])
    findings = "; ".join(
        ", ".join(name for name in labels if row[name]) or "none" for _, row in rows.iterrows()
    )
    (options.out / "README.md").write_text(
        README.format(patient=options.patient, count=len(rows), findings=findings)
    )


if __name__ == "__main__":
    main()
