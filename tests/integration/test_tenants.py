"""Tenants: nobody sees, changes or notices what is another's; quotas; who did what stands in the audit trail."""
import json
import re
import subprocess
import time

import pytest
import requests

import bundles
import daemon as daemons
from test_auth import ALL, PUBLIC, add_key, bearer, contract

UNKNOWN = "0" * 32


def stow_body(parts):
    """The body of a STOW-RS request, and its type."""
    body = b"".join(b"--B\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts) + b"--B--\r\n"
    return body, 'multipart/related; type="application/dicom"; boundary=B'


class Two:
    """A daemon with two tenants, of which north has a job, its results and a stored study."""

    def __init__(self, directory, bundle):
        self.keys = directory / "keys.json"
        self.north, self.south = (add_key(self.keys, ALL, tenant, tenant) for tenant in ("north", "south"))
        self.daemon = daemons.Daemon(directory / "daemon", bundle, **{"auth.keys": self.keys, "intake.quiet_s": 3600}).start()
        self.image = daemons.sample()[-1]
        answer = self.post(self.north, {"Prefer": "wait=60", "Idempotency-Key": "same"})
        assert answer.status_code == 200, answer.text
        self.result = answer.json()
        self.job = answer.headers["Content-Location"].split("/")[3]
        body, kind = stow_body([self.image])
        stored = self.ask(self.north, "post", "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": "application/dicom+json"})
        assert stored.status_code == 200, stored.text
        frame = self.result["study"]["frames"][0]
        self.study, self.instance = frame["study_instance_uid"], frame["sop_instance_uid"]
        series = self.ask(self.north, "get", f"/dicom-web/studies/{self.study}/series", headers={"Accept": "application/dicom+json"}).json()
        self.series = series[0]["0020000E"]["Value"][0]
        report = self.ask(self.north, "get", "/fhir/DiagnosticReport").json()
        self.report = report["entry"][0]["resource"]["id"]

    def ask(self, key, method, path, headers=None, **arguments):
        return requests.request(method, self.daemon.url + path, headers={**bearer(key), **(headers or {})}, timeout=60, **arguments)

    def post(self, key, headers=None):
        return self.ask(key, "post", "/v1/jobs", headers, files=[("dicom", ("1.dcm", self.image))])

    def paths(self):
        """Every operation of the contract that names something, with north's names in it."""
        names = {"id": self.job, "name": "sr", "study": self.study, "series": self.series, "instance": self.instance, "n": "0", "frames": "1", "frame": "1",
                 "type": "DiagnosticReport", "model": "frontal", "file": "x"}
        for method, pattern, _ in contract(self.daemon):
            if pattern in PUBLIC or "{" not in pattern or pattern.startswith(("/v2/", "/cds-services")):
                continue
            values = {**names, "id": self.report} if pattern == "/fhir/{type}/{id}" else names
            yield method, pattern, re.sub(r"\{(\w+)\}", lambda m: values[m.group(1)], pattern)


@pytest.fixture(scope="module")
def two(tmp_path_factory, frontal_bundle):
    t = Two(tmp_path_factory.mktemp("two"), frontal_bundle)
    yield t
    assert t.daemon.stop() == 0


def is_empty(answer):
    """Whether it is an empty list, or a Bundle without entries."""
    return answer.status_code == 200 and (answer.json() == [] or (answer.json()["resourceType"] == "Bundle" and not answer.json().get("entry")))


def test_no_endpoint_shows_what_is_anothers(two):
    accept = {"Accept": "*/*"}
    seen = 0
    for method, pattern, path in two.paths():
        if method != "get":
            continue
        own = two.ask(two.north, method, path, accept)
        other = two.ask(two.south, method, path, accept)
        if own.status_code == 200:
            seen += 1
        assert other.status_code in (404, 204) or is_empty(other), (method, path, other.status_code, other.text[:200])
        for secret in (two.job, two.study, two.instance, two.report):
            assert secret not in other.text.replace(path, ""), (method, path)
    assert seen >= 14


def test_what_is_anothers_looks_like_what_does_not_exist(two):
    for path in ("/v1/jobs/{}", "/v1/jobs/{}/result", "/v1/jobs/{}/artifacts", "/v1/jobs/{}/artifacts/sr", "/fhir/$infer/{}", "/v1/jobs/{}/feedback"):
        answers = [two.ask(two.south, "get", path.format(job)) for job in (two.job, UNKNOWN)]
        assert answers[0].status_code == answers[1].status_code == 404
        assert answers[0].text.replace(two.job, "") == answers[1].text.replace(UNKNOWN, "")


def test_nothing_of_anothers_can_be_changed(two):
    for method, path in (("delete", f"/v1/jobs/{two.job}"), ("delete", f"/v1/jobs/{two.job}/data"), ("delete", f"/fhir/$infer/{two.job}"),
                         ("put", f"/v1/jobs/{two.job}/feedback")):
        answer = two.ask(two.south, method, path, {"Content-Type": "application/json"},
                         data=json.dumps({"reader": "r", "labels": []}) if method == "put" else None)
        assert answer.status_code in (404, 400, 422), (method, path, answer.status_code)
    assert two.ask(two.north, "get", f"/v1/jobs/{two.job}/result").status_code == 200


def test_lists_and_searches_hold_only_ones_own(two):
    for path in ("/v1/jobs", "/fhir/DiagnosticReport", "/fhir/Observation", "/dicom-web/studies", "/dicom-web/series", "/dicom-web/instances"):
        accept = {"Accept": "application/dicom+json"} if "dicom" in path else {}
        own, other = (two.ask(key, "get", path, accept) for key in (two.north, two.south))
        assert own.status_code == 200 and len(own.text) > 200, path
        assert other.status_code in (200, 204) and two.job not in other.text and two.study not in other.text, path


def test_keys_and_objects_of_two_tenants_do_not_meet(two):
    answer = two.post(two.south, {"Prefer": "wait=60", "Idempotency-Key": "same"})
    assert answer.status_code == 200 and two.job not in answer.headers["Content-Location"]
    body, kind = stow_body([two.image])
    stored = two.ask(two.south, "post", "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": "application/dicom+json"})
    assert stored.status_code == 200
    assert two.ask(two.south, "delete", answer.headers["Content-Location"].removesuffix("/result") + "/data").status_code == 204
    assert two.ask(two.north, "get", f"/v1/jobs/{two.job}/result").status_code == 200


def test_who_did_what_stands_in_the_audit_trail(two):
    two.ask(two.south, "get", f"/v1/jobs/{two.job}")
    directory = two.daemon.directory / "data"
    listed = subprocess.run([str(bundles.PROGRAM), "audit", "list", str(directory)], capture_output=True, text=True, timeout=60)
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    ids = {tenant: key.split("_")[1] for tenant, key in (("north", two.north), ("south", two.south))}
    submitted = [r for r in rows if r["event"] == "request" and r["detail"] == "POST /v1/jobs 200"]
    assert {(r["tenant"], r["actor"]) for r in submitted} == {(t, f"key:{i}") for t, i in ids.items()}
    assert any(r["job"] == two.job and r["tenant"] == "north" for r in submitted)
    assert rows[-1]["detail"] == f"GET /v1/jobs/{two.job} 404" and rows[-1]["actor"] == f"key:{ids['south']}"
    checked = subprocess.run([str(bundles.PROGRAM), "audit", "verify", str(directory)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0 and checked.stdout.startswith(f"{len(rows)} rows are intact; removed before them: 0; head {len(rows)}:")
    head = re.search(r'"head":"(\d+:[0-9a-f]{64})"', two.daemon.log())
    assert head
    checked = subprocess.run([str(bundles.PROGRAM), "audit", "verify", "--head", f"{len(rows)}:{'0' * 64}", str(directory)],
                             capture_output=True, text=True, timeout=60)
    assert checked.returncode == 1 and checked.stderr == f"medfusion audit: audit trail: row {len(rows)} is not the one that is known\n"


# --- quotas ---

def test_quotas_of_requests_and_bytes(tmp_path, frontal_bundle):
    keys = tmp_path / "keys.json"
    north, south = (add_key(keys, ALL, tenant, tenant) for tenant in ("north", "south"))
    image = daemons.sample()[-1]
    running = daemons.Daemon(tmp_path, frontal_bundle, **{
        "auth.keys": keys, "quota.requests_per_minute": 20, "quota.bytes_per_hour": 2 * len(image)}).start()

    def post(key, data=None, **arguments):
        return requests.post(running.url + "/v1/jobs", headers={**bearer(key), "Content-Type": "application/zip"}, data=data, timeout=60, **arguments)

    assert post(north, bytes(2 * len(image) + 1)).status_code == 413
    assert post(north, bytes(len(image))).status_code == 400  # no zip, but counted
    refused = post(north, bytes(3 * len(image) // 2))  # the bucket fills again meanwhile
    assert refused.status_code == 429 and refused.json()["detail"] == "the tenant has sent too many bytes"
    assert 1 <= int(refused.headers["Retry-After"]) <= 3600
    chunked = post(north, (bytes(65536) for _ in range(2 * len(image) // 65536)))
    assert chunked.status_code == 429
    assert post(south, bytes(100)).status_code == 400
    answers = [requests.get(running.url + "/v1/jobs", headers=bearer(north), timeout=30) for _ in range(21)]
    assert answers[0].status_code == 200 and answers[-1].status_code == 429
    assert answers[-1].json()["detail"] == "the tenant sends too many requests" and int(answers[-1].headers["Retry-After"]) <= 60
    assert requests.get(running.url + "/v1/jobs", headers=bearer(south), timeout=30).status_code == 200
    assert requests.get(running.url + "/v2/health/live", timeout=30).status_code == 200
    assert running.stop() == 0
