#!/usr/bin/env python3
"""Decoding, megabytes of samples a second and thread, beside pydicom with its plug-ins and DCMTK's tools.

Makes one object of several frames in each transfer syntax: a 12-bit chest-like picture with noise in 16 bits. Rounds alternate between the sides, the best counts. DCMTK's tools are whole programs that write their output to a RAM disk; what
they take for the same object in native form (dcmconv) is taken off.

    tests/bench/decode.py [--size 1024] [--frames 8] [--seconds 1] [--rounds 2]
    (Python with tests/dicom/requirements.txt; bench_decode, built with the tests; DCMTK's dcmdjpeg, dcmdjpls, dcmdrle, dcmconv)
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import numpy
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless, SecondaryCaptureImageStorage, generate_uid,
)  # fmt: skip

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("BENCH_DECODE", ROOT / "build/release/tests/dicom/bench_decode"))


def picture(size, frames):
    y, x = numpy.mgrid[0:size, 0:size] / size
    base = 2600 - 1500 * numpy.exp(-(((x - 0.3) / 0.12) ** 2 + ((y - 0.5) / 0.25) ** 2)) - 1500 * numpy.exp(-(((x - 0.7) / 0.12) ** 2 + ((y - 0.5) / 0.25) ** 2))
    noise = numpy.random.default_rng(1).normal(0, 12, (frames, size, size))
    return numpy.clip(base + noise, 0, 4095).astype("<u2")


def native(size, frames):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    ds.StudyInstanceUID = ds.SeriesInstanceUID = generate_uid()
    ds.PatientID, ds.Modality = "B", "OT"
    ds.Rows = ds.Columns = size
    ds.NumberOfFrames, ds.SamplesPerPixel, ds.PhotometricInterpretation = frames, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = picture(size, frames).tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def make(directory, size, frames):
    """{name: (file, DCMTK's tool or None)}"""
    plain = directory / "native.dcm"
    native(size, frames).save_as(plain, enforce_file_format=True)
    made = {"native": (plain, None)}
    for name, syntax, tool in (("RLE", RLELossless, "dcmdrle"), ("JPEG-LS", JPEGLSLossless, "dcmdjpls"), ("JPEG 2000", JPEG2000Lossless, None)):
        ds = native(size, frames)
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(directory / f"{name}.dcm", enforce_file_format=True)
        made[name] = (directory / f"{name}.dcm", tool)
    for name, option in (("JPEG lossless", "+e1"), ("JPEG extended, 12 bit", "+ee")):
        file = directory / f"{name}.dcm"
        subprocess.run(["dcmcjpeg", option, plain, file], check=True)
        made[name] = (file, "dcmdjpeg")
    return made


def ours(file, seconds):
    return float(subprocess.run([PROGRAM, file, str(seconds)], check=True, capture_output=True, text=True).stdout)


def peer(file, seconds):
    """pydicom, frame by frame as we do; None where it has no plug-in."""
    ds = pydicom.dcmread(file)
    begin, done = time.perf_counter(), 0
    try:
        while time.perf_counter() - begin < seconds:
            for k in range(ds.NumberOfFrames):
                done += pydicom.pixels.pixel_array(ds, raw=True, index=k).nbytes
    except (RuntimeError, AttributeError, NotImplementedError, ValueError):
        return None
    return done / 1e6 / (time.perf_counter() - begin)


def tool_rate(tool, file, plain, size):
    """Megabytes a second of a tool, start and writing taken off; None without one."""
    if not tool or not shutil.which(tool):
        return None
    out = pathlib.Path("/dev/shm") / f"decode-{os.getpid()}.dcm"

    def seconds(*command):
        begin = time.perf_counter()
        subprocess.run([*command, out], check=True, capture_output=True)
        return time.perf_counter() - begin

    try:
        spent = seconds(tool, file) - seconds("dcmconv", plain)
    finally:
        out.unlink(missing_ok=True)
    return size / 1e6 / spent if spent > 0 else None


def best(rates):
    rates = [r for r in rates if r is not None]
    return f"{max(rates):.0f}" if rates else "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        files = make(pathlib.Path(directory), a.size, a.frames)
        print("| syntax | MedFusion, MB/s | pydicom, MB/s | DCMTK's tool, MB/s |\n|---|---|---|---|")
        for name, (file, tool) in files.items():
            rates = [[], [], []]
            for _ in range(a.rounds):
                rates[0].append(ours(file, a.seconds))
                rates[1].append(peer(file, a.seconds))
                rates[2].append(tool_rate(tool, file, files["native"][0], a.size**2 * 2 * a.frames))
            print(f"| {name} | {best(rates[0])} | {best(rates[1])} | {best(rates[2])} |", flush=True)


if __name__ == "__main__":
    main()
