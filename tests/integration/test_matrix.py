"""Every combination of transfer syntax, bits, sign, photometric interpretation, planar configuration and odd size: the samples
that come out are the ones that went in, as pydicom gives them where it can decode the syntax."""
import io
import itertools
import shutil
import struct
import subprocess

import numpy
import PIL.Image
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000, JPEG2000Lossless,
    JPEGLosslessSV1, JPEGLSLossless, RLELossless, SecondaryCaptureImageStorage, generate_uid,
)  # fmt: skip

import bundles

NATIVE = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}
PLANT, WRONG_WIDTH = bundles.PROGRAM.parent / "gates/libgate_plant.so", 104
SIZES = ((1, 1), (7, 5), (16, 13))
# allocated, stored
BITS = ((1, 1), (8, 8), (8, 6), (16, 10), (16, 12), (16, 14), (16, 16), (32, 20), (32, 32))


def samples(shape, stored, signed, seed=3):
    """Random values over the whole range, both ends among them; the smallest type that holds them."""
    low, high = (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if signed else (0, (1 << stored) - 1)
    values = numpy.random.default_rng(seed).integers(low, high, shape, dtype=numpy.int64, endpoint=True)
    values.flat[0], values.flat[-1] = high, low
    return values


def dataset(values, allocated, stored, signed, photometric="MONOCHROME2", syntax=ExplicitVRLittleEndian):
    """`values`: (frames, rows, columns[, 3]); everything but the pixel data."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    ds.StudyInstanceUID = ds.SeriesInstanceUID = generate_uid()
    ds.Modality, ds.PatientID = "OT", "M"
    ds.NumberOfFrames, ds.Rows, ds.Columns = values.shape[:3]
    ds.SamplesPerPixel = 3 if values.ndim == 4 else 1
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, stored, stored - 1, int(signed)
    if values.ndim == 4:
        ds.PlanarConfiguration = 0
    return ds


def native(values, allocated, big=False):
    if allocated == 1:
        bits = numpy.packbits(values.astype(numpy.uint8).ravel(), bitorder="little").tobytes()
        return bits + b"\0" * (len(bits) % 2)
    mask = (1 << allocated) - 1
    data = (values & mask).astype(f"{'>' if big else '<'}u{allocated // 8}").tobytes()
    return data + b"\0" * (len(data) % 2)


def expected(values, allocated, signed):
    return values.astype(f"{'int' if signed else 'uint'}{max(allocated, 8)}")


def decoded(tmp_path, ds, frame, stage="stored"):
    file, out = tmp_path / "x.dcm", tmp_path / "x.npy"
    if ds is not None:
        pydicom.dcmwrite(file, ds, enforce_file_format=True)
    done = subprocess.run(
        [str(bundles.PROGRAM), "dicom", "frame", str(file), "--index", str(frame), "--stage", stage, "-o", str(out)],
        capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return numpy.load(out)


def by_pylibjpeg(file, index):
    """What pylibjpeg's plug-ins make of a frame, whatever pydicom would have taken."""
    return get_decoder(file.file_meta.TransferSyntaxUID).as_array(file, raw=True, index=index, decoding_plugin="pylibjpeg")[0]


def check(tmp_path, ds, values, allocated, signed, pydicom_too=True, pylibjpeg_too=True):
    """The last frame against what went in, against pydicom, and, where it is encapsulated, against pylibjpeg."""
    want, last = expected(values, allocated, signed), len(values) - 1
    got = decoded(tmp_path, ds, last)
    assert got.dtype == want.dtype and got.shape == want[last].shape
    assert numpy.array_equal(got, want[last])
    file = pydicom.dcmread(tmp_path / "x.dcm")
    if pydicom_too:
        assert numpy.array_equal(got, pydicom.pixels.pixel_array(file, raw=True, index=last))
    if pylibjpeg_too and file.file_meta.TransferSyntaxUID.is_encapsulated:
        assert numpy.array_equal(got, by_pylibjpeg(file, last))


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("allocated,stored", BITS)
def test_native_grey(tmp_path, syntax, allocated, stored):
    for signed in (False, True) if stored > 1 else (False,):
        size = SIZES[(allocated + stored + signed) % 3]
        values = samples((2, *size), stored, signed)
        ds = dataset(values, allocated, stored, signed, "MONOCHROME1" if signed else "MONOCHROME2", NATIVE[syntax])
        ds.PixelData = native(values, allocated, syntax == "big")
        ds["PixelData"].VR = "OW" if allocated > 8 or syntax == "implicit" else "OB"
        check(tmp_path, ds, values, allocated, signed)


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("photometric,planar", [("RGB", 0), ("RGB", 1), ("YBR_FULL", 0), ("YBR_FULL", 1)])
@pytest.mark.parametrize("allocated", [8, 16])
def test_native_colour(tmp_path, syntax, photometric, planar, allocated):
    values = samples((2, 7, 5, 3), allocated, False)
    ds = dataset(values, allocated, allocated, False, photometric, NATIVE[syntax])
    ds.PlanarConfiguration = planar
    stored = values.transpose(0, 3, 1, 2) if planar else values
    ds.PixelData = native(numpy.ascontiguousarray(stored), allocated, syntax == "big")
    ds["PixelData"].VR = "OB" if allocated == 8 and syntax != "implicit" else "OW"
    check(tmp_path, ds, values, allocated, False)


def test_half_the_colour_of_ybr_full_422(tmp_path):
    rng = numpy.random.default_rng(5)
    luma, colour = rng.integers(0, 256, (2, 6, 8)), rng.integers(0, 256, (2, 6, 4, 2))
    values = numpy.stack([luma, colour[..., 0].repeat(2, 2), colour[..., 1].repeat(2, 2)], -1)
    ds = dataset(values, 8, 8, False, "YBR_FULL_422")
    pairs = luma.reshape(2, 6, 4, 2)
    ds.PixelData = numpy.concatenate([pairs, colour], -1).astype(numpy.uint8).tobytes()
    ds["PixelData"].VR = "OB"
    check(tmp_path, ds, values, 8, False)


@pytest.mark.parametrize("kind,keyword", [("f4", "FloatPixelData"), ("f8", "DoubleFloatPixelData")])
def test_float_pixel_data(tmp_path, kind, keyword):
    for size in SIZES:
        values = numpy.random.default_rng(6).normal(0, 1e6, (2, *size)).astype(kind)
        ds = dataset(values, 8 * int(kind[1]), 8 * int(kind[1]), False)
        for unused in ("BitsStored", "HighBit", "PixelRepresentation"):
            delattr(ds, unused)
        setattr(ds, keyword, values.tobytes())
        assert numpy.array_equal(decoded(tmp_path, ds, 1), values[1])


def test_a_palette_is_looked_up(tmp_path):
    values = samples((1, 7, 5), 8, False)
    tables = [numpy.random.default_rng(k).integers(0, 65536, 256).astype("<u2") for k in range(3)]
    ds = dataset(values, 8, 8, False, "PALETTE COLOR")
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", table.tobytes())
    ds.PixelData = native(values, 8)
    ds["PixelData"].VR = "OB"
    check(tmp_path, ds, values, 8, False)
    shown = decoded(tmp_path, None, 0, "display")
    want = numpy.stack([t[values[0]] for t in tables], -1) / 65535 * 255
    assert abs(shown.astype(float) - want).max() <= 0.5 + 1e-9


def test_overlays_in_high_bits_are_masked_and_padding_is_not_shown(tmp_path):
    values = samples((1, 16, 13), 12, False)
    values[0, :4] = 4000  # padding, 3900 … 4095
    values[0, 4:] %= 3900
    ds = dataset(values, 16, 12, False)
    ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = 3900, 4095
    ds.add_new(0x60000102, "US", 12)
    ds.PixelData = native(values | 0xF000, 16)
    ds["PixelData"].VR = "OW"
    assert numpy.array_equal(decoded(tmp_path, ds, 0), values[0])
    shown = decoded(tmp_path, None, 0, "display")
    assert (shown[:4] == 0).all() and shown[4:].max() == 255


# --- encapsulated ---


def rle_frame(values, allocated):
    """PS3.5 annex G with literal runs only: planes of bytes, most significant first."""
    planes = []
    for channel in numpy.moveaxis(values, -1, 0) if values.ndim == 3 else [values]:
        raw = (channel & ((1 << allocated) - 1)).astype(f">u{allocated // 8}").tobytes()
        planes += [raw[k :: allocated // 8] for k in range(allocated // 8)]
    segments = []
    for plane in planes:
        rows = [plane[i : i + 128] for i in range(0, len(plane), 128)]
        segment = b"".join(bytes([len(r) - 1]) + r for r in rows)
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = numpy.cumsum([64] + [len(s) for s in segments])[:-1].tolist()
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(offsets))) + b"".join(segments)


@pytest.mark.parametrize("allocated,stored", [b for b in BITS if b[0] > 1])
def test_rle_grey(tmp_path, allocated, stored):
    for signed in (False, True):
        values = samples((2, *SIZES[(allocated + stored + signed) % 3]), stored, signed)
        ds = dataset(values, allocated, stored, signed, syntax=RLELossless)
        ds.PixelData = encapsulate([rle_frame(v, allocated) for v in values])
        check(tmp_path, ds, values, allocated, signed)


def test_rle_of_single_bits(tmp_path):
    for size in SIZES:
        values = samples((1, *size), 1, False)
        ds = dataset(values, 1, 1, False, syntax=RLELossless)
        packed = numpy.packbits(values.astype(numpy.uint8).ravel(), bitorder="little")
        ds.PixelData = encapsulate([rle_frame(packed[None].astype(numpy.int64), 8)])
        check(tmp_path, ds, values, 1, False, pydicom_too=False, pylibjpeg_too=False)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("allocated", [8, 16])
def test_rle_colour(tmp_path, allocated, planar):
    values = samples((2, 7, 5, 3), allocated, False)
    ds = dataset(values, allocated, allocated, False, "RGB", RLELossless)
    ds.PlanarConfiguration = planar
    ds.PixelData = encapsulate([rle_frame(v, allocated) for v in values])
    check(tmp_path, ds, values, allocated, False)


@pytest.mark.parametrize("allocated,stored", [(8, 8), (8, 6), (16, 10), (16, 12), (16, 14), (16, 16)])
def test_jpeg_ls(tmp_path, allocated, stored):
    for colour, signed in itertools.product((False, True), (False, True)):
        if colour and (signed or stored != 8):
            continue
        values = samples((2, 31, 17, 3) if colour else (2, 31, 17), stored, signed)
        values[:, 4:] = values[:, 4:5]  # the encoder fails where it does not make things smaller
        ds = dataset(values, allocated, stored, signed, "RGB" if colour else "MONOCHROME2")
        ds.PixelData = native(values, allocated)
        ds["PixelData"].VR = "OW"
        ds.compress(JPEGLSLossless, generate_instance_uid=False)
        check(tmp_path, ds, values, allocated, signed)


@pytest.mark.parametrize("mode,allocated", [("L", 8), ("RGB", 8), ("I;16", 16)])
def test_jpeg_2000(tmp_path, mode, allocated):
    for size, photometric in itertools.product(SIZES, ("MONOCHROME2",) if mode != "RGB" else ("RGB", "YBR_RCT")):
        values = samples((2, *size, 3) if mode == "RGB" else (2, *size), allocated, False)
        frames = []
        for v in values:
            out = io.BytesIO()
            image = PIL.Image.fromarray(v.astype(f"uint{allocated}"))
            image.save(out, "JPEG2000", irreversible=False, no_jp2=True, num_resolutions=1, mct=int(photometric == "YBR_RCT"))
            frames.append(out.getvalue())
        ds = dataset(values, allocated, allocated, False, photometric, JPEG2000Lossless)
        ds.PixelData = encapsulate(frames)
        check(tmp_path, ds, values, allocated, False, pydicom_too=mode != "I;16" and photometric != "YBR_RCT")


@pytest.mark.skipif(not PLANT.exists(), reason="skipped: a build without tests plants nothing")
def test_one_wrong_bit_is_found(tmp_path, monkeypatch):
    """The control of all of these: a decoder that is wrong in one bit of one sample, where it is planted and not elsewhere."""
    values = samples((1, 64, WRONG_WIDTH), 8, False)
    out = io.BytesIO()
    PIL.Image.fromarray(values[0].astype("uint8")).save(out, "JPEG2000", irreversible=False, no_jp2=True)
    ds = dataset(values, 8, 8, False, syntax=JPEG2000Lossless)
    ds.PixelData = encapsulate([out.getvalue()])
    check(tmp_path, ds, values, 8, False)
    monkeypatch.setenv("LD_PRELOAD", str(PLANT))
    assert (decoded(tmp_path, ds, 0) != values[0]).sum() == 1
    with pytest.raises(AssertionError):
        check(tmp_path, ds, values, 8, False)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_ICT"])
def test_colour_of_lossy_jpeg_2000(tmp_path, photometric):
    """The irreversible colour transform: floating point, so that two builds of one decoder may differ by one."""
    ramp = numpy.indices((37, 45)).sum(0) * 3
    pixels = numpy.stack([ramp % 256, (2 * ramp) % 256, 255 - ramp % 256], -1).astype(numpy.uint8)
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).save(out, "JPEG2000", irreversible=True, quality_layers=[4], no_jp2=True, mct=int(photometric == "YBR_ICT"))
    ds = dataset(pixels[None], 8, 8, False, photometric, JPEG2000)
    ds.PixelData = encapsulate([out.getvalue()])
    got = decoded(tmp_path, ds, 0).astype(int)
    assert abs(got - by_pylibjpeg(pydicom.dcmread(tmp_path / "x.dcm"), 0)).max() <= 1
    assert abs(got - pixels).mean() < 8  # the colours are those that went in
    shown = decoded(tmp_path, None, 0, "display").astype(int)
    assert abs(shown - got).max() <= 1


@pytest.mark.parametrize("allocated,stored", [(8, 8), (16, 10), (16, 12), (16, 14), (16, 16)])
def test_jpeg_lossless(tmp_path, allocated, stored):
    if not shutil.which("dcmcjpeg"):
        pytest.skip("skipped: no dcmcjpeg")
    for colour, signed in itertools.product((False, True), (False, True)):
        if colour and (signed or stored != 8):
            continue
        size = SIZES[(stored + colour) % 3]
        values = samples((2, *size, 3) if colour else (2, *size), stored, signed)
        ds = dataset(values, allocated, stored, signed, "RGB" if colour else "MONOCHROME2")
        ds.PixelData = native(values, allocated)
        ds["PixelData"].VR = "OW"
        pydicom.dcmwrite(tmp_path / "in.dcm", ds, enforce_file_format=True)
        subprocess.run(["dcmcjpeg", "+e1", tmp_path / "in.dcm", tmp_path / "x.dcm"], check=True, timeout=60)  # fmt: skip
        made = pydicom.dcmread(tmp_path / "x.dcm")
        assert made.file_meta.TransferSyntaxUID == JPEGLosslessSV1
        check(tmp_path, None, values, allocated, signed)


@pytest.mark.parametrize("allocated,stored", [(8, 8), (8, 6), (16, 10), (16, 12), (16, 14), (16, 16)])
def test_jpeg_2000_of_pylibjpeg(tmp_path, allocated, stored):
    """Encoded by OpenJPEG, six resolutions: bits, signs and colour that Pillow's encoder cannot write."""
    for size, colour, signed in itertools.product(((33, 37), (64, 45)), (False, True), (False, True)):
        if colour and (signed or stored != 8):
            continue
        values = samples((2, *size, 3) if colour else (2, *size), stored, signed)
        ds = dataset(values, allocated, stored, signed, "RGB" if colour else "MONOCHROME2")
        ds.PixelData = native(values, allocated)
        ds["PixelData"].VR = "OW"
        ds.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
        check(tmp_path, ds, values, allocated, signed, pydicom_too=False)


@pytest.mark.parametrize("allocated,stored", [(8, 8), (8, 6), (16, 10), (16, 12), (16, 14), (16, 16)])
def test_rle_of_pylibjpeg(tmp_path, allocated, stored):
    """Encoded with runs, which ours has none of."""
    for signed in (False, True):
        values = samples((2, 31, 17), stored, signed)
        values[:, 4:20] = values[:, 4:5, :1]
        ds = dataset(values, allocated, stored, signed)
        ds.PixelData = native(values, allocated)
        ds["PixelData"].VR = "OW"
        ds.compress(RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
        check(tmp_path, ds, values, allocated, signed)


# --- fragments and offset tables ---


def fragmented(frames, pieces, table):
    """Frames cut into fragments, with a basic, an extended, or no offset table."""
    if table == "extended":
        return encapsulate_extended(frames)
    return encapsulate(frames, fragments_per_frame=pieces, has_bot=table == "basic"), None, None


@pytest.mark.parametrize("pieces,table", [(1, "basic"), (3, "basic"), (1, "none"), (1, "extended")])
def test_frames_in_fragments(tmp_path, pieces, table):
    values = samples((3, 16, 13), 12, False)
    ds = dataset(values, 16, 12, False, syntax=RLELossless)
    ds.PixelData, offsets, lengths = fragmented([rle_frame(v, 16) for v in values], pieces, table)
    if offsets:
        ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = offsets, lengths
    check(tmp_path, ds, values, 16, False)
    assert numpy.array_equal(decoded(tmp_path, None, 1), expected(values, 16, False)[1])


def test_one_frame_in_many_fragments_without_a_table(tmp_path):
    values = samples((1, 16, 13), 16, False)
    ds = dataset(values, 16, 16, False, syntax=RLELossless)
    ds.PixelData = encapsulate([rle_frame(values[0], 16)], fragments_per_frame=4, has_bot=False)
    check(tmp_path, ds, values, 16, False)


def test_a_frame_of_more_than_a_hundred_megapixels(tmp_path):
    rows, columns = 10240, 10240
    values = (numpy.arange(columns, dtype=numpy.uint8)[None] + numpy.arange(rows, dtype=numpy.uint8)[:, None])[None]
    ds = dataset(values, 8, 8, False)
    ds.PixelData = values.tobytes()
    ds["PixelData"].VR = "OB"
    assert numpy.array_equal(decoded(tmp_path, ds, 0), values[0])


# --- refused ---


@pytest.mark.parametrize(
    "number,name",
    [
        ("100", "MPEG2 Main Profile / Main Level"),
        ("102", "MPEG-4 AVC/H.264 High Profile"),
        ("107", "HEVC/H.265 Main Profile"),
        ("110", "JPEG XL Lossless"),
        ("111", "JPEG XL JPEG Recompression"),
        ("112", "JPEG XL"),
    ],
)
def test_what_is_not_decoded_is_refused_by_name(tmp_path, number, name):
    values = samples((1, 16, 16), 8, False)
    ds = dataset(values, 8, 8, False, syntax=pydicom.uid.HEVCMP51)
    ds.PixelData = encapsulate([b"\0" * 64])
    file, out = tmp_path / "x.dcm", tmp_path / "x.png"
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    # pydicom writes no syntax that it does not know
    file.write_bytes(file.read_bytes().replace(b"1.2.840.10008.1.2.4.107", f"1.2.840.10008.1.2.4.{number}".encode()))
    done = subprocess.run([str(bundles.PROGRAM), "dicom", "frame", str(file), "-o", str(out)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"medfusion dicom: {file}: part 1: images in the transfer syntax {name} are not read\n"
