"""Results on their way to an EHR: FHIR transactions that may be repeated, HL7 v2 messages with their acknowledgement."""
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "fhir"))

import bad_input  # noqa: E402
import bundles  # noqa: E402
import daemon as daemons  # noqa: E402
import fhir_server  # noqa: E402
import rules  # noqa: E402
from fhir_server import wait_until  # noqa: E402

IMAGE = bad_input.NEWEST.read_bytes()
UPLOAD = (bad_input.SAMPLE / "ehr.json").read_text()
PATIENT = json.loads(UPLOAD)["entry"][0]["resource"]


def infer(daemon):
    response = daemon.post([IMAGE], ehr=UPLOAD, headers={"Prefer": "wait=30"})
    assert response.status_code == 200, response.text
    return response.json()


def events(daemon, name):
    return [json.loads(line) for line in daemon.log().splitlines() if f'"event":"{name}"' in line]


# --- FHIR ---

def start(tmp_path, model, server, destinations="fhir:ehr", **rest):
    (tmp_path / "servers.json").write_text(json.dumps({"ehr": {"url": server.url, "identifier_system": PATIENT["identifier"][0]["system"], **rest}}))
    return daemons.Daemon(tmp_path / "d", model, **{"fhir.servers": tmp_path / "servers.json", "outbox.destinations": destinations, "outbox.retry_s": 1}).start()


def counts(server):
    kinds = [kind for kind, _ in server.resources]
    return {kind: kinds.count(kind) for kind in ("DiagnosticReport", "Observation", "RiskAssessment", "Provenance", "Device")}


def check_pushed(server):
    """Every transaction is valid, and what the server has made of it refers to what the server has."""
    known = {f"{kind}/{name}" for kind, name in server.resources} | {f"Observation/{o['resource']['id']}" for o in json.loads(UPLOAD)["entry"][1:]}
    for bundle in server.transactions:
        assert rules.schema_errors(rules.validated(bundle)) == [] and rules.mistakes(bundle) == []
    for kind in ("DiagnosticReport", "Observation", "RiskAssessment", "Provenance"):
        for resource in server.of(kind):
            assert rules.mistakes(resource, known.__contains__) == []


def test_a_repeated_push_makes_nothing_twice(tmp_path, frontal_bundle):
    server = fhir_server.FhirServer([PATIENT])
    server.fail = [None, 503, None, -1]  # (search, post): refused for now; then done, but the answer is lost
    daemon = start(tmp_path, frontal_bundle, server)
    result = infer(daemon)
    assert wait_until(lambda: len(events(daemon, "outbox.failed")) == 1)
    assert counts(server)["DiagnosticReport"] == 0 and events(daemon, "outbox.failed")[0]["reason"] == "the FHIR server answered 503"
    assert wait_until(lambda: len(events(daemon, "outbox.failed")) == 2)
    once = counts(server)
    assert once == {"DiagnosticReport": 1, "Observation": len(result["predictions"]), "RiskAssessment": 0, "Provenance": 1, "Device": 1}
    assert wait_until(lambda: events(daemon, "outbox.delivered"))
    assert counts(server) == once and len(server.transactions) == 2
    check_pushed(server)
    report = server.of("DiagnosticReport")[0]
    assert report["subject"]["reference"] == f"Patient/{PATIENT['id']}"
    assert f"Observation/{json.loads(UPLOAD)['entry'][1]['resource']['id']}" in [r.get("reference") for r in server.of("Observation")[0]["derivedFrom"]]
    assert daemon.stop() == 0
    server.stop()


@pytest.mark.parametrize("patients", [[], [PATIENT | {"id": "here"}], [PATIENT | {"id": "a"}, PATIENT | {"id": "b"}]])
def test_an_ehr_that_the_features_are_not_from(tmp_path, frontal_bundle, patients):
    server = fhir_server.FhirServer(patients)
    daemon = start(tmp_path, frontal_bundle, server)
    infer(daemon)
    assert wait_until(lambda: events(daemon, "outbox.delivered")), daemon.log()
    subject = server.of("DiagnosticReport")[0]["subject"]
    assert subject["identifier"]["value"] == PATIENT["identifier"][0]["value"]
    assert subject.get("reference") == ("Patient/here" if len(patients) == 1 else None)  # nobody, or several: by identifier alone
    for observation in server.of("Observation"):
        assert not any("reference" in source for source in observation["derivedFrom"])
        assert any(source.get("display", "").startswith("Observation/") for source in observation["derivedFrom"])
    check_pushed(server)
    assert daemon.stop() == 0
    server.stop()


def test_a_courier_that_dies_pushes_again(tmp_path, frontal_bundle):
    server = fhir_server.FhirServer([PATIENT], secret="s")
    (tmp_path / "secret").write_text("s")
    daemon = start(tmp_path, frontal_bundle, server, token_url=server.origin + "/token", client_id="medfusion", client_secret_file=str(tmp_path / "secret"))
    true = server.transaction

    def slow(bundle):
        done = true(bundle)
        daemon.kill("mf-courier")  # before it can hear of it
        server.transaction = true
        return done

    server.transaction = slow
    infer(daemon)
    assert wait_until(lambda: events(daemon, "outbox.delivered"), daemons.HELD_S), daemon.log()
    assert counts(server)["DiagnosticReport"] == counts(server)["Device"] == 1
    assert sum(method == "POST" and path == "/fhir" for method, path in server.asked) == 2
    assert daemon.stop() == 0
    server.stop()


@pytest.mark.parametrize("destination", ["fhir:other", "north=fhir:other", "ftp://x/", "mllp://x", "dicom://x"])
def test_a_destination_that_is_none(tmp_path, frontal_bundle, destination):
    done = subprocess.run([bundles.PROGRAM, "serve", "--data.directory", tmp_path / "data", "--models.directories", frontal_bundle,
                           "--outbox.destinations", destination], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and f'outbox.destinations: "{destination}"' in done.stderr


# --- HL7 v2 ---

class Receiver:
    """An interface engine: keeps the messages, answers as `behave` says for each new one in turn, and AA when one comes again."""

    def __init__(self, behave=(), port=0):
        self.behave, self.messages, self.lost = list(behave), [], 0
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.one(connection)

    def one(self, connection):
        block = b""
        while not block.endswith(b"\x1c\r"):
            piece = connection.recv(4096)
            if not piece:
                return
            block += piece
        assert block.startswith(b"\x0b")
        message = block[1:-2].decode()
        control = message.split("|")[9]
        known = any(message == earlier for earlier in self.messages)
        what = "slowly" if known else self.behave.pop(0) if self.behave else "AA"
        self.messages.append(message)
        if what == "silence":
            while connection.recv(4096):
                pass
        elif what == "garbage":
            connection.sendall(b"\x0bwhat?\x1c\r")
        elif what == "other":
            connection.sendall(self.ack("AA", "somebody else's"))
        elif what == "slowly":
            for byte in self.ack("AA", control):
                connection.sendall(bytes([byte]))
                time.sleep(0.005)
        elif what != "close":
            connection.sendall(self.ack(what, control))

    @staticmethod
    def ack(code, control):
        return f"\x0bMSH|^~\\&|RIS|NORTH|MEDFUSION||20240101||ACK^R01|1|P|2.5.1\rMSA|{code}|{control}|patient data that belongs in no log\r\x1c\r".encode()

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


FAILURES = {"AE": "the receiver answered AE", "AR": "the receiver answered AR", "silence": "the receiver has not answered in time",
            "garbage": "the receiver's answer is not an HL7 acknowledgement", "other": "the receiver acknowledged another message",
            "close": "the receiver broke off without an answer"}


def test_messages_are_sent_until_they_are_acknowledged(tmp_path, frontal_bundle):
    receiver = Receiver(FAILURES)
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"outbox.destinations": f"mllp://127.0.0.1:{receiver.port}/RIS/NORTH",
                                                               "outbox.timeout_s": 5, "outbox.retry_s": 1}).start()
    jobs = []
    for n in range(1, len(FAILURES) + 1):
        jobs.append(infer(daemon)["job"])
        assert wait_until(lambda n=n: len(events(daemon, "outbox.failed")) == n), daemon.log()
    assert wait_until(lambda: len(events(daemon, "outbox.delivered")) == len(jobs)), daemon.log()
    assert [(e["job"], e["reason"]) for e in events(daemon, "outbox.failed")] == list(zip(jobs, FAILURES.values(), strict=True))
    assert len(receiver.messages) == 2 * len(jobs) and len(set(receiver.messages)) == len(jobs)  # repeated, a message is the same
    segments = receiver.messages[0].split("\r")
    head = segments[0].split("|")
    assert head[4:6] == ["RIS", "NORTH"] and head[8] == "ORU^R01^ORU_R01" and head[9] == jobs[0]
    assert {s[:3] for s in segments if s} == {"MSH", "PID", "OBR", "OBX", "NTE"}
    assert segments[1].split("|")[3].startswith(PATIENT["identifier"][0]["value"])
    assert "belongs in no log" not in daemon.log()
    assert daemon.stop() == 0
    receiver.stop()


def test_a_receiver_that_is_down_gets_them_later(tmp_path, frontal_bundle):
    first = Receiver()
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"outbox.destinations": f"mllp://127.0.0.1:{first.port}", "outbox.timeout_s": 5, "outbox.retry_s": 1}).start()
    infer(daemon)
    assert wait_until(lambda: len(events(daemon, "outbox.delivered")) == 1)
    first.stop()
    infer(daemon)
    assert wait_until(lambda: events(daemon, "outbox.failed"))
    assert "cannot be reached" in events(daemon, "outbox.failed")[0]["reason"]
    daemon.kill("mf-courier")
    second = Receiver(port=first.port)
    assert wait_until(lambda: len(events(daemon, "outbox.delivered")) == 2), daemon.log()
    assert len(first.messages) == len(second.messages) == 1 and first.messages != second.messages
    assert daemon.stop() == 0
    second.stop()
