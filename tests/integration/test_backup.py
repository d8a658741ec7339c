"""`medfusion backup` while clients post without pause, then everything is destroyed, `medfusion restore`: every job that was accepted before the
backup began is there, is run if it had not been, with its result and payload; on both kinds of database, encrypted, and with payloads in a bucket."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

import pytest

import bundles
import daemon as daemons
import postgres
import s3_server
import test_kill
import test_s3

CLIENTS = 2

of_sqlite = pytest.mark.skipif(daemons.ON_POSTGRESQL, reason=daemons.OF_SQLITE)


def run(*arguments, expected=0):
    done = subprocess.run([str(a) for a in (bundles.PROGRAM, *arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout + done.stderr


def wait_until(what, true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Kind:
    """One kind of store: where its daemon works, and how it is destroyed."""

    def __init__(self, directory, model, name):
        self.directory, self.model, self.name = directory, model, name
        self.cluster, self.options, self.bucket = None, {"jobs.max_queued": 500}, None
        if name == "bucket":
            self.bucket = s3_server.Server()
            self.options |= test_s3.options(self.bucket, test_s3.write_credentials(directory), "/north")
        if name in ("encrypted", "bucket"):
            run("vault", "add", directory / "vault.json")
            self.options["data.keys"] = directory / "vault.json"
        if name == "postgresql":
            self.cluster = postgres.Cluster().start()
            (directory / "database").write_text(self.cluster.url + "\n")
            self.options["store.database_file"] = directory / "database"

    def daemon(self):
        return daemons.Daemon(self.directory, self.model, **self.options)

    def arguments(self):
        return [part for key, value in ({"data.directory": self.directory / "data"} | self.options).items() for part in (f"--{key}", value)]

    def destroy(self):
        shutil.rmtree(self.directory / "data")
        if self.cluster:
            self.cluster.sql("DROP SCHEMA public CASCADE")
            self.cluster.sql("CREATE SCHEMA public")
        if self.bucket:
            self.bucket.clear()

    def remove(self):
        if self.cluster:
            self.cluster.remove()
        if self.bucket:
            self.bucket.stop()
            assert not self.bucket.refused


@pytest.fixture(params=["sqlite", "encrypted", "postgresql", "bucket"])
def kind(request, tmp_path, frontal_bundle):
    if request.param == "postgresql" and postgres.missing():
        pytest.skip(postgres.missing())
    if request.param != "postgresql" and daemons.ON_POSTGRESQL:
        pytest.skip(daemons.OF_SQLITE)
    made = Kind(tmp_path, frontal_bundle, request.param)
    yield made
    made.remove()


def accepted_by(clients):
    return {address for client in clients for addresses in list(client.accepted.values()) for address in addresses}


def test_what_was_accepted_before_a_backup_is_there_after_a_restore(kind, tmp_path):
    running = kind.daemon().start()
    done = running.post(daemons.sample(), headers={"Prefer": "wait=60"}).json()
    clients = [test_kill.Client(running, seed) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_until("nothing is accepted", lambda: len(accepted_by(clients)) >= 5)
    before = accepted_by(clients) | {"/v1/jobs/" + done["job"]}
    said = run("backup", tmp_path / "backup", *kind.arguments())
    assert said.startswith("the database and ") and int(said.split()[3]) >= len(before)
    wait_until("nothing is accepted any more", lambda: len(accepted_by(clients)) > len(before))  # it serves on
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join()
    assert not any(client.surprises for client in clients), [client.surprises for client in clients]
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(60)
    wait_until("its processes live on", lambda: not holds(kind.directory / "data"))
    kind.destroy()

    assert run("restore", tmp_path / "backup", *kind.arguments()).startswith("the database and ")
    again = kind.daemon().start()
    for path in before:
        assert again.wait(path, 120)["state"] == "succeeded", path
        assert again.get(path + "/result").json()["job"] == path.rsplit("/", 1)[1]
        assert again.get(path + "/artifacts").status_code == 200
    assert again.get(f"/v1/jobs/{done['job']}/result").json() == done
    assert again.get(f"/v1/jobs/{done['job']}/frames/0").content.startswith(b"\x89PNG")  # made of the payload
    assert again.post(daemons.sample()[:1], headers={"Prefer": "wait=60"}).status_code == 200
    assert again.stop() == 0
    trail = ("--database", tmp_path / "database") if kind.cluster else (tmp_path / "data", *(("--keys", tmp_path / "vault.json") if "data.keys" in kind.options else ()))
    assert "rows are intact" in run("audit", "verify", *trail)


def holds(directory):
    """Whether a process still works in the directory."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if str(directory).encode() in (process / "cmdline").read_bytes() and (process / "comm").read_text().startswith("mf-"):
                return True
        except OSError:  # it has ended
            pass
    return False


@of_sqlite
def test_a_stopped_daemon_is_backed_up_too(tmp_path, frontal_bundle):
    running = daemons.Daemon(tmp_path, frontal_bundle).start()
    done = running.post(daemons.sample()[:1], headers={"Prefer": "wait=60"}).json()
    assert running.stop() == 0
    run("backup", tmp_path / "backup", "--data.directory", tmp_path / "data")
    note = json.loads((tmp_path / "backup/backup.json").read_text())
    assert (note["schema"], note["engine"], note["payloads"]) == ("medfusion.backup/1", "sqlite", 1)
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "backup").rglob("*"))
    run("restore", tmp_path / "backup", "--data.directory", tmp_path / "other/data", expected=1)  # its parent is not there
    (tmp_path / "other").mkdir()
    run("restore", tmp_path / "backup", "--data.directory", tmp_path / "other/data")
    other = daemons.Daemon(tmp_path / "other", frontal_bundle).start()
    assert other.get(f"/v1/jobs/{done['job']}/result").json() == done
    assert "a daemon works in it" in run("restore", tmp_path / "backup", "--data.directory", tmp_path / "other/data", expected=1)
    assert other.stop() == 0


@pytest.fixture
def bucket():
    made = s3_server.Server()
    yield made
    made.stop()
    assert not made.refused


@of_sqlite
def test_a_backup_of_a_directory_is_restored_into_a_bucket_and_back(tmp_path, frontal_bundle, bucket):
    plain, there = {}, test_s3.options(bucket, test_s3.write_credentials(tmp_path), "/south")
    jobs, payloads = [], 0
    for number, (options, target) in enumerate(((plain, there), (there, plain), (plain, plain))):
        running = daemons.Daemon(tmp_path / str(number), frontal_bundle, **options).start()
        assert all(running.get(f"/v1/jobs/{job}/frames/0").status_code == 200 for job in jobs), running.log()
        jobs.append(running.post(daemons.sample()[-1:], headers={"Prefer": "wait=60"}).json()["job"])
        assert running.stop() == 0
        payloads += 1
        (tmp_path / str(number + 1)).mkdir()
        given = [part for key, value in options.items() for part in (f"--{key}", value)]
        said = run("backup", tmp_path / f"backup-{number}", "--data.directory", tmp_path / str(number) / "data", *given)
        assert said.startswith(f"the database and {payloads} payloads")
        assert len(list((tmp_path / f"backup-{number}/payloads").iterdir())) == payloads
        wanted = [part for key, value in target.items() for part in (f"--{key}", value)]
        assert f" {payloads} payloads" in run("restore", tmp_path / f"backup-{number}", "--data.directory", tmp_path / str(number + 1) / "data", *wanted)
        assert len(list((tmp_path / str(number + 1) / "data/payloads").iterdir())) == (0 if target else payloads)
        assert len(bucket.names()) == (payloads if target or options else 2)


@of_sqlite
def test_a_bucket_that_fails_makes_no_backup(tmp_path, frontal_bundle, bucket):
    """What was damaged in the bucket is noticed, what is purged meanwhile is left out, and nothing in the bucket is changed."""
    options = test_s3.options(bucket, test_s3.write_credentials(tmp_path), "/south")
    running = daemons.Daemon(tmp_path, frontal_bundle, **options).start()
    for _ in range(2):
        assert running.post(daemons.sample()[-1:], headers={"Prefer": "wait=60"}).status_code == 200
    assert running.stop() == 0
    bucket.keep(lambda client: client.create_multipart_upload(Bucket=s3_server.BUCKET, Key="south/" + "0" * 32))
    bucket.keep(lambda client: client.put_object(Bucket=s3_server.BUCKET, Key="south/notes.txt", Body=b"x"))
    before, given = bucket.names(), ["--data.directory", tmp_path / "data", *(part for key, value in options.items() for part in (f"--{key}", value))]
    is_object = lambda method, path: method == "GET" and "/south/" in path
    for number, (fault, expected, words) in enumerate((("flip", 1, "it is not what was put"), (403, 1, "the server answered 403"), (404, 0, "and 0 payloads"))):
        bucket.faults[:] = [lambda method, path, query, fault=fault: fault if is_object(method, path) else None]
        said = run("backup", tmp_path / f"backup-{number}", *given, expected=expected)
        assert words in said and (tmp_path / f"backup-{number}/backup.json").exists() == (expected == 0)
    bucket.faults.clear()
    assert list((tmp_path / "backup-2/payloads").iterdir()) == []
    assert "and 2 payloads" in run("backup", tmp_path / "whole", *given)
    assert bucket.names() == before and len(bucket.uploads()) == 1


@of_sqlite
def test_bad_backups_and_places_are_refused(tmp_path, frontal_bundle):
    data = ["--data.directory", tmp_path / "data"]
    assert "name the directory first" in run("backup", *data, expected=2)
    assert f"{tmp_path}/data: No such file" in run("backup", tmp_path / "backup", *data, expected=1)
    running = daemons.Daemon(tmp_path, frontal_bundle).start()
    assert running.stop() == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    assert f"{tmp_path}/full: is not empty" in run("backup", tmp_path / "full", *data, expected=1)
    run("backup", tmp_path / "backup", *data)
    assert "there is data in it already" in run("restore", tmp_path / "backup", *data, expected=1)
    empty = ["--data.directory", tmp_path / "empty"]
    assert "is no backup, or not a whole one" in run("restore", tmp_path / "full", *empty, expected=2)
    (tmp_path / "database").write_text("host=/nonexistent\n")
    message = run("restore", tmp_path / "backup", *empty, "--store.database_file", tmp_path / "database", expected=2)
    assert "the backup is of SQLite, and the configuration names PostgreSQL" in message
    note = tmp_path / "backup/backup.json"
    note.write_text(note.read_text().replace("backup/1", "backup/2"))
    assert "is not of the kind medfusion.backup/1" in run("restore", tmp_path / "backup", *empty, expected=2)


@pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))
def test_what_the_database_refuses_is_told_without_its_password(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "database").write_text("host=/nonexistent user=medfusion password=s3cret-canary dbname=x\n")
    said = run("backup", tmp_path / "backup", "--data.directory", tmp_path / "data", "--store.database_file", tmp_path / "database", expected=1)
    assert "pg_dump failed" in said and "canary" not in said
    assert not (tmp_path / "backup/backup.json").exists()
    (tmp_path / "database").write_text("no equals sign\n")
    said = run("backup", tmp_path / "second", "--data.directory", tmp_path / "data", "--store.database_file", tmp_path / "database", expected=2)
    assert "is no connection string" in said and "equals" not in said
