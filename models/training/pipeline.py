"""All training steps in order. Each writes its files under the work folder and is skipped when they
are there.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from medfusion import bundle as bundles
from medfusion.network import MedFusion
from medfusion.segmenter import Decoded, Segmenter, masks_of, passes_gate, region_of
from medfusion.vision import region_tokens
from PIL import Image

from . import crossval, data, export, fusion, segmenter, teacher, vision

MODELS = Path(__file__).parent.parent
LOG = logging.getLogger("pipeline")


class Run:
    """Paths, table and options of one training run.

    A fold of the cross-validation is a run of its own: another table, another work folder, no bundle. What
    does not depend on the split (cached frames, the segmenter, its regions) is in `shared`.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work = self.shared = options.work
        self.bundle: Path | None = options.bundle
        self.threads: int = options.threads
        self.nih = options.data / "nih"
        self.table = data.load_table(self.nih, options.bundle / "splits.csv")
        self.files = [self.nih / "images" / name for name in self.table["file"]]
        self.extra = sorted((options.data / "hannover" / "images").glob("*.jpg"))

    def fold(self, k: int, split: np.ndarray) -> Run:
        """The run of fold k: `split` says train or test for every row; one thread."""
        run = Run(self.options)
        run.work, run.bundle, run.threads = self.work / f"fold{k}", None, 1
        run.work.mkdir(exist_ok=True)
        run.table = self.table.assign(split=split)
        return run

    def part(self, *names: str) -> np.ndarray:
        return np.flatnonzero(self.table["split"].isin(names))

    def frames(self, size: int) -> np.ndarray:
        return data.cached_frames(self.files, size, self.shared / f"nih{size}.npy")

    def extra_frames(self, size: int) -> np.ndarray:
        return data.cached_frames(self.extra, size, self.shared / f"hannover{size}.npy")

    def segmenter(self, name: str = "segmenter.pt") -> Segmenter:
        model = Segmenter(segmenter.config(), box_hidden=64)
        model.load_state_dict(torch.load(self.shared / name))
        return model.eval()


def step_segmenter(run: Run) -> None:
    """Two cosine cycles: the masks of the first are good enough for the views that the ViT learns
    from.
    """
    folder, first = run.options.data / "lung_masks", run.shared / "segmenter-first.pt"
    segmenter.train(folder, first, 18, threads=run.threads)
    last = run.shared / "segmenter.pt"
    segmenter.train(folder, last, 26, seed=1, threads=run.threads, start=first)


def step_teacher(run: Run) -> None:
    out, epochs = run.work / "teacher.pt", run.options.teacher_epochs
    teacher.train(run.table, run.frames(384), out, epochs, run.threads)


@torch.no_grad()
def regions(run: Run, frames: np.ndarray, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Where the segmenter looks in every frame: boxes (n, 4) in [0, 1] and m (n, 256, 256) uint8
    (255 on a fall-back).
    """
    if cache.exists():
        found = np.load(cache)
        return found["boxes"], found["weights"]
    model, size = run.segmenter("segmenter-first.pt"), segmenter.SIZE
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (len(frames), 1))
    weights = np.full((len(frames), size, size), 255, np.uint8)
    passed = 0
    for i in range(0, len(frames), 16):
        x = segmenter.pixels(torch.from_numpy(frames[i : i + 16])[:, None].float() / 255)
        _, decoded = model(x, True)
        masks = masks_of(decoded.logits, size).unflatten(0, (-1, 2))
        for k in range(len(masks)):
            own = Decoded(
                *(v[2 * k : 2 * k + 2] for v in (decoded.logits, decoded.iou, decoded.object_score))
            )
            if passes_gate(own, masks[k], export.SEGMENTATION["gate"]):
                box, weight = region_of(masks[k], (size, size), export.SEGMENTATION)
                boxes[i + k], weights[i + k] = (
                    np.array(box) / size,
                    (weight * 255).round().byte().numpy(),
                )
                passed += 1
    LOG.info("%s: %d of %d frames pass the gate", cache.stem, passed, len(frames))
    np.savez(cache, boxes=boxes, weights=weights)
    return boxes, weights


def whole_frames(n: int) -> tuple[np.ndarray, np.ndarray]:
    """What `regions` says where there is no segmenter."""
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (n, 1))
    return boxes, np.full((n, 1, 1), 255, np.uint8)


def own_regions(run: Run) -> tuple[np.ndarray, np.ndarray]:
    return regions(run, run.frames(256), run.shared / "regions-nih.npz")


def step_views(run: Run) -> None:
    """Views of the training images, then of the Hannover images (which have no labels here)."""
    out = run.work / "views.pt"
    if out.exists():
        return
    own, use = run.frames(384), run.part("train")
    boxes, weights = own_regions(run)
    other = run.extra_frames(384)
    cache = run.shared / "regions-hannover.npz"
    other_boxes, other_weights = regions(run, run.extra_frames(256), cache)
    views = vision.make_views(
        np.concatenate([own[use], other]),
        np.concatenate([weights[use], other_weights]),
        np.concatenate([boxes[use], other_boxes]),
        run.options.views,
        teacher.load(run.work / "teacher.pt"),
        0,
    )
    torch.save(views, out)


def shown(run: Run, rows: np.ndarray, segmented: bool = True) -> torch.Tensor:
    """Network inputs (n, 1, 224, 224) of NIH rows without augmentation, from the cached frames: the
    region of interest, or the whole frame.
    """
    boxes, weights = own_regions(run) if segmented else whole_frames(len(run.table))
    plain = data.Augmentation(scale=(1, 1), aspect=0, rotation=0, shift=0, flip=0)
    frames, out = run.frames(384), [torch.empty(0, 1, vision.SIZE, vision.SIZE)]
    for pick in np.array_split(rows, max(1, len(rows) // 64)) if len(rows) else []:
        grid = plain.grid(
            torch.from_numpy(boxes[pick]).float(), vision.SIZE, torch.Generator().manual_seed(0)
        )
        out.append(
            torch.nn.functional.grid_sample(
                vision.dimmed(frames, weights, boxes, pick),
                grid,
                align_corners=False,
                padding_mode="border",
            )
        )
    return torch.cat(out)


def step_vision(run: Run) -> None:
    out = run.work / "vision.pt"
    if out.exists():
        return
    use, val = run.part("train"), run.part("validation")
    labels = torch.tensor(run.table[data.LABELS].to_numpy(np.float32))
    n = len(use) + len(run.extra)
    targets, known = torch.zeros(n, len(data.LABELS)), torch.zeros(n, dtype=torch.bool)
    targets[: len(use)], known[: len(use)] = labels[use], True
    held = (shown(run, val), labels[val].numpy())
    given = (run.work / "views.pt", targets, known, held, out, run.options.vision_steps)
    vision.train_together(*given, workers=run.threads)


@torch.no_grad()
def plain_tokens(run: Run, vit: torch.nn.Module) -> torch.Tensor:
    """Region tokens (n, 17, dv) of every NIH image without augmentation, from the cached frames."""
    cache = run.work / "tokens.pt"
    if cache.exists():
        return torch.load(cache)
    out = []
    for x in shown(run, np.arange(len(run.table))).split(64):
        x = ((x - vision.MEAN[0]) / vision.STD[0]).expand(-1, 3, -1, -1)
        with torch.autocast("cpu", torch.bfloat16):
            out.append(region_tokens(vit, x, 4).float())
    tokens = torch.cat(out)
    torch.save(tokens, cache)
    return tokens


@torch.no_grad()
def exact_tokens(run: Run, model: MedFusion, tokens: torch.Tensor) -> torch.Tensor:
    """The same, those of calibration and test patients replaced by what the shipped network says of the files."""
    cache = run.work / "exact-tokens.pt"
    if cache.exists():
        return torch.load(cache)
    tokens, rows, fell_back = tokens.clone(), run.part("calibration", "test"), 0
    for count, i in enumerate(data.progress_bar(rows, "tokens")):
        frame = torch.from_numpy(np.array(Image.open(run.files[i]).convert("L"))).float() / 255
        found, _ = model.regions([frame], None)
        fell_back += found[0].status == "fallback"
        pixels = model.vision_input(frame, found[0])[None]
        tokens[i] = region_tokens(model.vision, pixels, 4)[0]
        if (count + 1) % 50 == 0:
            LOG.info("exact tokens %d/%d, fall-backs %d", count + 1, len(rows), fell_back)
    torch.save(tokens, cache)
    return tokens


@torch.no_grad()
def view_tokens(run: Run, vit: torch.nn.Module) -> torch.Tensor:
    """Tokens (n, views, 17, dv) of the first views of every training image."""
    cache = run.work / "view-tokens.pt"
    if cache.exists():
        return torch.load(cache)
    images = torch.load(run.work / "views.pt", mmap=True)["image"][: len(run.part("train"))]
    out, count = [], min(run.options.token_views, images.shape[1])
    generator, grey = torch.Generator().manual_seed(1), data.Augmentation(erase=0.1)
    for k in data.progress_bar(range(count), "view tokens"):
        tokens = []
        for part in images[:, k].split(64):
            x = grey.grey(part[:, None].float() / 255, generator)
            with torch.autocast("cpu", torch.bfloat16):
                x = ((x - vision.MEAN[0]) / vision.STD[0]).expand(-1, 3, -1, -1)
                tokens.append(region_tokens(vit, x, 4).half())
        out.append(torch.cat(tokens))
        LOG.info("view tokens %d/%d", k + 1, count)
    tokens = torch.stack(out, 1)
    torch.save(tokens, cache)
    return tokens


def assemble(run: Run, vit: torch.nn.Module, upper: fusion.Upper, ehr: bool = True) -> MedFusion:
    options = {
        "segmenter": {"size": [segmenter.SIZE] * 2, "mean": segmenter.MEAN, "std": segmenter.STD},
        "vision": {"size": [vision.SIZE] * 2, "mean": vision.MEAN, "std": vision.STD},
    }
    return MedFusion(
        export.bundle(run.options.version, options["segmenter"], options["vision"], ehr),
        run.segmenter(),
        vit,
        upper.temporal,
        upper.ehr,
        upper.fusion,
    ).eval()


def upper_kinds(run: Run, vision_size: int) -> dict[str, tuple]:
    """What is trained on the tokens: how to make it, and for how many steps."""
    steps = run.options.fusion_steps
    return {
        "full": (lambda: fusion.Upper(vision_size, True), steps),
        "image-only": (lambda: fusion.Upper(vision_size, False), steps),
        "ehr-only": (fusion.EhrOnly, 500),
    }


def step_fusion(run: Run) -> None:
    """Trains what is above the ViT and writes the bundle; also the yardsticks."""
    vit = vision.load(run.work / "vision.pt").vit
    for p in vit.parameters():  # the tokens are those of the 16-bit weights that ship
        p.data = p.data.half().float()
    tokens, crops, use = plain_tokens(run, vit), view_tokens(run, vit), run.part("train")
    pool = tokens[:, None].half().repeat(1, crops.shape[1] + 2, 1, 1)
    pool[use, 2:] = crops  # the first two remain the plain view
    none = torch.full((len(run.table), len(data.LABELS)), float("nan"))
    soft, logits = none.clone(), torch.load(run.work / "views.pt", mmap=True)["logits"]
    soft[use] = logits[: len(use), :, : len(data.LABELS)].mean(1)
    for name, (make, steps) in upper_kinds(run, vit.config.hidden_size).items():
        out = run.work / f"fusion-{name}.pt"
        if out.exists():
            continue
        torch.manual_seed(0)
        taught, val = none if name == "ehr-only" else soft, (tokens, run.part("validation"))
        model = fusion.train(make(), pool, taught, run.table, use, steps, val, name)
        torch.save(model.state_dict(), out)
        if name == "full" and run.bundle:
            bundles.save_bundle(assemble(run, vit, model), export.FEATURES, run.bundle)
            bundles.write_manifest(run.bundle)


def step_scores(run: Run) -> None:
    """Logits of every image that did not train, by the full network, also with EHR or priors
    withheld, and by the yardsticks.
    """
    out, scores = run.work / "scores.pt", {}
    if out.exists():
        return
    rows, tokens = run.part("validation", "calibration", "test"), torch.load(run.work / "tokens.pt")
    if run.bundle:
        tokens = exact_tokens(run, bundles.load_bundle(run.bundle), tokens)
    for name, (make, _) in upper_kinds(run, tokens.shape[-1]).items():
        model = make()
        model.load_state_dict(torch.load(run.work / f"fusion-{name}.pt"))
        ways = {name: {}}
        if name == "full":
            ways |= {"full-no-ehr": {"use_ehr": False}, "full-no-priors": {"use_priors": False}}
        for way, options in ways.items():
            scores[way] = fusion.predict(model, tokens, run.table, rows, **options)
    torch.save(scores, out)


def step_crossval(run: Run) -> None:
    """The whole recipe above the segmenter once per fold, with patients of every part; its networks are thrown
    away. It says how much of the test figure is luck of one split.
    """
    count = run.options.folds
    workers = min(run.threads, count)
    run.frames(256), run.frames(384), run.extra_frames(384), own_regions(run)  # made once, not by every worker
    torch.multiprocessing.spawn(fold_worker, (run.options, workers), workers)
    fold = crossval.folds(run.table, count)
    scores = [torch.load(run.work / f"fold{k}" / "scores.pt") for k in range(count)]
    torch.save(crossval.pool(scores, fold), run.work / "crossval-scores.pt")


def fold_worker(rank: int, options: argparse.Namespace, workers: int) -> None:
    log_to(options.work)
    torch.set_num_threads(1)
    whole = Run(options)
    fold = crossval.folds(whole.table, options.folds)
    for k in range(rank, options.folds, workers):
        run = whole.fold(k, np.where(fold == k, "test", "train"))
        for name in ("teacher", "views", "vision", "fusion", "scores"):
            LOG.info("fold %d step %s", k, name)
            STEPS[name](run)


STEPS = {
    "segmenter": step_segmenter,
    "teacher": step_teacher,
    "views": step_views,
    "vision": step_vision,
    "fusion": step_fusion,
    "scores": step_scores,
    "crossval": step_crossval,
}


def log_to(work: Path) -> None:
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(name)s %(message)s",
        handlers=[logging.StreamHandler(), logging.FileHandler(work / "train.log")],
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="models/train", description=__doc__)
    parser.add_argument(
        "steps", nargs="*", default=list(STEPS), help=f"default: all of {', '.join(STEPS)}"
    )
    parser.add_argument("--data", type=Path, default=MODELS.parent.parent / "shared" / "data")
    parser.add_argument(
        "--work",
        type=Path,
        default=MODELS.parent / "build" / "ml",
        help="intermediate files, safe to delete",
    )
    parser.add_argument("--bundle", type=Path, default=MODELS / "thorax-nih")
    parser.add_argument("--version", default="1.1.1")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--teacher-epochs", type=int, default=14)
    parser.add_argument("--views", type=int, default=12, help="random views of every image")
    parser.add_argument("--token-views", type=int, default=8, help="how many of them fusion sees")
    parser.add_argument("--vision-steps", type=int, default=1500)
    parser.add_argument("--fusion-steps", type=int, default=400)
    parser.add_argument("--folds", type=int, default=2)
    options = parser.parse_args()
    unknown = [name for name in options.steps if name not in STEPS]
    if unknown:
        parser.error(f"unknown step {unknown[0]}")
    options.work.mkdir(parents=True, exist_ok=True)
    log_to(options.work)
    torch.set_num_threads(options.threads)
    run = Run(options)
    for name in options.steps:
        LOG.info("step %s", name)
        STEPS[name](run)


if __name__ == "__main__":
    main()
