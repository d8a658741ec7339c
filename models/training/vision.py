"""Step `vision`: the ViT, from scratch on a few hundred images.

What makes that work is what it is given: a fixed pool of random views of every training image (and
of images without labels) with the teacher's answers on the same view, both for the whole (soft
labels) and for every place (class activation maps, a dense target for the patch tokens). Half the
patches are dropped for most of the training: faster, and it regularises. Views show what the
network will show: the dimmed region of interest that the segmenter found.
"""

from __future__ import annotations

import copy
import logging
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from . import data, teacher

SIZE, PATCH = 224, 14
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
OUTPUTS, CAM = teacher.OUTPUTS, teacher.CAM


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
        tokens = embed(self.vit, (x - MEAN[0]) / STD[0], keep)
        for i, layer in enumerate(self.vit.encoder.layer):
            rate = self.vit.config.drop_path_rate * i / (len(self.vit.encoder.layer) - 1)
            tokens = block(layer, tokens, rate if self.training else 0.0)
        tokens = self.vit.layernorm(tokens)
        both = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1)
        return self.whole(both).float(), self.place(tokens[:, 1:]).float()


def embed(vit: Dinov2Model, x: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    """`vit.embeddings` of grey pixels (b, 1, s, s), computed only for the patches that are kept."""
    patches = F.unfold(x, PATCH, stride=PATCH).transpose(1, 2)
    places = vit.embeddings.position_embeddings[:, 1:].expand(len(x), -1, -1)
    if keep is not None:
        patches = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[-1]))
        places = places.gather(1, keep[..., None].expand(-1, -1, places.shape[-1]))
    projection = vit.embeddings.patch_embeddings.projection
    patches = F.linear(patches, projection.weight.sum(1).flatten(1), projection.bias) + places
    cls = vit.embeddings.cls_token + vit.embeddings.position_embeddings[:, :1]
    return torch.cat([cls.expand(len(x), -1, -1), patches], 1)


def block(layer: nn.Module, x: torch.Tensor, rate: float) -> torch.Tensor:
    """One Dinov2Layer, x (b, n, d): with Q, K, V in one product and LayerScale folded into the weights, twice
    as fast as the original on a CPU. Stochastic depth drops a branch for the whole batch with
    probability `rate`.
    """

    def branch(value: Callable[[], torch.Tensor]) -> torch.Tensor | float:
        if rate > 0 and torch.rand(()) < rate:
            return 0.0
        return value() / (1 - rate) if rate > 0 else value()

    def scaled(linear: nn.Linear, scale: nn.Module, y: torch.Tensor) -> torch.Tensor:
        weight = linear.weight * scale.lambda1[:, None]
        return F.linear(y, weight, linear.bias * scale.lambda1)

    def attend() -> torch.Tensor:
        a, (b, n, d) = layer.attention, x.shape
        parts = (a.q_proj, a.k_proj, a.v_proj)
        weight, bias = (torch.cat([getattr(p, k) for p in parts]) for k in ("weight", "bias"))
        heads = a.num_attention_heads
        q, k, v = F.linear(layer.norm1(x), weight, bias).view(b, n, 3, heads, -1).unbind(2)
        q, k, v = (t.transpose(1, 2) for t in (q * (d // heads) ** -0.5, k, v))
        y = (q @ k.transpose(2, 3)).softmax(-1).to(v.dtype) @ v
        return scaled(a.o_proj, layer.layer_scale1, y.transpose(1, 2).reshape(b, n, d))

    def expand() -> torch.Tensor:
        return scaled(layer.mlp.fc2, layer.layer_scale2, F.gelu(layer.mlp.fc1(layer.norm2(x))))

    x = x + branch(attend)
    return x + branch(expand)


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
    taught_by: teacher.Teacher,
    seed: int,
) -> dict[str, torch.Tensor]:
    """`count` random views of every frame: `image` (n, count, s, s) uint8, and the teacher's
    `logits` (n, count, 17) and `cam` (n, count, 64, 17) on the same views without dimming.
    """
    log = logging.getLogger("views")
    generator = torch.Generator().manual_seed(seed)
    augment = data.Augmentation(scale=(0.6, 1.1), rotation=12, shift=0.06)
    n = len(frames)
    image = torch.empty(n, count, SIZE, SIZE, dtype=torch.uint8)
    cam = torch.empty(n, count, CAM * CAM, OUTPUTS)
    whole = torch.tensor([0.0, 0, 1, 1])
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
            grid = F.interpolate(
                grid.permute(0, 3, 1, 2), (teacher.SIZE,) * 2, mode="bilinear", align_corners=False
            ).permute(0, 2, 3, 1)
            same = F.grid_sample(plain, grid, padding_mode="border", align_corners=False)
            with torch.autocast("cpu", torch.bfloat16):
                cam[pick, k] = taught_by.places(same)
        log.info("view %d/%d", k + 1, count)
    return {"image": image, "logits": cam.mean(2), "cam": cam.half()}


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


def load(path: Path) -> Student:
    model = Student()
    model.load_state_dict(torch.load(path))
    return model.eval()


def train_together(*given, workers: int) -> None:
    """`train` in `workers` single-threaded processes that share every batch (on few, busy cores faster
    than threads)."""
    if workers == 1:
        train(*given)
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train_worker, (f"{folder}/meet", workers, given), workers)


def train_worker(rank: int, meeting: str, workers: int, given: tuple) -> None:
    out = given[4]
    handlers = [logging.StreamHandler(), logging.FileHandler(out.parent / "train.log")]
    if rank == 0:
        logging.basicConfig(
            level=logging.INFO, format="%(asctime)s %(name)s %(message)s", handlers=handlers
        )
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers
    )
    train(*given, rank=rank, workers=workers)
    dist.destroy_process_group()


def train(
    views_file: Path,
    targets: torch.Tensor,
    known: torch.Tensor,
    val: tuple[torch.Tensor, np.ndarray],
    out: Path,
    steps: int,
    batch: int = 64,
    seed: int = 0,
    rank: int = 0,
    workers: int = 1,
    peak: float = 1e-3,
) -> None:
    """Views of n images as `make_views` made them, targets (n, 14), known (n) whether an image has labels;
    val = network inputs and labels, may be empty. Writes the averaged weights to `out` (goes on from `out`.part).
    """
    log = logging.getLogger("vision")
    torch.set_num_threads(1)
    torch.manual_seed(seed)  # the same weights, and the same branches dropped, in every process
    generator = torch.Generator().manual_seed(seed + 1000 * rank)
    views = torch.load(views_file, mmap=True)
    batch //= workers
    model = Student()
    log.info("parameters %d", sum(p.numel() for p in model.vit.parameters()))
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
    patches, first, losses = (SIZE // PATCH) ** 2, 0, []
    state_file = out.with_suffix(".part")
    if state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state["model"]), average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"]), torch.set_rng_state(state["random"])
        generator.manual_seed(seed + 7919 * (rank + 1) + state["step"])
        first = state["step"]
    began, labels, warm_up = time.time(), len(data.LABELS), min(300, steps // 5 + 1)
    for step in data.progress_bar(range(first, steps), "vision"):
        progress = step / steps
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
        keep, kept = None, patches_kept(progress, patches)
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
        if rank > 0 or (step % 100 and step < steps):
            continue
        pace = (time.time() - began) / (step - first)
        message = (
            f"step {step}/{steps} ({step * batch * workers / n:.0f} epochs) "
            f"hard/soft/extra/cam {np.round(np.mean(losses, 0), 4)} {pace:.2f}s a step"
        )
        losses = []
        if step % 300 == 0 or step == steps:
            if len(val[1]):
                scores = predict(average, val[0])[:, :labels].numpy()
                message += f" validation macro-AUROC {data.macro_auroc(val[1], scores):.4f}"
            state = {"model": model, "average": average, "optimiser": optimiser}
            state = {key: value.state_dict() for key, value in state.items()}
            torch.save(state | {"step": step, "random": torch.get_rng_state()}, state_file)
        log.info(message)
    if rank == 0:
        torch.save(average.state_dict(), out)
        state_file.unlink(missing_ok=True)
