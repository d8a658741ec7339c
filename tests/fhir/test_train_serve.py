"""Training and serving have the same features: what models/builder makes of FHIR files is what a result says of the same files, and the
numbers that the network is trained on are what the engine computes of them."""

import json
import os
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from test_real_files import MEDFUSION, ROOT, needs_program

sys.path[:0] = [str(ROOT / "models"), str(ROOT / "tests/integration")]

import bundles  # noqa: E402
from builder import features, fhir, studies  # noqa: E402

IMAGE = ROOT / "tests/data/sample/dicom/2016-07-08.dcm"
STUDY, PATIENT = "2016-07-08T09:00:00", "00007007"  # of the image
CASES = 25
VALUES = {
    "1988-5": [(64, "mg/L"), (6.4, "mg/dL"), (9000, "mg/L"), (5, "mmol/L"), (0.2, "mg/dL")],
    "8310-5": [(38.4, "Cel"), (101.3, "[degF]"), (12, "Cel"), (37, "mg/L"), (310, "K")],
}
TIMES = ["2016-07-08T07:30:00+00:00", "2016-07-07", "2016-07-08", "2016-07-08T09:30:00+00:00", "2016-06-01", "2016", "2016-07-02T01:00:00Z"]
pytestmark = needs_program


def observation(rng, number):
    """A C-reactive protein or a temperature, in any unit, at any time around the study, in any state."""
    code = rng.choice(list(VALUES))
    value, unit = rng.choice(VALUES[code])
    status = rng.choice(["final", "final", "final", "preliminary", "entered-in-error", "amended"])
    body = {"valueQuantity": {"value": value, "unit": unit, "code": unit, "system": "http://unitsofmeasure.org"}}
    if rng.random() < 0.1:
        body = {"dataAbsentReason": {"text": "not asked"}}
    return {"resourceType": "Observation", "id": f"o{number}", "status": status, "subject": {"reference": "Patient/p"},
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]}, "effectiveDateTime": rng.choice(TIMES), **body}


def bundle(rng):
    patient = {"resourceType": "Patient", "id": "p", "identifier": [{"value": PATIENT}]}
    if rng.random() < 0.8:
        patient |= {"birthDate": rng.choice(["1972-01-01", "1950", "2014-06", "1890-01-01"]), "gender": rng.choice(["female", "male", "unknown"])}
    rows = [patient] + [observation(rng, i) for i in range(rng.randrange(6))]
    rng.shuffle(rows)
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in rows]}


def predict(model, ehr, images):
    done = subprocess.run([MEDFUSION, "predict", "--model", model, "--ehr", ehr, images], capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundles.make_bundle(tmp_path_factory.mktemp("model") / "tiny", name="tiny")


@pytest.fixture(scope="module")
def definition(model):
    return json.loads((model / "ehr/features.json").read_text())


@pytest.fixture(scope="module")
def served(tmp_path_factory, model):
    """Each file with the features of the result that the program makes of it."""
    folder, rng = tmp_path_factory.mktemp("fhir"), random.Random(7)
    out = []
    for i in range(CASES):
        path = folder / f"{i}.json"
        path.write_text(json.dumps(bundle(rng)))
        (result,) = predict(model, path, IMAGE)
        out.append((path, result["ehr"]["features"]))
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory, served, definition):
    """The builder's table of a manifest of these files, and of one study without any; by patient."""
    folder = tmp_path_factory.mktemp("manifest")
    lines = [f"image.png,{i},{STUDY},{os.path.relpath(path, folder)},{i % 2},train" for i, (path, _) in enumerate(served)]
    (folder / "studies.csv").write_text("\n".join(["path,patient_id,date,ehr,Finding,split", *lines, f"image.png,none,{STUDY},,1,train"]))
    found = studies.manifest(folder / "studies.csv", ["Finding"])
    return fhir.add(found.table, definition, MEDFUSION).set_index("patient")


def of_the_file(told):
    """The features that the image does not tell."""
    return [f for f in told if not (f["source"] or "").startswith("dicom:")]


def test_training_sees_what_a_result_says(served, trained, definition):
    seen = set()
    for i, (_, told) in enumerate(served):
        for feature in of_the_file(told):
            mine = trained.loc[str(i), feature["id"]]
            seen.add(feature["status"])
            assert mine == feature["value"] if feature["status"] == "used" else pd.isna(mine), (i, feature)
    assert seen == {"used", "missing", "implausible", "stale"}
    assert trained.loc["none", [f["id"] for f in definition["features"]]].isna().all()


def test_the_network_is_trained_on_the_numbers_of_the_engine(served, trained, definition):
    """Normalised in double and rounded once, numbered by category, and which ones are missing."""
    cont, cat, missing = features.values(trained, definition)
    places, rows = {f["id"]: k for k, f in enumerate(definition["features"])}, list(trained.index)
    for i, (_, told) in enumerate(served):
        row = rows.index(str(i))
        for value in of_the_file(told):
            k, used = places[value["id"]], value["status"] == "used"
            feature = definition["features"][k]
            assert missing[row, k] == (not used)
            if used and feature["kind"] == "numeric":
                assert cont[row, k] == np.float32((value["value"] - feature["mean"]) / feature["std"])
            elif used:
                assert feature["categories"][cat[row, k - cont.shape[1]]] == value["value"]


def test_mistakes_are_told(tmp_path, served, definition):
    two = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": {"resourceType": "Patient", "id": i}} for i in "ab"]}
    (tmp_path / "two.json").write_text(json.dumps(two))
    with pytest.raises(ValueError, match="2 patients, a study has one"):
        fhir.values(MEDFUSION, definition, [tmp_path / "two.json"], [STUDY])
    with pytest.raises(ValueError, match=r"nowhere\.json: No such file"):
        fhir.values(MEDFUSION, definition, [tmp_path / "nowhere.json"], [STUDY])
    (tmp_path / "studies.csv").write_text("path,patient_id,ehr,Finding\nimage.png,1,0.json,1\n")
    with pytest.raises(ValueError, match="needs the date of every study"):
        studies.manifest(tmp_path / "studies.csv", ["Finding"])


def test_the_covid_course_was_trained_on_what_is_served(tmp_path):
    """Real patients: the table that training reads, and the results of the same patients' DICOM and FHIR."""
    from covid_course import patients, table

    if not (ROOT.parent / "shared/data/hannover").exists():
        pytest.skip("skipped: no ../shared/data")
    whole = table.load(ROOT.parent / "shared/data/hannover")
    chosen = whole[whole["patient"].isin(["271ddf1a", "4b523a1c", "6ac9bfff"])].reset_index(drop=True)  # two values of one day
    seen = patients.seen(chosen, MEDFUSION)
    compared = 0
    for _, rows in seen.groupby("patient"):
        images, ehr = patients.write(chosen.loc[rows.index], tmp_path)
        results = predict(ROOT / "models/covid-course", ehr, images)
        for (_, row), result in zip(rows.iterrows(), results, strict=True):
            for feature in result["ehr"]["features"]:
                mine = row[feature["id"]]
                assert mine == feature["value"] if feature["status"] == "used" else pd.isna(mine), (row["patient"], row["day"], feature)
                compared += feature["status"] == "used"
    labs = list(table.LABS)
    assert compared > 50 and seen[labs].notna().sum().sum() > chosen[labs].notna().sum().sum()  # data.csv alone knows less
