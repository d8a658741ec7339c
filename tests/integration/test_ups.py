"""Work items of a UPS-RS manager: claimed, fetched, run, stored back and completed; lost races, failures, restarts, cancellation."""
import re
import signal
import subprocess
import threading
import time

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

import bundles
import daemon as daemons
import orthanc
from dicom_net import part10, radiograph
from ups_manager import Manager, workitem


def wait_until(true, daemon=None, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, daemon.log() if daemon else "never"
        time.sleep(0.05)


def start(directory, bundle, manager, **options):
    return daemons.Daemon(directory, bundle, **{
        "ups.manager": manager.url, "ups.codes": "CHEST^99TEST", "ups.outputs": manager.url, "ups.poll_s": 1, "ups.timeout_s": 5,
        "fetch.sources": f"pacs={manager.url}", "log.level": "debug", **options}).start()


def finished(manager, uid):
    return manager.state(uid) in ("COMPLETED", "CANCELED")


def performed(manager, uid):
    return manager.items[uid].UnifiedProcedureStepPerformedProcedureSequence[0]


def reason(manager, uid):
    progress = manager.items[uid].ProcedureStepProgressInformationSequence[0]
    return progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue, progress.ReasonForCancellation


def test_a_work_item_is_performed(tmp_path, frontal_bundle):
    ds, prior = radiograph(patient="P-1", date="20240501"), radiograph(patient="P-1", date="20230101")
    later = "20991231120000+0000"
    with Manager(objects=[ds, prior]) as manager:
        uid = manager.add(workitem((ds.StudyInstanceUID, manager.url + "/studies/" + ds.StudyInstanceUID), station=("AI1", "99TEST")))
        others = [manager.add(workitem((ds.StudyInstanceUID, None), station=("AI1", "99TEST"), **other)) for other in (
            {"work": ("HEAD", "99TEST")}, {"ready": "INCOMPLETE"}, {"ScheduledProcedureStepStartDateTime": later})]
        others.append(manager.add(workitem((ds.StudyInstanceUID, None), station=("AI2", "99TEST"))))
        daemon = start(tmp_path, frontal_bundle, manager, **{"ups.stations": "AI1^99TEST"})
        wait_until(lambda: finished(manager, uid), daemon)
        assert manager.state(uid) == "COMPLETED"
        done = performed(manager, uid)
        assert done.PerformedWorkitemCodeSequence[0].CodeValue == "CHEST" and done.PerformedStationNameCodeSequence[0].CodeValue == "AI1"
        assert done.PerformedProcedureStepStartDateTime <= done.PerformedProcedureStepEndDateTime
        named = {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID: item for item in done.OutputInformationSequence}
        assert named.keys() == {stored.SOPInstanceUID for stored in manager.stored} and manager.stored
        for stored in manager.stored:
            item = named[stored.SOPInstanceUID]
            assert item.StudyInstanceUID == stored.StudyInstanceUID == ds.StudyInstanceUID
            assert item.ReferencedSOPSequence[0].ReferencedSOPClassUID == stored.SOPClassUID
            assert item.WADORSRetrievalSequence[0].RetrieveURL == (
                f"{manager.url}/studies/{stored.StudyInstanceUID}/series/{stored.SeriesInstanceUID}/instances/{stored.SOPInstanceUID}")
        steps = [percent for item, percent in manager.progress if item == uid]
        assert steps == sorted(steps) and steps[-1] == 100
        [job] = daemon.get("/v1/jobs").json()["jobs"]
        result = daemon.get(f"/v1/jobs/{job['id']}/result").json()
        assert [frame["role"] for frame in result["study"]["frames"]] == ["prior", "current"]
        wait_until(lambda: "ups.completed" in daemon.log(), daemon)
        wait_until(lambda: not list((tmp_path / "data" / "ups").glob("*.json")), daemon)
        metrics = daemon.get("/metrics").text
        assert 'medfusion_ups_workitems_total{event="completed"} 1' in metrics and "medfusion_ups_workitems 0" in metrics
        assert [manager.state(other) for other in others] == ["SCHEDULED"] * 4
        assert ds.StudyInstanceUID not in daemon.log() and uid not in daemon.log()
        assert daemon.stop() == 0


def test_a_code_chooses_the_model_and_priority_the_order(tmp_path, frontal_bundle):
    low, high = radiograph(patient="P-1"), radiograph(patient="P-2")
    with Manager(objects=[low, high]) as manager:
        first = manager.add(workitem((low.StudyInstanceUID, None), work=("A", "99TEST")))
        second = manager.add(workitem((high.StudyInstanceUID, None), work=("A", "99TEST"), patient="P-2", priority="HIGH"))
        daemon = start(tmp_path, frontal_bundle, manager, **{"ups.codes": "A^99TEST=frontal", "ups.max_claimed": 1})
        wait_until(lambda: finished(manager, first) and finished(manager, second), daemon)
        claims = [path.split("/")[2] for method, path in manager.log if method == "PUT"]
        assert claims == [second, second, first, first]
        jobs = daemon.get("/v1/jobs").json()["jobs"]
        assert [job["priority"] for job in jobs] == ["routine", "stat"] and {job["model"] for job in jobs} == {"frontal"}
        assert daemon.stop() == 0


def test_who_comes_second_does_not_get_it(tmp_path, frontal_bundle):
    ds = radiograph()
    with Manager(objects=[ds]) as manager:
        uid = manager.add(workitem((ds.StudyInstanceUID, None)))

        def claim_before(method, path):
            if method == "PUT" and manager.items[uid].ProcedureStepState == "SCHEDULED":
                manager.items[uid].ProcedureStepState, manager.owners[uid] = "IN PROGRESS", "1.2.3"

        manager.fail = claim_before
        daemon = start(tmp_path, frontal_bundle, manager)
        wait_until(lambda: "ups.lost" in daemon.log(), daemon)
        wait_until(lambda: 'event="lost"} 1' in daemon.get("/metrics").text, daemon)
        assert manager.state(uid) == "IN PROGRESS" and manager.owners[uid] == "1.2.3" and not manager.progress
        assert not daemon.get("/v1/jobs").json()["jobs"]
        wait_until(lambda: not list((tmp_path / "data" / "ups").glob("*.json")), daemon)
        assert daemon.stop() == 0


def test_two_performers_share_the_work(tmp_path, frontal_bundle):
    studies = [radiograph(patient=f"P-{i}") for i in range(6)]
    with Manager(objects=studies) as manager:
        uids = [manager.add(workitem((ds.StudyInstanceUID, None), patient=ds.PatientID)) for ds in studies]
        both = [start(tmp_path / name, frontal_bundle, manager, **{"ups.max_claimed": 1}) for name in "ab"]
        wait_until(lambda: all(finished(manager, uid) for uid in uids), both[0])
        assert {manager.state(uid) for uid in uids} == {"COMPLETED"}
        jobs = [job for daemon in both for job in daemon.get("/v1/jobs").json()["jobs"]]
        assert len(jobs) == 6  # none was run twice
        assert [daemon.stop() for daemon in both] == [0, 0]


@pytest.mark.parametrize("what,change,expected,text", [
    ("no study", {"studies": []}, "110522", "names no study"),
    ("not there", {"studies": [(generate_uid(), None)]}, "110523", "no such study"),
    ("another patient's", {"patient": "P-9"}, "110522", "another patient"),
    ("a lateral view", {"view": "LL"}, "110522", ""),
])
def test_what_cannot_be_done_is_canceled_with_the_reason(tmp_path, frontal_bundle, what, change, expected, text):
    ds = radiograph(view=change.get("view", "PA"))
    with Manager(objects=[ds]) as manager:
        uid = manager.add(workitem(*change.get("studies", [(ds.StudyInstanceUID, None)]), patient=change.get("patient", "P-1")))
        daemon = start(tmp_path, frontal_bundle, manager)
        wait_until(lambda: finished(manager, uid), daemon)
        assert manager.state(uid) == "CANCELED"
        code, why = reason(manager, uid)
        assert code == expected and text in why and why
        wait_until(lambda: 'event="canceled"} 1' in daemon.get("/metrics").text, daemon)
        assert daemon.stop() == 0


def test_addresses_of_a_work_item_are_never_contacted(tmp_path, frontal_bundle):
    ds = radiograph()
    with Manager(objects=[ds]) as manager, Manager(objects=[ds]) as stranger:
        uid = manager.add(workitem((ds.StudyInstanceUID, stranger.url + "/studies/" + ds.StudyInstanceUID)))
        elsewhere = workitem((ds.StudyInstanceUID, manager.url + "@" + stranger.url[7:]))
        other = manager.add(elsewhere)
        daemon = start(tmp_path, frontal_bundle, manager)
        wait_until(lambda: finished(manager, uid) and finished(manager, other), daemon)
        assert manager.state(uid) == manager.state(other) == "COMPLETED" and not stranger.log
        assert daemon.stop() == 0


def test_a_manager_that_fails_is_asked_again(tmp_path, frontal_bundle):
    ds = radiograph()
    with Manager(objects=[ds]) as manager:
        uid = manager.add(workitem((ds.StudyInstanceUID, None)))
        failures, seen = {("GET", "/workitems"): 1, ("PUT", "state"): 1, ("POST", "workitem"): 1, ("POST", "/studies"): 1}, []

        def fail(method, path):
            name = "state" if path.endswith("/state") else "workitem" if path.startswith("/workitems/") else path
            if failures.get((method, name), 0) > 0:
                failures[(method, name)] -= 1
                seen.append((method, name))
                return 503
            return None

        manager.fail = fail
        daemon = start(tmp_path, frontal_bundle, manager)
        wait_until(lambda: finished(manager, uid), daemon)
        assert manager.state(uid) == "COMPLETED" and not any(failures.values()) and len(seen) == 4
        assert len(daemon.get("/v1/jobs").json()["jobs"]) == 1
        assert int(re.search(r"medfusion_ups_failures_total (\d+)", daemon.get("/metrics").text)[1]) == 4
        assert daemon.stop() == 0


def test_lost_answers_change_nothing(tmp_path, frontal_bundle):
    """The manager has done what was asked, and nobody heard of it: claimed once, completed once."""
    ds = radiograph()
    with Manager(objects=[ds]) as manager:
        uid = manager.add(workitem((ds.StudyInstanceUID, None)))
        lost = []

        def lose(method, path):
            state = manager.items[uid].ProcedureStepState
            if method == "PUT" and state not in lost:
                lost.append(state)
                return "lost"
            return None

        manager.fail = lose
        daemon = start(tmp_path, frontal_bundle, manager)
        wait_until(lambda: "ups.completed" in daemon.log(), daemon)
        assert lost == ["SCHEDULED", "IN PROGRESS"] and manager.state(uid) == "COMPLETED"
        assert "ups.lost" not in daemon.log() and "ups.withdrawn" not in daemon.log()
        assert len(daemon.get("/v1/jobs").json()["jobs"]) == 1
        assert daemon.stop() == 0


@pytest.mark.parametrize("where", ["claim", "fetch", "result"])
def test_a_restart_goes_on(tmp_path, frontal_bundle, where):
    """Killed just when the manager has been told of the claim, while the study is fetched, and before the results are stored."""
    ds = radiograph()
    reached, let_go = threading.Event(), threading.Event()
    with Manager(objects=[ds]) as manager:
        uid = manager.add(workitem((ds.StudyInstanceUID, None)))

        def stall(method, path):
            at = {"claim": path.endswith("/state"), "fetch": method == "GET" and path.startswith("/studies/"),
                  "result": method == "POST" and path == "/studies"}[where]
            if at and not let_go.is_set():
                reached.set()
                return "lost" if where == "claim" else 503
            return None

        manager.fail = stall
        daemon = start(tmp_path, frontal_bundle, manager)
        assert reached.wait(60), daemon.log()
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(30)
        let_go.set()
        assert manager.state(uid) == "IN PROGRESS"
        daemon = start(tmp_path, frontal_bundle, manager)
        wait_until(lambda: finished(manager, uid), daemon)
        assert manager.state(uid) == "COMPLETED" and "ups.resumed" in daemon.log()
        assert len(daemon.get("/v1/jobs").json()["jobs"]) == 1
        assert daemon.stop() == 0


def test_what_the_manager_withdraws_is_not_gone_on_with(tmp_path, frontal_bundle):
    ds = radiograph()
    with Manager(objects=[ds]) as manager:
        uid = manager.add(workitem((ds.StudyInstanceUID, None)))

        def withdraw(method, path):
            if method == "GET" and path.startswith("/studies/"):
                manager.cancel(uid)
                return 503  # so that it looks again
            return None

        manager.fail = withdraw
        daemon = start(tmp_path, frontal_bundle, manager)
        wait_until(lambda: "ups.withdrawn" in daemon.log(), daemon)
        wait_until(lambda: not list((tmp_path / "data" / "ups").glob("*.json")), daemon)
        assert manager.state(uid) == "CANCELED" and not manager.stored and not daemon.get("/v1/jobs").json()["jobs"]
        assert daemon.stop() == 0


def test_inputs_that_stay_out_of_reach_are_given_up(tmp_path, frontal_bundle):
    ds = radiograph()
    with Manager(objects=[ds]) as manager:
        uid = manager.add(workitem((ds.StudyInstanceUID, None)))
        manager.fail = lambda method, path: 503 if path.startswith("/studies") else None
        daemon = start(tmp_path, frontal_bundle, manager, **{"ups.give_up_s": 3})
        wait_until(lambda: finished(manager, uid), daemon, 90)
        assert manager.state(uid) == "CANCELED" and reason(manager, uid)[0] == "110501" and "503" in reason(manager, uid)[1]
        assert daemon.stop() == 0


def test_the_manager_is_told_who_asks(tmp_path, frontal_bundle):
    (tmp_path / "token").write_text("Bearer abc\n")
    ds = radiograph()
    with Manager(objects=[ds]) as manager:
        uid = manager.add(workitem((ds.StudyInstanceUID, None)))
        daemon = start(tmp_path, frontal_bundle, manager, **{"ups.authorization_file": tmp_path / "token"})
        wait_until(lambda: finished(manager, uid), daemon)
        told = {path.split("/")[1]: authorization for (_, path), authorization in zip(manager.log, manager.authorizations)}
        assert told["workitems"] == "Bearer abc" and told["studies"] is None
        assert "abc" not in daemon.log()
        assert daemon.stop() == 0


@pytest.mark.parametrize("options,message", [
    ({"ups.codes": ""}, "ups.manager needs ups.codes or ups.stations: which work items are ours"),
    ({"ups.codes": "CHEST"}, 'ups.codes: "CHEST" is no CODE^SCHEME or CODE^SCHEME=MODEL'),
    ({"ups.codes": "C^S=nobody"}, "ups.codes: there is no model named nobody"),
    ({"ups.stations": "A^B=C"}, 'ups.stations: "A^B=C" is no CODE^SCHEME'),
    ({"ups.outputs": "off"}, "ups.manager needs ups.outputs: where the results are stored"),
    ({"ups.outputs": "ftp://h"}, 'ups.outputs: "ftp://h" is no http(s)://host/path or dicom(s)://AE@host:port'),
    ({"ups.outputs": "dicoms://A@h:1"}, 'ups.outputs: "dicoms://A@h:1" needs dimse.tls_ca'),
    ({"ups.source": "other"}, 'ups.source: "other" is not in fetch.sources'),
    ({"fetch.sources": "off"}, "ups.manager needs a source in fetch.sources: where the inputs are"),
    ({"ups.manager": "http://u@h/"}, 'ups.manager: "http://u@h/" is no http(s)://host/path'),
    ({"ups.manager": "http://h/", "ups.authorization_file": "/x"}, "ups.authorization_file: ups.manager must be https, or this machine"),
])
def test_mistakes_of_the_configuration_are_named(tmp_path, frontal_bundle, options, message):
    arguments = {"ups.manager": "http://127.0.0.1:1/dicom-web", "ups.codes": "C^S", "ups.outputs": "http://127.0.0.1:1/dicom-web",
                 "fetch.sources": "pacs=http://127.0.0.1:1/dicom-web", **options}
    done = subprocess.run([bundles.PROGRAM, "serve", "--data.directory", tmp_path / "data", "--models.directories", frontal_bundle,
                           *[text for key, value in arguments.items() for text in (f"--{key}", value)]],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.skipif(not orthanc.available(), reason="Orthanc is not installed")
def test_inputs_by_c_get_and_results_by_c_store(tmp_path, frontal_bundle):
    ds, prior = radiograph(patient="P-1", date="20240501"), radiograph(patient="P-1", date="20230101")
    pacs = orthanc.Orthanc(tmp_path / "orthanc").start()
    for known in (ds, prior):
        pacs.store(part10(known))
    with Manager() as manager:
        destination = Dataset()
        storage = Dataset()
        storage.DestinationAE = "ORTHANC"
        destination.DICOMStorageSequence = [storage]
        uid = manager.add(workitem((ds.StudyInstanceUID, "ORTHANC"), OutputDestinationSequence=[destination]))
        address = f"dicom://ORTHANC@127.0.0.1:{pacs.dicom}"
        daemon = start(tmp_path / "d", frontal_bundle, manager, **{
            "fetch.sources": f"web={manager.url} pacs={address}", "ups.outputs": f"{manager.url} {address}"})
        wait_until(lambda: finished(manager, uid), daemon)
        assert manager.state(uid) == "COMPLETED" and not manager.stored
        outputs = performed(manager, uid).OutputInformationSequence
        assert {item.DICOMRetrievalSequence[0].RetrieveAETitle for item in outputs} == {"ORTHANC"}
        stored = {row["00080018"]["Value"][0] for row in pacs.instances(StudyInstanceUID=ds.StudyInstanceUID)}
        assert {item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in outputs} < stored
        [job] = daemon.get("/v1/jobs").json()["jobs"]
        result = daemon.get(f"/v1/jobs/{job['id']}/result").json()
        assert [frame["role"] for frame in result["study"]["frames"]] == ["prior", "current"]
        assert daemon.stop() == 0
    pacs.stop()
