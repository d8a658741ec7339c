"""Crashes, endless loops and allocation bombs, planted in the libraries that decode: the instance is named, others are untouched, and the next request is served."""
import io
import re
import struct
import zlib

import numpy
import PIL.Image
import pytest
import requests
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

import bundles
import daemon as daemons
from dicom_net import JSON, part10, radiograph, related

PLANT = bundles.PROGRAM.parent / "gates/libgate_plant.so"
pytestmark = pytest.mark.skipif(not PLANT.exists(), reason="skipped: a build without tests plants nothing")

CPU_S = 1
WIDTHS = {"crash": 101, "loop": 102, "bomb": 103}
ENDS = {
    "crash": r"decoding crashed: signal 11 \(Segmentation fault\)",
    "loop": rf"decoding took more than ({CPU_S} seconds of CPU time|{3 * CPU_S} seconds)",  # the latter on a busy machine
    "bomb": "decoding takes more than the allowed 256 MiB|out of memory for inflating|frame 0: the JPEG 2000 codestream is damaged or truncated",
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, frontal_bundle):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(PLANT))
        running = daemons.Daemon(tmp_path_factory.mktemp("contained"), frontal_bundle, **{
            "decoder.cpu_s": CPU_S, "decoder.memory_bytes": 256 << 20, "intake.quiet_s": 3600}).start()
    yield running
    assert running.stop() == 0


def jpeg_2000(width, **attributes):
    ds = radiograph(**attributes)
    out = io.BytesIO()
    pixels = numpy.random.default_rng(width).integers(0, 256, (64, width), dtype=numpy.uint8)
    PIL.Image.fromarray(pixels).save(out, "JPEG2000", irreversible=False, no_jp2=True)
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 64, width, 8, 8, 7
    ds.PixelData = encapsulate([out.getvalue()])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    return ds


def deflated(what):
    """An object in the deflated syntax whose first bytes of compressed data say what is to happen."""
    ds = radiograph()
    file = part10(ds)
    start = 132 + 12 + struct.unpack("<I", file[140:144])[0]
    words = b"PLANTED-" + what.upper().encode()
    private = struct.pack("<HH2sH", 0x0009, 0x0010, b"LO", len(words) + len(words) % 2) + words + b" " * (len(words) % 2)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta = part10(ds)
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)  # stored: the text is there to be seen
    return meta[: 132 + 12 + struct.unpack("<I", meta[140:144])[0]] + packer.compress(private + file[start:]) + packer.flush()


def still_serves(daemon):
    return daemon.post([part10(jpeg_2000(100))], headers={"Prefer": "wait=60"}).status_code == 200


@pytest.mark.parametrize("what", WIDTHS)
def test_a_frame_that_ends_its_decoder_is_named(daemon, what):
    first = jpeg_2000(96)
    study = {"study": first.StudyInstanceUID, "series": first.SeriesInstanceUID}
    images = [first, jpeg_2000(WIDTHS[what], InstanceNumber=2, **study), jpeg_2000(97, InstanceNumber=3, **study)]
    refused = daemon.post([part10(ds) for ds in images], headers={"Prefer": "wait=60"})
    problem = refused.json()
    assert refused.status_code >= 400 and re.fullmatch(f"part 2: ({ENDS[what]})", problem["detail"]), refused.text
    job = daemon.get(f"/v1/jobs/{problem['job']}").json()
    assert (job["state"], job["attempts"]) == ("failed", 1) and job["problem"]["detail"] == problem["detail"]
    assert still_serves(daemon)


@pytest.mark.parametrize("what", ["crash", "bomb"])
def test_a_part_that_ends_its_decoder_is_named(daemon, what):
    refused = daemon.post([part10(radiograph()), deflated(what), part10(radiograph())])
    assert refused.status_code >= 400 and re.fullmatch(f"part 2: ({ENDS[what]})", refused.json()["detail"]), refused.text
    assert still_serves(daemon)


@pytest.mark.parametrize("what", ["loop", "bomb"])
def test_an_instance_that_ends_its_decoder_is_the_only_one_not_stored(daemon, what):
    good = [radiograph(), radiograph()]
    body, kind = related([part10(good[0]), deflated(what), part10(good[1])])
    answer = requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=120)
    assert answer.status_code == 202, answer.text
    stored = [item["00081155"]["Value"][0] for item in answer.json()["00081199"]["Value"]]
    assert stored == [ds.SOPInstanceUID for ds in good]
    [failed] = answer.json()["00081198"]["Value"]
    assert failed["00081197"]["Value"] == [0xA700]
    assert re.fullmatch(f'299 medfusion "part 2: ({ENDS[what]})"', answer.headers["Warning"])
    assert still_serves(daemon)
