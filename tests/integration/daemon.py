"""A running `medfusion serve` for tests: its URL, its processes by role, and requests to it.

With MEDFUSION_TEST_STORE=postgresql every daemon that names no database keeps its jobs in one of a private PostgreSQL cluster."""
import atexit
import contextlib
import functools
import os
import pathlib
import signal
import sqlite3
import subprocess
import time
import uuid

import requests

import bad_input
import bundles
import postgres

READY = "medfusion is ready at "
ROLES = ("mf-front", "mf-store", "mf-worker", "mf-zygote", "mf-decoder", "mf-courier", "mf-dimse", "mf-assoc", "mf-query", "mf-query-scu")
STORE = os.environ.pop("MEDFUSION_TEST_STORE", "sqlite")  # it is no key of the program's
ON_POSTGRESQL = STORE == "postgresql"
OF_SQLITE = "skipped: it is about the files of SQLite"  # where ON_POSTGRESQL
HELD_S = 200 if ON_POSTGRESQL else 60  # for how long what a courier died with is nobody else's, and then some (MF_SQL_HELD_MS)
assert STORE in ("sqlite", "postgresql"), STORE


@functools.cache
def cluster():
    """The cluster of MEDFUSION_TEST_STORE=postgresql, for as long as the tests run."""
    running = postgres.Cluster({"max_connections": "200"}).start()
    atexit.register(running.remove)
    return running


class Daemon:
    """Starts the program with a bundle and a data directory of its own; options are configuration keys."""

    def __init__(self, directory, model, **options):
        self.directory = pathlib.Path(directory)
        self.model = model
        self.options = {"http.listen": "127.0.0.1:0", "log.level": "info", **options}
        self.process = None
        self.url = None

    def start(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        arguments = [str(bundles.PROGRAM), "serve", "--data.directory", str(self.directory / "data"),
                     "--models.directories", str(self.model)]
        for key, value in (self.options | self.store_options()).items():
            arguments += [f"--{key}", str(value)]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True)
        for line in self.process.stdout:
            if line.startswith(READY):
                self.url = line[len(READY):].strip()
                return self
        raise RuntimeError((self.directory / "log").read_text())

    def store_options(self):
        """Where its jobs are, if the environment says so: a database for each data directory, the same when it starts again."""
        if not ON_POSTGRESQL or "store.database" in self.options or "store.database_file" in self.options:
            return {}
        secret = self.directory / "store-database"
        if not secret.exists():
            name = "d" + uuid.uuid4().hex
            cluster().sql(f"CREATE DATABASE {name}")
            secret.write_text(cluster().url.replace("dbname=postgres", f"dbname={name}") + "\n")
        return {"store.database_file": secret}

    def rows(self, statement):
        """Rows of a statement on the store of a daemon that has stopped, as text."""
        if ON_POSTGRESQL:
            return cluster().sql(statement, (self.directory / "store-database").read_text().strip())
        with contextlib.closing(sqlite3.connect(self.directory / "data/store.db")) as database:
            return [[str(value) for value in row] for row in database.execute(statement)]

    def place(self):
        """What names its store to commands that work on it."""
        return ["--database", self.directory / "store-database"] if ON_POSTGRESQL else [self.directory / "data"]

    def stop(self):
        """A graceful stop; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def log(self):
        return (self.directory / "log").read_text()

    def pids(self, role):
        """Processes of this daemon by the name they have in ps."""
        found = []
        for directory in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (directory / "comm").read_text().strip() == role and self._is_ours(directory):
                    found.append(int(directory.name))
            except OSError:  # it has ended
                pass
        return found

    def _is_ours(self, directory):
        while True:
            parent = int((directory / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == self.process.pid:
                return True
            if parent <= 1:
                return False
            directory = pathlib.Path("/proc") / str(parent)

    def kill(self, role, number=signal.SIGKILL):
        """A signal to one process of this role; whether there was one."""
        for pid in self.pids(role):
            try:
                os.kill(pid, number)
                return True
            except ProcessLookupError:
                pass
        return False

    # --- requests ---

    def get(self, path, **arguments):
        return requests.get(self.url + path, timeout=60, **arguments)

    def delete(self, path, **arguments):
        return requests.delete(self.url + path, timeout=60, **arguments)

    def post(self, dicom=(), ehr=None, options=None, headers=None, **arguments):
        """A multipart POST; dicom: bytes of each part."""
        files = [("dicom", (f"{i}.dcm", data)) for i, data in enumerate(dicom)]
        files += [("ehr", ("ehr.json", ehr))] if ehr is not None else []
        files += [("options", ("options.json", options))] if options is not None else []
        return requests.post(self.url + "/v1/jobs", files=files, headers=headers, timeout=90, **arguments)

    def wait(self, path, seconds=60):
        """Polls a job until it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            job = self.get(path).json()
            if job["state"] in ("succeeded", "failed", "cancelled") or time.monotonic() > deadline:
                return job
            time.sleep(0.05)


def sample():
    """All studies of the sample patient, oldest first."""
    return [file.read_bytes() for file in sorted((bad_input.SAMPLE / "dicom").glob("*.dcm"))]
