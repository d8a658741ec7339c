"""Quality flags of the shipped model on its sample, altered: what each names, what it does to the guarantees, and that
a bundle may refuse it."""
import json
import shutil
import subprocess

import numpy as np
import pydicom
import pydicom.data
import pytest

import bad_input
import bundles

MODEL = bundles.ROOT / "models/thorax-nih"


def moved(image):
    """Motion along a diagonal: the mean of 12 places."""
    return np.mean([np.roll(image, (k, k), (0, 1)) for k in range(12)], 0)


ALTERED = {
    "blurred": moved,
    "noisy": lambda image: image + np.random.default_rng(1).normal(0, 60, image.shape),
    "inverted": lambda image: 255 - image,
    "saturated": lambda image: image * 2.5 + 40,
    "blank": lambda image: image / 50 + 100,
}


def altered(change, folder, **attributes):
    """The sample's newest image, its 8-bit display pixels changed; attributes replaced (None: removed)."""
    dataset = pydicom.dcmread(bad_input.NEWEST)
    shown = folder / "shown.npy"
    subprocess.run([bundles.PROGRAM, "dicom", "frame", bad_input.NEWEST, "-o", shown], check=True)
    pixels = np.clip(np.round(change(np.load(shown).astype(float))), 0, 255).astype(np.uint8)
    dataset.PixelData, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = pixels.tobytes(), 8, 8, 7
    dataset.Rows, dataset.Columns, dataset.PhotometricInterpretation = *pixels.shape, "MONOCHROME2"
    dataset.WindowCenter, dataset.WindowWidth = "128", "256"
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    for name, value in attributes.items():
        if value is None:
            dataset.pop(name, None)
        else:
            setattr(dataset, name, value)
    target = folder / "altered.dcm"
    dataset.save_as(target, enforce_file_format=True)
    return target


def predict(model, path):
    done = subprocess.run([bundles.PROGRAM, "predict", "--model", model, "--format", "json", path],
                          capture_output=True, text=True, timeout=300)
    return json.loads(done.stdout)


def test_the_sample_has_none_of_them(tmp_path):
    result = predict(MODEL, altered(lambda image: image, tmp_path))
    assert not set(result["quality"]["flags"]) & {*ALTERED, "out_of_distribution"}
    assert "valid" in {p["guarantee"] for p in result["predictions"]}


@pytest.mark.parametrize("flag", ALTERED)
def test_what_is_wrong_with_an_image_is_named(tmp_path, flag):
    assert flag in predict(MODEL, altered(ALTERED[flag], tmp_path))["quality"]["flags"]


def test_nothing_is_promised_for_an_image_that_is_less_sharp_than_those_of_the_calibration(tmp_path):
    result = predict(MODEL, altered(moved, tmp_path))
    assert {p["guarantee"] for p in result["predictions"]} <= {"shifted", "insufficient_calibration"}


def test_what_is_no_chest_is_out_of_distribution(tmp_path):
    """A slice of a CT that claims to be a frontal chest radiograph."""
    other = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm")).pixel_array.astype(float)
    shown = 255 * (other - other.min()) / np.ptp(other)
    result = predict(MODEL, altered(lambda image: shown, tmp_path))
    assert "out_of_distribution" in result["quality"]["flags"] and result["quality"]["ood_p_value"] < 0.01
    assert {p["guarantee"] for p in result["predictions"]} <= {"shifted", "insufficient_calibration"}


@pytest.mark.parametrize("flag", ALTERED)
def test_a_bundle_may_refuse_it(tmp_path, flag):
    strict = shutil.copytree(MODEL, tmp_path / "strict")
    bundle = json.loads((strict / "bundle.json").read_text())
    bundle["quality"] = {"refuse": [flag]}
    (strict / "bundle.json").write_text(json.dumps(bundle))
    bundles.write_manifest(strict)
    problem = predict(strict, altered(ALTERED[flag], tmp_path))
    assert problem["schema"] == "medfusion.problem/1" and problem["status"] == 422
    assert problem["detail"].endswith(f"the image is refused by the model: {flag}")


@pytest.mark.parametrize(
    "attributes, reason",
    [({"ViewPosition": "LL", "ViewCodeSequence": None}, "view position LL"),
     ({"BodyPartExamined": "HAND", "AnatomicRegionSequence": None}, "body part HAND")],
)  # fmt: skip
def test_another_view_or_body_part_is_not_judged(tmp_path, attributes, reason):
    problem = predict(MODEL, altered(lambda image: image, tmp_path, **attributes))
    assert problem["status"] == 422 and reason in problem["detail"]
