"""Payloads in a bucket: kept before the answer, read and purged from there, whole, in parts or in ranges; nothing lost or doubled whatever
is killed or fails; nobody else's credentials. The server verifies every signature and digest (s3_server.py)."""
import io
import os
import random
import re
import time

import numpy as np
import pydicom
import pytest
import requests

import bad_input
import certificates
import daemon as daemons
import s3_server
import test_kill
import test_vault
from fhir_server import wait_until
from test_tenants import stow_body

NAME = re.compile(r"[0-9a-f]{32}")
KILLS = int(os.environ.pop("MEDFUSION_TEST_S3_KILLS", "12"))


@pytest.fixture
def server():
    made = s3_server.Server()
    yield made
    made.stop()
    assert not made.refused


def write_credentials(directory):
    file = directory / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {s3_server.ID}\naws_secret_access_key = {s3_server.SECRET}\n")
    return file


@pytest.fixture
def credentials(tmp_path):
    return write_credentials(tmp_path)


def options(server, credentials, prefix="", **more):
    return {"payloads.s3": f"{server.url}/{s3_server.BUCKET}{prefix}", "payloads.s3_region": s3_server.REGION, "payloads.s3_credentials": credentials,
            "payloads.s3_timeout_s": 10, **more}


def start(directory, bundle, *arguments, **more):
    return daemons.Daemon(directory / "d", bundle, **options(*arguments, **more)).start()


def run(daemon, image=None):
    """A job that has succeeded."""
    done = daemon.post([image or daemons.sample()[-1]], headers={"Prefer": "wait=60"})
    assert done.status_code == 200, (done.text, daemon.log())
    return done.json()["job"]


def left(daemon):
    """Files that payloads have left on this machine."""
    return [path.name for name in ("staging", "payloads") for path in (daemon.directory / "data" / name).iterdir() if path.stat().st_size > 0]


def test_a_job_lives_in_the_bucket(tmp_path, frontal_bundle, server, credentials):
    daemon = start(tmp_path, frontal_bundle, server, credentials, "/hospital/north")
    job = run(daemon)
    [name] = server.names()
    assert name.startswith("hospital/north/") and NAME.fullmatch(name.removeprefix("hospital/north/"))
    assert daemons.sample()[-1] in server.read(name) and left(daemon) == []
    assert daemon.get(f"/v1/jobs/{job}/frames/0").status_code == 200  # reads it again
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.get(f"/v1/jobs/{job}/frames/0").status_code == 200
    assert daemon.delete(f"/v1/jobs/{job}/data").status_code == 204 and server.names() == []
    assert daemon.stop() == 0


def test_stored_instances_are_read_in_ranges(tmp_path, frontal_bundle, server, credentials):
    daemon = start(tmp_path, frontal_bundle, server, credentials, **{"intake.quiet_s": 3600})
    body, kind = stow_body(daemons.sample())
    stored = requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": "application/dicom+json"}, timeout=60)
    assert stored.status_code == 200, stored.text
    server.requests.clear()
    found = daemon.get("/dicom-web/instances", headers={"Accept": "application/dicom+json"}).json()
    place = [found[0][tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
    picture = daemon.get("/dicom-web/studies/{}/series/{}/instances/{}/rendered".format(*place), headers={"Accept": "image/jpeg"})
    assert picture.status_code == 200 and picture.content[:2] == b"\xff\xd8"
    assert [method for method, _, _ in server.requests] == ["GET"]
    assert len(server.names()) == 1
    assert daemon.stop() == 0


def large_image():
    """The sample's newest image, 25 times as large: 13 MB."""
    ds = pydicom.dcmread(bad_input.NEWEST)
    pixels = np.tile(ds.pixel_array.astype(np.uint16), (5, 5))
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.PixelData = 16, pixels.tobytes()
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_what_is_large_goes_in_parts(tmp_path, frontal_bundle, server, credentials):
    daemon = start(tmp_path, frontal_bundle, server, credentials, **{"payloads.s3_part_bytes": 5 << 20})
    image = large_image()
    job = run(daemon, image)
    puts = [query for method, _, query in server.requests if method == "PUT"]
    posts = [query.split("=")[0] for method, _, query in server.requests if method == "POST"]
    assert len(puts) == -(-len(image) // (5 << 20)) and all(query.startswith(f"partNumber={n + 1}&uploadId=") for n, query in enumerate(puts))
    assert posts == ["uploads", "uploadId"]
    [name] = server.names()
    assert server.read(name).rstrip(b"\0") == image.rstrip(b"\0") and server.uploads() == []
    assert daemon.get(f"/v1/jobs/{job}/frames/0").status_code == 200
    server.faults.append(lambda method, path, query: 400 if query.startswith("partNumber=2") else None)
    refused = daemon.post([image])
    assert refused.status_code == 503 and server.uploads() == [] and len(server.names()) == 1  # what was begun is taken back
    assert daemon.stop() == 0


def test_encrypted_payloads_stay_encrypted(tmp_path, frontal_bundle, server, credentials):
    keys = tmp_path / "vault.json"
    assert test_vault.vault("add", keys).returncode == 0
    daemon = start(tmp_path, frontal_bundle, server, credentials, **{"data.keys": keys, "intake.quiet_s": 3600})
    job = run(daemon)
    body, kind = stow_body(daemons.sample())
    assert requests.post(daemon.url + "/dicom-web/studies", data=body, headers={"Content-Type": kind, "Accept": "application/dicom+json"}, timeout=60).status_code == 200
    for name in server.names():
        kept = server.read(name)
        assert kept.startswith(b"MFPACK1") and not any(text in kept for text in test_vault.canaries())
    assert daemon.get(f"/v1/jobs/{job}/frames/0").status_code == 200
    for instance in daemon.get("/dicom-web/instances", headers={"Accept": "application/dicom+json"}).json():  # by ranges: header, pieces, the last one
        place = [instance[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
        assert daemon.get("/dicom-web/studies/{}/series/{}/instances/{}/rendered".format(*place), headers={"Accept": "image/jpeg"}).status_code == 200
    assert daemon.stop() == 0


def test_what_passes_is_tried_again(tmp_path, frontal_bundle, server, credentials):
    daemon = start(tmp_path, frontal_bundle, server, credentials)
    faults = [503, 500, "cut"]
    server.faults.append(lambda method, path, query: faults.pop(0) if faults and method in ("PUT", "GET") else None)
    run(daemon)
    assert not faults and len(server.names()) == 1
    assert daemon.stop() == 0


def test_while_the_bucket_is_away_nothing_is_accepted(tmp_path, frontal_bundle, server, credentials):
    daemon = start(tmp_path, frontal_bundle, server, credentials)
    server.faults.append(lambda *_: 503)
    refused = daemon.post(daemons.sample()[-1:])
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) > 0
    assert refused.json()["detail"] == "payloads.s3: the server answered 503"
    server.faults.clear()
    assert daemon.get("/v1/jobs").json()["jobs"] == [] and server.names() == []
    run(daemon)  # it goes on by itself
    assert daemon.stop() == 0


def test_damaged_bytes_are_noticed(tmp_path, frontal_bundle, server, credentials):
    daemon = start(tmp_path, frontal_bundle, server, credentials)
    server.faults.append(lambda method, path, query: "flip" if method == "GET" else None)
    job = daemon.wait(daemon.post(daemons.sample()[-1:]).headers["Location"])
    assert job["state"] == "failed" and "it is not what was put" in daemon.log(), job  # 20 losses: a payload may come back
    assert daemon.stop() == 0


def test_credentials_are_renewed_and_refusals_told(tmp_path, frontal_bundle, server, credentials):
    daemon = start(tmp_path, frontal_bundle, server, credentials)
    run(daemon)
    server.keys = {"AKIANEWNEWNEWNEWNEW1": ("another/secret", "a session=="), s3_server.ID: ("no longer this", None)}
    refused = daemon.post(daemons.sample()[-1:])
    assert refused.status_code == 503 and refused.json()["detail"] == "payloads.s3: the server answered 403"
    credentials.write_text("aws_access_key_id=AKIANEWNEWNEWNEWNEW1\naws_secret_access_key=another/secret\naws_session_token=a session==\n".replace("a session", "a-session"))
    server.keys["AKIANEWNEWNEWNEWNEW1"] = ("another/secret", "a-session==")
    run(daemon)
    assert "canary" not in daemon.log() and "another/secret" not in daemon.log()
    server.refused.clear()
    assert daemon.stop() == 0


def test_a_wrong_secret_is_refused_by_the_server(tmp_path, frontal_bundle, server, credentials):
    """The control: the server that these tests trust takes nothing that is not signed as it should be."""
    credentials.write_text(credentials.read_text().replace("canary", "kanary"))
    daemon = start(tmp_path, frontal_bundle, server, credentials)
    assert daemon.post(daemons.sample()[-1:]).status_code == 503
    assert set(server.refused) == {"SignatureDoesNotMatch"}
    server.refused.clear()
    assert daemon.stop() == 0


def test_over_tls_with_an_authority_of_ones_own(tmp_path, frontal_bundle, credentials):
    ca = certificates.Authority(tmp_path)
    server = s3_server.Server(tuple(map(str, ca.issue("server"))))
    daemon = start(tmp_path, frontal_bundle, server, credentials, **{"payloads.s3_ca": ca.certificate})
    run(daemon)
    assert daemon.stop() == 0
    stranger = start(tmp_path, frontal_bundle, server, credentials)
    assert stranger.post(daemons.sample()[-1:]).status_code == 503
    assert stranger.stop() == 0
    server.stop()


def test_earlier_payloads_of_the_directory_are_still_there(tmp_path, frontal_bundle, server, credentials):
    before = daemons.Daemon(tmp_path / "d", frontal_bundle).start()
    job = run(before)
    assert before.stop() == 0
    daemon = start(tmp_path, frontal_bundle, server, credentials)
    assert daemon.get(f"/v1/jobs/{job}/frames/0").status_code == 200 and server.names() == []
    assert daemon.delete(f"/v1/jobs/{job}/data").status_code == 204 and left(daemon) == []
    run(daemon)
    assert len(server.names()) == 1
    assert daemon.stop() == 0


def test_what_nobody_refers_to_is_swept(tmp_path, frontal_bundle, server, credentials):
    """An object whose upload was never committed, an upload in parts that was never ended, a file of a killed process; not what is no payload."""
    daemon = start(tmp_path, frontal_bundle, server, credentials, "/north")
    job = run(daemon)
    [used] = server.names()
    assert daemon.stop() == 0
    orphan, foreign = "north/" + "0" * 32, "north/notes.txt"
    for name in (orphan, foreign, "south/" + "1" * 32):
        server.keep(lambda client, name=name: client.put_object(Bucket=s3_server.BUCKET, Key=name, Body=b"x"))
    server.keep(lambda client: client.create_multipart_upload(Bucket=s3_server.BUCKET, Key=orphan))
    staged = daemon.directory / "data/staging" / ("2" * 32)
    staged.write_bytes(b"x")
    os.utime(staged, (time.time() - 7200,) * 2)
    server.age(7200)
    daemon.options["data.orphan_age_s"] = 60
    daemon.start()
    assert wait_until(lambda: orphan not in server.names() and server.uploads() == [], 60), daemon.log()
    assert sorted(server.names()) == sorted([used, foreign, "south/" + "1" * 32]) and not staged.exists()
    assert daemon.get(f"/v1/jobs/{job}/frames/0").status_code == 200
    assert daemon.stop() == 0


@pytest.mark.parametrize("key, value, reason", [
    ("payloads.s3", "s3://payloads", 'payloads.s3: "s3://payloads" is not https://host/bucket'),
    ("payloads.s3", "http://elsewhere.example.org/payloads", "(http on this machine only)"),
    ("payloads.s3_credentials", "/nonexistent", "payloads.s3_credentials: /nonexistent: No such file or directory"),
    ("payloads.s3_credentials", "off", "payloads.s3 needs payloads.s3_credentials, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"),
    ("payloads.s3_part_bytes", 1000, "payloads.s3_part_bytes"),
])
def test_what_is_wrong_is_refused_at_the_start(tmp_path, frontal_bundle, credentials, key, value, reason):
    given = {"payloads.s3": "https://localhost/payloads", "payloads.s3_credentials": credentials, key: value}
    with pytest.raises(RuntimeError) as refused:
        daemons.Daemon(tmp_path / "d", frontal_bundle, **given).start()
    assert reason in str(refused.value)


def test_nothing_is_lost_or_doubled_when_processes_are_killed(tmp_path, frontal_bundle, server, credentials):
    """As in test_kill.py, while the bucket fails now and then: every job that was accepted succeeds, once, and its payload is in the bucket."""
    chance = random.Random(11)
    server.faults.append(lambda *_: 503 if chance.random() < 0.05 else None)
    running = daemons.Daemon(tmp_path / "d", frontal_bundle, **options(server, credentials, **{"jobs.max_queued": 200, "jobs.max_losses": 1000})).start()
    clients = [test_kill.Client(running, seed) for seed in range(2)]
    for client in clients:
        client.start()
    for _ in range(KILLS):
        role = chance.choice(("mf-front", "mf-worker", "mf-store"))
        test_kill.wait_until_back(running, role)
        time.sleep(chance.uniform(0, 0.8))
        running.kill(role)
    for client in clients:
        client.stopping.set()
    test_kill.wait_until_ready(running)
    for client in clients:
        client.join()
    server.faults.clear()
    accepted = {key: addresses for client in clients for key, addresses in client.accepted.items()}
    assert accepted and not any(client.surprises for client in clients), [client.surprises for client in clients]
    assert all(len(addresses) == 1 for addresses in accepted.values())
    for addresses in accepted.values():
        job = running.wait(min(addresses), 180)
        assert job["state"] == "succeeded", job
    assert running.stop() == 0
    jobs, results = (int(running.rows(f"SELECT count(*) FROM {table}")[0][0]) for table in ("jobs", "results"))
    locators = {row[0] for row in running.rows("SELECT locator FROM inputs")}
    assert jobs == results == len(accepted) and locators <= set(server.names())
