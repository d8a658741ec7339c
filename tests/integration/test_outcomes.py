"""models/covid-course, the second bundle: an outcome of the patient's course from a series of radiographs, the days between them, and laboratory
values. The images are those of the sample study; the values are made here."""
import json
import pathlib
import subprocess

import pytest

import bundles

ROOT = pathlib.Path(__file__).parents[2]
MODEL = ROOT / "models/covid-course"
IMAGES = ROOT / "tests/data/sample/dicom"
LABS = {"1988-5": ("mg/L", 212.0), "2532-0": ("U/L", 540.0), "731-0": ("10*3/uL", 0.6), "11556-8": ("mm[Hg]", 55.0)}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The sample's patient with four laboratory values on the morning of the newest study, and an old one."""
    bundle = json.loads((ROOT / "tests/data/sample/ehr.json").read_text())
    patient = next(e for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient")

    def observation(name, code, unit, value, when):
        return {"resource": {"resourceType": "Observation", "id": name, "status": "final", "effectiveDateTime": when,
                             "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                             "subject": {"reference": patient.get("fullUrl", f"Patient/{patient['resource']['id']}")},
                             "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}}}

    newest = max(path.stem for path in IMAGES.glob("*.dcm"))
    entries = [observation(f"lab-{code}", code, unit, value, f"{newest}T06:00:00+00:00") for code, (unit, value) in LABS.items()]
    entries.append(observation("old", "751-8", "10*3/uL", 9.0, "2015-01-02T06:00:00+00:00"))
    path = tmp_path_factory.mktemp("outcomes") / "ehr.json"
    path.write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [patient, *entries]}))
    return path


def predict(*arguments):
    """What is said of the newest study: results come oldest first."""
    done = subprocess.run([str(bundles.PROGRAM), "predict", "--model", str(MODEL), *map(str, arguments)], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_an_outcome_is_predicted_from_images_days_and_laboratory_values(record):
    result = predict("--ehr", record, "--format", "json", IMAGES)
    (prediction,) = result["predictions"]
    assert prediction["label"] == "IntensiveCare" and prediction["kind"] == "outcome" and prediction["horizon"]
    assert 0 < prediction["probability"] < 1
    features = {f["id"]: f for f in result["ehr"]["features"]}
    assert features["crp"]["status"] == "used" and features["crp"]["value"] == 212.0 and features["crp"]["source"] == "Observation/lab-1988-5"
    assert features["po2"]["status"] == "used"
    assert features["neutrophils"]["status"] in ("stale", "missing") and features["d_dimer"]["status"] == "missing"
    assert len(result["study"]["frames"]) == len(list(IMAGES.glob("*.dcm")))


def test_laboratory_values_and_earlier_images_matter(record):
    def logit(*arguments):
        return predict(*arguments, "--format", "json", IMAGES)["predictions"][0]["logit"]

    whole = logit("--ehr", record)
    assert logit() != whole
    assert logit("--ehr", record, "--no-priors") != whole


def test_an_outcome_becomes_a_risk_assessment(record):
    report = predict("--ehr", record, "--format", "fhir", IMAGES)
    resources = [entry["resource"] for entry in report["entry"]]
    (risk,) = [r for r in resources if r["resourceType"] == "RiskAssessment"]
    assert 0 < risk["prediction"][0]["probabilityDecimal"] < 1
    assert "hospital stay" in risk["prediction"][0]["rationale"]
    assert not [r for r in resources if r["resourceType"] == "Observation"]
