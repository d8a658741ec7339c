"""The report's files: report.json (everything), figures.csv (one figure a line), report.html."""

from __future__ import annotations

import csv
import json
from html import escape
from pathlib import Path

import numpy as np

from . import figures

SHOWN = {
    "auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "ece": "ECE", "ace": "ACE", "brier": "Brier",
    "nll": "NLL", "slope": "slope", "intercept": "intercept", "aurc": "AURC",
    "coverage_present": "coverage, present", "coverage_absent": "coverage, absent",
    "set_size": "set size",
}  # fmt: skip
STYLE = (
    "body{font:14px/1.45 sans-serif;margin:24px auto;padding:0 24px;max-width:1240px;color:#222}"
    ".pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(520px,100%),1fr));"
    "gap:8px 24px}svg{width:100%;height:auto}.wide{overflow-x:auto}"
    "table{border-collapse:collapse;margin:8px 0 20px}td,th{padding:3px 9px;text-align:right;"
    "border-bottom:1px solid #ddd;white-space:nowrap}td:first-child,th:first-child"
    "{text-align:left}h2{margin-top:32px}small{color:#666}"
)


def clean(value):
    """NaN becomes null: JSON has none."""
    if isinstance(value, dict):
        return {k: clean(v) for k, v in value.items()}
    if isinstance(value, list):
        return [clean(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def shown(x: dict, digits: int = 3) -> str:
    if np.isnan(x["value"]):
        return "–"
    return f"{x['value']:.{digits}f} ({x['low']:.{digits}f}–{x['high']:.{digits}f})"


def write_csv(found: dict, file: Path) -> None:
    with file.open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(
            ["bundle", "condition", "label", "figure", "value", "low", "high", "skipped"]
        )
        for bundle, entry in found["bundles"].items():
            for condition, figures_of in entry["conditions"].items():
                rows = {"macro": figures_of["macro"], **figures_of["labels"]}
                for label, values in rows.items():
                    for name, x in values.items():
                        if isinstance(x, dict):
                            writer.writerow(
                                [bundle, condition, label, name, x["value"], x["low"], x["high"],
                                 x["skipped"]]
                            )  # fmt: skip


def table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{cells}</tr>{body}</table></div>'


def macro_table(found: dict) -> str:
    names = [n for n in SHOWN if n in first(found)["macro"]]
    rows = [
        [bundle, *(shown(e["conditions"]["clean"]["macro"][n]) for n in names)]
        for bundle, e in found["bundles"].items()
    ]
    return table(["bundle", *(SHOWN[n] for n in names)], rows)


def first(found: dict) -> dict:
    return next(iter(found["bundles"].values()))["conditions"]["clean"]


def label_table(found: dict, bundle: str) -> str:
    rows = found["bundles"][bundle]["conditions"]["clean"]["labels"]
    names = [n for n in SHOWN if n in next(iter(rows.values()))]
    return table(
        ["label", "cases", "positives", *(SHOWN[n] for n in names)],
        [
            [label, str(r["cases"]), str(r["positives"]), *(shown(r[n]) for n in names)]
            for label, r in rows.items()
        ],
    )


def difference_table(pairs: dict) -> str:
    return table(
        ["difference of macro-AUROC", "value (95 %)", "p", "p, Holm"],
        [
            [name, shown(x), f"{x['p_value']:.4f}", f"{x['p_holm']:.4f}"]
            for name, x in pairs.items()
        ],
    )


def condition_table(found: dict, kind: str) -> str:
    names = ["auroc", "auprc", "ece", "coverage_present", "coverage_absent", "set_size"]
    rows = []
    for bundle, entry in found["bundles"].items():
        for name, c in entry["conditions"].items():
            if c["kind"] in (kind, "clean"):
                flags = ", ".join(f"{n} {100 * share:.1f} %" for n, share in c["flags"].items())
                rows.append([bundle, name, *(shown(c["macro"][n]) for n in names), flags or "–"])
    return table(["bundle", "condition", *(SHOWN[n] for n in names), "quality flags"], rows)


def kinds_of(found: dict) -> list[str]:
    conditions = next(iter(found["bundles"].values()))["conditions"].values()
    return list(dict.fromkeys(c["kind"] for c in conditions if c["kind"] != "clean"))


TITLES = {
    "noise": ("Gaussian noise", "severity"),
    "jpeg": ("JPEG compression", "severity"),
    "motion": ("Motion blur", "severity"),
    "temporal": ("Studies removed, the oldest first", "newest studies that are left"),
}


def pictures(*svgs: str) -> str:
    return f'<div class="pictures">{"".join(svgs)}</div>'


def write_html(found: dict, file: Path) -> None:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Evaluation</title>",
        f"<style>{STYLE}</style><h1>Evaluation</h1>",
        f"<p>{found['cases']} cases of {found['patients']} patients from {escape(found['manifest'])}; "
        f"α = {found['alpha']}; brackets: 95 % interval of {found['resamples']} patient-bootstrap "
        "resamples, the same for every bundle and condition.</p>",
        "<h2>Bundles</h2>", macro_table(found),
        pictures(figures.ablation_plot(found), figures.bar_chart(found)),
        "<h2>Calibration and selective answers</h2>",
        pictures(figures.calibration_plot(found), figures.risk_plot(found)),
    ]  # fmt: skip
    if found["differences"]:
        parts += ["<h2>Paired differences</h2>", difference_table(found["differences"])]
    for kind in kinds_of(found):
        title, x_name = TITLES[kind]
        parts += [f"<h2>{title}</h2>"]
        parts.append(pictures(*(
            figures.condition_plot(found, kind, f"{SHOWN[member]}: {title.lower()}", x_name, member)
            for member in ("auroc", "coverage_present", "coverage_absent")
        )))  # fmt: skip
        parts += [condition_table(found, kind)]
    for bundle, entry in found["bundles"].items():
        if entry["drops"]:
            parts += [f"<h2>Drops of {escape(bundle)}</h2>", difference_table(entry["drops"])]
    for bundle in found["bundles"]:
        parts += [f"<h2>Labels of {escape(bundle)}</h2>", label_table(found, bundle)]
    if not found["validation"]:
        parts.append("<p><small>F1 is left out: no validation manifest was given.</small></p>")
    file.write_text("\n".join(parts) + "</html>\n")


def write(found: dict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(clean(found), indent=1) + "\n")
    write_csv(found, folder / "figures.csv")
    write_html(found, folder / "report.html")
