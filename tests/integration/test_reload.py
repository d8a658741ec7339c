"""Reload: models, certificates and keys are read anew while the daemon serves, by the administrator alone; what is wrong changes nothing."""
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time

import pytest
import requests

import bad_input
import bundles
import certificates
import daemon as daemons
from conftest import FRONTAL

IMAGE = bad_input.NEWEST.read_bytes()


def add_key(path, scopes, name="test"):
    made = subprocess.run([bundles.PROGRAM, "key", "add", path, "--name", name, "--scopes", scopes], capture_output=True, text=True, check=True)
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


class Site:
    """A daemon whose bundle is behind a symbolic link, so that another one can be put in its place at once."""

    def __init__(self, directory, **options):
        self.directory = directory
        self.versions = {v: bundles.make_bundle(directory / v, version=v, name="frontal", accepts=FRONTAL) for v in ("1.0.0", "2.0.0")}
        self.model = directory / "current"
        self.use("1.0.0")
        keys = directory / "keys.json"
        self.admin, self.user = add_key(keys, "admin", "admin"), add_key(keys, "jobs.read jobs.write", "user")
        self.daemon = daemons.Daemon(directory / "d", self.model, **{"auth.keys": keys, **options}).start()

    def use(self, version):
        self.put(self.versions[version])

    def put(self, bundle):
        new = self.directory / "new"
        new.symlink_to(bundle)
        os.replace(new, self.model)

    def reload(self):
        return subprocess.run([bundles.PROGRAM, "reload", self.daemon.directory / "data"], capture_output=True, text=True, timeout=120, check=False)

    def run(self, session=requests):
        """A job, waited for: (status, version of the model that made the result)."""
        answer = session.post(self.daemon.url + "/v1/jobs", files=[("dicom", ("a.dcm", IMAGE))], headers={"Prefer": "wait=60", **self.user}, timeout=90)
        return answer.status_code, answer.json().get("model", {}).get("version")

    def audit(self):
        done = subprocess.run([bundles.PROGRAM, "audit", "list", self.daemon.directory / "data"], capture_output=True, text=True, check=True)
        return [(row["event"], row["detail"]) for row in map(json.loads, done.stdout.splitlines())]

    def noted(self, event):
        """The newest row of this event; a process of its own writes it."""
        deadline = time.monotonic() + 20
        while True:
            found = [detail for e, detail in self.audit() if e == event]
            if found or time.monotonic() > deadline:
                return found[-1]
            time.sleep(0.1)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    assert made.daemon.stop() == 0


def test_a_new_version_takes_over_and_no_job_is_lost(site):
    """Clients on connections that stay open post jobs all the time; every one is answered, first by the old version, then by the new one."""
    seen, stop = [], threading.Event()

    def client():
        with requests.Session() as session:
            while not stop.is_set():
                seen.append(site.run(session))

    clients = [threading.Thread(target=client) for _ in range(2)]
    for thread in clients:
        thread.start()
    while len(seen) < 4:
        time.sleep(0.02)
    site.use("2.0.0")
    done = site.reload()
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("reloaded in ")
    after = len(seen)
    while len(seen) < after + 6:
        time.sleep(0.02)
    stop.set()
    for thread in clients:
        thread.join()
    assert {status for status, _ in seen} == {200}
    assert seen[0] == (200, "1.0.0") and seen[-1] == (200, "2.0.0")
    digest = json.loads(requests.get(site.daemon.url + "/v1/admin/models", headers=site.admin, timeout=30).text)["models"][0]["digest"]
    assert site.noted("reload.succeeded") == f"frontal 2.0.0 {digest[:12]}"
    assert site.daemon.get("/v2/models/frontal", headers=site.user).json()["versions"] == ["2.0.0"]


def test_jobs_that_wait_are_run_by_the_new_version(site):
    for pid in site.daemon.pids("mf-worker"):
        os.kill(pid, signal.SIGSTOP)
    jobs = [site.daemon.post([IMAGE], headers=site.user).json()["id"] for _ in range(3)]
    stopped = site.daemon.pids("mf-worker")
    site.use("2.0.0")
    assert site.reload().returncode == 0
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    versions = []
    for job in jobs:
        deadline = time.monotonic() + 60
        while site.daemon.get(f"/v1/jobs/{job}", headers=site.user).json()["state"] not in ("succeeded", "failed") and time.monotonic() < deadline:
            time.sleep(0.05)
        versions.append(site.daemon.get(f"/v1/jobs/{job}/result", headers=site.user).json()["model"]["version"])
    assert versions[1:] == ["2.0.0", "2.0.0"]  # the first may have been in the old worker's hands


@pytest.mark.parametrize("spoil, reason", [
    (lambda bundle: (bundle / "bundle.json").unlink(), "bundle.json"),
    (lambda bundle: (bundle / "MODEL_CARD.md").write_text("x"), "MODEL_CARD.md"),
    (lambda bundle: flip(bundle / "fusion" / "model.safetensors"), "model.safetensors"),
], ids=["a file is missing", "a file was changed", "weights were changed"])
def test_a_bad_bundle_leaves_the_old_one_serving(site, spoil, reason):
    bad = site.directory / "bad"
    shutil.copytree(site.versions["2.0.0"], bad)
    spoil(bad)
    workers = site.daemon.pids("mf-worker")
    site.put(bad)
    done = site.reload()
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and reason in done.stderr, done.stderr
    assert site.run() == (200, "1.0.0") and site.daemon.pids("mf-worker") == workers
    state = requests.get(site.daemon.url + "/v1/admin/reload", headers=site.admin, timeout=30).json()
    assert (state["state"], state["number"]) == ("failed", 1) and state["reason"] in done.stderr
    assert site.noted("reload.failed") == state["reason"]
    site.use("2.0.0")
    assert site.reload().returncode == 0 and site.run() == (200, "2.0.0")


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_the_route_needs_the_scope_admin(site):
    url = site.daemon.url + "/v1/admin/reload"
    assert requests.post(url, timeout=30).status_code == 401
    refused = requests.post(url, headers=site.user, timeout=30)
    assert refused.status_code == 403 and refused.json()["detail"] == "this needs the scope admin"
    site.use("2.0.0")
    begun = requests.post(url, headers=site.admin, timeout=30)
    assert (begun.status_code, begun.headers["Location"]) == (202, "/v1/admin/reload")
    assert begun.json()["state"] == "running" and begun.json()["ended"] is None
    again = requests.post(url, headers=site.admin, timeout=30)  # the first may have ended
    assert (again.status_code, again.json().get("detail")) == (409, "a reload is under way, or the daemon stops") or again.json()["number"] == 2
    deadline = time.monotonic() + 60
    while requests.get(url, headers=site.admin, timeout=30).json()["state"] == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert requests.get(url, headers=site.admin, timeout=30).json()["state"] == "succeeded"
    assert site.run() == (200, "2.0.0")
    assert any(event == "request" and detail == "POST /v1/admin/reload 202" for event, detail in site.audit())


def test_without_authentication_nobody_is_the_administrator(daemon):
    for method, path in (("post", "reload"), ("get", "reload"), ("get", "models"), ("get", "keys"), ("get", "audit")):
        answer = requests.request(method, f"{daemon.url}/v1/admin/{path}", timeout=30)
        assert answer.status_code == 403 and "nobody authenticates" in answer.json()["detail"]


def test_a_signal_reloads_and_everything_but_store_and_zygote_is_new(site):
    before = {role: site.daemon.pids(role) for role in ("mf-front", "mf-worker", "mf-courier", "mf-store", "mf-zygote")}
    site.use("2.0.0")
    site.daemon.process.send_signal(signal.SIGHUP)
    assert site.noted("reload.succeeded").startswith("frontal 2.0.0 ")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        after = {role: site.daemon.pids(role) for role in before}
        if all(len(pids) == 1 for pids in after.values()):
            break
        time.sleep(0.1)
    assert {role for role in before if before[role] == after[role]} == {"mf-store", "mf-zygote"}
    assert site.run() == (200, "2.0.0")
    assert "process.died" not in site.daemon.log()


def test_a_certificate_is_changed_without_a_pause(tmp_path):
    authority = certificates.Authority(tmp_path / "authority")
    pair = {name: authority.issue(name) for name in ("old", "new")}
    used = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    for source, target in zip(pair["old"], used):
        shutil.copy(source, target)
    (tmp_path / "s").mkdir()
    made = Site(tmp_path / "s", **{"http.tls_certificate": used[0], "http.tls_key": used[1]})
    port = int(made.daemon.url.rsplit(":", 1)[1])
    assert ssl.get_server_certificate(("127.0.0.1", port)) == pair["old"][0].read_text()
    shutil.copy(pair["new"][0], used[0])
    done = made.reload()
    assert done.returncode == 1 and "http.tls_key" in done.stderr  # the key of another certificate
    assert ssl.get_server_certificate(("127.0.0.1", port)) == pair["old"][0].read_text()
    shutil.copy(pair["new"][1], used[1])
    assert made.reload().returncode == 0
    deadline = time.monotonic() + 30
    while ssl.get_server_certificate(("127.0.0.1", port)) != pair["new"][0].read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ssl.get_server_certificate(("127.0.0.1", port)) == pair["new"][0].read_text()
    assert made.daemon.stop() == 0


def test_what_the_store_and_the_sockets_have_been_started_with_stays(tmp_path):
    config = tmp_path / "config.json"
    config.write_text("{}")
    (tmp_path / "s").mkdir()
    made = Site(tmp_path / "s", config=config)
    for section, name, value in (("worker", "count", 2), ("jobs", "lease_s", 60), ("outbox", "destinations", "http://127.0.0.1:1/dicom-web")):
        config.write_text(json.dumps({section: {name: value}}))
        assert made.reload().stderr == f"medfusion reload: {section}.{name}: cannot change while the daemon runs; start it again\n"
    config.write_text("{")
    assert str(config) in made.reload().stderr
    config.write_text('{"quota": {"requests_per_minute": 1}}')
    assert made.reload().returncode == 0
    assert 429 in [made.run()[0] for _ in range(3)]  # what may change has
    assert made.daemon.stop() == 0


def test_without_a_daemon(tmp_path):
    done = subprocess.run([bundles.PROGRAM, "reload", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == f"medfusion reload: {tmp_path}: no daemon answers there (No such file or directory)\n"
    assert subprocess.run([bundles.PROGRAM, "reload"], capture_output=True, text=True, check=False).returncode == 2


# --- keys and the audit trail ---

def test_keys_are_made_used_and_revoked(site):
    url = site.daemon.url + "/v1/admin/keys"
    made = requests.post(url, headers=site.admin, json={"name": "orthanc", "scopes": "jobs.read", "tenant": "north", "days": 2}, timeout=30)
    assert made.status_code == 201
    key = made.json()
    fresh = {"X-API-Key": key.pop("key")}
    deadline = time.monotonic() + 20
    while site.daemon.get("/v1/jobs", headers=fresh).status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert site.daemon.get("/v1/jobs", headers=fresh).status_code == 200
    assert requests.get(url, headers=site.admin, timeout=30).json()["keys"][-1] == key
    assert (key["name"], key["tenant"], key["scopes"], key["state"], key["revoked"]) == ("orthanc", "north", "jobs.read", "valid", None)
    revoked = requests.delete(f"{url}/{key['id']}", headers=site.admin, timeout=30)
    assert revoked.status_code == 200 and revoked.json()["state"] == "revoked"
    while site.daemon.get("/v1/jobs", headers=fresh).status_code != 401 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert site.daemon.get("/v1/jobs", headers=fresh).status_code == 401
    assert fresh["X-API-Key"] not in (site.directory / "keys.json").read_text() + site.daemon.log()


@pytest.mark.parametrize("body, status, detail", [
    ('{"name": "a", "scopes": "jobs.everything"}', 422, '"jobs.everything" is no scope'),
    ('{"name": "a"}', 422, '"scopes" must be a string of 1 to 511 bytes'),
    ('{"name": "a", "scopes": "jobs.read", "tenant": "Ä"}', 422, "a tenant is 1 to"),
    ('{"name": "a", "scopes": "jobs.read", "days": 0}', 422, '"days" must be a number from 1 to 36500'),
    ('{"name": "a", "scopes": "jobs.read", "admin": true}', 422, 'admin'),
    ("{", 400, "the key"),
    ('{"name": "%s", "scopes": "jobs.read"}' % ("x" * 9000), 413, "a key has at most"),
])
def test_keys_that_cannot_be_made(guarded, body, status, detail):
    answer = requests.post(guarded.daemon.url + "/v1/admin/keys", data=body.encode(), headers={"Content-Type": "application/json", **guarded.admin}, timeout=30)
    assert answer.status_code == status and detail in answer.json()["detail"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("guarded"))
    yield made
    assert made.daemon.stop() == 0


def test_a_key_that_is_not_there(guarded):
    answer = requests.delete(guarded.daemon.url + "/v1/admin/keys/0123456789abcdef", headers=guarded.admin, timeout=30)
    assert (answer.status_code, answer.json()["detail"]) == (404, 'there is no key "0123456789abcdef"')


def test_the_audit_trail_is_checked(guarded):
    url = guarded.daemon.url + "/v1/admin/audit"
    found = requests.get(url, headers=guarded.admin, timeout=30).json()
    assert found["intact"] and found["rows"] > 0 and found["removed"] == 0
    assert requests.get(url, params={"head": found["head"]}, headers=guarded.admin, timeout=30).json()["intact"]
    wrong = requests.get(url, params={"head": "1:" + "0" * 64}, headers=guarded.admin, timeout=30).json()
    assert not wrong["intact"] and wrong["reason"]
    assert requests.get(url, params={"head": "x"}, headers=guarded.admin, timeout=30).status_code == 400
