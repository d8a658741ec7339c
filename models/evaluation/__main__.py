"""Evaluates bundles on the cases of a manifest, through `medfusion predict`, and writes a report.

    models/evaluate test.csv models/thorax-nih --validation calibration.csv -o build/evaluation
    models/evaluate test.csv full=build/full image-only=build/image --corruptions none

The manifest is that of `medfusion calibrate` (path, patient_id, labels; ehr and group if any). A
bundle may be given a name (NAME=DIR). The first is compared with every other. The report has macro
and per-label AUROC, AUPRC, F1 (threshold from --validation, frozen), ECE, ACE, Brier score, NLL,
calibration slope and intercept, risk–coverage curves, conformal coverage and set sizes, the same
under three corruptions at five severities and with the oldest studies removed one by one, all with
patient-bootstrap intervals, and paired differences with Holm's correction. What predict answered is
kept under OUT/predictions: a run that is repeated goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from . import cases as data
from . import corruptions, measure, report


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="models/evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("bundles", nargs="+", metavar="[NAME=]BUNDLE")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--validation", type=Path, help="manifest of other patients, for F1")
    parser.add_argument("--program", default="build/release/medfusion")
    parser.add_argument("--device", help="as for medfusion predict")
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--corruptions", default="noise,jpeg,motion", help="or none")
    parser.add_argument("--severities", default="1,2,3,4,5")
    parser.add_argument(
        "--studies", default="1,2,3,4,6,8", help="newest studies that are left, or none"
    )
    return parser.parse_args()


def conditions(options: argparse.Namespace, longest: int) -> list[data.Condition]:
    out = [data.CLEAN]
    if options.corruptions != "none":
        kinds = options.corruptions.split(",")
        unknown = set(kinds) - set(corruptions.CORRUPTIONS)
        if unknown:
            raise SystemExit(f"--corruptions: there is no {unknown.pop()}")
        levels = [int(text) for text in options.severities.split(",")]
        if not set(levels) <= set(corruptions.SEVERITIES):
            raise SystemExit("--severities: 1 to 5")
        out += [data.Condition(f"{kind}-{n}", kind, n) for kind in kinds for n in levels]
    if options.studies != "none" and longest > 1:
        counts = sorted({min(int(text), longest) for text in options.studies.split(",")})
        out += [data.Condition(f"newest-{n}", "temporal", n) for n in [*counts, longest]]
    return list(dict.fromkeys(out))


def named_bundles(arguments: list[str]) -> dict[str, Path]:
    out: dict[str, Path] = {}
    for text in arguments:
        name, _, path = text.rpartition("=")
        out[name or Path(path).name] = Path(path)
    if len(out) != len(arguments):
        raise SystemExit("two bundles have the same name: give NAME=BUNDLE")
    return out


def evaluate_bundle(
    name: str, bundle: Path, options: argparse.Namespace, labels: list[str],
    cases: list[data.Case], truth: measure.Truth, plan: list[data.Condition],
) -> tuple[dict, dict[str, np.ndarray]]:  # fmt: skip
    """The bundle's part of the report, and its clean macro figures for paired differences."""
    folder = options.out / "predictions" / name

    def ask(cases: list[data.Case], condition: data.Condition, folder: Path) -> data.Scores:
        print(f"{name}: {condition.name}", file=sys.stderr)
        answers = data.predict(
            options.program, bundle, cases, condition, folder, options.alpha, options.device
        )
        return data.scores(answers, labels)

    frozen = None
    if options.validation:
        _, others = data.read_manifest(options.validation)
        scores = ask(others, data.CLEAN, folder / "validation")
        frozen = measure.thresholds(labels, others, scores)
    entry: dict = {"path": str(bundle), "conditions": {}}
    arrays = {}
    for condition in plan:
        scores = ask(cases, condition, folder)
        figures, arrays[condition.name] = measure.condition_figures(truth, scores, condition, frozen)
        entry["conditions"][condition.name] = figures
    if frozen:
        entry["thresholds"] = dict(zip(labels, frozen, strict=True))
    entry["drops"] = measure.with_holm(
        {
            f"{condition.name} − clean": arrays[condition.name]["auroc"] - arrays["clean"]["auroc"]
            for condition in plan
            if condition.kind != "clean"
        }
    )
    return entry, arrays["clean"]


def main() -> None:
    options = arguments()
    bundles = named_bundles(options.bundles)
    labels, cases = data.read_manifest(options.manifest)
    if options.validation:
        names, others = data.read_manifest(options.validation)
        if names != labels:
            raise SystemExit("--validation: other labels than the manifest's")
        both = {case.patient for case in cases} & {case.patient for case in others}
        if both:
            raise SystemExit(f"--validation: patient {sorted(both)[0]} is in the manifest, too")
    truth = measure.Truth(labels, cases, options.resamples)
    plan = conditions(options, max(len(case.studies) for case in cases))
    found: dict = {
        "schema": "medfusion.evaluation/1",
        "manifest": str(options.manifest),
        "validation": str(options.validation) if options.validation else None,
        "alpha": options.alpha,
        "resamples": options.resamples,
        "labels": labels,
        "cases": len(cases),
        "patients": len({case.patient for case in cases}),
        "bundles": {},
    }
    clean = {}
    for name, bundle in bundles.items():
        found["bundles"][name], clean[name] = evaluate_bundle(
            name, bundle, options, labels, cases, truth, plan
        )
    head, *rest = bundles
    found["differences"] = measure.with_holm(
        {f"{head} − {name}": clean[head]["auroc"] - clean[name]["auroc"] for name in rest}
    )
    report.write(found, options.out)
    for name, entry in found["bundles"].items():
        macro = entry["conditions"]["clean"]["macro"]
        print(f"{name}: macro-AUROC {report.shown(macro['auroc'])}, ECE {report.shown(macro['ece'])}")
    print(options.out / "report.html")


if __name__ == "__main__":
    main()
