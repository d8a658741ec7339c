"""Storage commitment (PS3.4 annex J) with pynetdicom: on the association that asks, and on one of its own."""
import contextlib
import queue
import socket
import struct
import time

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel as COMMITMENT
from pynetdicom.sop_class import StorageCommitmentPushModelInstance as INSTANCE

import daemon as daemons
from dicom_net import radiograph, wait_for_study
from test_dimse import DX, EXPLICIT, IMPLICIT, associate_rq, connect, start

MISSING, CONFLICT = 0x0112, 0x0119


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, frontal_bundle):
    running = start(tmp_path_factory.mktemp("commitment"), frontal_bundle, **{"intake.quiet_s": 3000})
    yield running
    assert running.stop() == 0


@contextlib.contextmanager
def association(daemon, syntax=EXPLICIT, title="MODALITY", **options):
    """An association for objects and commitments, and the queue of the reports that come on it."""
    reports = queue.Queue()

    def take(event):
        reports.put((event.event_type, event.event_information))
        return 0x0000, None

    ae = AE(ae_title=title)
    ae.requested_contexts = [build_context(DX, EXPLICIT), build_context(COMMITMENT, syntax)]
    made = ae.associate("127.0.0.1", daemon.port, ae_title="MEDFUSION", evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)], **options)
    assert made.is_established
    try:
        yield made, reports
    finally:
        settled(made).release()


def settled(made):
    """The association once pynetdicom's thread has answered the report that it was just given."""
    time.sleep(0.1)
    return made


def store(made, ds):
    return made.send_c_store(ds).Status


def ask(made, information, action=1, instance=INSTANCE):
    return settled(made).send_n_action(information, action, COMMITMENT, instance)[0].Status


def request(*objects, sop_class=None):
    information = Dataset()
    information.TransactionUID = generate_uid()
    information.ReferencedSOPSequence = []
    for ds in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class or ds.SOPClassUID, ds.SOPInstanceUID
        information.ReferencedSOPSequence.append(item)
    return information


def references(sequence):
    return {item.ReferencedSOPInstanceUID: item.get("FailureReason", 0) for item in sequence or []}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_what_is_stored_is_committed(daemon, syntax):
    first = radiograph()
    second = radiograph(study=first.StudyInstanceUID, series=first.SeriesInstanceUID)
    with association(daemon, syntax) as (made, reports):
        assert store(made, first) == 0 and store(made, second) == 0
        asked = request(first, second)
        assert ask(made, asked) == 0
        kind, report = reports.get(timeout=10)
        assert kind == 1 and report.TransactionUID == asked.TransactionUID and "FailedSOPSequence" not in report
        assert references(report.ReferencedSOPSequence) == {first.SOPInstanceUID: 0, second.SOPInstanceUID: 0}
        assert store(settled(made), radiograph()) == 0  # the association goes on


def test_a_committed_study_does_not_wait_for_its_quiet_time(daemon):
    ds, other = radiograph(), radiograph()
    with association(daemon) as (made, reports):
        assert store(made, ds) == 0 and store(made, other) == 0
        assert ask(made, request(ds)) == 0
        assert reports.get(timeout=10)[0] == 1
    state = wait_for_study(daemon, ds.StudyInstanceUID)
    assert daemon.wait(f"/v1/jobs/{state['jobs'][0]}")["state"] == "succeeded"
    assert daemon.get(f"/v1/studies/{other.StudyInstanceUID}").json()["jobs"] == []


def test_what_is_not_stored_is_told(daemon):
    ds, never = radiograph(), radiograph()
    with association(daemon) as (made, reports):
        assert store(made, ds) == 0
        assert ask(made, request(ds, never)) == 0
        kind, report = reports.get(timeout=10)
        assert kind == 2 and references(report.ReferencedSOPSequence) == {ds.SOPInstanceUID: 0}
        assert references(report.FailedSOPSequence) == {never.SOPInstanceUID: MISSING}
        asked = request(ds, sop_class=ComputedRadiographyImageStorage)
        assert ask(made, asked) == 0
        kind, report = reports.get(timeout=10)
        assert kind == 2 and references(report.FailedSOPSequence) == {ds.SOPInstanceUID: CONFLICT}
        assert "ReferencedSOPSequence" not in report
    assert daemon.get(f"/v1/studies/{ds.StudyInstanceUID}").json()["jobs"] == []


def test_many_objects(daemon):
    ds = radiograph()
    others = [radiograph(size=2) for _ in range(250)]
    with association(daemon) as (made, reports):
        assert store(made, ds) == 0
        assert ask(made, request(*others[:230], ds, *others[230:])) == 0
        kind, report = reports.get(timeout=30)
        assert kind == 2 and references(report.ReferencedSOPSequence) == {ds.SOPInstanceUID: 0}
        assert set(references(report.FailedSOPSequence)) == {other.SOPInstanceUID for other in others}


@pytest.mark.parametrize("change, action, instance, status", [
    (lambda d: None, 2, INSTANCE, 0x0123), (lambda d: None, 1, "1.2.3", 0x0112),
    (lambda d: d.__delattr__("TransactionUID"), 1, INSTANCE, 0x0115), (lambda d: d.__delattr__("ReferencedSOPSequence"), 1, INSTANCE, 0x0115),
    (lambda d: d.ReferencedSOPSequence[0].__delattr__("ReferencedSOPClassUID"), 1, INSTANCE, 0x0115)])
def test_requests_that_are_refused(daemon, change, action, instance, status):
    asked = request(radiograph())
    change(asked)
    with association(daemon) as (made, reports):
        assert ask(made, asked, action, instance) == status
        assert reports.empty()
        assert ask(made, request(radiograph())) == 0
        assert reports.get(timeout=10)[0] == 2


def pdata(flags, body):
    return b"\x04\0" + struct.pack(">IIBB", len(body) + 6, len(body) + 2, 1, flags) + body


def pdus(made):
    """The types of the PDUs that come until the peer closes."""
    data, types = b"", []
    while piece := made.recv(65536):
        data += piece
    while data:
        types.append(data[0])
        data = data[6 + struct.unpack(">I", data[2:6])[0]:]
    return types


def test_a_peer_that_releases_before_it_answers_the_report(daemon):
    command = Dataset()
    command.RequestedSOPClassUID, command.RequestedSOPInstanceUID = COMMITMENT, INSTANCE
    command.CommandField, command.MessageID, command.CommandDataSetType, command.ActionTypeID = 0x0130, 1, 1, 1
    body = encode(command, True, True)
    body = struct.pack("<HHII", 0, 0, 4, len(body)) + body
    made = connect(daemon)
    made.sendall(associate_rq(abstract=COMMITMENT.encode()))
    assert made.recv(1) == b"\x02"
    length = struct.unpack(">xI", made.recv(5))[0]
    made.recv(length, socket.MSG_WAITALL)
    made.sendall(pdata(3, body) + pdata(2, encode(request(radiograph()), False, True)))
    made.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
    types = pdus(made)
    assert types[-1] == 6 and set(types[:-1]) == {4}  # the response and the report, then the release


def test_a_compressed_syntax_is_not_for_commitments(daemon):
    ae = AE(ae_title="MODALITY")
    ae.requested_contexts = [build_context(COMMITMENT, "1.2.840.10008.1.2.4.50"), build_context(DX, EXPLICIT)]
    made = ae.associate("127.0.0.1", daemon.port, ae_title="MEDFUSION")
    assert made.is_established and {c.abstract_syntax: c.result for c in made.rejected_contexts} == {COMMITMENT: 4}
    made.release()


@contextlib.contextmanager
def listener(roles=True, status=0x0000):
    """A peer that takes reports on associations of their own."""
    reports = queue.Queue()

    def take(event):
        reports.put((event.assoc.requestor.ae_title, event.event_type, event.event_information))
        return status, None

    ae = AE(ae_title="MODALITY")
    ae.add_supported_context(COMMITMENT, [EXPLICIT, ImplicitVRLittleEndian], **({"scu_role": True, "scp_role": True} if roles else {}))
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    try:
        yield server.server_address[1], reports
    finally:
        server.shutdown()


def test_reports_go_where_the_configuration_says(tmp_path, frontal_bundle):
    with listener() as (port, elsewhere):
        running = start(tmp_path, frontal_bundle, **{"dimse.report_to": f"dicom://OTHER@127.0.0.1:1 dicom://MODALITY@127.0.0.1:{port}"})
        ds = radiograph()
        with association(running) as (made, reports):
            assert store(made, ds) == 0
            asked = request(ds)
            assert ask(made, asked) == 0
            title, kind, report = elsewhere.get(timeout=10)
            assert (title, kind, report.TransactionUID) == ("MEDFUSION", 1, asked.TransactionUID)
            assert store(made, ds) == 0 and reports.empty()
        with association(running, title="LOCAL") as (made, reports):  # has no address
            assert ask(made, request(ds)) == 0
            assert reports.get(timeout=10)[0] == 1
        assert running.stop() == 0


@pytest.mark.parametrize("roles, status", [(False, 0), (True, 0x0110)])
def test_a_report_that_is_not_taken_there_comes_here(tmp_path, frontal_bundle, roles, status):
    with listener(roles, status) as (port, _):
        running = start(tmp_path, frontal_bundle, **{"dimse.report_to": f"dicom://MODALITY@127.0.0.1:{port}"})
        with association(running) as (made, reports):
            assert ask(made, request(radiograph())) == 0
            assert reports.get(timeout=10)[0] == 2
        assert "dimse.report_failed" in running.log()
        assert running.stop() == 0


def test_an_address_that_is_none_ends_the_program(tmp_path, frontal_bundle):
    refused = daemons.Daemon(tmp_path, frontal_bundle, **{"dimse.report_to": "dicom://A@b"})
    with pytest.raises(RuntimeError):
        refused.start()
    assert "dimse.report_to" in refused.log()
