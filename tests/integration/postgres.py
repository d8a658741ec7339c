"""A private PostgreSQL cluster in a temporary directory, as an unprivileged user: for tests.

As a program: python tests/integration/postgres.py [--durable] COMMAND… runs the command with the connection
string in MEDFUSION_TEST_DATABASE and stops the cluster. Prints `skipped: …` where Debian's
`postgresql` is not installed.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

# Who runs the server when the tests run as root, which PostgreSQL refuses.
USER = "nobody"


def programs() -> Path | None:
    """The directory of initdb and pg_ctl of the newest PostgreSQL here (15 or later), or None."""
    found = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")]
    found = [p for p in found if int(p.parent.name) >= 15 and (p / "initdb").exists()]
    return max(found, key=lambda p: int(p.parent.name), default=None)


def missing() -> str | None:
    """Why there can be no cluster here, or None."""
    return None if programs() else "skipped: no PostgreSQL 15 or later (apt-get install postgresql)"


class Cluster:
    """A cluster with trust on its Unix socket, and on `port` of the loopback unless it is 0."""

    def __init__(self, settings: dict[str, str] | None = None, tcp: bool = False):
        self.bin = programs()
        self.directory = Path(tempfile.mkdtemp(prefix="mf-pg-"))
        self.data = self.directory / "data"
        self.port = free_port() if tcp else 5432
        self.prefix: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self.prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "medfusion", "--no-sync", "-E", "UTF8", "--locale=C")
        lines = {
            "listen_addresses": "'127.0.0.1'" if tcp else "''",
            "port": str(self.port),
            "unix_socket_directories": f"'{self.directory}'",
            "shared_buffers": "64MB",
            "max_connections": "60",
        } | (settings or {})
        with (self.data / "postgresql.auto.conf").open("a") as f:
            f.writelines(f"{key} = {value}\n" for key, value in lines.items())

    @property
    def url(self) -> str:
        return f"host={self.directory} port={self.port} user=medfusion dbname=postgres"

    def run(self, program: str, *arguments) -> str:
        done = subprocess.run([*self.prefix, str(self.bin / program), *map(str, arguments)], cwd="/",
                              env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}")
        return done.stdout

    def start(self) -> "Cluster":
        self.run("pg_ctl", "start", "-w", "-s", "-D", self.data, "-l", self.directory / "log")
        return self

    def stop(self, mode: str = "fast") -> None:
        """`mode` immediate is a crash: nothing is flushed, no connection is told."""
        self.run("pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", self.data)

    def sql(self, text: str, url: str | None = None) -> list[list[str]]:
        """Rows of one statement, by psql."""
        out = self.run("psql", url or self.url, "-X", "-q", "-t", "-A", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", text)
        return [line.split("\t") for line in out.splitlines()]

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            try:
                self.stop("immediate")
            except RuntimeError:
                pass  # it was stopped already
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> "Cluster":
        return self.start()

    def __exit__(self, *ignored) -> None:
        self.remove()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main() -> int:
    why = missing()
    if why:
        print(why)
        return 0
    signal.signal(signal.SIGTERM, lambda *ignored: sys.exit(1))  # so that the cluster is removed
    command = sys.argv[1:]
    durable = command[0] == "--durable"  # else what a power failure would do is not asked
    with Cluster({} if durable else {"fsync": "off"}) as cluster:
        return subprocess.run(command[durable:], env=os.environ | {"MEDFUSION_TEST_DATABASE": cluster.url}).returncode


if __name__ == "__main__":
    sys.exit(main())
