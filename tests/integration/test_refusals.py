"""Bad input over HTTP: each kind gets its status and one clear sentence, and the daemon goes on."""
import io
import os

import pydicom
import pytest
import requests

import bad_input
from fhir_server import wait_until

NEWEST = bad_input.NEWEST.read_bytes()
EHR = (bad_input.SAMPLE / "ehr.json").read_bytes()


def another_patient():
    return bad_input.changed(PatientID="somebody-else")


# name: (parts of the request, status, words of the sentence)
CASES = {
    "not DICOM": (lambda: dict(dicom=[bad_input.not_dicom()]), 400, "DICOM"),
    "truncated": (lambda: dict(dicom=[bad_input.truncated()]), 400, "truncated"),
    "empty part": (lambda: dict(dicom=[b""]), 400, ""),
    "no pixels": (lambda: dict(dicom=[bad_input.without_pixels()]), 422, ""),
    "a structured report alone": (lambda: dict(dicom=[bad_input.structured_report()]), 422, ""),
    "a radiotherapy plan alone": (lambda: dict(dicom=[bad_input.rt_plan()]), 422, ""),
    "two patients": (lambda: dict(dicom=[NEWEST, another_patient()]), 422, "patient"),
    "wrong modality": (lambda: dict(dicom=[bad_input.changed(Modality="MG")]), 422, "MG"),
    "lateral view": (lambda: dict(dicom=[bad_input.changed(ViewPosition="LL")]), 422, ""),
    "absurd Rows and Columns": (lambda: dict(dicom=[bad_input.absurd_size()]), 413, "65535 x 65535"),
    "sequences 10^6 deep": (lambda: dict(dicom=[bad_input.nested_sequences()]), 400, "64"),
    "a deflated bomb": (lambda: dict(dicom=[bad_input.deflate_bomb()]), 413, ""),
    "a zip bomb": (lambda: dict(dicom=[bad_input.zip_bomb()]), 413, ""),
    "a zip that escapes": (lambda: dict(dicom=[bad_input.zip_escape()]), 400, ""),
    "FHIR of another patient": (
        lambda: dict(dicom=[NEWEST], ehr=bad_input.ehr_of_another_patient()), 422, "patient"),
    "invalid JSON": (lambda: dict(dicom=[NEWEST], ehr=b'{"resourceType": '), 400, "JSON"),
    "JSON 10,000 levels deep": (lambda: dict(dicom=[NEWEST], ehr=bad_input.deep_json()), 400, "levels"),
    "FHIR that is no Bundle": (lambda: dict(dicom=[NEWEST], ehr=b'{"resourceType": "Patient"}'), 422, ""),
    "unknown option": (lambda: dict(dicom=[NEWEST], options=b'{"colour": "red"}'), 422, "colour"),
    "alpha out of range": (lambda: dict(dicom=[NEWEST], options=b'{"alpha": 2}'), 422, "alpha"),
    "alpha of the wrong type": (lambda: dict(dicom=[NEWEST], options=b'{"alpha": "low"}'), 422, "alpha"),
    "unknown model": (lambda: dict(dicom=[NEWEST], options=b'{"model": "none"}'), 422, "model"),
    "options that are no JSON": (lambda: dict(dicom=[NEWEST], options=b"alpha=1"), 400, "options"),
    "no dicom part": (lambda: dict(ehr=EHR), 422, "dicom"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_with_its_status_and_a_sentence(daemon, name):
    make, status, words = CASES[name]
    response = daemon.post(**make(), headers={"Prefer": "wait=60"})
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    print(problem["detail"])
    assert words in problem["detail"]
    assert 0 < len(problem["detail"]) < 256 and "\n" not in problem["detail"]
    assert "job" not in problem, "it was accepted first"
    assert "NIH^" not in response.text and "00007007" not in response.text, "patient data"


def size(entry):
    try:
        return entry.stat().st_size
    except FileNotFoundError:  # taken away meanwhile
        return 0


def test_none_of_it_left_a_job_or_a_file_and_the_daemon_lives(daemon):
    def kept():
        """Jobs and payloads; empty ones are made ahead for uploads to come."""
        jobs = daemon.get("/v1/jobs?limit=1000").json()["jobs"]
        with os.scandir(daemon.directory / "data" / "payloads") as payloads:
            return len(jobs), sorted(entry.name for entry in payloads if size(entry) > 0)

    before = kept()
    for make, _, _ in CASES.values():
        daemon.post(**make())
    assert wait_until(lambda: kept() == before), (before, kept())
    assert daemon.post([NEWEST], headers={"Prefer": "wait=60"}).status_code == 200


@pytest.mark.parametrize("make", [
    lambda: bad_input.ehr_with_unit("furlong"), lambda: bad_input.ehr_at("2090-01-01")],
    ids=["wrong units", "future dates"])
def test_wrong_units_and_future_dates_are_said_in_the_result(daemon, make):
    good = daemon.post([NEWEST], ehr=EHR, headers={"Prefer": "wait=60"}).json()
    result = daemon.post([NEWEST], ehr=make(), headers={"Prefer": "wait=60"}).json()
    status = {feature["id"]: feature["status"] for feature in result["ehr"]["features"]}
    usual = {feature["id"]: feature["status"] for feature in good["ehr"]["features"]}
    assert set(status.values()) <= {"used", "missing", "implausible", "stale"}
    assert all(status[name] != "used" or usual[name] == "used" for name in status)


def test_unusable_objects_beside_a_usable_one_are_skipped_and_listed(daemon):
    lateral = bad_input.changed(ViewPosition="LL", SOPInstanceUID="2.25.1")
    report = pydicom.dcmread(io.BytesIO(bad_input.structured_report()))
    report.IssuerOfPatientID = pydicom.dcmread(bad_input.NEWEST).IssuerOfPatientID
    parts = [NEWEST, bad_input.to_bytes(report), lateral]
    response = daemon.post(parts, headers={"Prefer": "wait=60"})
    assert response.status_code == 200, response.text
    assert len(response.json()["quality"]["skipped"]) == 2


def test_a_damaged_image_beside_a_good_one_refuses_the_job(daemon):
    older = sorted((bad_input.SAMPLE / "dicom").glob("*.dcm"))[0].read_bytes()
    response = daemon.post([older, bad_input.truncated()])
    assert response.status_code == 400, response.text


@pytest.mark.parametrize("headers, status", [
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "application/json"}, 400),
    ({"Content-Type": "multipart/form-data"}, 400),
    ({"Content-Type": "application/zip", "Content-Encoding": "gzip"}, 415),
    ({"Content-Type": "application/zip", "Idempotency-Key": "a b"}, 400),
    ({"Content-Type": "application/zip", "X-Large": "x" * 20000}, 431),
])
def test_wrong_headers(daemon, headers, status):
    response = requests.post(daemon.url + "/v1/jobs", data=b"PK", headers=headers, timeout=30)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"


def test_patient_data_is_in_no_log(daemon):
    canary = "CANARYPATIENT"
    dataset = pydicom.dcmread(bad_input.NEWEST)
    dataset.PatientName, dataset.PatientID = canary, canary
    daemon.post([bad_input.to_bytes(dataset)], headers={"Prefer": "wait=60"})
    daemon.post([bad_input.to_bytes(dataset)[:5000]])
    daemon.post([bad_input.to_bytes(dataset), NEWEST])
    daemon.get(f"/v1/jobs/{canary}")
    daemon.get(f"/v1/jobs?state={canary}")
    assert canary not in daemon.log() and canary not in daemon.get("/metrics").text
