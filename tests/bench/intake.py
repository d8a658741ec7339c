#!/usr/bin/env python3
"""Intake beside Orthanc: instances and megabytes a second that are durable when they are answered.

Starts `medfusion serve` and Orthanc (with its DICOMweb plug-in), all with their data on the same disk, and sends each the same series with
UIDs of their own: by STOW-RS in requests of one and of many instances, by C-STORE with requests made ahead (peer/c_store.py) and with DCMTK's
storescu; one sender and four at once. Rounds alternate between the servers. What a sender needs is made before its clock starts.

Durability: MedFusion syncs the pack, its name and the database (SQLite, synchronous=FULL) before it answers. Orthanc syncs the file in its
storage area (SyncStorageArea, its default; not the directory), but has its index in SQLite with synchronous=NORMAL, which no setting changes:
after a power cut files are there that the index does not know. So it runs twice: as it is, and "durable", with that one word changed to FULL
on its way to SQLite (peer/durable_sqlite.c).

    tests/bench/intake.py [--series cr,cr8,ct] [--rounds 3] [--senders stow,stow4,…] [--instances N]
    (Python of tests/requirements.txt; Debian's orthanc, orthanc-dicomweb, dcmtk; BENCH_DISK: a directory on the disk)
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))
sys.path.insert(0, str(ROOT / "tests/bench/peer"))
import bundles  # noqa: E402
import c_store  # noqa: E402
import daemon as daemons  # noqa: E402
from dicom_net import part10, radiograph, related  # noqa: E402
from orthanc import Orthanc  # noqa: E402
from pydicom.uid import CTImageStorage  # noqa: E402

# name: (in words, instances, size, attributes)
SERIES = {
    "cr": ("radiographs of 0.5 MB", 60, 512, {}),
    "cr8": ("radiographs of 8 MB", 16, 2048, {}),
    "ct": ("a CT of 512 slices of 0.5 MB", 512, 512, {"SOPClassUID": CTImageStorage, "Modality": "CT"}),
}
PER_REQUEST = 64


def uid():
    """A new one, always of the same length."""
    return f"1.2.826.0.1.3680043.8.498.{10**17 + secrets.randbelow(9 * 10**17)}"


class Template:
    """Part 10 files that differ in their UIDs."""

    def __init__(self, size, attributes):
        self.uids = [uid(), uid(), uid()]
        study, series, instance = self.uids
        ds = radiograph(study=study, series=series, size=size, **{"SOPInstanceUID": instance, **attributes})
        self.sop_class, self.pixels = ds.SOPClassUID, ds.PixelData
        self.header = part10(ds).removesuffix(self.pixels)

    def make(self, count):
        """[(SOP Instance UID, file)] of one new series."""
        study, series = uid(), uid()
        made = []
        for _ in range(count):
            new, header = uid(), self.header
            for before, after in zip(self.uids, (study, series, new)):
                header = header.replace(before.encode(), after.encode())
            made.append((new, header + self.pixels))
        return made


# --- senders: (server, files) → a function that sends them all ---

class Server:
    def __init__(self, name, web, dimse, title):
        self.name, self.web, self.dimse, self.title = name, web, dimse, title


def stow(per_request):
    def prepare(server, files, template):
        bodies = [related([data for _, data in files[i:i + per_request]]) for i in range(0, len(files), per_request)]
        connection = http.client.HTTPConnection("127.0.0.1", server.web, timeout=120)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send():
            for body, kind in bodies:
                connection.request("POST", "/dicom-web/studies", body, {"Content-Type": kind, "Accept": "application/dicom+json"})
                response = connection.getresponse()
                text = response.read()
                if response.status != 200:
                    raise RuntimeError(f"{response.status}: {text[:300]}")
            connection.close()

        return send
    return prepare


def ready_made(server, files, template):
    """C-STORE with requests made ahead."""
    association = c_store.Association(server.dimse, server.title, template.sop_class)
    messages = [c_store.message(template.sop_class, instance, i + 1, c_store.data_set(data), association.max_pdu)
                for i, (instance, data) in enumerate(files)]

    def send():
        for one in messages:
            association.store(one)
        association.release()

    return send


def storescu(server, files, template):
    directory = tempfile.TemporaryDirectory(dir="/dev/shm")
    for i, (_, data) in enumerate(files):
        pathlib.Path(directory.name, f"{i:05}.dcm").write_bytes(data)

    def send():
        with directory:
            subprocess.run(["storescu", "+sd", "-aet", "STORESCU", "-aec", server.title, "127.0.0.1", str(server.dimse), directory.name], check=True)

    return send


# name: (in words, sender, how many at once)
SENDERS = {
    "stow": ("STOW-RS, 1 instance a request", stow(1), 1),
    "stow4": ("STOW-RS, 1 instance a request, 4 connections", stow(1), 4),
    "bulk": (f"STOW-RS, {PER_REQUEST} instances a request", stow(PER_REQUEST), 1),
    "bulk4": (f"STOW-RS, {PER_REQUEST} instances a request, 4 connections", stow(PER_REQUEST), 4),
    "store": ("C-STORE, 1 association", ready_made, 1),
    "store4": ("C-STORE, 4 associations", ready_made, 4),
    "scu": ("C-STORE by storescu, 1 association", storescu, 1),
    "scu4": ("C-STORE by storescu, 4 associations", storescu, 4),
}


def measure(server, sender, at_once, template, count):
    """Seconds for `count` files, shared by so many senders."""
    files = template.make(count)
    share = -(-count // at_once)
    sends = [sender(server, files[i:i + share], template) for i in range(0, count, share)]
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(len(sends)) as pool:
        for done in [pool.submit(send) for send in sends]:
            done.result()
    return time.perf_counter() - begin


def compare(servers, name, options):
    """Prints a table; servers[0] is ours."""
    words, count, size, attributes = SERIES[name]
    count = options.instances or count
    template = Template(size, attributes)
    megabytes = count * (len(template.header) + len(template.pixels)) / 1e6
    print(f"\n{count} instances of {words}, {options.rounds} rounds: median (least, most) instances/s; ratio of the medians\n")
    print("| |" + "".join(f" {server.name} | MB/s |" + " ratio |" * (i > 0) for i, server in enumerate(servers)))
    print("|---" * (3 * len(servers)) + "|", flush=True)
    for key in options.senders.split(","):
        text, sender, at_once = SENDERS[key]
        taken = [[] for _ in servers]
        for _ in range(options.rounds):
            for server, seconds in zip(servers, taken):
                seconds.append(measure(server, sender, at_once, template, count))
        line = f"| {text} |"
        for i, seconds in enumerate(taken):
            middle = statistics.median(seconds)
            line += f" {count / middle:.0f} ({count / max(seconds):.0f}, {count / min(seconds):.0f}) | {megabytes / middle:.0f} |"
            line += f" {middle / statistics.median(taken[0]):.1f}x |" * (i > 0)
        print(line, flush=True)


def durable(directory):
    """The environment in which Orthanc syncs its index, too."""
    library = directory / "durable_sqlite.so"
    source = ROOT / "tests/bench/peer/durable_sqlite.c"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", default=",".join(SERIES))
    parser.add_argument("--senders", default=",".join(SENDERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--instances", type=int, help="other than what a series has")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DISK")) as directory:
        directory = pathlib.Path(directory)
        bundle = bundles.make_bundle(directory / "bundle", name="frontal")
        running = daemons.Daemon(directory / "ours", bundle, **{
            "dimse.listen": "127.0.0.1:0", "dimse.allow": "STORESCU", "dimse.max_per_minute": 100000, "intake.quiet_s": 3600}).start()
        port = next(int(json.loads(line)["address"].rsplit(":", 1)[1]) for line in running.log().splitlines() if "dimse.listening" in line)
        servers = [Server("MedFusion", int(running.url.rsplit(":", 1)[1]), port, "MEDFUSION")]
        peers = [("Orthanc", None), ("Orthanc, durable", durable(directory))]
        peers = [(name, Orthanc(directory / name, MaximumPduLength=c_store.MAX_PDU).start(environment)) for name, environment in peers]
        servers += [Server(name, orthanc.http, orthanc.dicom, "ORTHANC") for name, orthanc in peers]
        for name in options.series.split(","):
            compare(servers, name, options)
        for _, orthanc in peers:
            orthanc.stop()
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(timeout=30)


if __name__ == "__main__":
    if not shutil.which("Orthanc") or not shutil.which("storescu"):
        sys.exit("Orthanc and DCMTK's storescu are needed (Debian: orthanc orthanc-dicomweb dcmtk)")
    main()
