"""A bundle whose labels exclude each other: calibrated by the program, probabilities that sum to one and a RAPS set in every form of its results."""
import json
import pathlib
import random
import subprocess

import pytest
from jsonschema import Draft202012Validator

import bad_input
import bundles

LABELS = [f"L{i}" for i in range(5)]


def run(*arguments, status=0):
    done = subprocess.run([str(bundles.PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done


def manifest(directory: pathlib.Path, rows) -> pathlib.Path:
    path = directory / "manifest.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in [("path", "patient_id", *LABELS), *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundles.make_bundle(tmp_path_factory.mktemp("exclusive") / "bundle", name="exclusive", exclusive=True)


@pytest.fixture(scope="module")
def calibrated(model, tmp_path_factory):
    directory, draw, rows = tmp_path_factory.mktemp("cases"), random.Random(1), []
    for i in range(30):
        (directory / f"{i}.dcm").write_bytes(bad_input.changed(
            PatientID=f"p{i}", StudyInstanceUID=f"2.25.{1000 + i}", SOPInstanceUID=f"2.25.{5000 + i}", WindowCenter=100 + i, WindowWidth=200))
        label = draw.randrange(len(LABELS))
        rows.append((f"{i}.dcm", f"p{i}", *(int(c == label) for c in range(len(LABELS)))))
    run("calibrate", "--model", model, "--manifest", manifest(directory, rows), "-o", directory / "out")
    return directory / "out"


def test_a_result_has_one_distribution_and_one_set(calibrated):
    result = json.loads(run("predict", "--model", calibrated, "--alpha", 0.3, "--format", "json", bad_input.NEWEST).stdout)
    schema = json.loads((bundles.ROOT / "schemas/result.schema.json").read_text())
    assert not list(Draft202012Validator(schema).iter_errors(result))
    probabilities = {p["label"]: p["probability"] for p in result["predictions"]}
    assert abs(sum(probabilities.values()) - 1) < 1e-9
    found = result["finding_set"]
    assert found["method"] == "raps" and found["alpha"] == 0.3
    assert found["labels"] == sorted(probabilities, key=probabilities.get, reverse=True)[: len(found["labels"])] != []
    assert result["adaptation"]["mode"] == "off"


def test_a_level_that_the_cases_cannot_keep_names_every_label(calibrated):
    result = json.loads(run("predict", "--model", calibrated, "--alpha", 0.01, "--format", "json", bad_input.NEWEST).stdout)
    assert sorted(result["finding_set"]["labels"]) == LABELS


@pytest.mark.parametrize("form", ["text", "fhir", "html"])
def test_every_form_is_written(calibrated, form):
    assert "Label 0" in run("predict", "--model", calibrated, "--format", form, bad_input.NEWEST).stdout


def test_the_bundle_says_so(calibrated):
    assert json.loads(run("model", "inspect", calibrated).stdout)["exclusive"] is True


def test_two_labels_of_one_patient_are_refused(model, tmp_path):
    (tmp_path / "0.dcm").write_bytes(bad_input.changed())
    done = run("calibrate", "--model", model, "--manifest", manifest(tmp_path, [("0.dcm", "p", 1, 1, 0, 0, 0)]), "-o", tmp_path / "out", status=1)
    assert "1 calibration cases have none or several of labels that exclude each other" in done.stderr
