"""A late image of a finished study: its result supersedes the one before, in every form."""
import io

import pydicom
import pytest
import requests

import daemon as daemons
from dicom_net import JSON, part10, radiograph, related, wait_for_study
from fhir_server import wait_until
from test_fhir import check
from test_push import Receiver

FHIR = {"Accept": "application/fhir+json"}


@pytest.fixture(scope="module")
def receiver():
    running = Receiver()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, frontal_bundle, receiver):
    running = daemons.Daemon(tmp_path_factory.mktemp("late"), frontal_bundle, **{
        "intake.quiet_s": 0, "outbox.destinations": f"mllp://127.0.0.1:{receiver.port}"}).start()
    yield running
    assert running.stop() == 0


def send(daemon, ds, jobs):
    """Stores an image; the job that was made of its study then."""
    body, kind = related([part10(ds)])
    requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=60).raise_for_status()
    job = wait_for_study(daemon, ds.StudyInstanceUID, jobs=jobs)["jobs"][0]
    assert daemon.wait(f"/v1/jobs/{job}")["state"] == "succeeded"
    return job


def structured_report(daemon, job):
    return pydicom.dcmread(io.BytesIO(daemon.get(f"/v1/jobs/{job}/artifacts/sr").content))


def report(daemon, job):
    bundle = check(daemon.get(f"/v1/jobs/{job}/result", headers=FHIR).json())
    kinds = {e["resource"]["resourceType"]: e["resource"] for e in bundle["entry"]}
    return kinds["DiagnosticReport"], kinds["Provenance"]


def revisions(provenance):
    return [e["what"]["identifier"]["value"] for e in provenance["entity"] if e["role"] == "revision"]


def test_a_late_image_supersedes(daemon, receiver):
    first = radiograph(patient="L-1")
    second = radiograph(patient="L-1", study=first.StudyInstanceUID, series=first.SeriesInstanceUID, InstanceNumber=2)
    one = send(daemon, first, 1)
    two = send(daemon, second, 2)
    assert one != two

    old, new = structured_report(daemon, one), structured_report(daemon, two)
    assert "PredecessorDocumentsSequence" not in old
    (study,) = new.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == first.StudyInstanceUID
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == old.SeriesInstanceUID
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID

    (before, why_before), (after, why_after) = report(daemon, one), report(daemon, two)
    assert (before["status"], after["status"]) == ("preliminary", "amended")
    assert revisions(why_before) == [] and revisions(why_after) == [before["identifier"][0]["value"]]
    read = daemon.get(f"/fhir/DiagnosticReport/{two}").json()  # as in every other answer, but for where its Observations are
    assert {**read, "result": after["result"]} == after
    assert all(each["reference"].startswith(f"Observation/{two}-") for each in read["result"])

    assert wait_until(lambda: len(receiver.messages) == 2)
    sent = {message.split("\r")[0].split("|")[9]: message for message in receiver.messages}
    for job, status in ((one, "P"), (two, "C")):
        segments = [s.split("|") for s in sent[job].split("\r") if s]
        assert {s[25] for s in segments if s[0] == "OBR"} == {status} == {s[11] for s in segments if s[0] == "OBX"}

    # what is purged is superseded no more; another upload of the same study stands for itself
    assert daemon.delete(f"/v1/jobs/{one}/data").status_code == 204
    assert report(daemon, two)[0]["status"] == "preliminary"
    posted = daemon.post([part10(first)], headers={"Prefer": "wait=30", **FHIR})
    assert posted.json()["entry"][0]["resource"]["status"] == "preliminary"


def test_results_that_come_back_make_no_job(daemon):
    """A PACS that forwards whatever it gets: each round would otherwise make a report that supersedes the one before."""
    ds = radiograph(patient="L-9")
    job = send(daemon, ds, 1)
    artifacts = [a for a in daemon.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"] if a["media_type"] == "application/dicom"]
    objects = [pydicom.dcmread(io.BytesIO(daemon.get(a["href"]).content)) for a in artifacts]
    assert {"SR", "OT", "PR"} <= {o.Modality for o in objects} and {o.StudyInstanceUID for o in objects} == {ds.StudyInstanceUID}
    body, kind = related([part10(o) for o in objects])
    answer = requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=60)
    assert answer.status_code == 200, answer.text
    state = daemon.get(f"/v1/studies/{ds.StudyInstanceUID}").json()
    assert state["instances"] == 1 + len(objects) and state["state"] == "complete" and state["due_s"] is None and state["jobs"] == [job]
    late = radiograph(patient="L-9", study=ds.StudyInstanceUID, series=ds.SeriesInstanceUID, InstanceNumber=2)
    assert send(daemon, late, 2) != job


def test_results_can_stand_beside_their_images(tmp_path, frontal_bundle):
    running = daemons.Daemon(tmp_path, frontal_bundle, **{"intake.quiet_s": 0, "outbox.destinations": "here:"}).start()
    ds = radiograph(patient="L-10")
    job = send(running, ds, 1)
    artifacts = [a for a in running.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"] if a["media_type"] == "application/dicom"]
    study = f"/dicom-web/studies/{ds.StudyInstanceUID}"

    def listed():
        return {row["00080018"]["Value"][0]: row for row in running.get(study + "/instances", headers={"Accept": JSON}).json()}

    expected = {a["sop_instance_uid"] for a in artifacts} | {ds.SOPInstanceUID}
    rows = wait_until(lambda: (found := listed()).keys() == expected and found, seconds=60)
    for a in artifacts:
        path = f"{study}/series/{rows[a['sop_instance_uid']]['0020000E']['Value'][0]}/instances/{a['sop_instance_uid']}"
        made = pydicom.dcmread(io.BytesIO(running.get(path, headers={"Accept": "application/dicom"}).content))
        assert (made.SOPInstanceUID, made.SOPClassUID, made.PatientID) == (a["sop_instance_uid"], a["sop_class_uid"], "L-10")
        metadata = running.get(path + "/metadata", headers={"Accept": JSON}).json()
        assert metadata[0]["00080018"]["Value"] == [a["sop_instance_uid"]]
        if made.Modality == "OT":
            assert running.get(path + "/rendered", headers={"Accept": "image/png"}).content.startswith(b"\x89PNG")
    state = running.get(f"/v1/studies/{ds.StudyInstanceUID}").json()
    assert state["state"] == "complete" and state["jobs"] == [job]
    wait_until(lambda: "outbox.delivered" in running.log(), seconds=30)
    late = radiograph(patient="L-10", study=ds.StudyInstanceUID, series=ds.SeriesInstanceUID, InstanceNumber=2)
    send(running, late, 2)
    wait_until(lambda: len(listed()) > len(expected) + 1, seconds=60)
    assert running.get(f"/v1/studies/{ds.StudyInstanceUID}").json()["jobs"][1] == job
    assert running.stop() == 0
