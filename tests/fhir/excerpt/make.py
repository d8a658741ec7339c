"""Writes patients.ndjson (a few patients of ../shared/data, only the elements that MedFusion reads) and expected.json
(their feature values as reference.py computes them)."""

import json
import sys
from datetime import timezone
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import reference  # noqa: E402

SHARED = HERE.parents[3] / "shared" / "data" / "fhir"
KEPT = ("resourceType", "id", "identifier", "gender", "birthDate", "status", "code", "subject", "effectiveDateTime", "issued",
        "valueQuantity", "valueString", "valueCodeableConcept", "dataAbsentReason", "component")


def only(resource):
    kept = {k: v for k, v in resource.items() if k in KEPT}
    if resource["resourceType"] == "Patient":
        kept["identifier"] = resource["identifier"][:1]
    return kept


def main():
    chosen = []
    for number in (2, 11):
        everything = [r for r in reference.resources(SHARED / "synthea" / f"patient_{number:02}.json")]
        patient = next(r for r in everything if r["resourceType"] == "Patient")
        for r in everything:
            if r["resourceType"] == "Observation":
                r["subject"] = {"reference": "Patient/" + patient["id"]}
        chosen += [patient] + [r for r in everything if r["resourceType"] == "Observation"][-60:]
    mimic = SHARED / "mimic_iv_demo"
    people = reference.resources(mimic / "MimicPatient.ndjson.gz")
    observations = [r for n in ("VitalSignsED", "ED") for r in reference.resources(mimic / f"MimicObservation{n}.ndjson.gz")]
    own = {p["id"]: [o for o in observations if o["subject"]["reference"] == "Patient/" + p["id"]] for p in people}
    for patient in [p for p in people if len(own[p["id"]]) >= 30][:4]:
        chosen += [patient] + own[patient["id"]][:30]
    (HERE / "patients.ndjson").write_text("".join(json.dumps(only(r), separators=(",", ":")) + "\n" for r in chosen))

    definition = json.loads((HERE.parent / "vitals" / "ehr" / "features.json").read_text())
    expected = []
    for name, patient, theirs in reference.patients([only(r) for r in chosen]):
        time = reference.latest(theirs)
        moment = reference.interval(time)
        values = reference.features(definition, patient, theirs, moment)
        for v in values:
            v["value"] = float(f"{v['value']:.9g}") if isinstance(v["value"], (int, float)) else v["value"]
        expected.append({"reference_time": moment[0].astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "patient": name, "features": values})
    (HERE / "expected.json").write_text(json.dumps(expected, indent=0, ensure_ascii=False).replace(",\n\"", ", \"") + "\n")


if __name__ == "__main__":
    main()
