#!/usr/bin/env python3
"""FHIR throughput in resources a second: `medfusion fhir features` (parse, check, resolve, extract 23 features a patient) beside
reading the same NDJSON with Python's json (parse alone) and fhir.resources (R4B models: parse and validate).

    tests/bench/ehr_input.py [--megabytes 20] [--rounds 3]

The input is Synthea's patient 03 again and again (needs ../shared/data), every copy a patient of its own. Rounds are interleaved and
the best of each is shown; the peers read a part of the file and are scaled by resources.
"""
import argparse
import importlib
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
PEER_LINES = 400  # of the pydantic models: they take milliseconds each


def make(path, size):
    import reference
    import test_stream
    record = reference.resources(ROOT.parent / "shared/data/fhir/synthea/patient_03.json")
    record = json.loads(json.dumps(record).replace("urn:uuid:", "Patient/"))
    lines = list(test_stream.copies(sorted(record, key=lambda r: r["resourceType"] != "Patient"), size))
    path.write_text("\n".join(lines) + "\n")
    return lines


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ours(path):
    subprocess.run([PROGRAM, "fhir", "features", "--model", ROOT / "tests/fhir/vitals", "--at", "2019", "--format", "json", path],
                   stdout=subprocess.DEVNULL, check=True)


def validate(lines):
    models = {}
    for line in lines:
        kind = json.loads(line)["resourceType"]
        if kind not in models:
            models[kind] = getattr(importlib.import_module(f"fhir.resources.R4B.{kind.lower()}"), kind)
        models[kind].model_validate_json(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bulk.ndjson"
        lines = make(path, options.megabytes << 20)
        known = [line for line in lines if json.loads(line)["resourceType"] in ("Patient", "Observation", "Condition", "Encounter", "Procedure")]
        validate(known[:20])  # imports are not counted
        best = {"medfusion": 1e9, "json.loads": 1e9, "fhir.resources": 1e9}
        for _ in range(options.rounds):
            best["medfusion"] = min(best["medfusion"], seconds(lambda: ours(path)) / len(lines))
            best["json.loads"] = min(best["json.loads"], seconds(lambda: [json.loads(line) for line in lines]) / len(lines))
            part = known[20:20 + PEER_LINES]
            best["fhir.resources"] = min(best["fhir.resources"], seconds(lambda: validate(part)) / len(part))
        size = path.stat().st_size / 1e6
        print(f"{size:.0f} MB of NDJSON, {len(lines)} resources")
        for name, each in best.items():
            print(f"{name:15} {1 / each:10,.0f} resources/s  {size / (each * len(lines)):7.1f} MB/s")


if __name__ == "__main__":
    main()
