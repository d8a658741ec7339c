"""The service as an integrator meets it: jobs, results, keys, lists, health, metrics."""
import threading
import time
import uuid

import pytest
import requests

import bad_input
import daemon as daemons

NEWEST = bad_input.NEWEST.read_bytes()
EHR = (bad_input.SAMPLE / "ehr.json").read_bytes()


def assert_problem(response, status, detail=None):
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status and problem["schema"] == "medfusion.problem/1"
    if detail is not None:
        assert problem["detail"] == detail


@pytest.fixture(scope="module")
def done(daemon):
    """A job that has succeeded."""
    response = daemon.post(daemons.sample(), ehr=EHR)
    assert response.status_code == 202, response.text
    job = daemon.wait(response.headers["Location"])
    assert job["state"] == "succeeded", job
    return job


def test_a_posted_study_becomes_a_result(daemon, done):
    result = daemon.get(f"/v1/jobs/{done['id']}/result").json()
    assert result["schema"] == "medfusion.result/1" and result["job"] == done["id"]
    assert [frame["role"] for frame in result["study"]["frames"]] == ["prior"] * 3 + ["current"]
    assert len(result["predictions"]) == 5
    assert all(value["status"] != "missing" for value in result["ehr"]["features"][:1])


def test_waiting_gives_the_result_at_once(daemon):
    response = daemon.post([NEWEST], ehr=EHR, options=b'{"priority": "stat"}', headers={"Prefer": "wait=60"})
    assert response.status_code == 200, response.text
    assert response.json()["schema"] == "medfusion.result/1"
    assert response.headers["Preference-Applied"] == "wait=60"
    assert daemon.get(response.headers["Content-Location"]).json() == response.json()


def test_the_same_upload_gives_the_same_numbers(daemon):
    one, two = (daemon.post([NEWEST], headers={"Prefer": "wait=60"}).json() for _ in range(2))
    assert one["predictions"] == two["predictions"]


def test_a_zip_is_a_body_and_a_part(daemon):
    archive = bad_input.zip_of([("a/1.dcm", NEWEST), ("notes.txt", b"hello")])
    as_body = requests.post(
        daemon.url + "/v1/jobs", data=archive, timeout=90,
        headers={"Content-Type": "application/zip", "Prefer": "wait=60"})
    assert as_body.status_code == 200, as_body.text
    as_part = daemon.post([archive], headers={"Prefer": "wait=60"})
    assert as_part.json()["predictions"] == as_body.json()["predictions"]


def test_results_come_as_accept_asks(daemon, done):
    path = f"/v1/jobs/{done['id']}/result"
    fhir = daemon.get(path, headers={"Accept": "application/fhir+json"})
    assert fhir.headers["Content-Type"] == "application/fhir+json"
    kinds = [entry["resource"]["resourceType"] for entry in fhir.json()["entry"]]
    assert fhir.json()["resourceType"] == "Bundle" and kinds.count("DiagnosticReport") == 1
    report = fhir.json()["entry"][kinds.index("DiagnosticReport")]["resource"]
    assert report["subject"]["identifier"]["value"] == "00007007"
    text = daemon.get(path, headers={"Accept": "text/plain"})
    assert text.headers["Content-Type"] == "text/plain; charset=utf-8" and "Label 0" in text.text
    assert_problem(daemon.get(path, headers={"Accept": "application/dicom"}), 406)


def test_a_waiting_post_answers_in_the_form_asked_for(daemon):
    response = daemon.post([NEWEST], headers={"Prefer": "wait=60", "Accept": "application/fhir+json"})
    assert response.json()["resourceType"] == "Bundle"
    assert_problem(daemon.post([NEWEST], headers={"Prefer": "wait=60", "Accept": "image/png"}), 406)


def test_a_key_makes_a_repeat_safe(daemon):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    first = daemon.post([NEWEST], headers=key)
    again = daemon.post([NEWEST], headers=key)  # requests makes another boundary
    assert first.status_code == again.status_code == 202
    assert first.headers["Location"] == again.headers["Location"]
    daemon.wait(first.headers["Location"])
    later = daemon.post([NEWEST], headers=key)
    assert later.status_code == 202 and later.json()["state"] == "succeeded"
    assert_problem(daemon.post([NEWEST], ehr=EHR, headers=key), 422,
                   "Idempotency-Key: it was used before for a different request")


def test_a_refused_request_does_not_use_up_its_key(daemon):
    key = {"Idempotency-Key": str(uuid.uuid4())}
    assert_problem(daemon.post([bad_input.not_dicom()], headers=key), 400)
    assert daemon.post([NEWEST], headers=key).status_code == 202


def test_a_key_under_way_gives_409(daemon):
    key = str(uuid.uuid4())
    begun, go_on = threading.Event(), threading.Event()

    def slowly():
        yield b"--B\r\nContent-Disposition: form-data; name=\"dicom\"\r\n\r\n"
        begun.set()
        go_on.wait(20)
        yield NEWEST + b"\r\n--B--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=B", "Idempotency-Key": key}
    answers = []
    slow = threading.Thread(target=lambda: answers.append(
        requests.post(daemon.url + "/v1/jobs", data=slowly(), headers=headers, timeout=60)))
    slow.start()
    assert begun.wait(10)
    time.sleep(0.2)
    second = daemon.post([NEWEST], headers={"Idempotency-Key": key})
    go_on.set()
    slow.join()
    assert_problem(second, 409, "a request with this Idempotency-Key is still being processed")
    assert answers[0].status_code == 202


def test_cancel_purge_and_what_is_left(daemon):
    location = daemon.post([NEWEST]).headers["Location"]
    first = daemon.delete(location)
    assert first.status_code in (202, 409)
    job = daemon.wait(location)
    assert job["state"] == ("cancelled" if first.status_code == 202 else "succeeded")
    assert_problem(daemon.delete(location), 409)
    if first.status_code == 202:
        assert_problem(daemon.get(location + "/result"), 409, "the job was cancelled")
    assert daemon.delete(location + "/data").status_code == 204
    assert daemon.delete(location + "/data").status_code == 204
    assert_problem(daemon.get(location + "/result"), 410, "the job's data was purged")
    assert daemon.get(location).json()["purged"] is True


def test_lists_page_through_everything_once(daemon, done):
    seen, path = [], "/v1/jobs?limit=2&state=succeeded"
    while path:
        response = daemon.get(path)
        page = response.json()
        seen += [job["id"] for job in page["jobs"]]
        path = page["next"]
        assert (path is None) == ("Link" not in response.headers)
    assert done["id"] in seen and len(seen) == len(set(seen))
    assert_problem(daemon.get("/v1/jobs?state=done"), 400)
    assert_problem(daemon.get("/v1/jobs?nothing=1"), 400, "unknown query parameter")


def test_an_unchanged_job_is_304(daemon, done):
    first = daemon.get(f"/v1/jobs/{done['id']}")
    again = daemon.get(f"/v1/jobs/{done['id']}", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304 and again.content == b""


def test_what_is_not_there(daemon):
    assert_problem(daemon.get("/v1/jobs/" + "0" * 32), 404, "there is no such job")
    assert_problem(daemon.get("/v1/jobs/" + "0" * 32 + "/result"), 404)
    assert_problem(daemon.get("/nothing"), 404, "there is nothing at this path")
    refused = requests.put(daemon.url + "/v1/jobs", timeout=10)
    assert_problem(refused, 405)
    assert refused.headers["Allow"] == "POST, GET, HEAD"


def test_health_models_and_metrics(daemon, done):
    assert daemon.get("/v2/health/live").json() == {"live": True}
    assert daemon.get("/v2/health/ready").json() == {"ready": True}
    assert daemon.get("/v2").json()["name"] == "medfusion"
    assert daemon.get("/v2/models/frontal").json()["versions"] == ["0.0.1"]
    assert daemon.get("/v2/models/frontal/ready").json() == {"name": "frontal", "ready": True}
    assert_problem(daemon.get("/v2/models/other"), 404, "there is no such model")
    text = daemon.get("/metrics").text
    assert 'medfusion_jobs_finished_total{state="succeeded"}' in text
    assert done["id"] not in text


def test_a_graceful_stop_answers_those_who_wait_and_keeps_their_jobs(tmp_path, frontal_bundle):
    running = daemons.Daemon(tmp_path, frontal_bundle).start()
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(
        running.post(daemons.sample(), headers={"Prefer": "wait=60"}))) for _ in range(6)]
    for client in clients:
        client.start()
    time.sleep(0.5)
    assert running.stop() == 0
    for client in clients:
        client.join()
    assert {answer.status_code for answer in answers} <= {200, 202, 503}
    accepted = [answer.headers["Location"] for answer in answers if answer.status_code == 202]
    running.start()
    for location in accepted:
        assert running.wait(location)["state"] == "succeeded"
    assert running.stop() == 0


def test_a_full_queue_says_429_and_when_to_come_back(tmp_path, frontal_bundle):
    running = daemons.Daemon(tmp_path, frontal_bundle, **{"jobs.max_queued": 2, "worker.batch": 1}).start()
    answers = [running.post(daemons.sample()) for _ in range(12)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused and all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    for answer in answers:
        if answer.status_code == 202:
            assert running.wait(answer.headers["Location"], 120)["state"] == "succeeded"
    assert running.stop() == 0
