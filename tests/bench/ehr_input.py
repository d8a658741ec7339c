#!/usr/bin/env python3
"""FHIR input, speed and memory: `medfusion fhir features` (start, parse, check, resolve references, extract 23 features a patient) beside Python's
json and fhir.resources' R4B models, which parse alone (peer/ehr_input.py), on the same files of ../shared/data.

    tests/bench/ehr_input.py [--rounds 3] [--megabytes 0] [--input NAME]

Inputs: `synthea`, twelve patients' Bundles; `mimic`, a hundred patients with 9,000 Observations as NDJSON; with --megabytes `bulk`, one of Synthea's
patients again and again as NDJSON. Every tool reads all files of an input on one thread. Rounds are interleaved; shown are the best processor time
of each, and the most memory that its process had. Ours is of the whole program, once a file, with its start; that of the peers is of parsing alone.
"""

import argparse
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/fhir"))
PROGRAM = pathlib.Path(os.environ.get("MEDFUSION", ROOT / "build/release/medfusion"))
DATA = ROOT.parent / "shared/data/fhir"
MODEL = ROOT / "tests/fhir/vitals"
PEER = [sys.executable, str(pathlib.Path(__file__).parent / "peer/ehr_input.py")]

# Runs commands one after the other from a small process (a child counts what its parent held at the fork): processor seconds of all, most bytes of any.
MEASURE = """
import json, os, resource, subprocess, sys
seconds, most, last = 0, 0, b""
for command in json.loads(sys.argv[1]):
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    output = process.stdout.read()
    last = output.splitlines()[-1] if output else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds, most = seconds + usage.ru_utime + usage.ru_stime, max(most, usage.ru_maxrss * 1024)
    if status:
        sys.exit(f"{command}: exit status {os.waitstatus_to_exitcode(status)}")
print(json.dumps([seconds, most, last.decode()]))
"""


def measure(commands):
    """(seconds, bytes, last line printed) of commands one after the other."""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", MEASURE, json.dumps([[str(c) for c in command] for command in commands])],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    return json.loads(done.stdout)


def ours(paths):
    """One process a file, as the command is used."""
    seconds, memory, _ = measure([[PROGRAM, "fhir", "features", "--model", MODEL, "--at", "2019", "--format", "json", path] for path in paths])
    return seconds, memory, 0


def peer(how):
    def run(paths):
        _, memory, printed = measure([[*PEER, how, *paths]])
        told = json.loads(printed)
        return told["seconds"], memory, told["refused"]

    return run


TOOLS = {"medfusion": ours, "json": peer("json"), "fhir.resources": peer("models")}


def synthea(_folder):
    return sorted((DATA / "synthea").glob("*.json"))


def mimic(folder):
    path = folder / "mimic.ndjson"
    names = ("Patient", "ObservationVitalSignsED", "ObservationED")
    path.write_bytes(b"".join(gzip.decompress((DATA / f"mimic_iv_demo/Mimic{name}.ndjson.gz").read_bytes()) for name in names))
    return [path]


def bulk(folder, size):
    import reference
    import test_stream

    record = reference.resources(DATA / "synthea/patient_03.json")
    record = json.loads(json.dumps(record).replace("urn:uuid:", "Patient/"))
    path = folder / "bulk.ndjson"
    with path.open("w") as out:
        for line in test_stream.copies(sorted(record, key=lambda r: r["resourceType"] != "Patient"), size):
            out.write(line + "\n")
    return [path]


def count(paths):
    import reference

    return sum(len(reference.resources(path)) for path in paths)


def report(name, paths, rounds):
    resources, size = count(paths), sum(path.stat().st_size for path in paths)
    best = {}
    for _ in range(rounds):
        for tool, run in TOOLS.items():
            seconds, memory, refused = run(paths)
            old = best.get(tool, (seconds, memory, refused))
            best[tool] = min(old[0], seconds), max(old[1], memory), refused
    print(f"{name}: {len(paths)} files, {size / 1e6:.1f} MB, {resources} resources")
    for tool, (seconds, memory, refused) in best.items():
        note = f"  ({refused} refused)" if refused else ""
        print(f"  {tool:15} {resources / seconds:9,.0f} resources/s {size / 1e6 / seconds:7.1f} MB/s {memory / 2**20:8.1f} MB{note}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=0, help="of the input bulk; 0: without it")
    parser.add_argument("--input", choices=["synthea", "mimic", "bulk"], help="one of them alone")
    options = parser.parse_args()
    if not DATA.exists():
        raise SystemExit("skipped: no ../shared/data")
    print(time.strftime("%Y-%m-%d"), f"load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        inputs = {"synthea": lambda: synthea(folder), "mimic": lambda: mimic(folder)}
        if options.megabytes:
            inputs["bulk"] = lambda: bulk(folder, options.megabytes << 20)
        for each, make in inputs.items():
            if options.input in (None, each):
                report(each, make(), options.rounds)


if __name__ == "__main__":
    main()
