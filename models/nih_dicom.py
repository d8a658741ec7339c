"""NIH ChestX-ray14 images (8-bit JPEG) as DX DICOM objects, uncompressed, with every type 1
attribute of the IOD.

The NIH set has no dates: the dates written here are invented, at follow-up number × 30 days after a
fixed first day, and said to be so in StudyDescription and ImageComments.
"""

from __future__ import annotations

import uuid
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

FIRST_DAY = date(2015, 1, 15)
NOTICE = "NIH ChestX-ray14 research image; all dates and times are invented"


def uid(*parts: object) -> str:
    """A UID that is the same every time for the same parts (2.25, from a name-based UUID)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, 'medfusion/' + '/'.join(map(str, parts))).int}"


def study_day(follow_up: int) -> date:
    return FIRST_DAY + timedelta(days=30 * int(follow_up))


def birth_date(row) -> date:
    """An invented birth date that makes the age of `row` (a line of labels.csv) true on its
    invented day.
    """
    day = study_day(row.follow_up)
    return date(day.year - int(row.age), 1, 1)


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def dataset(image: Path, row, born: date) -> Dataset:
    """One DX object from one line of labels.csv."""
    pixels = np.asarray(Image.open(image).convert("L"))
    rows, cols = pixels.shape
    day = study_day(row.follow_up).strftime("%Y%m%d")
    patient = f"{row.patient_id:08d}"
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.SOPClassUID, ds.SOPInstanceUID = (
        DigitalXRayImageStorageForPresentation,
        uid("instance", image.name),
    )
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study", image.name), uid("series", image.name)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "090000"
    ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = "", "", f"{row.follow_up}"
    ds.Modality, ds.PresentationIntentType = "DX", "FOR PRESENTATION"
    ds.Manufacturer, ds.InstitutionName = "", "NIH Clinical Center"
    ds.StudyDescription, ds.SeriesDescription = (
        "Chest radiograph (dates invented)",
        f"Chest {row.view}",
    )
    ds.ImageComments = NOTICE
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = f"NIH^{patient}", patient, "NIH-CXR14"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = (
        born.strftime("%Y%m%d"),
        row.sex,
        f"{int(row.age):03d}Y",
    )
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = (
        "YES",
        "Published de-identified by the NIH Clinical Center",
    )
    ds.BodyPartExamined, ds.ViewPosition, ds.PatientOrientation = "CHEST", row.view, ["L", "F"]
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 1, 1, 1
    ds.Laterality, ds.ImageLaterality = "", "U"
    ds.AnatomicRegionSequence = [code("51185008", "SCT", "Chest")]
    ds.ViewCodeSequence = [
        code("399348003", "SCT", "antero-posterior")
        if row.view == "AP"
        else code("272479007", "SCT", "postero-anterior")
    ]
    ds.AcquisitionContextSequence = []
    ds.DetectorType, ds.PositionerType = "", ""
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "01"
    ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = "10", "ISO_10918_1"
    ds.DerivationDescription = "Reduced to 512 x 512, 8 bit"
    spacing = [
        row.pixel_spacing_mm * row.original_height / rows,
        row.pixel_spacing_mm * row.original_width / cols,
    ]
    ds.ImagerPixelSpacing = [f"{value:.6g}" for value in spacing]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = rows, cols, 8, 8, 7
    ds.PixelRepresentation, ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = (
        0,
        "LOG",
        1,
    )
    ds.PresentationLUTShape, ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = (
        "IDENTITY",
        "0",
        "1",
        "US",
    )
    ds.WindowCenter, ds.WindowWidth = "128", "256"
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    )
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID, ds.file_meta.ImplementationVersionName = (
        uid("implementation"),
        "MEDFUSION_MODELS",
    )
    return ds


def write(image: Path, row, born: date, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset(image, row, born).save_as(target, enforce_file_format=True)
