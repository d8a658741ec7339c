"""A whole daemon as the gate `starve` tries it: rounds of all its routes and protocols, in which calls fail in whichever process they are made.

What each answer may be: that of a round without faults, or one that names an error. Behind each round nothing fails any more, and then the daemon
is ready, every job that was accepted has ended, and what succeeded is what succeeds without faults."""
import base64
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import requests  # noqa: E402
from pynetdicom import AE  # noqa: E402

import bad_input  # noqa: E402
import bundles  # noqa: E402
import daemon as daemons  # noqa: E402
import dicom_net  # noqa: E402

FRONTAL = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}
IMAGE, EHR = bad_input.NEWEST.read_bytes(), (bad_input.SAMPLE / "ehr.json").read_bytes()
GAP_MS = 5
CALM_MS = 1500  # what a process takes to start again
ROUNDS = 8  # for which a daemon runs
SAME = ("study", "model", "predictions", "finding_set", "calibration")  # of a result
ENDED = ("succeeded", "failed", "cancelled")
QUIET = ("/", "/ui/", "/ui/app.js", "/ui/none", "/schemas/", "/schemas/result.json", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/accepting", "/v2/health/ready",
         "/v2/models/frontal", "/v2/models/frontal/ready", "/v2/models/none", "/metrics", "/v1/jobs", "/v1/jobs?limit=2", "/v1/jobs?state=succeeded", "/v1/jobs/none",
         "/v1/quality", "/v1/admin/models", "/v1/admin/reload", "/v1/admin/audit", "/v1/admin/keys", "/v1/admin/dead-letters", "/fhir/metadata",
         "/fhir/.well-known/smart-configuration", "/fhir/DiagnosticReport?_count=2", "/fhir/Observation?_count=2&patient=p1", "/cds-services", "/dicom-web/studies",
         "/dicom-web/studies?PatientName=M*&ModalitiesInStudy=DX&limit=3", "/dicom-web/series?Modality=DX", "/dicom-web/instances?limit=2", "/v1/studies/1.2.3")
OF_JOB = ("", "/result", "/result?format=fhir", "/result?format=text", "/report", "/report?format=pdf", "/frames", "/frames/0", "/frames/0?stage=display", "/artifacts",
          "/artifacts/sr", "/artifacts/seg", "/artifacts/sc", "/artifacts/gsps", "/artifacts/kos", "/feedback", "/artifacts/none")
OF_STUDY = ("", "/metadata", "/series", "/instances", "/rendered", "/thumbnail")


class Wrong(Exception):
    """An answer that no fault excuses."""


class Round:
    """One pass over everything; `jobs` is what was accepted, `answers` what was answered to what."""

    def __init__(self, running):
        self.running, self.jobs, self.answers, self.refused = running, [], {}, 0
        self.session = requests.Session()

    def ask(self, method, path, name=None, **arguments):
        """The answer, or None where it was an error; a connection that broke off is one, too."""
        try:
            response = self.session.request(method, self.running.url + path, timeout=60, **arguments)
            body = response.content
        except requests.Timeout:
            raise Wrong(f"{method} {path}: no answer in a minute") from None
        except requests.RequestException:
            self.refused += 1
            return None
        self.answers[name or f"{method} {path}"] = response.status_code
        if response.status_code >= 500:
            self.refused += 1
            if not body.strip():
                raise Wrong(f"{method} {path}: status {response.status_code} without a word")
            return None
        return response

    def accepted(self, response):
        """Notes a job; its id."""
        if response is None or response.status_code not in (200, 202):
            return None
        where = response.headers.get("Location") or response.headers.get("Content-Location") or ""
        job = where.split("?")[0].removesuffix("/result").rsplit("/", 1)[-1]
        self.jobs.append(job)
        return job

    def post(self, name, options=None, headers=None, dicom=(IMAGE,), ehr=EHR):
        files = [("dicom", (f"{i}.dcm", data)) for i, data in enumerate(dicom)] + [("ehr", ("ehr.json", ehr))] * bool(ehr)
        files += [("options", ("options.json", json.dumps(options)))] if options else []
        return self.accepted(self.ask("POST", "/v1/jobs", name, files=files, headers=headers))

    # --- what is done in a round ---

    def jobs_in_every_form(self):
        done = self.post("waited for", headers={"Prefer": "wait=30"}, options={"priority": "stat"})
        self.post("alone", ehr=None, headers={"Idempotency-Key": f"k{time.time()}"})
        self.post("explained", options={"explain": True, "alpha": 0.2, "site": "north"})
        self.post("damaged", dicom=(bad_input.truncated(),))
        self.post("no DICOM", dicom=(bad_input.not_dicom(),))
        for kind, body in (("application/zip", bad_input.zip_of([("a/image", IMAGE), ("note.txt", b"hello")])), ("application/dicom", IMAGE)):
            self.accepted(self.ask("POST", "/v1/jobs", kind, data=body, headers={"Content-Type": kind}))
        gone = self.post("cancelled", ehr=None)
        if gone:
            self.ask("DELETE", f"/v1/jobs/{gone}", "cancel")
        if not done:
            return
        for path in OF_JOB:
            self.ask("GET", f"/v1/jobs/{done}{path}", path)
        self.ask("PUT", f"/v1/jobs/{done}/feedback", "feedback", json={"reader": "anna", "labels": {"Effusion": 1}})
        with contextlib.suppress(requests.RequestException):
            for path in ("/v1/events", f"/v1/jobs/{done}/events"):
                with self.session.get(self.running.url + path, stream=True, timeout=(5, 1)) as events:
                    next(events.iter_lines(), None)
        self.ask("DELETE", f"/v1/jobs/{done}/data", "purge")
        self.jobs.remove(done)  # purged: it may be gone

    def fhir(self):
        binary = {"name": "dicom", "resource": {"resourceType": "Binary", "contentType": "application/dicom", "data": base64.b64encode(IMAGE).decode()}}
        body = {"resourceType": "Parameters", "parameter": [binary, {"name": "ehr", "resource": json.loads(EHR)}]}
        job = self.accepted(self.ask("POST", "/fhir/$infer", json=body, headers={"Content-Type": "application/fhir+json", "Prefer": "respond-async"}))
        if not job:
            return
        self.running.wait_quietly(job)
        answer = self.ask("GET", f"/fhir/$infer/{job}", "poll")
        for entry in answer.json().get("entry", []) if answer is not None and answer.status_code == 200 else []:
            resource = entry["resource"]
            self.ask("GET", f"/fhir/{resource['resourceType']}/{resource['id']}", f"read {resource['resourceType']}")
        self.ask("GET", "/fhir/DiagnosticReport?identifier=p1&_count=1")
        patient = {"resourceType": "Patient", "id": "p1", "identifier": [{"value": "p1"}]}
        self.ask("POST", "/cds-services/medfusion-findings", json={"hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea", "context": {
            "userId": "Practitioner/1", "patientId": "p1"}, "prefetch": {"patient": patient}})

    def stored(self):
        first = dicom_net.radiograph(patient="M-1")
        second = dicom_net.radiograph(patient="M-1", study=first.StudyInstanceUID, InstanceNumber=2)
        body, kind = dicom_net.related([dicom_net.part10(first), dicom_net.part10(second)])
        self.ask("POST", "/dicom-web/studies", "store", data=body, headers={"Content-Type": kind, "Accept": dicom_net.JSON})
        study = f"/dicom-web/studies/{first.StudyInstanceUID}"
        series = f"{study}/series/{first.SeriesInstanceUID}"
        instance = f"{series}/instances/{first.SOPInstanceUID}"
        for path in [study + what for what in OF_STUDY] + [series + what for what in OF_STUDY if what != "/series"] + [
                instance, instance + "/metadata", instance + "/rendered", instance + "/frames/1/rendered", instance + "/thumbnail?viewport=16,16"]:
            self.ask("GET", path, path.replace(first.StudyInstanceUID, "").replace(first.SeriesInstanceUID, "").replace(first.SOPInstanceUID, ""))
        self.ask("GET", f"/v1/studies/{first.StudyInstanceUID}", "study")

    def associations(self):
        ds = dicom_net.radiograph(patient="D-1")
        ae = AE(ae_title="MODALITY")
        ae.add_requested_context("1.2.840.10008.1.1")
        ae.add_requested_context(ds.SOPClassUID, "1.2.840.10008.1.2.1")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        with contextlib.suppress(Exception):  # it was aborted
            made = ae.associate("127.0.0.1", self.running.port, ae_title="MEDFUSION")
            if made.is_established:
                made.send_c_echo()
                made.send_c_store(ds)
                made.release()

    def administration(self, environment, work):
        data = self.running.directory / "data"
        self.ask("POST", "/v1/admin/keys", json={"name": "n", "scopes": "jobs.read"})
        self.ask("POST", "/v1/admin/dead-letters")
        for i, words in enumerate((("audit", "verify", data), ("audit", "list", data), ("outbox", "list", data), ("vault", "status", data),
                                   ("backup", work / f"backup-{time.time()}", "--data.directory", data))):
            try:
                done = subprocess.run([bundles.PROGRAM, *words], env=environment, capture_output=True, timeout=60, check=False)
            except subprocess.TimeoutExpired:
                raise Wrong(f"{words[:2]}: no end in a minute") from None
            if done.returncode > 0 and not done.stderr.strip():
                raise Wrong(f"command {i} {words[:2]}: status {done.returncode} without a word")
        self.ask("POST", "/v1/admin/reload", "reload")

    def all(self, environment, work):
        for path in QUIET:
            self.ask("GET", path)
        self.jobs_in_every_form()
        self.fhir()
        self.stored()
        self.associations()
        self.administration(environment, work)


class Starved(daemons.Daemon):
    """A daemon that starts and runs in this environment."""

    port = 0

    def begin(self, environment):
        """Whether it became ready; an error of a start is one line."""
        kept, log = dict(os.environ), self.directory / "log"
        log.unlink(missing_ok=True)
        os.environ.update(environment)
        watch = threading.Timer(60, lambda: self.process and self.process.kill())
        watch.start()
        try:
            self.start()
        except RuntimeError:
            if self.process.wait() == -9:
                raise Wrong(f"it was not ready in a minute: {self.log()[-300:]}") from None
            return False
        finally:
            watch.cancel()
            os.environ.clear()
            os.environ.update(kept)
        self.port = next((int(json.loads(line)["address"].rsplit(":", 1)[1]) for line in self.log().splitlines() if '"dimse.listening"' in line), 0)
        return True

    def wait_quietly(self, job):
        with contextlib.suppress(requests.RequestException, KeyError, ValueError):
            self.wait(f"/v1/jobs/{job}", 20)

    def check(self, jobs, wanted):
        """Without faults: ready, every accepted job has ended, and results are what they are."""
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(requests.RequestException):
                if self.get("/v2/health/ready").status_code == 200:
                    break
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Wrong(f"it is not ready again: status {self.process.poll()}, {self.log()[-400:]}")
            time.sleep(0.1)
        for job in jobs:
            state = self.wait(f"/v1/jobs/{job}", 90) if self.get(f"/v1/jobs/{job}").status_code == 200 else {}
            if state.get("state") not in ENDED:
                raise Wrong(f"job {job} was accepted, and is now {state.get('state', 'gone')}")
            if state["state"] == "succeeded":
                result = self.get(f"/v1/jobs/{job}/result").json()
                kind = (result["alpha"], json.dumps(result["ehr"], sort_keys=True))
                first = wanted.setdefault(kind, result)
                for name in SAME:
                    if first[name] != result[name]:
                        raise Wrong(f"job {job} has another {name}: {result[name]!r}, not {first[name]!r}"[:2000])


def options(work, guarded):
    chosen = {"dimse.listen": "127.0.0.1:0", "dimse.allow": "MODALITY@127.0.0.1", "intake.quiet_s": 1, "outbox.retry_s": 1, "outbox.max_attempts": 3, "log.level": "warn"}
    chosen["outbox.destinations"] = "http://127.0.0.1:9/dicom-web"  # where nobody listens
    if guarded:
        subprocess.run([bundles.PROGRAM, "vault", "add", work / "keys.json"], check=True, capture_output=True)
        (work / "secret").write_text("a secret of more than sixteen bytes\n")
        chosen |= {"data.keys": work / "keys.json", "deidentify.stored": "on", "deidentify.secret_file": work / "secret", "worker.count": 2}
    return chosen


def starve(gate, name, guarded, starting):
    table = gate.table(f"daemon-{name}", gate.build / "medfusion", gate.build / "medfusion-decoder")
    with tempfile.TemporaryDirectory(prefix="medfusion-starve-") as directory:
        work, wanted = pathlib.Path(directory), {}
        model = bundles.make_bundle(work / "model", name="frontal", accepts=FRONTAL)
        running = Starved(work / "daemon", model, **options(work, guarded))

        def starved():
            table.begin(most=0, gap_ms=GAP_MS, calm_ms=0 if starting else CALM_MS)

        def turn(quiet=False):
            """One round on the daemon that runs."""
            made = Round(running)
            try:
                if not quiet:
                    starved()
                made.all(gate.environment(table), work)
            finally:
                table.end()
                gate.refused += made.refused
            running.check(made.jobs, wanted)

        def once(table):
            before = table.struck()
            try:
                if starting:
                    starved()
                if not running.begin(gate.environment(table)):
                    return
                for _ in range(0 if starting else ROUNDS):
                    if not gate.over():
                        before = table.struck()
                        turn()
                starved()
                running.process.terminate()
                if running.process.wait(timeout=90) not in (0, 1):
                    raise Wrong(f"it stopped with status {running.process.returncode}")
            except (Wrong, requests.RequestException, subprocess.TimeoutExpired) as wrong:
                gate.found(table, f"{wrong!r}, after\n    {table.since(before)}")
            finally:
                end()

        def end():
            table.end()
            if running.process and running.process.poll() is None:
                running.process.kill()
                running.process.wait()

        if not starting and not table.complete and not gate.over():
            table.end()
            if not running.begin(gate.environment(table)):
                raise RuntimeError(running.log())
            turn(quiet=True)
            end()
        gate.starve(table, once)


def run(gate):
    """Starts and stops by themselves: a fault ends most starts, and says why."""
    for name in ("plain", "guarded", "plain-start", "guarded-start"):
        if gate.only in name:
            starve(gate, name, name.startswith("guarded"), name.endswith("start"))
