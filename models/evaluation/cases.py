"""The manifest's cases, and what `medfusion predict` says about them under one condition.

A case is a row: its newest study is judged, earlier studies are priors. A condition says which of
its files are given (the newest k studies), or with what corruption. Predictions are kept as JSON
lines and not made twice.
"""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom

from . import corruptions

CHUNK = 200  # cases of one run: a command line holds only so many paths
FIXED = ("path", "patient_id", "ehr", "group")


@dataclass
class Study:
    uid: str
    day: str
    files: list[Path]


@dataclass
class Case:
    patient: str
    group: str
    ehr: Path | None
    truth: np.ndarray  # one a label: 1, 0, NaN = not labelled
    studies: list[Study] = field(default_factory=list)  # oldest first


@dataclass(frozen=True)
class Condition:
    name: str  # "clean", "noise-3", "newest-1"
    kind: str  # clean | noise | jpeg | motion | temporal
    level: int = 0  # severity, or how many studies are left


CLEAN = Condition("clean", "clean")


def read_studies(path: Path) -> list[Study]:
    """The studies of a file or folder, oldest first (date, time, UID)."""
    found: dict[str, Study] = {}
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        try:
            head = pydicom.dcmread(file, stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            continue
        uid = str(head.StudyInstanceUID)
        day = f"{head.get('StudyDate', '')}/{head.get('StudyTime', '')}/{uid}"
        found.setdefault(uid, Study(uid, day, [])).files.append(file)
    return sorted(found.values(), key=lambda study: study.day)


def read_manifest(file: Path) -> tuple[list[str], list[Case]]:
    """Label names and cases. Rows of one patient belong together; their newest study is judged, by
    the truth of the row that names it.
    """
    with file.open(newline="") as text:
        reader = csv.DictReader(text)
        labels = [name for name in reader.fieldnames or [] if name not in FIXED]
        rows = list(reader)
    if not labels or not rows:
        raise SystemExit(f"{file}: no labels or no rows")
    patients: dict[str, list[tuple[Study, Case]]] = {}
    for row in rows:
        truth = [float(row[name]) if row[name].strip() else np.nan for name in labels]
        ehr = file.parent / row["ehr"] if row.get("ehr") else None
        case = Case(row["patient_id"], row.get("group") or "", ehr, np.array(truth))
        studies = read_studies(file.parent / row["path"])
        if not studies:
            raise SystemExit(f"{file}: {row['path']}: no DICOM files")
        patients.setdefault(case.patient, []).extend((study, case) for study in studies)
    cases = []
    for entries in patients.values():
        entries.sort(key=lambda entry: entry[0].day)
        case = entries[-1][1]
        case.studies = [study for study, _ in entries]
        cases.append(case)
    return labels, cases


def given_files(
    program: str, case: Case, condition: Condition, folder: Path
) -> list[Path]:
    """The files of a case under a condition; corrupted copies are made in `folder`."""
    studies = case.studies[-condition.level :] if condition.kind == "temporal" else case.studies
    files = [file for study in studies for file in study.files]
    if condition.kind not in corruptions.CORRUPTIONS:
        return files
    out = []
    for file in files:
        name = hashlib.sha256(str(file).encode()).hexdigest()[:16] + ".dcm"
        target = folder / condition.name / name
        if not target.exists():
            corruptions.corrupted_copy(program, file, target, condition.kind, condition.level)
        out.append(target)
    return out


def compact(text: str) -> list[str]:
    """The documents of a text (one a line, or a single indented one) as lines."""
    decoder, at, lines = json.JSONDecoder(), 0, []
    while at < len(text.rstrip()):
        document, at = decoder.raw_decode(text, at)
        at += len(text[at:]) - len(text[at:].lstrip())
        lines.append(json.dumps(document))
    return lines


def predict(
    program: str, bundle: Path, cases: list[Case], condition: Condition, folder: Path,
    alpha: float, device: str | None,
) -> list[dict | None]:  # fmt: skip
    """A result a case (None: it failed). Cases with the same EHR file run together."""
    kept = folder / f"{condition.name}.jsonl"
    if not kept.exists():
        lines = []
        for ehr in sorted({case.ehr for case in cases}, key=str):
            same = [case for case in cases if case.ehr == ehr]
            for start in range(0, len(same), CHUNK):
                files = [
                    file
                    for case in same[start : start + CHUNK]
                    for file in given_files(program, case, condition, folder.parent / "corrupted")
                ]
                command = [program, "predict", "--model", str(bundle), "--alpha", str(alpha)]
                command += ["--format", "json"]
                command += ["--ehr", str(ehr)] if ehr else []
                command += ["--device", device] if device else []
                done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True)
                if done.returncode not in (0, 1) or not done.stdout:
                    raise SystemExit(f"{program} predict: {done.stderr.strip()[-500:]}")
                lines += compact(done.stdout)
        folder.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text("\n".join(lines) + "\n")
        part.rename(kept)
    results = {}
    for line in kept.read_text().splitlines():
        document = json.loads(line) if line.strip() else {}
        if document.get("schema") == "medfusion.result/1":
            results[document["study"]["study_instance_uid"]] = document
    return [results.get(case.studies[-1].uid) for case in cases]


@dataclass
class Scores:
    """What a bundle says under a condition: (cases, labels); rows of failed cases are NaN."""

    logit: np.ndarray
    probability: np.ndarray
    present: np.ndarray
    absent: np.ndarray
    ok: np.ndarray  # (cases)
    flags: list[list[str]] = field(default_factory=list)  # of quality, a list a case that ran


def scores(results: list[dict | None], labels: list[str]) -> Scores:
    shape = (len(results), len(labels))
    out = Scores(*(np.full(shape, np.nan) for _ in range(4)), np.zeros(len(results), bool))
    for i, result in enumerate(results):
        if result is None:
            continue
        by_label = {p["label"]: p for p in result["predictions"]}
        missing = [name for name in labels if name not in by_label]
        if missing:
            raise SystemExit(f"the bundle has no label {missing[0]}")
        out.ok[i] = True
        out.flags.append(result["quality"]["flags"])
        for c, name in enumerate(labels):
            p = by_label[name]
            out.logit[i, c], out.probability[i, c] = p["logit"], p["probability"]
            out.present[i, c] = "present" in p["prediction_set"]
            out.absent[i, c] = "absent" in p["prediction_set"]
    return out
