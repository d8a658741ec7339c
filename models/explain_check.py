#!/usr/bin/env python3
"""Do the maps of `medfusion predict --explain` mean something? Two tests on the NIH test patients.

    python models/explain_check.py --nih ../shared/data/nih --out explain_check.json

deletion    Patches are blurred away in the order of a map, the most important first (MoRF) or the
            least (LeRF), and the network is asked again after every step. A map that knows what the
            logit rests on makes it fall when the most important go first and rise when the least
            do; the order of a random map does neither. One positive finding of one image of every
            patient; a patient-bootstrap interval of the mean difference between the curves.
randomise   Weights are drawn anew from the head downwards, module by module (Adebayo et al. 2018);
            Spearman's rank correlation of the maps before and after. A map that stays the same
            shows the image, not the network.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from medfusion import bundle as bundles
from medfusion import explain
from medfusion.network import Ehr, MedFusion
from medfusion.vision import region_tokens
from scipy.stats import spearmanr
from training import data

MODELS = Path(__file__).parent
SHARES = np.linspace(0, 1, 11)
KINDS = ("attribution", "relevance", "rollout")
MODULES = ("fusion", "temporal", "ehr", "vision")  # from the head downwards


class Case:
    """One image as the vision module sees it, its features, and the finding that is explained."""

    def __init__(self, model: MedFusion, row: dict, images: Path) -> None:
        labels = [label["id"] for label in model.bundle["labels"]]
        grey = torch.from_numpy(data.read_grey(images / row["file"]).copy()).float() / 255
        frame = model.equalise(grey)
        with torch.no_grad():
            region = model.regions([frame], None)[0][0]
        self.pixels = model.vision_input(frame, region)[None]
        self.blurred = explain.blur(self.pixels, model.vision.config.patch_size)
        sex, view = int(row["sex"] == "M"), int(row["view"] == "AP")
        self.ehr = Ehr(
            torch.tensor([(row["age"] - 46.0) / 17.0]),
            torch.tensor([sex, view]),
            torch.zeros(3, dtype=torch.bool),
        )
        present = [labels.index(name) for name in data.LABELS if row[name] > 0.5]
        logits = logits_of(model, self.pixels, self)[0]
        self.label = max(present, key=lambda label: float(logits[label]))


@torch.no_grad()
def logits_of(model: MedFusion, pixels: torch.Tensor, case: Case) -> torch.Tensor:
    """(n, 3, H, W), every image a study of its own with the case's features → (n, labels)."""
    tokens = region_tokens(model.vision, pixels, model.bundle["regions"])
    ehr = explain.ehr_tokens(model, case.ehr).expand(len(pixels), -1, -1)
    fused, context = model.fusion.fuse(model.temporal(tokens[:, None]), ehr)
    return model.fusion.head(model.fusion.readout(fused, context, tokens.shape[1]))


def maps_of(model: MedFusion, case: Case, steps: int) -> dict[str, torch.Tensor]:
    found = explain.explain(model, case.pixels, case.ehr, None, [case.label], steps)
    maps = {kind: getattr(found, kind) for kind in KINDS}
    return {kind: (m if kind == "rollout" else m[0])[0] for kind, m in maps.items()}


def curve(model: MedFusion, case: Case, order: torch.Tensor, grid: tuple[int, int]) -> np.ndarray:
    """The change of the logit after each share of the patches is gone."""
    images = []
    for share in SHARES:
        gone = torch.zeros(len(order))
        gone[order[: round(share * len(order))]] = 1
        gone = F.interpolate(gone.view(1, 1, *grid), case.pixels.shape[2:])
        images.append(case.pixels * (1 - gone) + case.blurred * gone)
    logits = logits_of(model, torch.cat(images), case)[:, case.label].numpy()
    return logits - logits[0]


def deletion(model: MedFusion, cases: list[Case], steps: int, randoms: int) -> dict:
    rng = np.random.default_rng(1)
    curves: dict[str, list] = {}
    for case in data.progress_bar(cases, "deletion"):
        for kind, m in maps_of(model, case, steps).items():
            order = m.flatten().argsort(descending=True)
            for name, way in ((f"{kind}, most first", order), (f"{kind}, least first", order.flip(0))):
                curves.setdefault(name, []).append(curve(model, case, way, tuple(m.shape)))
        chance = [torch.from_numpy(rng.permutation(m.numel())) for _ in range(randoms)]
        mean = np.mean([curve(model, case, order, tuple(m.shape)) for order in chance], 0)
        curves.setdefault("random", []).append(mean)
    arrays = {name: np.array(values) for name, values in curves.items()}
    means = {name: values[:, 1:-1].mean(1) for name, values in arrays.items()}
    out = {"curves": {name: values.mean(0).tolist() for name, values in arrays.items()}}
    for kind in KINDS:
        below = means[f"{kind}, most first"] - means["random"]
        gap = means[f"{kind}, least first"] - means[f"{kind}, most first"]
        moved = np.abs(arrays[f"{kind}, most first"][:, 1:-1]).mean(1)
        out[kind] = {
            "most_first_against_random": interval(below, rng),
            "least_against_most_first": interval(gap, rng),
            "patients_with_least_above_most": float((gap > 0).mean()),
            "mean_absolute_change_most_first": interval(moved, rng),
        }
    chance = np.abs(arrays["random"][:, 1:-1]).mean(1)
    return out | {"random": {"mean_absolute_change": interval(chance, rng)}}


def interval(values: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Mean with the 95 % percentile interval of 2,000 resamples; a value is a patient."""
    draws = rng.integers(len(values), size=(2000, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return [round(float(x), 4) for x in (values.mean(), low, high)]


def redraw(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Every tensor a permutation of itself: the same distribution, nothing learnt."""
    for p in module.parameters():
        order = torch.randperm(p.numel(), generator=generator)
        p.data = p.data.flatten()[order].view_as(p)


def randomise(folder: Path, cases: list[Case], steps: int) -> dict:
    model = bundles.load_bundle(folder).requires_grad_(False)
    before = [maps_of(model, case, steps) for case in cases]
    generator = torch.Generator().manual_seed(1)
    out: dict[str, dict] = {}
    done = []
    for name in MODULES:
        redraw(getattr(model, name), generator)
        done.append(name)
        after = [maps_of(model, case, steps) for case in data.progress_bar(cases, name)]
        out[" + ".join(done)] = {
            kind: float(np.mean([likeness(a[kind], b[kind]) for a, b in zip(before, after)]))
            for kind in KINDS
        }
    return out


def likeness(a: torch.Tensor, b: torch.Tensor) -> float:
    """Spearman's rank correlation; 0 with a map that is the same everywhere."""
    constant = a.max() == a.min() or b.max() == b.min()
    return 0.0 if constant else float(spearmanr(a.flatten(), b.flatten())[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nih", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=MODELS / "thorax-nih")
    parser.add_argument("--out", type=Path, required=True, help="JSON with all figures")
    parser.add_argument("--steps", type=int, default=16, help="of the line of the attribution")
    parser.add_argument("--patients", type=int, default=1000, help="at most so many")
    parser.add_argument("--randomise-patients", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = bundles.load_bundle(options.model).requires_grad_(False)
    table = data.load_table(options.nih, options.model / "splits.csv")
    table = table[(table["split"] == "test") & (table[data.LABELS].max(axis=1) > 0)]
    rows = table.groupby("patient_id").first().reset_index().head(options.patients)
    images = options.nih / "images"
    cases = [Case(model, row, images) for row in rows.to_dict("records")]
    found = {"patients": len(cases), "steps": options.steps}
    few = cases[: options.randomise_patients]
    found["randomise"] = randomise(options.model, few, options.steps)
    found["deletion"] = deletion(model, cases, options.steps, randoms=3)
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
