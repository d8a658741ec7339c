"""The reports that test_report.c holds us to, validated with fhir.resources (R4B) and the official JSON schema."""

import gzip
import importlib
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

HERE = Path(__file__).parent
SCHEMA = HERE.parents[2] / "shared" / "data" / "fhir" / "fhir.schema.r4b.json.gz"
REPORTS = sorted((HERE / "report").glob("*.json"))


@pytest.fixture(scope="module")
def official():
    if not SCHEMA.exists():
        pytest.skip("skipped: no ../shared/data")
    return json.loads(gzip.decompress(SCHEMA.read_bytes()))


def resources(document):
    yield document
    for entry in document.get("entry", []):
        yield entry["resource"]


def official_errors(schema, resource):
    definition = {"$ref": f"#/definitions/{resource['resourceType']}", "definitions": schema["definitions"]}
    return [f"{e.json_path}: {e.message[:200]}" for e in Draft7Validator(definition).iter_errors(resource)]


@pytest.mark.parametrize("path", REPORTS, ids=lambda p: p.stem)
def test_official_schema(official, path):
    for resource in resources(json.loads(path.read_text())):
        assert official_errors(official, resource) == [], resource["resourceType"]


def test_official_schema_finds_mistakes(official):
    report = json.loads((HERE / "report" / "full_collection.json").read_text())["entry"][0]["resource"]
    assert official_errors(official, report | {"status": 7})
    assert official_errors(official, report | {"effectiveDateTime": "2019-03-07T10:20:00"})
    assert official_errors(official, report | {"verdict": "x"})


@pytest.mark.parametrize("path", REPORTS, ids=lambda p: p.stem)
def test_fhir_resources(path):
    for resource in resources(json.loads(path.read_text())):
        kind = resource["resourceType"]
        model = getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
        model.model_validate_json(json.dumps(resource))


def names(resource):
    """All references to other resources, wherever they stand."""
    if isinstance(resource, dict):
        for key, value in resource.items():
            if key == "reference" and isinstance(value, str):
                yield value
            else:
                yield from names(value)
    elif isinstance(resource, list):
        for value in resource:
            yield from names(value)


@pytest.mark.parametrize("path", [p for p in REPORTS if "entry" in p.read_text()], ids=lambda p: p.stem)
def test_references_resolve_inside_the_bundle(path):
    bundle = json.loads(path.read_text())
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    ids = [(entry["resource"]["resourceType"], entry["resource"]["id"]) for entry in bundle["entry"]]
    assert len(urls) == len(set(urls)) and len(ids) == len(set(ids))
    for entry in bundle["entry"]:
        assert all(name in urls for name in names(entry["resource"]) if name.startswith("urn:uuid:"))
        assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", entry["resource"]["id"])


@pytest.mark.parametrize("name", ["full_transaction", "risk_transaction"])
def test_transaction_entries_can_be_sent_twice(name):
    bundle = json.loads((HERE / "report" / f"{name}.json").read_text())
    for entry in bundle["entry"]:
        resource, request = entry["resource"], entry["request"]
        if resource["resourceType"] == "Provenance":  # it has no identifier: it is put under a name that stays the same
            assert request == {"method": "PUT", "url": "Provenance/" + resource["id"]} and entry["fullUrl"] == "urn:uuid:" + resource["id"]
            continue
        assert (request["method"], request["url"]) == ("POST", resource["resourceType"])
        system, _, value = request["ifNoneExist"].removeprefix("identifier=").partition("|")
        assert {"system": system, "value": value} in resource["identifier"]


def test_outcomes_are_risks():
    bundle = json.loads((HERE / "report" / "risk_transaction.json").read_text())
    by_type = {}
    for entry in bundle["entry"]:
        by_type.setdefault(entry["resource"]["resourceType"], []).append(entry)
    (risk,), (report,), (provenance,) = by_type["RiskAssessment"], by_type["DiagnosticReport"], by_type["Provenance"]
    (prediction,) = risk["resource"]["prediction"]
    label = json.loads((HERE.parent / "core" / "result" / "full.json").read_text())["predictions"][1]
    assert prediction["probabilityDecimal"] == label["probability"] and prediction["rationale"] == "within 30 days"
    assert len(by_type["Observation"]) == 3
    assert risk["fullUrl"] not in [r["reference"] for r in report["resource"]["result"]]
    assert {r["reference"] for r in provenance["resource"]["target"]} == {
        e["fullUrl"] for e in bundle["entry"] if e["resource"]["resourceType"] not in ("Provenance", "Device")}


def test_every_label_is_an_observation():
    result = json.loads((HERE.parent / "core" / "result" / "full.json").read_text())
    bundle = json.loads((HERE / "report" / "full_collection.json").read_text())
    observations = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Observation"]
    assert [o["code"]["text"] for o in observations] == [p["display"] for p in result["predictions"]]
    for observation, prediction in zip(observations, result["predictions"]):
        assert ("valueCodeableConcept" in observation) == (prediction["set_size"] > 0)
        assert ("dataAbsentReason" in observation) == (prediction["set_size"] == 0)  # obs-6
        numbers = {c["code"]["coding"][0]["code"]: c["valueQuantity"]["value"] for c in observation.get("component", [])}
        assert numbers == {k: prediction[k] for k in ("probability", "p_present", "p_absent") if prediction[k] is not None}
