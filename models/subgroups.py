"""Subgroups of a bundle's answers by sex, age and view: the table of its MODEL_CARD.md.

    medfusion predict --model models/thorax-nih -o results.jsonl build/nih-dicom/test
    python models/subgroups.py results.jsonl build/nih-dicom/test ../shared/data/nih/labels.csv

The DICOM objects are those of models/nih_dicom.py (PATIENT/NUMBER.dcm). AUROC is the mean over labels with at least five positives and five negatives in the
group; coverage is over all pairs of an image and a finding that is present (or absent). Intervals: 95 %, 200 patient-bootstrap resamples."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path

import nih_dicom
import numpy as np
import pandas as pd
import pydicom

LEAST, RESAMPLES = 5, 200


def studies(folder: Path) -> dict[str, tuple[int, int]]:
    """Patient and follow-up of labels.csv by StudyInstanceUID: the invented date is the follow-up's."""
    found = {}
    for path in sorted(folder.rglob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "StudyDate"])
        days = (datetime.strptime(header.StudyDate, "%Y%m%d").date() - nih_dicom.FIRST_DAY).days
        found[str(header.StudyInstanceUID)] = int(path.parent.name), days // 30
    return found


def read(results: Path, folder: Path, labels: Path) -> pd.DataFrame:
    """One row for each image and finding: patient, groups, truth, logit, prediction set."""
    names, table = studies(folder), pd.read_csv(labels).set_index(["patient_id", "follow_up"], drop=False)
    rows = []
    for line in results.read_text().splitlines():
        result = json.loads(line)
        row = table.loc[names[result["study"]["study_instance_uid"]]]
        age = "under 40" if row.age < 40 else "40 to 59" if row.age < 60 else "60 and over"
        for prediction in result["predictions"]:
            rows.append({"image": row.file, "patient": row.patient_id, "sex": {"F": "women", "M": "men"}[row.sex], "age": age, "view": row["view"],
                         "label": prediction["label"], "truth": int(row[prediction["label"]]), "logit": prediction["logit"],
                         "set": prediction["prediction_set"]})
    return pd.DataFrame(rows)


def auroc(truth: np.ndarray, logit: np.ndarray) -> float:
    """The Mann-Whitney statistic, ties counted half."""
    ranks = pd.Series(logit).rank().to_numpy()
    positives, negatives = truth.sum(), (1 - truth).sum()
    return (ranks[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives)


def figures(rows: pd.DataFrame) -> tuple[float, float, float]:
    """Macro AUROC, coverage of present and of absent findings."""
    values = [auroc(group.truth.to_numpy(), group.logit.to_numpy()) for _, group in rows.groupby("label")
              if LEAST <= group.truth.sum() <= len(group) - LEAST]
    covered = [np.mean([name in s for s in rows.set[rows.truth == truth]]) if (rows.truth == truth).any() else np.nan
               for truth, name in ((1, "present"), (0, "absent"))]
    return float(np.mean(values)) if values else np.nan, *map(float, covered)


def intervals(rows: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """2.5 and 97.5 percentiles of each figure."""
    chance = np.random.default_rng(seed)
    parts = [part for _, part in rows.groupby("patient")]
    drawn = [figures(pd.concat([parts[i] for i in chance.integers(len(parts), size=len(parts))])) for _ in range(RESAMPLES)]
    return np.nanpercentile(np.array(drawn), [2.5, 97.5], axis=0)


def table(rows: pd.DataFrame) -> str:
    lines = ["| group | images | patients | macro AUROC | coverage, present | coverage, absent |", "|---|--:|--:|--:|--:|--:|"]
    groups = [("all", rows)] + [(str(name), part) for column in ("sex", "age", "view") for name, part in rows.groupby(column)]
    for name, part in groups:
        middle, (low, high) = figures(part), intervals(part)
        cells = [f"{m:.3f} ({a:.3f}–{b:.3f})" for m, a, b in zip(middle, low, high, strict=True)]
        lines.append(f"| {name} | {part.image.nunique()} | {part.patient.nunique()} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("labels", type=Path)
    options = parser.parse_args()
    print(table(read(options.results, options.folder, options.labels)))


if __name__ == "__main__":
    main()
