"""Properties that hold for any input: units come back from where they went, the order of a Bundle means nothing, what is not
asked for changes nothing, and how a document is wrapped does not matter."""

import json
import random
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_real_files import MEDFUSION, MODEL, Path, needs_program, reference

pytestmark = needs_program

SETTINGS = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

FAMILIES = {
    "mass per volume": ["mg/dL", "g/L", "ug/mL", "kg/m3", "ng/nL", "mg/(10.dL)"],
    "temperature": ["Cel", "[degF]", "K"],
    "pressure": ["mm[Hg]", "kPa", "cm[H2O]", "bar", "mbar"],
    "length": ["m", "cm", "[in_i]", "[ft_i]", "um"],
    "mass": ["kg", "g", "[lb_av]", "[oz_av]", "mg"],
    "time": ["a", "mo", "wk", "d", "h", "min"],
    "share": ["%", "1", "[ppth]"],
    "cells": ["10*3/uL", "10*9/L", "/uL", "10*6/mL", "/nL"],
    "rate": ["/min", "/s", "Hz", "{beats}/min"],
    "activity": ["U/L", "ukat/L", "nkat/mL"],
    "glucose": ["mg/dL", "mmol/L", "g/L", "umol/mL"],
}
MOLAR = {"glucose": 180.156}


def features(model, resources, *arguments):
    done = subprocess.run([MEDFUSION, "fhir", "features", "--model", str(model), "--format", "json", *arguments, "-"], capture_output=True,
                          text=True, timeout=60, input="".join(json.dumps(r) + "\n" for r in resources))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return {line["patient"]: {f["id"]: f for f in line["features"]} for line in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def units_model(tmp_path_factory):
    """A feature for every unit of every family: the same measurement in each."""
    folder = tmp_path_factory.mktemp("units")
    (folder / "ehr").mkdir()
    rows = [{"id": f"{family}|{unit}", "kind": "numeric", "unit": unit, "sources": [{"fhir": [{"system": "f", "code": family}]}], "mean": 0, "std": 1}
            | ({"molar_mass": MOLAR[family]} if family in MOLAR else {}) for family, units in FAMILIES.items() for unit in units]
    (folder / "ehr" / "features.json").write_text(json.dumps({"schema": "medfusion.features/1", "features": rows}))
    return folder


def measured(number, family, unit, value):
    return {"resourceType": "Observation", "id": f"o{number}", "subject": {"reference": f"Patient/{number}"}, "effectiveDateTime": "2020-01-01",
            "code": {"coding": [{"system": "f", "code": family}]},
            "valueQuantity": {"value": value, "unit": unit, "code": unit, "system": "http://unitsofmeasure.org"}}


@SETTINGS
@given(st.lists(st.tuples(st.sampled_from(sorted(FAMILIES)), st.integers(0, 5), st.floats(1e-3, 1e4)), min_size=1, max_size=20))
def test_units_round_trip(units_model, cases):
    there = [(family, FAMILIES[family][unit % len(FAMILIES[family])], float(f"{value:.6g}")) for family, unit, value in cases]
    got = features(units_model, [measured(i, *case) for i, case in enumerate(there)])
    back, expected = [], []
    for i, (family, unit, value) in enumerate(there):
        for other in FAMILIES[family]:
            mine = got[f"Patient/{i}"][f"{family}|{other}"]
            assert (mine["status"], mine["unit"]) == ("used", other)
            back.append(measured(len(back), family, other, mine["value"]))
            expected.append((f"{family}|{unit}", value))
    again = features(units_model, back)
    for i, (name, value) in enumerate(expected):
        scale = abs(value) + (500 if name.startswith("temperature") else 0)  # a scale with another zero loses digits near it
        assert again[f"Patient/{i}"][name]["value"] == pytest.approx(value, abs=1e-7 * scale)


EXCERPT = reference.resources(Path(__file__).parent / "excerpt" / "patients.ndjson")


@pytest.fixture(scope="module")
def whole():
    return features(MODEL, EXCERPT, "--at", "2180")


@SETTINGS
@given(st.randoms(use_true_random=False))
def test_the_order_of_a_bundle_means_nothing(whole, rng):
    shuffled = list(EXCERPT)
    rng.shuffle(shuffled)
    assert features(MODEL, shuffled, "--at", "2180") == whole


IRRELEVANT = st.lists(st.sampled_from([
    {"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "0-0"}]}, "valueInteger": 7,
     "effectiveDateTime": "2100"},
    {"resourceType": "Observation", "status": "entered-in-error", "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
     "valueQuantity": {"value": 70, "unit": "/min"}, "effectiveDateTime": "2179-12-31"},
    {"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
     "valueQuantity": {"value": 70, "unit": "/min"}, "effectiveDateTime": "2190"},
    {"resourceType": "Observation", "status": "final", "code": {"coding": [{"system": "http://other.org", "code": "8867-4"}]},
     "valueQuantity": {"value": 70, "unit": "/min"}, "effectiveDateTime": "2179-12-31"},
    {"resourceType": "Condition", "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}, "onsetDateTime": "2100"},
    {"resourceType": "Claim", "status": "active"},
    {"resourceType": "Bundle", "type": "batch", "entry": []},
]), min_size=1, max_size=12)


@SETTINGS
@given(IRRELEVANT, st.integers(0, 1 << 30))
def test_what_is_not_asked_for_changes_nothing(whole, extra, seed):
    rng = random.Random(seed)
    patients = [r["id"] for r in EXCERPT if r["resourceType"] == "Patient"]
    mixed = list(EXCERPT)
    for i, resource in enumerate(extra):
        place = rng.randrange(len(mixed))
        subject = {} if resource["resourceType"] == "Bundle" else {"subject": {"reference": "Patient/" + rng.choice(patients)}}
        mixed.insert(place, resource | subject | {"id": f"extra-{i}"})
    assert features(MODEL, mixed, "--at", "2180") == whole


@pytest.mark.parametrize("kind", ["transaction", "batch", "collection", "searchset", "document"])
def test_how_it_is_wrapped_does_not_matter(tmp_path, whole, kind):
    path = tmp_path / "bundle.json"
    entries = [{"fullUrl": f"https://ehr.example/fhir/{r['resourceType']}/{r['id']}", "resource": r, "search": {"mode": "match"}} for r in EXCERPT]
    path.write_text(json.dumps({"entry": entries, "type": kind, "resourceType": "Bundle"}, indent=1))
    done = subprocess.run([MEDFUSION, "fhir", "features", "--model", str(MODEL), "--at", "2180", path], capture_output=True, text=True, timeout=60)
    assert {line["patient"]: {f["id"]: f for f in line["features"]} for line in map(json.loads, done.stdout.splitlines())} == whole
