"""Input that must be refused: one function per kind of damage, each returning bytes."""
import io
import json
import struct
import zipfile
import zlib

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from bundles import ROOT

SAMPLE = ROOT / "tests/data/sample"
NEWEST = SAMPLE / "dicom/2016-07-08.dcm"

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
RT_PLAN = "1.2.840.10008.5.1.4.1.1.481.5"
DEFLATED = "1.2.840.10008.1.2.1.99"


def to_bytes(dataset):
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def changed(**attributes):
    """The newest image of the sample with other attributes; None removes one. The object gets a UID of its own."""
    dataset = pydicom.dcmread(NEWEST)
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return to_bytes(dataset)


def not_dicom():
    return b"This is a text file, and a text file is no image.\n" * 40


def truncated():
    data = NEWEST.read_bytes()
    return data[: len(data) // 2]


def without_pixels():
    return changed(PixelData=None)


def other_object(sop_class, modality):
    """A small object of another kind (SR, RT), of the sample's patient."""
    image = pydicom.dcmread(NEWEST, stop_before_pixels=True)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = image.StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientID = image.PatientID
    dataset.Modality = modality
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def structured_report():
    return other_object(BASIC_TEXT_SR, "SR")


def rt_plan():
    return other_object(RT_PLAN, "RTPLAN")


def absurd_size():
    return changed(Rows=65535, Columns=65535)


def _meta(transfer_syntax):
    """Preamble and meta group, as bytes, of a file in this transfer syntax."""

    def element(tag, vr, value):
        value += b"\0" * (len(value) % 2)
        long_form = vr == b"OB"
        head = struct.pack("<HH", *tag) + vr
        head += b"\0\0" + struct.pack("<I", len(value)) if long_form else struct.pack("<H", len(value))
        return head + value

    group = element((2, 1), b"OB", b"\0\1")
    group += element((2, 2), b"UI", b"1.2.840.10008.5.1.4.1.1.1.1")
    group += element((2, 3), b"UI", b"2.25.1")
    group += element((2, 0x10), b"UI", transfer_syntax.encode())
    return b"\0" * 128 + b"DICM" + element((2, 0), b"UL", struct.pack("<I", len(group))) + group


def nested_sequences(depth=1_000_000):
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return _meta(ExplicitVRLittleEndian) + (sequence + item) * depth


def deflate_bomb(size=1 << 30):
    """About a megabyte that inflates to `size` bytes of pixel data."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = b"\0" * (1 << 20)
    data = packer.compress(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, size))
    data += b"".join(packer.compress(chunk) for _ in range(size >> 20))
    return _meta(DEFLATED) + data + packer.flush()


def zip_of(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def zip_escape():
    return zip_of([("../../evil.dcm", NEWEST.read_bytes())])


def zip_bomb(size=1 << 30):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("big.dcm", "w", force_zip64=True) as member:
            member.write(_meta(ExplicitVRLittleEndian))
            chunk = b"\0" * (1 << 20)
            for _ in range(size >> 20):
                member.write(chunk)
    return out.getvalue()


def ehr(change=None):
    """The sample's FHIR Bundle, with every resource passed through `change`."""
    bundle = json.loads((SAMPLE / "ehr.json").read_text())
    for entry in bundle["entry"]:
        if change:
            change(entry["resource"])
    return json.dumps(bundle).encode()


def ehr_of_another_patient():
    def change(resource):
        for identifier in resource.get("identifier", []):
            identifier["value"] = "somebody-else"

    return ehr(change)


def ehr_with_unit(unit):
    def change(resource):
        if "valueQuantity" in resource:
            resource["valueQuantity"].update(unit=unit, code=unit)

    return ehr(change)


def ehr_at(date):
    def change(resource):
        if "effectiveDateTime" in resource:
            resource["effectiveDateTime"] = date

    return ehr(change)


def deep_json(levels=10_000):
    return b'{"resourceType":"Bundle","meta":' + b"[" * levels + b"]" * levels + b"}"
