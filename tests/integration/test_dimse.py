"""The DIMSE process against pynetdicom and DCMTK's tools: C-ECHO, C-STORE, limits, bad input, kills."""
import contextlib
import io
import json
import shutil
import signal
import socket
import struct
import subprocess
import time

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pynetdicom import AE, build_context, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation as DX
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind as FIND
from pynetdicom.sop_class import CTImageStorage as CT
from pynetdicom.sop_class import MRImageStorage as MR
from pynetdicom.sop_class import Verification

import daemon as daemons
from dicom_net import part10, radiograph, sample, wait_for_study

EXPLICIT, IMPLICIT, JPEG_XL = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.110"


def start(directory, bundle, **options):
    running = daemons.Daemon(directory, bundle, **{
        "intake.quiet_s": 1, "dimse.listen": "127.0.0.1:0", "dimse.allow": "MODALITY:STORESCU:ECHOSCU:LOCAL@127.0.0.1:FAR@10.0.0.1",
        "dimse.timeout_s": 30, **options}).start()
    for line in running.log().splitlines():
        entry = json.loads(line)
        if entry.get("event") == "dimse.listening":
            running.port = int(entry["address"].rsplit(":", 1)[1])
    return running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, frontal_bundle):
    running = start(tmp_path_factory.mktemp("dimse"), frontal_bundle)
    yield running
    assert running.stop() == 0


@contextlib.contextmanager
def association(daemon, title="MODALITY", called="MEDFUSION", contexts=None, **options):
    ae = AE(ae_title=title)
    ae.requested_contexts = contexts or [build_context(Verification), build_context(DX, EXPLICIT)]
    made = ae.associate("127.0.0.1", daemon.port, ae_title=called, **options)
    try:
        yield made
    finally:
        if made.is_established:
            made.release()


def test_echo_of_both_clients(daemon):
    with association(daemon) as made:
        assert made.send_c_echo().Status == 0
        assert made.acceptor.implementation_class_uid == "2.25.302718409571363158137213478210293810176"
        assert made.acceptor.implementation_version_name.startswith("MEDFUSION_")
    echoscu = subprocess.run(["echoscu", "-aet", "ECHOSCU", "-aec", "MEDFUSION", "127.0.0.1", str(daemon.port)])
    assert echoscu.returncode == 0


@pytest.mark.parametrize("title, called", [("STRANGER", "MEDFUSION"), ("MODALITY", "SOMEBODY"), ("FAR", "MEDFUSION")])
def test_titles_that_are_not_known_are_rejected(daemon, title, called):
    answers = []  # the PDUs themselves: pynetdicom calls a rejection that comes very soon an abort
    with association(daemon, title, called, evt_handlers=[(evt.EVT_PDU_RECV, lambda event: answers.append(event.pdu))]) as made:
        assert not made.is_established
    assert [type(pdu) for pdu in answers] == [A_ASSOCIATE_RJ]
    with association(daemon, "LOCAL") as made:
        assert made.is_established


def test_a_stored_study_becomes_a_job(daemon):
    ds = sample()
    with association(daemon) as made:
        assert made.send_c_store(ds).Status == 0
    state = wait_for_study(daemon, ds.StudyInstanceUID)
    assert daemon.wait(f"/v1/jobs/{state['jobs'][0]}")["state"] == "succeeded"


@pytest.mark.parametrize("syntax, option", [(EXPLICIT, "-xe"), (IMPLICIT, "-xi"), ("1.2.840.10008.1.2.2", "-xb")])
def test_storescu_in_each_uncompressed_syntax(daemon, tmp_path, syntax, option):
    ds = radiograph()
    (tmp_path / "a.dcm").write_bytes(part10(ds))
    sent = subprocess.run(["storescu", option, "-aec", "MEDFUSION", "127.0.0.1", str(daemon.port), str(tmp_path / "a.dcm")])
    assert sent.returncode == 0
    state = wait_for_study(daemon, ds.StudyInstanceUID)
    assert state["instances"] == 1 and daemon.wait(f"/v1/jobs/{state['jobs'][0]}")["state"] == "succeeded", state


@pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="no DCMTK tools")
def test_storescu_of_compressed_images(daemon, tmp_path):
    ds = radiograph()
    (tmp_path / "a.dcm").write_bytes(part10(ds))
    for tool, option in (("dcmcjpeg", "-xs"), ("dcmcrle", "-xr"), ("dcmcjpls", "-xt")):
        ds.SOPInstanceUID = pydicom.uid.generate_uid()
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        (tmp_path / "a.dcm").write_bytes(part10(ds))
        assert subprocess.run([tool, str(tmp_path / "a.dcm"), str(tmp_path / "b.dcm")]).returncode == 0
        assert subprocess.run(["storescu", option, "-aec", "MEDFUSION", "127.0.0.1", str(daemon.port), str(tmp_path / "b.dcm")]).returncode == 0
    assert wait_for_study(daemon, ds.StudyInstanceUID)["instances"] == 3


SYNTAXES = {
    "HTJ2K lossless": "1.2.840.10008.1.2.4.201", "HTJ2K RPCL": "1.2.840.10008.1.2.4.202", "HTJ2K": "1.2.840.10008.1.2.4.203",
    "deflated frames": "1.2.840.10008.1.2.8.1", "encapsulated native": "1.2.840.10008.1.2.1.98", "JPEG progressive": "1.2.840.10008.1.2.4.55",
}


@pytest.mark.parametrize("name", SYNTAXES)
def test_syntaxes_that_are_new_or_rare_are_stored_as_they_come(daemon, name):
    """DCMTK knows only some of them; the object has its own syntax, and a second one follows on the same association."""
    frame = radiograph()
    first, second = (radiograph(study=frame.StudyInstanceUID) for _ in range(2))
    for ds in (first, second):
        ds.PixelData = encapsulate([b"\0" * 64])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(SYNTAXES[name])
        ds.file_meta.TransferSyntaxUID.set_private_encoding(False, True)
    with association(daemon, contexts=[build_context(DX, SYNTAXES[name]), build_context(Verification)]) as made:
        assert made.send_c_store(first).Status == 0
        assert made.send_c_store(second).Status == 0
        assert made.send_c_echo().Status == 0
    path = f"/dicom-web/studies/{frame.StudyInstanceUID}/series/{first.SeriesInstanceUID}/instances/{first.SOPInstanceUID}"
    back = pydicom.dcmread(io.BytesIO(daemon.get(path, headers={"Accept": 'application/dicom; transfer-syntax=*'}).content))
    assert back.file_meta.TransferSyntaxUID == SYNTAXES[name] and back.PixelData == first.PixelData


def test_contexts_that_are_not_supported(daemon):
    contexts = [build_context(FIND), build_context(DX, "1.2.3.4"), build_context(CT, JPEG_XL), build_context(MR, [JPEG_XL, EXPLICIT]),
                build_context(Verification)]
    with association(daemon, contexts=contexts) as made:
        assert {c.abstract_syntax: c.result for c in made.rejected_contexts} == {FIND: 3, DX: 4, CT: 4}
        assert {c.abstract_syntax: c.transfer_syntax[0] for c in made.accepted_contexts}[MR] == EXPLICIT  # what is read, not what comes first
        assert made.send_c_echo().Status == 0


def test_statuses_of_bad_objects(daemon):
    a = radiograph(patient="P-1")
    mixed = radiograph(patient="P-2", study=a.StudyInstanceUID)
    nameless = radiograph()
    nameless.StudyInstanceUID = ""
    with association(daemon) as made:
        assert made.send_c_store(a).Status == 0
        assert made.send_c_store(a).Status == 0  # again
        refused = made.send_c_store(mixed)
        assert (refused.Status, refused.ErrorComment) == (0xA900, "its study is stored as another patient's")
        refused = made.send_c_store(nameless)
        assert (refused.Status, refused.ErrorComment) == (0xC000, "the object has no StudyInstanceUID")
        a.PatientSex = "M"
        assert made.send_c_store(a).Status == 0x0111
        assert made.send_c_store(radiograph()).Status == 0  # the association goes on


def test_an_object_over_the_size_limit(tmp_path, frontal_bundle):
    running = start(tmp_path, frontal_bundle, **{"dimse.max_object_bytes": 100000})
    with association(running) as made:
        assert made.send_c_store(radiograph(size=256)).Status == 0xA700
        small = radiograph()
        assert made.send_c_store(small).Status == 0
    assert running.get(f"/v1/studies/{small.StudyInstanceUID}").json()["instances"] == 1
    assert running.stop() == 0


def test_associations_over_the_limits_wait(tmp_path, frontal_bundle):
    running = start(tmp_path, frontal_bundle, **{"dimse.max_associations": 2})
    with association(running) as first, association(running) as second:
        assert first.is_established and second.is_established
        with association(running) as third:
            assert not third.is_established
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with association(running) as again:
            if again.is_established:
                break
        time.sleep(0.1)
    assert again.is_released
    assert running.stop() == 0


# --- raw bytes ---

def connect(daemon):
    made = socket.create_connection(("127.0.0.1", daemon.port), timeout=20)  # less than dimse.timeout_s
    return made


def item(kind, value):
    return struct.pack(">BBH", kind, 0, len(value)) + value


def associate_rq(calling=b"MODALITY", called=b"MEDFUSION", abstract=DX.encode(), syntax=EXPLICIT.encode()):
    context = item(0x20, b"\x01\0\0\0" + item(0x30, abstract) + item(0x40, syntax))
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    body = struct.pack(">HH", 1, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BBI", 1, 0, len(body)) + body


def ended(made):
    """Whether the peer closes (or aborts) within the time-out."""
    try:
        while made.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.0\r\n\r\n",
    b"\x01\0\xff\xff\xff\xff" + bytes(1000),             # a request that claims 4 GiB
    associate_rq()[:-20],                                # truncated
    b"\x04\0" + struct.pack(">I", 10) + bytes(10),       # data before the association
    bytes(4096),
])
def test_bytes_that_are_no_association(daemon, data):
    made = connect(daemon)
    with contextlib.suppress(OSError):  # the daemon may have had enough before the last byte
        made.sendall(data)
        made.shutdown(socket.SHUT_WR)
    assert ended(made)
    with association(daemon) as after:
        assert after.send_c_echo().Status == 0


def test_a_pdu_larger_than_was_agreed(daemon):
    made = connect(daemon)
    made.sendall(associate_rq())
    assert made.recv(1) == b"\x02"
    with contextlib.suppress(ConnectionError):
        made.sendall(b"\x04\0" + struct.pack(">I", 0x7FFFFFFF) + bytes(1 << 20))
    assert ended(made)


def test_an_association_that_says_nothing_is_ended(tmp_path, frontal_bundle):
    running = start(tmp_path, frontal_bundle, **{"dimse.timeout_s": 2})
    made = connect(running)
    made.sendall(associate_rq())
    assert made.recv(1) == b"\x02"
    assert ended(made)
    assert running.stop() == 0


def test_a_data_set_that_breaks_off_leaves_nothing(daemon):
    ds = radiograph(size=512)
    data = part10(ds)
    made = connect(daemon)
    made.sendall(associate_rq())
    made.recv(65536)
    command = pydicom.Dataset()
    command.AffectedSOPClassUID, command.CommandField, command.MessageID = DX, 1, 1
    command.Priority, command.CommandDataSetType, command.AffectedSOPInstanceUID = 0, 1, ds.SOPInstanceUID
    from pynetdicom.dsutils import encode
    body = encode(command, True, True)
    body = struct.pack("<HHII", 0, 0, 4, len(body)) + body
    made.sendall(b"\x04\0" + struct.pack(">IIBB", len(body) + 6, len(body) + 2, 1, 3) + body)
    made.sendall(b"\x04\0" + struct.pack(">IIBB", 4096 + 6, 4096 + 2, 1, 0) + data[400:4496])
    made.close()
    time.sleep(0.5)
    assert daemon.get(f"/v1/studies/{ds.StudyInstanceUID}").status_code == 404


# --- kills ---

def test_what_was_answered_with_success_survives_kills(tmp_path, frontal_bundle):
    running = start(tmp_path, frontal_bundle)
    acknowledged, roles = [], ("mf-dimse", "mf-assoc", "mf-store", "mf-zygote")
    for round_ in range(12):
        study = radiograph(patient=f"P-{round_}")
        try:
            with association(running) as made:
                for i in range(4):
                    if i == 2:
                        running.kill(roles[round_ % 4])
                    ds = radiograph(patient=study.PatientID, study=study.StudyInstanceUID, series=study.SeriesInstanceUID)
                    if made.is_established and made.send_c_store(ds).Status == 0:
                        acknowledged.append((ds.StudyInstanceUID, ds.SOPInstanceUID))
        except (RuntimeError, ValueError, AttributeError):  # the association broke: no answer
            pass
        deadline = time.monotonic() + 5
        while not running.pids("mf-dimse") and time.monotonic() < deadline:
            time.sleep(0.05)
    assert len(acknowledged) >= 12
    for uid in {uid for uid, _ in acknowledged}:
        count = sum(1 for study, _ in acknowledged if study == uid)
        assert running.get(f"/v1/studies/{uid}").json()["instances"] >= count
    assert running.stop() == 0


def test_tls_peers_must_show_a_certificate(tmp_path, frontal_bundle):
    for name in ("server", "client"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout",
                        tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"], check=True, capture_output=True)
    running = start(tmp_path / "d", frontal_bundle, **{
        "dimse.tls_certificate": tmp_path / "server.pem", "dimse.tls_key": tmp_path / "server.key", "dimse.tls_ca": tmp_path / "client.pem"})
    base = ["echoscu", "-aet", "ECHOSCU", "-aec", "MEDFUSION", "127.0.0.1", str(running.port)]
    good = ["+tls", tmp_path / "client.key", tmp_path / "client.pem", "+cf", tmp_path / "server.pem"]
    assert subprocess.run(base + good).returncode == 0
    assert subprocess.run(base, capture_output=True).returncode != 0
    assert subprocess.run(base + ["+tla", "-ic"], capture_output=True).returncode != 0
    assert running.stop() == 0


def test_a_stop_lets_an_association_end(tmp_path, frontal_bundle):
    running = start(tmp_path, frontal_bundle)
    with association(running) as made:
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert made.send_c_echo().Status == 0
    assert running.process.wait(timeout=30) == 0
