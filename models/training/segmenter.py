"""Step `segmenter`: the SAM 2-family lung segmenter and its box head, on human-drawn lung masks.

Boxes are those of the mask's two components. A twelfth of the samples have no lungs (noise,
shuffled tiles): they teach the object score.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from medfusion.segmenter import SEGMENTATION, Decoded, Segmenter, masks_of, passes_gate
from PIL import Image
from scipy import ndimage
from torchvision.ops import generalized_box_iou_loss
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2MaskDecoderConfig,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
)

from . import data

SIZE = 256
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def config() -> Sam2Config:
    """2.5 M parameters at 256 px; every part of the SAM 2 family is there: windows, query pooling,
    global blocks.
    """
    backbone = Sam2HieraDetConfig(
        hidden_size=32,
        num_attention_heads=1,
        image_size=[SIZE, SIZE],
        blocks_per_stage=[1, 2, 4, 1],
        embed_dim_per_stage=[32, 64, 128, 256],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 8, 4],
        global_attention_blocks=[4, 6],
        mlp_ratio=4.0,
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[256, 128, 64, 32],
        fpn_hidden_size=128,
        backbone_feature_sizes=[[SIZE // 4] * 2, [SIZE // 8] * 2, [SIZE // 16] * 2],
    )
    prompt = Sam2PromptEncoderConfig(hidden_size=128, image_size=SIZE, patch_size=16)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=128, mlp_dim=256, num_attention_heads=4, iou_head_hidden_dim=128
    )
    return Sam2Config(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompt.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )


@torch.no_grad()
def initialise(model: Segmenter) -> None:
    """Scaled by fan-in: Hugging Face's 0.02 everywhere is made for fine-tuning wide models."""
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            torch.nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, std=0.5)
    backbone = model.sam2.vision_encoder.backbone
    torch.nn.init.normal_(backbone.pos_embed, std=0.1)
    torch.nn.init.normal_(backbone.pos_embed_window, std=0.1)
    prompt = model.sam2.prompt_encoder.shared_embedding.positional_embedding
    prompt.copy_(model.sam2.shared_image_embedding.positional_embedding)


def two_lungs(mask: np.ndarray) -> np.ndarray:
    """(rows, cols) → (2, rows, cols) boolean: the two largest components, image-left first."""
    parts, count = ndimage.label(mask > 127)
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
    largest = [int(i) + 1 for i in np.argsort(sizes)[::-1][:2]]
    largest.sort(key=lambda i: ndimage.center_of_mass(parts == i)[1])
    return np.stack([parts == i for i in largest])


def load(folder: Path) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """index.csv, images (n, s, s) and masks (n, 2, s, s) as uint8 at the segmenter's size."""
    index = pd.read_csv(folder / "index.csv")
    images, masks = [], []

    def shrink(x: np.ndarray) -> np.ndarray:
        y = F.interpolate(
            torch.from_numpy(x.copy())[None, None].float(),
            (SIZE, SIZE),
            mode="bilinear",
            antialias=True,
        )
        return y[0, 0].round().clamp(0, 255).byte().numpy()

    for row in index.itertuples():
        images.append(shrink(data.read_grey(folder / row.image)))
        lungs = two_lungs(np.asarray(Image.open(folder / row.mask).convert("L")))
        masks.append(np.stack([shrink(lung.astype(np.uint8) * 255) for lung in lungs]))
    return index, np.stack(images), np.stack(masks)


def test_part(index: pd.DataFrame, seed: int = 7) -> np.ndarray:
    """Boolean (n): images of the patients kept for measuring Dice, once, after training.

    The first fifth of the shuffled patients was watched while this recipe was chosen and trains now; the
    quarter after it is the test part.
    """
    patients = index["patient_id"].astype(str)
    names = np.random.default_rng(seed).permutation(np.sort(patients.unique()))
    first, count = round(0.2 * len(names)), round(0.25 * len(names))
    return patients.isin(names[first : first + count]).to_numpy()


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """(b, 2, s, s) boolean → (b, 2, 4) half-open pixel boxes."""
    size = masks.shape[-1]
    ramp = torch.arange(size, dtype=torch.float32)
    out = []
    for axis in (2, 3):  # any over rows gives columns, and the other way round
        line = masks.any(axis)
        low = torch.where(line, ramp, torch.tensor(float(size))).amin(-1)
        high = torch.where(line, ramp + 1, torch.tensor(0.0)).amax(-1)
        out.append((low, high))
    (x0, x1), (y0, y1) = out
    return torch.stack([x0, y0, x1, y1], -1)


def pixels(x: torch.Tensor) -> torch.Tensor:
    return ((x - MEAN[0]) / STD[0]).expand(-1, 3, -1, -1)


def mask_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """BCE + Dice per mask; logits (n, k, h, w), target (n, 1, h, w) → (n, k)."""
    target = target.expand_as(logits)
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))
    p = logits.sigmoid()
    dice = 1 - (2 * (p * target).sum((2, 3)) + 1) / (p.sum((2, 3)) + target.sum((2, 3)) + 1)
    return 4 * bce + dice


def decode_all(
    model: Segmenter, maps: list[torch.Tensor], boxes: torch.Tensor, masks: torch.Tensor | None
):
    """As Segmenter.decode, but all four masks and IoU scores, for training: (2b, 4, h, w), (2b, 4),
    (2b).

    Hugging Face's decoder computes all four and then selects; in evaluation mode the selection is
    one method, which is replaced here by "keep all".
    """
    sam2, n = model.sam2, len(boxes) * 2
    maps = [m.repeat_interleave(2, 0) for m in maps]
    sparse, dense = sam2.prompt_encoder(None, None, boxes.reshape(n, 1, 4), masks)
    position = sam2.get_image_wide_positional_embeddings().repeat(n, 1, 1, 1)
    decoder = sam2.mask_decoder.eval()
    with mock.patch.object(
        decoder, "_dynamic_multimask_via_stability", lambda masks, iou: (masks, iou)
    ):
        logits, iou, _, score = decoder(
            image_embeddings=maps[2],
            image_positional_embeddings=position,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            high_resolution_features=maps[:2],
        )
    return logits[:, 0].float(), iou[:, 0].float(), score[:, 0, 0].float()


def empty_like(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """An image without lungs: tiles of the image in random order, or noise."""
    if torch.rand(1, generator=generator) < 0.3:
        return torch.rand(x.shape, generator=generator)
    tiles = x.unfold(1, 32, 32).unfold(2, 32, 32).reshape(-1, 32, 32)
    tiles = tiles[torch.randperm(len(tiles), generator=generator)].view(8, 8, 32, 32)
    return tiles.permute(0, 2, 1, 3).reshape(x.shape)


@torch.no_grad()
def dice(model: Segmenter, images: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Mean Dice of both lungs together and the share that the gate accepts, run as in use."""
    scores, passed, box_error = [], 0, []
    for image, mask in zip(images, masks):
        x = pixels(torch.from_numpy(image)[None, None].float() / 255)
        boxes, decoded = model.eval()(x, True)
        found = masks_of(decoded.logits, SIZE)
        truth = torch.from_numpy(mask > 127)
        a, b = found.any(0), truth.any(0)
        scores.append(float(2 * (a & b).sum() / (a.sum() + b.sum()).clamp(min=1)))
        passed += passes_gate(
            Decoded(decoded.logits, decoded.iou, decoded.object_score), found, SEGMENTATION["gate"]
        )
        box_error.append(float((boxes[0] - boxes_of(truth[None])[0]).abs().mean()))
    return {
        "dice": float(np.mean(scores)),
        "dice_minimum": float(np.min(scores)),
        "gate": passed / len(scores),
        "box_error_px": float(np.mean(box_error)),
        "images": len(scores),
    }


def train(
    folder: Path, out: Path, epochs: int, seed: int = 0, threads: int = 1, start: Path | None = None
) -> None:
    """Writes the averaged weights to `out`; goes on from the weights `start` (a warm restart) when
    given.
    """
    log = logging.getLogger("segmenter")
    if out.exists():
        return
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    index, images, masks = load(folder)
    use = np.flatnonzero(~test_part(index))
    x_all = torch.from_numpy(images)[:, None]
    m_all = torch.from_numpy(masks)
    model = Segmenter(config(), box_hidden=64)
    initialise(model)
    model.sam2.set_attn_implementation(
        "eager"
    )  # the fused kernel's backward is the slower one on a CPU
    log.info("parameters %d", sum(p.numel() for p in model.parameters()))
    if start is not None:
        model.load_state_dict(torch.load(start))
    average = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    augment = data.Augmentation(
        scale=(0.75, 1.25), aspect=0.15, rotation=15, shift=0.08, flip=0.5, gamma=0.5, erase=0.2
    )
    batch, repeat, step, first = 8, 4, 0, 0
    total = epochs * (len(use) * repeat // batch)
    state_file = out.with_suffix(".part")
    if state_file.exists():
        state = torch.load(state_file)
        model.load_state_dict(state["model"]), average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"]), generator.set_state(state["generator"])
        step, first = state["step"], state["epoch"]
    whole = torch.tensor([[0.0, 0, 1, 1]])
    for epoch in range(first, epochs):
        began, losses = time.time(), []
        order = torch.cat([torch.randperm(len(use), generator=generator) for _ in range(repeat)])
        for k in data.progress_bar(range(len(order) // batch), f"epoch {epoch + 1}/{epochs}"):
            pick = use[order[k * batch : (k + 1) * batch].numpy()]
            grid = augment.grid(whole.expand(batch, 4), SIZE, generator)
            x = F.grid_sample(
                x_all[pick].float() / 255, grid, padding_mode="zeros", align_corners=False
            )
            m = (
                F.grid_sample(
                    m_all[pick].float() / 255, grid, padding_mode="zeros", align_corners=False
                )
                > 0.5
            )
            x = augment.grey(x, generator)
            # a mirrored image has its structures swapped: order by centre
            centre = (m.any(2) * torch.arange(SIZE)).sum(-1) / m.any(2).sum(-1).clamp(min=1)
            swap = centre[:, 0] > centre[:, 1]
            m = torch.where(swap[:, None, None, None], m.flip(1), m)
            present = m.flatten(2).any(-1).all(-1)
            for i in torch.nonzero(torch.rand(batch, generator=generator) < 1 / 12)[:, 0].tolist():
                x[i], m[i], present[i] = empty_like(x[i], generator), False, False
            lr = (
                1e-3
                * min(1, (step + 1) / (0.1 * total))
                * (0.5 + 0.5 * math.cos(math.pi * step / total))
            )
            for group in optimiser.param_groups:
                group["lr"] = lr
            model.train()
            with torch.autocast("cpu", torch.bfloat16):
                maps = model.embed(pixels(x))
            maps = [v.float() for v in maps]
            predicted = model.boxes(maps)
            truth = torch.where(
                present[:, None, None], boxes_of(m), torch.tensor([64.0, 64, 192, 192])
            )
            scale = (truth[..., 2:] - truth[..., :2]).repeat(1, 1, 2)
            prompt = truth + scale * 0.06 * torch.randn(truth.shape, generator=generator)
            prompt = torch.where(
                torch.rand(batch, generator=generator)[:, None, None] < 0.5,
                prompt,
                predicted.detach(),
            )
            target = F.interpolate(m.float(), (SIZE // 4, SIZE // 4), mode="area").flatten(0, 1)[
                :, None
            ]
            here = present.repeat_interleave(2).float()
            loss, fed = 0.0, None
            for _ in range(2):
                with torch.autocast("cpu", torch.bfloat16):
                    logits, iou, score = decode_all(model, maps, prompt, fed)
                each = mask_loss(logits, target)
                best = each[:, 0] + each[:, 1:].amin(1) + 0.1 * each[:, 1:].mean(1)
                with torch.no_grad():
                    hit, goal = logits > 0, (target > 0.5).expand_as(logits)
                    real = (hit & goal).sum((2, 3)) / (hit | goal).sum((2, 3)).clamp(min=1)
                quality = (iou - real).abs().mean(1)
                loss = loss + ((best + quality) * here).sum() / here.sum().clamp(min=1)
                loss = loss + 0.2 * F.binary_cross_entropy_with_logits(score, here)
                fed = logits[:, :1].detach()
            if present.any():
                p, t = predicted[present].flatten(0, 1) / SIZE, truth[present].flatten(0, 1) / SIZE
                loss = loss + 5 * F.l1_loss(p, t) + generalized_box_iou_loss(p, t, reduction="mean")
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            keep = min(0.99, step / (step + 10))
            with torch.no_grad():
                for a, p in zip(average.parameters(), model.parameters()):
                    a.lerp_(p, 1 - keep)
            losses.append(loss.item())
        message = (
            f"epoch {epoch + 1}/{epochs} loss {np.mean(losses):.4f} {time.time() - began:.1f}s"
        )
        if (epoch + 1) % 5 == 0 or epoch + 1 == epochs:
            torch.save(
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "generator": generator.get_state(),
                    "step": step,
                    "epoch": epoch + 1,
                },
                state_file,
            )
        log.info(message)
    torch.save(average.state_dict(), out)
    state_file.unlink(missing_ok=True)
