"""WADO-RS rendered: stored images as pictures, beside what Pillow makes of pydicom's pixels."""
import io
import re

import numpy
import pydicom
import pytest
import requests
from PIL import Image
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import ComprehensiveSRStorage, EnhancedCTImageStorage

import daemon as daemons
from dicom_net import JSON, part10, radiograph, related

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, frontal_bundle):
    running = daemons.Daemon(tmp_path_factory.mktemp("rendered"), frontal_bundle).start()
    yield running
    assert running.stop() == 0


def store(daemon, ds):
    body, kind = related([part10(ds)])
    sent = requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON})
    assert sent.status_code == 200, sent.text
    return f"/dicom-web/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def ramp(rows=40, columns=80, **attributes):
    """A radiograph whose values grow by 50 a column and 1 a row, with a window."""
    ds = radiograph(WindowCenter=2048, WindowWidth=4096, **attributes)
    values = numpy.add.outer(numpy.arange(rows), 50 * numpy.arange(columns)).astype(numpy.uint16)
    ds.Rows, ds.Columns, ds.PixelData = rows, columns, values.tobytes()
    return ds, values


def windowed(values, center, width):
    """PS3.3 C.11.2.1.2.1."""
    share = (values.astype(float) - (center - 0.5)) / (width - 1) + 0.5
    return numpy.floor(numpy.clip(share, 0, 1) * 255 + 0.5)


def close(shown, expected):
    """Equal but for values that lie on the border of two grey levels, which binary32 may round the other way."""
    return numpy.abs(shown - expected).max() <= 1 and (shown != expected).mean() < 0.02


@pytest.fixture(scope="module")
def stored(daemon):
    ds, values = ramp()
    return ds, values, store(daemon, ds)


@pytest.fixture(scope="module")
def multiframe(daemon):
    """Three frames of 16 × 16: 100, 200 and 300 everywhere, and one bright pixel each."""
    ds = radiograph(size=16, SOPClassUID=EnhancedCTImageStorage, Modality="CT", NumberOfFrames=3, WindowCenter=200, WindowWidth=400)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    values = numpy.stack([numpy.full((16, 16), 100 * (i + 1), numpy.uint16) for i in range(3)])
    ds.PixelData = values.tobytes()
    return ds, values, store(daemon, ds)


def picture(daemon, path, accept="image/png", **query):
    answer = daemon.get(path, params=query, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(answer.content))
    assert image.format == FORMATS[answer.headers["Content-Type"]]
    return numpy.asarray(image, dtype=int)


def test_a_png_is_the_window_of_the_image(daemon, stored):
    _, values, path = stored
    assert (picture(daemon, path + "/rendered") == windowed(values, 2048, 4096)).all()
    assert (picture(daemon, path + "/frames/1/rendered") == windowed(values, 2048, 4096)).all()


@pytest.mark.parametrize("accept, kind", [
    ("image/jpeg", "image/jpeg"), ("image/png", "image/png"), ("*/*", "image/jpeg"), ("image/*", "image/jpeg"),
    ("image/jpeg;q=0.5, image/png", "image/png"), ("text/html, image/png;q=0.1", "image/png"),
    ('multipart/related; type="image/png"', "image/png"), ("text/html", None), ("application/dicom", None), ("", None),
    ('multipart/related; type="application/dicom"', None)])
def test_accept_chooses_the_type(daemon, stored, accept, kind):
    answer = daemon.get(stored[2] + "/rendered", headers={"Accept": accept})
    assert answer.status_code == (200 if kind else 406)
    assert not kind or answer.headers["Content-Type"] == kind


def test_the_query_parameter_accept_wins(daemon, stored):
    answer = daemon.get(stored[2] + "/rendered", params={"accept": "image/png"}, headers={"Accept": "image/jpeg"})
    assert answer.headers["Content-Type"] == "image/png"


def test_quality_makes_jpegs_smaller_and_worse(daemon, stored):
    exact = windowed(stored[1], 2048, 4096)
    sizes, errors = [], []
    for quality in (5, 50, 100):
        answer = daemon.get(stored[2] + "/rendered", params={"quality": quality}, headers={"Accept": "image/jpeg"})
        sizes.append(len(answer.content))
        errors.append(numpy.abs(numpy.asarray(Image.open(io.BytesIO(answer.content)), dtype=int) - exact).mean())
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True) and errors[-1] < 1


@pytest.mark.parametrize("center, width", [(1000, 500), (2000.5, 4000), (0, 1)])
def test_linear_windows(daemon, stored, center, width):
    shown = picture(daemon, stored[2] + "/rendered", window=f"{center},{width},linear")
    expected = 255 * (stored[1] > center - 0.5) if width == 1 else windowed(stored[1], center, width)
    assert close(shown, expected)


def test_the_other_window_functions(daemon, stored):
    values = stored[1].astype(float)
    exact = numpy.floor(numpy.clip((values - 2000) / 1000 + 0.5, 0, 1) * 255 + 0.5)
    assert close(picture(daemon, stored[2] + "/rendered", window="2000,1000,linear-exact"), exact)
    sigmoid = 255 / (1 + numpy.exp(-4 * (values - 2000) / 1000))
    assert numpy.abs(picture(daemon, stored[2] + "/rendered", window="2000,1000,sigmoid") - sigmoid).max() <= 0.51


def test_viewports_cut_scale_and_turn(daemon, stored):
    _, values, path = stored
    exact = windowed(values, 2048, 4096)
    assert picture(daemon, path + "/rendered", viewport="40,40").shape == (20, 40)
    assert picture(daemon, path + "/rendered", viewport="160,160").shape == (80, 160)
    part = picture(daemon, path + "/rendered", viewport="20,10,30,5,20,10")
    assert (part == exact[5:15, 30:50]).all()
    assert (picture(daemon, path + "/rendered", viewport="20,10,30,5,-20,10") == part[:, ::-1]).all()
    assert (picture(daemon, path + "/rendered", viewport="20,10,30,5,20,-10") == part[::-1]).all()
    half = picture(daemon, path + "/rendered", viewport="40,20")
    reference = numpy.asarray(Image.fromarray(exact.astype(numpy.float32)).resize((40, 20), Image.BILINEAR))
    assert numpy.abs(half - reference).max() <= 1


@pytest.mark.parametrize("query", [
    {"window": "1,2"}, {"window": "1,0,linear"}, {"window": "1,0.5,linear"}, {"window": "1,-5,sigmoid"}, {"window": "1,0,linear-exact"},
    {"window": "1,2,cubic"}, {"window": "a,b,linear"}, {"window": ""}, {"window": "1,2,3,linear"}, {"window": "1" * 100 + ",2,linear"},
    {"viewport": "0,0"}, {"viewport": "10"}, {"viewport": "10,10,90,0,10,10"}, {"viewport": "99999,10"},
    {"quality": "0"}, {"quality": "101"}, {"quality": "high"}])
def test_bad_parameters(daemon, stored, query):
    answer = daemon.get(stored[2] + "/rendered", params=query, headers={"Accept": "image/png"})
    assert answer.status_code == 400 and next(iter(query)) in answer.json()["detail"]


@pytest.mark.parametrize("name", ["annotation", "iccprofile", "Viewport"])
def test_parameters_that_are_not_supported_are_refused(daemon, stored, name):
    assert daemon.get(stored[2] + "/rendered", params={name: "no"}, headers={"Accept": "image/png"}).status_code == 400


def test_colour_and_inverted_images(daemon):
    ds, values = ramp(PhotometricInterpretation="MONOCHROME1")
    assert (picture(daemon, store(daemon, ds) + "/rendered") == 255 - windowed(values, 2048, 4096)).all()
    ds = radiograph(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7)
    rgb = numpy.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
    ds.PixelData = rgb.tobytes()
    path = store(daemon, ds)
    assert (picture(daemon, path + "/rendered") == rgb).all()
    assert numpy.abs(picture(daemon, path + "/rendered", accept="image/jpeg", quality=100) - rgb.astype(int)).mean() < 2
    assert daemon.get(path + "/rendered", params={"window": "1,2,linear"}, headers={"Accept": "image/png"}).status_code == 400


def test_frames_of_a_multiframe_image(daemon, multiframe):
    _, values, path = multiframe
    for i in range(3):
        assert (picture(daemon, f"{path}/frames/{i + 1}/rendered") == windowed(values[i], 200, 400)).all()
    answer = daemon.get(path + "/rendered", headers={"Accept": "image/png"})
    assert answer.status_code == 406 and "3 frames" in answer.json()["detail"]


def test_several_frames_are_parts(daemon, multiframe):
    _, values, path = multiframe
    answer = daemon.get(path + "/frames/1,3/rendered", headers={"Accept": 'multipart/related; type="image/png"'})
    boundary = re.fullmatch(r'multipart/related; type="image/png"; boundary=(\w+)', answer.headers["Content-Type"])[1]
    first, second, end = answer.content.split(b"--" + boundary.encode())[1:]
    assert end == b"--\r\n"
    for part, i in ((first, 0), (second, 2)):
        head, body = part.split(b"\r\n\r\n", 1)
        assert b"Content-Type: image/png" in head
        location = re.search(rb"Content-Location: (\S+)", head)[1].decode()
        assert location.endswith(f"{path}/frames/{i + 1}/rendered")
        assert (numpy.asarray(Image.open(io.BytesIO(body[:-2]))) == windowed(values[i], 200, 400)).all()


@pytest.mark.parametrize("frames, status", [("0", 400), ("x", 400), ("1,", 400), ("2,1", 400), ("1,1", 400), ("1.5", 400), ("4", 404), ("1,9", 404),
                                            (",".join(str(i) for i in range(1, 66)), 400)])
def test_frames_that_there_are_not(daemon, multiframe, frames, status):
    assert daemon.get(f"{multiframe[2]}/frames/{frames}/rendered", headers={"Accept": "image/png"}).status_code == status


def test_instances_without_a_picture(daemon):
    report = radiograph(SOPClassUID=ComprehensiveSRStorage, Modality="SR")
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
    for keyword in ("PixelData", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
                    "PixelRepresentation"):
        delattr(report, keyword)
    answer = daemon.get(store(daemon, report) + "/rendered", headers={"Accept": "image/png"})
    assert answer.status_code == 406 and "image" in answer.json()["detail"], answer.text
    short = radiograph()
    short.PixelData = short.PixelData[:-200]
    answer = daemon.get(store(daemon, short) + "/rendered", headers={"Accept": "image/png"})
    assert answer.status_code == 406 and "cannot be rendered" in answer.json()["detail"], answer.text
    assert daemon.get("/dicom-web/studies/1.2/series/1.3/instances/1.4/rendered", headers={"Accept": "image/png"}).status_code == 404


def test_dicomweb_client_gets_pictures(daemon, stored, multiframe):
    client = DICOMwebClient(daemon.url + "/dicom-web")
    uids = [stored[0].StudyInstanceUID, stored[0].SeriesInstanceUID, stored[0].SOPInstanceUID]
    shown = client.retrieve_instance_rendered(*uids, media_types=("image/png",))
    assert (numpy.asarray(Image.open(io.BytesIO(shown))) == windowed(stored[1], 2048, 4096)).all()
    uids = [multiframe[0].StudyInstanceUID, multiframe[0].SeriesInstanceUID, multiframe[0].SOPInstanceUID]
    shown = client.retrieve_instance_frames_rendered(*uids, frame_numbers=[2], media_types=("image/jpeg",))
    assert Image.open(io.BytesIO(shown)).format == "JPEG"
