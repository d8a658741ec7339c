"""The processes of a daemon: what dies is replaced, what is to blame is counted, what stops stops cleanly."""
import os
import pathlib
import signal
import subprocess
import time

import pytest
import requests

import bad_input
import bundles
import daemon as daemons

NEWEST = bad_input.NEWEST.read_bytes()


@pytest.fixture(scope="module")
def long_study():
    """32 frames of one study, as a zip: a job that can be caught running."""
    images = [
        (f"{i}.dcm", bad_input.changed(SOPInstanceUID=f"2.25.{9000 + i}", InstanceNumber=i)) for i in range(32)
    ]
    return bad_input.zip_of(images)


@pytest.fixture
def own_daemon(tmp_path, frontal_bundle):
    """Starts daemons with options of their own; they are gone afterwards."""
    started = []

    def start(**options):
        started.append(daemons.Daemon(tmp_path / str(len(started)), frontal_bundle, **options).start())
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def post_zip(daemon, archive, **headers):
    response = requests.post(
        daemon.url + "/v1/jobs", data=archive, headers={"Content-Type": "application/zip", **headers}, timeout=90
    )
    assert response.status_code in (200, 202), response.text
    return response


def is_running(daemon, path, attempt):
    job = daemon.get(path).json()
    return job["state"] == "running" and job["attempts"] == attempt


def test_each_role_is_replaced_and_serves_again(own_daemon):
    daemon = own_daemon()
    for role in ("mf-front", "mf-store", "mf-worker", "mf-zygote", "mf-decoder"):
        before = daemon.pids(role)
        assert daemon.kill(role), role
        wait_until(lambda: [p for p in daemon.pids(role) if p not in before[:1]])

        def served():
            try:
                return daemon.post([NEWEST], headers={"Prefer": "wait=30"}).status_code == 200
            except requests.ConnectionError:
                return False

        wait_until(served)
    assert daemon.stop() == 0


def test_a_job_that_kills_its_worker_three_times_fails_and_the_next_one_succeeds(own_daemon, long_study):
    daemon = own_daemon()
    poison = post_zip(daemon, long_study).headers["Location"]
    neighbour = daemon.post([NEWEST]).headers["Location"]
    for attempt in (1, 2, 3):
        wait_until(lambda: is_running(daemon, poison, attempt))
        os.kill(daemon.pids("mf-worker")[0], signal.SIGSEGV)
    job = daemon.wait(poison)
    assert (job["state"], job["attempts"]) == ("failed", 3)
    assert job["problem"]["type"].endswith(":crashed")
    assert daemon.wait(neighbour)["state"] == "succeeded"


def test_a_worker_killed_from_outside_costs_its_job_nothing(own_daemon, long_study):
    daemon = own_daemon()
    path = post_zip(daemon, long_study).headers["Location"]
    for attempt in (1, 2, 3, 4):  # more often than a job may crash
        wait_until(lambda: is_running(daemon, path, attempt))
        os.kill(daemon.pids("mf-worker")[0], signal.SIGKILL)
    job = daemon.wait(path)
    assert (job["state"], job["attempts"]) == ("succeeded", 5)


def test_a_stop_finishes_the_job_in_hand(own_daemon, long_study):
    daemon = own_daemon()
    path = post_zip(daemon, long_study).headers["Location"]
    wait_until(lambda: is_running(daemon, path, 1))
    assert daemon.stop() == 0
    daemon.start()
    job = daemon.get(path).json()
    assert (job["state"], job["attempts"]) == ("succeeded", 1)


def test_a_stop_without_patience_returns_the_job_uncounted(own_daemon, long_study):
    daemon = own_daemon(**{"http.drain_timeout_s": 0})
    path = post_zip(daemon, long_study).headers["Location"]
    wait_until(lambda: is_running(daemon, path, 1))
    assert daemon.stop() == 0
    daemon.start()
    job = daemon.wait(path)
    assert job["state"] == "succeeded"


def test_everything_dies_with_the_supervisor(own_daemon):
    daemon = own_daemon()
    pids = [pid for role in daemons.ROLES for pid in daemon.pids(role)]
    assert len(pids) >= 4
    daemon.process.kill()
    daemon.process.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_a_restarted_front_keeps_its_address(own_daemon):
    daemon = own_daemon()
    url = daemon.url
    assert daemon.kill("mf-front")
    # connections wait in the queue of the socket that the supervisor holds
    assert requests.get(url + "/v2/health/live", timeout=30).status_code == 200


def test_a_bundle_that_is_wrong_ends_the_daemon_with_its_name(tmp_path):
    model = bundles.make_bundle(tmp_path / "m")
    (model / "fusion/config.json").write_text("{}")
    done = subprocess.run(
        [str(bundles.PROGRAM), "serve", "--http.listen", "127.0.0.1:0", "--data.directory", str(tmp_path / "data"),
         "--models.directories", str(model)],
        capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("medfusion serve: ") and "fusion/config.json" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_second_daemon_in_the_same_directory_is_refused_and_harms_nothing(own_daemon, frontal_bundle):
    daemon = own_daemon()
    done = subprocess.run(
        [str(bundles.PROGRAM), "serve", "--http.listen", "127.0.0.1:0", "--data.directory",
         str(daemon.directory / "data"), "--models.directories", str(frontal_bundle)],
        capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"medfusion serve: data.directory: another daemon works in {daemon.directory}/data\n"
    assert daemon.post([NEWEST], headers={"Prefer": "wait=30"}).status_code == 200


def test_without_a_model_there_is_no_daemon(tmp_path):
    done = subprocess.run(
        [str(bundles.PROGRAM), "serve", "--http.listen", "127.0.0.1:0", "--data.directory", str(tmp_path / "data")],
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "medfusion serve: no model: name bundle directories in models.directories\n"


def test_a_second_worker_shares_the_jobs(own_daemon, frontal_bundle):
    daemon = own_daemon()
    second = subprocess.Popen(
        [str(bundles.PROGRAM), "worker", "--data.directory", str(daemon.directory / "data"),
         "--models.directories", str(frontal_bundle)], stderr=subprocess.PIPE, text=True)
    try:
        for line in second.stderr:
            if '"daemon.ready"' in line:
                break
        for pid in daemon.pids("mf-worker"):  # the daemon's own worker takes nothing any more
            os.kill(pid, signal.SIGSTOP)
        done = [daemon.post([NEWEST], headers={"Prefer": "wait=30"}).status_code for _ in range(3)]
        assert 200 in done
    finally:
        second.terminate()
        assert second.wait(timeout=60) == 0


def shared_weights(pid):
    """Mappings of packed weights in a process: (inode, rights)."""
    lines = pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {(line.split()[4], line.split()[1]) for line in lines if "memfd:mf-weights" in line}


def test_workers_share_one_copy_of_the_weights(own_daemon):
    daemon = own_daemon(**{"worker.count": 2})
    first, second = daemon.pids("mf-worker")
    weights = shared_weights(first)
    if not weights:
        pytest.skip("this processor's weights are not packed by the engine")
    assert shared_weights(second) == weights
    assert {rights for _, rights in weights} == {"r--s"}
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(daemon.pids("mf-worker")) == 2 and first not in daemon.pids("mf-worker"))
    wait_until(lambda: all(shared_weights(pid) == weights for pid in daemon.pids("mf-worker")))
    jobs = [daemon.post([NEWEST]) for _ in range(6)]
    states = [daemon.wait(job.headers["Location"])["state"] for job in jobs]
    assert states == ["succeeded"] * 6


def test_the_store_has_given_up_what_it_does_not_need(tmp_path, frontal_bundle):
    daemon = daemons.Daemon(tmp_path, frontal_bundle).start()
    (pid,) = daemon.pids("mf-store")
    assert "\nNoNewPrivs:\t1\n" in pathlib.Path(f"/proc/{pid}/status").read_text()  # Landlock (tests/server/test_landlock.c) comes with it
    assert daemon.stop() == 0
