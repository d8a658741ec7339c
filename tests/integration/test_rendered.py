"""WADO-RS rendered: stored images as pictures, beside what Pillow makes of pydicom's pixels."""
import io
import re

import numpy
import pydicom
import pytest
import requests
from PIL import Image
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import ComprehensiveSRStorage, EnhancedCTImageStorage, generate_uid

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


# --- series, studies, thumbnails ---


def flat(value, study, number, series, **attributes):
    """An 8 × 8 image of one value, which the window shows as itself."""
    ds = radiograph(size=8, study=study, series=series[0], SeriesNumber=series[1], InstanceNumber=number, WindowCenter=128, WindowWidth=256,
                    **attributes)
    ds.PixelData = numpy.full((8, 8), value, numpy.uint16).tobytes()
    return ds


def without_picture(study, series):
    report = radiograph(study=study, series=series, SOPClassUID=ComprehensiveSRStorage, Modality="SR", SeriesNumber=0)
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
    for keyword in ("PixelData", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
                    "PixelRepresentation"):
        delattr(report, keyword)
    return report


@pytest.fixture(scope="module")
def study(daemon):
    """Stored in no order: a report, series 1 with images 10, 20, 30 (and one that is cut short), series 2 with two frames 40 and 50."""
    uid, one, two = generate_uid(), (generate_uid(), 1), (generate_uid(), 2)
    frames = flat(0, uid, 1, two, SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=2)
    frames.file_meta.MediaStorageSOPClassUID = frames.SOPClassUID
    frames.PixelData = numpy.repeat([40, 50], 64).astype(numpy.uint16).tobytes()
    short = flat(99, uid, 4, one)
    short.PixelData = short.PixelData[:-20]
    for ds in (frames, short, flat(20, uid, 2, one), without_picture(uid, generate_uid()), flat(30, uid, 10, one), flat(10, uid, 1, one)):
        store(daemon, ds)
    return f"/dicom-web/studies/{uid}", f"/series/{one[0]}", f"/series/{two[0]}"


def parts(answer):
    """The pictures of a multipart body: what they are located at, and their middle pixel."""
    assert answer.status_code == 200, answer.text
    boundary = re.fullmatch(r'multipart/related; type="image/png"; boundary=(\w+)', answer.headers["Content-Type"])[1]
    found = []
    for part in answer.content.split(b"--" + boundary.encode())[1:-1]:
        head, body = part.split(b"\r\n\r\n", 1)
        found.append((re.search(rb"Content-Location: (\S+)", head)[1].decode(), int(numpy.asarray(Image.open(io.BytesIO(body[:-2])))[4, 4])))
    return found


def test_a_study_and_its_series_as_pictures(daemon, study):
    root, one, two = study
    png = {"Accept": 'multipart/related; type="image/png"'}
    whole = parts(daemon.get(root + "/rendered", headers=png))
    assert [value for _, value in whole] == [10, 20, 30, 40, 50]
    assert all(f"{root}{one}/instances/" in url and "/frames/" not in url for url, _ in whole[:3])
    assert [url.rsplit("/instances/", 1)[1].split("/", 1)[1] for url, _ in whole[3:]] == ["frames/1/rendered", "frames/2/rendered"]
    assert parts(daemon.get(root + one + "/rendered", headers=png)) == whole[:3]
    assert parts(daemon.get(root + two + "/rendered", headers=png)) == whole[3:]
    for url, value in whole:  # each part is what its own address gives
        assert picture(daemon, url[url.index("/dicom-web"):])[4, 4] == value
    large = daemon.get(root + two + "/rendered", headers=png, params={"viewport": "16,16", "window": "128,256,linear"})
    assert b"IHDR\x00\x00\x00\x10\x00\x00\x00\x10" in large.content


def test_what_has_no_picture_at_all(daemon):
    report = without_picture(generate_uid(), generate_uid())
    store(daemon, report)
    for path in ("rendered", "thumbnail"):
        answer = daemon.get(f"/dicom-web/studies/{report.StudyInstanceUID}/{path}", headers={"Accept": "image/png"})
        assert answer.status_code == 406 and "image" in answer.json()["detail"], answer.text
        for unknown, status in (("1.2.3", 404), ("x", 400)):
            assert daemon.get(f"/dicom-web/studies/{unknown}/{path}", headers={"Accept": "image/png"}).status_code == status
        assert daemon.get(f"/dicom-web/studies/{report.StudyInstanceUID}/{path}").status_code == 406  # no picture type is wanted


def test_more_pictures_than_there_may_be(daemon):
    ds = flat(0, generate_uid(), 1, (generate_uid(), 1), SOPClassUID=EnhancedCTImageStorage, NumberOfFrames=513)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.PixelData = bytes(2 * 64 * 513)
    store(daemon, ds)
    answer = daemon.get(f"/dicom-web/studies/{ds.StudyInstanceUID}/rendered", headers={"Accept": "image/png"})
    assert answer.status_code == 413 and "more than 512 pictures" in answer.json()["detail"], answer.text
    assert picture(daemon, f"/dicom-web/studies/{ds.StudyInstanceUID}/thumbnail").shape == (8, 8)


def test_thumbnails_are_of_the_middle(daemon, study, stored):
    root, one, two = study
    for path, value in ((root, 20), (root + one, 20), (root + two, 50)):  # the middle one is cut short: 20 lies beside it
        assert picture(daemon, path + "/thumbnail")[4, 4] == value
    instance = parts(daemon.get(root + two + "/rendered", headers={"Accept": "image/png"}))[0][0]
    instance = instance[instance.index("/dicom-web"):].rsplit("/frames", 1)[0]
    assert picture(daemon, instance + "/thumbnail")[4, 4] == 50
    assert [picture(daemon, f"{instance}/frames/{n}/thumbnail")[4, 4] for n in (1, 2)] == [40, 50]
    for frame, status in (("3", 404), ("0", 400), ("1,2", 400), ("x", 400)):
        assert daemon.get(f"{instance}/frames/{frame}/thumbnail", headers={"Accept": "image/png"}).status_code == status
    assert daemon.get(instance + "/thumbnail", headers={"Accept": "image/jpeg"}).headers["Content-Type"] == "image/jpeg"
    assert picture(daemon, stored[2] + "/thumbnail").shape == (40, 80)  # small enough as it is
    assert picture(daemon, stored[2] + "/thumbnail", viewport="20,20").shape == (10, 20)
    for query in ({"window": "1,2,linear"}, {"quality": "50"}):
        assert daemon.get(stored[2] + "/thumbnail", headers={"Accept": "image/png"}, params=query).status_code == 400


def test_large_images_have_small_thumbnails(daemon):
    ds, _ = ramp(rows=300, columns=600)
    assert picture(daemon, store(daemon, ds) + "/thumbnail").shape == (64, 128)


def test_dicomweb_client_gets_pictures(daemon, stored, multiframe):
    client = DICOMwebClient(daemon.url + "/dicom-web")
    uids = [stored[0].StudyInstanceUID, stored[0].SeriesInstanceUID, stored[0].SOPInstanceUID]
    shown = client.retrieve_instance_rendered(*uids, media_types=("image/png",))
    assert (numpy.asarray(Image.open(io.BytesIO(shown))) == windowed(stored[1], 2048, 4096)).all()
    uids = [multiframe[0].StudyInstanceUID, multiframe[0].SeriesInstanceUID, multiframe[0].SOPInstanceUID]
    shown = client.retrieve_instance_frames_rendered(*uids, frame_numbers=[2], media_types=("image/jpeg",))
    assert Image.open(io.BytesIO(shown)).format == "JPEG"
    shown = client.retrieve_series_rendered(*uids[:2], media_types=("image/png",))
    assert shown.count(b"IHDR") == 3
