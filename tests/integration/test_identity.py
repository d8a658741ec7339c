"""Whose FHIR data may be used for a study: ehr.identifier_systems and ehr.mismatch."""
import subprocess

import pytest

import bad_input
import bundles
import daemon as daemons

IMAGE = bad_input.NEWEST.read_bytes()
EHR = (bad_input.SAMPLE / "ehr.json").read_bytes()


def result(daemon, ehr):
    answer = daemon.post(dicom=[IMAGE], ehr=ehr, headers={"Prefer": "wait=60"})
    return answer.status_code, answer.json()


def used_fhir(document):
    return any((f["source"] or "").startswith(("Patient/", "Observation/")) for f in document["ehr"]["features"])


@pytest.mark.parametrize("systems, own", [("off", True), ("urn:oid:1.2.3 urn:medfusion:nih-cxr14", True), ("urn:oid:1.2.3", False)])
def test_a_site_may_have_mismatches_reported(tmp_path, frontal_bundle, systems, own):
    options = {"ehr.mismatch": "report", "ehr.identifier_systems": systems}
    running = daemons.Daemon(tmp_path / "d", frontal_bundle, **options).start()
    try:
        status, document = result(running, EHR)
        assert status == 200 and used_fhir(document) == own
        assert ("ehr_of_another_patient" in document["quality"]["flags"]) == (not own)
        status, document = result(running, bad_input.ehr_of_another_patient())
        assert status == 200 and not used_fhir(document) and "ehr_of_another_patient" in document["quality"]["flags"]
    finally:
        assert running.stop() == 0


def test_systems_that_do_not_count_are_refused(tmp_path, frontal_bundle):
    running = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"ehr.identifier_systems": "https://other.example/mrn"}).start()
    try:
        status, problem = result(running, EHR)
        assert status == 422 and "no identifier of a configured system" in problem["detail"]
    finally:
        assert running.stop() == 0


def test_a_wrong_word_is_told_at_once(tmp_path, frontal_bundle):
    done = subprocess.run([bundles.PROGRAM, "serve", "--data.directory", tmp_path / "data", "--models.directories", frontal_bundle,
                           "--ehr.mismatch", "ignore"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (2, "medfusion serve: ehr.mismatch: must be refuse or report\n")
