"""The bundle builder, end to end on synthetic checkpoints and studies, and its data layouts.

Needs models/requirements-train.txt; skipped without it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pd = pytest.importorskip("pandas")
np = pytest.importorskip("numpy")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

from builder import __main__ as builder  # noqa: E402
from builder import features, mimic_iv, studies  # noqa: E402
from medfusion import bundle as bundles  # noqa: E402
from parity import tiny, tiny_bundle, weights  # noqa: E402
from PIL import Image  # noqa: E402

PATIENTS = 24
torch.set_num_threads(1)


def program() -> Path | None:
    path = Path(os.environ.get("MEDFUSION", ROOT / "build/release/medfusion"))
    return path if path.exists() else None


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A DINOv2 in shards and a SAM 2, as save_pretrained leaves them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    small = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, patch_size=14)
    config = transformers.Dinov2Config(mlp_ratio=2, image_size=42, **small)
    weights.published(
        transformers.Dinov2Model, config, folder / "dino", "d", torch.bfloat16, "20KB"
    )
    transformers.BitImageProcessor(
        size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42}
    ).save_pretrained(folder / "dino")
    config = tiny.segmenter_config()
    del config["box_head_hidden_size"]
    config = transformers.Sam2Config.from_dict(config)
    weights.published(transformers.Sam2Model, config, folder / "sam2", "s")
    return folder


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Patients with one or two images; the finding makes the image bright, and the marker high."""
    folder = tmp_path_factory.mktemp("studies")
    g = torch.Generator().manual_seed(1)
    lines = []
    for patient in range(PATIENTS):
        for study in range(1 + patient % 2):
            sick = int(torch.rand(1, generator=g) < 0.5)
            frame = (tiny_bundle.frame(56, 48, g) * (0.45 + 0.5 * sick) * 255).to(torch.uint8)
            path = f"p{patient}-{study}.png"
            Image.fromarray(frame.numpy()).save(folder / path)
            lines.append(
                {
                    "path": path,
                    "patient_id": f"P{patient:03d}",
                    "date": f"2020-01-{1 + study:02d}",
                    "split": "train" if patient < 16 else "val" if patient < 20 else "test",
                    "age": 40 + patient if patient % 5 else None,
                    "sex": "FM"[patient % 2],
                    "Sick": sick,
                    "Noise": [0, 1, -1, None][patient % 4],
                }
            )
    pd.DataFrame(lines).to_csv(folder / "studies.csv", index=False)
    return folder / "studies.csv"


def build(checkpoints, manifest, cache, out, *more):
    return builder.main(
        [
            "manifest", str(manifest), "--labels", "Sick,Noise", "--name", "synthetic",
            "--vision", str(checkpoints / "dino"), "--cache", str(cache), "-o", str(out),
            "--width", "32", "--layers", "1", "--fusion-layers", "1", "--no-mixed-precision",
            "--epochs", "6", "--lr", "3e-3", "--batch", "16",
            *more,
        ]
    )  # fmt: skip


def test_checkpoints_and_a_manifest_become_a_bundle(checkpoints, manifest, tmp_path, capsys):
    out, cache = tmp_path / "bundle", tmp_path / "cache"
    segmenter = ["--segmenter", str(checkpoints / "sam2")]
    assert build(checkpoints, manifest, cache, out, *segmenter) == 0
    said = capsys.readouterr().out
    assert f"{PATIENTS * 3 // 2} images, {PATIENTS * 3 // 2} computed now" in said
    card = (out / "MODEL_CARD.md").read_text()
    train = next(line for line in card.splitlines() if line.startswith("| train"))
    assert float(train.split("|")[4]) > 0.6, "what is trained has learnt something"
    for name in ("config.json", "preprocessor_config.json", "model.safetensors.index.json"):
        same = (out / "vision" / name).read_bytes() == (checkpoints / "dino" / name).read_bytes()
        assert same, "the checkpoint's files are unchanged"
    bundle = json.loads((out / "bundle.json").read_text())
    assert bundle["preprocessing"]["vision"]["size"] == [42, 42]
    defined = json.loads((out / "ehr/features.json").read_text())["features"]
    assert [f["id"] for f in defined] == ["age", "sex"]
    if program():
        command = [program(), "model", "verify", out]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    again = tmp_path / "again"
    assert build(checkpoints, manifest, cache, again, *segmenter) == 0
    assert f"{PATIENTS * 3 // 2} images, 0 computed now" in capsys.readouterr().out
    for file in ("temporal", "ehr", "fusion"):
        same = [(f / file / "model.safetensors").read_bytes() for f in (out, again)]
        assert same[0] == same[1], "the same seed gives the same weights"
    with pytest.raises(SystemExit, match="not empty"):
        build(checkpoints, manifest, cache, out)


def test_the_engine_says_what_the_reference_says(checkpoints, manifest, tmp_path):
    if not program():
        pytest.skip("no medfusion program")
    out = tmp_path / "bundle"
    build(checkpoints, manifest, tmp_path / "cache", out)
    for kind, given in (("vision", "pixel_values"), ("temporal", "region_tokens")):
        g = torch.Generator().manual_seed(3)
        shape = (2, 3, 42, 42) if kind == "vision" else (3, 17, 32)
        x = torch.randn(shape, generator=g)
        from safetensors.torch import load_file, save_file

        save_file({given: x}, tmp_path / "in.safetensors")
        command = [program(), "module", "run", out / kind, "--input", tmp_path / "in.safetensors"]
        subprocess.run([*command, "--output", tmp_path / "out.safetensors"], check=True)
        module = bundles.load_module(kind, out / kind)
        with torch.no_grad():
            want = module(x).last_hidden_state if kind == "vision" else module(x[None])
        got = load_file(tmp_path / "out.safetensors")["last_hidden_state"]
        assert float((got - want).abs().max() / want.abs().max()) < 1e-4


def test_patients_on_two_sides_are_refused(manifest, tmp_path):
    table = pd.read_csv(manifest)
    table["path"] = [str(manifest.parent / p) for p in table["path"]]
    table.loc[table["patient_id"] == "P001", "split"] = ["train", "test"]
    table.to_csv(tmp_path / "bad.csv", index=False)
    with pytest.raises(ValueError, match="1 patients are in more than one split"):
        studies.manifest(tmp_path / "bad.csv", ["Sick"])


def test_series_hold_earlier_studies_of_the_same_patient(manifest):
    found = studies.manifest(manifest, ["Sick", "Noise"])
    for rows in found.series(2):
        own = found.table.loc[rows]
        assert own["patient"].nunique() == 1 and list(own["order"]) == sorted(own["order"])
    assert np.isnan(found.y[:, 1]).any() and set(found.y[:, 0]) == {0, 1}


def test_chexpert(tmp_path):
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *studies.CHEXPERT]
    blank = [None] * (len(studies.CHEXPERT) - 2)

    def line(part, patient, study, view, side, edema):
        path = f"CheXpert-v1.0-small/{part}/patient{patient:05d}/study{study}/view{view}.jpg"
        return [path, "Female", 61, side, "AP", 1, edema, *blank]

    rows = [
        line("train", 1, 10, "1_frontal", "Frontal", -1),
        line("train", 1, 2, "1_frontal", "Frontal", 0),
        line("train", 1, 2, "2_lateral", "Lateral", 0),
        line("train", 1, 2, "3_frontal", "Frontal", 1),
    ]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "train.csv", index=False)
    rows = [line("valid", 7, 1, "1_frontal", "Frontal", 1)]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "valid.csv", index=False)
    found = studies.chexpert(tmp_path, None)
    assert list(found.table["order"]) == [2, 10, 1], "studies by number, one frontal view each"
    assert list(found.table["split"])[-1] == "test"
    assert found.table["path"][0] == str(tmp_path / "train/patient00001/study2/view1_frontal.jpg")
    assert np.isnan(found.y[1, 1]) and found.y[0, 1] == 0, "uncertain labels do not count"


def test_mimic(tmp_path):
    iv = tmp_path / "iv"
    (iv / "hosp").mkdir(parents=True)
    ids = {"dicom_id": ["a", "b", "c"], "subject_id": [10000032] * 3, "study_id": [5, 6, 6]}
    pd.DataFrame(
        ids | {"ViewPosition": ["PA", "AP", "LATERAL"], "StudyDate": [21800506, 21800626, 21800626],
               "StudyTime": [213014.531, 90000.0, 90000.0]}
    ).to_csv(tmp_path / "mimic-cxr-2.0.0-metadata.csv", index=False)  # fmt: skip
    pd.DataFrame(ids | {"split": ["validate"] * 3}).to_csv(
        tmp_path / "mimic-cxr-2.0.0-split.csv.gz", index=False
    )
    labels = {"subject_id": [10000032] * 2, "study_id": [5, 6]}
    labels |= {name: [1, None] for name in studies.CHEXPERT}
    pd.DataFrame(labels).to_csv(tmp_path / "mimic-cxr-2.0.0-chexpert.csv", index=False)
    people = {"subject_id": [10000032], "gender": ["F"], "anchor_age": [52], "anchor_year": [2180]}
    pd.DataFrame(people).to_csv(iv / "hosp/patients.csv", index=False)
    pd.DataFrame(
        {"subject_id": [10000032] * 3, "itemid": [50912] * 3, "valuenum": [1.5, 9.0, 2.5],
         "charttime": ["2180-05-05 10:00:00", "2180-05-06 23:00:00", "2180-04-01 00:00:00"]}
    ).to_csv(iv / "hosp/labevents.csv", index=False)  # fmt: skip
    found = studies.mimic(tmp_path, iv, None)
    assert list(found.table["split"]) == ["val", "val"], "one frontal image a study"
    assert found.table["path"][0].endswith("files/p10/p10000032/s5/a.jpg")
    assert found.table["age"][0] == 52 and found.table["sex"][0] == "female"
    assert found.table["creatinine"][0] == 1.5, "the last value before the study, within a week"
    assert np.isnan(found.table["creatinine"][1])
    defined = features.define(found.table, None)
    assert len(defined["features"]) == 1 + len(mimic_iv.LABS) + 2
    x_cont, x_cat, missing = features.values(found.table, defined)
    assert x_cont.shape == (2, 10) and x_cat.shape == (2, 2)
    assert missing[1, 1] and not missing[0, 1]
