"""`medfusion model smooth`: int8 with factors from calibration studies stays near fp32 to the end of the pipeline."""
import json
import shutil
import subprocess

import pytest

import bad_input
import bundles

THORAX = bundles.ROOT / "models/thorax-nih"
STUDIES = sorted((bad_input.SAMPLE / "dicom").glob("*.dcm"))
LIMIT = 5e-3  # of a probability


def run(*arguments, status=0):
    done = subprocess.run([str(bundles.PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    return done


def predictions(model, dtype):
    done = run("predict", "--model", model, "--dtype", dtype, "--adaptation", "off", "--no-priors", *STUDIES)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(STUDIES)
    return results[0]["model"]["dtype"], [[p["probability"] for p in r["predictions"]] for r in results]


@pytest.fixture(scope="module")
def smoothed(tmp_path_factory):
    """thorax-nih with factors of the two oldest studies of the sample."""
    out = tmp_path_factory.mktemp("smooth") / "bundle"
    done = run("model", "smooth", THORAX, "-o", out, "--studies", 2, *STUDIES)
    assert done.stdout == f"smoothed on 2 studies (0 left out): {out}\n"
    return out


def test_int8_stays_near_fp32_to_the_end_of_the_pipeline(smoothed):
    _, exact = predictions(THORAX, "f32")
    dtype, quick = predictions(smoothed, "int8")
    if dtype != "int8":
        pytest.skip("this processor computes int8 as f32")
    worst = max(abs(a - b) for one, two in zip(exact, quick) for a, b in zip(one, two))
    print(f"largest difference of a probability: {worst:.1e}")
    assert 0 < worst <= LIMIT


def test_fp32_does_not_change_by_a_bit(smoothed):
    assert predictions(THORAX, "f32") == predictions(smoothed, "f32")


def test_factors_are_part_of_the_model_that_guarantees_are_bound_to(smoothed):
    before = json.loads(run("model", "inspect", THORAX).stdout)
    after = json.loads(run("model", "inspect", smoothed).stdout)
    assert before["calibration"]["bound_to_this_model"] and not after["calibration"]["bound_to_this_model"]
    assert before["model_hash"] != after["model_hash"]
    assert sorted(p.parent.name for p in smoothed.glob("*/smoothing.safetensors")) == [
        "ehr", "fusion", "segmenter", "temporal", "vision"]


def test_a_copy_of_the_copy_has_the_same_factors(smoothed, tmp_path):
    run("model", "smooth", smoothed, "-o", tmp_path / "again", "--studies", 2, *STUDIES)
    for file in smoothed.glob("*/smoothing.safetensors"):
        assert (tmp_path / "again" / file.relative_to(smoothed)).read_bytes() == file.read_bytes()


def test_a_changed_factor_is_found(smoothed, tmp_path):
    shutil.copytree(smoothed, tmp_path / "changed")
    file = tmp_path / "changed/vision/smoothing.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x42")
    done = run("model", "verify", tmp_path / "changed", status=1)
    assert "the SHA-256 of vision/smoothing.safetensors does not match" in done.stderr


def test_nothing_to_smooth_on_is_an_error(tmp_path):
    done = run("model", "smooth", THORAX, "-o", tmp_path / "out", bad_input.SAMPLE / "ehr.json", status=1)
    assert done.stderr.startswith("medfusion model: ")
    assert not (tmp_path / "out").exists()
