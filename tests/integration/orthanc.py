"""A running Orthanc with its DICOMweb plug-in as the PACS of a test."""
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import requests

PLUGIN = pathlib.Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def available():
    return shutil.which("Orthanc") is not None and PLUGIN.exists()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Orthanc:
    """modalities: {name: (AE title, port)} of DICOM peers on this machine; servers: {name: URL} of DICOMweb peers; options: more of
    its configuration."""

    def __init__(self, directory, modalities=None, servers=None, **options):
        self.directory = pathlib.Path(directory)
        self.http, self.dicom = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http}"
        self.configuration = {
            "Name": "test", "StorageDirectory": str(self.directory / "storage"), "IndexDirectory": str(self.directory / "storage"),
            "HttpPort": self.http, "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomPort": self.dicom, "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": False, "DicomAlwaysAllowEcho": True, "DicomAlwaysAllowStore": True, "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowFind": True, "DicomCheckModalityHost": False, "SyncStorageArea": True, "Plugins": [str(PLUGIN)],
            "DicomModalities": {name: [title, "127.0.0.1", port] for name, (title, port) in (modalities or {}).items()},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False,
                         "Servers": {name: {"Url": url} for name, url in (servers or {}).items()}},
            **options,
        }
        self.process = None

    def start(self, environment=None):
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "orthanc.json").write_text(json.dumps(self.configuration))
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(["Orthanc", str(self.directory / "orthanc.json")], stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(self.url + "/system", timeout=2).raise_for_status()
                return self
            except requests.RequestException:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError((self.directory / "log").read_text()) from None
                time.sleep(0.1)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def store(self, data):
        """Puts a Part 10 file in; the identifiers that Orthanc gave it."""
        response = requests.post(self.url + "/instances", data=data, timeout=60)
        response.raise_for_status()
        return response.json()

    def instances(self, **query):
        """DICOM JSON of the instances that match (QIDO-RS)."""
        response = requests.get(self.url + "/dicom-web/instances", params=query, headers={"Accept": "application/dicom+json"}, timeout=60)
        response.raise_for_status()
        return response.json() if response.content else []

    def wait_until_sent(self, study, seconds=30):
        """Until every series of a study was found stable, so that scripts have heard of it, and no job of theirs is left."""
        def get(path):
            return requests.get(self.url + path, timeout=60).json()

        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            stable = all(series["IsStable"] for series in get(f"/studies/{study}/series"))
            if stable and all(job["State"] in ("Success", "Failure") for job in get("/jobs?expand")):
                return
            time.sleep(0.2)
        raise RuntimeError(f"the series of {study} did not become stable")
