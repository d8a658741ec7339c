"""Encryption at rest: no patient data in the data directory, keys that change, and clear errors for keys that are wrong or missing."""
import json
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
import requests

import bad_input
import bundles
import daemon as daemons
from dicom_net import radiograph

of_sqlite = pytest.mark.skipif(daemons.ON_POSTGRESQL, reason=daemons.OF_SQLITE)
IMAGE = bad_input.NEWEST.read_bytes()
EHR = (bad_input.SAMPLE / "ehr.json").read_text()


def vault(*arguments):
    return subprocess.run([bundles.PROGRAM, "vault", *arguments], capture_output=True, text=True, timeout=120, check=False)


def canaries():
    """What identifies the sample patient and would be found in plain files: texts of the image's header and of the FHIR data."""
    import pydicom
    header = pydicom.dcmread(bad_input.NEWEST, stop_before_pixels=True)
    patient = next(e["resource"] for e in json.loads(EHR)["entry"] if e["resource"]["resourceType"] == "Patient")
    found = {str(header.PatientID), str(header.StudyInstanceUID), str(header.SOPInstanceUID), patient["id"], "study_instance_uid", '"resourceType"', "DICM", "SQLite format 3"}
    return {text.encode() for text in found if len(text) > 3}


def leaks(directory):
    """Which canaries are in which files."""
    return {(path.name, text) for path in pathlib.Path(directory).rglob("*") if path.is_file() for text in canaries() if text in path.read_bytes()}


def post(daemon):
    return daemon.post([IMAGE], ehr=EHR, headers={"Prefer": "wait=60"})


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "vault.json"
    assert vault("add", file).returncode == 0
    return file


@of_sqlite
def test_nothing_of_a_patient_is_on_the_disk(tmp_path, keys, frontal_bundle):
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"data.keys": keys}).start()
    data = daemon.directory / "data"
    result = post(daemon)
    assert result.status_code == 200
    job = result.json()["job"]
    assert leaks(data) == set()  # with what is still in the database's log
    daemon.kill("mf-store", signal.SIGKILL)  # it comes back with its log
    again = daemon.get(f"/v1/jobs/{job}/result")
    assert again.json() == result.json()
    for path in ("artifacts/sr", "frames/0"):
        assert daemon.get(f"/v1/jobs/{job}/{path}").status_code == 200
    assert daemon.stop() == 0
    assert leaks(data) == set()
    report = vault("status", data).stdout.split()
    assert report[1:] == ["1", "payloads,", "the", "database"]
    assert daemon.start().get(f"/v1/jobs/{job}/result").json() == result.json()
    assert daemon.stop() == 0


@of_sqlite
def test_without_keys_the_canaries_are_found(tmp_path, frontal_bundle):
    """The control: this is what the test above would see."""
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle).start()
    assert post(daemon).status_code == 200 and daemon.stop() == 0
    assert {text for _, text in leaks(daemon.directory / "data")} == canaries()


def test_stored_instances_are_encrypted_and_come_back(tmp_path, keys, frontal_bundle):
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"data.keys": keys, "intake.quiet_s": 1}).start()
    boundary = "part"
    body = b"--part\r\nContent-Type: application/dicom\r\n\r\n" + IMAGE + b"\r\n--part--\r\n"
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}', "Accept": "application/dicom+json"}
    for _ in range(2):  # the second finds the first and compares
        stored = requests.post(daemon.url + "/dicom-web/studies", data=body, headers=headers, timeout=60)
        assert stored.status_code == 200, stored.text
    study = stored.json()["00081190"]["Value"][0]
    path = study[study.index("/dicom-web"):]
    back = daemon.get(path, headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'})
    assert back.status_code == 200 and IMAGE[132:4000] in back.content
    deadline = time.monotonic() + 60
    while not daemon.get("/v1/jobs?state=succeeded").json()["jobs"] and time.monotonic() < deadline:
        time.sleep(0.2)
    assert daemon.get("/v1/jobs?state=succeeded").json()["jobs"]
    assert leaks(daemon.directory / "data") == set()
    assert daemon.stop() == 0


def test_all_objects_of_an_association_are_encrypted_and_come_back(tmp_path, keys, frontal_bundle):
    from pynetdicom import AE

    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{
        "data.keys": keys, "intake.quiet_s": 3600, "dimse.listen": "127.0.0.1:0", "dimse.allow": "MODALITY"}).start()
    events = [json.loads(line) for line in daemon.log().splitlines()]
    port = next(int(e["address"].rsplit(":", 1)[1]) for e in events if e.get("event") == "dimse.listening")
    objects = [radiograph(patient="CANARY-7", InstanceNumber=i) for i in range(4)]
    caller = AE(ae_title="MODALITY")
    caller.add_requested_context(objects[0].SOPClassUID, objects[0].file_meta.TransferSyntaxUID)
    association = caller.associate("127.0.0.1", port, ae_title="MEDFUSION")
    assert [association.send_c_store(ds).Status for ds in objects] == [0] * 4
    association.release()
    for ds in objects:
        path = f"/dicom-web/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
        answer = daemon.get(path, headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'})
        assert answer.status_code == 200 and ds.PixelData in answer.content
    assert daemon.stop() == 0
    stored = [path.read_bytes() for path in (daemon.directory / "data").rglob("*") if path.is_file()]
    assert not any(b"CANARY-7" in data for data in stored)


@of_sqlite
def test_keys_change_while_the_daemon_runs(tmp_path, keys, frontal_bundle):
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"data.keys": keys}).start()
    data = daemon.directory / "data"
    first = vault("status", data).stdout.split()[0]
    job = post(daemon).json()["job"]
    second = vault("add", keys).stdout.strip()
    assert subprocess.run([bundles.PROGRAM, "reload", data], capture_output=True, timeout=120, check=False).returncode == 0
    done = vault("rewrap", "--keys", keys, data)
    assert done.returncode == 0 and int(done.stdout.removesuffix(" wrapped anew\n")) >= 2  # the pack and the database, and what is made ahead
    assert daemon.get(f"/v1/jobs/{job}/frames/0").status_code == 200
    daemon.kill("mf-store", signal.SIGKILL)  # the next one opens the database with the new key
    assert post(daemon).status_code == 200
    assert daemon.stop() == 0
    assert {line.split()[0] for line in vault("status", data).stdout.splitlines()} == {second} != {first}
    kept = json.loads(keys.read_text())
    kept["keys"] = [key for key in kept["keys"] if key["id"] == second]
    keys.write_text(json.dumps(kept))  # the old key is not needed any more
    assert daemon.start().get(f"/v1/jobs/{job}/frames/0").status_code == 200
    assert daemon.stop() == 0
    assert vault("rewrap", "--keys", keys, data).stdout == "0 wrapped anew\n"


def refusal(directory, model, *options):
    done = subprocess.run([bundles.PROGRAM, "serve", "--data.directory", directory, "--models.directories", model, "--http.listen", "127.0.0.1:0", *options],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    return done.stderr


@of_sqlite
def test_a_wrong_or_missing_key_is_told(tmp_path, keys, frontal_bundle):
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"data.keys": keys}).start()
    data = daemon.directory / "data"
    assert post(daemon).status_code == 200 and daemon.stop() == 0
    assert f"{data}: what is stored there is encrypted: set data.keys" in refusal(data, frontal_bundle)
    stranger = tmp_path / "stranger.json"
    vault("add", stranger)
    id = json.loads(keys.read_text())["keys"][0]["id"]
    assert f'store.db: is encrypted with the key \\"{id}\\", which is not in the key file' in refusal(data, frontal_bundle, "--data.keys", stranger)
    other = json.loads(stranger.read_text())
    other["keys"][0]["id"] = id
    stranger.write_text(json.dumps(other))
    assert f'store.db: cannot be decrypted: it is damaged, or the key \\"{id}\\" is another one' in refusal(data, frontal_bundle, "--data.keys", stranger)
    stranger.chmod(0o644)
    assert "others than its owner may read" in refusal(data, frontal_bundle, "--data.keys", stranger)
    assert "No such file" in refusal(data, frontal_bundle, "--data.keys", tmp_path / "nothing")
    audit = subprocess.run([bundles.PROGRAM, "audit", "verify", data], capture_output=True, text=True, check=False)
    assert audit.returncode == 2 and "what is stored there is encrypted" in audit.stderr and "--keys" in audit.stderr
    assert "rows are intact" in subprocess.run([bundles.PROGRAM, "audit", "verify", "--keys", keys, data], capture_output=True, text=True, check=True).stdout


def test_a_changed_payload_is_not_used(tmp_path, keys, frontal_bundle):
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"data.keys": keys}).start()
    job = post(daemon).json()["job"]
    [pack] = [p for p in (daemon.directory / "data/payloads").iterdir() if p.stat().st_size > 4096 + 16 and len(p.read_bytes()) > 10000]
    data = bytearray(pack.read_bytes())
    data[9000] ^= 1
    pack.write_bytes(data)
    answer = daemon.get(f"/v1/jobs/{job}/frames/0")
    assert answer.status_code >= 500 and "is damaged" in answer.json()["detail"]
    assert daemon.stop() == 0


@of_sqlite
def test_what_was_in_plain_is_encrypted(tmp_path, keys, frontal_bundle):
    daemon = daemons.Daemon(tmp_path / "d", frontal_bundle).start()
    data = daemon.directory / "data"
    result = post(daemon).json()
    busy = vault("seal", "--keys", keys, data)
    assert busy.returncode == 1 and "a daemon works there: stop it first" in busy.stderr
    assert daemon.stop() == 0
    assert "not encrypted: medfusion vault seal" in refusal(data, frontal_bundle, "--data.keys", keys)
    copy = tmp_path / "copy"
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("*.sock"))
    done = vault("seal", "--keys", keys, data)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith(" encrypted\n")
    assert leaks(data) == set()
    assert vault("seal", "--keys", keys, data).stdout == "0 encrypted\n"
    # interrupted after the key was made: the database is still in plain
    shutil.copy(data / "store.key", copy)
    assert vault("seal", "--keys", keys, copy).returncode == 0 and leaks(copy) == set()
    for directory in (data, copy):
        daemon = daemons.Daemon(tmp_path / directory.name, frontal_bundle, **{"data.keys": keys, "data.directory": directory}).start()
        assert daemon.get(f"/v1/jobs/{result['job']}/result").json() == result
        assert daemon.get(f"/v1/jobs/{result['job']}/frames/0").status_code == 200
        assert daemon.stop() == 0


@pytest.mark.parametrize("arguments, message", [
    ((), "add FILE, status DIRECTORY, rewrap or seal DIRECTORY, see --help"), (("rewrap", "x"), "--keys FILE is missing"),
    (("seal", "--keys", "nothing", "x"), "nothing: No such file"), (("add", "a", "b"), "see --help")])
def test_wrong_use_of_the_command(arguments, message):
    done = vault(*arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
