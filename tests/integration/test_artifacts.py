"""The DICOM objects of a result: what all of them say, what comes in from the images, and how they are asked for."""
import io
import json
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import bad_input
import bundles
import daemon as daemons
from artifact_study import MODEL, SAMPLE, SOP_CLASSES, Study, check_all, newest, one, predict, problems
from report_tree import check_report, evidence

# --- all objects ---


def test_no_object_has_an_error_and_each_is_of_its_class(sample):
    assert {name for s in sample for name in s.objects} == set(SOP_CLASSES)
    for study in sample:
        check_all(study)
        for name, ds in study.objects.items():
            assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == SOP_CLASSES[name]
            assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
            assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_patient_study_and_model_are_named(sample):
    for study in sample:
        source = study.current[-1]
        for name, ds in study.objects.items():
            for keyword in ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
                            "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
                            "ReferringPhysicianName", "StudyDescription", "PatientAge"):
                assert ds[keyword].value == source[keyword].value, (name, keyword)
            assert ds.SpecificCharacterSet == "ISO_IR 192"
            assert ds.Manufacturer == "MedFusion"
            assert ds.ManufacturerModelName == "thorax-nih"
            assert ds.DeviceSerialNumber == study.result["model"]["digest"][:16]
            assert study.result["model"]["version"] in ds.SoftwareVersions
            equipment = ds.ContributingEquipmentSequence[0]
            assert study.result["model"]["digest"] in equipment.ContributionDescription
            assert study.result["model"]["model_hash"] in equipment.ContributionDescription


def test_every_object_has_uids_of_its_own(sample):
    objects = [ds for study in sample for ds in study.objects.values()]
    images = {d.SeriesInstanceUID for s in sample for d in s.images}
    assert len({d.SOPInstanceUID for d in objects}) == len({d.SeriesInstanceUID for d in objects}) == len(objects)
    assert not images & {d.SeriesInstanceUID for d in objects}
    assert all(d.SOPInstanceUID.is_valid and d.SOPInstanceUID.startswith("2.25.") for d in objects)


def test_a_repeat_gives_the_same_objects(sample, tmp_path):
    again = predict(tmp_path, [pydicom.dcmread(f) for f in SAMPLE])
    times = {"InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime", "ContentDate", "ContentTime",
             "PresentationCreationDate", "PresentationCreationTime", "DateOfSecondaryCapture", "TimeOfSecondaryCapture",
             "ContributingEquipmentSequence"}
    for study in sample:
        other = again[study.result["study"]["study_instance_uid"]]
        assert other.objects.keys() == study.objects.keys()
        for name, ds in study.objects.items():
            left, right = ds.copy(), other.objects[name].copy()
            for keyword in times & {e.keyword for e in ds}:
                delattr(left, keyword)
                delattr(right, keyword)
            assert left == right, name


# --- what comes in ---


def test_order_identifiers_are_carried(tmp_path):
    request = Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepID = "RP-7", "SPS-1"
    request.RequestedProcedureDescription = "Thorax p.a."
    image = newest(AccessionNumber="A-2026-15", RequestAttributesSequence=Sequence([request]),
                   PlacerOrderNumberImagingServiceRequest="P/1", FillerOrderNumberImagingServiceRequest="F/1",
                   ReferringPhysicianName="Who^Doctor")
    study = one(tmp_path, image)
    check_all(study)
    assert all(ds.AccessionNumber == "A-2026-15" for ds in study.objects.values())
    for name in ("sr", "kos"):
        if name in study.objects:
            order = study.objects[name].ReferencedRequestSequence[0]
            assert (order.AccessionNumber, order.RequestedProcedureID) == ("A-2026-15", "RP-7")
            assert order.PlacerOrderNumberImagingServiceRequest == "P/1"
            assert order.FillerOrderNumberImagingServiceRequest == "F/1"
            assert order.RequestedProcedureDescription == "Thorax p.a."
    for name in ("seg", "sc"):
        attributes = study.objects[name].RequestAttributesSequence[0]
        assert (attributes.RequestedProcedureID, attributes.ScheduledProcedureStepID) == ("RP-7", "SPS-1")


NAMES = [
    ("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 144", "Люкceмбypг"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("GB18030", "Wang^XiaoDong=王^小东"), (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"), ("ISO_IR 192", "Zoë^🫁"),
]


@pytest.mark.parametrize("charset, name", NAMES, ids=[n.split("^")[0] for _, n in NAMES])
def test_names_come_out_in_utf_8(tmp_path, charset, name):
    study = one(tmp_path, newest(SpecificCharacterSet=charset, PatientName=name))
    check_all(study)
    for ds in study.objects.values():
        assert (ds.SpecificCharacterSet, str(ds.PatientName)) == ("ISO_IR 192", name)


def test_values_that_do_not_fit_their_attribute_are_cut_or_left_empty(tmp_path):
    with pydicom.config.disable_value_validation():
        image = newest(PatientName="x" * 70 + "^y", PatientID="1\\2", StudyDate="yesterday", PatientSex="female!",
                       StudyID="0123456789abcdefXYZ", StudyDescription="e" * 80, PatientBirthDate="1972.01.01",
                       PatientAge="forty", TimezoneOffsetFromUTC="+0530")
        study = one(tmp_path, image)
    for name, file in study.files.items():
        assert problems(file) == [], name
    ds = study.objects["sr"]
    assert str(ds.PatientName) == "x" * 64
    assert (ds.PatientID, ds.StudyDate, ds.PatientSex, ds.StudyID) == ("1 2", "", "", "0123456789abcdef")
    assert (ds.StudyDescription, ds.PatientBirthDate) == ("e" * 64, "19720101")
    assert ds.TimezoneOffsetFromUTC == "+0530"


def test_odd_uids_are_referred_to_as_they_are(tmp_path):
    with pydicom.config.disable_value_validation():
        study = one(tmp_path, newest(StudyInstanceUID="1.02.3", SeriesInstanceUID="1.2.3.", SOPInstanceUID="0" * 64))
    assert study.objects["sr"].StudyInstanceUID == "1.02.3"
    assert evidence(study.objects["sr"], "CurrentRequestedProcedureEvidenceSequence") == \
        {("1.02.3", "1.2.3.", study.images[0].SOPClassUID, "0" * 64)}


def test_without_the_uids_to_refer_to_there_is_no_object(tmp_path):
    (tmp_path / "in.dcm").write_bytes(bad_input.changed(SeriesInstanceUID=None))
    done = subprocess.run([bundles.PROGRAM, "predict", "--model", MODEL, "--artifacts", tmp_path / "out", tmp_path / "in.dcm"],
                          capture_output=True, text=True)
    problem = json.loads(done.stdout)
    assert (done.returncode, problem["status"]) == (1, 422)
    assert problem["detail"] == ("result: frame 0: its image has no study, series or SOP class UID: no DICOM object can "
                                 "refer to it")


def test_an_image_without_lungs_has_no_segmentation(tmp_path):
    noise = np.random.default_rng(7).integers(0, 256, (512, 512), np.uint8)
    study = one(tmp_path, newest(PixelData=noise.tobytes()))
    assert study.result["study"]["frames"][0]["segmentation"]["status"] == "fallback"
    assert "seg" not in study.objects and study.masks is None
    check_all(study)
    check_report(study)
    graphics = study.objects["gsps"].GraphicAnnotationSequence[0]
    assert "GraphicObjectSequence" not in graphics


# --- command line and service ---


def test_format_sr_is_the_report_of_one_study(tmp_path):
    target = tmp_path / "report.dcm"
    command = [bundles.PROGRAM, "predict", "--model", MODEL, "--format", "sr", "-o", target]
    assert subprocess.run([*command, SAMPLE[-1]]).returncode == 0
    assert pydicom.dcmread(target).SOPClassUID == SOP_CLASSES["sr"]
    assert problems(target) == []
    done = subprocess.run([*command, *SAMPLE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2, "medfusion predict: --format sr is for one study, not 4; use --artifacts DIR\n")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = daemons.Daemon(tmp_path_factory.mktemp("service"), MODEL).start()
    yield running
    assert running.stop() == 0


def test_the_service_lists_and_gives_the_objects(service, tmp_path):
    location = service.post(daemons.sample()).headers["Location"]
    assert service.wait(location)["state"] == "succeeded"
    listed = service.get(location + "/artifacts").json()
    names = [a["name"] for a in listed["artifacts"]]
    assert (listed["schema"], set(SOP_CLASSES) - set(names) <= {"kos"}) == ("medfusion.artifacts/1", True)
    directory = tmp_path / "objects"
    directory.mkdir()
    for artifact in listed["artifacts"]:
        response = service.get(artifact["href"])
        assert (response.status_code, response.headers["Content-Type"]) == (200, artifact["media_type"])
        if artifact["name"] == "masks":
            (directory / "masks.json").write_bytes(response.content)
            continue
        (directory / f"{artifact['name']}.dcm").write_bytes(response.content)
        ds = pydicom.dcmread(io.BytesIO(response.content))
        assert (ds.SOPClassUID, ds.SeriesInstanceUID, ds.SOPInstanceUID) == (
            artifact["sop_class_uid"], artifact["series_instance_uid"], artifact["sop_instance_uid"])
        assert service.get(artifact["href"]).content == response.content  # made again, the same
    study = Study(directory, service.get(location + "/result").json(), [pydicom.dcmread(f) for f in SAMPLE])
    check_all(study)
    check_report(study)


def test_the_service_says_why_there_is_no_object(service):
    accepted = service.post([bad_input.NEWEST.read_bytes()])
    location = accepted.headers["Location"]
    service.wait(location)
    for path, headers, status, detail in (
            ("/artifacts/nothing", {}, 404, "the result has no such artifact"),
            ("/artifacts/seg-2", {}, 404, "the result has no such artifact"),
            ("/artifacts/sr", {"Accept": "application/json"}, 406, "this is given as application/dicom only"),
            ("/artifacts", {"Accept": "application/dicom"}, 406, "this is given as application/json only"),
            ("/artifacts?x=1", {}, 400, None)):
        response = service.get(location + path, headers=headers)
        assert response.status_code == status
        assert detail is None or response.json()["detail"] == detail
    service.delete(location + "/data")
    for path in ("/artifacts", "/artifacts/sr", "/artifacts/masks"):
        assert service.get(location + path).status_code == 410
    assert service.get("/v1/jobs/" + "0" * 32 + "/artifacts/sr").status_code == 404
