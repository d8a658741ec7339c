"""Following jobs as Server-Sent Events: what is told, to whom, what happens to those who come back."""
import http.client
import json
import socket
import threading

import pytest
import requests

import bad_input
import daemon as daemons
from fhir_server import wait_until

IMAGE = bad_input.NEWEST.read_bytes()


class Follower:
    """Reads a stream on a thread: (event, id, data) of each event, and whether it has ended."""

    def __init__(self, daemon, path="/v1/events", last=None):
        self.connection = http.client.HTTPConnection(daemon.url.removeprefix("http://"), timeout=60)
        self.connection.request("GET", path, headers={"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": last}))
        self.socket = self.connection.sock
        self.response = self.connection.getresponse()
        self.events, self.ended = [], threading.Event()
        if self.response.status == 200:
            threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        fields = {}
        for line in iter(self.response.readline, b""):
            if line.strip():
                name, _, value = line.decode().strip().partition(": ")
                fields[name] = value
            elif "data" in fields:
                self.events.append((fields["event"], int(fields["id"]), json.loads(fields["data"])))
                fields = {}
        self.ended.set()

    def states(self, job):
        return [data["state"] for event, _, data in self.events if event == "job" and data["id"] == job]

    def begun(self):
        return wait_until(lambda: self.events and self.events[0][0] == "begin")

    def sees(self, job, state):
        return wait_until(lambda: state in self.states(job))

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)


def test_a_job_is_followed_to_its_end(daemon):
    follower = Follower(daemon)
    assert follower.response.headers["Content-Type"] == "text/event-stream" and follower.response.headers["Cache-Control"] == "no-store"
    assert follower.begun() and follower.events[0][2] == {"lost": False}
    job = daemon.post([IMAGE]).json()["id"]
    assert follower.sees(job, "succeeded")
    states = follower.states(job)
    assert states == sorted(states, key=["queued", "running", "succeeded"].index)
    numbers = [number for _, number, _ in follower.events]
    assert numbers == sorted(numbers)
    assert [data for event, _, data in follower.events if event == "job"][-1] == daemon.get(f"/v1/jobs/{job}").json()
    follower.close()


def test_one_jobs_stream_ends_with_it(daemon):
    job = daemon.post([IMAGE]).json()["id"]
    daemon.post([IMAGE])
    follower = Follower(daemon, f"/v1/jobs/{job}/events")
    assert follower.ended.wait(30)
    assert follower.states(job)[-1] == "succeeded" and {data["id"] for event, _, data in follower.events if event == "job"} == {job}
    again = Follower(daemon, f"/v1/jobs/{job}/events")  # it had ended before
    assert again.ended.wait(30) and [event for event, _, _ in again.events] == ["begin", "job"] and again.states(job) == ["succeeded"]


def test_who_comes_back_misses_nothing(daemon):
    first = Follower(daemon)
    job = daemon.post([IMAGE]).json()["id"]
    assert first.begun() and first.sees(job, "succeeded")
    last = first.events[-1][1]
    first.close()
    jobs = [daemon.post([IMAGE], headers={"Prefer": "wait=30"}).json()["job"] for _ in range(3)]
    assert daemon.delete(f"/v1/jobs/{jobs[0]}/data").status_code == 204
    second = Follower(daemon, last=last)
    assert second.sees(jobs[0], "succeeded") and second.sees(jobs[2], "succeeded")
    assert second.events[0] == ("begin", last, {"lost": False})
    assert [data["id"] for _, _, data in second.events[1:]] == [jobs[1], jobs[2], jobs[0]]  # each once, by its last change
    assert second.events[-1][2]["purged"]
    second.close()


@pytest.mark.parametrize("last", ["0", "17", "999999999999999999", "x", "9" * 40])
def test_an_id_that_is_not_known_is_told(daemon, last):
    follower = Follower(daemon, last=last)
    assert follower.begun() and follower.events[0][2] == {"lost": True}
    job = daemon.post([IMAGE]).json()["id"]
    assert follower.sees(job, "succeeded")
    follower.close()


def test_refusals(daemon):
    assert daemon.get("/v1/events?x=1").status_code == 400
    assert daemon.get("/v1/events", headers={"Accept": "application/json"}).status_code == 406
    assert daemon.get("/v1/jobs/00112233445566778899aabbccddeeff/events").status_code == 404
    assert daemon.get("/v1/jobs/x/events").status_code == 404
    assert requests.head(daemon.url + "/v1/events", timeout=30).status_code == 200


def test_streams_have_their_limit(tmp_path, frontal_bundle):
    daemon = daemons.Daemon(tmp_path, frontal_bundle, **{"http.max_event_streams": 4}).start()
    followers = [Follower(daemon) for _ in range(2)]  # half of them: there is one tenant
    assert all(f.begun() for f in followers)
    refused = Follower(daemon)
    assert refused.response.status == 429 and int(refused.response.headers["Retry-After"]) > 0
    followers[0].close()
    daemon.post([IMAGE], headers={"Prefer": "wait=30"})  # what is sent to who is gone is noticed
    third = []
    assert wait_until(lambda: (third and third[-1].response.status == 200) or third.append(Follower(daemon)))
    assert third[-1].begun()
    assert daemon.stop() == 0  # with streams open
    assert third[-1].ended.wait(10) and followers[1].ended.wait(10)


def test_streams_outlive_the_store(tmp_path, frontal_bundle):
    daemon = daemons.Daemon(tmp_path, frontal_bundle).start()
    follower = Follower(daemon)
    assert follower.begun()
    assert daemon.kill("mf-store")
    if not daemons.ON_POSTGRESQL:  # which keeps the changes that nobody heard of
        assert wait_until(lambda: ("begin", {"lost": True}) in [(event, data) for event, _, data in follower.events], 30)
    job = daemon.post([IMAGE], headers={"Prefer": "wait=30"}).json()["job"]
    assert follower.sees(job, "succeeded")
    assert daemon.stop() == 0
