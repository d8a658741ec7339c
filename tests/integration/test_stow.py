"""STOW-RS: status codes and response of PS3.18 10.5, durability, and the way from a stored study to a job."""
import pytest
import requests
from pydicom.encaps import encapsulate
from pydicom.uid import HEVCMP51

import bad_input
import daemon as daemons
from dicom_net import JSON, part10, radiograph, related, sample, wait_for_study

REFERENCED, FAILED, REASON, INSTANCE, URL = "00081199", "00081198", "00081197", "00081155", "00081190"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, frontal_bundle):
    running = daemons.Daemon(tmp_path_factory.mktemp("stow"), frontal_bundle, **{"intake.quiet_s": 1}).start()
    yield running
    assert running.stop() == 0


def store(daemon, parts, study=None, accept=JSON, content_type=None, body=None):
    made, kind = related(parts)
    return requests.post(daemon.url + "/dicom-web/studies" + (f"/{study}" if study else ""), data=body or made, timeout=60,
                         headers={"Content-Type": content_type or kind, "Accept": accept})


def reasons(response):
    return [item[REASON]["Value"][0] for item in response.json()[FAILED]["Value"]]


def test_a_stored_study_is_answered_with_its_references(daemon):
    a = radiograph()
    b = radiograph(study=a.StudyInstanceUID, series=a.SeriesInstanceUID)
    response = store(daemon, [part10(a), part10(b)])
    assert response.status_code == 200 and response.headers["Content-Type"] == JSON
    items = response.json()[REFERENCED]["Value"]
    assert [item[INSTANCE]["Value"][0] for item in items] == [a.SOPInstanceUID, b.SOPInstanceUID]
    assert items[0][URL]["Value"][0].startswith(f"{daemon.url}/dicom-web/studies/{a.StudyInstanceUID}/series/")
    assert response.json()[URL]["vr"] == "UR" and FAILED not in response.json()
    assert response.headers["Link"] == f'</v1/studies/{a.StudyInstanceUID}>; rel="monitor"'
    assert daemon.get(f"/v1/studies/{a.StudyInstanceUID}").json()["instances"] == 2


def test_what_fails_beside_what_is_stored_gives_202(daemon):
    good = radiograph()
    truncated = part10(radiograph())[:-100]
    response = store(daemon, [truncated, part10(good), b"not DICOM at all, but long enough to look at"])
    assert response.status_code == 202
    assert len(response.json()[REFERENCED]["Value"]) == 1
    assert reasons(response) == [0xC000, 0xC000]
    assert "truncated" in response.headers["Warning"]


def test_nothing_stored_gives_409(daemon):
    response = store(daemon, [b"x" * 200])
    assert response.status_code == 409 and reasons(response) == [0xC000] and REFERENCED not in response.json()


@pytest.mark.parametrize(
    "number,name",
    [("102", "MPEG-4 AVC/H.264 High Profile"), ("110", "JPEG XL Lossless"), ("111", "JPEG XL JPEG Recompression"), ("112", "JPEG XL")],
)
def test_images_in_a_syntax_that_is_not_decoded_are_refused_by_name(daemon, number, name):
    ds, good = radiograph(), radiograph()
    ds.file_meta.TransferSyntaxUID = HEVCMP51
    ds.PixelData = encapsulate([b"\0" * 64])
    ds["PixelData"].VR = "OB"
    data = part10(ds).replace(HEVCMP51.encode(), f"1.2.840.10008.1.2.4.{number}".encode())  # pydicom writes no syntax that it does not know
    response = store(daemon, [data, part10(good)])
    assert response.status_code == 202 and reasons(response) == [0xC122]
    assert f"images in the transfer syntax {name} are not read" in response.headers["Warning"]
    assert daemon.get(f"/v1/studies/{ds.StudyInstanceUID}").status_code == 404
    response = requests.post(daemon.url + "/v1/jobs", files={"dicom": data}, timeout=60)
    assert response.status_code == 415 and f"the transfer syntax {name} are not read" in response.json()["detail"]


def test_an_object_of_another_study_than_the_path_is_not_stored(daemon):
    a, b = radiograph(), radiograph()
    response = store(daemon, [part10(a), part10(b)], study=a.StudyInstanceUID)
    assert response.status_code == 202 and reasons(response) == [0xA900]
    assert daemon.get(f"/v1/studies/{b.StudyInstanceUID}").status_code == 404


def test_a_study_is_not_mixed_from_two_patients(daemon):
    a = radiograph(patient="P-1")
    b = radiograph(patient="P-2", study=a.StudyInstanceUID)
    response = store(daemon, [part10(a), part10(b)])
    assert response.status_code == 202 and reasons(response) == [0xA900]


def test_sending_again_is_harmless_and_other_bytes_are_refused(daemon):
    ds = radiograph()
    assert store(daemon, [part10(ds)]).status_code == 200
    assert store(daemon, [part10(ds)]).status_code == 200
    ds.file_meta.ImplementationVersionName = "OTHER"  # the same data set from another sender
    assert store(daemon, [part10(ds)]).status_code == 200
    ds.PatientSex = "M"
    response = store(daemon, [part10(ds)])
    assert response.status_code == 409 and reasons(response) == [0x0111]
    assert daemon.get(f"/v1/studies/{ds.StudyInstanceUID}").json()["instances"] == 1


def test_an_object_without_its_uids_is_not_stored(daemon):
    ds = radiograph()
    ds.StudyInstanceUID = ""
    assert reasons(store(daemon, [part10(ds)])) == [0xC000]
    ds = radiograph()
    ds.SeriesInstanceUID = "../../etc/passwd"
    assert reasons(store(daemon, [part10(ds)])) == [0xC000]


@pytest.mark.parametrize("status, arguments", [
    (415, dict(content_type="application/dicom")),
    (415, dict(content_type='multipart/related; type="application/dicom+json"; boundary=b')),
    (415, dict(content_type="multipart/form-data; boundary=b")),
    (400, dict(content_type='multipart/related; type="application/dicom"')),
    (400, dict(body=b"--nothing", content_type="multipart/related; boundary=b")),
    (400, dict(body=b"--b--\r\n", content_type="multipart/related; boundary=b")),
    (406, dict(accept="text/html")),
    (406, dict(accept=None)),
    (400, dict(study="1.2.x")),
])
def test_requests_that_are_refused_as_a_whole(daemon, status, arguments):
    response = store(daemon, [part10(radiograph())], **arguments)
    assert response.status_code == status and response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("program", [b"MZ\x90\x00\x03", b"\x7fELF\x02\x01\x01", b"#!/bin/sh\n", b"II*\x00"])
def test_a_preamble_is_not_kept(daemon, program):
    """A file that is a program, a script or a picture besides (CVE-2019-11687) is stored, and given back, without that."""
    dataset = radiograph()
    preamble = program.ljust(128, b"\x90")
    data = preamble + part10(dataset)[128:]
    assert store(daemon, [data]).status_code == 200
    packs = [p.read_bytes() for p in (daemon.directory / "data/payloads").iterdir()]
    assert any(data[128:] in pack for pack in packs) and not any(preamble in pack for pack in packs)
    given = daemon.get(f"/dicom-web/studies/{dataset.StudyInstanceUID}", headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'})
    assert given.status_code == 200 and b"DICM" in given.content and program.ljust(16, b"\x90") not in given.content


def test_a_quiet_study_becomes_a_job_with_its_priors(daemon):
    ds = sample()
    prior = sample()
    prior.StudyInstanceUID, prior.SOPInstanceUID = ds.StudyInstanceUID + ".1", ds.SOPInstanceUID + ".1"
    prior.StudyDate = "19990101"
    prior.file_meta.MediaStorageSOPInstanceUID = prior.SOPInstanceUID
    assert store(daemon, [part10(ds), part10(prior)]).status_code == 200
    state = wait_for_study(daemon, ds.StudyInstanceUID)
    job = daemon.wait(f"/v1/jobs/{state['jobs'][0]}")
    assert job["state"] == "succeeded", job
    result = daemon.get(f"/v1/jobs/{job['id']}/result").json()
    assert result["study"]["study_instance_uid"] == ds.StudyInstanceUID
    assert [frame["role"] for frame in result["study"]["frames"]] == ["prior", "current"]
    # purging the job leaves the instances, and a late image makes another job
    assert daemon.delete(f"/v1/jobs/{job['id']}/data").status_code == 204
    ds.SOPInstanceUID += ".2"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    assert store(daemon, [part10(ds)]).status_code == 200
    state = wait_for_study(daemon, ds.StudyInstanceUID, jobs=2)
    assert len(state["jobs"]) == 2 and state["jobs"][1] == job["id"]
    late = daemon.wait(f"/v1/jobs/{state['jobs'][0]}")
    assert late["state"] == "succeeded"
    frames = daemon.get(f"/v1/jobs/{late['id']}/result").json()["study"]["frames"]
    assert len(frames) == 3


def test_a_study_that_no_bundle_accepts_says_so(daemon):
    ds = radiograph(view="LL")
    assert store(daemon, [part10(ds)]).status_code == 200
    state = wait_for_study(daemon, ds.StudyInstanceUID)
    assert state["jobs"] == [] and state["problem"]["status"] == 422 and state["state"] == "complete"


def test_a_study_in_more_packs_than_a_decoder_takes(daemon):
    first = radiograph(size=16)
    for i in range(130):
        ds = radiograph(study=first.StudyInstanceUID, series=first.SeriesInstanceUID, size=16, InstanceNumber=i)
        assert store(daemon, [part10(ds)]).status_code == 200
    state = wait_for_study(daemon, first.StudyInstanceUID)
    assert daemon.wait(f"/v1/jobs/{state['jobs'][0]}")["state"] == "succeeded"


def test_what_was_answered_survives_kills(tmp_path, frontal_bundle):
    running = daemons.Daemon(tmp_path, frontal_bundle, **{"intake.quiet_s": 1}).start()
    stored = []
    for i in range(12):
        ds = radiograph()
        try:
            if store(running, [part10(ds)]).status_code == 200:
                stored.append(ds.StudyInstanceUID)
        except requests.ConnectionError:
            pass
        running.kill(("mf-front", "mf-store", "mf-courier")[i % 3])
    assert len(stored) >= 4
    for uid in stored:
        state = wait_for_study(running, uid, seconds=daemons.HELD_S)
        assert state["instances"] == 1 and len(state["jobs"]) == 1, state
    assert running.stop() == 0
