"""The paper's seven configurations (ViT; Seg + ViT; DINOv2; Seg + DINOv2; + Transformer; + Mamba;
full) as seven bundles of one engine: trained on the data at hand with the same splits and budget, over
several seeds, run through `medfusion predict`, and tabled beside the paper's figures.

    python models/manifest.py test --nih ../shared/data/nih --out build/nih-dicom/test --series
    models/ablate build/nih-dicom/test/manifest.csv -o build/ablation

OUT/report.md is the table, OUT/report.json every figure, OUT/bundles the bundles. A run that is
repeated goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from evaluation import cases as data
from evaluation import measure, report

from . import configurations, summary

MODELS = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="models/ablate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifest", type=Path, help="of the test patients, with --series")
    parser.add_argument("-o", "--out", type=Path, default=MODELS.parent / "build" / "ablation")
    parser.add_argument("--data", type=Path, default=MODELS.parent.parent / "shared" / "data")
    parser.add_argument("--bundle", type=Path, default=MODELS / "thorax-nih",
                        help="splits, segmenter and pretrained encoder")  # fmt: skip
    parser.add_argument("--caches", type=Path, default=MODELS.parent / "build" / "ml",
                        help="where models/train keeps its frames and regions")  # fmt: skip
    parser.add_argument("--program", default="build/release/medfusion")
    parser.add_argument("--only", help="configurations, with commas; default: all seven")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vit-steps", type=int, default=1500)
    parser.add_argument("--upper-steps", type=int, default=400)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def chosen_of(options: argparse.Namespace) -> list[configurations.Configuration]:
    if not options.only:
        return configurations.ALL
    names = options.only.split(",")
    unknown = set(names) - {c.name for c in configurations.ALL}
    if unknown:
        raise SystemExit(f"--only: there is no {sorted(unknown)[0]}")
    return [c for c in configurations.ALL if c.name in names]


def keep_options(options: argparse.Namespace) -> dict:
    """What a folder was made with: going on with anything else would mix two experiments."""
    own = {"seeds": options.seeds, "vit_steps": options.vit_steps,
           "upper_steps": options.upper_steps, "width": options.width}  # fmt: skip
    file = options.out / "options.json"
    if file.exists():
        before = json.loads(file.read_text())
        if {**before, "seeds": 0} != {**own, "seeds": 0}:
            raise SystemExit(f"{options.out} was made with other options: choose another -o")
    options.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(own) + "\n")
    return own


def train(options: argparse.Namespace, chosen: list, own: dict) -> tuple[dict, int]:
    """Bundles, with what training needs imported only here; F1 thresholds and training images."""
    import torch
    from training import pipeline

    from . import train as training

    torch.set_num_threads(options.threads)
    settings = argparse.Namespace(work=options.caches, bundle=options.bundle, data=options.data,
                                  threads=options.threads)  # fmt: skip
    run = pipeline.Run(settings)
    run.work = options.out
    steps = {"vit": own["vit_steps"], "upper": own["upper_steps"]}
    thresholds = training.make_bundles(run, chosen, own["seeds"], steps, own["width"])
    return thresholds, len(run.part("train"))


# A process starts with the peak of the one that it was forked from, so a small one stands between.
MEASURE = (
    "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)"
)


def peak_mib(program: str, bundle: Path, case: data.Case) -> float:
    """Largest resident memory of the program, or of a process of it, while it predicts one study."""
    files = [str(file) for study in case.studies for file in study.files]
    command = [program, "predict", "--model", str(bundle), "--format", "json", *files]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{program} predict: {done.stderr.strip()[-500:]}")
    return int(done.stdout) / 1024


def evaluate(
    options: argparse.Namespace, configuration: configurations.Configuration, seeds: int,
    labels: list[str], cases: list[data.Case], truth: measure.Truth, thresholds: dict,
) -> tuple[dict, list[summary.Arrays]]:  # fmt: skip
    """The configuration's part of the report, and its clean macro arrays, one a seed."""
    conditions = [data.CLEAN]
    if configuration.longest > 1:
        conditions.append(data.Condition("newest-1", "temporal", 1))
    found: dict[str, list] = {condition.name: [] for condition in conditions}
    times = []
    for seed in range(seeds):
        name = f"{configuration.name}-{seed}"
        bundle, folder = options.out / "bundles" / name, options.out / "predictions" / name
        for condition in conditions:
            print(f"{name}: {condition.name}", file=sys.stderr)
            results = data.predict(options.program, bundle, cases, condition, folder, 0.1, None)
            scores = data.scores(results, labels)
            _, arrays = measure.condition_figures(truth, scores, condition, thresholds[name])
            found[condition.name].append(arrays)
            if condition is data.CLEAN:
                times += [r["timing_ms"]["total"] for r in results if r]
    longest = max(cases, key=lambda case: len(case.studies))
    entry = {name: summary.configuration_figures(arrays) for name, arrays in found.items()}
    entry["latency_ms"] = float(np.median(times))
    entry["peak_mib"] = peak_mib(options.program, options.out / "bundles" / f"{configuration.name}-0", longest)
    return entry, found["clean"]


def main() -> None:
    options = arguments()
    chosen, own = chosen_of(options), keep_options(options)
    thresholds, train_images = train(options, chosen, own)
    labels, cases = data.read_manifest(options.manifest)
    truth = measure.Truth(labels, cases, options.resamples)
    found: dict = {
        "schema": "medfusion.ablation/1",
        "options": own,
        "train": train_images,
        "cases": len(cases),
        "positives": int(np.nansum(truth.values)),
        "resamples": options.resamples,
        "configurations": {},
    }
    clean = {}
    for configuration in chosen:
        entry, clean[configuration.name] = evaluate(
            options, configuration, own["seeds"], labels, cases, truth, thresholds
        )
        found["configurations"][configuration.name] = entry
    found["differences"] = summary.differences(chosen, clean)
    found["width_of_interval"] = float(
        np.mean([e["clean"]["auroc"]["high"] - e["clean"]["auroc"]["low"]
                 for e in found["configurations"].values()])
    )  # fmt: skip
    (options.out / "report.json").write_text(json.dumps(report.clean(found), indent=1) + "\n")
    text = summary.text(found, chosen)
    (options.out / "report.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
