"""CT series as volumes: equal to SimpleITK, through the command line and the service; bad series with the exact reason."""
import io
import json
import subprocess
import zipfile

import jsonschema
import numpy
import pytest

import bundles
import daemon as daemons
import volume_series
from volume_series import AXIAL, OBLIQUE, Series

GOLDEN = bundles.ROOT / "tests/golden/volumes"
SCHEMA = json.loads((bundles.ROOT / "schemas/result.schema.json").read_text())
TOLERANCE = 1e-3  # of the largest magnitude; SimpleITK's files are met within 1e-6


def run(*arguments):
    return subprocess.run([str(bundles.PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=300)


def write(datasets, directory):
    """Files in an order that is not the slices'."""
    directory.mkdir(exist_ok=True)
    for k, d in enumerate(reversed(datasets)):
        volume_series.save(d, directory / f"{k:03}.dcm")
    return directory


def resampled(directory, voxel, source):
    out = directory / "out.npy"
    done = run("dicom", "volume", "--voxel", ",".join(map(str, voxel)), "-o", out, source)
    assert done.returncode == 0, done.stderr
    return numpy.load(out), json.loads(done.stdout)


def assert_close(made, expected):
    assert made.shape == expected.shape and made.dtype == numpy.float32
    assert abs(made - expected).max() <= TOLERANCE * abs(expected).max()


@pytest.mark.parametrize("name", volume_series.CASES)
def test_a_series_is_resampled_as_simpleitk_does_it(tmp_path, name):
    series, voxel = volume_series.CASES[name]
    made, told = resampled(tmp_path, voxel, write(volume_series.single_frames(series), tmp_path / "series"))
    assert_close(made, numpy.load(GOLDEN / f"{name}.npy"))
    assert told["volume"]["slices"] == series.shape[0] and told["volume"]["planes"] == made.shape[0]
    assert told["flags"] == [] and told["left_out"] == []


def test_an_enhanced_object_is_the_same_volume_in_any_order_of_its_frames(tmp_path):
    series, voxel = volume_series.CASES["oblique-finer"]
    order = numpy.random.default_rng(7).permutation(series.shape[0]).tolist()
    file = volume_series.save(volume_series.enhanced(series, order), tmp_path / "enhanced.dcm")
    made, told = resampled(tmp_path, voxel, file)
    assert_close(made, numpy.load(GOLDEN / "oblique-finer.npy"))
    assert told["volume"]["slices"] == len(order)


def test_an_enhanced_mr_object_has_its_frames_own_geometry_and_scale(tmp_path):
    series, voxel = volume_series.CASES["oblique-finer"]
    order = numpy.random.default_rng(8).permutation(series.shape[0]).tolist()
    file = volume_series.save(volume_series.enhanced_mr(series, order), tmp_path / "mr.dcm")
    made, told = resampled(tmp_path, voxel, file)
    assert_close(made, numpy.load(GOLDEN / "oblique-finer.npy"))
    assert told["volume"]["slices"] == len(order) and told["flags"] == [] and told["left_out"] == []
    for at in (0, 1, len(order) - 1):
        done = run("dicom", "frame", "--index", at, "--stage", "modality", "-o", tmp_path / "frame.npy", file)
        assert done.returncode == 0, done.stderr
        assert numpy.array_equal(numpy.load(tmp_path / "frame.npy"), series.values()[order[at]].astype(numpy.float32))


def test_frames_of_an_enhanced_mr_object_that_lie_otherwise_are_left_out(tmp_path):
    series = Series((6, 8, 8), (2, 1, 1))
    ds = volume_series.enhanced_mr(series, range(6))
    ds.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
    del ds.PerFrameFunctionalGroupsSequence[5].PlanePositionSequence
    _, told = resampled(tmp_path, (2, 1, 1), volume_series.save(ds, tmp_path / "mr.dcm"))
    assert told["volume"]["slices"] == 4 and told["flags"] == ["volume_gaps", "volume_mixed_geometry"]


def test_padding_is_background(tmp_path):
    series = Series((4, 8, 8), (1, 1, 1))
    datasets = volume_series.single_frames(series)
    for d in datasets:
        d.PixelPaddingValue = 4095
        d.PixelData = b"\xff\x0f" * 64
    made, _ = resampled(tmp_path, (1, 1, 1), write(datasets, tmp_path / "series"))
    assert abs(made + 1024).max() < 1e-3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return bundles.make_volume_bundle(tmp_path_factory.mktemp("model") / "ct", [2, 1.5, 1.5], "ct", max_frames=6)


def test_a_result_says_of_what_its_volume_was_made(tmp_path, model):
    """Two slices missing, one twice, another orientation, a series beside it."""
    datasets = volume_series.single_frames(Series((24, 32, 40), (2.0, 0.8, 0.7)))
    extra = volume_series.single_frames(Series((3, 32, 40), (2.0, 0.8, 0.7)), number="2")
    twice = volume_series.single_frames(Series((8, 32, 40), (2.0, 0.8, 0.7)))[7]
    twice.InstanceNumber = 99
    turned = volume_series.single_frames(Series((1, 32, 40), (2.0, 0.8, 0.7), OBLIQUE))[0]
    done = run("predict", "--model", model, "--artifacts", tmp_path / "out",
               write([*datasets[:10], *datasets[12:], twice, turned, *extra], tmp_path / "study"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    jsonschema.validate(result, SCHEMA)
    volume = result["study"]["volume"]
    assert volume["slices"] == 22 and volume["gaps"] == 1 and volume["largest_distance_mm"] == pytest.approx(6)
    assert volume["duplicates"] == 1 and volume["other_geometry"] == 1 and volume["tilt_degrees"] == 0
    assert volume["spacing_mm"] == pytest.approx([2, 0.8, 0.7]) and volume["planes"] == 24
    assert volume["voxel_mm"] == pytest.approx([2, 32 * 0.8 / 17, 40 * 0.7 / 19])
    flags = set(result["quality"]["flags"])
    assert {"volume_gaps", "volume_duplicates", "volume_mixed_geometry"} <= flags and "gantry_tilt" not in flags
    reasons = {s["object"]: s["reason"] for s in result["quality"]["skipped"]}
    assert reasons == {
        twice.SOPInstanceUID: "at the position of another slice of the volume",
        turned.SOPInstanceUID: "another orientation, size or spacing than the volume's",
        extra[0].SeriesInstanceUID: "another series than the one analysed (3 frames)",
    }
    frames = result["study"]["frames"]
    by_uid = {d.SOPInstanceUID: float(d.ImagePositionPatient[2]) for d in datasets}
    heights = [by_uid[f["sop_instance_uid"]] for f in frames]
    assert len(frames) == 6 and heights == sorted(heights) and heights[0] == 7.75
    assert all(0 <= f["segmentation"]["box"][0] < f["segmentation"]["box"][2] <= 40 for f in frames)
    assert (tmp_path / "out" / result["study"]["study_instance_uid"] / "sr.dcm").exists()


def test_a_tilted_gantry_is_flagged(tmp_path, model):
    datasets = volume_series.single_frames(Series((12, 20, 20), (2.0, 1.0, 1.0)))
    for k, d in enumerate(datasets):
        x, y, z = map(float, d.ImagePositionPatient)
        d.ImagePositionPatient = volume_series.decimals([x, y + 0.5 * k, z])
    done = run("predict", "--model", model, write(datasets, tmp_path / "series"))
    result = json.loads(done.stdout)
    assert "gantry_tilt" in result["quality"]["flags"]
    assert result["study"]["volume"]["tilt_degrees"] == pytest.approx(numpy.degrees(numpy.arctan(0.25)), abs=1e-4)


def without(datasets, *keywords):
    for d in datasets:
        for keyword in keywords:
            delattr(d, keyword)
    return datasets


BAD = {
    "nowhere": (
        without(volume_series.single_frames(Series((3, 8, 8), (1, 1, 1))), "ImagePositionPatient"),
        "the series is no volume: none of its frames has a position and an orientation",
    ),
    "one slice": (
        volume_series.single_frames(Series((1, 8, 8), (1, 1, 1))),
        "the series is no volume: it has one slice",
    ),
    "no spacing": (
        without(volume_series.single_frames(Series((3, 8, 8), (1, 1, 1))), "PixelSpacing"),
        "the series is no volume: its pixel spacing is not known",
    ),
    "too long": (
        [volume_series.single_frames(Series((2, 8, 8), (90000.0, 1, 1), AXIAL))[k] for k in range(2)],
        "the series is no volume: 90000 slices of 2 mm in 180000 mm, at most 20000 can be made",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_volume_is_refused_with_the_reason(tmp_path, model, what):
    datasets, reason = BAD[what]
    done = run("predict", "--model", model, write(datasets, tmp_path / "series"))
    assert done.returncode == 1
    problem = json.loads(done.stdout)
    jsonschema.validate(problem, json.loads((bundles.ROOT / "schemas/problem.schema.json").read_text()))
    assert (problem["status"], problem["detail"]) == (422, reason)


def test_usage_is_told(tmp_path):
    for arguments, reason in (
        (["--voxel", "1,1", "-o", "x.npy", "y"], "--voxel: must be SLICE,ROW,COLUMN in mm, 0.01 to 100 each"),
        (["--voxel", "1,1,1", "y"], "volume takes --voxel S,R,C, -o OUT.npy and at least one PATH, see --help"),
    ):
        done = run("dicom", "volume", *arguments)
        assert (done.returncode, done.stderr) == (2, f"medfusion dicom: {reason}\n")


def test_the_service_runs_a_posted_series_and_refuses_what_is_none(tmp_path, model):
    series = Series((70, 32, 40), (1.0, 0.8, 0.7), seed=5)
    datasets = volume_series.single_frames(series)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        for k, d in enumerate(datasets):
            buffer = io.BytesIO()
            d.save_as(buffer, enforce_file_format=True)
            z.writestr(f"{k}.dcm", buffer.getvalue())
    server = daemons.Daemon(tmp_path / "daemon", model).start()
    try:
        response = server.post([archive.getvalue()], headers={"Prefer": "wait=60"})
        assert response.status_code == 200, response.text
        result = response.json()
        jsonschema.validate(result, SCHEMA)
        alone = run("predict", "--model", model, write(datasets, tmp_path / "series"))
        assert result["predictions"] == json.loads(alone.stdout)["predictions"]
        assert result["study"]["volume"]["slices"] == 70 and len(result["study"]["frames"]) == 6
        datasets, reason = BAD["one slice"]
        buffer = io.BytesIO()
        datasets[0].save_as(buffer, enforce_file_format=True)
        refused = server.post([buffer.getvalue()])
        assert (refused.status_code, refused.json()["detail"]) == (422, reason)
    finally:
        assert server.stop() == 0
