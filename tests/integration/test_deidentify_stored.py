"""De-identification of what is stored: by configuration for all that comes, by an option for one job. Nothing in the data directory names the patient."""
import io
import json
import zipfile

import pydicom
import pytest
import requests

import daemon as daemons
from dicom_net import JSON, part10, radiograph, related
from fhir_server import wait_until
from test_commitment import ask, association, references, request, store
from test_deidentify import identifiers, run, telling
from test_dimse import start as start_dimse

ON = {"deidentify.stored": "on", "deidentify.dates": "shift"}


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    file = tmp_path_factory.mktemp("secret") / "secret"
    file.write_text("a secret of more than sixteen bytes\n")
    return file


def found_in(directory, wanted):
    """Which of these byte strings lie anywhere in the data directory."""
    found = set()
    for file in directory.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            found |= {text for text in wanted if text in data}
    return found


def push(daemon, *objects):
    body, kind = related([part10(ds) for ds in objects])
    return requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": JSON}, timeout=60)


def rows(daemon):
    answer = daemon.get("/dicom-web/instances", headers={"Accept": JSON})
    return answer.json() if answer.status_code == 200 else []


def ended(daemon, count):
    """So many jobs, when they have ended."""
    jobs = wait_until(lambda: len(j := daemon.get("/v1/jobs").json()["jobs"]) >= count and j, seconds=60)
    return [daemon.wait(f"/v1/jobs/{job['id']}") for job in jobs]


def test_what_comes_by_stow_names_nobody(tmp_path, frontal_bundle, secret):
    one, two, burned = telling(), telling(instance=2), radiograph(patient="PAT-3", BurnedInAnnotation="YES")
    daemon = daemons.Daemon(tmp_path, frontal_bundle, **{"intake.quiet_s": 1, "deidentify.secret_file": secret, **ON}).start()
    answer = push(daemon, one, burned)
    assert answer.status_code == 202
    [stored] = answer.json()["00081199"]["Value"]
    [failed] = answer.json()["00081198"]["Value"]
    assert stored["00081155"]["Value"] == [one.SOPInstanceUID] and failed["00081155"]["Value"] == [burned.SOPInstanceUID]
    assert "00081190" not in stored and "Burned In" in answer.headers["Warning"]
    assert push(daemon, one).status_code == 200  # the same again is known
    assert push(daemon, two).status_code == 200
    jobs = ended(daemon, 2)
    assert [job["state"] for job in jobs] == ["succeeded"] * 2
    made = rows(daemon)
    assert len(made) == 2 and {row["00100020"]["Value"][0][:5] for row in made} == {"ANON-"}
    assert len({row["00100020"]["Value"][0] for row in made}) == 1 and len({row["0020000D"]["Value"][0] for row in made}) == 2
    path = "/dicom-web/studies/{}/series/{}/instances/{}".format(*(made[0][tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")))
    body = daemon.get(path, headers={"Accept": "application/dicom"})
    ds = pydicom.dcmread(io.BytesIO(body.content))
    assert ds.PatientIdentityRemoved == "YES" and [c.CodeValue for c in ds.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    assert daemon.stop() == 0
    wanted = {*identifiers(one), *identifiers(two), *identifiers(burned)}
    assert found_in(tmp_path / "data", wanted) == set() and b"Mustermann" in wanted


def test_what_comes_by_c_store_is_committed_under_the_senders_uids(tmp_path, frontal_bundle, secret):
    ds, never = telling(), radiograph()
    daemon = start_dimse(tmp_path, frontal_bundle, **{"intake.quiet_s": 3000, "deidentify.secret_file": secret, **ON})
    with association(daemon) as (made, reports):
        assert store(made, ds) == 0 and store(made, ds) == 0
        assert store(made, radiograph(BurnedInAnnotation="YES")) not in (0, 0x0110)
        assert ask(made, request(ds, never)) == 0
        report = reports.get(timeout=20)[1]
        assert references(report.ReferencedSOPSequence) == {ds.SOPInstanceUID: 0}
        assert references(report.FailedSOPSequence) == {never.SOPInstanceUID: 0x0112}
        assert ask(made, request(ds)) == 0  # all of it: the study need not wait
    assert ended(daemon, 1)[0]["state"] == "succeeded"
    assert daemon.stop() == 0
    assert found_in(tmp_path / "data", set(identifiers(ds))) == set()


def test_one_job_can_ask_for_it(tmp_path, frontal_bundle, secret):
    ds = telling()
    daemon = daemons.Daemon(tmp_path, frontal_bundle, **{"deidentify.secret_file": secret}).start()
    headers = {"Idempotency-Key": "k-1", "Prefer": "wait=30"}
    answer = daemon.post(dicom=[part10(ds)], options='{"deidentify": true}', headers=headers)
    assert answer.status_code == 200, answer.text
    study = answer.json()["study"]["study_instance_uid"]
    assert study != ds.StudyInstanceUID and study.startswith("2.25.")
    again = daemon.post(dicom=[part10(ds)], options='{"deidentify": true}', headers=headers)
    assert again.status_code == 202 and again.headers["Location"].endswith(answer.json()["job"])  # it is the same upload
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.dcm", part10(ds))
    ehr = json.dumps({"resourceType": "Bundle", "type": "collection", "entry": []})
    for arguments, reason in (
            (dict(dicom=[zipped.getvalue()]), "part 1: a zip cannot be de-identified: send its files as parts"),
            (dict(dicom=[part10(ds)], ehr=ehr), "FHIR data cannot be used with objects that are de-identified: it says who the patient is"),
            (dict(dicom=[part10(radiograph(BurnedInAnnotation="YES"))]),
             "part 1: it says that its pixels hold identifying text (Burned In Annotation)")):
        refused = daemon.post(options='{"deidentify": true}', **arguments)
        assert refused.status_code == 422 and refused.json()["detail"] == reason
    assert daemon.post(dicom=[part10(ds)], options='{"deidentify": 1}').status_code == 422
    assert len(daemon.get("/v1/jobs").json()["jobs"]) == 1
    assert daemon.stop() == 0
    assert found_in(tmp_path / "data", set(identifiers(ds))) == set()


def test_with_the_key_every_upload_is(tmp_path, frontal_bundle, secret):
    ds = telling()
    daemon = daemons.Daemon(tmp_path, frontal_bundle, **{"deidentify.secret_file": secret, **ON}).start()
    answer = daemon.post(dicom=[part10(ds)], headers={"Prefer": "wait=30"})
    assert answer.status_code == 200 and answer.json()["study"]["study_instance_uid"].startswith("2.25.")
    assert daemon.stop() == 0
    assert found_in(tmp_path / "data", set(identifiers(ds))) == set()


def test_without_a_secret_it_is_not_offered(daemon):
    answer = daemon.post(dicom=[part10(radiograph())], options='{"deidentify": true}')
    assert answer.status_code == 422 and "deidentify.secret_file" in answer.json()["detail"]


@pytest.mark.parametrize("options,message", [
    ({"deidentify.stored": "on"}, "deidentify.secret_file: is needed to de-identify what is stored"),
    ({"deidentify.stored": "yes"}, "deidentify.stored: must be off or on"),
    ({"deidentify.stored": "on", "fetch.sources": "a=dicom://A@h:1?move", "dimse.listen": "127.0.0.1:0"},
     "deidentify.stored: on does not go with a source of fetch.sources with ?move"),
])
def test_a_configuration_that_cannot_hold_is_refused(tmp_path, frontal_bundle, options, message):
    arguments = [text for pair in options.items() for text in (f"--{pair[0]}", pair[1])]
    done = run("serve", "--data.directory", tmp_path / "d", "--models.directories", frontal_bundle, *arguments)
    assert done.returncode == 2 and done.stderr.strip().endswith(message)
