"""The report and the key objects of a result, read back with pydicom, highdicom and dcmtk."""
import subprocess

import highdicom

from artifact_study import newest, one
from report_tree import check_report, code, evidence, only, references


def test_the_report_is_a_tree_of_tid_1500(sample):
    for study in sample:
        check_report(study)
    assert any(len(s.images) > len(s.current) for s in sample)  # with priors


def test_highdicom_reads_the_report(sample):
    for study in sample:
        report = highdicom.sr.srread(study.files["sr"])
        assert isinstance(report, highdicom.sr.Comprehensive3DSR)
        assert isinstance(report.content, highdicom.sr.MeasurementReport)
        groups = report.content.get_image_measurement_groups()
        assert [g.tracking_identifier for g in groups] == [p["display"] for p in study.result["predictions"]]
        planar = report.content.get_planar_roi_measurement_groups()
        assert [g.roi.value.shape[1] for g in planar] == [2] * len(planar)
        assert len(planar) == 2


def test_dcmtk_reads_the_documents(sample):
    for name in ("sr", "kos"):
        for study in sample:
            if name in study.files:
                done = subprocess.run(["dsrdump", "-Ee", str(study.files[name])], capture_output=True, text=True)
                assert (done.returncode, done.stderr.count("E:")) == (0, 0), done.stderr


def test_key_objects_are_the_images_of_studies_with_a_present_finding(sample, tmp_path):
    kinds = set()
    for study in [*sample, one(tmp_path, newest(), "--alpha", "0.001")]:  # at 0.001 every set holds both
        present = [p["display"] for p in study.result["predictions"] if p["state"] == "present"]
        kinds.add(bool(present))
        assert ("kos" in study.objects) == bool(present)
        if not present:
            continue
        kos = study.objects["kos"]
        assert code(kos) == ("113000", "DCM")
        assert kos.ContentTemplateSequence[0].TemplateIdentifier == "2010"
        images = [(d.SOPClassUID, d.SOPInstanceUID) for d in study.current]
        assert references(kos) == set(images)
        assert {e[2:] for e in evidence(kos, "CurrentRequestedProcedureEvidenceSequence")} == set(images)
        text = only(kos, "CONTAINS", "TEXT", ("113012", "DCM")).TextValue
        assert all(name in text for name in present)
    assert kinds == {True, False}
