"""Storage commitment of what we send (PS3.4 annex J, as SCU): Orthanc, and pynetdicom for every way a report may come, or not."""
import contextlib
import queue
import threading
import time

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, build_context, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel as COMMITMENT
from pynetdicom.sop_class import StorageCommitmentPushModelInstance as INSTANCE

import bad_input
import orthanc
from test_dimse import start
from test_orthanc import wait_for


class Archive:
    """Takes objects and requests for their commitment. `behave` gets (archive, association, transaction, items) after each answer to a
    request; `answer` is that answer."""

    def __init__(self, behave=None, answer=0x0000, offers=True):
        self.behave, self.answer, self.asked, self.stored = behave, answer, queue.Queue(), []
        ae = AE(ae_title="ARCHIVE")
        ae.supported_contexts = AllStoragePresentationContexts
        if offers:
            ae.add_supported_context(COMMITMENT)
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[
            (evt.EVT_C_STORE, self.take), (evt.EVT_N_ACTION, self.ask)])
        self.address = f"dicom://ARCHIVE@127.0.0.1:{self.server.socket.getsockname()[1]}?commit"

    def take(self, event):
        self.stored.append(event.dataset.SOPInstanceUID)
        return 0x0000

    def ask(self, event):
        information = event.action_information
        items = [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in information.ReferencedSOPSequence]
        self.asked.put((information.TransactionUID, items))
        if self.behave:
            threading.Thread(target=self.behave, args=(self, event.assoc, information.TransactionUID, items), daemon=True).start()
        return self.answer, None


def information(transaction, items, failed=()):
    """What a report says."""
    ds = Dataset()
    ds.TransactionUID = transaction
    for name, rows in (("ReferencedSOPSequence", items), ("FailedSOPSequence", failed)):
        sequence = []
        for sop_class, sop_instance in rows:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
            if name[0] == "F":
                item.FailureReason = 0x0213
            sequence.append(item)
        if sequence:
            setattr(ds, name, sequence)
    return ds


def same_association(archive, association, transaction, items):
    """The report on the association that asked, after its answer."""
    time.sleep(0.3)
    association.send_n_event_report(information(transaction, items), 1, COMMITMENT, INSTANCE)


def report_to(port, ds, kind=1, title="ARCHIVE"):
    """The report on an association of its own, on which we are told to be the user: the status of our answer."""
    ae = AE(ae_title=title)
    ae.requested_contexts = [build_context(COMMITMENT)]
    made = ae.associate("127.0.0.1", port, ae_title="MEDFUSION", ext_neg=[build_role(COMMITMENT, scu_role=False, scp_role=True)])
    assert made.is_established and made.accepted_contexts[0].as_scp
    try:
        return made.send_n_event_report(ds, kind, COMMITMENT, INSTANCE)[0].Status
    finally:
        made.release()


@contextlib.contextmanager
def sending(directory, bundle, archive, **options):
    """A daemon that has a result for the archive."""
    running = start(directory, bundle, **{"outbox.destinations": archive.address, "outbox.retry_s": 1, "dimse.allow": "*", **options})
    assert running.post([bad_input.NEWEST.read_bytes()], headers={"Prefer": "wait=60"}).status_code == 200
    try:
        yield running
        assert running.stop() == 0
    finally:
        archive.server.shutdown()


def until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def test_delivered_is_what_was_committed_on_the_same_association(tmp_path, frontal_bundle):
    archive = Archive(same_association)
    with sending(tmp_path, frontal_bundle, archive, **{"outbox.commit_wait_s": 30}) as daemon:
        assert until(lambda: "outbox.delivered" in daemon.log()), daemon.log()
        transaction, items = archive.asked.get(timeout=5)
        assert transaction.startswith("2.25.") and sorted(uid for _, uid in items) == sorted(archive.stored)
        assert "outbox.waiting" not in daemon.log() and archive.asked.empty()


def test_a_report_that_comes_later_and_after_a_restart(tmp_path, frontal_bundle):
    archive = Archive()
    with sending(tmp_path, frontal_bundle, archive, **{"outbox.commit_wait_s": 0}) as daemon:
        assert until(lambda: "outbox.waiting" in daemon.log()), daemon.log()
        transaction, items = archive.asked.get(timeout=5)
        assert daemon.kill("mf-courier") and daemon.kill("mf-dimse")
        assert until(lambda: daemon.pids("mf-dimse"))
        stranger = information(generate_uid(), items)
        assert until(lambda: report_to(daemon.port, stranger) == 0x0112)
        assert report_to(daemon.port, information(transaction, items), kind=7) == 0x0113  # no such event
        assert "outbox.committed" not in daemon.log()
        assert report_to(daemon.port, information(transaction, items)) == 0x0000
        assert until(lambda: "outbox.committed" in daemon.log())
        time.sleep(3)  # two looks at the outbox
        assert archive.asked.empty(), "it was delivered, and yet sent again"


@pytest.mark.parametrize("what", ["failed", "incomplete"])
def test_what_is_not_committed_is_sent_again(tmp_path, frontal_bundle, what):
    archive = Archive()
    with sending(tmp_path, frontal_bundle, archive, **{"outbox.commit_wait_s": 0}) as daemon:
        transaction, items = archive.asked.get(timeout=90)
        assert until(lambda: "outbox.waiting" in daemon.log())
        ds = information(transaction, items[1:], items[:1] if what == "failed" else ())
        assert report_to(daemon.port, ds, kind=2 if what == "failed" else 1) == 0x0000
        again, same = archive.asked.get(timeout=90)
        assert again == transaction and same == items
        words = "has not committed 1 of" if what == "failed" else f"has committed {len(items) - 1} of {len(items)} objects only"
        assert words in daemon.log()
        assert until(lambda: daemon.log().count("outbox.waiting") == 2)
        assert report_to(daemon.port, information(again, items)) == 0x0000


def test_no_report_in_time_sends_it_again(tmp_path, frontal_bundle):
    archive = Archive()
    with sending(tmp_path, frontal_bundle, archive, **{"outbox.commit_wait_s": 0, "outbox.commit_s": 2}) as daemon:
        first, _ = archive.asked.get(timeout=90)
        second, items = archive.asked.get(timeout=90)
        assert first == second
        assert report_to(daemon.port, information(second, items)) == 0x0000


@pytest.mark.parametrize("options, words", [({"answer": 0x0110}, "refused the storage commitment with status 0110"),
                                            ({"offers": False}, "does not offer storage commitment")])
def test_a_destination_that_does_not_commit(tmp_path, frontal_bundle, options, words):
    archive = Archive(**options)
    with sending(tmp_path, frontal_bundle, archive) as daemon:
        assert until(lambda: daemon.log().count(words) >= 2), daemon.log()
        assert "outbox.delivered" not in daemon.log()


@pytest.mark.parametrize("junk", [lambda items: information("1.2.3", items), lambda items: information("no UID", items[:1])])
def test_reports_of_something_else_on_the_same_association(tmp_path, frontal_bundle, junk):
    statuses = queue.Queue()

    def behave(_, association, __, items):
        time.sleep(0.3)
        statuses.put(association.send_n_event_report(junk(items), 1, COMMITMENT, INSTANCE)[0].Status)

    archive = Archive(behave)
    with sending(tmp_path, frontal_bundle, archive, **{"outbox.commit_wait_s": 3}) as daemon:
        assert until(lambda: "outbox.waiting" in daemon.log()), daemon.log()
        assert statuses.get(timeout=30) == 0x0115


def test_a_peer_that_aborts_after_it_has_answered(tmp_path, frontal_bundle):
    def behave(_, association, transaction, items):
        time.sleep(0.3)
        association.abort()

    archive = Archive(behave)
    with sending(tmp_path, frontal_bundle, archive, **{"outbox.commit_wait_s": 20}) as daemon:
        assert until(lambda: "outbox.waiting" in daemon.log()), daemon.log()
        transaction, items = archive.asked.get(timeout=5)
        assert report_to(daemon.port, information(transaction, items)) == 0x0000


@pytest.mark.skipif(not orthanc.available(), reason="Orthanc is not installed")
def test_orthanc_commits(tmp_path, frontal_bundle):
    ours = orthanc.free_port()
    pacs = orthanc.Orthanc(tmp_path / "orthanc", modalities={"medfusion": ("MEDFUSION", ours)}).start()
    daemon = start(tmp_path / "d", frontal_bundle, **{
        "dimse.listen": f"127.0.0.1:{ours}", "dimse.allow": "ORTHANC@127.0.0.1", "outbox.commit_wait_s": 1,
        "outbox.destinations": f"dicom://ORTHANC@127.0.0.1:{pacs.dicom}?commit"})
    response = daemon.post([bad_input.NEWEST.read_bytes()], headers={"Prefer": "wait=60"})
    assert until(lambda: "outbox.committed" in daemon.log()), daemon.log()
    assert wait_for(pacs, response.json()["study"]["study_instance_uid"], "SR")
    assert "outbox.not_committed" not in daemon.log()
    assert daemon.stop() == 0
    pacs.stop()
