"""A chest radiograph as an uncompressed DICOM object: DX with every type 1 attribute of the IOD, for images whose
dates are invented.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian


@dataclass
class Radiograph:
    """What is known of an image and its patient; `view` is PA or AP, `spacing` mm at the detector, down and across."""

    image: Path
    patient: str
    issuer: str
    name: str
    sex: str
    view: str
    day: date
    time: str
    study: str
    institution: str
    notice: str
    deidentified: str
    derivation: str
    compression_ratio: str
    born: date | None = None
    age: int | None = None
    spacing: tuple[float, float] | None = None


def uid(*parts: object) -> str:
    """A UID that is the same every time for the same parts (2.25, from a name-based UUID)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, 'medfusion/' + '/'.join(map(str, parts))).int}"


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def dataset(r: Radiograph) -> Dataset:
    """The object; its UIDs follow from the image's file name."""
    pixels = np.asarray(Image.open(r.image).convert("L"))
    rows, cols = pixels.shape
    day, name = r.day.strftime("%Y%m%d"), r.image.name
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.SOPClassUID, ds.SOPInstanceUID = DigitalXRayImageStorageForPresentation, uid("instance", name)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("study", name), uid("series", name)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = r.time
    ds.AccessionNumber, ds.ReferringPhysicianName, ds.StudyID = "", "", r.study
    ds.Modality, ds.PresentationIntentType = "DX", "FOR PRESENTATION"
    ds.Manufacturer, ds.InstitutionName = "", r.institution
    ds.StudyDescription, ds.SeriesDescription = "Chest radiograph (dates invented)", f"Chest {r.view}"
    ds.ImageComments = r.notice
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = r.name, r.patient, r.issuer
    ds.PatientBirthDate, ds.PatientSex = r.born.strftime("%Y%m%d") if r.born else "", r.sex
    if r.age is not None:
        ds.PatientAge = f"{r.age:03d}Y"
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", r.deidentified
    ds.BodyPartExamined, ds.ViewPosition, ds.PatientOrientation = "CHEST", r.view, ["L", "F"]
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = 1, 1, 1
    ds.Laterality, ds.ImageLaterality = "", "U"
    ds.AnatomicRegionSequence = [code("51185008", "SCT", "Chest")]
    views = {"AP": ("399348003", "antero-posterior"), "PA": ("272479007", "postero-anterior")}
    ds.ViewCodeSequence = [code(views[r.view][0], "SCT", views[r.view][1])]
    ds.AcquisitionContextSequence = []
    ds.DetectorType, ds.PositionerType = "", ""
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "01"
    ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = r.compression_ratio, "ISO_10918_1"
    ds.DerivationDescription = r.derivation
    if r.spacing:
        ds.ImagerPixelSpacing = [f"{value:.6g}" for value in r.spacing]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = rows, cols, 8, 8, 7
    ds.PixelRepresentation, ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = 0, "LOG", 1
    ds.PresentationLUTShape, ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "IDENTITY", "0", "1", "US"
    ds.WindowCenter, ds.WindowWidth = "128", "256"
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID, ds.file_meta.ImplementationVersionName = uid("implementation"), "MEDFUSION_MODELS"
    return ds


def write(r: Radiograph, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset(r).save_as(target, enforce_file_format=True)
