"""Least rights: an attempt that is planted in every thread of every process reads, writes, starts, reaches and asks of the kernel nothing that the process does not need."""
import ctypes
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

import bundles
import daemon as daemons
from fhir_server import wait_until

ATTEMPT = bundles.PROGRAM.parent / "gates/libgate_attempt.so"
NOTHING = dict.fromkeys(("read", "write", "program", "process", "bind", "listen", "connect", "socket", "signal", "calls"), 0)
OF_NETWORK, OF_PROCESSES = {"connect": 1, "socket": 1}, {"process": 1, "signal": 1}
LEFT = {"mf-front": OF_NETWORK, "mf-courier": OF_NETWORK, "mf-dimse": OF_NETWORK | OF_PROCESSES, "mf-query": OF_NETWORK | OF_PROCESSES,
        "mf-worker": {}, "mf-store": {}, "mf-zygote": OF_PROCESSES}
SYS_LANDLOCK_CREATE_RULESET, VERSION, SYS_TGKILL = 444, 1, 234

libc = ctypes.CDLL(None, use_errno=True)
landlock = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, VERSION)
needs_attempt = pytest.mark.skipif(landlock < 4 or not ATTEMPT.exists(), reason="skipped: this kernel has no Landlock of version 4, or this build no attempt")


def in_signal_mask(status, name):
    """Whether the planted signal is in one of the masks of a thread."""
    return int(re.search(rf"^{name}:\t(\w+)$", status.read_text(), re.MULTILINE)[1], 16) >> (signal.SIGUSR2 - 1) & 1


def threads(pid):
    """Those that do not block the signal."""
    return {int(path.name) for path in pathlib.Path(f"/proc/{pid}/task").iterdir() if not in_signal_mask(path / "status", "SigBlk")}


def attempts(log):
    """What each thread could do, by process and thread."""
    found = re.findall(r"^attempt (\d+) (\d+) (.*)$", log.read_text(), re.MULTILINE)
    return {(int(pid), int(tid)): {name: int(value) for name, value in (pair.split("=") for pair in what.split())} for pid, tid, what in found}


def plant(log, pid):
    """Every thread of the process tries; what they could do."""
    tried = threads(pid)
    assert tried
    for tid in tried:
        libc.syscall(SYS_TGKILL, pid, tid, signal.SIGUSR2)

    def answered():
        return all((pid, tid) in attempts(log) for tid in tried if pathlib.Path(f"/proc/{pid}/task/{tid}").exists())

    assert wait_until(answered, 60), (pid, tried, attempts(log))
    return [what for (process, _), what in attempts(log).items() if process == pid]


@pytest.fixture
def canary(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/canary").write_text("secret")
    return tmp_path / "outside/canary"


@pytest.fixture
def planted(canary, monkeypatch):
    """What is started while it holds has the attempt in it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("LD_PRELOAD", str(ATTEMPT))
        monkeypatch.setenv("ATTEMPT_FILE", str(canary))
        monkeypatch.setenv("ATTEMPT_PORT", str(listener.getsockname()[1]))
        yield monkeypatch


@needs_attempt
def test_a_planted_attempt_comes_to_nothing(tmp_path, frontal_bundle, canary, planted):
    with socket.create_server(("127.0.0.1", 0)) as pacs:
        daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"dimse.listen": "127.0.0.1:0", "worker.device": "cpu",
                                                                   "fetch.sources": f"pacs=dicom://PACS@127.0.0.1:{pacs.getsockname()[1]}"}).start()
        planted.delenv("LD_PRELOAD")
        log = tmp_path / "d/log"
        assert daemon.post(daemons.sample()[-1:], headers={"Prefer": "wait=60"}).status_code == 200
        for role, left in LEFT.items():
            [pid] = daemon.pids(role)
            for what in plant(log, pid):
                on_postgresql = OF_NETWORK | {"read": 1, "write": 1, "bind": 1} if role == "mf-store" and daemons.ON_POSTGRESQL else {}
                assert what == NOTHING | left | on_postgresql, (role, what)
        assert daemons.ON_POSTGRESQL or list(canary.parent.iterdir()) == [canary]
        # the supervisor starts the others: what it gives up is what nobody needs
        assert plant(log, daemon.process.pid) == [dict.fromkeys(NOTHING, 1) | {"calls": 0}]
        assert daemon.post(daemons.sample()[-1:], headers={"Prefer": "wait=60"}).status_code == 200
        assert daemon.stop() == 0


@needs_attempt
def test_the_attempt_is_one(tmp_path, planted):
    """The control: a process that gave up nothing can do all of it, and most calls that no process needs get as far as their arguments."""
    log = tmp_path / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stderr=out)
    try:
        assert wait_until(lambda: in_signal_mask(pathlib.Path(f"/proc/{process.pid}/status"), "SigCgt"), 60)
        [what] = plant(log, process.pid)
    finally:
        process.kill()
        process.wait()
    assert what.pop("calls") >= 10 and set(what.values()) == {1}


def status_of(pid, name):
    return int(re.search(rf"^{name}:\t(\d+)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1])


def test_every_process_is_filtered(tmp_path, frontal_bundle):
    with socket.create_server(("127.0.0.1", 0)) as pacs:
        daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"dimse.listen": "127.0.0.1:0",
                                                                   "fetch.sources": f"pacs=dicom://PACS@127.0.0.1:{pacs.getsockname()[1]}"}).start()
        assert daemon.post(daemons.sample()[-1:], headers={"Prefer": "wait=60"}).status_code == 200
        assert wait_until(lambda: daemon.pids("mf-decoder"), 20)
        filters = {"supervisor": [status_of(daemon.process.pid, "Seccomp_filters")]}
        for role in (*LEFT, "mf-decoder"):
            for pid in daemon.pids(role):
                assert (status_of(pid, "Seccomp"), status_of(pid, "NoNewPrivs")) == (2, 1), role
                filters.setdefault(role, []).append(status_of(pid, "Seccomp_filters"))
        assert (status_of(daemon.process.pid, "Seccomp"), status_of(daemon.process.pid, "NoNewPrivs")) == (2, 1)
        assert set(filters) == {"supervisor", *LEFT, "mf-decoder"}
        least = {role: 2 for role in LEFT} | {"supervisor": 1, "mf-decoder": 3, "mf-store": 2 if daemons.ON_POSTGRESQL else 3}
        assert {role: set(counts) for role, counts in filters.items()} == {role: {count} for role, count in least.items()}
        assert daemon.stop() == 0
