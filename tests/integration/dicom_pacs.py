"""PACS to ask and to fetch from: DCMTK's dcmqrscp, and one of pynetdicom that a test tells how to behave."""
import contextlib
import pathlib
import socket
import subprocess
import threading
import time

from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, StoragePresentationContexts, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet as GET
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove as MOVE

import orthanc
from dicom_net import part10

CONFIGURATION = """NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
ours = (MEDFUSION, localhost, {ours})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE {storage} RW (200, 1024mb) ANY
AETable END
"""


@contextlib.contextmanager
def dcmqrscp(directory, ours, objects):
    """DCMTK's archive with these objects, which knows us at the port `ours`; its port."""
    directory = pathlib.Path(directory)
    (directory / "storage").mkdir(parents=True)
    port = orthanc.free_port()
    (directory / "dcmqrscp.cfg").write_text(CONFIGURATION.format(port=port, ours=ours, storage=directory / "storage"))
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(["dcmqrscp", "-c", str(directory / "dcmqrscp.cfg")], stdout=log, stderr=log)
    try:
        wait_for_port(port)
        for i, ds in enumerate(objects):
            (directory / f"{i}.dcm").write_bytes(part10(ds))
            subprocess.run(["storescu", "-aec", "ARCHIVE", "localhost", str(port), str(directory / f"{i}.dcm")], check=True, timeout=60)
        yield port
    finally:
        process.terminate()
        process.wait()


def wait_for_port(port, seconds=30):
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Pacs:
    """A PACS of pynetdicom. `objects` are found and sent; a test replaces handlers: find, get and move are generators as pynetdicom
    wants them. `asked` has the identifiers of C-FINDs, `cancelled` is set once a C-CANCEL has come."""

    def __init__(self, objects=(), ours=None, tls=None, classes=True, **handlers):
        self.objects, self.ours, self.asked, self.cancelled = list(objects), ours, [], threading.Event()
        self.find, self.get, self.move = (handlers.get(name, getattr(self, "_" + name)) for name in ("find", "get", "move"))
        ae = AE(ae_title="PACS")
        ae.supported_contexts = []
        for model in (FIND, GET, MOVE):
            ae.add_supported_context(model)
        for context in StoragePresentationContexts if classes else []:
            ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES, scu_role=False, scp_role=True)
        for context in StoragePresentationContexts[:100]:
            ae.add_requested_context(context.abstract_syntax)
        self.server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=tls, evt_handlers=[
            (evt.EVT_C_FIND, self._note(lambda event: self.find(event))), (evt.EVT_C_GET, lambda event: self.get(event)),
            (evt.EVT_C_MOVE, lambda event: self.move(event))])
        self.port = self.server.socket.getsockname()[1]

    def close(self):
        self.server.shutdown()

    def matches(self, identifier):
        wanted = {name: identifier.get(name) for name in ("StudyInstanceUID", "PatientID")}
        return [ds for ds in self.objects if all(not value or ds.get(name) == value for name, value in wanted.items())]

    def _note(self, handler):
        def noted(event):
            self.asked.append(event.identifier)
            yield from handler(event)
        return noted

    def _find(self, event):
        seen, level = set(), event.identifier.QueryRetrieveLevel
        key = "StudyInstanceUID" if level == "STUDY" else "SeriesInstanceUID"
        for ds in self.matches(event.identifier):
            if ds.get(key) in seen:
                continue
            seen.add(ds.get(key))
            row = Dataset()
            row.SpecificCharacterSet = "ISO_IR 192"
            row.QueryRetrieveLevel = level
            for element in event.identifier:
                setattr(row, element.keyword, ds.get(element.keyword, ds.Modality if element.keyword == "ModalitiesInStudy" else ""))
            row.QueryRetrieveLevel = level
            yield 0xFF00, row

    def _send(self, event):
        found = self.matches(event.identifier)
        yield len(found)
        for ds in found:
            if event.is_cancelled:
                self.cancelled.set()
                yield 0xFE00, None
                return
            yield 0xFF00, ds

    def _get(self, event):
        yield from self._send(event)

    def _move(self, event):
        yield ("127.0.0.1", self.ours) if event.move_destination == "MEDFUSION" else (None, None)
        yield from self._send(event)


@contextlib.contextmanager
def pacs(*arguments, **options):
    made = Pacs(*arguments, **options)
    try:
        yield made
    finally:
        made.close()
