"""The audit trail at an audit repository: DICOM audit messages by syslog over TLS, none left out."""
import base64
import json
import re
import socket
import ssl
import subprocess
import threading
import xml.etree.ElementTree as ElementTree

import pytest

import bad_input
import bundles
import certificates
import daemon as daemons
from fhir_server import wait_until
from test_auth import add_key, bearer

IMAGE = bad_input.NEWEST.read_bytes()

# RFC 5424: facility 10, the time in UTC, host, program, MSGID, no structured data, the message
SYSLOG = re.compile(r"<8[45]>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ medfusion - DICOM\+RFC3881 - (<\?xml .*)", re.S)

# PS3.15 A.5.1: the attributes of each element (those that must be there first), and its children in order
CODED = ({"csd-code", "codeSystemName", "originalText"}, {"displayName"}, [])
SCHEMA = {
    "AuditMessage": (set(), set(), ["EventIdentification", "ActiveParticipant+", "AuditSourceIdentification", "ParticipantObjectIdentification*"]),
    "EventIdentification": ({"EventDateTime", "EventOutcomeIndicator"}, {"EventActionCode"}, ["EventID", "EventTypeCode*", "EventOutcomeDescription?"]),
    "EventID": CODED, "EventTypeCode": CODED, "RoleIDCode": CODED, "ParticipantObjectIDTypeCode": CODED,
    "ActiveParticipant": ({"UserID", "UserIsRequestor"}, {"AlternativeUserID", "UserName", "NetworkAccessPointID", "NetworkAccessPointTypeCode"},
                          ["RoleIDCode*"]),
    "AuditSourceIdentification": ({"AuditSourceID"}, {"AuditEnterpriseSiteID"}, ["AuditSourceTypeCode*"]),
    "AuditSourceTypeCode": ({"csd-code"}, {"codeSystemName", "originalText"}, []),
    "ParticipantObjectIdentification": ({"ParticipantObjectID"}, {"ParticipantObjectTypeCode", "ParticipantObjectTypeCodeRole"},
                                        ["ParticipantObjectIDTypeCode", "ParticipantObjectName", "ParticipantObjectDetail*"]),
    "ParticipantObjectName": (set(), set(), []), "ParticipantObjectDetail": ({"type", "value"}, set(), []),
}
VALUES = {"EventActionCode": "[CRUDE]", "EventOutcomeIndicator": "0|4|8|12", "UserIsRequestor": "true|false", "ParticipantObjectTypeCode": "[1-4]",
          "NetworkAccessPointTypeCode": "[1-5]", "ParticipantObjectTypeCodeRole": "[1-9]|1[0-9]|2[0-6]"}


def check(element):
    needed, more, children = SCHEMA[element.tag]
    assert needed <= set(element.attrib) <= needed | more, element.tag
    for name, value in element.attrib.items():
        assert re.fullmatch(VALUES.get(name, ".+"), value), (element.tag, name, value)
    pattern = "".join(f"(?:{c.rstrip('?*+')} ){c[-1] if c[-1] in '?*+' else ''}" for c in children)
    assert re.fullmatch(pattern, "".join(f"{c.tag} " for c in element)), element.tag
    for child in element:
        check(child)


class Repository:
    """Takes octet-counted syslog messages; `most`: of a connection, then it is broken off."""

    def __init__(self, context=None, port=0, most=None):
        self.context, self.most, self.messages, self.peers = context, most, [], []
        self.socket = socket.create_server(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
                if self.context:
                    connection = self.context.wrap_socket(connection, server_side=True)
                    self.peers.append(connection.getpeercert())
                self.take(connection, connection.makefile("rb"))
            except ssl.SSLError:
                continue
            except OSError:
                return

    def take(self, connection, stream):
        taken = 0
        with connection:
            while taken != self.most:
                count = b""
                while not count.endswith(b" "):
                    byte = stream.read(1)
                    if not byte:
                        return
                    count += byte
                self.messages.append(stream.read(int(count)).decode("ascii"))
                taken += 1

    def numbers(self):
        return [int(re.search(r"urn:medfusion:audit:(\d+)", m)[1]) for m in self.messages]

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def trail(daemon):
    listed = subprocess.run([str(bundles.PROGRAM), "audit", "list", str(daemon.directory / "data")], capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in listed.stdout.splitlines()]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificates.Authority(tmp_path_factory.mktemp("authority"))


def server_context(authority, name="repository"):
    certificate, key = authority.issue(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    return context


def test_every_row_arrives_as_a_dicom_audit_message(tmp_path, frontal_bundle, authority):
    repository = Repository(server_context(authority))
    certificate, key = authority.issue("medfusion")
    secret = add_key(tmp_path / "keys.json")
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{
        "auth.keys": tmp_path / "keys.json", "audit.syslog": f"tls://127.0.0.1:{repository.port}", "audit.syslog_ca": authority.certificate,
        "audit.syslog_certificate": certificate, "audit.syslog_key": key}).start()
    job = daemon.post([IMAGE], headers={"Prefer": "wait=30", **bearer(secret)}).json()["job"]
    assert daemon.get(f"/v1/jobs/{job}/result", headers=bearer(secret)).status_code == 200
    assert daemon.get("/v1/jobs/00112233445566778899aabbccddeeff", headers=bearer(secret)).status_code == 404
    rows = trail(daemon)
    assert wait_until(lambda: len(repository.messages) >= len(rows)), daemon.log()
    assert repository.numbers() == list(range(1, len(repository.messages) + 1))
    assert [dict(p[0] for p in peer["subject"])["commonName"] for peer in repository.peers] == ["medfusion"]
    events = []
    for message, row in zip(repository.messages, rows):
        root = ElementTree.fromstring(SYSLOG.fullmatch(message)[1])
        check(root)
        events.append((root.find("EventIdentification/EventTypeCode").get("csd-code"), root.find("EventIdentification/EventID").get("csd-code"),
                       root.find("EventIdentification").get("EventOutcomeIndicator")))
        details = {d.get("type"): base64.b64decode(d.get("value")) for d in root.iter("ParticipantObjectDetail")}
        assert details["hash"].hex() == row["hash"] and details.get("detail", b"").decode() == (row["detail"] or "")
        assert root.find("EventIdentification").get("EventDateTime") == row["time"]
        actors = [p.get("UserID") for p in root.iter("ActiveParticipant") if p.get("UserIsRequestor") == "true"]
        assert actors == [row["actor"] or "medfusion"]
    assert ("job.submitted", "110111", "0") in events and ("job.succeeded", "110111", "0") in events
    assert ("request", "110110", "0") in events and ("request", "110110", "4") in events
    assert daemon.stop() == 0
    repository.stop()


def test_rows_wait_for_a_repository_that_is_away(tmp_path, frontal_bundle):
    first = Repository(most=1)  # breaks off after each message
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"audit.syslog": f"tcp://127.0.0.1:{first.port}"}).start()
    daemon.post([IMAGE], headers={"Prefer": "wait=30"})
    assert wait_until(lambda: len(first.messages) >= 2), daemon.log()
    first.stop()
    daemon.post([IMAGE], headers={"Prefer": "wait=30"})
    daemon.kill("mf-courier")
    second = Repository(port=first.port)
    wanted = {row["seq"] for row in trail(daemon)}
    assert wait_until(lambda: wanted <= set(second.numbers()), 60), daemon.log()  # nothing counts as delivered that was broken off
    place = daemon.directory / "data" / "audit.sent"
    assert wait_until(lambda: place.exists() and int(place.read_text()) == max(wanted))
    before = len(second.messages)
    assert daemon.stop() == 0
    daemon.start()  # goes on where it was
    daemon.post([IMAGE], headers={"Prefer": "wait=30"})
    assert wait_until(lambda: len(second.messages) > before)
    assert second.numbers()[before] == max(wanted) + 1
    assert daemon.stop() == 0
    second.stop()


def test_who_is_not_the_repository_gets_nothing(tmp_path, frontal_bundle, authority):
    impostor = Repository(server_context(certificates.Authority(tmp_path / "other", "other")))
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"audit.syslog": f"tls://127.0.0.1:{impostor.port}",
                                                               "audit.syslog_ca": authority.certificate}).start()
    daemon.post([IMAGE], headers={"Prefer": "wait=30"})
    assert wait_until(lambda: '"audit.syslog_failed"' in daemon.log())
    assert impostor.messages == [] and "cannot be reached" in daemon.log()
    assert daemon.stop() == 0
    impostor.stop()


@pytest.mark.parametrize("address", ["udp://127.0.0.1:514", "tcp://audit.example:601", "tls://audit.example"])
def test_an_address_that_is_none(tmp_path, frontal_bundle, address):
    done = subprocess.run([bundles.PROGRAM, "serve", "--data.directory", tmp_path / "data", "--models.directories", frontal_bundle,
                           "--audit.syslog", address], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2 and "audit.syslog: " in done.stderr
