"""No patient data where it does not belong: logs, metrics, errors, core files. A canary goes through everything."""
import json
import pathlib

import pydicom
import pytest
import requests

import bad_input
import daemon as daemons

NAME, ID, BIRTH, ACCESSION = "Kanarienvogel^Tirpitz", "CANARY-4711", "19330107", "ACC-CANARY-4711"
ROOT = "1.2.826.0.1.3680043.8.498.4711"
PERSON = ("Kanarienvogel", "Tirpitz", "CANARY", "19330107", "1933-01-07")
HEADERS = {"Accept": "application/dicom+json"}


def image(**changes):
    """The sample's newest image as the canary's."""
    dataset = pydicom.dcmread(bad_input.NEWEST)
    values = {"PatientName": NAME, "PatientID": ID, "PatientBirthDate": BIRTH, "AccessionNumber": ACCESSION, "StudyInstanceUID": ROOT + ".1",
              "SeriesInstanceUID": ROOT + ".2", "SOPInstanceUID": ROOT + ".3", "PatientComments": NAME, **changes}
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return bad_input.to_bytes(dataset)


def ehr(identifier=ID, **extra):
    patient = {"resourceType": "Patient", "id": "CANARY-p", "identifier": [{"value": identifier}], "birthDate": "1933-01-07",
               "name": [{"family": "Kanarienvogel", "given": ["Tirpitz"]}], **extra}
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient}]})


def stow(daemon, part):
    body = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n--B--\r\n"
    return requests.post(daemon.url + "/dicom-web/studies", data=body, timeout=60,
                         headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=B', **HEADERS})


@pytest.fixture(scope="module")
def sung(tmp_path_factory, frontal_bundle):
    """A daemon that has met the canary in every way, and what it answered when it refused."""
    running = daemons.Daemon(tmp_path_factory.mktemp("canary"), frontal_bundle, **{"log.level": "debug", "intake.quiet_s": 1}).start()
    wait = {"Prefer": "wait=60"}
    good = running.post([image()], ehr=ehr(), headers=wait)
    assert good.status_code == 200, good.text
    whole = image()
    answers = [
        running.post([whole[:-1000]], headers=wait), running.post([whole[:700]], headers=wait),
        running.post([image(Modality="MG")], headers=wait), running.post([image(Rows=65000)], headers=wait),
        running.post([image(), image(PatientID="CANARY-2", SOPInstanceUID=ROOT + ".4", SeriesInstanceUID=ROOT + ".5")], headers=wait),
        running.post([image()], ehr=ehr("CANARY-OTHER"), headers=wait), running.post([image()], ehr=ehr()[:-5], headers=wait),
        running.post([image()], ehr=ehr(gender=NAME), headers=wait), running.post([image()], ehr=NAME, headers=wait),
        running.post([image()], options=json.dumps({"alpha": NAME}), headers=wait), running.post([image()], headers={**wait, "Idempotency-Key": "CANARY 1"}),
        running.get(f"/v1/jobs/{ID}"), running.get(f"/v1/jobs?{ID}=1"), running.get(f"/v1/jobs?state={NAME}"), running.get(f"/{NAME}/{ID}"),
        running.get(f"/dicom-web/studies?PatientID={ID}&PatientName={NAME}&nothing={ID}", headers=HEADERS),
        running.get("/dicom-web/studies/" + ROOT + ".99", headers={"Accept": "*/*"}), running.get(f"/dicom-web/studies/{ID}/series", headers=HEADERS),
        running.get(f"/fhir/Observation/{ID}"), running.get(f"/fhir/DiagnosticReport?patient={ID}&{ID}=x"), running.get(f"/fhir/{ID}/x"),
        requests.post(running.url + "/fhir/$infer", data=ehr(), headers={"Content-Type": "application/fhir+json"}, timeout=60),
        requests.post(running.url + "/cds-services/medfusion-findings", json={"hook": NAME, "context": {"patientId": ID}}, timeout=60),
        requests.request("CANARY", running.url + "/v1/jobs", timeout=60)]
    assert stow(running, image()).status_code == 200
    answers += [stow(running, image(PatientID="CANARY-3", SOPInstanceUID=ROOT + ".6")), stow(running, whole[:900])]
    running.get("/dicom-web/studies?PatientID=" + ID, headers=HEADERS)
    running.get("/fhir/DiagnosticReport?identifier=" + ID)
    running.wait(f"/v1/jobs/{good.headers['Content-Location'].split('/')[3]}")
    yield running, answers
    assert running.stop() == 0


def test_the_canary_was_met(sung):
    running, answers = sung
    assert sum(a.status_code >= 400 for a in answers) >= 20
    assert ID in running.get(f"/dicom-web/studies?PatientID={ID}", headers=HEADERS).text  # where it does belong


def test_not_in_the_log(sung):
    log = sung[0].log()
    assert log.count("http.request") >= 20
    for text in (*PERSON, ROOT):
        assert text not in log, [line for line in log.splitlines() if text in line][:3]


def test_not_in_metrics(sung):
    metrics = sung[0].get("/metrics").text
    assert "medfusion_" in metrics
    for text in (*PERSON, ROOT):
        assert text not in metrics


def test_not_in_errors(sung):
    refused = [answer.text for answer in sung[1] if answer.status_code >= 400]
    assert [text for text in refused if any(word in text for word in PERSON)] == []


def test_not_in_core_files(sung):
    running = sung[0]
    seen = 0
    for role in daemons.ROLES:
        for pid in running.pids(role):
            limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
            line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
            assert line.split()[4:6] == ["0", "0"], role
            seen += 1
    assert seen >= 4


def test_not_in_command_lines_nor_names_of_files(sung):
    running = sung[0]
    for path in (running.directory / "data").rglob("*"):
        assert not any(text in path.name for text in (*PERSON, ROOT)), path.name
