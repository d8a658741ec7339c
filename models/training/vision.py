"""Step `vision`: the ViT, from scratch on a few hundred images.

What makes that work is what it is given: a fixed pool of random views of every training image (and
of images without labels) with the teachers' answers on the same view, both for the whole (soft
labels) and for every place (class activation maps, a dense target for the patch tokens). Half the
patches are dropped for most of the training: faster, and it regularises. Views show what the
network will show: the dimmed region of interest that the segmenter found.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm
from transformers import Dinov2Config, Dinov2Model

from . import data, teacher

SIZE, PATCH = 224, 14
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
OUTPUTS = len(data.LABELS) + 3
CAM = 6  # side of the teachers' last feature map


def config() -> Dinov2Config:
    return Dinov2Config(
        hidden_size=192,
        num_hidden_layers=9,
        num_attention_heads=6,
        mlp_ratio=4,
        image_size=SIZE,
        patch_size=PATCH,
        drop_path_rate=0.1,
        layerscale_value=1.0,
    )


@torch.no_grad()
def initialise(model: Dinov2Model) -> None:
    """Mimetic initialisation: sine-cosine positions; Q·Kᵀ ≈ 0.7·(noise + 1) so that a patch first
    looks at patches like itself, i.e. near it; V·O ≈ 0.4·(noise − 1).
    """
    d, side = model.config.hidden_size, SIZE // PATCH
    heads = model.config.num_attention_heads
    omega = 1.0 / 100 ** (torch.arange(d // 4) / (d / 4))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = [f(p.flatten()[:, None] * omega) for p in (x, y) for f in (torch.sin, torch.cos)]
    model.embeddings.position_embeddings.zero_()
    model.embeddings.position_embeddings[0, 1:] = torch.cat(waves, 1) * 0.5

    def factors(noise: float, identity: float, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        u, s, v = torch.linalg.svd(noise * torch.randn(d, d) / d**0.5 + identity * torch.eye(d))
        root = s[:rank].sqrt()
        return u[:, :rank] * root, v[:rank].T * root

    for layer in model.encoder.layer:
        attention, size = layer.attention, d // heads
        for h in range(heads):
            q, k = factors(0.7, 0.7, size)
            attention.q_proj.weight[h * size : (h + 1) * size] = q.T
            attention.k_proj.weight[h * size : (h + 1) * size] = k.T
        v, o = factors(0.4, -0.4, d)
        attention.v_proj.weight.copy_(v.T)
        attention.o_proj.weight.copy_(o)


class Student(nn.Module):
    """The ViT with the two heads that it is trained with: of CLS and region mean, and of every
    patch token.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vit = Dinov2Model(config())
        self.vit.set_attn_implementation(
            "eager"
        )  # the fused kernel's backward is the slower one on a CPU
        initialise(self.vit)
        d = self.vit.config.hidden_size
        self.whole, self.place = nn.Linear(2 * d, OUTPUTS), nn.Linear(d, OUTPUTS)

    def forward(
        self, x: torch.Tensor, keep: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x (b, 1, s, s) in [0, 1]; keep (b, k) patch indices, or all → logits (b, 17), patch
        logits (b, k, 17).
        """
        x = ((x - MEAN[0]) / STD[0]).expand(-1, 3, -1, -1)
        tokens = self.vit.embeddings(x)
        if keep is not None:
            patches = tokens[:, 1:].gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
            tokens = torch.cat([tokens[:, :1], patches], 1)
        for layer in self.vit.encoder.layer:
            tokens = layer(tokens)
        tokens = self.vit.layernorm(tokens)
        both = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)
        return self.whole(both).float(), self.place(tokens[:, 1:]).float()


def dimmed(
    frames: np.ndarray, weights: np.ndarray, boxes: np.ndarray, pick: np.ndarray
) -> torch.Tensor:
    """Frames as shown, before cropping: (b, 1, s, s); weights (n, 256, 256) uint8."""
    x = torch.from_numpy(frames[pick]).float()[:, None] / 255
    m = F.interpolate(
        torch.from_numpy(weights[pick]).float()[:, None] / 255,
        x.shape[-2:],
        mode="bilinear",
        align_corners=False,
    )
    return x * (0.3 + 0.7 * m)


@torch.no_grad()
def make_views(
    frames: np.ndarray,
    weights: np.ndarray,
    boxes: np.ndarray,
    count: int,
    teachers: list[teacher.Teacher],
    seed: int,
    cache: Path,
) -> dict[str, torch.Tensor]:
    """`count` random views of every frame: `image` (n, count, s, s) uint8, and the teachers' mean
    `logits` (n, count, 17) and `cam` (n, count, 36, 17) on the same views without dimming.
    """
    if cache.exists():
        return torch.load(cache)
    log = logging.getLogger("views")
    generator = torch.Generator().manual_seed(seed)
    augment = data.Augmentation(scale=(0.6, 1.1), rotation=12, shift=0.06)
    n = len(frames)
    image = torch.empty(n, count, SIZE, SIZE, dtype=torch.uint8)
    logits, cam = torch.empty(n, count, OUTPUTS), torch.empty(n, count, CAM * CAM, OUTPUTS)
    whole = torch.tensor([0.0, 0, 1, 1])
    for model in teachers:
        model.eval()
    for k in data.progress_bar(range(count), "views"):
        for i in range(0, n, 64):
            pick = np.arange(i, min(n, i + 64))
            plain = torch.from_numpy(frames[pick]).float()[:, None] / 255
            shown, box = dimmed(frames, weights, boxes, pick), torch.from_numpy(boxes[pick]).float()
            fallback = torch.rand(len(pick), generator=generator) < 0.12
            box[fallback], shown[fallback] = whole, plain[fallback]
            grid = augment.grid(box, SIZE, generator)
            view = F.grid_sample(shown, grid, padding_mode="border", align_corners=False)
            image[pick, k] = (view[:, 0] * 255).round().clamp(0, 255).byte()
            small = F.interpolate(
                F.grid_sample(plain, grid, padding_mode="border", align_corners=False),
                (teacher.SIZE, teacher.SIZE),
                mode="bilinear",
                antialias=True,
            )
            maps = 0
            for model in teachers:
                with torch.autocast("cpu", torch.bfloat16):
                    features = model(small)[1]
                maps = maps + F.linear(
                    features.flatten(2).transpose(1, 2), model.net.fc.weight, model.net.fc.bias
                )
            cam[pick, k] = maps / len(teachers)
            logits[pick, k] = cam[pick, k].mean(1)
        log.info("view %d/%d", k + 1, count)
    views = {"image": image, "logits": logits, "cam": cam.half()}
    torch.save(views, cache)
    return views


def patch_cam(cam: torch.Tensor) -> torch.Tensor:
    """(b, 36, 17) → the same maps at every patch (b, 256, 17)."""
    maps = cam.float().transpose(1, 2).unflatten(2, (CAM, CAM))
    side = SIZE // PATCH
    return (
        F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
        .flatten(2)
        .transpose(1, 2)
    )


@torch.no_grad()
def predict(model: Student, x: torch.Tensor) -> torch.Tensor:
    """Logits (n, 17) of network inputs x (n, 1, 224, 224) in [0, 1]."""
    model.eval()
    out = []
    for part in x.split(32):
        with torch.autocast("cpu", torch.bfloat16):
            out.append(model(part)[0])
    return torch.cat(out)


def share_gradients(model: nn.Module, workers: int) -> None:
    """Replaces every gradient by its mean over all processes."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    for g, mean in zip(grads, (flat / workers).split([g.numel() for g in grads])):
        g.copy_(mean.view_as(g))


def patches_kept(progress: float, patches: int) -> int:
    """Three eighths of the patches at first, then half, all of them in the last tenth."""
    return 3 * patches // 8 if progress < 0.5 else patches // 2 if progress < 0.9 else patches


def train(
    views: dict,
    targets: torch.Tensor,
    known: torch.Tensor,
    val: tuple[torch.Tensor, np.ndarray],
    out: Path,
    minutes: float,
    batch: int = 64,
    seed: int = 0,
    threads: int = 1,
    steps: int = 0,
    rank: int = 0,
    workers: int = 1,
    start: Path | None = None,
    peak: float = 1e-3,
) -> None:
    """views of n images, targets (n, 17), known (n) whether an image has labels; val = network
    inputs and labels.

    One of `workers` single-threaded processes that share every batch (on few, busy cores faster
    than threads; `dist` is initialised by the caller). `steps` fixes the length and makes a run
    repeatable; with 0 the schedule follows the clock and ends after `minutes`.
    """
    log = logging.getLogger("vision")
    if out.exists():
        return
    torch.set_num_threads(threads)
    torch.manual_seed(seed)  # the same weights in every process
    generator = torch.Generator().manual_seed(seed + 1000 * rank)
    batch //= workers
    model = Student()
    log.info("parameters %d", sum(p.numel() for p in model.vit.parameters()))
    if start is not None:
        model.load_state_dict(torch.load(start))
    average = copy.deepcopy(model)
    decay = [p for name, p in model.named_parameters() if p.dim() > 1 and "embedding" not in name]
    rest = [
        p for name, p in model.named_parameters() if not (p.dim() > 1 and "embedding" not in name)
    ]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0}],
        lr=1e-3,
        betas=(0.9, 0.98),
    )
    grey = data.Augmentation(erase=0.2)
    n, count = views["image"].shape[:2]
    patches, step, spent, losses = (SIZE // PATCH) ** 2, 0, 0.0, []
    state_file = out.with_suffix(".part")
    if state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state["model"]), average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"]), generator.set_state(state["generator"])
        step, spent = state["step"], state["spent"]
    began = time.time() - spent
    labels = len(data.LABELS)
    progress, warm_up, early = 0.0, 300, 0.0
    if (
        start is not None
    ):  # a second cycle: short warm-up, and no more than half of the patches dropped
        warm_up, early = 20, 0.5
    bar = tqdm(total=100, desc="vision %", leave=False, disable=None if rank == 0 else True)
    while progress < 1:
        lr = peak * min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * progress)) + 1e-6
        for group in optimiser.param_groups:
            group["lr"] = lr
        pick = torch.randint(n, (batch,), generator=generator)
        view = torch.randint(count, (batch,), generator=generator)
        mirror = torch.rand(batch, generator=generator) < 0.5
        x = views["image"][pick, view][:, None]
        x = torch.where(mirror[:, None, None, None], x.flip(-1), x)
        x = grey.grey(x.float() / 255, generator)
        hard, soft = targets[pick], views["logits"][pick, view].clone()
        soft[:, : labels + 2] = soft[:, : labels + 2].sigmoid()
        cam = views["cam"][pick, view].unflatten(1, (CAM, CAM))
        cam = torch.where(mirror[:, None, None, None], cam.flip(2), cam).flatten(1, 2)
        cam, sure = patch_cam(cam), known[pick].float()[:, None]
        weight = torch._sample_dirichlet(torch.full((batch, 2), 0.4), generator=generator)[:, :1]
        other = torch.randperm(batch, generator=generator)

        def mix(value: torch.Tensor) -> torch.Tensor:
            w = weight.view(-1, *[1] * (value.dim() - 1))
            return w * value + (1 - w) * value[other]

        x, hard, soft, cam, sure = (
            mix(x),
            mix(hard),
            mix(soft),
            mix(cam),
            (mix(sure) > 0.99).float(),
        )
        keep, kept = None, patches_kept(max(progress, early), patches)
        if kept < patches:
            keep = torch.rand(batch, patches, generator=generator).argsort(1)[:, :kept]
            cam = cam.gather(1, keep[..., None].expand(-1, -1, OUTPUTS))
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits, place = model(x, keep)
        findings, extra = logits[:, :labels], logits[:, labels:]
        loss_hard = (
            F.binary_cross_entropy_with_logits(findings, hard[:, :labels], reduction="none").mean(
                1, True
            )
            * sure
        ).mean()
        loss_soft = F.binary_cross_entropy_with_logits(findings, soft[:, :labels])
        loss_extra = F.binary_cross_entropy_with_logits(
            extra[:, :2], soft[:, labels : labels + 2]
        ) + F.mse_loss(extra[:, 2], soft[:, -1])
        loss_cam = F.smooth_l1_loss(place, cam)
        loss = 0.5 * loss_hard + loss_soft + 0.1 * loss_extra + 0.5 * loss_cam
        optimiser.zero_grad()
        loss.backward()
        if workers > 1:
            share_gradients(model, workers)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            held = min(0.998, step / (step + 10))
            for a, p in zip(average.parameters(), model.parameters()):
                a.lerp_(p, 1 - held)
        losses.append((loss_hard.item(), loss_soft.item(), loss_extra.item(), loss_cam.item()))
        clock = torch.tensor([time.time() - began])
        if workers > 1:
            dist.broadcast(clock, 0)
        spent = clock.item()
        progress = step / steps if steps else spent / (60 * minutes)
        bar.update(min(100, int(100 * progress)) - bar.n)
        if rank > 0:
            losses = []
            continue
        if step % 100 == 0 or progress >= 1:
            message = (
                f"step {step} ({progress:.0%}, {step * batch * workers / n:.0f} epochs) "
                f"hard/soft/extra/cam {np.round(np.mean(losses, 0), 4)} {spent / step:.2f}s a step"
            )
            losses = []
            if step % 300 == 0 or progress >= 1:
                scores = predict(average, val[0])[:, :labels].numpy()
                message += f" validation macro-AUROC {data.macro_auroc(val[1], scores):.4f}"
                torch.save(
                    {
                        "model": model.state_dict(),
                        "average": average.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "generator": generator.get_state(),
                        "step": step,
                        "spent": spent,
                    },
                    state_file,
                )
            log.info(message)
    if rank == 0:
        torch.save(average.state_dict(), out)
        state_file.unlink(missing_ok=True)
