"""The wall clock jumps by a day and back while a job runs: no lease ends, nothing runs twice, the trail stays whole."""
import datetime
import os
import signal
import struct
import subprocess
import time

import pytest

import bundles
import daemon as daemons
from fhir_server import wait_until

CLOCK = bundles.PROGRAM.parent / "gates/libgate_clock.so"
DAY = 86400

pytestmark = pytest.mark.skipif(not CLOCK.exists(), reason="skipped: this build has no clock that jumps")


def metric(daemon, name):
    return next(float(line.split()[1]) for line in daemon.get("/metrics").text.splitlines() if line.startswith(name + " "))


def held(daemon, worker):
    """A job that runs, in a worker that is stopped. It must have asked for work before it is stopped; what it had not asked for, it does first."""
    for _ in range(10):
        os.kill(worker, signal.SIGSTOP)
        where = daemon.post(daemons.sample()[-1:]).headers["Location"]
        if wait_until(lambda: daemon.get(where).json()["state"] == "running", 3):
            return where
        os.kill(worker, signal.SIGCONT)
        assert daemon.wait(where)["state"] == "succeeded"
    raise AssertionError("no job was given to the worker")


def test_the_wall_clock_jumps_while_a_job_runs(tmp_path, frontal_bundle, monkeypatch):
    offset = tmp_path / "offset"
    offset.write_bytes(struct.pack("=q", 0))
    monkeypatch.setenv("LD_PRELOAD", str(CLOCK))
    monkeypatch.setenv("MF_CLOCK_OFFSET", str(offset))
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"jobs.lease_s": 30, "worker.count": 1}).start()
    monkeypatch.undo()
    ran = []
    for jump in (DAY, -DAY, 0):
        [worker] = daemon.pids("mf-worker")
        where = held(daemon, worker)
        with offset.open("r+b") as file:
            file.write(struct.pack("=q", jump))
        time.sleep(3)  # leases are looked at every second at most
        assert daemon.get(where).json()["state"] == "running", jump
        os.kill(worker, signal.SIGCONT)
        assert daemon.wait(where)["state"] == "succeeded"
        assert daemon.pids("mf-worker") == [worker]
        done = daemon.post(daemons.sample()[-1:], headers={"Prefer": "wait=60"})
        assert done.status_code == 200, done.text
        ran += [where, "/v1/jobs/" + done.json()["job"]]
        created = datetime.datetime.fromisoformat(daemon.get(ran[-1]).json()["created"])  # the control: the clock did jump
        assert abs(created.timestamp() - time.time() - (0 if daemons.ON_POSTGRESQL else jump)) < 300  # or it is the database's
    assert metric(daemon, "medfusion_job_losses_total") == metric(daemon, "medfusion_job_crashes_total") == 0
    assert all(daemon.get(where).json()["attempts"] == 1 for where in ran)
    assert daemon.get("/v2/health/ready").status_code == 200
    assert daemon.stop() == 0
    if not daemons.ON_POSTGRESQL:
        verified = subprocess.run([bundles.PROGRAM, "audit", "verify", daemon.directory / "data"], capture_output=True, text=True)
        assert verified.returncode == 0 and "rows are intact" in verified.stdout, verified
