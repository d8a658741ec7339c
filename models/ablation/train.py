"""Trains the configurations: one encoder from the labels alone, frozen region tokens of both encoders
with and without the segmenter, and what stands above them, a seed at a time. The pretrained encoder and
the segmenter are those of the shipped bundle and stay as they are.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from medfusion import bundle as bundles
from medfusion.network import MedFusion
from medfusion.vision import region_tokens
from training import data, export, fusion, pipeline, segmenter, vision

from .configurations import Configuration, describe

BATCH, PEAK = 64, 1e-3


def label_encoder(run: pipeline.Run, out: Path, steps: int, seed: int = 0) -> torch.nn.Module:
    """The shipped encoder's architecture, trained on whole frames and their labels and nothing else
    for `steps` steps.
    """
    model = vision.Student()
    if out.exists():
        model.load_state_dict(torch.load(out))
        return model.eval().vit
    torch.manual_seed(seed)
    model, generator = vision.Student(), torch.Generator().manual_seed(seed)
    average, augment = copy.deepcopy(model), data.Augmentation()
    frames = torch.from_numpy(np.array(run.frames(256)))[:, None]
    labels = torch.tensor(run.table[data.LABELS].to_numpy(np.float32))
    use, patches = run.part("train"), (vision.SIZE // vision.PATCH) ** 2
    whole = torch.tensor([[0.0, 0, 1, 1]]).expand(BATCH, 4)
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.05, betas=(0.9, 0.98))
    for step in data.progress_bar(range(steps), "ViT from the labels"):
        rate = min(1, (step + 1) / (0.2 * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = PEAK * rate
        pick = use[torch.randint(len(use), (BATCH,), generator=generator).numpy()]
        x = augment(frames[pick].float() / 255, whole, vision.SIZE, generator)
        x, y = data.mixup(x, labels[pick], 0.4, generator)
        kept = vision.patches_kept(step / steps, patches)
        keep = torch.rand(BATCH, patches, generator=generator).argsort(1)[:, :kept]
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x, keep)[0][:, : len(data.LABELS)]
        loss = F.binary_cross_entropy_with_logits(logits, y)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        held = min(0.99, (step + 1) / (step + 11))
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.lerp_(p, 1 - held)
    torch.save(average.state_dict(), out)
    return average.eval().vit


def pretrained_encoder(run: pipeline.Run) -> torch.nn.Module:
    return bundles.load_module("vision", run.options.bundle / "vision")


@torch.no_grad()
def tokens_of(run: pipeline.Run, vit: torch.nn.Module, segmented: bool, cache: Path) -> torch.Tensor:
    """Region tokens (n, 17, dv) of the training and validation images, without augmentation; zeros
    for the others, which the program looks at itself.
    """
    if cache.exists():
        return torch.load(cache)
    for p in vit.parameters():  # the tokens are those of the 16-bit weights that the bundle holds
        p.data = p.data.half().float()
    use = run.part("train", "validation")
    tokens = torch.zeros(len(run.table), fusion.TOKENS, vit.config.hidden_size)
    for rows in np.array_split(use, max(1, len(use) // 64)):
        x = (pipeline.shown(run, rows, segmented) - vision.MEAN[0]) / vision.STD[0]
        with torch.autocast("cpu", torch.bfloat16):
            tokens[torch.from_numpy(rows)] = region_tokens(vit, x.expand(-1, 3, -1, -1), 4).float()
    torch.save(tokens, cache)
    return tokens


def upper_of(configuration: Configuration, vision_size: int, width: int) -> fusion.Upper:
    return fusion.Upper(
        vision_size, configuration.ehr, configuration.temporal, width, configuration.longest
    )


def train_upper(
    run: pipeline.Run, configuration: Configuration, tokens: torch.Tensor, steps: int, width: int,
    seed: int,
) -> fusion.Upper:  # fmt: skip
    torch.manual_seed(seed)
    model = upper_of(configuration, tokens.shape[-1], width)
    none = torch.full((len(run.table), len(data.LABELS)), float("nan"))
    rows = run.part("train")
    return fusion.train(
        model, tokens[:, None], none, run.table, rows, steps, (tokens, rows[:0]),
        f"{configuration.name}-{seed}", seed,
    )  # fmt: skip


def assemble(
    configuration: Configuration, seed: int, lungs: torch.nn.Module | None, vit: torch.nn.Module,
    upper: fusion.Upper,
) -> MedFusion:  # fmt: skip
    sizes = {
        "segmenter": {"size": [segmenter.SIZE] * 2, "mean": segmenter.MEAN, "std": segmenter.STD},
        "vision": {"size": [vision.SIZE] * 2, "mean": vision.MEAN, "std": vision.STD},
    }
    whole = export.bundle("0.0.0", sizes["segmenter"], sizes["vision"])
    whole["intended_use"] = "An experiment: one of the paper's configurations. Not for use."
    return MedFusion(
        describe(whole, configuration, seed), lungs if configuration.segmented else None, vit,
        upper.temporal, upper.ehr, upper.fusion,
    ).eval()  # fmt: skip


def make_bundles(
    run: pipeline.Run, chosen: list[Configuration], seeds: int, steps: dict[str, int], width: int
) -> dict[str, list[float]]:
    """Writes WORK/bundles/NAME-SEED; the F1 thresholds of each, from the validation patients. What is
    there already is not made again.
    """
    folder = run.work
    makers = {
        "vit": lambda: label_encoder(run, folder / f"vit-{steps['vit']}.pt", steps["vit"]),
        "dinov2": lambda: pretrained_encoder(run),
    }
    encoders = {name: makers[name]() for name in sorted({c.encoder for c in chosen})}
    lungs = bundles.load_module("segmenter", run.options.bundle / "segmenter")
    thresholds = {}
    for configuration in chosen:
        vit, segmented = encoders[configuration.encoder], configuration.segmented
        steps_of = f"-{steps['vit']}" if configuration.encoder == "vit" else ""
        kind = f"{configuration.encoder}{steps_of}-{'roi' if segmented else 'whole'}"
        tokens = tokens_of(run, vit, segmented, folder / f"tokens-{kind}.pt")
        for seed in range(seeds):
            name = f"{configuration.name}-{seed}"
            weights = folder / f"upper-{name}.pt"
            if weights.exists():
                upper = upper_of(configuration, tokens.shape[-1], width)
                upper.load_state_dict(torch.load(weights))
            else:
                upper = train_upper(run, configuration, tokens, steps["upper"], width, seed)
                torch.save(upper.state_dict(), weights)
            thresholds[name] = best_thresholds(run, upper.eval(), tokens)
            out = folder / "bundles" / name
            if not (out / "manifest.json").exists():
                model = assemble(configuration, seed, lungs, vit, upper)
                bundles.save_bundle(model, export.FEATURES if configuration.ehr else None, out)
                bundles.write_manifest(out)
    return thresholds


def best_thresholds(run: pipeline.Run, upper: fusion.Upper, tokens: torch.Tensor) -> list[float]:
    """Of the network's own probabilities: the best F1 of each label among validation patients."""
    from evaluation import metrics

    rows = run.part("validation")
    y = run.table[data.LABELS].to_numpy(float)[rows]
    p = fusion.predict(upper, tokens, run.table, rows)[rows].double().sigmoid().numpy()
    return [metrics.best_f1_threshold(y[:, c], p[:, c]) for c in range(y.shape[1])]
