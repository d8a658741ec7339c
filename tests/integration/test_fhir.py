"""FHIR as a client uses it: capabilities, $infer with the asynchronous pattern, reads, searches, CDS Hooks cards."""
import base64
import json
import pathlib
import sys
import time

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "fhir"))

import bad_input  # noqa: E402
import rules  # noqa: E402
from fhir_server import named  # noqa: E402

IMAGE = bad_input.NEWEST.read_bytes()
EHR = (bad_input.SAMPLE / "ehr.json").read_bytes()


def check(resource):
    """Valid R4B, all resources in it too, and without a mistake by the official schema and the rules of R4."""
    assert rules.schema_errors(resource) == [] and rules.mistakes(resource) == []
    return rules.validated(resource)


def parameters(*extra, image=IMAGE, ehr=True):
    rows = [{"name": "dicom", "resource": {"resourceType": "Binary", "contentType": "application/dicom", "data": base64.b64encode(image).decode()}}]
    rows += [{"name": "ehr", "resource": json.loads(EHR)}] if ehr else []
    return {"resourceType": "Parameters", "parameter": rows + list(extra)}


def infer(daemon, body, **headers):
    data = body if isinstance(body, (bytes, str)) else json.dumps(body)
    return requests.post(daemon.url + "/fhir/$infer", data=data, headers={"Content-Type": "application/fhir+json", **headers}, timeout=90)


def outcome(response, status):
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/fhir+json"), response.text
    return check(response.json())["issue"][0]


@pytest.fixture(scope="module")
def done(daemon):
    """(address to poll, the Bundle) of an inference that has ended."""
    accepted = infer(daemon, parameters())
    assert accepted.status_code == 202, accepted.text
    return accepted.headers["Content-Location"], result(daemon, accepted.headers["Content-Location"])


def result(daemon, address, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        answer = daemon.get(address)
        if answer.status_code != 202 or time.monotonic() > deadline:
            assert answer.status_code == 200, answer.text
            return answer.json()
        assert answer.headers["X-Progress"] and int(answer.headers["Retry-After"]) >= 1
        time.sleep(0.2)


def test_capabilities(daemon):
    statement = check(daemon.get("/fhir/metadata").json())
    assert statement["fhirVersion"] == "4.0.1"
    assert {r["type"] for r in statement["rest"][0]["resource"]} == {"DiagnosticReport", "Observation", "RiskAssessment", "Device", "Provenance"}
    assert [o["name"] for o in statement["rest"][0]["operation"]] == ["infer"]
    assert "security" not in statement["rest"][0]  # nobody has to authenticate


def test_the_asynchronous_pattern(daemon):
    accepted = infer(daemon, parameters({"name": "alpha", "valueDecimal": 0.2}, {"name": "priority", "valueCode": "stat"}), Prefer="respond-async")
    assert (accepted.status_code, accepted.headers["Retry-After"]) == (202, "1")
    assert check(accepted.json())["issue"][0]["severity"] == "information"
    bundle = check(result(daemon, accepted.headers["Content-Location"]))
    kinds = [e["resource"]["resourceType"] for e in bundle["entry"]]
    assert kinds[0] == "DiagnosticReport" and kinds[-2:] == ["Provenance", "Device"] and "Observation" in kinds
    assert "alpha 0.2" in bundle["entry"][1]["resource"]["note"][0]["text"]
    transaction = check(daemon.get(accepted.headers["Content-Location"], params={"type": "transaction"}).json())
    assert transaction["type"] == "transaction" and all("request" in e for e in transaction["entry"])


def test_waiting_for_the_result(daemon):
    answer = infer(daemon, parameters(ehr=False), Prefer="wait=60")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/fhir+json")
    assert check(answer.json())["entry"][0]["resource"]["resourceType"] == "DiagnosticReport"


def test_multipart_is_taken_too(daemon):
    files = [("dicom", ("0.dcm", IMAGE)), ("ehr", ("ehr.json", EHR))]
    accepted = requests.post(daemon.url + "/fhir/$infer", files=files, timeout=90)
    assert accepted.status_code == 202 and accepted.headers["Content-Location"].startswith("/fhir/$infer/")


def test_deleting(daemon, done):
    accepted = infer(daemon, parameters()).headers["Content-Location"]
    assert daemon.delete(accepted).status_code == 202
    issue = None
    for _ in range(100):
        answer = daemon.get(accepted)
        if answer.status_code != 202:
            issue = answer.status_code
            break
        time.sleep(0.1)
    assert issue in (404, 410)  # cancelled; or it had ended, and its data went
    outcome(daemon.get(accepted), issue)


@pytest.mark.parametrize("body, status, path", [
    ("{", 400, None),
    ({"resourceType": "Bundle"}, 422, None),
    ({"resourceType": "Parameters"}, 422, "Parameters.parameter"),
    ({"resourceType": "Parameters", "parameter": []}, 422, "Parameters.parameter"),
    (parameters({"name": "colour"}), 422, "Parameters.parameter[2].name"),
    (parameters({"name": "model"}), 422, "Parameters.parameter[2].valueString"),
    ({"resourceType": "Parameters", "parameter": [{"name": "dicom", "valueAttachment": {"data": "!!!"}}]}, 422,
     "Parameters.parameter[0].valueAttachment.data"),
    ({"resourceType": "Parameters", "parameter": parameters(ehr=False)["parameter"] + [{"name": "ehr", "resource": {
        "resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "birthDate": "yesterday"}}]}}]}, 400,
     "Bundle.entry[0].resource.birthDate"),
])
def test_mistakes_are_named_by_their_path(daemon, body, status, path):
    issue = outcome(infer(daemon, body), status)
    assert issue.get("expression") == ([path] if path else None), issue


@pytest.mark.parametrize("path, status", [
    ("/fhir/$infer/" + "0" * 32, 404), ("/fhir/$infer/x", 404), ("/fhir/Patient/1", 404), ("/fhir/Patient", 404),
    ("/fhir/Observation/" + "0" * 32 + "-0", 404), ("/fhir/Observation?colour=red", 400), ("/fhir/Observation?_count=0", 400), ("/fhir/x/y/z", 404)])
def test_errors_are_operation_outcomes(daemon, path, status):
    outcome(daemon.get(path), status)


def test_reads_give_what_the_bundle_held(daemon, done):
    names = {e["fullUrl"]: f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in done[1]["entry"]}
    given = {"Patient", "Observation"}  # of the upload, which are not kept here

    def served(reference):
        return daemon.get("/fhir/" + reference).status_code == 200 or (reference not in names.values() and reference.split("/")[0] in given)

    for entry in done[1]["entry"]:
        answer = daemon.get("/fhir/" + names[entry["fullUrl"]])
        assert (answer.status_code, answer.json()) == (200, named(entry["resource"], names))
        assert rules.mistakes(answer.json(), served) == []


def test_searches(daemon, done):
    report = daemon.get("/fhir/DiagnosticReport/" + done[1]["entry"][0]["resource"]["id"]).json()
    patient = report["subject"]["identifier"]["value"]
    found = check(daemon.get("/fhir/DiagnosticReport", params={"patient.identifier": patient}).json())
    assert report["id"] in [e["resource"]["id"] for e in found["entry"]]
    assert "entry" not in check(daemon.get("/fhir/DiagnosticReport", params={"patient.identifier": "nobody"}).json())
    (only,) = check(daemon.get("/fhir/DiagnosticReport", params={"_id": report["id"]}).json())["entry"]
    assert only["resource"] == report and only["search"] == {"mode": "match"}
    token = "|".join(report["identifier"][0][k] for k in ("system", "value"))
    (only,) = daemon.get("/fhir/DiagnosticReport", params={"identifier": token, "_count": 100}).json()["entry"]
    assert only["resource"] == report
    strange = daemon.get("/fhir/DiagnosticReport", params={"patient.identifier": "urn:x|a b&_count=7"}).json()
    url = "/fhir/DiagnosticReport?patient.identifier=urn%3Ax%7Ca%20b%26_count%3D7"
    assert strange["link"][0] == {"relation": "self", "url": url}
    assert all(link["url"].startswith(url + "&_cursor=") for link in strange["link"][1:])  # a daemon with many results looks at them in pages
    page, seen = daemon.get("/fhir/DiagnosticReport", params={"_count": 1}).json(), []
    while True:
        seen += [e["resource"]["id"] for e in page.get("entry", [])]
        following = [link["url"] for link in page["link"] if link["relation"] == "next"]
        if not following:
            break
        page = daemon.get(following[0]).json()
    assert len(seen) == len(set(seen)) and report["id"] in seen


def hook(patient, **changes):
    return {"hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": {"userId": "Practitioner/1", "patientId": "p1"},
            "prefetch": {"patient": {"resourceType": "Patient", "id": "p1", "identifier": [{"value": patient}]}}} | changes


def test_cards(daemon, done):
    services = {s["id"]: s["hook"] for s in daemon.get("/cds-services").json()["services"]}
    assert services == {"medfusion-findings": "patient-view", "medfusion-order": "order-sign"}
    patient = done[1]["entry"][0]["resource"]["subject"]["identifier"]["value"]
    times = []
    for _ in range(10):
        start = time.perf_counter()
        cards = requests.post(daemon.url + "/cds-services/medfusion-findings", json=hook(patient), timeout=30).json()["cards"]
        times.append(time.perf_counter() - start)
    print(f"cards in {1000 * min(times):.1f} ms")
    assert 1 <= len(cards) <= 3 and min(times) < 0.05
    for card in cards:
        assert 0 < len(card["summary"]) < 140 and card["indicator"] in ("info", "warning", "critical") and card["source"]["label"]
    nobody = requests.post(daemon.url + "/cds-services/medfusion-findings", json=hook("nobody"), timeout=30)
    assert (nobody.status_code, nobody.json()) == (200, {"cards": []})
    for service, body, status in (("medfusion-order", hook(patient), 422), ("nothing", hook(patient), 404), ("medfusion-findings", [], 422),
                                  ("medfusion-findings", {"hook": "patient-view"}, 422)):
        assert requests.post(f"{daemon.url}/cds-services/{service}", json=body, timeout=30).status_code == status
