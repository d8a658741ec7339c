#!/usr/bin/env python3
"""Trains and measures models/covid-course.

    python models/covid_course crossval        five folds of patients: fused, image-only, labs-only (--repeats N: dealt out anew N times, mean logits)
    python models/covid_course bundle          trains on 60 % of the patients and writes the bundle
    python models/covid_course patients        the other 40 % as DICOM and FHIR with a manifest, for `medfusion calibrate`

The vision module and the segmenter are those of models/thorax-nih, frozen. Features come from FHIR, by
the program (--program). Options: --data, --work, --out.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
import torch

MODELS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(MODELS))

from builder import checkpoints, features, tokens  # noqa: E402
from medfusion import bundle as bundles  # noqa: E402
from medfusion.network import MedFusion  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

from covid_course import network, patients, table as tables  # noqa: E402

THORAX = MODELS / "thorax-nih"
FOLDS, BOOTSTRAPS = 5, 2000


def describe() -> dict:
    """bundle.json."""
    out = checkpoints.describe("covid-course", [tables.LABEL], THORAX / "vision", THORAX / "segmenter", True, "mamba", network.MAX_FRAMES, 224)
    thorax = bundles.read_json(THORAX / "bundle.json")
    out |= {key: thorax[key] for key in ("accepts", "preprocessing", "segmentation", "regions")}
    out["version"] = "1.1.0"
    out["licence"] = "Weights CC BY 4.0. Trained on the COVID-19 image repository of Hannover Medical School (CC BY 3.0) and NIH ChestX-ray14"
    out["intended_use"] = "Research and demonstration; not a medical device, not for decisions about patients. 71 patients of one hospital in 2020."
    out["labels"] = [
        {
            "id": tables.LABEL,
            "display": "Intensive care needed",
            "coding": [{"system": "http://snomed.info/sct", "code": "305351004", "display": "Admission to intensive care unit"}],
            "kind": "outcome",
            "horizon": "during this hospital stay, or already there",
        }
    ]
    out["sequence"] = {"max_frames": network.MAX_FRAMES, "position": "days"}
    return out


class Data:
    """The table, its frozen tokens and its features as the EHR module takes them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.table = patients.seen(tables.load(options.data), options.program)
        vision, segmenter = (bundles.load_module(kind, THORAX / kind) for kind in ("vision", "segmenter"))
        self.bundle, self.vision_size = describe(), vision.config.hidden_size
        frozen = MedFusion(self.bundle, segmenter, vision, None, None, None)
        key = tokens.fingerprint([THORAX / "vision", THORAX / "segmenter"], self.bundle)
        self.tokens, _ = tokens.all_tokens(frozen, list(self.table["path"]), options.work / "tokens", key, "cpu", None)

    def prepare(self, train: np.ndarray) -> tuple[dict, network.Samples, dict]:
        """features.json with the training rows' means, the samples, and the EHR module's config."""
        defined = features.define(self.table.assign(split=np.where(train, "train", "test")), tables.definition())
        numeric = sum(f["kind"] == "numeric" for f in defined["features"])
        cardinalities = [len(f["categories"]) for f in defined["features"][numeric:]]
        values = tuple(map(torch.from_numpy, features.values(self.table, defined)))
        samples = network.Samples(self.table, self.tokens, values, tables.LABEL)
        return defined, samples, network.ehr_config(numeric, cardinalities)

    def train(self, kind: str, train: np.ndarray, seed: int):
        defined, samples, ehr = self.prepare(train)
        return defined, samples, network.train(kind, samples, np.flatnonzero(train), self.vision_size, ehr, seed)


def interval(y: np.ndarray, groups: np.ndarray, *scores: np.ndarray) -> tuple[float, float, float]:
    """AUROC of the first scores (minus that of the second), with a patient-bootstrap 95 % interval."""

    def figure(rows: np.ndarray) -> float:
        values = [roc_auc_score(y[rows], s[rows]) for s in scores]
        return values[0] - values[1] if len(values) > 1 else values[0]

    random, of = np.random.default_rng(0), {g: np.flatnonzero(groups == g) for g in np.unique(groups)}
    names, draws = list(of), []
    while len(draws) < BOOTSTRAPS:
        rows = np.concatenate([of[names[i]] for i in random.integers(len(names), size=len(names))])
        if 0 < y[rows].mean() < 1:
            draws.append(figure(rows))
    return figure(np.arange(len(y))), *np.quantile(draws, [0.025, 0.975])


def subgroups(table, logits: dict[str, np.ndarray]) -> str:
    """The card's table: AUROC of all images by sex and view. The set does not tell ages."""
    y, patient = table[tables.LABEL].to_numpy(), table["patient"].to_numpy()
    lines = ["| group | images | patients (with outcome) | fused | image-only |", "|---|--:|--:|---|---|"]
    for name, part in ((value, (table[column] == value).to_numpy()) for column in ("sex", "view") for value in sorted(table[column].unique())):
        figures = [interval(y[part], patient[part], logits[kind][part]) for kind in ("fused", "image-only")]
        cells = [f"{middle:.3f} ({low:.3f}–{high:.3f})" for middle, low, high in figures]
        lines.append(f"| {name} | {part.sum()} | {len(set(patient[part]))} ({len(set(patient[part & (y == 1)]))}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def crossval(options: argparse.Namespace) -> None:
    data = Data(options)
    logits = {kind: np.zeros(len(data.table)) for kind in network.KINDS}
    for seed in range(options.repeats):
        fold = tables.folds(data.table, FOLDS, seed)
        for k in range(FOLDS):
            for kind in network.KINDS:
                _, samples, model = data.train(kind, fold != k, seed)
                rows = np.flatnonzero(fold == k)
                logits[kind][rows] += network.predict(model, samples, rows) / options.repeats
            print(f"seed {seed} fold {k}", flush=True)
    y, groups = data.table[tables.LABEL].to_numpy(), data.table["patient"].to_numpy()
    first = ~data.table.duplicated("patient").to_numpy()
    before = ~data.table["in_icu"].to_numpy()
    report = {}
    for name, part in (("all images", np.ones(len(y), bool)), ("before intensive care", before), ("first image of each patient", first)):
        rows = {"images": int(part.sum()), "patients": len(set(groups[part])), "with outcome": len(set(groups[part & (y == 1)]))}
        own = {kind: logits[kind][part] for kind in network.KINDS}
        figures = {kind: interval(y[part], groups[part], own[kind]) for kind in network.KINDS}
        for other in network.KINDS[1:]:
            figures[f"fused minus {other}"] = interval(y[part], groups[part], own["fused"], own[other])
        report[name] = rows | figures
    text = json.dumps(report, indent=1)
    (options.work / "crossval.json").write_text(text + "\n")
    print(text)
    print(subgroups(data.table, logits))


def split(table) -> np.ndarray:
    """True for the rows of the 60 % of patients that train the bundle."""
    return tables.folds(table, FOLDS, 0) < 3


def write_bundle(options: argparse.Namespace) -> None:
    data = Data(options)
    defined, _, model = data.train("fused", split(data.table), 0)
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    for kind in ("vision", "segmenter"):
        if not (out / kind).exists():
            checkpoints.copy(THORAX / kind, out / kind)
    for kind in ("temporal", "ehr", "fusion"):
        bundles.save_module(kind, getattr(model, kind), out / kind, torch.float16)
    bundles.write_json(out / "ehr" / "features.json", defined)
    bundles.write_json(out / "bundle.json", data.bundle)
    for name in ("calibration", "conformal", "ood", "adaptation"):  # of other weights
        (out / f"{name}.json").unlink(missing_ok=True)
    bundles.write_manifest(out)
    print(f"{out}: trained on {split(data.table).sum()} images of {data.table[split(data.table)]['patient'].nunique()} patients")


def write_patients(options: argparse.Namespace) -> None:
    table = tables.load(options.data)
    table, folder = table[~split(table)], options.work / "patients"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "patient_id", "ehr", tables.LABEL])
        for patient, rows in table.groupby("patient", sort=False):
            images, ehr = patients.write(rows, folder)
            writer.writerow([images.name, patient, ehr.name, rows[tables.LABEL].iloc[0]])
    print(f"{folder / 'manifest.csv'}: {table['patient'].nunique()} patients")


STEPS = {"crossval": crossval, "bundle": write_bundle, "patients": write_patients}


def main() -> None:
    parser = argparse.ArgumentParser(prog="models/covid_course", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("--data", type=Path, default=MODELS.parent.parent / "shared" / "data" / "hannover")
    parser.add_argument("--work", type=Path, default=MODELS.parent / "build" / "covid", help="intermediate files, safe to delete")
    parser.add_argument("--program", type=Path, default=MODELS.parent / "build" / "release" / "medfusion", help="medfusion, which makes features of FHIR")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=MODELS / "covid-course")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    STEPS[options.step](options)


if __name__ == "__main__":
    main()
