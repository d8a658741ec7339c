"""Studies fetched by C-FIND and C-GET or C-MOVE: Orthanc, DCMTK's dcmqrscp, and pynetdicom for what peers do wrong."""
import io
import json
import signal
import socket
import ssl
import subprocess
import threading
import time

import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import dimse_messages

import bundles
import certificates
import daemon as daemons
import dicom_pacs
import orthanc
from dicom_net import part10, radiograph

FRONTAL = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}


def start(directory, bundle, sources, ours=None, **options):
    if ours:
        options = {"dimse.listen": f"127.0.0.1:{ours}", "dimse.allow": "*", "intake.quiet_s": 1, **options}
    return daemons.Daemon(directory, bundle, **{"fetch.sources": sources, **options}).start()


def post(daemon, study, **rest):
    return requests.post(daemon.url + "/v1/jobs", json={"study": study, **rest}, headers={"Prefer": "wait=30"}, timeout=120)


def fetch(daemon, study, **rest):
    return post(daemon, {"study_instance_uid": study, **rest})


def roles(response):
    assert response.status_code == 200, response.text
    return [frame["role"] for frame in response.json()["study"]["frames"]]


def series():
    """A study with two priors of the same patient, and what must not come with it."""
    current, newer, older, later = (radiograph(patient="F-1", date=date) for date in ("20240501", "20230101", "20200101", "20250101"))
    return current, [newer, older], [later, radiograph(patient="F-2", date="20190101")]


@pytest.mark.parametrize("method", ["", "?move"])
@pytest.mark.skipif(not orthanc.available(), reason="Orthanc is not installed")
def test_a_study_and_its_priors_from_orthanc(tmp_path, frontal_bundle, method):
    ours = orthanc.free_port()
    pacs = orthanc.Orthanc(tmp_path / "orthanc", modalities={"medfusion": ("MEDFUSION", ours)}).start()
    current, priors, others = series()
    for ds in [current, *priors, *others]:
        pacs.store(part10(ds))
    daemon = start(tmp_path / "d", frontal_bundle, f"pacs=dicom://ORTHANC@127.0.0.1:{pacs.dicom}{method}", ours)
    result = fetch(daemon, current.StudyInstanceUID, source="pacs")
    assert roles(result) == ["prior", "prior", "current"]
    assert result.json()["study"]["study_instance_uid"] == current.StudyInstanceUID
    assert roles(fetch(daemon, current.StudyInstanceUID, priors=False)) == (["current"])
    assert fetch(daemon, generate_uid()).status_code == 404
    if method:  # what was moved here is stored, and made no job of its own
        assert daemon.get(f"/v1/studies/{current.StudyInstanceUID}").json()["instances"] == 1
        time.sleep(2.5)
        assert len(daemon.get("/v1/jobs").json()["jobs"]) == 2
    assert daemon.stop() == 0
    pacs.stop()


@pytest.mark.parametrize("method", ["", "?move"])
def test_a_study_and_its_priors_from_dcmqrscp(tmp_path, frontal_bundle, method):
    ours = orthanc.free_port()
    current, priors, others = series()
    second = radiograph(patient="F-1", date="20240501", study=current.StudyInstanceUID, series=current.SeriesInstanceUID, view="AP")
    with dicom_pacs.dcmqrscp(tmp_path / "qr", ours, [current, second, *priors, *others]) as port:
        daemon = start(tmp_path / "d", frontal_bundle, f"pacs=dicom://ARCHIVE@127.0.0.1:{port}{method}", ours)
        assert roles(fetch(daemon, current.StudyInstanceUID)) == ["prior", "prior", "current", "current"]
        assert daemon.stop() == 0


@pytest.mark.parametrize("tool", ["dcmcjpls", "dcmcrle", "dcmcjpeg"])
def test_compressed_images_come_as_they_are_stored(tmp_path, frontal_bundle, tool):
    """pynetdicom does not transcode: the syntax has to be among those that we offer for the class."""
    (tmp_path / "raw.dcm").write_bytes(part10(radiograph()))
    subprocess.run([tool, str(tmp_path / "raw.dcm"), str(tmp_path / "small.dcm")], check=True)
    ds = pydicom.dcmread(tmp_path / "small.dcm")
    assert ds.file_meta.TransferSyntaxUID.is_compressed
    with dicom_pacs.pacs([ds]) as pacs:
        daemon = start(tmp_path / "d", frontal_bundle, f"pacs=dicom://PACS@127.0.0.1:{pacs.port}")
        assert roles(fetch(daemon, ds.StudyInstanceUID)) == ["current"]
        assert daemon.stop() == 0


# --- which priors, by the bundle ---


def make(tmp_path, **priors):
    sequence = json.loads((bundles.GOLDEN / "bundle.json").read_text())["sequence"]
    return bundles.make_bundle(tmp_path / "bundle", name="wanting", accepts=FRONTAL, sequence={**sequence, "priors": priors})


@pytest.mark.parametrize("rules, dates", [
    ({}, ["20200101", "20230101", "20240101"]), ({"max": 1}, ["20240101"]), ({"max": 0}, []), ({"days": 500}, ["20230101", "20240101"]),
    ({"days": 500, "max": 1}, ["20240101"]), ({"body_part": "same"}, ["20200101", "20240101"])])
@pytest.mark.parametrize("way", ["dicom", "upload"])
def test_the_bundle_says_which_priors(tmp_path, rules, dates, way):
    current = radiograph(patient="B-1", date="20240501")
    priors = [radiograph(patient="B-1", date="20200101"), radiograph(patient="B-1", date="20230101", BodyPartExamined="HAND"),
              radiograph(patient="B-1", date="20240101")]
    del priors[0].BodyPartExamined  # it may be of any
    with dicom_pacs.pacs([current, *priors]) as pacs:
        daemon = start(tmp_path / "d", make(tmp_path, **rules), f"pacs=dicom://PACS@127.0.0.1:{pacs.port}")
        if way == "dicom":
            response = fetch(daemon, current.StudyInstanceUID)
        else:
            response = daemon.post([part10(ds) for ds in (current, *priors)], headers={"Prefer": "wait=30"})
        assert response.status_code == 200, response.text
        by_uid = {ds.SOPInstanceUID: ds.StudyDate for ds in priors}
        frames = response.json()["study"]["frames"]
        assert [by_uid[frame["sop_instance_uid"]] for frame in frames if frame["role"] == "prior"] == dates
        if way == "dicom":
            asked = [identifier.StudyDate for identifier in pacs.asked if identifier.get("PatientID")]
            assert asked == ([] if rules.get("max") == 0 else ["20221218-20240501" if "days" in rules else "19000101-20240501"])
        assert daemon.stop() == 0


def test_bundles_with_bad_rules_are_refused(tmp_path):
    for rules, what in (({"max": 32}, "max"), ({"days": -1}, "days"), ({"body_part": "near"}, "body_part"), ({"most": 1}, "most")):
        bundle = make(tmp_path / what, **rules)
        refused = subprocess.run([bundles.PROGRAM, "model", "verify", str(bundle)], capture_output=True, text=True)
        assert refused.returncode == 1 and what in refused.stderr, refused.stderr


# --- peers that misbehave ---


@pytest.fixture(scope="module")
def served(tmp_path_factory, frontal_bundle):
    """A daemon whose source is wherever the test puts it: its port is fixed, the PACS behind it changes."""
    ours, theirs = orthanc.free_port(), orthanc.free_port()
    sources = f"pacs=dicom://PACS@127.0.0.1:{theirs} mover=dicom://PACS@127.0.0.1:{theirs}?move"
    daemon = start(tmp_path_factory.mktemp("served"), frontal_bundle, sources, ours, **{"dimse.timeout_s": 2, "fetch.timeout_s": 5})
    daemon.ours, daemon.theirs = ours, theirs
    yield daemon
    assert daemon.stop() == 0


class Relay:
    """Listens where the daemon expects its PACS, and passes every connection on to another port."""

    def __init__(self, listen, port):
        self.socket = socket.create_server(("127.0.0.1", listen))
        self.port = port
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def behind(served, port):
    return Relay(served.theirs, port)


def refuse(status):
    def handler(event):
        yield status, None
    return handler


def fail(status):
    def handler(event):
        yield 1
        yield status, None
    return handler


def lose_one(objects):
    """Sends the first object, cannot send the second."""
    def handler(event):
        yield 2
        yield 0xFF00, objects[0]
        failed = Dataset()
        failed.FailedSOPInstanceUIDList = [objects[1].SOPInstanceUID]
        yield 0xB000, failed
    return handler


@pytest.mark.parametrize("source", ["pacs", "mover"])
def test_objects_that_cannot_be_sent_are_named_and_counted(served, source):
    first = radiograph(patient="S-1")
    second = radiograph(patient="S-1", study=first.StudyInstanceUID)
    send = lose_one([first, second])

    def move(event):
        yield "127.0.0.1", served.ours
        yield from send(event)

    with dicom_pacs.pacs([first, second], get=send, move=move) as pacs, behind(served, pacs.port):
        answer = fetch(served, first.StudyInstanceUID, source=source)
    assert answer.status_code == 503, answer.text
    assert answer.json()["detail"] == (f"fetching the study: the source could not send 1 of 2 objects (status B000): {second.SOPInstanceUID}")


@pytest.mark.parametrize("handlers, status, words", [
    ({"find": refuse(0xA700)}, 503, "status A700"), ({"find": refuse(0xC001)}, 503, "status C001"),
    ({"get": fail(0xA702)}, 503, "status A702"), ({"get": fail(0xC000)}, 503, "status C000")])
def test_failures_are_reported_with_their_status(served, handlers, status, words):
    ds = radiograph()
    with dicom_pacs.pacs([ds], **handlers) as pacs, behind(served, pacs.port):
        answer = fetch(served, ds.StudyInstanceUID, source="pacs")
    assert answer.status_code == status and words in answer.json()["detail"], answer.text


def test_a_move_that_goes_elsewhere_is_told(served):
    def nowhere(event):
        yield None, None

    def empty(event):
        yield "127.0.0.1", served.ours
        yield 0

    ds = radiograph()
    for move, words in ((nowhere, "status A801"), (empty, "does it know where MEDFUSION is?")):
        with dicom_pacs.pacs([ds], move=move) as pacs, behind(served, pacs.port):
            answer = fetch(served, ds.StudyInstanceUID, source="mover")
        assert answer.status_code == 503 and words in answer.json()["detail"], answer.text


def test_a_peer_that_is_away_or_rejects_us(served):
    ds = radiograph()
    assert fetch(served, ds.StudyInstanceUID, source="pacs").status_code == 503
    with dicom_pacs.pacs([ds]) as pacs, behind(served, pacs.port):
        pacs.server.ae.require_calling_aet = ["SOMEBODY"]
        answer = fetch(served, ds.StudyInstanceUID, source="pacs")
    assert answer.status_code == 503 and "does not know our AE title" in answer.json()["detail"], answer.text


def test_a_peer_that_offers_nothing_for_what_it_has(served):
    """No presentation context for the objects: the peer counts failures."""
    ds = radiograph()
    with dicom_pacs.pacs([ds], classes=False) as pacs, behind(served, pacs.port):
        answer = fetch(served, ds.StudyInstanceUID, source="pacs")
    assert answer.status_code == 503 and "could not send 1 of 1 objects" in answer.json()["detail"], answer.text


def test_a_peer_that_says_nothing_runs_into_the_time_limit(served):
    """Its TCP connection is accepted, and that is all."""
    with socket.create_server(("127.0.0.1", served.theirs)):
        began = time.monotonic()
        answer = fetch(served, generate_uid(), source="pacs")
    assert answer.status_code in (503, 504) and time.monotonic() - began < 20, answer.text


def test_a_peer_that_is_slow_is_sent_a_cancel(served):
    objects = [radiograph(patient="C-1")]
    objects += [radiograph(patient="C-1", study=objects[0].StudyInstanceUID) for _ in range(3)]
    seen = threading.Event()

    def get(event):
        yield 10 * len(objects)
        for ds in 10 * objects:
            if event.is_cancelled:
                seen.set()
                yield 0xFE00, None
                return
            yield 0xFF00, ds
            time.sleep(0.5)

    with dicom_pacs.pacs(objects, get=get) as pacs, behind(served, pacs.port):
        answer = fetch(served, objects[0].StudyInstanceUID, source="pacs")
        assert answer.status_code == 504 and "more than 5 s" in answer.json()["detail"], answer.text
        assert seen.wait(10)


def test_a_body_over_the_limit_ends_the_retrieval(tmp_path, frontal_bundle):
    objects = [radiograph(patient="L-1", size=256)]
    objects += [radiograph(patient="L-1", size=256, study=objects[0].StudyInstanceUID) for _ in range(3)]
    with dicom_pacs.pacs(objects) as pacs:
        daemon = start(tmp_path, frontal_bundle, f"pacs=dicom://PACS@127.0.0.1:{pacs.port}", **{"http.max_body_bytes": 300000})
        answer = fetch(daemon, objects[0].StudyInstanceUID)
        assert answer.status_code == 413, answer.text
        assert daemon.stop() == 0


def answering(respond):
    """A peer that speaks for itself: `respond` gets the socket once an association was requested."""
    def serve(listening):
        try:
            client, _ = listening.accept()
            with client:
                client.settimeout(10)
                client.recv(65536)
                respond(client)
        except OSError:
            pass

    def run(port):
        listening = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        return listening
    return run


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x02\x00\xff\xff\xff\xff" + b"\x00" * 100, b"\x03\x00\x00\x00\x00\x04\x00\x01\x01\x03",
                                    b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00", b"\x02\x00\x00\x00\x00\x44" + b"\x00" * 68, b""])
def test_peers_that_speak_no_dicom(served, answer):
    def respond(client):
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)
        client.recv(100)

    with answering(respond)(served.theirs):
        response = fetch(served, generate_uid(), source="pacs")
    assert response.status_code in (503, 504), response.text
    assert served.get("/v2/health/live").status_code == 200


def test_identifiers_that_cannot_be_read(served):
    """A row that is no data set, and one that is too deep for the pre-scan."""
    ds = radiograph()
    for junk in (b"\xff" * 64, bytes.fromhex("08000580534800ff") * 9000, b"\x08\x00\x50\x00SH\xff\x7f" + b"A"):
        original = dimse_messages.DIMSEMessage.primitive_to_message

        def spoilt(self, primitive, original=original, junk=junk):
            original(self, primitive)
            if type(self).__name__ == "C_FIND_RSP" and self.data_set is not None and self.data_set.getvalue():
                self.data_set = io.BytesIO(junk)

        dimse_messages.DIMSEMessage.primitive_to_message = spoilt
        try:
            with dicom_pacs.pacs([ds]) as pacs, behind(served, pacs.port):
                response = fetch(served, ds.StudyInstanceUID, source="pacs")
        finally:
            dimse_messages.DIMSEMessage.primitive_to_message = original
        assert response.status_code == 503, response.text


def test_the_process_that_asks_may_die(served):
    """A request under way fails, the next one is served."""
    ds = radiograph(patient="K-1")

    def slow(event):
        yield 1
        time.sleep(1.5)
        yield 0xFF00, ds

    with dicom_pacs.pacs([ds], get=slow) as pacs, behind(served, pacs.port):
        answers = []
        asking = threading.Thread(target=lambda: answers.append(fetch(served, ds.StudyInstanceUID, source="pacs", priors=False)))
        asking.start()
        deadline = time.monotonic() + 10
        while not (pids := served.pids("mf-query-scu")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert pids and served.kill("mf-query", signal.SIGKILL)  # its children die with it
        asking.join(60)
        assert answers[0].status_code in (200, 500, 503), answers[0].text
        again = fetch(served, ds.StudyInstanceUID, source="pacs", priors=False)
        assert roles(again) == ["current"]


def test_over_tls(tmp_path, frontal_bundle):
    authority = certificates.Authority(tmp_path)
    ours, theirs = authority.issue("ours"), authority.issue("theirs")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
    tls.load_cert_chain(*map(str, theirs))
    tls.verify_mode = ssl.CERT_REQUIRED
    stranger = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    stranger.load_cert_chain(*map(str, certificates.Authority(tmp_path / "s").issue("stranger")))
    ds = radiograph()
    with dicom_pacs.pacs([ds], tls=tls) as pacs, dicom_pacs.pacs([ds], tls=stranger) as other:
        daemon = start(tmp_path / "d", frontal_bundle, f"pacs=dicoms://PACS@127.0.0.1:{pacs.port} other=dicoms://PACS@127.0.0.1:{other.port}", **{
            "dimse.tls_certificate": ours[0], "dimse.tls_key": ours[1], "dimse.tls_ca": authority.certificate})
        assert roles(fetch(daemon, ds.StudyInstanceUID, source="pacs")) == ["current"]
        assert fetch(daemon, ds.StudyInstanceUID, source="other").status_code == 503
        assert daemon.stop() == 0


@pytest.mark.parametrize("sources, words", [
    ("pacs", '"pacs" is no NAME='), ("pacs=ftp://x/", "is no NAME="), ("a=dicom://PACS@host", "is no NAME="), ("=http://x/", "is no NAME="),
    ("a=dicoms://PACS@host:104", "needs dimse.tls_ca"), ("a=dicom://PACS@host:104?move", "needs dimse.listen"),
    ("north/a=dicom://PACS@host:104?move", "needs dimse.listen"), ("a=dicom://PACS@host:104?get", "is no NAME=")])
def test_sources_that_are_not_understood_are_refused_at_start(tmp_path, frontal_bundle, sources, words):
    arguments = [str(bundles.PROGRAM), "serve", "--data.directory", str(tmp_path), "--models.directories", str(frontal_bundle)]
    refused = subprocess.run([*arguments, "--fetch.sources", sources], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and words in refused.stderr, refused.stderr
    if "north/" in sources:
        refused = subprocess.run([*arguments, "--fetch.sources", sources, "--dimse.listen", "127.0.0.1:0"], capture_output=True, text=True, timeout=60)
        assert refused.returncode == 2 and "needs dimse.tenant" in refused.stderr, refused.stderr
