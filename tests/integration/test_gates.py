"""The gates of tests/gates, for seconds instead of minutes, and that each catches what it is there for."""
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types

import pytest

import bundles

GATES = bundles.ROOT / "tests/gates"
MEGABYTE = 1 << 20


def load(path=GATES / "load"):
    loader = importlib.machinery.SourceFileLoader("a_gate", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("a_gate", loader))
    loader.exec_module(module)
    return module


def run(gate, *arguments):
    environment = {**os.environ, "MEDFUSION": str(bundles.PROGRAM)}
    return subprocess.run([sys.executable, GATES / gate, *arguments], capture_output=True, text=True, timeout=300, env=environment, check=False)


def faults(*arguments):
    build = bundles.PROGRAM.parent
    if not (build / "gates/gate_subject").exists():
        pytest.skip("skipped: a build without tests has no subject")
    return run("faults", "--build", build, *arguments)


def test_no_fault_loses_what_was_acknowledged():
    done = faults("--stride", "2400")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(" 0 findings")


def test_a_sweep_goes_on_where_it_was_left(tmp_path):
    state, arguments = tmp_path / "state.json", ("--kind", "fsync", "--seconds", "0.5")
    last, runs = "", []
    while "complete" not in last:
        done = faults(*arguments, "--state", state)
        assert done.returncode == 0, done.stderr
        last = done.stdout.splitlines()[-1]
        runs.append(json.loads(state.read_text())["runs"])
        assert len(runs) < 100 and (len(runs) == 1 or runs[-1] > runs[-2])
    kept = json.loads(state.read_text())
    assert len(kept["series"]) == 8 and all(series["complete"] and series["next"] > 1 for series in kept["series"].values())
    assert faults(*arguments, "--state", state).stdout.startswith("0 runs with a fault")
    state.write_text(json.dumps({**kept, "findings": ["of an earlier run"]}))
    assert faults(*arguments, "--state", state).returncode == 1


def test_no_power_failure_loses_what_was_acknowledged():
    done = faults("--kind", "power", "--stride", "120")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ("fsync", "power"))
def test_a_job_that_is_acknowledged_too_early_is_found(kind):
    done = faults("--kind", kind, "--stride", "160", "--planted")
    assert done.returncode == 1 and "had acknowledged ['accepted " in done.stderr


def starve(*arguments):
    build = bundles.PROGRAM.parent
    if not (build / "gates/libgate_starve.so").exists():
        pytest.skip("skipped: a build without tests has nothing to starve with")
    return run("starve", "--build", build, *arguments)


def test_parsers_and_a_command_survive_each_failure(tmp_path):
    """And a second run has nothing left to do."""
    for number in range(2):
        done = starve("--state", tmp_path, "--only", "s", "parsers")
        assert done.returncode == 0, done.stderr
        assert "(complete), 0 findings" in done.stdout and (number == 0) == (not done.stdout.splitlines()[-1].startswith("0 faults"))
    done = starve("--only", "key-list", "commands")
    assert done.returncode == 0 and "(complete), 0 findings" in done.stdout, done.stdout + done.stderr


def test_an_allocation_that_nobody_looks_at_and_one_that_is_lost_are_found():
    done = starve("--planted")
    assert done.returncode == 1 and "SIGSEGV" in done.stderr and "1 allocations lost" in done.stderr, done.stdout + done.stderr


def test_overload_is_refused_and_what_was_accepted_runs():
    done = run("load", "overload", "--seconds", "3")
    assert done.returncode == 0, done.stdout + done.stderr


def test_slow_connections_hold_nobody_up():
    """The figure is for an idle machine (tests/bench/RESULTS.md): here only that the healthy client is answered."""
    done = run("load", "slow", "--connections", "200", "--requests", "50")
    assert "slow: 200 connections" in done.stdout and "Traceback" not in done.stderr, done.stderr


def test_a_soak_of_two_minutes_and_one_that_goes_on(tmp_path):
    state = tmp_path / "state.json"
    for minutes in ("0.1", "2.1"):
        done = run("load", "soak", "--minutes", minutes, "--warm-up", "4", "--settle", "30", "--noise", "4", "--state", state)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "(2.1 in all)" in done.stdout
    assert "are done already" in run("load", "soak", "--minutes", "2.1", "--state", state).stdout


def test_a_planted_leak_is_found():
    done = run("load", "soak", "--minutes", "0.3", "--warm-up", "2", "--settle", "4", "--control")
    assert done.returncode == 1 and "mf-front has " in done.stderr, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("valgrind"), reason="skipped: no valgrind")
def test_valgrind_finds_what_is_planted_or_the_gate_fails(tmp_path):
    build = bundles.PROGRAM.parent
    if not (build / "gates/gate_defect").exists():
        pytest.skip("skipped: a build without tests has nothing planted")
    done = run("valgrind", "--build", build, "core/test_error")
    assert done.returncode == 0 and "4 planted defects found; 1 test programs, 0 with findings" in done.stdout, done.stdout + done.stderr
    (tmp_path / "gates").mkdir()
    (tmp_path / "gates/gate_defect").symlink_to("/bin/true")  # nothing is wrong with it
    done = run("valgrind", "--build", tmp_path, "core/test_error")
    assert done.returncode == 1 and "planted and not found: overflow" in done.stderr


def test_each_verdict_catches_what_is_wrong():
    gate = load()
    fine = {202: 10, 429: 100, 503: 1}
    assert gate.judge_overload(fine, 0, 5, 9, []) == []
    assert gate.judge_overload({**fine, 500: 2}, 0, 5, 9, []) == ["status 500 was answered 2 times"]
    assert gate.judge_overload({202: 10}, 0, 5, 9, []) == ["nothing was refused: this was no overload"]
    assert gate.judge_overload(fine, 3, 5, 9, []) == ["3 refusals without Retry-After"]
    assert gate.judge_overload(fine, 0, 10 * MEGABYTE, 9 * MEGABYTE, []) == ["10 MB were in use, 9 MB are allowed"]
    assert gate.judge_overload(fine, 0, 5, 9, ["/v1/jobs/1"]) == ["1 accepted jobs did not succeed"]
    assert gate.judge_slow(0.010, 0.019) == [] and gate.judge_slow(0.010, 0.021)
    flat = [{"s": float(s), "rss": {"mf-front": 100 * MEGABYTE + (s % 7) * 4096}, "fds": {"mf-front": 40}} for s in range(600)]
    assert gate.judge_soak(flat, MEGABYTE)[1] == []
    leak = [{**sample, "rss": {"mf-front": sample["rss"]["mf-front"] + int(sample["s"] * 600)}} for sample in flat]
    assert gate.judge_soak(leak, MEGABYTE)[1] == ["memory grows by 2.06 MB an hour"]
    filling = [(jobs, min(jobs, 1000) * 2048) for jobs in range(0, 2000, 20)]  # as the cache of a store does
    assert [gate.has_settled(filling[:n], 400) for n in (5, 40, 60, 100)] == [False, False, False, True]
    lost = [{**sample, "fds": {"mf-front": 40 + int(sample["s"]) // 100}} for sample in flat]
    assert gate.judge_soak(lost, MEGABYTE)[1] == ["mf-front has 45 descriptors, it had 40"]


COUNTED = """#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static int sign(int n)
{
    if (n < 0)
        return -1;
    return 1;
}
int main(int argc, char **argv)
{
    if (fork() == 0) {
        for (int i = 1; i < argc; i++)
            sign(strcmp(argv[i], "less") == 0 ? -1 : 1);
        kill(getpid(), SIGKILL);
    }
    wait(NULL);
    _exit(0);
}
"""


@pytest.mark.skipif(not (shutil.which("clang") and shutil.which("llvm-cov")), reason="skipped: no clang, which counts")
def test_coverage_counts_killed_processes_and_misses_what_has_not_run(tmp_path, monkeypatch, capsys):
    gate = load(bundles.ROOT / "tests/coverage")
    for name, path in (("ROOT", tmp_path), ("BUILD", tmp_path / "build"), ("COUNTERS", tmp_path / "counters"), ("MERGED", tmp_path / "merged")):
        monkeypatch.setattr(gate, name, path)
    (tmp_path / "build").mkdir()
    (tmp_path / "core").mkdir()
    (tmp_path / "core/sign.c").write_text(COUNTED)
    flags = re.search(r"target_compile_options\(mf_flags INTERFACE (-fprofile.*) -O1\)", (bundles.ROOT / "cmake/MedfusionBuild.cmake").read_text())[1]
    subprocess.run(["clang", *flags.replace('"SHELL:', "").replace('"', "").split(), "core/sign.c", "-o", "build/sign"], cwd=tmp_path, check=True)
    asked = types.SimpleNamespace(line=95, branch=85, worst=1)
    assert gate.run(tmp_path / "build/sign", "more")
    assert not gate.report(asked)
    assert "core/sign.c: 1 lines and " in capsys.readouterr().out
    gate.show("core/sign.c")
    assert "core/sign.c:8:         return -1;" in capsys.readouterr().out
    assert gate.run(tmp_path / "build/sign", "less")
    asked.branch = 70  # fork() is never 0 in the parent's line alone
    assert gate.report(asked)
    assert "| core | " in capsys.readouterr().out
