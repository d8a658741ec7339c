"""A Bundle of 50 MB and as much NDJSON are read within 64 MB of memory; an attachment of 20 MB costs nothing."""

import json
import subprocess
import sys

import pytest
from test_real_files import MEDFUSION, MODEL, SHARED, Path, needs_program, reference

pytestmark = needs_program

MEGABYTE = 1 << 20


def copies(resources, size):
    """The resources of one patient again and again, every copy a patient of its own, up to `size` bytes of JSON."""
    texts = [json.dumps(r) for r in resources]
    for name in {r["id"] for r in resources}:
        texts = [t.replace(name, "@@@@" + name[4:]) if name in t else t for t in texts]
    total, number = 0, 0
    while total < size:
        for text in texts:
            total += len(text) + 1
            yield text.replace("@@@@", f"{number:04}")
        number += 1


def record():
    """One patient with everything that is known of them: Synthea's, else the shipped excerpt's."""
    path = SHARED / "synthea" / "patient_03.json"
    if path.exists():
        text = json.dumps(reference.resources(path))
        return json.loads(text.replace("urn:uuid:", "Patient/"))
    rows = reference.resources(Path(__file__).parent / "excerpt" / "patients.ndjson")
    return [r for r in rows if rows[0]["id"] in json.dumps(r)]


# Run from a small process: a child counts what its parent held at the fork.
MEASURE = """
import os, resource, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
lines = sum(1 for _ in process.stdout)
_, status, usage = os.wait4(process.pid, 0)
print(lines, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status))
"""


def measured(path):
    """(patients printed, most memory in bytes)"""
    command = [MEDFUSION, "fhir", "features", "--model", str(MODEL), "--at", "2019", str(path)]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", MEASURE, *command], capture_output=True, text=True, check=True)
    lines, memory, status = map(int, done.stdout.split())
    assert status == 0, done.stderr
    return lines, memory


@pytest.mark.parametrize("bundle", [True, False], ids=["bundle", "ndjson"])
def test_fifty_megabytes(tmp_path, bundle):
    path = tmp_path / "large.json"
    resources = sorted(record(), key=lambda r: r["resourceType"] != "Patient")
    with path.open("w") as out:
        out.write('{"resourceType": "Bundle", "type": "collection", "entry": [' if bundle else "")
        for i, text in enumerate(copies(resources, 50 * MEGABYTE)):
            out.write(("," if i and bundle else "") + (f'{{"resource": {text}}}' if bundle else text + "\n"))
        out.write("]}" if bundle else "")
    patients, memory = measured(path)
    print(f"{path.stat().st_size / MEGABYTE:.1f} MB, {i + 1} resources, {patients} patients: {memory / MEGABYTE:.1f} MB")
    assert path.stat().st_size >= 50 * MEGABYTE and patients >= 50
    assert memory < 64 * MEGABYTE


def test_an_attachment_is_passed_over(tmp_path):
    path = tmp_path / "large.json"
    patient = json.dumps({"resourceType": "Patient", "id": "1"})
    path.write_text('{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Binary", "data": "' + "QUJD" * (5 * MEGABYTE)
                    + '"}}, {"resource": ' + patient + "}]}")
    patients, memory = measured(path)
    assert patients == 1 and memory < 32 * MEGABYTE  # the program itself takes half of that
