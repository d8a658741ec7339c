"""The PDF report: one page with the images, the findings and where they come from, whatever the patient's name."""
import io
import subprocess

import pydicom
import pypdf
import pytest

import bad_input
import bundles

MODEL = bundles.ROOT / "models/thorax-nih"
SAMPLE = bad_input.SAMPLE / "dicom"


def report(tmp_path, *arguments):
    target = tmp_path / "report.pdf"
    command = [bundles.PROGRAM, "predict", "--model", MODEL, "--format", "pdf", "-o", target, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = pypdf.PdfReader(target).pages
    assert len(pages) == 1
    return pages[0]


def named(tmp_path, name):
    dataset = pydicom.dcmread(bad_input.NEWEST)
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 192", name
    dataset.save_as(tmp_path / "named.dcm")
    return tmp_path / "named.dcm"


def test_a_page_has_images_findings_uncertainty_patient_data_and_provenance(tmp_path):
    page = report(tmp_path, "--ehr", bad_input.SAMPLE / "ehr.json", SAMPLE)
    text = page.extract_text()
    for part in ("Research use only", "NIH, 00007007", "DX 2016-07-08", "Findings", "Pneumonia", "Pulmonary oedema", "holds",
                 "insufficient calibration", "at least 90 %", "Patient data", "44 a", "thorax-nih 1.1.1", "2.25."):  # fmt: skip
        assert part in text, part
    assert [round(float(side)) for side in page.mediabox[2:]] == [595, 842]
    pictures = [image.image for image in page.images]
    assert len(pictures) == 4 and all(max(picture.size) == 512 for picture in pictures)
    first, last = pictures[0].convert("L"), pictures[-1].convert("L")
    assert first.getextrema() != (0, 0) and first.tobytes() != last.tobytes()


def test_alpha_is_said_and_one_study_is_one_picture(tmp_path):
    text = report(tmp_path, "--alpha", "0.2", bad_input.NEWEST).extract_text()
    assert "at least 80 %" in text and "Current, 2016-07-08" in text and "Earlier" not in text


@pytest.mark.parametrize(
    "name, shown",
    [("Müller^Zoë", "Müller, Zoë"), ("Šimić^Ana", "00007007"), ("Šindler^Žan", "Šindler, Žan"), ("山田^太郎", "00007007")],
)
def test_a_name_is_written_whole_or_not_at_all(tmp_path, name, shown):
    lines = report(tmp_path, named(tmp_path, name)).extract_text().splitlines()
    assert shown in lines and not any("?" in line for line in lines)


def test_two_patients_have_no_page(tmp_path):
    other = pydicom.dcmread(bad_input.NEWEST)
    other.PatientID, other.StudyInstanceUID = "other", "1.2.3.4"
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.5"
    other.save_as(tmp_path / "other.dcm")
    done = subprocess.run(
        [bundles.PROGRAM, "predict", "--model", MODEL, "--format", "pdf", bad_input.NEWEST, tmp_path / "other.dcm"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.strip() == "medfusion predict: --format pdf is for one patient, not 2"


def test_it_goes_to_standard_output_whole(tmp_path):
    done = subprocess.run(
        [bundles.PROGRAM, "predict", "--model", MODEL, "--format", "pdf", bad_input.NEWEST],
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.stdout.startswith(b"%PDF-1.") and len(pypdf.PdfReader(io.BytesIO(done.stdout)).pages) == 1
