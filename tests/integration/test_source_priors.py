"""Priors of studies that were pushed: a source is asked before the job runs, within a time, and a source that fails costs the priors only."""
import time

import pytest
import requests

import daemon as daemons
import orthanc
from dicom_net import JSON, part10, radiograph, related, wait_for_study
from ups_manager import Manager

WITHOUT = "priors_unavailable"


def push(daemon, *objects):
    body, kind = related([part10(ds) for ds in objects])
    answer = requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=60)
    assert answer.status_code == 200, answer.text


def start(directory, bundle, source, **options):
    return daemons.Daemon(directory, bundle, **{"intake.quiet_s": 1, "fetch.sources": f"pacs={source}", **options}).start()


def result(daemon, ds):
    job = daemon.wait(f"/v1/jobs/{wait_for_study(daemon, ds.StudyInstanceUID)['jobs'][0]}")
    assert job["state"] == "succeeded", job
    return daemon.get(f"/v1/jobs/{job['id']}/result").json()


def frames(document):
    return [(frame["study_instance_uid"], frame["role"]) for frame in document["study"]["frames"]]


def test_the_source_is_asked_for_what_is_not_here(tmp_path, frontal_bundle):
    current, stored, older = (radiograph(date=date) for date in ("20240501", "20230101", "20200101"))
    others = [radiograph(patient="P-2", date="20190101"), radiograph(date="20250101")]
    with Manager(objects=[stored, older, *others]) as archive:  # the study itself has not arrived there
        daemon = start(tmp_path, frontal_bundle, archive.url)
        push(daemon, stored)
        first = result(daemon, stored)
        assert frames(first) == [(older.StudyInstanceUID, "prior"), (stored.StudyInstanceUID, "current")]
        archive.log.clear()
        push(daemon, current)
        document = result(daemon, current)
        assert frames(document) == [(older.StudyInstanceUID, "prior"), (stored.StudyInstanceUID, "prior"), (current.StudyInstanceUID, "current")]
        assert WITHOUT not in document["quality"]["flags"]
        fetched = [path for _, path in archive.log if path.startswith("/studies/")]
        assert fetched == [f"/studies/{older.StudyInstanceUID}"]  # what is here is not fetched again
        assert daemon.stop() == 0


@pytest.mark.skipif(not orthanc.available(), reason="Orthanc is not installed")
def test_a_pacs_is_asked_by_c_find_and_c_get(tmp_path, frontal_bundle):
    current, older = radiograph(date="20240501"), radiograph(date="20200101")
    pacs = orthanc.Orthanc(tmp_path / "orthanc").start()
    pacs.store(part10(older))
    daemon = start(tmp_path / "d", frontal_bundle, f"dicom://ORTHANC@127.0.0.1:{pacs.dicom}")
    push(daemon, current)
    assert frames(result(daemon, current)) == [(older.StudyInstanceUID, "prior"), (current.StudyInstanceUID, "current")]
    assert daemon.stop() == 0
    pacs.stop()


def test_no_more_than_the_site_allows(tmp_path, frontal_bundle):
    current, *earlier = (radiograph(date=f"20{year}0101") for year in (24, 23, 22, 21))
    with Manager(objects=earlier) as archive:
        daemon = start(tmp_path, frontal_bundle, archive.url, **{"fetch.max_priors": 2})
        push(daemon, current)
        assert [uid for uid, _ in frames(result(daemon, current))] == [ds.StudyInstanceUID for ds in (earlier[1], earlier[0], current)]
        assert daemon.stop() == 0


@pytest.mark.parametrize("what", ["down", "slow", "refuses", "breaks off"])
def test_a_source_that_fails_costs_the_priors_only(tmp_path, frontal_bundle, what):
    current, second = radiograph(date="20240501"), radiograph(date="20240502")
    with Manager(objects=[radiograph(date="20230101")]) as archive:
        if what == "down":
            archive.close()
        archive.fail = {"slow": lambda method, path: time.sleep(5), "refuses": lambda method, path: 500,
                        "breaks off": lambda method, path: "lost" if path.startswith("/studies/") else None}.get(what, archive.fail)
        daemon = start(tmp_path, frontal_bundle, archive.url, **{"fetch.priors_timeout_s": 2})
        push(daemon, current)
        document = result(daemon, current)
        assert frames(document) == [(current.StudyInstanceUID, "current")] and WITHOUT in document["quality"]["flags"]
        asked = len(archive.log)
        push(daemon, second)  # stored priors are used, and the source is left alone for a while
        document = result(daemon, second)
        assert frames(document) == [(current.StudyInstanceUID, "prior"), (second.StudyInstanceUID, "current")]
        assert WITHOUT in document["quality"]["flags"] and len(archive.log) == asked
        assert daemon.log().count("study.priors_failed") == 2
        assert daemon.stop() == 0


def test_it_can_be_left_out(tmp_path, frontal_bundle):
    current = radiograph(date="20240501")
    with Manager(objects=[radiograph(date="20230101")]) as archive:
        daemon = start(tmp_path, frontal_bundle, archive.url, **{"fetch.priors_timeout_s": 0})
        push(daemon, current)
        document = result(daemon, current)
        assert frames(document) == [(current.StudyInstanceUID, "current")] and WITHOUT not in document["quality"]["flags"]
        assert not archive.log
        assert daemon.stop() == 0


def test_no_client_can_say_so_itself(daemon):
    answer = daemon.post(dicom=[part10(radiograph())], options=f'{{"{WITHOUT}": true}}')
    assert answer.status_code == 422 and WITHOUT in answer.json()["detail"]
