#!/usr/bin/env python3
"""Builds a bundle from published checkpoints: the vision module and the segmenter stay as they are,
the temporal module, the EHR module, fusion and head are trained on a manifest of studies.

    python models/builder manifest studies.csv --labels Effusion,Edema \\
        --vision rad-dino --segmenter sam2.1-hiera-tiny --cache build/tokens -o build/my-bundle
    python models/builder chexpert CheXpert-v1.0-small --vision dinov2-base … -o …
    python models/builder mimic mimic-cxr-jpg-2.1.0 --mimic-iv mimiciv/3.1 --vision … -o …

--vision and --segmenter are directories as `save_pretrained` or the Hugging Face hub leave them.
Region tokens of the frozen modules are computed once for every image and kept in --cache. The
layouts are documented in README.md. Afterwards: `medfusion calibrate`, `medfusion model sign`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from builder import checkpoints, features, fhir, studies, tokens, upper  # noqa: E402
from medfusion import bundle as bundles  # noqa: E402
from medfusion.network import MedFusion  # noqa: E402


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layout", choices=["manifest", "chexpert", "mimic"])
    parser.add_argument("data", type=Path, help="the manifest CSV, or the data set's folder")
    parser.add_argument("--mimic-iv", type=Path, help="for age, sex and laboratory values")
    parser.add_argument("--labels", help="with commas; needed for a manifest")
    parser.add_argument("--features", type=Path, help="a features.json; default: what is known")
    parser.add_argument("--vision", type=Path, required=True)
    parser.add_argument("--segmenter", type=Path, help="default: none, whole frames")
    parser.add_argument("--vision-size", type=int, help="default: the checkpoint's, else 518")
    parser.add_argument("--cache", type=Path, default=Path("build/tokens"))
    parser.add_argument("--program", type=Path, help="medfusion, to read DICOM and FHIR")
    parser.add_argument("--name", default="my-bundle")
    parser.add_argument("-o", "--out", type=Path, required=True)
    for kind in (upper.Recipe, upper.Sizes):
        for field in dataclasses.fields(kind):
            flag = "--" + field.name.replace("_", "-")
            if isinstance(field.default, bool):
                action = argparse.BooleanOptionalAction
                parser.add_argument(flag, action=action, default=field.default)
            else:
                parser.add_argument(flag, type=type(field.default), default=field.default)
    return parser.parse_args(arguments)


def load_studies(options: argparse.Namespace) -> studies.Studies:
    labels = options.labels.split(",") if options.labels else None
    if options.layout == "chexpert":
        return studies.chexpert(options.data, labels)
    if options.layout == "mimic":
        return studies.mimic(options.data, options.mimic_iv, labels)
    if not labels:
        raise SystemExit("a manifest needs --labels")
    return studies.manifest(options.data, labels)


def card(options: argparse.Namespace, found: studies.Studies, scores: dict) -> str:
    """MODEL_CARD.md: what was put together, and the figures it reached."""
    counts = found.table["split"].value_counts()
    lines = [f"# {options.name}", "", f"Vision: {options.vision.name}, frozen. Segmenter: "]
    lines[-1] += f"{options.segmenter.name}, frozen." if options.segmenter else "none."
    lines += ["", "| split | studies | loss | macro AUROC |", "|---|---|---|---|"]
    lines += [f"| {s} | {counts.get(s, 0)} | {a:.4f} | {b:.4f} |" for s, (a, b) in scores.items()]
    recipe = {f.name: getattr(options, f.name) for f in dataclasses.fields(upper.Recipe)}
    lines += ["", "Recipe: `" + json.dumps(recipe) + "`", "", "Not calibrated yet.", ""]
    return "\n".join(lines)


def write(
    options: argparse.Namespace, bundle: dict, defined: dict | None, model: upper.Upper, text: str
) -> None:
    out = options.out
    checkpoints.copy(options.vision, out / "vision")
    if options.segmenter:
        checkpoints.copy(options.segmenter, out / "segmenter")
    for kind in ("temporal", "ehr", "fusion"):
        module = getattr(model.cpu(), kind)
        if module is not None:
            bundles.save_module(kind, module, out / kind, torch.float32)
    if defined:
        bundles.write_json(out / "ehr" / "features.json", defined)
    bundles.write_json(out / "bundle.json", bundle)
    (out / "MODEL_CARD.md").write_text(text)
    bundles.write_manifest(out)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.out.exists() and any(options.out.iterdir()):
        raise SystemExit(f"{options.out} is not empty")
    found = load_studies(options)
    given = bundles.read_json(options.features) if options.features else None
    if "ehr" in found.table:
        if not given or not options.program:
            raise SystemExit("a manifest with ehr needs --features and --program")
        found.table = fhir.add(found.table, given, options.program)
    defined = features.define(found.table, given)
    numeric = sum(f["kind"] == "numeric" for f in defined["features"])
    cardinalities = [len(f["categories"]) for f in defined["features"][numeric:]]
    ehr = upper.ehr_config(numeric, cardinalities)
    bundle = checkpoints.describe(
        options.name, found.labels, options.vision, options.segmenter, ehr is not None,
        options.temporal, options.max_frames, options.vision_size,
    )  # fmt: skip
    vision = checkpoints.load_vision(options.vision)
    segmenter = checkpoints.load_segmenter(options.segmenter) if options.segmenter else None
    frozen = MedFusion(bundle, segmenter, vision, None, None, None)
    folders = [options.vision] + ([options.segmenter] if options.segmenter else [])
    key = tokens.fingerprint(folders, bundle)
    paths = list(found.table["path"])
    images, computed = tokens.all_tokens(
        frozen, paths, options.cache, key, options.device, options.program
    )
    print(f"{len(paths)} images, {computed} computed now")
    sizes = upper.Sizes(
        **{f.name: getattr(options, f.name) for f in dataclasses.fields(upper.Sizes)}
    )
    recipe = {f.name: getattr(options, f.name) for f in dataclasses.fields(upper.Recipe)}
    torch.manual_seed(options.seed)
    model = upper.Upper(sizes, images.shape[2], images.shape[1], ehr, len(found.labels))
    values = tuple(map(torch.from_numpy, features.values(found.table, defined)))
    trainer = upper.Trainer(model, images, values, found, upper.Recipe(**recipe))
    history = trainer.fit()
    scores = {part: trainer.score(part) for part in ("train", "val", "test")}
    write(options, bundle, defined if ehr else None, model, card(options, found, scores))
    print(
        f"{options.out}: {len(history)} epochs, macro AUROC of the test split {scores['test'][1]:.4f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
