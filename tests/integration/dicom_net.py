"""Studies to send, and multipart/related bodies, for the tests of DICOMweb and DIMSE."""
import io
import time
import uuid

import numpy
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

import bad_input

JSON = "application/dicom+json"


def radiograph(patient="P-1", study=None, series=None, date="20240102", size=32, view="PA", **attributes):
    """A small digital radiograph with UIDs of its own."""
    ds = Dataset()
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = study or generate_uid()
    ds.SeriesInstanceUID = series or generate_uid()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientBirthDate = patient, "Müller^Änne", "F", "19700101"
    ds.StudyDate, ds.StudyTime, ds.Modality, ds.ViewPosition = date, "101500", "DX", view
    ds.AccessionNumber, ds.StudyID, ds.StudyDescription = "A-1", "1", "Chest"
    ds.SeriesNumber, ds.InstanceNumber, ds.BodyPartExamined = 1, 1, "CHEST"
    ds.PixelSpacing = [1.0, 1.0]
    pixels = numpy.random.default_rng(len(ds.SOPInstanceUID) + size).integers(0, 4096, (size, size), dtype=numpy.uint16)
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = size, size, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = pixels.tobytes()
    for name, value in attributes.items():
        setattr(ds, name, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def part10(ds):
    """The Part 10 file of a data set."""
    out = io.BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def related(parts, kind="application/dicom"):
    """A multipart/related body of these parts, and its Content-Type."""
    boundary = uuid.uuid4().hex
    body = b"".join(b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (boundary.encode(), kind.encode(), part) for part in parts)
    return body + b"--%s--\r\n" % boundary.encode(), f'multipart/related; type="{kind}"; boundary={boundary}'


def sample():
    """The newest radiograph of the sample patient as a data set."""
    return pydicom.dcmread(bad_input.NEWEST)


def wait_for_study(daemon, uid, jobs=1, seconds=30):
    """Polls a study until so many jobs were made of it, or there is a problem."""
    deadline = time.monotonic() + seconds
    while True:
        state = daemon.get(f"/v1/studies/{uid}").json()
        if len(state.get("jobs", [])) >= jobs or state.get("problem") or time.monotonic() > deadline:
            return state
        time.sleep(0.05)
