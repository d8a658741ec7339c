"""Feedback through all processes: what readers say moves the levels of the next study, survives a restart, is seen in
/v1/quality and /metrics, and goes with the job's data. models/evaluate on the same program."""
import csv
import json
import subprocess
import sys

import numpy
import pydicom
import pytest
import requests
from jsonschema import Draft202012Validator

import bad_input
import bundles
import daemon as daemons

FRONTAL = {"modalities": ["CR", "DX"], "views": ["PA", "AP"], "body_parts": [], "require": []}


def calibrate(bundle):
    """Adds a calibration of 99 positive and 99 negative cases a label, whose logits are spread evenly."""
    inspected = subprocess.run([bundles.PROGRAM, "model", "inspect", bundle], check=True, capture_output=True)
    model = json.loads(inspected.stdout)
    origin = {"id": "c1", "created": "2026-11-22T00:00:00Z", "source": "test", "patients": 198,
              "model_hash": model["model_hash"]}
    labels = [label["id"] for label in json.loads((bundle / "bundle.json").read_text())["labels"]]
    logits = numpy.linspace(-3, 3, 99).tolist()
    documents = {
        "calibration": {"schema": "medfusion.calibration/1", **origin, "labels": [
            {"id": name, "n_pos": 99, "n_neg": 99, "method": "identity", "parameters": [], "cross_validated_nll": {}}
            for name in labels]},
        "conformal": {"schema": "medfusion.conformal/1", **origin, "method": "split_conformal", "taxonomy": "label_class",
                      "score": "logit", "risk_control": None,
                      "labels": [{"id": name, "positive": logits, "negative": logits} for name in labels]}}
    for name, document in documents.items():
        (bundle / f"{name}.json").write_text(json.dumps(document))
    bundles.write_manifest(bundle)
    return bundle


def valid(name, document):
    schema = json.loads((bundles.ROOT / f"schemas/{name}.schema.json").read_text())
    assert [error.message for error in Draft202012Validator(schema).iter_errors(document)] == []
    return document


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return calibrate(bundles.make_bundle(tmp_path_factory.mktemp("bundle") / "calibrated", name="calibrated", accepts=FRONTAL))


@pytest.fixture
def adaptive(tmp_path, bundle):
    running = daemons.Daemon(tmp_path, bundle, **{"trust.feedback": "adapt"}).start()
    yield running
    running.stop()


def result(daemon, site="north"):
    response = daemon.post([bad_input.NEWEST.read_bytes()], options=json.dumps({"site": site}).encode(),
                           headers={"Prefer": "wait=60"})
    assert response.status_code == 200, response.text
    return response.json()


def say(daemon, job, labels, reader="anna"):
    response = requests.put(f"{daemon.url}/v1/jobs/{job}/feedback", json={"reader": reader, "labels": labels}, timeout=60)
    assert response.status_code == 200, response.text
    return valid("feedback", response.json())


def quality(daemon, query=""):
    """The report on the only model."""
    (model,) = valid("quality", daemon.get(f"/v1/quality{query}").json())["models"]
    return model


def levels(document, label):
    return document["adaptation"]["levels"]["labels"][label]


def test_feedback_moves_the_levels_of_its_site_across_restarts(adaptive):
    first = result(adaptive)
    label = first["predictions"][0]["label"]
    assert first["predictions"][0]["method"] == "adaptive_conformal"
    assert first["adaptation"]["levels"]["version"] == 0 and levels(first, label) == {"present": 0.1, "absent": 0.1}
    held = "present" in first["predictions"][0]["prediction_set"]
    for _ in range(2):  # the same again changes nothing
        assert say(adaptive, first["job"], {label: "present"})["agreed"] == {label: "present"}
    second = result(adaptive)
    moved = 0.1 + 0.005 * (0.1 - (not held))
    assert second["adaptation"]["levels"]["version"] == 1
    assert levels(second, label) == {"present": pytest.approx(moved), "absent": 0.1}
    assert result(adaptive, "south")["adaptation"]["levels"]["version"] == 0
    assert adaptive.stop() == 0
    adaptive.start()
    third = result(adaptive)
    assert third["adaptation"]["levels"] == second["adaptation"]["levels"]
    say(adaptive, first["job"], {})  # taken back
    assert levels(result(adaptive), label)["present"] == pytest.approx(0.1)


def test_quality_counts_results_and_feedback_until_they_are_purged(adaptive):
    jobs = [result(adaptive)["job"] for _ in range(3)]
    label = quality(adaptive)["labels"][0]["label"]
    say(adaptive, jobs[0], {label: "absent"})
    report = quality(adaptive, "?model=calibrated&last=10")
    assert report["window"]["results"] == 3 and report["window"]["with_feedback"] == 1
    assert report["labels"][0]["coverage"]["absent"]["n"] == 1
    assert report["labels"][0]["scores"]["reference"] == 198 and report["alarms"] == []
    assert quality(adaptive, "?site=elsewhere")["window"]["results"] == 0
    assert 'medfusion_quality_alarms{model="calibrated",kind="coverage"} 0' in adaptive.get("/metrics").text
    assert adaptive.delete(f"/v1/jobs/{jobs[0]}/data").status_code == 204
    report = quality(adaptive)
    assert report["window"]["results"] == 2 and report["window"]["with_feedback"] == 0
    assert adaptive.get(f"/v1/jobs/{jobs[0]}/feedback").status_code == 410


def test_by_default_feedback_is_kept_and_changes_no_set(tmp_path, bundle):
    daemon = daemons.Daemon(tmp_path, bundle).start()
    first = result(daemon)
    label = first["predictions"][0]["label"]
    assert first["adaptation"]["levels"] is None and first["predictions"][0]["method"] == "split_conformal"
    say(daemon, first["job"], {label: "present"})
    second = result(daemon)
    assert second["predictions"] == first["predictions"]
    assert daemon.stop() == 0


def test_models_evaluate_makes_a_report_of_two_bundles(tmp_path, bundle):
    """Six invented patients of one image each: every step of the command, not its figures."""
    labels = [label["id"] for label in json.loads((bundle / "bundle.json").read_text())["labels"]]
    dataset = pydicom.dcmread(bad_input.NEWEST)
    with open(tmp_path / "manifest.csv", "w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["path", "patient_id", *labels])
        for i in range(6):
            dataset.PatientID = f"E{i}"
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(dataset, keyword, f"1.2.3.{i}.{len(keyword)}")
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(tmp_path / f"{i}.dcm", enforce_file_format=True)
            writer.writerow([f"{i}.dcm", f"E{i}", *[i % 2] * len(labels)])
    run = subprocess.run(
        [bundles.ROOT / "models/evaluate", tmp_path / "manifest.csv", f"a={bundle}", f"b={bundle}", "-o", tmp_path / "out",
         "--program", bundles.PROGRAM, "--corruptions", "noise", "--severities", "1,5", "--resamples", "20"],
        capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable})
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert list(report["bundles"]["a"]["conditions"]) == ["clean", "noise-1", "noise-5"]
    clean = report["bundles"]["a"]["conditions"]["clean"]
    assert clean["cases"] == 6 and clean["labels"][labels[0]]["positives"] == 3
    assert report["differences"]["a − b"]["value"] == 0
    assert (tmp_path / "out/report.html").read_text().count("<svg") == 7
