"""Bundles for tests: the tiny golden one (random weights), with a manifest, and with changes where a test wants them."""
import hashlib
import json
import os
import pathlib
import shutil

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("MEDFUSION", ROOT / "build/release/medfusion"))
GOLDEN = ROOT / "tests/golden/bundles/full"
STACK = ROOT / "tests/golden/bundles/stack"


def write_manifest(directory):
    """manifest.json for the files that are there (models/FORMAT.md)."""
    directory = pathlib.Path(directory)
    files = {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "manifest.sig")
    }
    text = json.dumps({"schema": "medfusion.manifest/1", "files": files}, indent=1)
    (directory / "manifest.json").write_text(text)


def make_bundle(directory, golden=GOLDEN, **changes):
    """A copy of a golden bundle; `changes` replace members of bundle.json (name=…, accepts=…)."""
    directory = pathlib.Path(directory)
    shutil.copytree(golden, directory, ignore=shutil.ignore_patterns("cases"))
    document = json.loads((directory / "bundle.json").read_text())
    document.update(changes)
    (directory / "bundle.json").write_text(json.dumps(document))
    write_manifest(directory)
    return directory


def make_volume_bundle(directory, voxel, name="volume", max_frames=32, **volume):
    """A bundle of slices whose CT series become volumes of this voxel size."""
    document = json.loads((STACK / "bundle.json").read_text())
    preprocessing = document["preprocessing"] | {
        "voxel_spacing_mm": voxel,
        "volume": {"background": -1024, "slices": "uniform", "window": [-400, 1600]} | volume,
    }
    return make_bundle(
        directory,
        STACK,
        name=name,
        accepts={"modalities": ["CT", "MR"], "views": [], "body_parts": [], "require": []},
        preprocessing=preprocessing,
        sequence=document["sequence"] | {"max_frames": max_frames},
    )
