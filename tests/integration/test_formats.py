"""What the program prints, against schemas/ and fhir.resources: every kind of bundle, results and problems."""
import importlib
import json
import shutil
import subprocess

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

import bad_input
import bundles
import daemon as daemons

GOLDEN = sorted(p for p in bundles.GOLDEN.parent.iterdir() if p.is_dir())
SCHEMAS = {n: json.loads((bundles.ROOT / f"schemas/{n}.schema.json").read_text()) for n in ("result", "problem", "job")}
REGISTRY = Registry().with_resources([(s["$id"], Resource.from_contents(s)) for s in SCHEMAS.values()])


@pytest.fixture(scope="module", params=GOLDEN, ids=lambda p: p.name)
def bundle(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("formats") / request.param.name
    shutil.copytree(request.param, directory, ignore=shutil.ignore_patterns("cases"))
    document = json.loads((directory / "bundle.json").read_text())
    document["accepts"] = {"modalities": ["CR", "DX"], "views": [], "body_parts": [], "require": []}
    (directory / "bundle.json").write_text(json.dumps(document))
    bundles.write_manifest(directory)
    return directory


def predict(bundle, *arguments):
    command = [bundles.PROGRAM, "predict", "--model", bundle, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)


def errors(document):
    schema = SCHEMAS[document["schema"].removeprefix("medfusion.").removesuffix("/1")]
    found = Draft202012Validator(schema, registry=REGISTRY).iter_errors(document)
    return [f"{e.json_path}: {e.message[:200]}" for e in found]


def check_fhir(resource):
    kind = resource["resourceType"]
    model = getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
    model.model_validate_json(json.dumps(resource))


def test_results(bundle):
    done = predict(bundle, "--ehr", bad_input.SAMPLE / "ehr.json", bad_input.SAMPLE / "dicom")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [errors(line) for line in lines] == [[]] * 4
    known = {label["id"] for label in json.loads((bundle / "bundle.json").read_text())["labels"]}
    assert all({p["label"] for p in line["predictions"]} == known for line in lines)


def test_fhir_reports(bundle):
    done = predict(bundle, "--ehr", bad_input.SAMPLE / "ehr.json", "--format", "fhir", bad_input.NEWEST)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    check_fhir(report)
    for entry in report["entry"]:
        check_fhir(entry["resource"])
    subjects = [e["resource"]["subject"] for e in report["entry"] if "subject" in e["resource"]]
    assert len(subjects) == len(report["entry"]) - 1  # all but the Device
    assert all(s["identifier"]["value"] == "00007007" for s in subjects)
    if (bundle / "ehr").exists():  # the patient's resource is known from the features
        assert all(s["reference"] == "Patient/sample-patient" for s in subjects)


def test_problems(bundle, tmp_path):
    file = tmp_path / "other.json"
    file.write_text('{"resourceType": "Patient", "identifier": [{"value": "somebody else"}]}')
    done = predict(bundle, "--ehr", file, bad_input.NEWEST)
    problem = json.loads(done.stdout)
    assert (done.returncode, errors(problem), problem["status"]) == (1, [], 422)
    assert "00007007" not in done.stdout + done.stderr and "somebody" not in done.stdout + done.stderr
    outcome = json.loads(predict(bundle, "--ehr", file, "--format", "fhir", bad_input.NEWEST).stdout)
    check_fhir(outcome)
    assert outcome["issue"][0]["diagnostics"] == problem["detail"]


def test_documents_of_the_service(daemon):
    """The same documents over HTTP: a job from acceptance to its end, its result in two formats, a refusal."""
    accepted = daemon.post(daemons.sample(), ehr=(bad_input.SAMPLE / "ehr.json").read_bytes())
    path = accepted.headers["Location"]
    assert errors(accepted.json()) == []
    job = daemon.wait(path)
    assert (job["state"], errors(job)) == ("succeeded", [])
    assert errors(daemon.get(path + "/result").json()) == []
    report = daemon.get(path + "/result", headers={"Accept": "application/fhir+json"}).json()
    check_fhir(report)
    subjects = [e["resource"]["subject"]["reference"] for e in report["entry"] if "subject" in e["resource"]]
    assert set(subjects) == {"Patient/sample-patient"}
    refused = daemon.post([b"not DICOM"])
    assert (refused.status_code, errors(refused.json())) == (400, [])
