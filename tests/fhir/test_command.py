"""`medfusion fhir features` as a command: arguments, exit statuses, one line of error, what it prints for whom."""

import gzip
import json
import subprocess

import pytest
from test_real_files import MEDFUSION, MODEL, needs_program

pytestmark = needs_program

PATIENT = {"resourceType": "Patient", "id": "1", "birthDate": "1980-06-15", "gender": "female"}
WEIGHT = {"resourceType": "Observation", "id": "w", "status": "final", "subject": {"reference": "Patient/1"},
          "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}, "effectiveDateTime": "2020-06-14",
          "valueQuantity": {"value": 150, "code": "[lb_av]", "system": "http://unitsofmeasure.org"}}


def run(*arguments, stdin=None):
    return subprocess.run([MEDFUSION, "fhir", *map(str, arguments)], capture_output=True, text=True, input=stdin, timeout=60)


def features(*arguments, stdin=None):
    done = run("features", "--model", MODEL, *arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def ndjson(*resources):
    return "".join(json.dumps(r) + "\n" for r in resources)


@pytest.mark.parametrize("arguments, sentence", [
    ([], 'expected "features" or "check", see --help'),
    (["report"], 'expected "features" or "check", see --help'),
    (["check"], "one DIR or FILE is needed, see --help"),
    (["features", "--model", MODEL, "--format", "xml", "x"], "--format: json or table"),
    (["features"], "--model DIR and one FILE are needed, see --help"),
    (["features", "x.json"], "--model DIR and one FILE are needed, see --help"),
    (["features", "--model", MODEL], "--model DIR and one FILE are needed, see --help"),
    (["features", "--model", MODEL, "a", "b"], "--model DIR and one FILE are needed, see --help"),
    (["features", "--model"], "--model needs a value, see --help"),
    (["features", "--when", "now"], "unknown option --when, see --help"),
    (["features", "--model", MODEL, "--at", "yesterday", "x"], "--at: not a FHIR date or dateTime"),
    (["features", "--model", "x" * 5000, "x"], "--model: the path is too long"),
])
def test_usage(arguments, sentence):
    done = run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"medfusion fhir: {sentence}\n")


@pytest.mark.parametrize("text, sentence", [
    ("", "empty, no FHIR in it"),
    (" \n\n", "empty, no FHIR in it"),
    ("<Bundle/>", "FHIR in XML is not supported, send JSON"),
    ('{"resourceType": "Medication"}', "no Patient in the FHIR data"),
    (json.dumps(PATIENT), "nothing in it has a time, use --at"),
    ("[" * 10000 + "]" * 10000, "JSON is nested deeper than 64 levels"),
])
def test_files_that_cannot_be_used(tmp_path, text, sentence):
    path = tmp_path / "ehr.json"
    path.write_text(text)
    done = run("features", "--model", MODEL, path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"medfusion fhir: {path}: {sentence}\n")


@pytest.mark.parametrize("change, sentence", [
    (lambda packed: packed[:-20], "damaged gzip data (unexpected end of file)"),
    (lambda packed: packed[:-6] + b"\0" + packed[-5:], "damaged gzip data (incorrect data check)"),
    (lambda packed: packed + gzip.compress(b"<Bundle/>\n"), "not valid JSON (line 2, column 1)"),
])
def test_damaged_archives(tmp_path, change, sentence):
    path = tmp_path / "ehr.ndjson.gz"
    path.write_bytes(change(gzip.compress(json.dumps(PATIENT).encode() + b"\n")))
    done = run("features", "--model", MODEL, "--at", "2020", path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"medfusion fhir: {path}: {sentence}\n")


def test_other_encodings_are_named(tmp_path):
    path = tmp_path / "ehr.json"
    path.write_bytes(json.dumps(PATIENT).encode("utf-16"))
    done = run("features", "--model", MODEL, path)
    assert (done.returncode, done.stderr) == (1, f"medfusion fhir: {path}: FHIR in UTF-16 is not supported, send JSON\n")


def test_compressed_files_are_read_like_others(tmp_path):
    path = tmp_path / "ehr.ndjson.gz"
    path.write_bytes(gzip.compress(ndjson(PATIENT).encode()) + gzip.compress(ndjson(WEIGHT).encode()))  # two members are one text
    assert features(path) == features("-", stdin=ndjson(PATIENT, WEIGHT))


def test_a_file_without_observations_has_the_latest_date_of_the_rest():
    stay = {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "IMP"}, "subject": {"reference": "Patient/1"},
            "period": {"start": "2021-03-04T05:06:07Z", "end": "2021-03-09T00:00:00Z"}}
    gone = {"resourceType": "Condition", "id": "c", "subject": {"reference": "Patient/1"}, "recordedDate": "2024-01-01",
            "verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
    (line,) = features("-", stdin=ndjson(PATIENT, stay, gone))
    assert line["reference_time"] == "2021-03-04T05:06:07Z" and line["features"][0]["value"] == 40
    (line,) = features("-", stdin=ndjson(PATIENT, stay, gone, WEIGHT))
    assert line["reference_time"] == "2020-06-14"


def test_missing_files():
    done = run("features", "--model", MODEL, "/nonexistent.json")
    assert (done.returncode, done.stderr) == (1, "medfusion fhir: /nonexistent.json: No such file or directory\n")
    done = run("features", "--model", "/nonexistent", "x")
    assert (done.returncode, done.stderr) == (1, "medfusion fhir: /nonexistent/ehr/features.json: No such file or directory\n")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["features", "--help"], ["features", "-h"]])
def test_help(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("usage: medfusion fhir features")


def test_reference_time_is_the_latest_observation_or_what_was_said():
    for at, time, age, weight in (([], "2020-06-14", 39, "used"), (["--at", "2020-06-15T01:00:00+02:00"], "2020-06-14T23:00:00Z", 39, "used"),
                                  (["--at", "2020-06-15"], "2020-06-15", 40, "used"), (["--at", "2025"], "2025", 45, "stale"),
                                  (["--at", "2019-01-01"], "2019-01-01", 38, "missing")):
        (line,) = features(*at, "-", stdin=ndjson(PATIENT, WEIGHT))
        values = {f["id"]: f for f in line["features"]}
        assert (line["reference_time"], line["patient"]) == (time, "Patient/1")
        assert (values["age"]["value"], values["weight"]["status"]) == (age, weight)
    assert values["weight"]["value"] is None


def test_units_are_converted_and_the_source_is_named():
    (line,) = features("-", stdin=ndjson(PATIENT, WEIGHT))
    values = {f["id"]: f for f in line["features"]}
    assert values["weight"] == {"id": "weight", "value": pytest.approx(68.0388555), "unit": "kg", "status": "used",
                                "source": "Observation/w", "time": "2020-06-14", "policy": None}
    assert values["weight_lb"]["value"] == 150


def test_every_patient_has_a_line_at_a_time_of_their_own():
    other = PATIENT | {"id": "2", "gender": "male"}
    later = WEIGHT | {"id": "v", "subject": {"reference": "Patient/2"}, "effectiveDateTime": "2022-01-01"}
    third = PATIENT | {"id": "3"}
    lines = features("-", stdin=ndjson(PATIENT, other, third, WEIGHT, later))
    assert [(line["patient"], line["reference_time"]) for line in lines] == [
        ("Patient/1", "2020-06-14"), ("Patient/2", "2022-01-01"), ("Patient/3", "2022-01-01")]


def test_a_table_for_people():
    done = run("features", "--model", MODEL, "--format", "table", "-", stdin=ndjson(PATIENT, WEIGHT))
    head, columns, *rows = done.stdout.splitlines()
    assert (done.returncode, head, columns.split()) == (0, "Patient/1 at 2020-06-14", ["FEATURE", "VALUE", "UNIT", "STATUS", "TIME", "SOURCE"])
    cells = {row.split()[0]: row.split()[1:] for row in rows if row}
    assert cells["weight"] == ["68.0389", "kg", "used", "2020-06-14", "Observation/w"]
    assert cells["temperature"] == ["-", "Cel", "missing", "-", "-"]
    start = columns.index("STATUS")
    assert all(row[start:].split()[0] in ("used", "missing", "stale", "implausible") for row in rows if row)  # columns line up


def test_check_tells_every_mistake(tmp_path):
    done = run("check", MODEL)
    assert (done.returncode, done.stdout) == (0, f"{MODEL}/ehr/features.json: 23 features, no mistake\n")
    path = tmp_path / "features.json"
    path.write_text(json.dumps({"schema": "medfusion.features/1", "features": [
        {"id": "crp", "kind": "numeric", "unit": "mg/L", "conversions": {"mg/dL": 100}, "sources": ["fhir:CRP"], "mean": 0, "std": 1},
        {"id": "ldh", "kind": "numeric", "unit": "U/L", "conversions": {"kat/L": 1}, "sources": ["dicom:PatientAge"], "mean": 0, "std": 1},
        {"id": "sex", "kind": "sex"}]}))
    done = run("check", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"{path}: features[0].sources[0]: not a source that MedFusion knows",
        f"{path}: features[1].conversions: 1 kat/L is 6e+07 U/L by UCUM, not 1",
        f"{path}: features[2].kind: must be numeric or categorical",
        f"medfusion fhir: {path}: 3 mistakes"]


def test_a_path_names_the_element():
    wrong = {"resourceType": "Bundle", "type": "searchset", "entry": [
        {"resource": PATIENT}, {"resource": WEIGHT | {"component": [{"code": {}}, {"code": {"coding": [{"code": 5}]}}]}}]}
    done = run("features", "--model", MODEL, "-", stdin=json.dumps(wrong))
    assert done.stderr == "medfusion fhir: /dev/stdin: Bundle.entry[1].resource.component[1].code.coding[0].code must be a string\n"


def test_a_full_disk_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run([MEDFUSION, "fhir", "features", "--model", str(MODEL), "-"], stdout=full, stderr=subprocess.PIPE,
                              input=ndjson(PATIENT, WEIGHT), text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "medfusion fhir: cannot write to standard output\n")
