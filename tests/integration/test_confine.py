"""Least rights: an attempt that is planted in every thread of every process reads, writes, starts and reaches nothing that the process does not need."""
import ctypes
import pathlib
import re
import signal
import socket

import pytest

import bundles
import daemon as daemons
from fhir_server import wait_until

ATTEMPT = bundles.PROGRAM.parent / "gates/libgate_attempt.so"
NOTHING = {"read": 0, "write": 0, "program": 0, "listen": 0}
CONFINED = {"mf-front": 1, "mf-courier": 1, "mf-dimse": 1, "mf-query": 1, "mf-worker": 0, "mf-store": 0, "mf-zygote": 0}  # whether it may connect
SYS_LANDLOCK_CREATE_RULESET, VERSION, SYS_TGKILL = 444, 1, 234

libc = ctypes.CDLL(None, use_errno=True)
landlock = libc.syscall(SYS_LANDLOCK_CREATE_RULESET, None, 0, VERSION)
pytestmark = pytest.mark.skipif(landlock < 4 or not ATTEMPT.exists(), reason="skipped: this kernel has no Landlock of version 4, or this build no attempt")


def threads(pid):
    """Those that do not block the signal."""
    found = set()
    for path in pathlib.Path(f"/proc/{pid}/task").iterdir():
        blocked = int(re.search(r"^SigBlk:\t(\w+)$", (path / "status").read_text(), re.MULTILINE)[1], 16)
        if not blocked >> (signal.SIGUSR2 - 1) & 1:
            found.add(int(path.name))
    return found


def attempts(daemon):
    """What each thread could do, by process and thread."""
    found = re.findall(r"^attempt (\d+) (\d+) (.*)$", daemon.log(), re.MULTILINE)
    return {(int(pid), int(tid)): {name: int(value) for name, value in (pair.split("=") for pair in what.split())} for pid, tid, what in found}


def plant(daemon, pid):
    """Every thread of the process tries; what they could do."""
    tried = threads(pid)
    assert tried
    for tid in tried:
        libc.syscall(SYS_TGKILL, pid, tid, signal.SIGUSR2)

    def answered():
        return all((pid, tid) in attempts(daemon) for tid in tried if pathlib.Path(f"/proc/{pid}/task/{tid}").exists())

    assert wait_until(answered, 60), (pid, tried, attempts(daemon))
    return [what for (process, _), what in attempts(daemon).items() if process == pid]


def test_a_planted_attempt_comes_to_nothing(tmp_path, frontal_bundle, monkeypatch):
    outside = tmp_path / "outside"
    outside.mkdir()
    canary = outside / "canary"
    canary.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as pacs:
        monkeypatch.setenv("LD_PRELOAD", str(ATTEMPT))
        monkeypatch.setenv("ATTEMPT_FILE", str(canary))
        monkeypatch.setenv("ATTEMPT_PORT", str(listener.getsockname()[1]))
        daemon = daemons.Daemon(tmp_path / "d", frontal_bundle, **{"dimse.listen": "127.0.0.1:0", "worker.device": "cpu",
                                                                   "fetch.sources": f"pacs=dicom://PACS@127.0.0.1:{pacs.getsockname()[1]}"}).start()
        monkeypatch.undo()
        assert daemon.post(daemons.sample()[-1:], headers={"Prefer": "wait=60"}).status_code == 200
        for role, connects in CONFINED.items():
            [pid] = daemon.pids(role)
            for what in plant(daemon, pid):
                assert what == {**NOTHING, "connect": connects}, (role, what)
        assert list(outside.iterdir()) == [canary]
        everything = dict.fromkeys([*NOTHING, "connect"], 1)
        assert plant(daemon, daemon.process.pid) == [everything]  # the control: the supervisor, which has given up nothing, can do all of it
        assert daemon.post(daemons.sample()[-1:], headers={"Prefer": "wait=60"}).status_code == 200
        assert daemon.stop() == 0
