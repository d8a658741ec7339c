"""Routing rules: the model, the destinations and the priority, for what comes by C-STORE, STOW-RS and POST; order numbers in every
output."""
import io
import json
import subprocess
import time

import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

import bundles
import daemon as daemons
from dicom_net import JSON, part10, radiograph, related, wait_for_study
from test_dimse import association, start
from test_push import Receiver

FRONTAL = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}


class Archive:
    """Takes C-STOREs; `studies` of what has come."""

    def __init__(self):
        ae = AE(ae_title="ARCHIVE")
        ae.supported_contexts = AllStoragePresentationContexts
        self.studies = set()
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self.take)])
        self.address = f"dicom://ARCHIVE@127.0.0.1:{self.server.socket.getsockname()[1]}"

    def take(self, event):
        self.studies.add(event.dataset.StudyInstanceUID)
        return 0x0000


@pytest.fixture(scope="module")
def archives():
    made = Archive(), Archive()
    yield made
    for archive in made:
        archive.server.shutdown()


def write_rules(directory, rules):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rules.json").write_text(json.dumps({"rules": rules}))
    return directory / "rules.json"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, archives):
    directory = tmp_path_factory.mktemp("routing")
    for name in ("one", "two"):
        bundles.make_bundle(directory / name, name=name, accepts=FRONTAL)
    first, second = (archive.address for archive in archives)
    rules = write_rules(directory, [
        {"name": "emergency", "match": {"called": "MF_ER"}, "model": "two", "priority": "stat", "destinations": [second]},
        {"name": "room", "match": {"calling": "ROOM?"}, "model": "two", "destinations": []},
        {"name": "hand", "match": {"body_part": "HAND"}, "model": "two", "destinations": [second]},
        {"name": "thorax", "match": {"modality": "DX", "study_description": "*thorax*"}, "model": "two", "priority": "urgent"},
        {"name": "lung", "match": {"series_description": ["*lung*", "*Lunge"]}, "model": "two", "destinations": [first]},
        {"name": "rest", "model": "one", "destinations": [first]}])
    running = start(directory / "d", f"{directory / 'one'}:{directory / 'two'}", **{
        "routing.rules": rules, "outbox.destinations": f"{first} {second}", "dimse.called": "MF_ER:MF_2", "dimse.allow": "*"})
    yield running
    assert running.stop() == 0


def by_post(daemon, ds, **options):
    response = daemon.post([part10(ds)], options=json.dumps(options) if options else None)
    assert response.status_code == 202, response.text
    return response.json()["id"]


def by_stow(daemon, ds):
    body, kind = related([part10(ds)])
    requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=60).raise_for_status()
    return wait_for_study(daemon, ds.StudyInstanceUID)["jobs"][0]


def by_dimse(daemon, ds, calling="MODALITY", called="MEDFUSION"):
    with association(daemon, calling, called) as made:
        assert made.send_c_store(ds).Status == 0
    return wait_for_study(daemon, ds.StudyInstanceUID)["jobs"][0]


def outcome(daemon, archives, job, ds):
    """Model, priority, and which archives the result has come to."""
    state = daemon.wait(f"/v1/jobs/{job}")
    assert state["state"] == "succeeded", state
    result = daemon.get(f"/v1/jobs/{job}/result").json()
    return result["model"]["name"], state["priority"], [i for i, archive in enumerate(archives) if ds.StudyInstanceUID in archive.studies]


def settled(daemon, archives, job, ds, wanted):
    """The outcome, once as many archives have the result as should; what goes elsewhere would go at the same time."""
    deadline = time.monotonic() + 90
    while (seen := outcome(daemon, archives, job, ds)) != wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return seen


CASES = [({"BodyPartExamined": "HAND", "StudyDescription": "XR Thorax"}, ("two", "routine", [1])),
         ({"StudyDescription": "XR THORAX"}, ("two", "urgent", [0, 1])),
         ({"SeriesDescription": "left lung detail"}, ("two", "routine", [0])),
         ({}, ("one", "routine", [0]))]


@pytest.mark.parametrize("way", [by_post, by_stow, by_dimse])
def test_rules_choose_by_what_the_images_say(daemon, archives, way):
    made = [(radiograph(**attributes), wanted) for attributes, wanted in CASES]
    jobs = [way(daemon, ds) for ds, _ in made]
    for job, (ds, wanted) in zip(jobs, made):
        assert settled(daemon, archives, job, ds, wanted) == wanted
    assert [outcome(daemon, archives, job, ds) for job, (ds, _) in zip(jobs, made)] == [wanted for _, wanted in made]


def test_rules_choose_by_title(daemon, archives):
    made = [(radiograph(), "MODALITY", "MF_ER", ("two", "stat", [1])), (radiograph(), "ROOM7", "MEDFUSION", ("two", "routine", [])),
            (radiograph(), "ROOM7", "MF_ER", ("two", "stat", [1])), (radiograph(), "MODALITY", "MF_2", ("one", "routine", [0]))]
    jobs = [by_dimse(daemon, ds, calling, called) for ds, calling, called, _ in made]
    for job, (ds, _, _, wanted) in zip(jobs, made):
        assert settled(daemon, archives, job, ds, wanted) == wanted
    with association(daemon, called="MF_3") as refused:
        assert not refused.is_established


def test_what_a_request_says_is_stronger(daemon, archives):
    first, _ = (archive.address for archive in archives)
    ds, other = radiograph(BodyPartExamined="HAND"), radiograph(StudyDescription="Thorax")
    job = by_post(daemon, ds, model="one", destinations=[first], priority="stat")
    wanted = ("one", "stat", [0])
    assert settled(daemon, archives, job, ds, wanted) == wanted
    job = by_post(daemon, other, destinations=[])
    assert settled(daemon, archives, job, other, ("two", "urgent", [])) == ("two", "urgent", [])
    for bad in (["dicom://ELSEWHERE@127.0.0.1:104"], "x", [1], {"a": 1}):
        refused = daemon.post([part10(ds)], options=json.dumps({"destinations": bad}))
        assert refused.status_code == 422 and "destinations" in refused.json()["detail"], refused.text


@pytest.mark.parametrize("rules, words", [
    ([{"name": "a", "model": "absent"}], 'rule "a": there is no model named absent'),
    ([{"name": "a", "destinations": ["dicom://X@h:1"]}], 'rule "a": "dicom://X@h:1" is not in outbox.destinations'),
    ([{"name": "a", "tenant": "north", "destinations": ["dicom://PACS@127.0.0.1:104"]}], "not in outbox.destinations of the tenant"),
    ([{"name": "a", "match": {"modality": 1}}], 'rule "a": "modality" must be'), ([{"match": {}}], 'rule 1 has no "name"'),
    ([{"name": "a", "then": 1}], 'rule "a": rule: unknown key "then"'), ("x", 'must hold {"rules"')])
def test_rules_with_mistakes_are_refused_at_start(tmp_path, frontal_bundle, rules, words):
    refused = subprocess.run([str(bundles.PROGRAM), "serve", "--data.directory", str(tmp_path / "data"), "--models.directories", str(frontal_bundle),
                              "--outbox.destinations", "dicom://PACS@127.0.0.1:104", "--routing.rules", str(write_rules(tmp_path, rules))],
                             capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and words in refused.stderr, refused.stderr
    refused = subprocess.run([str(bundles.PROGRAM), "serve", "--data.directory", str(tmp_path / "data"), "--models.directories", str(frontal_bundle),
                              "--routing.rules", "/nowhere.json"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "routing.rules: /nowhere.json" in refused.stderr, refused.stderr


def test_the_example_that_ships_is_understood(tmp_path):
    thorax = bundles.ROOT / "models/thorax-nih"
    refused = subprocess.run([str(bundles.PROGRAM), "serve", "--data.directory", str(tmp_path), "--models.directories", str(thorax),
                              "--routing.rules", str(bundles.ROOT / "deploy/routing.example.json")], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and '"dicom://PACS@pacs:104" is not in outbox.destinations' in refused.stderr, refused.stderr


# --- order numbers ---


def request_attributes(**more):
    item = Dataset()
    item.RequestedProcedureID, item.ScheduledProcedureStepID, item.RequestedProcedureDescription = "RP-1", "SPS-1", "Chest"
    for name, value in more.items():
        setattr(item, name, value)
    return item


ORDERS = [{"AccessionNumber": "ACC-1", "PlacerOrderNumberImagingServiceRequest": "PL-1", "FillerOrderNumberImagingServiceRequest": "FI-1",
           "RequestAttributesSequence": [request_attributes()]},
          {"AccessionNumber": "", "RequestAttributesSequence": [request_attributes(  # all of it in the sequence
              AccessionNumber="ACC-1", PlacerOrderNumberImagingServiceRequest="PL-1", FillerOrderNumberImagingServiceRequest="FI-1")]}]


@pytest.mark.parametrize("order", ORDERS)
def test_order_numbers_reach_every_output(tmp_path, order):
    receiver = Receiver()
    daemon = daemons.Daemon(tmp_path, bundles.ROOT / "models/thorax-nih", **{"outbox.destinations": f"mllp://127.0.0.1:{receiver.port}"}).start()
    ds = pydicom.dcmread(sorted((bundles.ROOT / "tests/data/sample/dicom").glob("*.dcm"))[0])  # with a positive finding
    for name, value in order.items():
        setattr(ds, name, value)
    response = daemon.post([part10(ds)], headers={"Prefer": "wait=60"})
    assert response.status_code == 200, response.text
    assert response.json()["study"]["order"] == {
        "accession_number": "ACC-1", "placer_order_number": "PL-1", "filler_order_number": "FI-1", "requested_procedure_id": "RP-1",
        "scheduled_procedure_step_id": "SPS-1"}
    job = response.json()["job"]
    names = {a["name"] for a in daemon.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"] if a["media_type"] == "application/dicom"}
    assert {"sr", "sc", "gsps", "kos"} <= names and any(name.startswith("seg") for name in names), names
    for name in names:
        made = pydicom.dcmread(io.BytesIO(daemon.get(f"/v1/jobs/{job}/artifacts/{name}").content))
        assert made.AccessionNumber == "ACC-1", name
        document = "ReferencedRequestSequence" in made
        item = (made.ReferencedRequestSequence if document else made.RequestAttributesSequence)[0]
        assert item.AccessionNumber == "ACC-1" and item.RequestedProcedureID == "RP-1", name
        holder = item if document else made
        assert holder.PlacerOrderNumberImagingServiceRequest == "PL-1" and holder.FillerOrderNumberImagingServiceRequest == "FI-1", name
        if not document:
            assert item.ScheduledProcedureStepID == "SPS-1", name
    bundle = daemon.get(f"/v1/jobs/{job}/result", headers={"Accept": "application/fhir+json"}).json()
    [report] = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DiagnosticReport"]
    numbers = {o["identifier"]["type"]["coding"][0]["code"]: o["identifier"]["value"] for o in report["basedOn"]}
    assert numbers == {"PLAC": "PL-1", "FILL": "FI-1", "ACSN": "ACC-1"}
    deadline = time.monotonic() + 90
    while not receiver.messages and time.monotonic() < deadline:
        time.sleep(0.1)
    [obr] = [line.split("|") for line in receiver.messages[0].split("\r") if line.startswith("OBR")]
    assert (obr[2], obr[3], obr[18], obr[19], obr[20]) == ("PL-1", "FI-1", "ACC-1", "RP-1", "SPS-1"), obr
    assert daemon.stop() == 0
    receiver.stop()
