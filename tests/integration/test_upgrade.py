"""Data directories of earlier programs (tests/data/upgrade): today's opens them, reads what they hold and finishes what they began."""
import contextlib
import json
import pathlib
import re
import shutil
import sqlite3
import subprocess

import pytest
import requests

import bundles
import daemon as daemons

DATA = pathlib.Path(__file__).parents[1] / "data/upgrade"
VERSIONS = sorted(int(path.name.removeprefix("schema-")) for path in DATA.glob("schema-*"))
pytestmark = pytest.mark.skipif(daemons.ON_POSTGRESQL, reason=daemons.OF_SQLITE)
FOREVER = {"jobs.retention_s": 3153600000}  # or the old jobs would be removed for their age


def restore(directory, version):
    """The data directory as that program left it."""
    shutil.copytree(DATA / f"schema-{version}/payloads", directory / "payloads")
    with contextlib.closing(sqlite3.connect(directory / "store.db")) as database:
        database.executescript((DATA / f"schema-{version}/store.sql").read_text())


def version_of(directory):
    with contextlib.closing(sqlite3.connect(directory / "store.db")) as database:
        return database.execute("PRAGMA user_version").fetchone()[0]


def content_of(directory):
    with contextlib.closing(sqlite3.connect(directory / "store.db")) as database:
        return list(database.iterdump())


@pytest.fixture(scope="module")
def newest(tmp_path_factory, frontal_bundle):
    """The version that today's program writes."""
    running = daemons.Daemon(tmp_path_factory.mktemp("new"), frontal_bundle).start()
    assert running.stop() == 0
    return version_of(running.directory / "data")


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda version: f"schema-{version}")
def upgraded(request, tmp_path_factory, frontal_bundle, newest):
    """(daemon on the old data, the result that the old program gave)"""
    directory = tmp_path_factory.mktemp("old")
    (directory / "data").mkdir(mode=0o700)
    restore(directory / "data", request.param)
    running = daemons.Daemon(directory, frontal_bundle, **FOREVER).start()
    yield running, (DATA / f"schema-{request.param}/result.json").read_text(), request.param
    assert running.stop() == 0
    assert version_of(directory / "data") == newest


def test_every_version_has_its_data(newest):
    assert VERSIONS == list(range(1, max(VERSIONS) + 1)) and max(VERSIONS) in (newest - 1, newest)


def test_a_result_is_what_it_was(upgraded):
    daemon, before, _ = upgraded
    job = json.loads(before)["job"]
    assert daemon.get(f"/v1/jobs/{job}/result").text == before
    assert daemon.get(f"/v1/jobs/{job}").json()["state"] == "succeeded"
    for accept in ("text/plain", "application/fhir+json"):
        assert daemon.get(f"/v1/jobs/{job}/result", headers={"Accept": accept}).status_code == 200
    report = daemon.get(f"/v1/jobs/{job}/report").text
    assert json.loads(before)["model"]["model_hash"] in report and report.count("<figure>") == 2


def test_images_and_objects_are_made_of_it(upgraded):
    daemon, before, _ = upgraded
    job = json.loads(before)["job"]
    frames = daemon.get(f"/v1/jobs/{job}/frames").json()["frames"]
    assert [(f["rows"], f["columns"]) for f in frames] == [(64, 64)] * 2
    for frame in frames:
        assert daemon.get(frame["href"]).content.startswith(b"\x89PNG")
    for artifact in daemon.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"]:
        assert daemon.get(artifact["href"]).status_code == 200, artifact["name"]


def test_feedback_is_kept_and_taken(upgraded):
    daemon, before, version = upgraded
    result = json.loads(before)
    path = f"/v1/jobs/{result['job']}/feedback"
    label = result["predictions"][0]["label"]
    kept = [(f["reader"], f["labels"]) for f in daemon.get(path).json()["feedback"]]
    assert kept == ([] if version == 1 else [("anna", {label: "present"})])
    put = requests.put(daemon.url + path, json={"reader": "bert", "labels": {label: "absent"}}, timeout=60)
    assert put.status_code == 200 and "bert" in [f["reader"] for f in put.json()["feedback"]]


def test_what_was_accepted_is_finished(upgraded):
    """One job was running when the power failed, one was waiting."""
    daemon, before, _ = upgraded
    jobs = daemon.get("/v1/jobs").json()["jobs"][-3:]  # the oldest
    for job in jobs:
        assert daemon.wait(f"/v1/jobs/{job['id']}")["state"] == "succeeded"
    results = [daemon.get(f"/v1/jobs/{job['id']}/result").json() for job in jobs]
    assert results[0]["predictions"] == results[1]["predictions"]  # the same study twice
    assert results[2] == json.loads(before)


def test_new_jobs_are_taken_and_the_audit_trail_is_whole(upgraded):
    daemon, _, _ = upgraded
    assert daemon.post(daemons.sample()[:1], headers={"Prefer": "wait=60"}).status_code == 200
    done = subprocess.run([bundles.PROGRAM, "audit", "verify", daemon.directory / "data"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(re.match(r"(\d+) rows are intact", done.stdout)[1]) > 4


def test_old_data_can_be_purged(tmp_path, frontal_bundle):
    restore(tmp_path / "data", VERSIONS[0])
    job = json.loads((DATA / f"schema-{VERSIONS[0]}/result.json").read_text())["job"]
    running = daemons.Daemon(tmp_path, frontal_bundle, **FOREVER).start()
    for other in running.get("/v1/jobs").json()["jobs"]:
        running.wait(f"/v1/jobs/{other['id']}")
    assert running.delete(f"/v1/jobs/{job}/data").status_code == 204
    assert running.get(f"/v1/jobs/{job}/result").status_code == 410
    assert len(list((tmp_path / "data/payloads").iterdir())) == 2
    assert running.stop() == 0


def test_data_of_a_newer_program_is_left_alone(tmp_path, frontal_bundle, newest):
    restore(tmp_path / "data", VERSIONS[-1])
    with contextlib.closing(sqlite3.connect(tmp_path / "data/store.db")) as database:
        database.execute(f"PRAGMA user_version={newest + 1}")
    before = content_of(tmp_path / "data")
    done = subprocess.run([bundles.PROGRAM, "serve", "--http.listen", "127.0.0.1:0", "--data.directory", tmp_path / "data", "--models.directories",
                           frontal_bundle], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"schema version {newest + 1}, this program knows {newest}" in done.stderr
    assert version_of(tmp_path / "data") == newest + 1 and content_of(tmp_path / "data") == before
