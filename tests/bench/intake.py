#!/usr/bin/env python3
"""Intake beside Orthanc: instances and megabytes a second that are durable when they are answered.

Starts `medfusion serve` and Orthanc (with its DICOMweb plug-in), both with their data on the same disk, and sends each the same series of
radiographs with UIDs of their own: by STOW-RS in requests of one and of many instances, and by C-STORE (DCMTK's storescu, one association).
Rounds alternate between the two; the fastest round counts. Orthanc syncs its storage area (its default) and keeps its index in SQLite.

    tests/bench/intake.py [--instances 60] [--size 512] [--rounds 3]      (Python of build/venv; Debian's orthanc, orthanc-dicomweb, dcmtk)
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))
import bundles  # noqa: E402
import daemon as daemons  # noqa: E402
from dicom_net import part10, radiograph, related  # noqa: E402
from orthanc import Orthanc  # noqa: E402


def series(count, size):
    """Part 10 files of one series."""
    first = radiograph(size=size)
    made = [first] + [radiograph(study=first.StudyInstanceUID, series=first.SeriesInstanceUID, size=size, InstanceNumber=i) for i in range(1, count)]
    return [part10(ds) for ds in made]


def stow(port, prefix, files, per_request):
    """Seconds for all files over one connection."""
    bodies = [related(files[i:i + per_request]) for i in range(0, len(files), per_request)]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    begin = time.perf_counter()
    for body, kind in bodies:
        connection.request("POST", prefix + "/studies", body, {"Content-Type": kind, "Accept": "application/dicom+json"})
        response = connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {text[:300]}")
    return time.perf_counter() - begin


def c_store(port, title, files):
    """Seconds for all files over one association."""
    with tempfile.TemporaryDirectory() as directory:
        for i, data in enumerate(files):
            pathlib.Path(directory, f"{i:05}.dcm").write_bytes(data)
        begin = time.perf_counter()
        subprocess.run(["storescu", "+sd", "-aet", "STORESCU", "-aec", title, "127.0.0.1", str(port), directory], check=True)
        return time.perf_counter() - begin


def at_once(count, send, files):
    """Seconds for `count` senders with a share of the files each."""
    share = -(-len(files) // count)
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(send, [files[i:i + share] for i in range(0, len(files), share)]))
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=60)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DISK")) as directory:
        directory = pathlib.Path(directory)
        bundle = bundles.make_bundle(directory / "bundle", name="frontal")
        ours = daemons.Daemon(directory / "ours", bundle, **{
            "dimse.listen": "127.0.0.1:0", "dimse.allow": "STORESCU", "intake.quiet_s": 3600, "log.level": "info"}).start()
        port = next(int(json.loads(line)["address"].rsplit(":", 1)[1]) for line in ours.log().splitlines() if "dimse.listening" in line)
        peer = Orthanc(directory / "orthanc").start()
        def web(we):
            return int(ours.url.rsplit(":", 1)[1]) if we else peer.http

        def dimse(we):
            return (port, "MEDFUSION") if we else (peer.dicom, "ORTHANC")

        cases = {
            "STOW-RS, 1 instance a request": lambda files, we: stow(web(we), "/dicom-web", files, 1),
            "STOW-RS, 1 instance a request, 4 connections":
                lambda files, we: at_once(4, lambda share: stow(web(we), "/dicom-web", share, 1), files),
            "STOW-RS, 20 instances a request": lambda files, we: stow(web(we), "/dicom-web", files, 20),
            "C-STORE, 1 association": lambda files, we: c_store(*dimse(we), files),
            "C-STORE, 4 associations": lambda files, we: at_once(4, lambda share: c_store(*dimse(we), share), files),
        }
        best = {}
        for name, run in cases.items():
            for _ in range(options.rounds):
                for we in (True, False):
                    files = series(options.instances, options.size)
                    seconds = run(files, we)
                    best[name, we] = min(best.get((name, we), (1e9, 0)), (seconds, sum(map(len, files))))
        peer.stop()
        ours.process.send_signal(signal.SIGTERM)
        ours.process.wait(timeout=30)
    print(f"{options.instances} instances of {options.size} x {options.size}, 16 bit; fastest of {options.rounds} rounds\n")
    print("| | MedFusion, instances/s | MB/s | Orthanc, instances/s | MB/s | ratio |\n|---|---|---|---|---|---|")
    for name in cases:
        (a, size), (b, _) = best[name, True], best[name, False]
        n = options.instances
        print(f"| {name} | {n / a:.0f} | {size / a / 1e6:.0f} | {n / b:.0f} | {size / b / 1e6:.0f} | {b / a:.1f}x |")


if __name__ == "__main__":
    if not shutil.which("Orthanc") or not shutil.which("storescu"):
        sys.exit("Orthanc and DCMTK's storescu are needed (Debian: orthanc orthanc-dicomweb dcmtk)")
    main()
