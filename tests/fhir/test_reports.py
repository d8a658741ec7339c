"""The reports that test_report.c holds us to, validated with fhir.resources (R4B), the official JSON schema and rules.py."""

import copy
import json
from pathlib import Path

import pytest
import rules

HERE = Path(__file__).parent
REPORTS = sorted((HERE / "report").glob("*.json"))
needs_schema = pytest.mark.skipif(not rules.SCHEMA.exists(), reason="skipped: no ../shared/data")


def resources(document):
    yield document
    for entry in document.get("entry", []):
        yield entry["resource"]


@needs_schema
@pytest.mark.parametrize("path", REPORTS, ids=lambda p: p.stem)
def test_official_schema(path):
    for resource in resources(json.loads(path.read_text())):
        assert rules.schema_errors(resource) == [], resource["resourceType"]


@needs_schema
def test_official_schema_finds_mistakes():
    report = json.loads((HERE / "report" / "full_collection.json").read_text())["entry"][0]["resource"]
    assert rules.schema_errors(report | {"status": 7})
    assert rules.schema_errors(report | {"effectiveDateTime": "2019-03-07T10:20:00"})
    assert rules.schema_errors(report | {"verdict": "x"})


@pytest.mark.parametrize("path", REPORTS, ids=lambda p: p.stem)
def test_fhir_resources(path):
    for resource in resources(json.loads(path.read_text())):
        rules.validated(resource)


@pytest.mark.parametrize("path", REPORTS, ids=lambda p: p.stem)
def test_rules(path):
    assert rules.mistakes(json.loads(path.read_text())) == []


def put(document, path, value):
    """The document with the element at `path` replaced, or taken out (None)."""
    document = copy.deepcopy(document)
    *way, last = path
    element = document
    for step in way:
        element = element[step]
    if value is None:
        del element[last]
    else:
        element[last] = value
    return document


@pytest.mark.parametrize("path, value, sentence", [
    (["total"], 7, "bdl-1"),
    (["entry", 0, "search"], {"mode": "match"}, "bdl-2"),
    (["entry", 0, "request"], None, "bdl-3"),
    (["entry", 0, "fullUrl"], "urn:uuid:d069d414-1e23-8ff8-ad4e-37e9a07561d1", "bdl-7"),
    (["entry", 0, "fullUrl"], "http://x/DiagnosticReport/1/_history/2", "bdl-8"),
    (["entry", 0, "resource", "id"], "a b", "no id"),
    (["entry", 0, "resource", "text", "div"], '<div xmlns="http://www.w3.org/1999/xhtml"><script>x</script></div>', "txt-1"),
    (["entry", 0, "resource", "text", "div"], '<div xmlns="http://www.w3.org/1999/xhtml"><p> </p></div>', "txt-2"),
    (["entry", 0, "resource", "result", 0, "reference"], "urn:uuid:00000000-0000-8000-8000-000000000000", "is not in the Bundle"),
    (["entry", 0, "resource", "result", 0, "reference"], "urn:uuid:4be41adf-3460-89da-b4d9-598fcf73525e", "refers to a Device"),
    (["entry", 0, "resource", "imagingStudy", 0], {"type": "ImagingStudy"}, "a reference to nothing"),
    (["entry", 0, "resource", "conclusion"], "", "ele-1"),
    (["entry", 0, "resource", "conclusion"], "ends with a space ", "space"),
    (["entry", 1, "resource", "interpretation", 0, "coding", 0, "code"], "YES", "YES is not a code of"),
    (["entry", 1, "resource", "interpretation", 0, "coding", 0, "system"], "urn:x", "no code of"),
    (["entry", 1, "resource", "code", "coding", 1, "code"], None, "a coding without system or code"),
    (["entry", 1, "resource", "component", 0, "valueQuantity", "system"], None, "qty-3"),
    (["entry", 1, "resource", "component", 0, "code"], {"coding": [{"system": "http://snomed.info/sct", "code": "60046008"}]}, "obs-7"),
    (["entry", 1, "resource", "dataAbsentReason"], {"coding": [{"system": rules.TERMINOLOGY + "data-absent-reason", "code": "unknown",
                                                               "display": "Unknown"}]}, "obs-6"),
])
def test_rules_find_mistakes(path, value, sentence):
    document = json.loads((HERE / "report" / "full_transaction.json").read_text())
    assert any(sentence in mistake for mistake in rules.mistakes(put(document, path, value)))


def test_resources_that_are_read_alone_refer_to_what_can_be_read():
    bundle = json.loads((HERE / "report" / "risk_stored.json").read_text())
    there = {f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in bundle["entry"]}
    for entry in bundle["entry"]:
        assert rules.mistakes(entry["resource"], there.__contains__) == []
    device = next(name for name in there if name.startswith("Device/"))
    assert rules.mistakes(bundle["entry"][1]["resource"], (there - {device}).__contains__) == [f"Observation.device: {device} cannot be read"]


def test_an_outcome_of_nobody_has_a_subject_all_the_same():
    bundle = json.loads((HERE / "report" / "risk_stored.json").read_text())
    (risk,) = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "RiskAssessment"]
    assert risk["subject"] == {"type": "Patient", "display": "Patient without an identifier"}  # RiskAssessment.subject is 1..1


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
