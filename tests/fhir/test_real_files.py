"""`medfusion fhir features` against the independent computation in reference.py, on real and synthetic patients."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import reference

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data" / "fhir"
MEDFUSION = os.environ.get("MEDFUSION", str(ROOT / "build" / "release" / "medfusion"))
MODEL = Path(__file__).parent / "vitals"
DEFINITION = json.loads((MODEL / "ehr" / "features.json").read_text())

needs_program = pytest.mark.skipif(not Path(MEDFUSION).exists(), reason="skipped: the program is not built")
needs_data = pytest.mark.skipif(not SHARED.exists(), reason="skipped: no ../shared/data")


def run(*arguments, **keywords):
    return subprocess.run([MEDFUSION, "fhir", "features", "--model", str(MODEL), *map(str, arguments)],
                          capture_output=True, text=True, timeout=120, **keywords)


def printed(*arguments):
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(lines, resources, at=None):
    """Every printed line against the reference; returns the statuses seen."""
    expected = reference.patients(resources)
    assert [line["patient"] for line in lines] == [reference for reference, _, _ in expected]
    seen = []
    for line, (_, patient, observations) in zip(lines, expected):
        moment = reference.interval(at or reference.latest(observations) or latest_of_all(expected))
        want = reference.features(DEFINITION, patient, observations, moment)
        for got, ref in zip(line["features"], want, strict=True):
            if isinstance(ref["value"], (int, float)):
                assert got["value"] == pytest.approx(ref["value"], rel=1e-8), (line["patient"], got, ref)
            else:
                assert got["value"] == ref["value"], (line["patient"], got, ref)
            assert {k: v for k, v in got.items() if k != "value"} == {k: v for k, v in ref.items() if k != "value"}, line["patient"]
            seen.append((got["id"], got["status"]))
    return seen


def latest_of_all(table):
    return reference.latest([o for _, _, observations in table for o in observations])


@needs_program
@needs_data
@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("at", [None, "2015-06-30", "2012-01-15T12:00:00Z", "2030"])
def test_synthea(number, at):
    path = SHARED / "synthea" / f"patient_{number:02}.json"
    lines = printed(*(["--at", at] if at else []), path)
    compare(lines, reference.resources(path), at)


@needs_program
@needs_data
@pytest.mark.parametrize("name", ["thorax-nih", "covid-course"])
@pytest.mark.parametrize("at", [None, "2012-01-15T12:00:00Z"])
def test_bundles_that_ship(monkeypatch, name, at):
    """Every file there, compressed ones as they are."""
    monkeypatch.setattr(sys.modules[__name__], "MODEL", ROOT / "models" / name)
    monkeypatch.setattr(sys.modules[__name__], "DEFINITION", json.loads((MODEL / "ehr" / "features.json").read_text()))
    seen = []
    for path in sorted([*SHARED.glob("synthea/*.json"), *SHARED.glob("mimic_iv_demo/*.gz")]):
        resources = reference.resources(path)
        moment = at or ("2180" if latest_of_all(reference.patients(resources)) is None else None)
        seen += compare(printed(*(["--at", moment] if moment else []), path), resources, moment)
    assert len(seen) > 600 * len(DEFINITION["features"]) and ("sex", "used") in seen


@needs_program
@needs_data
def test_mimic_patients_and_vital_signs(tmp_path):
    names = ["MimicPatient", "MimicObservationVitalSignsED", "MimicObservationED"]
    path = tmp_path / "mimic.ndjson"
    path.write_bytes(b"".join(gzip.decompress((SHARED / "mimic_iv_demo" / f"{n}.ndjson.gz").read_bytes()) for n in names))
    seen = compare(printed(path), reference.resources(path))
    assert len(seen) == 100 * len(DEFINITION["features"])
    for status, least in (("used", 500), ("missing", 500), ("stale", 1), ("implausible", 20)):  # the data must exercise the rules
        assert sum(s == status for _, s in seen) >= least, status
    assert seen.count(("temperature", "used")) > 50


@needs_program
@needs_data
def test_observations_without_their_patients(tmp_path):
    path = tmp_path / "vitals.ndjson"
    path.write_bytes(gzip.decompress((SHARED / "mimic_iv_demo" / "MimicObservationVitalSignsED.ndjson.gz").read_bytes()))
    seen = compare(printed(path), reference.resources(path))
    assert all(status == "missing" for name, status in seen if name in ("age", "sex"))


@needs_program
def test_excerpt_equals_the_committed_values():
    """The same without ../shared: a shipped excerpt with the values the reference found."""
    folder = Path(__file__).parent / "excerpt"
    lines = printed(folder / "patients.ndjson")
    assert lines == json.loads((folder / "expected.json").read_text())
    compare(lines, reference.resources(folder / "patients.ndjson"))
