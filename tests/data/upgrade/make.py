#!/usr/bin/env python3
"""Makes the data directory of a program of its time, as tests/integration/test_upgrade.py wants it:

    tests/data/upgrade/make.py PROGRAM        writes schema-N/ beside this file, N being the schema version of PROGRAM's store

Run it with the last program before the schema changes. The database is kept as SQL text: one job that has succeeded (two studies, EHR,
feedback where there is any), one that runs and one that waits, at the moment of a power failure. Images are the sample's, 64 x 64.
"""
import contextlib
import io
import os
import pathlib
import shutil
import signal
import sqlite3
import sys
import tempfile
import time

import pydicom
import requests

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "integration"))
import bundles  # noqa: E402
import conftest  # noqa: E402
import daemon as daemons  # noqa: E402

SAMPLE = HERE.parent / "sample"


def small(path):
    """Every eighth pixel."""
    ds = pydicom.dcmread(path)
    pixels = ds.pixel_array[::8, ::8]
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelData = pixels.tobytes()
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def fill(daemon):
    """The jobs; the text of the result. Leaves the worker stopped with a job in hand."""
    images = [small(path) for path in sorted((SAMPLE / "dicom").glob("*.dcm"))]
    done = daemon.post(images[:2], ehr=(SAMPLE / "ehr.json").read_bytes(), headers={"Prefer": "wait=60"})
    done.raise_for_status()
    feedback = f"{daemon.url}/v1/jobs/{done.json()['job']}/feedback"
    if requests.get(feedback, timeout=60).ok:
        label = done.json()["predictions"][0]["label"]
        requests.put(feedback, json={"reader": "anna", "labels": {label: "present"}}, timeout=60).raise_for_status()
    for pid in daemon.pids("mf-worker"):
        os.kill(pid, signal.SIGSTOP)
    jobs = [daemon.post([images[2]]).json()["id"] for _ in range(2)]
    while sorted(daemon.get(f"/v1/jobs/{job}").json()["state"] for job in jobs) != ["queued", "running"]:
        time.sleep(0.1)
    return done.text


def keep(data, result):
    with contextlib.closing(sqlite3.connect(data / "store.db", timeout=30)) as database:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        sql = "\n".join(database.iterdump()).replace("COMMIT;", f"PRAGMA user_version={version};\nCOMMIT;")
    out = HERE / f"schema-{version}"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(data / "payloads", out / "payloads")
    (out / "store.sql").write_text(sql + "\n")
    (out / "result.json").write_text(result)
    print(out)


def main():
    bundles.PROGRAM = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as directory:
        bundle = bundles.make_bundle(pathlib.Path(directory) / "bundle", name="frontal", accepts=conftest.FRONTAL)
        daemon = daemons.Daemon(pathlib.Path(directory) / "d", bundle).start()
        result = fill(daemon)
        daemon.process.kill()  # takes all its processes along
        daemon.process.wait()
        keep(daemon.directory / "data", result)


if __name__ == "__main__":
    main()
