"""A manager of work items (PS3.18 section 11, DICOM JSON) and, below the same address, a DICOMweb archive to fetch from and to store to.

It keeps the rules of PS3.4 CC.1.1: only the owner of the transaction UID updates what is in progress, and a final state needs what
Table CC.2.5-3 asks for. A test makes it fail: `fail` gets (method, path) and may return a status, or None."""
import http.server
import io
import json
import re
import threading
import urllib.parse

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_net import JSON, part10, related

PERFORMED = ("PerformedStationNameCodeSequence", "PerformedWorkitemCodeSequence", "PerformedProcedureStepStartDateTime",
             "PerformedProcedureStepEndDateTime", "OutputInformationSequence")


def code(value, scheme="99TEST", meaning="a test"):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def workitem(*studies, work=("CHEST", "99TEST"), station=None, patient="P-1", ready="READY", priority="MEDIUM", **attributes):
    """A scheduled one; studies: (UID, WADO-RS URL or AE title or None)."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.34.6.1", generate_uid()
    ds.ProcedureStepState, ds.ScheduledProcedureStepPriority, ds.InputReadinessState = "SCHEDULED", priority, ready
    ds.PatientID = patient
    ds.ScheduledWorkitemCodeSequence = [code(*work)] if work else []
    ds.ScheduledStationNameCodeSequence = [code(*station)] if station else []
    ds.InputInformationSequence = []
    for uid, place in studies:
        item = Dataset()
        item.TypeOfInstances, item.StudyInstanceUID, item.SeriesInstanceUID = "DICOM", uid, generate_uid()
        if place:
            retrieval = Dataset()
            if "://" in place:
                retrieval.RetrieveURL = place
                item.WADORSRetrievalSequence = [retrieval]
            else:
                retrieval.RetrieveAETitle = place
                item.DICOMRetrievalSequence = [retrieval]
        ds.InputInformationSequence.append(item)
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


class Manager:
    def __init__(self, items=(), objects=()):
        self.items = {ds.SOPInstanceUID: ds for ds in items}
        self.objects, self.stored = list(objects), []
        self.owners, self.log, self.progress, self.authorizations = {}, [], [], []
        self.fail = lambda method, path: None
        self.lock = threading.RLock()
        manager = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with manager.lock:
                    status, kind, data = manager.answer(self.command, self.path, self.headers, body)
                if status is None:  # the answer is lost
                    self.close_connection = True
                    return
                self.send_response(status)
                if data:
                    self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = handle_any

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/dicom-web"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def add(self, ds):
        with self.lock:
            self.items[ds.SOPInstanceUID] = ds
        return ds.SOPInstanceUID

    def state(self, uid):
        with self.lock:
            return self.items[uid].ProcedureStepState

    def cancel(self, uid):
        """As an administrator of the manager may."""
        with self.lock:
            self.items[uid].ProcedureStepState = "CANCELED"
            self.owners.pop(uid, None)

    # --- answering ---

    def answer(self, method, target, headers, body):
        url = urllib.parse.urlsplit(target)
        path = url.path.removeprefix("/dicom-web")
        self.log.append((method, path))
        self.authorizations.append(headers.get("Authorization"))
        failed = self.fail(method, path)
        if failed == "lost":
            self.route(method, path, url.query, headers, body)
            return None, "", b""
        if failed:
            return failed, "", b""
        return self.route(method, path, url.query, headers, body)

    def route(self, method, path, query, headers, body):
        if method == "GET" and path == "/workitems":
            return self.search(query)
        match = re.fullmatch(r"/workitems/([0-9.]+)(/state)?", path)
        if match and match[1] not in self.items:
            return 404, "", b""
        if match and method == "GET":
            return 200, JSON, json.dumps([self.items[match[1]].to_json_dict()]).encode()
        if match and method == "PUT" and match[2]:
            return self.change(self.items[match[1]], Dataset.from_json(json.loads(body)))
        if match and method == "POST" and not match[2]:
            return self.update(self.items[match[1]], query, Dataset.from_json(json.loads(body)))
        return self.archive(method, path, query, headers, body)

    def search(self, query):
        wanted = urllib.parse.parse_qs(query)

        def has(ds, sequence, tag):
            if f"{sequence}.00080100" not in wanted:
                return True
            pair = (wanted[f"{sequence}.00080100"][0], wanted[f"{sequence}.00080102"][0])
            return pair in [(item.CodeValue, item.CodingSchemeDesignator) for item in ds.get(tag, [])]

        rows = [ds for ds in self.items.values() if ds.ProcedureStepState == wanted["00741000"][0]
                and has(ds, "00404018", "ScheduledWorkitemCodeSequence") and has(ds, "00404025", "ScheduledStationNameCodeSequence")]
        if not rows:
            return 204, "", b""
        return 200, JSON, json.dumps([ds.to_json_dict() for ds in rows]).encode()

    def change(self, ds, change):
        uid, state, transaction = ds.SOPInstanceUID, change.ProcedureStepState, change.get("TransactionUID")
        if not transaction or ds.ProcedureStepState in ("COMPLETED", "CANCELED"):
            return 409, "", b""
        if state == "IN PROGRESS":
            if ds.ProcedureStepState != "SCHEDULED":
                return 409, "", b""
            self.owners[uid] = transaction
        elif ds.ProcedureStepState != "IN PROGRESS" or self.owners[uid] != transaction or not self.may_end(ds, state):
            return 409, "", b""
        ds.ProcedureStepState = state
        return 200, "", b""

    @staticmethod
    def may_end(ds, state):
        if state == "COMPLETED":
            performed = ds.get("UnifiedProcedureStepPerformedProcedureSequence") or [Dataset()]
            return all(performed[0].get(name) for name in PERFORMED)
        progress = (ds.get("ProcedureStepProgressInformationSequence") or [Dataset()])[0]
        return bool(progress.get("ProcedureStepCancellationDateTime") and progress.get("ProcedureStepDiscontinuationReasonCodeSequence"))

    def update(self, ds, query, update):
        if ds.ProcedureStepState != "IN PROGRESS" or query != self.owners[ds.SOPInstanceUID]:
            return 400, "", b""
        for element in update:
            if element.keyword != "TransactionUID":
                ds[element.tag] = element
        if "ProcedureStepProgressInformationSequence" in update and "ProcedureStepProgress" in update.ProcedureStepProgressInformationSequence[0]:
            self.progress.append((ds.SOPInstanceUID, float(update.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress)))
        return 200, "", b""

    # --- the archive ---

    def archive(self, method, path, query, headers, body):
        if method == "POST" and path == "/studies":
            for part in multipart(headers["Content-Type"], body):
                self.stored.append(pydicom.dcmread(io.BytesIO(part)))
            return 200, JSON, b"{}"
        match = re.fullmatch(r"/studies/([0-9.]+)", path)
        if match:
            found = [part10(ds) for ds in self.objects if ds.StudyInstanceUID == match[1]]
            if not found:
                return 404, "", b""
            data, kind = related(found)
            return 200, kind, data
        return self.query(path, urllib.parse.parse_qs(query))

    def query(self, path, wanted):
        match = re.fullmatch(r"/studies/([0-9.]+)/series", path)
        keys = {"StudyInstanceUID", "PatientID"} & set(wanted)
        first, last = wanted.get("StudyDate", ["0-9"])[0].split("-")
        rows = [ds for ds in self.objects if (ds.StudyInstanceUID == match[1] if match else
                all(ds.get(key) == wanted[key][0] for key in keys) and first <= ds.StudyDate <= last)]
        if path != "/studies" and not match:
            return 404, "", b""
        return 200, JSON, json.dumps([self.row(ds, bool(match)) for ds in rows]).encode()

    @staticmethod
    def row(ds, series):
        row = Dataset()
        names = ("SeriesInstanceUID", "Modality", "BodyPartExamined") if series else ("StudyDate", "PatientID", "StudyInstanceUID")
        for name in names:
            setattr(row, name, ds[name].value)
        if not series:
            row.ModalitiesInStudy = ds.Modality
        return row.to_json_dict()


def multipart(content_type, body):
    """The bodies of the parts of a multipart/related body."""
    boundary = b"--" + re.search("boundary=\"?([^\";]+)", content_type)[1].encode()
    for part in body.split(boundary)[1:-1]:
        yield part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
