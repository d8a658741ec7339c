"""Explanations as a user gets them: `predict --explain`, and the option `explain` of a job."""
import io
import json
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

import bad_input
import bundles
import daemon as daemons
from artifact_study import problems

MODEL = bundles.ROOT / "models/thorax-nih"
SCHEMA = json.loads((bundles.ROOT / "schemas/explanation.schema.json").read_text())
SAMPLE = sorted((bad_input.SAMPLE / "dicom").glob("*.dcm"))[-2:]  # two studies of one patient


def check(explanation, result):
    """The document and what must hold of its numbers."""
    Draft202012Validator(SCHEMA).validate(explanation)
    assert explanation["model_hash"] == result["model"]["model_hash"]
    frames = result["study"]["frames"]
    assert [f["sop_instance_uid"] for f in explanation["frames"]] == [f["sop_instance_uid"] for f in frames]
    assert [f["box"] for f in explanation["frames"]] == [f["segmentation"]["box"] for f in frames]
    cells = explanation["grid"][0] * explanation["grid"][1]
    rollout = sum(sum(f["rollout"]) for f in explanation["frames"]) + explanation["rollout_of_ehr"]
    assert rollout == pytest.approx(1, abs=1e-4)
    present = [p for p in result["predictions"] if p["state"] == "present"] or result["predictions"]
    present.sort(key=lambda p: -p["probability"])
    assert explanation["labels"][0]["label"] == present[0]["label"]
    logits = {p["label"]: p["logit"] for p in result["predictions"]}
    for label in explanation["labels"]:
        assert label["logit"] == pytest.approx(logits[label["label"]], abs=1e-3)
        assert all(len(f[key]) == cells for f in label["frames"] for key in ("attribution", "relevance"))
        made = sum(sum(f["attribution"]) for f in label["frames"])
        assert made == pytest.approx(label["logit"] - label["blurred_logit"], abs=0.1)
        assert sum(f["shapley"] for f in label["features"]) == pytest.approx(label["logit"] - label["unknown_logit"], abs=1e-4)
        shares = sum(sum(f["relevance"]) for f in label["frames"]) + label["relevance_of_ehr"]
        assert shares == pytest.approx(1, abs=1e-4)
        for frame in label["frames"]:
            assert (frame["left_out"] is None) == (len(frames) == 1)
            whole = sum(frame["attribution"])
            for parts in (("upper_left", "upper_right", "lower_left", "lower_right"), ("image_left", "image_right", "outside")):
                assert sum(frame["parts"][p]["area"] for p in parts) == pytest.approx(1, abs=1e-4)
                assert sum(frame["parts"][p]["attribution"] for p in parts) == pytest.approx(whole, abs=1e-3)


def coloured(picture):
    """The share of pixels that are not grey."""
    pixels = np.asarray(Image.open(io.BytesIO(picture))).astype(int)
    assert pixels.ndim == 3 and max(pixels.shape) <= 1024
    return float((np.ptp(pixels, 2) > 8).mean())


def test_predict_writes_the_explanation_and_its_pictures(tmp_path):
    command = [bundles.PROGRAM, "predict", "--model", MODEL, "--explain", tmp_path / "why", *SAMPLE]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(len(r["study"]["frames"]) > 1 for r in results)
    for result in results:
        folder = tmp_path / "why" / result["study"]["study_instance_uid"]
        explanation = json.loads((folder / "explanation.json").read_text())
        check(explanation, result)
        labels = [label["label"] for label in explanation["labels"]]
        names = {"rollout"} | {f"{kind}-{label}" for kind in ("attribution", "relevance") for label in labels}
        assert {f.stem for f in folder.glob("*.png")} == names
        assert all(0.01 < coloured((folder / f"{name}.png").read_bytes()) < 0.95 for name in names)


def stretched(cells, rows, columns):
    """A map at another size: bilinear between the centres of its cells."""
    def axis(n, m):
        at = np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1)
        low = at.astype(int)
        return low, np.minimum(low + 1, m - 1), at - low
    y0, y1, v = axis(rows, cells.shape[0])
    x0, x1, h = axis(columns, cells.shape[1])
    upper = cells[y0][:, x0] * (1 - h) + cells[y0][:, x1] * h
    lower = cells[y1][:, x0] * (1 - h) + cells[y1][:, x1] * h
    return upper * (1 - v[:, None]) + lower * v[:, None]


def check_map(file, explanation, result):
    """The relevance of every label on every image of the study, cell by cell."""
    assert problems(file) == []
    ds = pydicom.dcmread(file)
    assert (ds.SegmentationType, ds.SegmentationFractionalType, ds.MaximumFractionalValue) == ("FRACTIONAL", "PROBABILITY", 255)
    names = {p["label"]: p["display"] for p in result["predictions"]}
    assert [s.SegmentLabel for s in ds.SegmentSequence] == [names[label["label"]] for label in explanation["labels"]]
    current = {f["sop_instance_uid"]: k for k, f in enumerate(result["study"]["frames"]) if f["role"] == "current"}
    planes = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns)
    assert len(planes) == len(current) * len(explanation["labels"])
    for groups, pixels in zip(ds.PerFrameFunctionalGroupsSequence, planes, strict=True):
        label = explanation["labels"][groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1]
        k = current[groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        x0, y0, x1, y1 = explanation["frames"][k]["box"]
        cells = np.array(label["frames"][k]["relevance"]).reshape(explanation["grid"]) / max(max(f["relevance"]) for f in label["frames"])
        expected = np.zeros(pixels.shape)
        expected[y0:y1, x0:x1] = stretched(cells, y1 - y0, x1 - x0)
        assert np.abs(pixels - 255 * expected).max() < 0.51
    highdicom.seg.segread(file)


def test_relevance_is_a_segmentation_of_fractions(tmp_path):
    command = [bundles.PROGRAM, "predict", "--model", MODEL, "--explain", tmp_path / "why", "--artifacts", tmp_path / "objects", *SAMPLE]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 2
    for result in results:
        study = result["study"]["study_instance_uid"]
        check_map(tmp_path / "objects" / study / "map.dcm", json.loads((tmp_path / "why" / study / "explanation.json").read_text()), result)


def test_a_prediction_that_is_explained_is_the_same(tmp_path):
    results = []
    for extra in ([], ["--explain", tmp_path / "why"]):
        command = [bundles.PROGRAM, "predict", "--model", MODEL, *extra, SAMPLE[-1]]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
        result = json.loads(done.stdout)
        del result["timing_ms"]
        results.append(result)
    assert results[0] == results[1]


def test_a_job_keeps_the_explanation_that_it_asked_for(tmp_path, tmp_path_factory):
    daemon = daemons.Daemon(tmp_path_factory.mktemp("explain"), MODEL)
    daemon.start()
    try:
        files = [SAMPLE[-1].read_bytes()]
        job = daemon.post(files, options='{"explain": true}').json()["id"]
        assert daemon.wait(f"/v1/jobs/{job}")["state"] == "succeeded"
        result = daemon.get(f"/v1/jobs/{job}/result").json()
        listed = {a["name"]: a for a in daemon.get(f"/v1/jobs/{job}/artifacts").json()["artifacts"]}
        explanation = daemon.get(listed["explanation"]["href"])
        assert explanation.headers["Content-Type"] == "application/json"
        check(explanation.json(), result)
        relevance = daemon.get(listed["map"]["href"])
        assert listed["map"]["sop_class_uid"] == "1.2.840.10008.5.1.4.1.1.66.4" and relevance.headers["Content-Type"] == "application/dicom"
        assert relevance.content == daemon.get(listed["map"]["href"]).content
        (tmp_path / "map.dcm").write_bytes(relevance.content)
        check_map(tmp_path / "map.dcm", explanation.json(), result)
        pictures = [a for a in listed.values() if a["media_type"] == "image/png"]
        assert len(pictures) == 1 + 2 * len(explanation.json()["labels"])
        for picture in pictures:
            got = daemon.get(picture["href"])
            assert got.headers["Content-Type"] == "image/png"
            assert 0.01 < coloured(got.content) < 0.95
        assert daemon.get(f"/v1/jobs/{job}/artifacts/attribution-Nothing").status_code == 404
        assert daemon.get(pictures[0]["href"], headers={"Accept": "application/json"}).status_code == 406
        assert daemon.delete(f"/v1/jobs/{job}/data").status_code == 204
        assert daemon.get(listed["explanation"]["href"]).status_code == 410
        plain = daemon.post(files).json()["id"]
        assert daemon.wait(f"/v1/jobs/{plain}")["state"] == "succeeded"
        names = [a["name"] for a in daemon.get(f"/v1/jobs/{plain}/artifacts").json()["artifacts"]]
        assert "explanation" not in names and "map" not in names
        assert daemon.get(f"/v1/jobs/{plain}/artifacts/explanation").status_code == 404
        assert daemon.get(f"/v1/jobs/{plain}/artifacts/rollout").status_code == 404
        assert daemon.post(files, options='{"explain": "yes"}').status_code == 422
    finally:
        daemon.stop()
