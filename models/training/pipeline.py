"""All training steps in order. Each writes one file under the work folder and is skipped when that
file is there.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
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
    """Paths, tables and cached frames of one training run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work = options, options.work
        self.work.mkdir(parents=True, exist_ok=True)
        self.nih = options.data / "nih"
        self.table = data.load_table(self.nih, options.bundle / "splits.csv")
        self.files = [self.nih / "images" / name for name in self.table["file"]]
        self.extra = sorted((options.data / "hannover" / "images").glob("*.jpg"))

    def part(self, *names: str) -> np.ndarray:
        return np.flatnonzero(self.table["split"].isin(names))

    def frames(self, size: int) -> np.ndarray:
        return data.cached_frames(self.files, size, self.work / f"nih{size}.npy")

    def extra_frames(self, size: int) -> np.ndarray:
        return data.cached_frames(self.extra, size, self.work / f"hannover{size}.npy")

    def segmenter(self, name: str = "segmenter.pt") -> Segmenter:
        model = Segmenter(segmenter.config(), box_hidden=64)
        if self.options.draft and not (self.work / name).exists():
            name = "segmenter-first.pt"
        model.load_state_dict(torch.load(self.work / name))
        return model.eval()

    def teachers(self) -> list[teacher.Teacher]:
        models = []
        for seed in range(self.options.teachers):
            model = teacher.Teacher().to(memory_format=torch.channels_last)
            model.load_state_dict(torch.load(self.work / f"teacher{seed}.pt"))
            models.append(model.eval())
        return models


def step_segmenter(run: Run) -> None:
    """Two cosine cycles: the masks of the first are good enough for the views that the ViT learns
    from.
    """
    folder, first = run.options.data / "lung_masks", run.work / "segmenter-first.pt"
    segmenter.train(folder, first, 18, threads=run.options.threads)
    segmenter.train(
        folder, run.work / "segmenter.pt", 26, seed=1, threads=run.options.threads, start=first
    )


def step_teachers(run: Run) -> None:
    for seed in range(run.options.teachers):
        teacher.train(
            run.table,
            run.frames(256),
            run.work / f"teacher{seed}.pt",
            seed,
            60,
            ("train",),
            run.options.threads,
        )


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


def step_views(run: Run) -> dict:
    """Views of the training images, then of the Hannover images (which have no labels here)."""
    out = run.work / "views.pt"
    if out.exists():
        return torch.load(out)
    own, use = run.frames(384), run.part("train")
    boxes, weights = regions(run, run.frames(256), run.work / "regions-nih.npz")
    other = run.extra_frames(384)
    other_boxes, other_weights = regions(
        run, run.extra_frames(256), run.work / "regions-hannover.npz"
    )
    views = vision.make_views(
        np.concatenate([own[use], other]),
        np.concatenate([weights[use], other_weights]),
        np.concatenate([boxes[use], other_boxes]),
        run.options.views,
        run.teachers(),
        0,
        out,
    )
    return views


def shown(run: Run, rows: np.ndarray) -> torch.Tensor:
    """Network inputs (n, 1, 224, 224) of NIH rows without augmentation, from the cached frames."""
    boxes, weights = regions(run, run.frames(256), run.work / "regions-nih.npz")
    plain = data.Augmentation(scale=(1, 1), aspect=0, rotation=0, shift=0, flip=0)
    frames, out = run.frames(384), []
    for pick in np.array_split(rows, max(1, len(rows) // 64)):
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
    (run.work / "vision.rendezvous").unlink(missing_ok=True)
    views, use, val = step_views(run), run.part("train"), run.part("validation")
    y = torch.tensor(run.table[data.LABELS].to_numpy(np.float32))
    n = len(views["image"])
    targets, known = torch.zeros(n, len(data.LABELS)), torch.zeros(n, dtype=torch.bool)
    targets[: len(use)], known[: len(use)] = y[use], True
    val_inputs, workers = shown(run, val), run.options.threads
    del views
    torch.multiprocessing.spawn(
        vision_worker, (run.options, targets, known, (val_inputs, y[val].numpy()), workers), workers
    )


def vision_worker(
    rank: int,
    options: argparse.Namespace,
    targets: torch.Tensor,
    known: torch.Tensor,
    val: tuple,
    workers: int,
) -> None:
    """One of the processes that train the ViT."""
    if rank == 0:
        log_to(options.work)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{options.work}/vision.rendezvous",
        rank=rank,
        world_size=workers,
    )
    views = torch.load(options.work / "views.pt", mmap=True)
    first, common = options.work / "vision-first.pt", {"rank": rank, "workers": workers}
    length = {"steps": options.vision_steps, **common}
    vision.train(views, targets, known, val, first, options.minutes, **length)
    torch.distributed.barrier()
    length = {"steps": options.vision_steps // 3, "start": first, "peak": 5e-4, **common}
    vision.train(
        views,
        targets,
        known,
        val,
        options.work / "vision.pt",
        options.minutes / 3,
        seed=1,
        **length,
    )
    torch.distributed.destroy_process_group()


def load_student(path: Path) -> vision.Student:
    model = vision.Student()
    state = torch.load(path)
    model.load_state_dict(state.get("average", state))
    return model.eval()


@torch.no_grad()
def plain_tokens(run: Run, vit: torch.nn.Module, cache: Path) -> torch.Tensor:
    """Region tokens (n, 17, dv) of every NIH image without augmentation, from the cached frames."""
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
def exact_tokens(run: Run, model: MedFusion, tokens: torch.Tensor, cache: Path) -> torch.Tensor:
    """The same, those of test patients replaced by what the shipped network says of the files."""
    if cache.exists():
        return torch.load(cache)
    tokens, rows, fell_back = tokens.clone(), run.part("test"), 0
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
def view_tokens(
    vit: torch.nn.Module, images: torch.Tensor, count: int, cache: Path
) -> torch.Tensor:
    """Tokens (n, count, 17, dv) of the first `count` views of every image."""
    if cache.exists():
        return torch.load(cache)
    out = []
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
    tag, options = run.options.tag, run.options
    vit = load_student(run.work / ("vision.part" if options.draft else "vision.pt")).vit
    for p in vit.parameters():  # the tokens are those of the 16-bit weights that ship
        p.data = p.data.half().float()
    size = vit.config.hidden_size
    tokens = plain_tokens(run, vit, run.work / f"tokens{tag}.pt")
    views, use = step_views(run), run.part("train")
    cache = run.work / f"view-tokens{tag}.pt"
    crops = view_tokens(vit, views["image"][: len(use)], options.token_views, cache)
    pool = tokens[:, None].half().repeat(1, crops.shape[1] + 2, 1, 1)
    pool[use, 2:] = crops  # the first two remain the plain view
    none = torch.full((len(run.table), len(data.LABELS)), float("nan"))
    soft = none.clone()
    soft[use] = views["logits"][: len(use), :, : len(data.LABELS)].mean(1)
    val = (tokens, run.part("validation"))
    for name, (make, steps) in upper_kinds(run, size).items():
        out = run.work / f"fusion-{name}{tag}.pt"
        if out.exists() or (options.kind and name not in options.kind):
            continue
        torch.manual_seed(0)
        teachers = none if name == "ehr-only" else soft
        model = make()
        if options.start_tag is not None:
            model.load_state_dict(torch.load(run.work / f"fusion-{name}{options.start_tag}.pt"))
        model = fusion.train(model, pool, teachers, run.table, use, steps, val, name)
        torch.save(model.state_dict(), out)
        if name == "full":
            bundles.save_bundle(assemble(run, vit, model), export.FEATURES, options.bundle)
            bundles.write_manifest(options.bundle)


def step_scores(run: Run) -> None:
    """Logits of every image that did not train, by the full network, also with EHR or priors
    withheld, and by the yardsticks."""
    tag, scores = run.options.tag, {}
    rows = run.part("validation", "calibration", "test")
    model, tokens = (
        bundles.load_bundle(run.options.bundle),
        torch.load(run.work / f"tokens{tag}.pt"),
    )
    tokens = exact_tokens(run, model, tokens, run.work / f"exact-tokens{tag}.pt")
    for name, (make, _) in upper_kinds(run, tokens.shape[-1]).items():
        model = make()
        model.load_state_dict(torch.load(run.work / f"fusion-{name}{tag}.pt"))
        ways = {name: {}}
        if name == "full":
            ways |= {"full-no-ehr": {"use_ehr": False}, "full-no-priors": {"use_priors": False}}
        for way, options in ways.items():
            scores[way] = fusion.predict(model, tokens, run.table, rows, **options)
    torch.save(scores, run.work / f"scores{tag}.pt")


def step_crossval(run: Run) -> None:
    crossval.run(run.table, run.frames(256), run.work, 3, run.options.crossval_epochs)


STEPS = {
    "segmenter": step_segmenter,
    "teachers": step_teachers,
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
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--teachers", type=int, default=2)
    parser.add_argument("--views", type=int, default=12, help="random views of every image")
    parser.add_argument("--token-views", type=int, default=8)
    parser.add_argument(
        "--minutes",
        type=float,
        default=60,
        help="first cycle of the ViT; the second takes a third of it",
    )
    parser.add_argument(
        "--vision-steps",
        type=int,
        default=0,
        help="instead of --minutes: exactly so many steps, which makes the run repeatable",
    )
    parser.add_argument("--fusion-steps", type=int, default=600)
    parser.add_argument("--crossval-epochs", type=int, default=15)
    parser.add_argument(
        "--draft",
        action="store_true",
        help="fusion on an unfinished ViT and segmenter, quick tokens",
    )
    parser.add_argument("--kind", action="append", help="fusion: only full, image-only or ehr-only")
    parser.add_argument("--start-tag", help="fusion: go on from the weights with this suffix")
    parser.add_argument("--tag", default="", help="suffix of the last steps' intermediate files")
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
