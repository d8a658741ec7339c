"""Webhooks: who is told that a job has ended, with what signature, how often."""
import base64
import hashlib
import hmac
import http.server
import json
import subprocess
import threading
import time

import pytest

import bad_input
import bundles
import daemon as daemons
from fhir_server import wait_until

IMAGE = bad_input.NEWEST.read_bytes()
SECRETS = [bytes(range(24)), bytes(range(100, 164))]


class Receiver:
    """Keeps what it is sent; answers with the statuses of `behave` in turn, then 204."""

    def __init__(self, behave=()):
        self.behave, self.messages = list(behave), []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.messages.append((self.path, dict(self.headers), body))
                status = receiver.behave.pop(0) if receiver.behave else 204
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Location", receiver.url + "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


def start(tmp_path, model, *receivers, **options):
    (tmp_path / "secret").write_text("".join(f"whsec_{base64.b64encode(s).decode()}\n" for s in SECRETS))
    (tmp_path / "webhooks.json").write_text(json.dumps({f"r{i}": {"url": r.url + "/hook", "secret_file": str(tmp_path / "secret")} for i, r in enumerate(receivers)}))
    return daemons.Daemon(tmp_path / "d", model, **{"outbox.webhooks": tmp_path / "webhooks.json", "outbox.retry_s": 1,
                                                    "outbox.destinations": " ".join(f"webhook:r{i}" for i in range(len(receivers))), **options}).start()


def events(daemon, name):
    return [json.loads(line) for line in daemon.log().splitlines() if f'"event":"{name}"' in line]


def check(message):
    """Verifies a message as a receiver does, and returns what it says."""
    path, fields, body = message
    assert path == "/hook" and fields["Content-Type"] == "application/json"
    assert abs(time.time() - int(fields["webhook-timestamp"])) < (240 if daemons.ON_POSTGRESQL else 60)
    signed = b".".join([fields["webhook-id"].encode(), fields["webhook-timestamp"].encode(), body])
    assert fields["webhook-signature"].split(" ") == ["v1," + base64.b64encode(hmac.new(s, signed, hashlib.sha256).digest()).decode() for s in SECRETS]
    return json.loads(body)


def test_a_receiver_that_hangs_holds_up_no_other(tmp_path, frontal_bundle):
    """Every destination has a thread; those that wait are told in order when it answers again."""
    slow, quick = Receiver(), Receiver()
    answer = threading.Event()
    slow.behave = Hold(answer)
    daemon = start(tmp_path, frontal_bundle, slow, quick)
    jobs = [daemon.post([IMAGE], headers={"Prefer": "wait=30"}).json()["job"] for _ in range(3)]
    assert wait_until(lambda: [check(m)["data"]["job"]["id"] for m in quick.messages] == jobs, 40), daemon.log()
    assert wait_until(lambda: len(slow.messages) == 1) and not answer.is_set()
    answer.set()
    assert wait_until(lambda: [check(m)["data"]["job"]["id"] for m in slow.messages] == jobs, 40), daemon.log()
    assert daemon.stop() == 0
    slow.stop()
    quick.stop()


class Hold(list):
    """Behaviour of a receiver that does not answer before it is let."""

    def __init__(self, event):
        super().__init__()
        self.event = event

    def __bool__(self):
        self.event.wait(60)
        return False


def test_receivers_are_told_until_they_say_so(tmp_path, frontal_bundle):
    first, second = Receiver([500, 302, None]), Receiver()
    daemon = start(tmp_path, frontal_bundle, first, second)
    job = daemon.post([IMAGE], headers={"Prefer": "wait=30"}).json()["job"]
    assert wait_until(lambda: len(events(daemon, "outbox.delivered")) == 2, 60), daemon.log()
    assert [e["reason"] for e in events(daemon, "outbox.failed")][:2] == ["the webhook answered 500", "the webhook answered 302"]
    assert len(first.messages) == 4 and len(second.messages) == 1  # a redirect is not followed
    told = [check(message) for message in first.messages + second.messages]
    assert all(t == told[0] for t in told)  # whatever happened in between
    assert {fields["webhook-id"] for _, fields, _ in first.messages + second.messages} == {f"job_{job}"}
    assert told[0]["type"] == "job.succeeded" and told[0]["data"]["tenant"] == "default"
    assert told[0]["data"]["job"] == daemon.get(f"/v1/jobs/{job}").json() and told[0]["timestamp"] == told[0]["data"]["job"]["finished"]
    assert daemon.stop() == 0
    first.stop()
    second.stop()


def test_failed_and_cancelled_jobs_are_told_of(tmp_path, frontal_bundle):
    receiver = Receiver()
    daemon = start(tmp_path, frontal_bundle, receiver, **{"jobs.max_crashes": 1})
    daemon.post([IMAGE], headers={"Prefer": "wait=30"})  # the worker is there, and waits for more
    assert wait_until(lambda: len(receiver.messages) == 1)
    daemon.kill("mf-worker", 19)  # SIGSTOP: what comes now waits
    jobs = [daemon.post([IMAGE]).json()["id"] for _ in range(2)]
    assert wait_until(lambda: daemon.get(f"/v1/jobs/{jobs[0]}").json()["state"] == "running")
    assert daemon.delete(f"/v1/jobs/{jobs[1]}").status_code == 202
    daemon.kill("mf-worker", 11)  # SIGSEGV: a crash of the job's own
    daemon.kill("mf-worker", 18)
    assert wait_until(lambda: len(receiver.messages) == 3), daemon.log()
    told = {t["data"]["job"]["id"]: t for t in map(check, receiver.messages)}
    assert told[jobs[0]]["type"] == "job.failed" and told[jobs[0]]["data"]["job"]["problem"]["detail"]
    assert told[jobs[1]]["type"] == "job.cancelled" and told[jobs[1]]["data"]["job"]["problem"] is None
    assert daemon.stop() == 0
    receiver.stop()


def test_a_receiver_that_is_gone_is_told_once(tmp_path, frontal_bundle):
    receiver = Receiver([410])
    daemon = start(tmp_path, frontal_bundle, receiver)
    daemon.post([IMAGE], headers={"Prefer": "wait=30"})
    assert wait_until(lambda: events(daemon, "outbox.failed"))
    daemon.post([IMAGE], headers={"Prefer": "wait=30"})  # the next one is tried again
    assert wait_until(lambda: events(daemon, "outbox.delivered"))
    assert len(receiver.messages) == 2
    assert daemon.stop() == 0
    receiver.stop()


def test_a_courier_that_dies_tells_again(tmp_path, frontal_bundle):
    receiver = Receiver()

    class Dying(list):
        def append(self, message):
            super().append(message)
            if len(self) == 1:
                daemon.kill("mf-courier")  # before it can hear the answer

    receiver.messages = Dying()
    daemon = start(tmp_path, frontal_bundle, receiver)
    daemon.post([IMAGE], headers={"Prefer": "wait=30"})
    # with a database of many hosts, once the dead one's time for it is over (MF_SQL_HELD_MS)
    assert wait_until(lambda: events(daemon, "outbox.delivered"), daemons.HELD_S), daemon.log()
    assert len(receiver.messages) == 2 and check(receiver.messages[0]) == check(receiver.messages[1])
    assert daemon.stop() == 0
    receiver.stop()


@pytest.mark.parametrize("destination", ["webhook:other", "north=webhook:other", "webhook:"])
def test_a_webhook_that_is_none(tmp_path, frontal_bundle, destination):
    done = subprocess.run([bundles.PROGRAM, "serve", "--data.directory", tmp_path / "data", "--models.directories", frontal_bundle,
                           "--outbox.destinations", destination], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and f'outbox.destinations: "{destination}"' in done.stderr
