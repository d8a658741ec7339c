"""Figures of the configurations over their seeds, and the table beside the paper's."""

from __future__ import annotations

import numpy as np
from evaluation import measure, metrics

from .configurations import Configuration

FIGURES = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "ece": "ECE"}

Arrays = dict[str, np.ndarray]  # a figure: the point estimate, then one value a resample


def over_seeds(seeds: list[Arrays]) -> Arrays:
    """The mean over seeds, within every resample: what a network of this recipe reaches."""
    return {name: np.mean([arrays[name] for arrays in seeds], 0) for name in FIGURES}


def configuration_figures(seeds: list[Arrays]) -> dict:
    mean = over_seeds(seeds)
    return {
        name: {
            **metrics.interval(mean[name]),
            "seeds": [float(arrays[name][0]) for arrays in seeds],
        }
        for name in FIGURES
    }


def differences(chosen: list[Configuration], clean: dict[str, list[Arrays]]) -> dict:
    """Paired differences of macro-AUROC: each configuration and the one before it in the paper's
    order, and the last against the first; Holm over all of them.
    """
    mean = {c.name: over_seeds(clean[c.name])["auroc"] for c in chosen}
    pairs = list(zip(chosen[1:], chosen, strict=False))
    if len(chosen) > 2:
        pairs.append((chosen[-1], chosen[0]))
    return measure.with_holm(
        {f"{b.display} − {a.display}": mean[b.name] - mean[a.name] for b, a in pairs}
    )


def spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def row(configuration: Configuration, entry: dict) -> list[str]:
    auroc, temporal = entry["clean"]["auroc"], entry.get("newest-1")
    drop = temporal["auroc"]["value"] - auroc["value"] if temporal else float("nan")
    return [
        configuration.display,
        f"{configuration.paper_auroc:.3f}",
        f"{number(auroc['value'])} ({number(auroc['low'])}–{number(auroc['high'])})",
        number(spread(auroc["seeds"])),
        f"{configuration.paper_auprc:.3f}",
        number(entry["clean"]["auprc"]["value"]),
        number(entry["clean"]["f1"]["value"]),
        number(entry["clean"]["ece"]["value"]),
        number(drop) if temporal else "–",
        number(entry["latency_ms"], 0),
        number(entry["peak_mib"], 0),
    ]


HEAD = [
    "configuration", "paper AUROC", "AUROC (95 %)", "± seeds", "paper AUPRC", "AUPRC", "F1", "ECE",
    "without priors", "ms", "MiB",
]  # fmt: skip


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text(found: dict, chosen: list[Configuration]) -> str:
    """The report for people."""
    budget = found["options"]
    parts = [
        "# The paper's seven configurations",
        "",
        f"{found['cases']} test patients of NIH ChestX-ray14, {found['positives']} findings among 14 labels; "
        f"{found['train']} images trained. {budget['seeds']} seeds; what stands above the encoder learnt for "
        f"{budget['upper_steps']} steps in every configuration (width {budget['width']}). ViT: the shipped encoder's "
        f"architecture, learnt from the labels alone for {budget['vit_steps']} steps. DINOv2: no published weights are "
        "at hand, so the shipped encoder stands in, which learnt from a network with ImageNet weights. Both are "
        "frozen. Brackets: 95 % interval over resampled patients of the mean over seeds. "
        "`without priors`: change of AUROC when every study but the newest is withheld. `ms`: median time of a "
        "study as the program reports it; `MiB`: peak resident memory of one prediction.",
        "",
        markdown(HEAD, [row(c, found["configurations"][c.name]) for c in chosen]),
        "",
        markdown(
            ["difference of macro-AUROC", "value (95 %)", "p", "p, Holm"],
            [
                [name, f"{number(d['value'])} ({number(d['low'])}–{number(d['high'])})",
                 number(d["p_value"], 4), number(d["p_holm"], 4)]
                for name, d in found["differences"].items()
            ],
        ),
        "",
        f"What this can tell: an interval of AUROC is about {number(found['width_of_interval'])} wide here, and the "
        "paper's steps from one configuration to the next are 0.008 to 0.021. So a step as large as the paper's "
        "cannot be seen on this many patients, whichever way it points; only differences whose interval "
        "leaves out 0 say anything. The paper's data (CheXpert, tested on MIMIC-CXR) are some hundred times "
        "larger, its labels are others, and its encoders were tuned: the columns stand side by side to "
        "compare their order, not their height.",
        "",
    ]  # fmt: skip
    return "\n".join(parts)
