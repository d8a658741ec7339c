#!/usr/bin/env python3
"""The figures of MODEL_CARD.md, on patients that the network did not train on.

    python models/evaluate.py scores   --nih ../shared/data/nih --scores build/ml/scores.pt
    python models/evaluate.py crossval --nih ../shared/data/nih --scores build/ml/crossval-scores.pt
    python models/evaluate.py dice     --lung-masks ../shared/data/lung_masks
    python models/evaluate.py results  --nih ../shared/data/nih --results test.jsonl

`scores`: discrimination of the full network, image-only and EHR-only, from the reference's logits:
macro and per-label AUROC and AUPRC with patient-bootstrap intervals, paired differences. `crossval`: the
same of `models/train crossval`, every image by the networks of the other folds. `results`:
calibration and conformal sets, from what `medfusion predict --model models/thorax-nih
build/nih-dicom/test/*` printed (one medfusion.result/1 a line): ECE before and after calibration,
coverage, set sizes. Each command writes its part of figures.json and its block of MODEL_CARD.md.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
from evaluation.metrics import Ranking, equal_mass_ece, interval, resamples
from medfusion import bundle as bundles
from training import data

MODELS = Path(__file__).parent
NAMES = {
    "full": "full network",
    "full-no-priors": "full, priors withheld",
    "full-no-ehr": "full, EHR withheld",
    "image-only": "image-only (own training)",
    "ehr-only": "EHR-only (age, sex, view)",
}


def discrimination(
    labels: np.ndarray, scores: dict[str, np.ndarray], patients: np.ndarray, count: int
) -> dict:
    """Every configuration on the same resamples; macro = mean over labels with both classes in the
    resample.
    """
    weights = resamples(patients, count)
    out: dict = {
        "images": len(labels),
        "patients": len(np.unique(patients)),
        "resamples": count,
        "configurations": {},
    }
    macro = {}
    for name, value in scores.items():
        rankings = [Ranking(labels[:, c], value[:, c]) for c in range(labels.shape[1])]
        auroc = np.stack([r.auroc(weights) for r in rankings], 1)
        ap = np.stack([r.average_precision(weights) for r in rankings], 1)
        macro[name] = np.nanmean(auroc, 1)
        out["configurations"][name] = {
            "macro_auroc": interval(macro[name]),
            "macro_auprc": interval(np.nanmean(ap, 1)),
            "labels": {
                label: {
                    "auroc": interval(auroc[:, c]),
                    "auprc": interval(ap[:, c]),
                    "prevalence": float(labels[:, c].mean()),
                    "positives": int(labels[:, c].sum()),
                }
                for c, label in enumerate(data.LABELS)
            },
        }
    out["differences"] = {
        f"full − {name}": interval(macro["full"] - macro[name]) for name in macro if name != "full"
    }
    return out


def conformal(labels: np.ndarray, results: list[dict]) -> dict:
    """ECE before and after calibration, and per label and class the share of prediction sets that
    hold the truth.
    """
    logit = np.array([[p["logit"] for p in r["predictions"]] for r in results])
    probability = np.array([[p["probability"] for p in r["predictions"]] for r in results], float)
    raw = 1 / (1 + np.exp(-logit))
    out: dict = {"studies": len(results), "alpha": results[0]["alpha"], "labels": {}}
    for c, label in enumerate(data.LABELS):
        y, sets = labels[:, c] > 0.5, [r["predictions"][c]["prediction_set"] for r in results]
        has = np.array([[word in s for word in ("absent", "present")] for s in sets])
        states = [r["predictions"][c]["state"] for r in results]
        out["labels"][label] = {
            "ece_raw": equal_mass_ece(labels[:, c], raw[:, c]),
            "ece_calibrated": equal_mass_ece(labels[:, c], probability[:, c]),
            "coverage_present": float(has[y, 1].mean()) if y.any() else None,
            "coverage_absent": float(has[~y, 0].mean()),
            "positives": int(y.sum()),
            "uncertain": states.count("uncertain") / len(states),
            "set_size": float(has.sum(1).mean()),
            "guarantee": results[0]["predictions"][c]["guarantee"],
        }
    rows = out["labels"].values()
    for key in ("ece_raw", "ece_calibrated", "coverage_absent", "uncertain", "set_size"):
        out[f"macro_{key}"] = float(np.mean([row[key] for row in rows]))
    out["coverage_present_pooled"] = pooled(out["labels"])
    any_positive = labels.sum(1) > 0
    lists = [set(r["finding_set"]["labels"]) for r in results]
    missed = [
        1 - np.mean([data.LABELS[c] in lists[i] for c in np.flatnonzero(labels[i])])
        for i in np.flatnonzero(any_positive)
    ]
    out["finding_set"] = {
        "fnr": float(np.mean(missed)),
        "labels": float(np.mean([len(s) for s in lists])),
    }
    return out


def pooled(rows: dict) -> float:
    """Coverage of the present class over all positives of all labels."""
    positives = sum(row["positives"] for row in rows.values())
    return (
        sum(row["coverage_present"] * row["positives"] for row in rows.values() if row["positives"])
        / positives
    )


def shown(x: dict, digits: int = 3) -> str:
    return f"{x['value']:.{digits}f} ({x['low']:.{digits}f}–{x['high']:.{digits}f})"


def configuration_rows(found: dict) -> list[str]:
    lines = [
        "| configuration | macro-AUROC | macro-AUPRC | full minus this (AUROC) |",
        "|---|---|---|---|",
    ]
    for name, row in found["configurations"].items():
        difference = found["differences"].get(f"full − {name}")
        lines.append(
            f"| {NAMES.get(name, name)} | {shown(row['macro_auroc'])} "
            f"| {shown(row['macro_auprc'])} | {shown(difference) if difference else ''} |"
        )
    return lines


def discrimination_block(found: dict) -> str:
    lines = [
        f"{found['images']} images of {found['patients']} patients; every image with the earlier "
        f"images of its patient as priors. Brackets: 95 % interval, {found['resamples']} "
        "patient-bootstrap resamples, the same for all configurations.",
        "",
        *configuration_rows(found),
    ]
    lines += [
        "",
        "| label | positives | prevalence | AUROC, full | AUPRC, full "
        "| AUROC, image-only | AUROC, EHR-only |",
        "|---|---|---|---|---|---|---|",
    ]
    parts = found["configurations"]
    for label in data.LABELS:
        row = parts["full"]["labels"][label]
        others = [
            shown(parts[name]["labels"][label]["auroc"]) if name in parts else ""
            for name in ("image-only", "ehr-only")
        ]
        lines.append(
            f"| {label} | {row['positives']} | {row['prevalence']:.3f} "
            f"| {shown(row['auroc'])} | {shown(row['auprc'])} | "
            f"{others[0]} | {others[1]} |"
        )
    more = found["calibration_and_test"]
    lines += [
        "",
        f"The same on calibration and test patients together ({more['images']} images of "
        f"{more['patients']} patients, none of them trained on; narrower intervals):",
        "",
        *configuration_rows(more),
    ]
    skipped = {label: parts["full"]["labels"][label]["auroc"]["skipped"] for label in data.LABELS}
    skipped = {label: n for label, n in skipped.items() if n}
    if skipped:
        lines += [
            "",
            "Resamples without both classes, left out of a label's interval: "
            + ", ".join(f"{label} {n}" for label, n in skipped.items())
            + ".",
        ]
    return "\n".join(lines)


def crossval_block(found: dict) -> str:
    each = found["folds"]["full"]
    return "\n".join(
        [
            f"All {found['images']} images of {found['patients']} patients, each answered by the "
            f"networks of the {len(each)} folds that did not train on its patient (teacher, ViT and everything "
            "above it trained anew per fold by the shipped recipe, on half of the patients; the answers pooled). "
            "Macro-AUROC of the full network within the folds: "
            + ", ".join(f"{x:.3f}" for x in each)
            + ".",
            "",
            *configuration_rows(found),
        ]
    )


def conformal_block(found: dict) -> str:
    lines = [
        f"{found['studies']} studies (the newest of each test patient), α = {found['alpha']}. "
        "ECE: 15 bins of equal size, mean over labels "
        f"**{found['macro_ece_raw']:.3f} before, {found['macro_ece_calibrated']:.3f} after** "
        "calibration.",
        f"Coverage: present {found['coverage_present_pooled']:.3f} (all positives of all labels), "
        f"absent {found['macro_coverage_absent']:.3f}; uncertain {found['macro_uncertain']:.2f} of "
        f"the answers, mean set size {found['macro_set_size']:.2f}. Finding list: false-negative "
        f"rate {found['finding_set']['fnr']:.3f} with {found['finding_set']['labels']:.1f} of "
        f"{len(data.LABELS)} labels listed.",
        "",
        "| label | positives | ECE before | after | coverage present | absent | uncertain "
        "| mean set size | guarantee |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for label, row in found["labels"].items():
        present = "–" if row["coverage_present"] is None else f"{row['coverage_present']:.2f}"
        lines.append(
            f"| {label} | {row['positives']} | {row['ece_raw']:.3f} "
            f"| {row['ece_calibrated']:.3f} | {present} | "
            f"{row['coverage_absent']:.2f} | {row['uncertain']:.2f} | {row['set_size']:.2f} "
            f"| {row['guarantee']} |"
        )
    return "\n".join(lines)


def dice_block(found: dict) -> str:
    return (
        f"{found['images']} radiographs of patients held out from the segmenter's training: both "
        "lungs together, boxes by the box head, logits fed back once: "
        f"**mean Dice {found['dice']:.3f}** "
        f"(lowest {found['dice_minimum']:.3f}); the gate accepts {found['gate']:.0%}; mean error "
        f"of a box edge {found['box_error_px']:.1f} of 256 pixels."
    )


def write(folder: Path, name: str, figures: dict, block: str) -> None:
    """Puts figures into figures.json and the block between `<!-- name -->` and `<!-- /name -->` of
    MODEL_CARD.md.
    """
    path = folder / "figures.json"
    everything = json.loads(path.read_text()) if path.exists() else {}
    everything[name] = figures
    path.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")
    card = folder / "MODEL_CARD.md"
    text, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
        lambda m: m[1] + block + "\n" + m[2],
        card.read_text(),
        flags=re.S,
    )
    if count != 1:
        raise SystemExit(f"{card}: no single block {name}")
    card.write_text(text)
    bundles.write_manifest(folder)
    print(block)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["scores", "crossval", "dice", "results"])
    parser.add_argument("--nih", type=Path, help="folder of the NIH images (scores, results)")
    parser.add_argument("--lung-masks", type=Path, help="folder of the lung masks (dice)")
    parser.add_argument("--bundle", type=Path, default=MODELS / "thorax-nih")
    parser.add_argument("--scores", type=Path, help="what models/train wrote (scores, crossval)")
    parser.add_argument("--results", type=Path, help="JSON lines of `medfusion predict`")
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--folds", type=int, default=2, help="as in models/train (crossval)")
    options = parser.parse_args()
    if options.what == "dice":
        from training import segmenter

        index, images, masks = segmenter.load(options.lung_masks)
        test = segmenter.test_part(index)
        found = segmenter.dice(
            bundles.load_module("segmenter", options.bundle / "segmenter"),
            images[test],
            masks[test],
        )
        write(options.bundle, "dice", found, dice_block(found))
        return
    table = data.load_table(options.nih, options.bundle / "splits.csv")
    rows = np.flatnonzero(table["split"] == "test")
    if options.what in ("scores", "crossval"):
        import torch
        from training import crossval

        scores = torch.load(options.scores)

        def measure(rows: np.ndarray) -> dict:
            chosen, logits = table.iloc[rows], {k: v[rows].numpy() for k, v in scores.items()}
            labels, patients = chosen[data.LABELS].to_numpy(float), chosen["patient_id"].to_numpy()
            return discrimination(labels, logits, patients, options.resamples)

        if options.what == "crossval":
            found, fold = measure(np.arange(len(table))), crossval.folds(table, options.folds)
            labels = table[data.LABELS].to_numpy()
            found["folds"] = {
                name: [
                    data.macro_auroc(labels[fold == k], value[fold == k].numpy())
                    for k in range(options.folds)
                ]
                for name, value in scores.items()
            }
            write(options.bundle, "crossval", found, crossval_block(found))
            return
        found = measure(rows)
        both = table["split"].isin(["calibration", "test"])
        found["calibration_and_test"] = measure(np.flatnonzero(both))
        write(options.bundle, "discrimination", found, discrimination_block(found))
        return
    newest = table.iloc[rows].groupby("patient_id").tail(1)
    import nih_dicom

    truth = {
        nih_dicom.uid("study", row["file"]): row[data.LABELS].to_numpy(float)
        for _, row in newest.iterrows()
    }
    results = [
        json.loads(line) for line in options.results.read_text().splitlines() if line.strip()
    ]
    results = [
        r
        for r in results
        if r["schema"] == "medfusion.result/1" and r["study"]["study_instance_uid"] in truth
    ]
    if len(results) != len(truth):
        raise SystemExit(
            f"{options.results}: {len(results)} results for the newest studies "
            f"of {len(truth)} test patients"
        )
    labels = np.stack([truth[r["study"]["study_instance_uid"]] for r in results])
    found = conformal(labels, results)
    write(options.bundle, "calibration", found, conformal_block(found))


if __name__ == "__main__":
    main()
