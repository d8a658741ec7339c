"""Orthanc with its DICOMweb plug-in as the PACS: a study goes there, comes to us, and the result's objects arrive there."""
import io
import time

import highdicom
import pydicom
import pytest
import requests

import bundles
import daemon as daemons
import orthanc
from dicom_net import JSON, part10, radiograph, related, sample, wait_for_study
from fhir_server import wait_until
from artifact_study import problems

pytestmark = pytest.mark.skipif(not orthanc.available(), reason="Orthanc is not installed")


@pytest.fixture(scope="module")
def pacs_and_daemon(tmp_path_factory, frontal_bundle):
    ours = orthanc.free_port()
    pacs = orthanc.Orthanc(tmp_path_factory.mktemp("orthanc"), modalities={"medfusion": ("MEDFUSION", ours)}).start()
    daemon = daemons.Daemon(tmp_path_factory.mktemp("daemon"), frontal_bundle, **{
        "intake.quiet_s": 1, "dimse.listen": f"127.0.0.1:{ours}", "dimse.allow": "ORTHANC@127.0.0.1",
        "outbox.destinations": f"{pacs.url}/dicom-web dicom://ORTHANC@127.0.0.1:{pacs.dicom}"}).start()
    yield pacs, daemon
    assert daemon.stop() == 0
    pacs.stop()


def wait_for(pacs, study, modality, seconds=40):
    deadline = time.monotonic() + seconds
    while True:
        rows = pacs.instances(StudyInstanceUID=study, Modality=modality, includefield="all")
        if rows or time.monotonic() > deadline:
            return rows
        time.sleep(0.2)


def test_a_study_sent_by_the_pacs_comes_back_as_objects(pacs_and_daemon):
    pacs, daemon = pacs_and_daemon
    ds = sample()
    stored = pacs.store(part10(ds))
    requests.post(f"{pacs.url}/modalities/medfusion/store", json=[stored["ID"]], timeout=60).raise_for_status()
    state = wait_for_study(daemon, ds.StudyInstanceUID)
    job = daemon.wait(f"/v1/jobs/{state['jobs'][0]}")
    assert job["state"] == "succeeded", job
    artifacts = daemon.get(f"/v1/jobs/{job['id']}/artifacts").json()["artifacts"]
    expected = {a["sop_instance_uid"] for a in artifacts if a["media_type"] == "application/dicom"}
    [row] = wait_for(pacs, ds.StudyInstanceUID, "SR")
    instance = row["00080018"]["Value"][0]
    found = requests.post(f"{pacs.url}/tools/find", timeout=60, json={"Level": "Instance", "Query": {"SOPInstanceUID": instance}}).json()
    report = pydicom.dcmread(io.BytesIO(requests.get(f"{pacs.url}/instances/{found[0]}/file", timeout=60).content))
    assert report.PatientID == ds.PatientID and report.StudyInstanceUID == ds.StudyInstanceUID
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # both destinations are this PACS: sent twice, there once
        uids = {r["00080018"]["Value"][0] for r in pacs.instances(StudyInstanceUID=ds.StudyInstanceUID)}
        if expected <= uids and daemon.log().count("outbox.delivered") == 2:
            break
        time.sleep(0.2)
    assert expected <= uids and len(uids) == len(expected) + 1
    assert daemon.log().count("outbox.delivered") == 2, daemon.log()


def wrong(pacs, made, file):
    """What is wrong with an object that the PACS gives back, and whether it is the one that was made."""
    [found] = requests.post(f"{pacs.url}/tools/find", timeout=60, json={"Level": "Instance", "Query": {"SOPInstanceUID": made.SOPInstanceUID}}).json()
    file.write_bytes(requests.get(f"{pacs.url}/instances/{found}/file", timeout=60).content)
    return problems(file) + ([] if pydicom.dcmread(file) == made else ["it is another object"])


@pytest.mark.parametrize("way", ["STOW-RS", "C-STORE"])
def test_every_object_is_read_back_from_the_pacs(tmp_path, way):
    """All five kinds: what Orthanc gives back is what we made, highdicom and pydicom read it, and dciodvfy finds no error."""
    ours = orthanc.free_port()
    pacs = orthanc.Orthanc(tmp_path / "orthanc", modalities={"medfusion": ("MEDFUSION", ours)}).start()
    destination = f"{pacs.url}/dicom-web" if way == "STOW-RS" else f"dicom://ORTHANC@127.0.0.1:{pacs.dicom}"
    daemon = daemons.Daemon(tmp_path / "daemon", bundles.ROOT / "models/thorax-nih", **{
        "intake.quiet_s": 1, "dimse.listen": f"127.0.0.1:{ours}", "dimse.allow": "ORTHANC@127.0.0.1", "outbox.destinations": destination}).start()
    file = sorted((bundles.ROOT / "tests/data/sample/dicom").glob("*.dcm"))[0]  # with a positive finding
    study = pydicom.dcmread(file).StudyInstanceUID
    stored = pacs.store(file.read_bytes())
    requests.post(f"{pacs.url}/modalities/medfusion/store", json=[stored["ID"]], timeout=60).raise_for_status()
    job = wait_for_study(daemon, study)["jobs"][0]
    assert daemon.wait(f"/v1/jobs/{job}")["state"] == "succeeded"
    made = {a["name"]: a for a in daemon.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"] if a["media_type"] == "application/dicom"}
    assert made.keys() == {"sr", "seg", "sc", "gsps", "kos"}
    wanted = {a["sop_instance_uid"] for a in made.values()}
    assert wait_until(lambda: wanted <= {r["00080018"]["Value"][0] for r in pacs.instances(StudyInstanceUID=study)}, 60), daemon.log()
    back = {}
    for name, a in made.items():
        back[name] = tmp_path / f"{name}.dcm"
        assert wrong(pacs, pydicom.dcmread(io.BytesIO(daemon.get(a["href"]).content)), back[name]) == []
    report, masks = highdicom.sr.srread(back["sr"]), highdicom.seg.segread(back["seg"])
    assert report.content.get_planar_roi_measurement_groups() and masks.number_of_segments == masks.pixel_array.shape[0] == 2
    picture, state, keys = (pydicom.dcmread(back[name]) for name in ("sc", "gsps", "kos"))
    assert picture.pixel_array.shape == (picture.Rows, picture.Columns, 3)
    image = pydicom.dcmread(file).SOPInstanceUID
    assert state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID == image
    referred = keys.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert referred.ReferencedSOPInstanceUID == image
    assert daemon.stop() == 0
    pacs.stop()


def test_what_is_wrong_with_an_object_is_found(tmp_path, sample):
    """The control: a bit of a mask, a word of a report and an attribute that has to be there, each changed on its way to the PACS."""
    def one_bit(ds):
        ds.PixelData = bytes([ds.PixelData[0] ^ 1]) + ds.PixelData[1:]

    def one_word(ds):
        ds.ContentSequence[0].ConceptNameCodeSequence[0].CodeMeaning += "s"

    def no_modality(ds):
        ds.Modality = ""

    pacs = orthanc.Orthanc(tmp_path / "orthanc").start()
    files, back = sample[0].files, tmp_path / "back.dcm"
    for name, planted, found in (("seg", None, 0), ("sr", None, 0), ("seg", one_bit, 1), ("sr", one_word, 1), ("sr", no_modality, 2)):
        made = pydicom.dcmread(files[name])
        sent = pydicom.dcmread(files[name])
        made.SOPInstanceUID = sent.SOPInstanceUID = sent.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        if planted:
            planted(sent)
        pacs.store(part10(sent))
        seen = wrong(pacs, made, back)
        assert len(seen) >= found and bool(seen) == bool(planted), (name, planted, seen)
        assert not planted or "it is another object" in seen
        assert found < 2 or any(line.startswith("Error") for line in seen)
    pacs.stop()


def test_a_destination_that_is_down_gets_it_later(tmp_path, frontal_bundle):
    pacs = orthanc.Orthanc(tmp_path / "orthanc")
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{
        "intake.quiet_s": 1, "outbox.destinations": f"{pacs.url}/dicom-web"}).start()
    ds = radiograph()
    body, kind = related([part10(ds)])
    assert requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=60).status_code == 200
    job = wait_for_study(daemon, ds.StudyInstanceUID)["jobs"][0]
    assert daemon.wait(f"/v1/jobs/{job}")["state"] == "succeeded"
    deadline = time.monotonic() + 20
    while "outbox.failed" not in daemon.log() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "outbox.failed" in daemon.log()
    daemon.kill("mf-courier")  # the outbox is in the store
    pacs.start()
    assert wait_for(pacs, ds.StudyInstanceUID, "SR", seconds=40)
    pacs.stop()
    assert daemon.stop() == 0


def test_a_study_is_fetched_with_its_priors(tmp_path, frontal_bundle):
    pacs = orthanc.Orthanc(tmp_path / "orthanc").start()
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"fetch.sources": f"other=http://127.0.0.1:1/dicom-web pacs={pacs.url}/dicom-web"}).start()
    current, prior, later = (radiograph(patient="F-1", date=date) for date in ("20240501", "20200101", "20250101"))
    stranger = radiograph(patient="F-2", date="20190101")
    for ds in (current, prior, later, stranger):
        pacs.store(part10(ds))

    def post(study, **rest):
        return requests.post(daemon.url + "/v1/jobs", json={"study": study, **rest}, headers={"Prefer": "wait=30"}, timeout=90)

    wanted = {"source": "pacs", "study_instance_uid": current.StudyInstanceUID}
    response = post(wanted, options={"alpha": 0.2})
    assert response.status_code == 200, response.text
    result = response.json()
    assert result["study"]["study_instance_uid"] == current.StudyInstanceUID and result["alpha"] == 0.2
    assert [frame["role"] for frame in result["study"]["frames"]] == ["prior", "current"]
    alone = post({**wanted, "priors": False}).json()
    assert [frame["role"] for frame in alone["study"]["frames"]] == ["current"]
    for study, status in (({**wanted, "source": "elsewhere"}, 422), ({**wanted, "study_instance_uid": "../x"}, 422),
                          ({**wanted, "study_instance_uid": "1.2.3"}, 404), ({**wanted, "url": "http://169.254.169.254/"}, 422),
                          ({**wanted, "source": "other"}, 503), ({}, 400)):
        assert post(study).status_code == status, study
    assert daemon.stop() == 0
    pacs.stop()


@pytest.fixture
def scripted(tmp_path, frontal_bundle):
    ours = orthanc.free_port()
    pacs = orthanc.Orthanc(tmp_path / "orthanc", modalities={"medfusion": ("MEDFUSION", ours)}, StableAge=1,
                           LuaScripts=[str(bundles.ROOT / "deploy/orthanc/medfusion.lua")]).start()
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{
        "intake.quiet_s": 1, "dimse.listen": f"127.0.0.1:{ours}", "dimse.allow": "ORTHANC@127.0.0.1",
        "outbox.destinations": f"{pacs.url}/dicom-web"}).start()
    yield pacs, daemon
    assert daemon.stop() == 0
    pacs.stop()


def test_the_script_that_ships_forwards_radiographs_only(scripted):
    """deploy/orthanc/medfusion.lua: what becomes stable is sent; the results, which come back into the same study, are not."""
    pacs, daemon = scripted
    ds = sample()
    stored = pacs.store(part10(ds))
    assert wait_for(pacs, ds.StudyInstanceUID, "SR")
    pacs.wait_until_sent(stored["ParentStudy"])
    assert len(pacs.instances(StudyInstanceUID=ds.StudyInstanceUID)) > 1
    assert daemon.get(f"/v1/studies/{ds.StudyInstanceUID}").json()["instances"] == 1


def test_the_pacs_asks_for_commitment_and_is_told(tmp_path, frontal_bundle):
    ours = orthanc.free_port()
    pacs = orthanc.Orthanc(tmp_path / "orthanc", modalities={"medfusion": ("MEDFUSION", ours)}).start()
    daemon = daemons.Daemon(tmp_path / "daemon", frontal_bundle, **{
        "intake.quiet_s": 3000, "dimse.listen": f"127.0.0.1:{ours}", "dimse.allow": "ORTHANC@127.0.0.1",
        "dimse.report_to": f"dicom://ORTHANC@127.0.0.1:{pacs.dicom}"}).start()
    ds, never = sample(), radiograph()
    requests.post(f"{pacs.url}/modalities/medfusion/store", json=[pacs.store(part10(ds))["ID"]], timeout=60).raise_for_status()

    def outcome(*asked):
        body = {"DicomInstances": [{"SOPClassUID": a.SOPClassUID, "SOPInstanceUID": a.SOPInstanceUID} for a in asked]}
        path = requests.post(f"{pacs.url}/modalities/medfusion/storage-commitment", json=body, timeout=60).json()["Path"]
        deadline = time.monotonic() + 20
        while True:
            report = requests.get(pacs.url + path, timeout=60).json()
            if report["Status"] != "Pending" or time.monotonic() > deadline:
                return report
            time.sleep(0.1)

    report = outcome(ds)
    assert report["Status"] == "Success" and [s["SOPInstanceUID"] for s in report["Success"]] == [ds.SOPInstanceUID], daemon.log()
    report = outcome(ds, never)
    assert report["Status"] == "Failure" and [f["SOPInstanceUID"] for f in report["Failures"]] == [never.SOPInstanceUID]
    state = wait_for_study(daemon, ds.StudyInstanceUID)  # committed: no need to wait for 3000 s
    assert daemon.wait(f"/v1/jobs/{state['jobs'][0]}")["state"] == "succeeded"
    assert daemon.stop() == 0
    pacs.stop()
