"""Frames of a job as pictures: what pydicom and Pillow see in them."""
import io
import struct

import numpy
import pydicom
import pytest
from PIL import Image

import bad_input

SAMPLE = sorted((bad_input.SAMPLE / "dicom").glob("*.dcm"))


def changed(**members):
    """The newest sample image with other attributes; `pixels` replaces its samples."""
    data = pydicom.dcmread(SAMPLE[-1])
    pixels = members.pop("pixels", None)
    if pixels is not None:
        signed = pixels.dtype.kind == "i"
        data.PixelData = pixels.tobytes()
        data.Rows, data.Columns = pixels.shape
        data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
        data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(signed)
        for keyword in ("WindowCenter", "WindowWidth", "LossyImageCompression", "SmallestImagePixelValue"):
            if keyword in data:
                delattr(data, keyword)
    for keyword, value in members.items():
        setattr(data, keyword, value)
    out = io.BytesIO()
    data.save_as(out)
    return out.getvalue()


def job_of(daemon, *files):
    answer = daemon.post(files, headers={"Prefer": "wait=60"})
    assert answer.status_code == 200, answer.text
    return answer.json()["job"]


def chunks(png):
    at = 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at:at + 8])
        yield kind.decode(), png[at + 8:at + 8 + length]
        at += 12 + length


def values(png):
    """Modality values of a 16-bit picture by its pCAL, and the values shown black and white."""
    found = dict(chunks(png))
    name, rest = found["pCAL"].split(b"\0", 1)
    low, high, equation, count = struct.unpack(">iiBB", rest[:10])
    unit, zero, span = rest[10:].split(b"\0")
    assert (low, high, equation, count) == (0, 65535, 0, 2)
    keyword, text = found["tEXt"].split(b"\0")
    assert keyword == b"Display range"
    samples = numpy.asarray(Image.open(io.BytesIO(png)), dtype=float)
    return float(zero) + samples * float(span) / 65535, [float(v) for v in text.split()]


def ramp(kind, low, step):
    y, x = numpy.mgrid[0:96, 0:128]
    return (low + step * (x + y)).astype(kind)


def test_the_list_names_images_and_whose_they_are(daemon):
    job = job_of(daemon, *(file.read_bytes() for file in SAMPLE))
    listed = daemon.get(f"/v1/jobs/{job}/frames").json()
    newest = pydicom.dcmread(SAMPLE[-1])
    assert listed["subject"]["patient_id"] == newest.PatientID
    assert [frame["sop_instance_uid"] for frame in listed["frames"]] == [pydicom.dcmread(file).SOPInstanceUID for file in SAMPLE]
    assert [frame["role"] for frame in listed["frames"]] == ["prior"] * 3 + ["current"]
    assert listed["frames"][-1]["spacing_mm"] == [float(v) for v in newest.ImagerPixelSpacing]


@pytest.mark.parametrize("pixels, attributes", [
    (None, {}),
    (ramp("<u2", 0, 250), {}),
    (ramp("<i2", -1024, 9), {"RescaleSlope": "1", "RescaleIntercept": "-7"}),
    (ramp("<u2", 100, 3), {"RescaleSlope": "0.25", "RescaleIntercept": "1.5"}),
])
def test_sixteen_bits_are_the_modality_values(daemon, pixels, attributes):
    file = changed(pixels=pixels, **attributes)
    data = pydicom.dcmread(io.BytesIO(file))
    job = job_of(daemon, file)
    got, _ = values(daemon.get(f"/v1/jobs/{job}/frames/0?bits=16").content)
    want = data.pixel_array * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
    step = 0 if numpy.all(want == numpy.rint(want)) else numpy.ptp(want) / 65535
    assert numpy.abs(got - want).max() <= step


def test_the_display_range_is_the_window(daemon):
    pixels = ramp("<u2", 0, 10)
    job = job_of(daemon, changed(pixels=pixels, WindowCenter="1000", WindowWidth="401"))
    _, shown = values(daemon.get(f"/v1/jobs/{job}/frames/0?bits=16").content)
    assert shown == [799.5, 1199.5]  # PS3.3 C.11.2.1.2.1: c − 0.5 ± (w − 1) / 2
    job = job_of(daemon, changed(pixels=pixels, WindowCenter="1000", WindowWidth="401", PhotometricInterpretation="MONOCHROME1"))
    _, shown = values(daemon.get(f"/v1/jobs/{job}/frames/0?bits=16").content)
    assert shown == [1199.5, 799.5]


def test_pictures_can_be_smaller(daemon):
    job = job_of(daemon, SAMPLE[-1].read_bytes())
    full = Image.open(io.BytesIO(daemon.get(f"/v1/jobs/{job}/frames/0").content))
    small = Image.open(io.BytesIO(daemon.get(f"/v1/jobs/{job}/frames/0?side=128").content))
    assert (full.size, full.mode, small.size) == ((512, 512), "L", (128, 128))
    want = numpy.asarray(full.resize((128, 128), Image.Resampling.BILINEAR), dtype=float)
    assert numpy.abs(numpy.asarray(small, dtype=float) - want).max() <= 2
    assert Image.open(io.BytesIO(daemon.get(f"/v1/jobs/{job}/frames/0?side=4000").content)).size == (512, 512)


@pytest.mark.parametrize("rest, status, detail", [
    ("/1", 404, "the result has no such frame"),
    ("/x", 404, "the result has no such frame"),
    ("/99999999999999999999", 404, "the result has no such frame"),
    ("/0?bits=12", 400, 'query parameter "bits" must be 8 or 16'),
    ("/0?side=0", 400, 'query parameter "side" must be a number of pixels from 1 to 65535'),
    ("/0?side=-3", 400, 'query parameter "side" must be a number of pixels from 1 to 65535'),
])
def test_what_cannot_be_given(daemon, rest, status, detail):
    job = job_of(daemon, SAMPLE[-1].read_bytes())
    problem = daemon.get(f"/v1/jobs/{job}/frames{rest}").json()
    assert (problem["status"], problem["detail"]) == (status, detail)


def test_media_types_and_states(daemon):
    job = job_of(daemon, SAMPLE[-1].read_bytes())
    assert daemon.get(f"/v1/jobs/{job}/frames/0", headers={"Accept": "image/jpeg"}).status_code == 406
    assert daemon.get(f"/v1/jobs/{job}/frames", headers={"Accept": "image/png"}).status_code == 406
    assert daemon.delete(f"/v1/jobs/{job}/data").status_code == 204
    for path in ("frames", "frames/0", "report"):
        assert daemon.get(f"/v1/jobs/{job}/{path}").json()["detail"] == "the job's data was purged"
    assert daemon.get(f"/v1/jobs/{'0' * 32}/frames/0").status_code == 404
