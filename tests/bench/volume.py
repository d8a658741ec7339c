#!/usr/bin/env python3
"""A CT series from POST to volume in memory.

Starts `medfusion serve` with a bundle that resamples series (tests/integration/bundles.py) and posts one of 512 × 512 slices as a multipart request
of single files and as a zip: until it is accepted (scanned, durable, 202) and until its planes are in the worker's memory, resampled, which the
result's timing tells (`decode`).

    tests/bench/volume.py [--slices 512] [--size 512] [--voxel 1.5,1,1] [--syntax native|jpegls|rle] [--rounds 1]      (Python of build/venv)
"""
import argparse
import http.client
import io
import pathlib
import sys
import tempfile
import time
import urllib.parse
import zipfile

import pydicom.uid

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))
import bundles  # noqa: E402
import daemon as daemons  # noqa: E402
import volume_series  # noqa: E402

SYNTAXES = {"native": None, "rle": pydicom.uid.RLELossless, "jpegls": pydicom.uid.JPEGLSLossless}


def files_of(series, syntax):
    """Part 10 files of the slices; UIDs differ from call to call."""
    files = []
    for d in volume_series.single_frames(series, study=str(pydicom.uid.generate_uid())[:56]):
        if syntax:
            d.compress(syntax)
        buffer = io.BytesIO()
        d.save_as(buffer, enforce_file_format=True)
        files.append(buffer.getvalue())
    return files


def multipart(files):
    body = b"".join(
        b'--cut\r\nContent-Disposition: form-data; name="dicom"\r\nContent-Type: application/dicom\r\n\r\n' + f + b"\r\n"
        for f in files
    )
    return body + b"--cut--\r\n", "multipart/form-data; boundary=cut"


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for k, data in enumerate(files):
            archive.writestr(f"{k:04}.dcm", data)
    return buffer.getvalue(), "application/zip"


def measure(server, body, kind):
    """Seconds until 202, and until the volume is in memory; the result."""
    port = urllib.parse.urlsplit(server.url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    begin = time.perf_counter()
    connection.request("POST", "/v1/jobs", body, {"Content-Type": kind})
    response = connection.getresponse()
    text = response.read()
    if response.status != 202:
        raise RuntimeError(f"{response.status}: {text[:300]}")
    accepted = time.perf_counter() - begin
    job = server.wait(response.headers["Location"], seconds=600)
    if job["state"] != "succeeded":
        raise RuntimeError(job["problem"])
    result = server.get(f"/v1/jobs/{job['id']}/result").json()
    return accepted, accepted + result["timing_ms"]["decode"] / 1000, result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=512)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--voxel", default="1.5,1,1")
    parser.add_argument("--syntax", choices=SYNTAXES, default="native")
    parser.add_argument("--rounds", type=int, default=1)
    a = parser.parse_args()
    series = volume_series.Series((a.slices, a.size, a.size), (0.7, 0.7, 0.7))
    print("| request | MB | until 202, s | until the volume is in memory, s | of which decoding and resampling | planes |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        model = bundles.make_volume_bundle(directory / "model", [float(v) for v in a.voxel.split(",")])
        server = daemons.Daemon(directory / "daemon", model).start()
        try:
            for _ in range(a.rounds):
                for name, pack in (("512 parts".replace("512", str(a.slices)), multipart), ("zip", zipped)):
                    body, kind = pack(files_of(series, SYNTAXES[a.syntax]))
                    accepted, ready, result = measure(server, body, kind)
                    volume = result["study"]["volume"]
                    print(f"| {name}, {a.syntax} | {len(body) / 1e6:.0f} | {accepted:.2f} | {ready:.2f} | {result['timing_ms']['decode'] / 1000:.2f} | "
                          f"{len(result['study']['frames'])} of {volume['planes']} |", flush=True)  # fmt: skip
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
